"""The live picture: what records make of it, that it stays bounded, and that copies stand still."""

from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import picture as p
from gateway.picture import Picture, RowKey
from gateway.projection import Projection, fold, forget
from pipelines.records import Record, Unreadable
from schemas.clock import FrozenClock
from schemas.compliance import BreachState, Verdict
from schemas.connection import ConnectionState, InboundMessage
from schemas.facts import Value
from schemas.intervals import QUARTER
from schemas.outbound import DeadLetter, Outcome
from schemas.telemetry import Level, QuarterHour
from schemas.units import Direction, Phase
from tests.gateway import story
from tests.gateway.facts import NOW, connection, delivery, envelope, message, piece, record, row
from tests.schemas.golden import example

GROUP = RowKey(Level.GROUP, "VEC-0001")
START = NOW.replace(minute=0, second=0)


def picture_of(*values: Value) -> Picture:
    picture = Picture()
    for offset, value in enumerate(values):
        fold(picture, record(value, offset))
    return picture


def test_the_story_is_all_there() -> None:
    picture = Picture()
    for each in story.records():
        fold(picture, each)
    assert picture.connections["vector"].state is ConnectionState.ONLINE
    assert picture.heartbeats["vector"].received_at is not None
    assert picture.heartbeats["vector"].delivered_at is not None
    assert len(picture.group_rows("VEC-0001")) == sum(load is not None for load in story.LOADS)
    assert [each.provisional for each in picture.provisional[GROUP].values()] == [True]
    assert [breach.state for breach in picture.open_breaches()] == [BreachState.CONTINUED]
    assert [change.available_import_w for change in picture.circuits["sceaux-feeder"]][:2] == [1100.0, 3500.0]
    assert picture.dead_letter_counts == {"unknown asset": 15, "not a finite number": 1}
    assert picture.verdicts["VEC-0001"][NOW.replace(hour=18, minute=0, second=0), Direction.IMPORT].verdict == "BREACHED"


def test_verdicts_of_single_conductors_stand_apart_from_the_whole_connections() -> None:
    whole = example("derms.compliance")
    assert isinstance(whole, Verdict)
    one, corrected = (whole.model_copy(update={"phase": Phase.ONE, "revision": revision, "used_wh": 1.0}) for revision in (1, 2))
    picture = picture_of(whole, corrected, one)
    assert list(picture.verdicts[whole.group_id].values()) == [whole]
    assert picture.phase_verdicts[whole.group_id] == {(whole.quarter, whole.direction, Phase.ONE): corrected}
    forget(picture, whole.quarter + QUARTER)
    assert picture.phase_verdicts[whole.group_id] == {}


def test_a_message_in_segments_is_one_message() -> None:
    whole = example("derms.inbound")
    assert isinstance(whole, InboundMessage)
    segments = [whole.model_copy(update={"event_id": f"s{n}", "segment_index": n, "segment_count": 2}) for n in (1, 2)]
    picture = picture_of(*segments, whole)
    assert [line.request_id for line in picture.inbound] == [whole.request_id]
    assert picture.inbound_counts == {(whole.partner_id, whole.action): 1}


def test_the_same_records_again_change_nothing_but_counters() -> None:
    once, twice = Picture(), Picture()
    for each in story.records():
        fold(once, each)
        fold(twice, each)
    for each in story.records():
        fold(twice, each)
    for name in (
        "connections",
        "envelopes",
        "rows",
        "provisional",
        "verdicts",
        "circuits",
        "breaches",
        "messages",
        "events",
        "row_count",
        "outcomes",
    ):
        assert getattr(once, name) == getattr(twice, name), name


def test_a_new_revision_of_the_envelope_holds_from_its_effective_instant_and_the_past_stays() -> None:
    hour = timedelta(hours=1)
    first = envelope(1, START, [piece(START, START + 4 * hour, 4, None, "a")])
    second = envelope(
        2, START + 2 * hour, [piece(START, START + 3 * hour, 1, None, "b"), piece(START + 3 * hour, START + 5 * hour, 2, None, "b")]
    )
    line = picture_of(first, second, first).envelopes["sceaux-house"]
    found = [(each.start - START, each.end - START, each.import_limit_w) for each in line.pieces]
    assert found == [(0 * hour, 2 * hour, 4000.0), (2 * hour, 3 * hour, 1000.0), (3 * hour, 5 * hour, 2000.0)]
    assert line.at(START + 5 * hour) is None


