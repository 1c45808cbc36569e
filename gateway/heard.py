"""What a worker died of, for the engine of a cluster does not say.

With several processes the engine ends every failure with "Send thread panic" and forgets what our code had raised
(bytewax 0.21.1). So the callables it is given are wrapped to tell first. They are called once a batch, not a reading.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from bytewax.dataflow import Dataflow
from bytewax.inputs import AbortExecution

Hear = Callable[[BaseException], None]

_CALLED = {"flat_map_batch": "mapper", "branch": "predicate", "inspect_debug": "inspector"}
_PART = ("next_batch", "next_awake", "snapshot", "write_batch", "close")
_LOGIC = ("on_batch", "on_notify", "on_eof", "notify_at", "snapshot")
_EXPECTED = (StopIteration, AbortExecution)


def listen(flow: Dataflow, hear: Hear) -> None:
    """Let `hear` know of whatever the sources, steps and sinks of `flow` raise, before the engine does. Changes the flow's steps."""
    for step in _core_steps(flow):
        match type(step).__name__:
            case "input":
                _wrap_parts(step.source, hear)
            case "output":
                _wrap_parts(step.sink, hear)
            case "stateful_batch":
                object.__setattr__(step, "builder", _making(step.builder, _LOGIC, hear))  # frozen, as the engine's own code says
            case name if name in _CALLED:
                object.__setattr__(step, _CALLED[name], _telling(getattr(step, _CALLED[name]), hear))


def _core_steps(scope: Any) -> Iterator[Any]:
    for step in scope.substeps:
        if getattr(step, "core", False):
            yield step
        else:
            yield from _core_steps(step)


def _wrap_parts(maker: Any, hear: Hear) -> None:
    for name in ("build_part", "build"):
        if hasattr(maker, name):
            setattr(maker, name, _making(getattr(maker, name), _PART, hear))


def _making(build: Callable[..., Any], names: tuple[str, ...], hear: Hear) -> Callable[..., Any]:
    """`build`, telling of its own failures and of those of what it builds."""
    told = _telling(build, hear)

    @wraps(build)
    def made(*arguments: Any) -> Any:
        built = told(*arguments)
        for name in names:
            if hasattr(built, name):
                setattr(built, name, _telling(getattr(built, name), hear))
        return built

    return made


def _telling(call: Callable[..., Any], hear: Hear) -> Callable[..., Any]:
    @wraps(call)
    def told(*arguments: Any) -> Any:
        try:
            found = call(*arguments)
            # What is computed on the way would be raised in the engine, out of hearing.
            return list(found) if isinstance(found, Iterator) else found
        except _EXPECTED:
            raise
        except BaseException as error:
            hear(error)
            raise

    return told
