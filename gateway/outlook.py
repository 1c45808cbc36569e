"""What a scope's limit amounts to now, over a quarter, and next: pure, from the live picture (semantics 3, 4, 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from gateway.picture import OPEN_STATES, Picture, RowKey, Timeline
from gateway.scope_index import ScopeIndex
from pipelines.rules.circuits import Available, CircuitTerms, Step, available
from pipelines.rules.limits import FOREVER_MS, stretch_of
from schemas.capacity import CircuitCapacity, EnvelopePiece
from schemas.compliance import Breach, Verdict
from schemas.config import Configuration
from schemas.intervals import QUARTER, QUARTER_S, overlap, quarter_of
from schemas.telemetry import Level, QuarterHour
from schemas.topology import Asset, Circuit, Group, Scope
from schemas.units import SECONDS_PER_HOUR, W_PER_KW, Direction, Phase, from_ms, to_ms

FOREVER = from_ms(FOREVER_MS)


@dataclass(frozen=True, slots=True)
class Change:
    """A circuit's available capacity from `at` on, in W; None where the limit is not known."""

    at: datetime
    import_w: float | None
    export_w: float | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How a scope's running (or ended, not closed) quarter stands in one direction, in W of mean power. None: not known."""

    quarter: datetime
    so_far_w: float | None
    projected_w: float | None
    allowed_w: float | None
    limit_w: float | None

    @property
    def over(self) -> bool:
        """Whether the quarter would end above its limit."""
        return self.projected_w is not None and self.allowed_w is not None and self.projected_w > self.allowed_w

    @property
    def over_already(self) -> bool:
        """Whether what was measured so far is above the quarter's limit, whatever comes."""
        return self.so_far_w is not None and self.allowed_w is not None and self.so_far_w > self.allowed_w


def limit_of(piece: EnvelopePiece | None, direction: Direction) -> float | None:
    """A piece's limit in one direction, in W."""
    if piece is None:
        return None
    return piece.import_limit_w if direction is Direction.IMPORT else piece.export_limit_w


def allowed_w(line: Timeline | None, quarter: datetime, direction: Direction) -> float | None:
    """The mean of the limit over the quarter in W; None if it is known for less than all of it (semantics 5)."""
    return _mean_limit(pieces_in(line, quarter), quarter, direction)


def pieces_in(line: Timeline | None, quarter: datetime) -> tuple[EnvelopePiece, ...]:
    """The pieces for phase ALL that share time with the quarter."""
    end = quarter + QUARTER
    return tuple(piece for piece in (line.pieces if line else ()) if piece.start < end and piece.end > quarter and piece.phase is Phase.ALL)


def _mean_limit(pieces: Sequence[EnvelopePiece], quarter: datetime, direction: Direction) -> float | None:
    seconds, joules = 0.0, 0.0
    for piece in pieces:
        limit = limit_of(piece, direction)
        shared = overlap(quarter, quarter + QUARTER, piece.start, piece.end).total_seconds()
        if limit is not None and shared:
            seconds, joules = seconds + shared, joules + shared * limit
    return joules / QUARTER_S if seconds >= QUARTER_S else None


def used_wh(row: QuarterHour, direction: Direction) -> float:
    """A row's energy in one direction."""
    return row.import_wh if direction is Direction.IMPORT else row.export_wh


def used_w(row: QuarterHour, direction: Direction) -> float:
    """The row's energy in one direction as mean power over the quarter."""
    return used_wh(row, direction) * SECONDS_PER_HOUR / QUARTER_S


def projected_w(row: QuarterHour, direction: Direction, verdict: Verdict | None) -> float:
    """What the quarter's mean power will be if the last minute lasts: the flow's own figure where there is one, else as
    semantics 5 has it, from the energy so far, the last minute's mean, and the mean since the start without it."""
    if verdict is not None and verdict.projected_w is not None:
        return verdict.projected_w
    so_far = used_wh(row, direction)
    elapsed = min(max((row.at - row.start).total_seconds(), 0.0), QUARTER_S)
    if row.last_minute_w is None:
        rate = so_far * SECONDS_PER_HOUR / elapsed if elapsed else 0.0
    else:
        rate = max(row.last_minute_w if direction is Direction.IMPORT else -row.last_minute_w, 0.0)
    return (so_far + rate * (QUARTER_S - elapsed) / SECONDS_PER_HOUR) * SECONDS_PER_HOUR / QUARTER_S


