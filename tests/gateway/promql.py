"""As much of Prometheus' language as the alert rules use, over one scrape: selectors, comparisons with a number, `and`, `or`,
`unless` with `on (...)`, `absent(...)`, and `max`, `min`, `sum`, `count` with `by (...)`."""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]
TOKENS = re.compile(r'\s*(?:("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?)|([A-Za-z_:][\w:]*)|(=~|!~|!=|==|>=|<=|[><={}(),]))')
COMPARE: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt, "<": operator.lt, ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
MATCH: dict[str, Callable[[str, str], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "=~": lambda value, pattern: re.fullmatch(pattern, value) is not None,
    "!~": lambda value, pattern: re.fullmatch(pattern, value) is None,
}
AGGREGATE: dict[str, Callable[[list[float]], float]] = {"max": max, "min": min, "sum": sum, "count": len}


def scraped(text: str) -> dict[str, Vector]:
    """The samples of a scrape by metric."""
    found: dict[str, Vector] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return found


@dataclass
class Query:
    """An expression, read once: `metrics` are the names in it with the labels they are selected or matched by."""

    text: str
    metrics: dict[str, set[str]] = field(default_factory=dict)

    def __call__(self, scrape: dict[str, Vector]) -> Vector:
        """The series for which it holds, with their values."""
        self._tokens, self._scrape = self._split(), scrape
        found = self._or()
        assert not self._tokens, f"not understood: {self._tokens}"
        return found

    def _split(self) -> list[str]:
        tokens, at = [], 0
        while at < len(self.text.rstrip()):
            found = TOKENS.match(self.text, at)
            assert found is not None, f"not understood: {self.text[at:]}"
            tokens.append(found[0].strip())
            at = found.end()
        return tokens

    def _next(self, *wanted: str) -> str | None:
        return self._tokens.pop(0) if self._tokens and (not wanted or self._tokens[0] in wanted) else None

    def _must(self, *wanted: str) -> str:
        found = self._next(*wanted)
        assert found is not None, f"{wanted} expected before {self._tokens} in {self.text}"
        return found

    def _names(self) -> list[str]:
        self._must("(")
        names = []
        while (name := self._must()) != ")":
            names += [name] if name != "," else []
        return names

    def _or(self) -> Vector:
        left = self._and()
        while self._next("or"):
            left = {**self._and(), **left}
        return left

    def _and(self) -> Vector:
        left = self._comparison()
        while word := self._next("and", "unless"):
            on = self._names() if self._next("on") else None
            right = {_by(labels, on) for labels in self._comparison()}
            for used in self.metrics.values():
                used |= set(on or ())
            left = {labels: value for labels, value in left.items() if (_by(labels, on) in right) is (word == "and")}
        return left

    def _comparison(self) -> Vector:
        left = self._one()
        if sign := self._next(*COMPARE):
            bound = float(self._must())
            return {labels: value for labels, value in left.items() if COMPARE[sign](value, bound)}
        return left

    def _one(self) -> Vector:
        name = self._must()
        if name == "(":
            inner = self._or()
            self._must(")")
            return inner
        if name == "absent":
            return {} if self._inner() else {frozenset(): 1.0}
        if name in AGGREGATE:
            by = self._names() if self._next("by") else []
            groups: dict[Labels, list[float]] = {}
            for labels, value in self._inner().items():
                groups.setdefault(_by(labels, by), []).append(value)
            return {labels: AGGREGATE[name](values) for labels, values in groups.items()}
        used = self.metrics.setdefault(name, set())
        found = self._scrape.get(name, {})
        if self._next("{"):
            while (label := self._must()) != "}":
                if label == ",":
                    continue
                used.add(label)
                holds, value = MATCH[self._must(*MATCH)], self._must().strip('"')
                found = {labels: each for labels, each in found.items() if holds(dict(labels).get(label, ""), value)}
        return found

    def _inner(self) -> Vector:
        self._must("(")
        inner = self._or()
        self._must(")")
        return inner


def _by(labels: Labels, names: list[str] | None) -> Labels:
    return labels if names is None else frozenset(pair for pair in labels if pair[0] in names)
