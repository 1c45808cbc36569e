"""Which recovery store a flow goes on from that runs on several machines in turn, and what a loss means for its process."""

import threading
from pathlib import Path

import pytest

from gateway.hosting import Host
from gateway.leasing import POSITIONS, Candidacy, candidacies, where_it_stood
from gateway.processes import FLOWS, LEASED, STATELESS, _exit_code
from gateway.recovery import recovery_store, taken_up
from gateway.settings import Settings
from gateway.supervisor import EXIT_MISCONFIGURED, EXIT_PEER_GONE
from pipelines.lifecycle import BARRIER, READS
from schemas.topics import CIRCUIT_CAPACITY
from sinks.errors import Misconfigured, Unavailable
from sinks.kafka import Positions, create_topics
from sinks.lease import Holder
from sinks.settings import KafkaSettings
from tests.conftest import unique
from tests.kafka.driving import publish

LIFE = "kafka"


def test_a_store_is_gone_on_from_while_nobody_else_ran_the_flow(tmp_path: Path) -> None:
    store = recovery_store(tmp_path, "lifecycle", LIFE)
    (store / "kept").write_text("state")
    name, goes_on = taken_up(tmp_path, "lifecycle", LIFE, None)  # nobody knows: as before there were leases
    assert name
    assert goes_on
    assert taken_up(tmp_path, "lifecycle", LIFE, name) == (name, True)
    assert (store / "kept").read_text() == "state"


def test_a_store_behind_another_ones_is_put_aside(tmp_path: Path) -> None:
    store = recovery_store(tmp_path, "lifecycle", LIFE)
    for round_ in ("first", "second"):
        (store / "kept").write_text(round_)
        name, goes_on = taken_up(tmp_path, "lifecycle", LIFE, f"another one's in the {round_} round")
        assert not goes_on
        assert taken_up(tmp_path, "lifecycle", LIFE, name) == (name, True)
        assert not (store / "kept").exists()
        assert (store.with_name("lifecycle.aside") / "kept").read_text() == round_


def test_a_machine_that_never_ran_the_flow_begins_where_it_stood(tmp_path: Path) -> None:
    assert taken_up(tmp_path, "lifecycle", LIFE, "another one's")[1] is False
    assert taken_up(tmp_path / "fresh", "lifecycle", LIFE, None)[1] is True


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "recovery").write_text("a file")
    with pytest.raises(Misconfigured, match="DERMS_DATA"):
        taken_up(tmp_path, "lifecycle", LIFE, "another one's")


def test_which_flows_are_under_a_lease_and_where_they_begin() -> None:
    assert set(LEASED) == {"lifecycle", "dispatch", "circuits"} < set(FLOWS)
    assert set(POSITIONS) == set(LEASED) - set(STATELESS)
    assert {*POSITIONS["lifecycle"], *BARRIER} == set(READS)


@pytest.mark.kafka
def test_a_flow_begins_where_it_stood_or_a_little_before(real_kafka: KafkaSettings) -> None:
    kafka_settings = unique(real_kafka)
    create_topics(kafka_settings, [CIRCUIT_CAPACITY])
    assert where_it_stood(kafka_settings, "circuits") == {}
    publish(kafka_settings, *((CIRCUIT_CAPACITY, "c", b"%d" % number) for number in range(5)))
    positions = Positions(kafka_settings, "derms-circuits")
    positions.commit({(CIRCUIT_CAPACITY, number): 5 for number in range(2)})
    positions.close()
    found = where_it_stood(kafka_settings, "circuits")
    # What has just been appended is read again; a position beyond the end is at the end.
    assert found == {(CIRCUIT_CAPACITY.name, 0): 0, (CIRCUIT_CAPACITY.name, 1): 0}


def test_an_embedded_one_stands_by_at_a_file(tmp_path: Path) -> None:
    settings, said, lost = Settings(kafka=KafkaSettings(embedded=True)), list[str](), list[str]()
    with candidacies(["dispatch"], settings, tmp_path, lambda flow, words: lost.append(flow), said.append) as (first,):
        assert first.lease.acquire(threading.Event())
        stop = threading.Event()
        with candidacies(["dispatch"], settings, tmp_path, lambda flow, words: lost.append(flow), said.append) as (second,):
            waiting = threading.Thread(target=second.lease.acquire, args=(stop,))
            waiting.start()
            assert second.settled.wait(10)
            assert said[0].startswith("dispatch stands by: ")
            assert said[0].endswith("has the lease")
            stop.set()
            waiting.join(10)
        assert first.lease.held()
    assert not first.lease.held()


def test_without_a_directory_there_is_no_store_to_choose(tmp_path: Path) -> None:
    settings = Settings(kafka=KafkaSettings(embedded=True))
    candidacy = Candidacy("dispatch", settings, tmp_path, lambda flow, words: None)
    assert candidacy._store(Holder("p", "another one's")) == ""
    assert candidacy.goes_on
    assert candidacy.start() == {}


def test_a_lost_lease_ends_the_process_to_start_it_again() -> None:
    host = Host(threading.Event())
    host.lose("dispatch", "host-b has taken the lease over")
    assert host.stop.is_set()
    assert _exit_code(host, []) == EXIT_PEER_GONE
    host.fail("lifecycle", Unavailable("nothing is written"))
    assert _exit_code(host, []) == EXIT_PEER_GONE
    host.fail("circuits", Misconfigured("DERMS_DATA", "is not set"))
    assert _exit_code(host, []) == EXIT_MISCONFIGURED
