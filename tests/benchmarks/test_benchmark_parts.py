"""The harness's own arithmetic: bytes that our decoder and other implementations agree with, a truth that the slow reference confirms."""

import struct

import lz4.frame  # type: ignore[import-untyped]
import numpy as np
import pytest

from schemas.telemetry import Level, Measurement, MeasurementBatch, Method, QuarterHour
from schemas.topics import TELEMETRY
from schemas.units import from_ms, to_ms
from sinks.codec import decode, encode
from tests.benchmarks import report, sizes
from tests.benchmarks.broker import Message, rounds_of
from tests.benchmarks.kafka_bytes import batches_of, crc32c, partitions_of, uniform_batches, varint
from tests.benchmarks.product import configuration_records, group_of, scope_of
from tests.benchmarks.readings import END_MS, EVERY_MS, QUARTER_MS, TAIL_MS, Fleet, truth
from tests.benchmarks.rounds import Result, warm_up
from tests.benchmarks.rows import PEER_ROW, peer_rows, product_rows
from tests.rules.reference_quarter_hours import Reading, quarter_row

FLEET = Fleet(150, 150 * 250)


def values(batch: bytes) -> list[tuple[bytes, bytes]]:
    """Keys and values of a record batch, read as Kafka's rules say."""
    length, magic = struct.unpack_from(">i", batch, 8)[0], batch[16]
    assert (length, magic) == (len(batch) - 12, 2)
    assert struct.unpack_from(">I", batch, 17)[0] == crc32c(batch[21:])
    (count,) = struct.unpack_from(">i", batch, 57)
    data, at = bytes(lz4.frame.decompress(batch[61:])), 0

    def number() -> int:
        nonlocal at
        bits = shift = 0
        while True:
            byte = data[at]
            at += 1
            bits |= (byte & 0x7F) << shift
            if byte < 0x80:
                return (bits >> 1) ^ -(bits & 1)
            shift += 7

    def text() -> bytes:
        nonlocal at
        size = number()
        at += size
        return data[at - size : at]

    found = []
    for delta in range(count):
        size = number()
        begin, at = at, at + 1
        assert (number(), number()) == (0, delta)
        found.append((text(), text()))
        assert number() == 0
        assert at - begin == size
    assert at == len(data)
    return found


def messages_of(fleet: Fleet, form: str) -> dict[int, list[tuple[bytes, bytes]]]:
    found: dict[int, list[tuple[bytes, bytes]]] = {}
    for pairs in rounds_of(fleet, form):
        for partition, batch in pairs:
            found.setdefault(partition, []).extend(values(batch))
    return found


def test_checksums_numbers_and_partitions_are_those_of_others() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert [varint(n) for n in (0, -1, 1, 63, 64, 12, 300)] == [b"\0", b"\1", b"\2", b"\x7e", b"\x80\x01", b"\x18", b"\xd8\x04"]
    # Java's Utils.murmur2 of these, as the Apache Kafka client's own tests have it for "21" and the like of other lengths.
    assert partitions_of(np.array([b"abcd"], "S4"), 2**31).tolist() == [murmur2(b"abcd") & 0x7FFFFFFF]
    assert partitions_of(FLEET.ids).tolist() == [(murmur2(key) & 0x7FFFFFFF) % 16 for key in FLEET.ids.tolist()]


def murmur2(key: bytes) -> int:
    """Word by word, as Apache Kafka's `Utils.murmur2` is written."""
    h = 0x9747B28C ^ len(key)
    for (k,) in struct.iter_unpack("<I", key):
        k = k * 0x5BD1E995 & 0xFFFFFFFF
        k = (k ^ k >> 24) * 0x5BD1E995 & 0xFFFFFFFF
        h = (h * 0x5BD1E995 & 0xFFFFFFFF) ^ k
    h = (h ^ h >> 13) * 0x5BD1E995 & 0xFFFFFFFF
    return h ^ h >> 15


@pytest.mark.parametrize("count", [1, 64, 65, 100, 230])
def test_batches_by_columns_are_the_batches_made_one_by_one(count: int) -> None:
    keys = np.array([f"key-{n:08d}" for n in range(count)], "S12")
    data = np.arange(count * 70, dtype=np.int64).astype(np.uint8).reshape(count, 70)
    plain = batches_of(keys.tolist(), [row.tobytes() for row in data], 100)
    assert list(uniform_batches(keys, data, 100)) == list(plain)


def test_singles_and_batches_say_the_same_and_the_product_can_read_it() -> None:
    singles, batches = messages_of(FLEET, "singles"), messages_of(FLEET, "batches")
    assert sum(map(len, singles.values())) == FLEET.total == 150 * 250
    for partition, found in singles.items():
        one = [decode(value, TELEMETRY) for _, value in found[:250]]
        assert all(isinstance(each, Measurement) and each.asset_id == key.decode() for each, (key, _) in zip(one, found, strict=False))
        many = [
            each
            for _, value in batches[partition][:3]
            if isinstance(batch := decode(value, TELEMETRY), MeasurementBatch)
            for each in batch.measurements
        ]
        assert many[:250] == one[: len(many)]
        assert {FLEET.partitions[int(key[-6:])] for key, _ in found} == {partition}
        assert encode(one[0]) == found[0][1]
        instants = [to_ms(each.measured_at) for each in one if isinstance(each, Measurement)]
        assert instants == sorted(instants)


