"""Values that come in bursts are passed over until one stays."""

from pipelines.settled import SettledView


class Changing:
    """A view whose value a test sets."""

    def __init__(self, value: object) -> None:
        self.value = value

    def current(self) -> object:
        return self.value


def test_only_what_stays_is_shown() -> None:
    now, view = [0.0], Changing("first")
    settled = SettledView(view, 1.0, lambda: now[0])
    assert settled.current() == "first"
    for instant, value in ((0.1, "half"), (0.6, "more"), (1.4, "whole"), (2.3, "whole")):
        now[0], view.value = instant, value
        assert settled.current() == "first"
    now[0] = 2.4
    assert settled.current() == "whole"


def test_a_change_that_is_taken_back_never_was() -> None:
    now, view = [0.0], Changing("first")
    settled = SettledView(view, 1.0, lambda: now[0])
    assert settled.current() == "first"
    for instant, value in ((0.5, "other"), (0.9, "first"), (1.0, "other"), (1.9, "other")):
        now[0], view.value = instant, value
        assert settled.current() == "first"


def test_who_goes_on_changing_is_heard_all_the_same() -> None:
    """A script that configures one asset after the other never leaves a value for a second: its assets would never be known."""
    now, view, told = [0.0], Changing(0), list[object]()
    settled = SettledView(view, 1.0, lambda: now[0], most_s=5.0, told=told.append)
    shown = []
    for tick in range(121):
        now[0], view.value = tick / 10, tick // 3
        shown.append(settled.current())
    assert shown[:53] == [0] * 53  # the first other value came at 0.3 s
    assert shown[53:104] == [17] * 51  # then that of 5.3 s; the next one came at 5.4 s
    assert shown[104:] == [34] * 17
    assert told == [0, 17, 34]
