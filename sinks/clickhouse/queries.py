"""The analysts' saved questions: SQL files with a head that says what they answer and what can be asked of them.

-- title: one line
-- words: what the answer shows
-- param: name Type = 'default' | what it means
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from sinks.errors import Misconfigured

_PARAM = re.compile(r"(\w+) (\w+) = (?:'(.*)'|(\S+)) \| (.+)")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One thing that can be asked: `kind` is its ClickHouse type, `default` what holds when it is not given."""

    name: str
    kind: str
    default: str
    words: str


@dataclass(frozen=True, slots=True)
class Question:
    """A saved question."""

    name: str
    title: str
    words: str
    parameters: tuple[Parameter, ...]
    sql: str

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """Every parameter with what was given or its default. Raises `Misconfigured` for one it does not have."""
        known = {parameter.name: parameter.default for parameter in self.parameters}
        for name in given:
            if name not in known:
                cure = f"it has {', '.join(known)}" if known else "it has none"
                raise Misconfigured(f"--param {name}", f"the question {self.name} has no such parameter", cure)
        return {**known, **given}


def questions() -> list[Question]:
    """All saved questions, by name."""
    found = (files("sinks.clickhouse") / "queries").iterdir()
    return sorted(
        (parse(file.name.removesuffix(".sql"), file.read_text()) for file in found if file.name.endswith(".sql")), key=lambda q: q.name
    )


def question(name: str) -> Question:
    """The question of that name. Raises `Misconfigured`, naming those there are."""
    known = {each.name: each for each in questions()}
    if name not in known:
        raise Misconfigured(name, "is no saved question", f"ask one of {', '.join(known)}")
    return known[name]


def parse(name: str, text: str) -> Question:
    """A question from its file's text; ValueError where the head is not as it must be."""
    head: dict[str, list[str]] = {}
    lines = text.splitlines()
    while lines and (match := re.fullmatch(r"-- (\w+): (.+)", lines[0])):
        head.setdefault(match[1], []).append(match[2])
        del lines[0]
    parameters = []
    for line in head.get("param", []):
        if not (match := _PARAM.fullmatch(line)):
            raise ValueError(f"{name}: not a parameter: {line}")
        default = match[3] if match[3] is not None else match[4]
        parameters.append(Parameter(match[1], match[2], default, match[5]))
    if not {"title", "words"} <= head.keys():
        raise ValueError(f"{name}: a title and words are needed")
    return Question(name, head["title"][0], " ".join(head["words"]), tuple(parameters), "\n".join(lines).strip())
