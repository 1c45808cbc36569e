"""What lasts is set aside from the garbage collector, and cycles among it go in the end."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from gateway import collecting
from gateway.collecting import WHOLE_EVERY_S, Collector


class Ring:
    """Refers to itself: only the collector can free it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def unfrozen() -> Iterator[None]:
    yield
    gc.unfreeze()


def test_what_lasts_is_set_aside_and_what_came_up_lately_is_freed():
    lasting, gone = Ring(), weakref.ref(Ring())
    collector = Collector(lambda: 0.0)
    collector.turn()
    assert gone() is None
    assert gc.get_freeze_count() > 1000
    assert not any(each is lasting for each in gc.get_objects())


def test_what_nobody_refers_to_goes_at_once_and_cycles_within_the_hour():
    now = 0.0
    collector = Collector(lambda: now)
    plain, ring = {"plain": [1, 2]}, Ring()
    seen = weakref.ref(ring)
    collector.turn()
    del plain, ring
    gc.collect()
    assert seen() is not None
    now = WHOLE_EVERY_S
    collector.turn()
    assert seen() is None


def test_it_is_done_in_turns_until_the_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(collecting, "EVERY_S", 0.001)
    with collecting.collecting():
        while not gc.get_freeze_count():
            pass
    assert gc.get_freeze_count() == 0
