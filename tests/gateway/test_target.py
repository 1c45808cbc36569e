"""Where commands that act on a running system find it: an instance, else the settings."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from gateway.commands.target import Target
from sinks.errors import Misconfigured

ASKED: list[tuple[str, str | None]] = []


class _Api(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        ASKED.append((self.path, self.headers["Authorization"]))
        body = b'{"items": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    ASKED.clear()
    with HTTPServer(("127.0.0.1", 0), _Api) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DERMS_"):
            monkeypatch.delenv(name)


def test_the_settings_name_the_system_and_the_token(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("an-operators-token\n")
    monkeypatch.setenv("DERMS_OPERATOR_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_URL", f"http://127.0.0.1:{port}/")
    assert Target(None).operations("GET", "/partners") == {"items": []}
    assert ASKED == [("/api/v1/partners", "Bearer an-operators-token")]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_without_a_url_it_is_where_the_gateway_listens(port: int, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DERMS_OPERATOR_TOKEN", "an-operators-token")
    monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_HOST", host)
    monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_PORT", str(port))
    Target(None).operations("GET", "/status")
    assert ASKED == [("/api/v1/status", "Bearer an-operators-token")]


def test_a_running_instance_comes_first(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("the-instances-token\n")
    endpoints = {
        "kafka_bootstrap": "",
        "oscp_url": "",
        "operations_url": f"http://127.0.0.1:{port}",
        "clickhouse_url": "",
        "operator_token_file": str(tmp_path / "token"),
        "pid": os.getpid(),
        "clock": {},
    }
    (tmp_path / "endpoints.json").write_text(json.dumps(endpoints))
    monkeypatch.setenv("DERMS_OPERATOR_TOKEN", "another")
    monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_URL", "http://127.0.0.1:1")
    Target(tmp_path).operations("GET", "/status")
    assert ASKED == [("/api/v1/status", "Bearer the-instances-token")]


def test_a_missing_token_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Misconfigured, match=r"^DERMS_OPERATOR_TOKEN_FILE: .*derms operator add"):
        Target(None).operations("GET", "/status")
    with pytest.raises(Misconfigured, match=r"^--data: no running instance found"):
        Target(tmp_path).operations("GET", "/status")
    monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_URL", "https://derms.example:8481")
    with pytest.raises(Misconfigured, match=r"^DERMS_OPERATOR_TOKEN_FILE: "):
        Target(tmp_path).operations("GET", "/status")
    monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_URL", "derms.example")
    with pytest.raises(Misconfigured, match=r"^DERMS_GATEWAY__OPERATIONS_URL: .*for example https"):
        Target(None).operations("GET", "/status")
