"""What keeps `derms up` from starting is said at once, in one sentence with its cure, and disturbs nothing."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.running import CLEAN, process, until
from tests.integration.running import derms as derms_command

pytestmark = [pytest.mark.xdist_group("refusals"), pytest.mark.slow]


def refused(data: Path, *arguments: str, **environment: str) -> str:
    """The words of a `derms up` that ends with 1, soon and without a traceback."""
    began = time.monotonic()
    command = [sys.executable, "-m", "gateway.cli", "up", "--data", str(data), *arguments]
    ended = subprocess.run(command, env=CLEAN | environment, capture_output=True, text=True, timeout=50)
    assert ended.returncode == 1, ended.stdout + ended.stderr
    assert "ready" not in ended.stdout
    assert "Traceback" not in ended.stderr
    assert time.monotonic() - began < 40
    assert not (data / "endpoints.json").exists()
    return ended.stderr


def test_a_port_in_use(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"DERMS_GATEWAY__OSCP_PORT: port {port} is in use" in refused(tmp_path / "d", DERMS_GATEWAY__OSCP_PORT=port)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "nonsense"])
def test_a_history_that_does_not_answer(tmp_path: Path, url: str) -> None:
    assert "error: " in refused(tmp_path / "d", DERMS_CLICKHOUSE__URL=url)


def test_a_public_url_that_is_none(tmp_path: Path) -> None:
    assert "DERMS_GATEWAY__PUBLIC_URL: is not an http(s) URL" in refused(tmp_path / "d", DERMS_GATEWAY__PUBLIC_URL="foo")


def test_a_directory_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "d" / "lock").mkdir(parents=True)
    assert "--data: Is a directory" in refused(tmp_path / "d")


def test_a_secret_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "secret").write_text("c2hvcnQ=\n")
    assert "32 bytes" in refused(tmp_path / "d")


def test_a_second_instance_leaves_the_first_alone_and_a_restart_keeps_its_ports(tmp_path: Path) -> None:
    data = tmp_path / "d"
    endpoints = data / "endpoints.json"
    command = [sys.executable, "-m", "gateway.cli", "up", "--data", str(data)]
    with process(command, tmp_path / "first.log"):
        until(endpoints.exists, "the first runs")
        second = derms_command("up", "--data", str(data))
        assert second.returncode == 1
        assert "in use by another running instance" in second.stderr
        assert endpoints.exists()
        ports = (data / "ports.json").read_text()
        conflicting = tmp_path / "site.yaml"
        conflicting.write_text("circuits: [{id: c, rated_import_kw: 1, rated_export_kw: 1}]\nscopes: [{id: a, circuit_id: c}]\n")
        assert derms_command("config", "apply", str(conflicting), data=data).returncode == 0
        conflicting.write_text("circuits: [{id: c, rated_import_kw: 1, rated_export_kw: 1}]\nscopes: [{id: b, circuit_id: c}]\n")
        clash = derms_command("config", "apply", str(conflicting), data=data)
        assert clash.returncode == 1
        assert "circuit 'c' already belongs to scope" in clash.stderr
        assert "Traceback" not in clash.stderr
    with process(command, tmp_path / "again.log"):
        until(endpoints.exists, "it runs again")
        assert (data / "ports.json").read_text() == ports
        shown = derms_command("config", "show", data=data)
        assert "circuit_id: c" in shown.stdout