def test_a_closed_quarter_replaces_the_running_one_and_the_highest_revision_holds() -> None:
    running = row(START, 1.0, provisional=True, revision=0)
    picture = picture_of(running)
    assert picture.provisional[GROUP] == {START: running}
    fold(picture, record(row(START, 1.2, revision=2)))
    fold(picture, record(row(START, 1.1, revision=1)))
    fold(picture, record(running))
    assert GROUP not in picture.provisional
    assert picture.rows[GROUP][START].import_wh == 300.0
    assert picture.row_count == 1


def provisional(start: datetime, kilowatts: float = 1.0) -> QuarterHour:
    return row(start, kilowatts, provisional=True, revision=0)


def test_each_open_quarter_keeps_its_newest_provisional_row_until_it_or_a_later_one_is_closed() -> None:
    first, again, second, third = (
        provisional(START, 0.5), provisional(START, 0.9), provisional(START + QUARTER), provisional(START + 2 * QUARTER),
    )  # fmt: skip
    picture = picture_of(first, second, again, third)
    assert picture.provisional[GROUP] == {START: again, second.start: second, third.start: third}
    before = picture.copy()
    fold(picture, record(row(START + QUARTER, 1.0)))
    fold(picture, record(again))
    assert picture.provisional[GROUP] == {third.start: third}
    assert len(before.provisional[GROUP]) == 3
    fold(picture, record(row(third.start, 1.0)))
    assert picture.provisional == {}


def test_provisional_rows_are_those_of_two_hours() -> None:
    clock = FrozenClock(START)
    projection = Projection(clock)
    projection.take([record(provisional(START + number * QUARTER)) for number in range(-20, 1)])
    assert sorted(projection.current().provisional[GROUP]) == [START + number * QUARTER for number in range(-8, 1)]
    clock.advance(timedelta(hours=1))
    projection.take([record(connection())])
    assert sorted(projection.current().provisional[GROUP]) == [START + number * QUARTER for number in range(-4, 1)]
    clock.advance(timedelta(hours=2))
    projection.take([record(connection())])
    assert projection.current().provisional == {}


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=60))
def test_provisional_rows_are_bounded_and_later_than_all_closed_ones(said: list[tuple[int, bool]]) -> None:
    picture = picture_of(*(provisional(START + at * QUARTER) if still else row(START + at * QUARTER, 1.0) for at, still in said))
    rows = picture.provisional.get(GROUP, {})
    closed = [at for at, still in said if not still]
    assert len(rows) <= 9
    assert GROUP not in picture.provisional or rows
    assert all(start > START + max(closed, default=-1) * QUARTER for start in rows)
    if said and said[-1][1] and said[-1][0] == max(at for at, _ in said) and said[-1][0] not in closed:
        assert max(rows) == START + said[-1][0] * QUARTER


def test_a_delivery_may_come_before_its_message() -> None:
    owed = message("UpdateAssetMeasurements", NOW)
    picture = picture_of(delivery(owed, Outcome.RETRY, 503), owed, delivery(owed, attempt=2))
    line = picture.messages[owed.message_id]
    assert line.message == owed
    assert line.delivery is not None
    assert line.delivery.outcome is Outcome.DELIVERED
    assert picture.outcomes == {
        ("vector", "UpdateAssetMeasurements", "RETRY"): 1,
        ("vector", "UpdateAssetMeasurements", "DELIVERED"): 1,
    }


def test_heartbeats_push_no_other_message_out() -> None:
    owed = message("UpdateAssetMeasurements", NOW)
    beats = [message("Heartbeat", NOW + timedelta(seconds=number)) for number in range(p.KEEP_MESSAGES + 10)]
    picture = picture_of(owed, *beats)
    assert list(picture.messages) == [owed.message_id]
    assert len(picture.heartbeat_messages) == p.KEEP_HEARTBEATS


