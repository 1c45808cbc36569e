"""What the templates of operators' forms get: plain words and figures, nothing left to compute."""

from dataclasses import dataclass, field

from gateway.page_model import State, When


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a list to choose from."""

    value: str
    words: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class SaidRow:
    """What a forecast says about a time."""

    when: str
    capacity: str
    phase: str
    forecast: str


@dataclass(frozen=True, slots=True)
class HandForm:
    """A form with its fields as last written, and the words of what is wrong with them."""

    kind: str
    partner_id: str
    group_id: str
    scope_id: str
    title: str
    values: dict[str, str]
    choices: tuple[Choice, ...]
    said: tuple[SaidRow, ...]
    units: tuple[str, ...] = ()
    phases: tuple[str, ...] = ()
    wrong: str = ""
    errors: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Looked:
    """A message (or an operator's limit) as it will be, to be looked at before it is said."""

    kind: str
    title: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: str
    said: tuple[SaidRow, ...]
    warnings: tuple[str, ...]
    expires: When | None
    draft: str
    back: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class AskedRow:
    """A request of an operator."""

    id: str
    at: When
    by: str
    what: str
    about: str
    about_path: str
    state: State
    words: str
    since: When | None
    message_id: str
    answer: str
    details: str
