"""Under which URLs `derms up` says it is to be found, and what it says about certificates before it starts anything."""

from pathlib import Path

import pytest

from gateway.auth import Operators, remove_operator
from gateway.instance import Instance, Options
from gateway.settings import load
from sinks.errors import Misconfigured
from tests.gateway.authority import Authority


def instance(directory: Path, **gateway: str) -> Instance:
    found = Instance(load({f"DERMS_GATEWAY__{name}": value for name, value in gateway.items()}), Options(directory=directory / "data"))
    found._fix_settings()
    return found


def test_plain_http_on_loopback_without_settings(tmp_path: Path) -> None:
    found = instance(tmp_path)._endpoints()
    assert found.oscp_url.startswith("http://127.0.0.1:")
    assert found.operations_url.startswith("http://127.0.0.1:")
    assert found.operations_ca_file == ""


def test_https_where_there_are_certificates_and_commands_learn_the_authority(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    chain, key = map(str, authority.issue("server"))
    tls = {f"{side}_TLS_{what}_FILE": path for side in ("OSCP", "OPERATIONS") for what, path in (("CERT", chain), ("KEY", key))}
    found = instance(tmp_path, **tls, OPERATIONS_CA_FILE=str(authority.file))._endpoints()
    assert found.oscp_url.startswith("https://127.0.0.1:")
    assert found.operations_url.startswith("https://127.0.0.1:")
    assert found.operations_ca_file == str(authority.file)
    named = instance(tmp_path, **tls, OPERATIONS_URL="https://derms.example:8481/", PUBLIC_URL="https://derms.example")._endpoints()
    assert named.operations_url == "https://derms.example:8481"
    assert named.oscp_url == "https://derms.example/oscp/fp/2.0"


def test_wrong_certificates_are_named_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"^DERMS_GATEWAY__OPERATIONS_TLS_CERT_FILE: No such file"):
        instance(tmp_path, OPERATIONS_TLS_CERT_FILE="none.pem", OPERATIONS_TLS_KEY_FILE="none.pem")


def test_an_instance_whose_own_operator_was_taken_out_gets_a_new_token_at_its_next_start(tmp_path: Path) -> None:
    instance(tmp_path)
    operators, token_file = tmp_path / "data" / "operators.json", tmp_path / "data" / "operator-token"
    first = token_file.read_text().strip()
    instance(tmp_path)
    assert token_file.read_text().strip() == first
    assert remove_operator(operators, "instance")
    assert Operators(operators).by_token(first) is None
    instance(tmp_path)
    assert Operators(operators).by_token(token_file.read_text().strip()) is not None