def test_lists_are_bounded() -> None:
    picture = picture_of(*(message("UpdateAssetMeasurements", NOW + timedelta(seconds=number)) for number in range(500)))
    assert len(picture.messages) == p.KEEP_MESSAGES
    assert next(picture.all_messages()).about.at == NOW + timedelta(seconds=499)


def test_what_partners_say_is_no_reason_to_count_by() -> None:
    picture = Picture()
    for number in range(3):
        letter = DeadLetter(
            event_id=str(number), at=NOW, reason=f"refused by vector: answered 404: trace {number}", subject="m", topic="derms.outbound",
            partition=0, offset=number, raw=b"",
        )  # fmt: skip
        fold(picture, record(letter))
    assert picture.dead_letter_counts == {"message refused by vector": 3}
    assert picture.dead_letters[0].reason.endswith("trace 2")


def test_reasons_of_dead_letters_are_bounded_too() -> None:
    letters = [each for each in story.values() if type(each).__name__ == "DeadLetter"]
    many = [letters[0].model_copy(update={"event_id": str(number), "reason": f"reason {number}", "count": 1}) for number in range(300)]
    picture = picture_of(*many)
    assert len(picture.dead_letter_counts) == p.KEEP_REASONS + 1
    assert sum(picture.dead_letter_counts.values()) == 300


def test_bytes_nobody_can_read_disturb_nothing() -> None:
    picture = Picture()
    fold(picture, Record("derms.events", 0, 1, NOW, "", Unreadable("no known schema", b"?")))
    assert picture.records == {"derms.events": 1}
    assert picture.events == ()


def test_what_is_too_old_is_forgotten() -> None:
    picture = picture_of(
        *(row(START + number * QUARTER, 1.0) for number in range(8)), envelope(1, START, [piece(START, START + QUARTER, 1, 1, "a")])
    )
    forget(picture, START + 4 * QUARTER)
    assert sorted(picture.rows[GROUP]) == [START + number * QUARTER for number in range(4, 8)]
    assert picture.row_count == 4
    assert picture.envelopes["sceaux-house"].pieces == ()
    forget(picture, START + 8 * QUARTER)
    assert picture.rows == {}


def test_rows_of_long_ago_are_not_taken_in() -> None:
    projection = Projection(FrozenClock(START + timedelta(hours=48)))
    projection.take([record(row(START - ago * QUARTER, 1.0), offset) for offset, ago in enumerate((0, 1, 9_000))])
    assert list(projection.current().rows[GROUP]) == [START]


def test_rows_older_than_two_days_of_clock_time_go_by_themselves() -> None:
    clock = FrozenClock(START)
    projection = Projection(clock)
    projection.take([record(row(START - QUARTER, 1.0))])
    clock.advance(timedelta(hours=49))
    projection.take([record(row(START + timedelta(hours=48), 1.0))])
    assert sorted(projection.current().rows[GROUP]) == [START + timedelta(hours=48)]


@settings(deadline=None, max_examples=30)
@given(assets=st.integers(1, 12), quarters=st.integers(1, 30), bound=st.integers(5, 60))
def test_rows_never_exceed_their_bound(assets: int, quarters: int, bound: int) -> None:
    projection = Projection(FrozenClock(START), max_rows=bound)
    for number in range(quarters):
        start = START + number * QUARTER
        projection.take([record(row(start, 1.0, of=f"a{asset}", level=Level.ASSET)) for asset in range(assets)])
    picture = projection.current()
    assert picture.row_count == sum(len(rows) for rows in picture.rows.values()) <= bound


def test_a_copy_stands_still() -> None:
    projection = Projection(FrozenClock(NOW))
    projection.take([record(connection(ConnectionState.REGISTERED))])
    before = projection.current()
    assert projection.current() is before
    projection.take([record(connection()), record(row(START, 1.0))])
    assert before.connections["vector"].state is ConnectionState.REGISTERED
    assert before.rows == {}
    assert projection.current().connections["vector"].state is ConnectionState.ONLINE