def test_the_truth_is_what_the_slow_reference_says() -> None:
    some = {FLEET.ids[number]: list[Reading]() for number in (0, 1, 7, 149)}
    for found in messages_of(FLEET, "singles").values():
        for key, value in found:
            if key in some:
                one = decode(value, TELEMETRY)
                assert isinstance(one, Measurement)
                some[key].append(Reading(one.asset_id, to_ms(one.measured_at), one.power_w, one.import_wh, one.export_wh))
    expected = list(truth(FLEET))
    assert [one.quarter for one in expected] == FLEET.quarters.tolist() == [END_MS - 2 * QUARTER_MS, END_MS - QUARTER_MS]
    for each in expected:
        for number in (0, 1, 7, 149):
            row = quarter_row(some[FLEET.ids[number]], each.quarter)
            assert row is not None
            assert row["samples"] == each.count
            assert (row["import_wh"], row["export_wh"]) == pytest.approx((each.import_wh[number], each.export_wh[number]), abs=1e-6)


def test_every_reading_is_within_the_fleet_s_time_and_a_warm_up_within_another() -> None:
    assert FLEET.start == END_MS + TAIL_MS - 250 * EVERY_MS
    warm = warm_up(FLEET)
    assert warm.end + TAIL_MS < FLEET.start - 3_600_000
    assert set(warm.partitions.tolist()) == set(range(16))
    assert not set(warm.ids) & set(FLEET.ids)


def test_peers_rows_are_judged() -> None:
    rows = [
        Message(asset, PEER_ROW.pack(one.quarter, one.count, float(power)), 7.0)
        for one in truth(FLEET)
        for asset, power in zip(FLEET.ids.tolist(), one.power_sum.tolist(), strict=True)
    ]
    finding = peer_rows(FLEET, rows)
    assert finding.complete
    assert finding.last_at == 7.0
    assert not peer_rows(FLEET, rows[1:]).complete
    off = Message(rows[0].key, PEER_ROW.pack(FLEET.quarters[0], 3, 1.0), 8.0)
    assert "3 readings" in peer_rows(FLEET, [off, *rows[1:]]).wrong[0]


def test_our_rows_are_judged_by_their_highest_revision() -> None:
    fleet = Fleet(120, 120 * 17)
    (expected,) = truth(fleet)

    def row(level: Level, name: str, net: float, at: float, revision: int = 1, export: float = 0.0, samples: int = 3) -> Message:
        value = QuarterHour(
            event_id=f"{name}-{revision}", at=from_ms(END_MS), level=level, id=name, start=from_ms(expected.quarter),
            import_wh=net + export, export_wh=export, net_wh=net, mean_w=net * 4, samples=samples, coverage=1.0, method=Method.SUM,
            revision=revision, provisional=revision == 0,
        )  # fmt: skip
        return Message(name.encode(), encode(value), at)

    net = expected.import_wh - expected.export_wh
    rows = [
        row(Level.ASSET, name.decode(), float(net[n]), 5.0, export=float(expected.export_wh[n]), samples=expected.count)
        for n, name in enumerate(fleet.ids)
    ]
    rows += [row(Level.GROUP, group_of(scope_of(fleet, n)), float(net[n : n + 100].sum()), 6.0) for n in (0, 100)]
    assert product_rows(fleet, rows).complete
    early = [row(Level.ASSET, fleet.ids[0].decode(), 1.0, 4.0, revision=0), row(Level.GROUP, group_of(scope_of(fleet, 0)), 1.0, 4.0)]
    assert product_rows(fleet, [*early, *rows[:-2], rows[-1]]).wrong
    late = row(Level.GROUP, group_of(scope_of(fleet, 0)), float(net[:100].sum()), 9.0, revision=2)
    finding = product_rows(fleet, [*early, *rows, late])
    assert (finding.complete, finding.last_at) == (True, 9.0)


def test_the_configuration_has_every_asset_and_a_group_for_each_hundred() -> None:
    keys = [key.decode() for key, _ in configuration_records((FLEET, warm_up(FLEET)))]
    assert sum(key.startswith("assets/") for key in keys) == 150 + 200 + 1
    assert sum(key.startswith("groups/") for key in keys) == 2 + 2


def test_every_size_closes_a_quarter() -> None:
    for group, by_assets in sizes.SIZES.items():
        for assets in (*by_assets, 300):
            for factor in (1.0, 0.001):
                fleet = sizes.fleet(group, assets, factor=factor)
                assert len(fleet.quarters) >= 1
                assert all(last - first >= 2 for first, last in map(fleet.ticks_of, fleet.quarters.tolist()))
    assert sizes.readings("streams", 1_000, asked=3_000_000) == 400_000


def test_numbers_asked_for_are_told_with_their_ratio() -> None:
    def result(variant: str, rate: float, cpu: float, *, finished: bool = True) -> Result:
        return Result(variant, 10_000, 1_000_000, 1e6 / rate, cpu, 100 * report.MIB, 1, finished)

    rounds = [result("floor", 2e6, 0.5), *(result("ours-singles-1", rate, 1.0) for rate in (0.9e6, 1e6, 3e6)), result("flink", 2e5, 4.0)]
    found = report.medians([*rounds, result("quix", 1e5, 30.0, finished=False)])
    assert found["ours-singles-1", 10_000].rate == 1e6
    numbers = {one.what: one for one in report.asked(found, None)}
    floor = numbers["singles / raw single-message floor, 10,000 assets"]
    assert (floor.measured, floor.reached, floor.stretch) == ("0.50 x", True, False)
    assert not numbers["singles / Quix Streams, 10,000 assets (which did not finish)"].reached
    assert numbers["CPU of singles / that of Flink, 10,000 assets"].ratio == pytest.approx(2.0)
    assert "NOT REACHED" in report.asked_table(list(numbers.values()))
    assert "did not finish" in report.measured_table(found)
