"""Both listeners as `derms gateway` serves them: over TLS, behind a proxy, by their names, and with nothing of ours in the headers."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.auth import add_operator
from gateway.ports import free_port
from gateway.serving import serve_gateway
from gateway.settings import load, public_url
from sinks.errors import Misconfigured
from sinks.http import Answer, fetch
from sinks.kafka import create_topics
from sinks.settings import KafkaSettings
from tests.gateway.authority import Authority
from tests.gateway.listening import until


@dataclass
class Gateway:
    """A running one."""

    authority: Authority
    oscp: int
    operations: int
    token: str

    def ask(self, path: str, *, method: str = "GET", port: int | None = None, **headers: str) -> Answer:
        url = f"https://127.0.0.1:{port or self.operations}{path}"
        found = {name.replace("_", "-"): value for name, value in headers.items()}
        return fetch(method, url, headers=found, ca_file=str(self.authority.file))


@pytest.fixture(scope="module")
def gateway(embedded_broker: KafkaSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    authority = Authority(folder)
    chain, key = authority.issue("server")
    oscp, operations = free_port(), free_port()
    kafka = embedded_broker.model_copy(update={"topic_prefix": "serving."})
    create_topics(kafka)
    settings = load(
        {
            "DERMS_SECRET": "A" * 43 + "=",
            "DERMS_OPERATORS_FILE": str(folder / "operators.json"),
            "DERMS_GATEWAY__OSCP_PORT": str(oscp),
            "DERMS_GATEWAY__OPERATIONS_PORT": str(operations),
            "DERMS_GATEWAY__OSCP_TLS_CERT_FILE": str(chain),
            "DERMS_GATEWAY__OSCP_TLS_KEY_FILE": str(key),
            "DERMS_GATEWAY__OPERATIONS_TLS_CERT_FILE": str(chain),
            "DERMS_GATEWAY__OPERATIONS_TLS_KEY_FILE": str(key),
            "DERMS_GATEWAY__OPERATIONS_URL": "https://Derms.Example:8481",
            "DERMS_GATEWAY__TRUSTED_PROXIES": "192.0.2.0/24",
        }
    ).model_copy(update={"kafka": kafka})
    token = add_operator(folder / "operators.json", "ana", "admin")
    stop, ready, ended = threading.Event(), threading.Event(), []
    thread = threading.Thread(target=lambda: ended.append(serve_gateway(settings, stop, ready.set)))
    thread.start()
    try:
        until(lambda: ready.is_set() or bool(ended))
        yield Gateway(authority, oscp, operations, token)
    finally:
        stop.set()
        thread.join(20)
    assert ended == [0]


def test_both_listeners_speak_tls(gateway: Gateway) -> None:
    assert gateway.ask("/health/live").status == 200
    assert gateway.ask("/api/v1/status", Authorization=f"Bearer {gateway.token}").status == 200
    answer = gateway.ask("/oscp/fp/2.0/heartbeat", method="POST", port=gateway.oscp)
    assert answer.status == 401
    for port in (gateway.oscp, gateway.operations):
        with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                assert b"200" not in plain.recv(100)


def test_nothing_says_what_we_are_made_of_and_nothing_is_stored_by_others(gateway: Gateway) -> None:
    for port, path in (
        (gateway.oscp, "/oscp/fp/2.0/heartbeat"),
        (gateway.oscp, "/nothing"),
        (gateway.operations, "/sign-in"),
        (gateway.operations, "/no"),
    ):
        for method in ("GET", "POST", "PATCH"):
            answer = gateway.ask(path, method=method, port=port)
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert not {"server", "x-powered-by"} & set(answer.headers)
            assert b"uvicorn" not in answer.body.lower()
            assert b"fastapi" not in answer.body.lower()


@pytest.mark.parametrize(
    ("host", "status"),
    [("derms.example:8481", 200), ("DERMS.example", 200), ("localhost", 200), ("evil.example", 421), ("derms.example.evil.example", 421)],
)
def test_the_operations_listener_answers_to_the_name_in_its_url(gateway: Gateway, host: str, status: int) -> None:
    assert gateway.ask("/sign-in", Host=host).status == status


def test_a_session_is_for_https_only(gateway: Gateway) -> None:
    form = b"token=" + gateway.token.encode()
    url, kind = f"https://127.0.0.1:{gateway.operations}/sign-in", {"Content-Type": "application/x-www-form-urlencoded"}
    answer = fetch("POST", url, headers=kind, content=form, ca_file=str(gateway.authority.file))
    assert answer.status == 303
    assert "Secure" in answer.headers["set-cookie"]
    assert "HttpOnly" in answer.headers["set-cookie"]


def test_what_strangers_say_about_themselves_changes_nothing(gateway: Gateway) -> None:
    assert gateway.ask("/metrics").status == 200
    assert gateway.ask("/metrics", X_Forwarded_For="127.0.0.1").status == 401
    assert gateway.ask("/metrics", X_Forwarded_For="192.0.2.1, 127.0.0.1").status == 401


def test_a_wrong_certificate_ends_the_start_before_anything_is_started(tmp_path: Path) -> None:
    environment = {
        "DERMS_SECRET": "A" * 43 + "=",
        "DERMS_OPERATORS_FILE": str(tmp_path / "operators.json"),
        "DERMS_KAFKA__BOOTSTRAP": "127.0.0.1:1",
        "DERMS_GATEWAY__OSCP_TLS_CERT_FILE": str(tmp_path / "none.pem"),
        "DERMS_GATEWAY__OSCP_TLS_KEY_FILE": str(tmp_path / "none.pem"),
    }
    with pytest.raises(Misconfigured, match=r"^DERMS_GATEWAY__OSCP_TLS_CERT_FILE: No such file or directory"):
        serve_gateway(load(environment), threading.Event(), lambda: None)


@pytest.mark.parametrize(
    ("environment", "oscp", "operations", "hosts"),
    [
        ({}, "http://127.0.0.1:8480", "http://127.0.0.1:8481", ["127.0.0.1"]),
        ({"OSCP_HOST": "0.0.0.0", "OPERATIONS_HOST": "::"}, "http://127.0.0.1:8480", "http://[::1]:8481", []),
        ({"OSCP_HOST": "10.0.0.7", "OPERATIONS_HOST": "ops.lan"}, "http://10.0.0.7:8480", "http://ops.lan:8481", ["ops.lan"]),
        ({"OSCP_TLS_CERT_FILE": "c", "OPERATIONS_TLS_CERT_FILE": "c"}, "https://127.0.0.1:8480", "https://127.0.0.1:8481", ["127.0.0.1"]),
        (
            {"PUBLIC_URL": "https://derms.example/", "OPERATIONS_URL": "https://ops.example"},
            "https://derms.example",
            "http://127.0.0.1:8481",
            ["ops.example", "127.0.0.1"],
        ),
    ],
)
def test_urls_follow_from_the_settings(environment: dict[str, str], oscp: str, operations: str, hosts: list[str]) -> None:
    settings = load({f"DERMS_GATEWAY__{name}": value for name, value in environment.items()})
    assert public_url(settings) == oscp
    assert settings.gateway.local_operations_url == operations
    assert settings.gateway.operations_hosts == hosts
