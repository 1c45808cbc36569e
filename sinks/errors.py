"""What can go wrong outside, by what has to happen next (architecture, "Errors").

OutsideError
+-- Unavailable     try again
+-- Refused         the other side understood and said no
+-- Misconfigured   only a person can help
"""


class OutsideError(Exception):
    """Something outside did not do what it was asked."""


class Unavailable(OutsideError):
    """Broker away, 429, 5xx, time-out: try again, not before `retry_after_s` wall seconds where given."""

    def __init__(self, words: str, retry_after_s: float | None = None) -> None:
        super().__init__(words)
        self.words = words
        self.retry_after_s = retry_after_s


class Refused(OutsideError):
    """The other side understood and said no, with `status` and its own `words`."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(f"{status}: {words}")
        self.status = status
        self.words = words


class Misconfigured(OutsideError):
    """`setting` has to be changed by a person: `problem` says what is wrong with it, `cure` what would be right."""

    def __init__(self, setting: str, problem: str, cure: str = "") -> None:
        super().__init__(f"{setting}: {problem}" + (f" ({cure})" if cure else ""))
        self.setting = setting
        self.problem = problem
        self.cure = cure