@dataclass(frozen=True)
class Outlook:
    """One scope in one picture at one instant: its rows, limits, verdicts and running quarter."""

    picture: Picture
    config: Configuration
    scope: Scope
    now: datetime
    shared: ScopeIndex | None = None
    """What belongs to which scope, where it was found already."""

    @cached_property
    def index(self) -> ScopeIndex:
        """What belongs to which scope."""
        return self.shared or ScopeIndex(self.picture, self.config)

    @property
    def groups(self) -> Sequence[Group]:
        """The groups bound to the scope."""
        return self.index.groups(self.scope.id)

    @property
    def assets(self) -> Sequence[Asset]:
        """The scope's assets."""
        return self.index.assets(self.scope.id)

    @property
    def breaches(self) -> Sequence[Breach]:
        """The scope's breaches that the picture keeps, newest first."""
        return self.index.breaches(self.scope.id)

    @cached_property
    def group_id(self) -> str | None:
        """The group whose rows stand for the scope: the first of its groups that has any, else its first."""
        groups = [group.group_id for group in self.groups]
        keys = {group: RowKey(Level.GROUP, group) for group in groups}
        measured = [group for group in groups if keys[group] in self.picture.rows or keys[group] in self.picture.provisional]
        return next(iter([*measured, *groups]), None)

    @cached_property
    def line(self) -> Timeline | None:
        """The scope's envelope over time."""
        return self.picture.envelopes.get(self.scope.id)

    @cached_property
    def rows(self) -> dict[datetime, QuarterHour]:
        """The closed quarters by their start."""
        return self.picture.group_rows(self.group_id) if self.group_id else {}

    @cached_property
    def provisional(self) -> dict[datetime, QuarterHour]:
        """The provisional rows by their quarter's start."""
        return self.picture.provisional.get(RowKey(Level.GROUP, self.group_id), {}) if self.group_id else {}

    @cached_property
    def running(self) -> QuarterHour | None:
        """The provisional row of the quarter that runs now."""
        return self.provisional.get(quarter_of(self.now))

    @cached_property
    def unclosed(self) -> list[QuarterHour]:
        """The provisional rows of quarters that have ended and wait for their final row, oldest first."""
        return [self.provisional[start] for start in sorted(self.provisional) if start < quarter_of(self.now)]

    def verdict(self, quarter: datetime, direction: Direction) -> Verdict | None:
        """How a quarter was judged."""
        return self.picture.verdicts.get(self.group_id or "", {}).get((quarter, direction))

    @property
    def phase_verdicts(self) -> Sequence[Verdict]:
        """The judgements of single conductors that the picture keeps."""
        return list(self.picture.phase_verdicts.get(self.group_id or "", {}).values())

    def standing(self, direction: Direction) -> Standing:
        """The running quarter. Without a provisional row for it nothing is projected."""
        if self.running is not None:
            return self.standing_of(self.running, direction)
        quarter = quarter_of(self.now)
        return Standing(quarter, None, None, _mean_limit(self._around_now, quarter, direction), self._limit_now(direction))

    def standing_of(self, row: QuarterHour, direction: Direction) -> Standing:
        """The quarter of a provisional row, running or ended; the limit is the one in force now."""
        projected = projected_w(row, direction, self.verdict(row.start, direction))
        pieces = self._around_now if row.start == quarter_of(self.now) else pieces_in(self.line, row.start)
        allowed = _mean_limit(pieces, row.start, direction)
        return Standing(row.start, used_w(row, direction), projected, allowed, self._limit_now(direction))

    def _limit_now(self, direction: Direction) -> float | None:
        return limit_of(next((piece for piece in self._around_now if piece.start <= self.now < piece.end), None), direction)

    @cached_property
    def _around_now(self) -> tuple[EnvelopePiece, ...]:
        """The pieces of the running quarter: looked for once, since each scope has hundreds."""
        return pieces_in(self.line, quarter_of(self.now))

    @property
    def open_breaches(self) -> list[Breach]:
        """The breaches of the scope that last."""
        return [breach for breach in self.breaches if breach.state in OPEN_STATES]


def keeps(config: Configuration, scope_id: str) -> bool:
    """Whether an unknown limit keeps the circuit's last value: unless every group of the scope says `rating`."""
    groups = [group for group in config.groups if group.scope_id == scope_id]
    return not groups or any(group.when_unknown == "keep" for group in groups)


def next_change(circuit: Circuit, line: Timeline | None, last: CircuitCapacity | None, now: datetime, keep: bool = True) -> Change | None:
    """When the circuit's available capacity will next be another, by the envelope as it is and the rule of the flow
    (semantics 4); None if that is not in sight. `keep` as in `CircuitTerms`."""
    if line is None:
        return None
    terms = CircuitTerms(circuit.id, circuit.rated_import_kw * W_PER_KW, circuit.rated_export_kw * W_PER_KW, keep)
    stated = Available() if last is None else Available(last.available_import_w, last.available_export_w)
    boundaries = {instant for piece in line.whole() for instant in (piece.start, piece.end) if now < instant < FOREVER}
    for at in sorted(boundaries):
        piece = line.at(at)
        stretch = None if piece is None else stretch_of(piece)
        coming = available(Step(to_ms(at), stretch and stretch.imports, stretch and stretch.exports), terms, stated)
        if (coming.import_w, coming.export_w) != (stated.import_w, stated.export_w):
            return Change(at, coming.import_w, coming.export_w)
        stated = coming
    return None


def circuit_outlook(picture: Picture, config: Configuration, circuit: Circuit, now: datetime) -> Change | None:
    """The circuit's next change as far as its scope's envelope tells."""
    scope = next((each for each in config.scopes if each.circuit_id == circuit.id), None)
    if scope is None:
        return None
    last = next(iter(picture.circuits.get(circuit.id, ())), None)
    return next_change(circuit, picture.envelopes.get(scope.id), last, now, keeps(config, scope.id))
