"""A new installation secret in place of the old one: the files, the settings, and when the old one may go."""

import base64
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from gateway import secret_use
from gateway.rotation import begin, demand_used, finish, previous_of, under_another
from gateway.secret_use import SecretReporter, in_use, process_name
from gateway.settings import load, secrets_of
from schemas.topics import FLOW_REPORTS
from sinks.errors import Misconfigured
from sinks.kafka import create_topics
from sinks.secrets import Secrets
from sinks.settings import KafkaSettings
from tests.gateway.oscp_side import connection

OLD = base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_text(OLD + "\n")
    return tmp_path / "secret"


def kept(secrets: Secrets, *partners: str):
    return {partner: connection(partner, peer_token=secrets.encrypt("B", partner)) for partner in partners}


def test_the_old_secret_is_beside_the_new_one_and_both_are_private(file: Path):
    both = begin(file)
    assert previous_of(file).read_text().strip() == OLD
    assert file.read_text().strip() != OLD
    assert {stat.S_IMODE(each.stat().st_mode) for each in (file, previous_of(file))} == {0o600}
    assert both.decrypt(Secrets.from_base64(OLD).encrypt("B", "vector"), "vector") == "B"


def test_a_second_change_waits_for_the_first(file: Path):
    begin(file)
    now = file.read_text()
    with pytest.raises(Misconfigured, match="not finished"):
        begin(file)
    assert file.read_text() == now


@pytest.mark.parametrize("content", ["", "not base64!", "c2hvcnQ="])
def test_what_is_no_secret_is_not_replaced(file: Path, content: str):
    file.write_text(content)
    with pytest.raises(Misconfigured) as refused:
        begin(file)
    assert file.read_text() == content
    assert not previous_of(file).exists()
    assert not content or content not in str(refused.value)


def test_of_two_who_begin_at_once_one_is_refused_and_nothing_is_lost(file: Path):
    with ThreadPoolExecutor(8) as pool:
        made = [each.exception() or each.result() for each in [pool.submit(begin, file) for _ in range(8)]]
    assert sum(isinstance(each, Secrets) for each in made) == 1
    assert previous_of(file).read_text() == OLD
    both = secrets_of(load({"DERMS_SECRET_FILE": str(file)}))
    assert both.decrypt(Secrets.from_base64(OLD).encrypt("B", "vector"), "vector") == "B"


def test_a_begin_that_was_killed_before_the_new_secret_was_there_can_be_finished(file: Path):
    previous_of(file).write_text(OLD)
    with pytest.raises(Misconfigured, match="not finished"):
        begin(file)
    finish(file, kept(Secrets.from_base64(OLD), "a"), {})
    assert not previous_of(file).exists()
    assert file.read_text().strip() == OLD


def test_the_old_secret_goes_when_no_connection_and_no_process_needs_it(file: Path):
    old, new = Secrets.from_base64(OLD), begin(file)
    mixed = kept(old, "a", "b") | kept(new, "c") | {"oauth": connection("oauth")}
    assert under_another(mixed, new.key_id) == ["a", "b"]
    with pytest.raises(Misconfigured, match="2 partners' tokens are still kept under it: a, b"):
        finish(file, mixed, {})
    with pytest.raises(Misconfigured, match="host/gateway:8480 still works with it"):
        finish(file, {}, {"host/gateway:8480": old.key_id, "host/lifecycle": new.key_id})
    assert previous_of(file).exists()
    finish(file, kept(new, "a", "b", "c"), {"host/lifecycle": new.key_id})
    assert not previous_of(file).exists()
    finish(file, kept(new, "a"), {})  # harmless twice


def test_a_secret_that_those_who_run_do_not_use_is_not_changed(file: Path):
    demand_used(file, {})
    demand_used(file, {"host/lifecycle": Secrets.from_base64(OLD).key_id})
    with pytest.raises(Misconfigured, match="is not the secret that host/lifecycle works with"):
        demand_used(file, {"host/lifecycle": "another"})


def test_processes_say_which_secret_they_use_until_they_end(embedded_settings: KafkaSettings):
    create_topics(embedded_settings, [FLOW_REPORTS])
    first, second = (SecretReporter(embedded_settings, role, f"key of {role}") for role in ("gateway:1", "lifecycle"))
    first.start()
    second.start()
    names = {process_name(role): f"key of {role}" for role in ("gateway:1", "lifecycle")}
    deadline = time.monotonic() + 20
    while in_use(embedded_settings) != names and time.monotonic() < deadline:
        time.sleep(0.1)
    assert in_use(embedded_settings) == names
    second.stop()
    assert in_use(embedded_settings) == {process_name("gateway:1"): "key of gateway:1"}
    first.stop()
    assert in_use(embedded_settings) == {}


def test_a_process_that_has_said_nothing_for_long_is_gone(embedded_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch):
    create_topics(embedded_settings, [FLOW_REPORTS])
    killed = SecretReporter(embedded_settings, "gateway:1", "old", every_s=1000)
    killed.start()
    deadline = time.monotonic() + 20
    while not in_use(embedded_settings) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert list(in_use(embedded_settings).values()) == ["old"]
    monkeypatch.setattr(secret_use, "GONE_AFTER", timedelta(0))
    assert in_use(embedded_settings) == {}
    killed.stop()


def test_settings_find_the_old_secret_beside_the_file_of_the_new_one(file: Path):
    sealed = Secrets.from_base64(OLD).encrypt("B", "vector")
    begin(file)
    assert secrets_of(load({"DERMS_SECRET_FILE": str(file)})).decrypt(sealed, "vector") == "B"
    explicit = load({"DERMS_SECRET": file.read_text().strip(), "DERMS_SECRET_PREVIOUS_FILE": str(previous_of(file))})
    assert secrets_of(explicit).decrypt(sealed, "vector") == "B"


def test_a_wrong_previous_secret_is_named():
    with pytest.raises(Misconfigured) as refused:
        load({"DERMS_SECRET": OLD, "DERMS_SECRET_PREVIOUS": "nonsense"})
    assert "DERMS_SECRET_PREVIOUS" in str(refused.value)
    assert "nonsense" not in str(refused.value)
