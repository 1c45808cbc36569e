"""A new installation secret in place of the old one: the files, the settings, and when the old one may go."""

import base64
import stat
from pathlib import Path

import pytest

from gateway.rotation import begin, finish, previous_of, under_another
from gateway.settings import load, secrets_of
from sinks.errors import Misconfigured
from sinks.secrets import Secrets
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


def test_the_old_secret_goes_when_no_connection_needs_it(file: Path):
    old, new = Secrets.from_base64(OLD), begin(file)
    mixed = kept(old, "a", "b") | kept(new, "c") | {"oauth": connection("oauth")}
    assert under_another(mixed, new.key_id) == ["a", "b"]
    with pytest.raises(Misconfigured, match="2 partners' tokens are still kept under it: a, b"):
        finish(file, mixed)
    assert previous_of(file).exists()
    finish(file, kept(new, "a", "b", "c"))
    assert not previous_of(file).exists()
    finish(file, kept(new, "a"))  # harmless twice


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
