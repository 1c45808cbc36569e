"""Nothing is left to compile once readings come."""

import importlib
import pkgutil
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

import pipelines.rules
import sinks
from pipelines.compiled import prepare
from schemas.telemetry import MeasurementBatch
from tests.builders import T0
from tests.flows.polls import Topic, reading
from tests.flows.test_telemetry import run


def kernels() -> Iterator[tuple[str, Any]]:
    """All compiled functions of the product, by name."""
    for package in (sinks, pipelines.rules):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, value in vars(importlib.import_module(module.name)).items():
                if hasattr(value, "py_func") and value.__module__ == module.name:
                    yield f"{module.name}.{name}", value


@pytest.mark.slow
def test_what_flows_later_compiles_nothing_more() -> None:
    prepare()
    before = {name: len(kernel.signatures) for name, kernel in kernels()}
    assert sum(count > 0 for count in before.values()) > 10  # those that only others call have none of their own
    topic = Topic(2)
    minutes = [reading("mg-1-grid", minute, power_w=60.0, import_wh=float(minute)) for minute in range(40)]
    batch = MeasurementBatch(measurements=tuple(reading("mg-1-pv", minute / 4, power_w=-5.0, stored_wh=1.0) for minute in range(200)))
    run(
        [
            topic.poll(T0 + timedelta(minutes=40), minutes, [batch, b"x"]),
            topic.poll(
                T0 + timedelta(minutes=41), [*minutes[3:5], reading("mg-1-grid", 4.5, import_wh=9e9)], [reading("nobody", 41, power_w=1.0)]
            ),
            topic.silence(T0 + timedelta(minutes=41), T0 + timedelta(hours=9)),
            topic.poll(T0 + timedelta(hours=9), [reading("mg-1-grid", 1, power_w=1.0)]),
        ]
    )
    assert {name: len(kernel.signatures) for name, kernel in kernels()} == before
