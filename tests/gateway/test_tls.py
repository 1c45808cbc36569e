"""TLS at the listeners: what is spoken, whose certificates are taken, what wrong files are told, and renewal without a restart."""

import os
import ssl
from pathlib import Path

import pytest

from gateway.listener_settings import GatewaySettings
from gateway.tls import Certificates, TlsFiles, certificates_of
from sinks.errors import Misconfigured, Unavailable
from sinks.http import fetch
from tests.gateway.authority import Authority
from tests.gateway.listening import QUICK, all_of, ask, closing, connected, listening, status_of, until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def files_of(pair: tuple[Path, Path], client_ca: Path | None = None) -> TlsFiles:
    return TlsFiles("OSCP", *pair, client_ca)


def shown_by(context: ssl.SSLContext, listener) -> str:
    """The name in the certificate that a new connection is shown."""
    with connected(listener, context) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        found = connection.getpeercert()
    assert found is not None
    return dict(part[0] for part in found["subject"])["commonName"]  # type: ignore[misc]


def let_in(listener, context: ssl.SSLContext) -> bool:
    """Whether a request over TLS is answered; with TLS 1.3 the refusal comes where the answer would."""
    try:
        return status_of(ask(listener, closing("GET", "/"), context)) == 200
    except (ssl.SSLError, ConnectionError):
        return False


def test_https_is_spoken_and_plain_http_is_not(authority: Authority) -> None:
    with listening(certificates=Certificates(files_of(authority.issue("server"))), limits=QUICK) as listener:
        answer = ask(listener, closing("GET", "/x"), authority.client())
        assert status_of(answer) == 200
        assert ask(listener, closing("GET", "/x")) == b""
        assert fetch("GET", f"https://localhost:{listener.port}/", ca_file=str(authority.file)).status == 200
        with pytest.raises(Unavailable, match="TLS with localhost"):
            fetch("GET", f"https://localhost:{listener.port}/")
        until(lambda: listener.places._taken == 0)


def test_the_scheme_an_application_sees_is_https(authority: Authority) -> None:
    seen: list[str] = []

    async def app(scope, receive, send):
        seen.append(scope["scheme"])
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with listening(app, certificates=Certificates(files_of(authority.issue("server")))) as listener:
        ask(listener, closing("GET", "/"), authority.client())
    assert seen == ["https"]


def test_versions_before_1_2_are_refused(authority: Authority) -> None:
    context = Certificates(files_of(authority.issue("server"))).current()
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    with listening(certificates=Certificates(files_of(authority.issue("server"))), limits=QUICK) as listener:
        for version, spoken in ((ssl.TLSVersion.TLSv1_3, "TLSv1.3"), (ssl.TLSVersion.TLSv1_2, "TLSv1.2")):
            client = authority.client()
            client.minimum_version = client.maximum_version = version
            with connected(listener, client) as connection:
                assert isinstance(connection, ssl.SSLSocket)
                assert connection.version() == spoken
        old = authority.client()
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.raises(ssl.SSLError), connected(listener, old):
            pass


def test_with_a_client_authority_only_its_certificates_get_in(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority(tmp_path, "strangers")
    server = Certificates(files_of(authority.issue("server"), authority.file))
    with listening(certificates=server, limits=QUICK) as listener:
        assert let_in(listener, authority.client(authority.issue("vector")))
        for shown in (None, stranger.issue("vector2"), authority.issue("late", days=-1)):
            assert not let_in(listener, authority.client(shown))
        until(lambda: listener.places._taken == 0)


def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(authority: Authority) -> None:
    pair = authority.issue("first")
    with listening(certificates=Certificates(files_of(pair), look_every_s=0)) as listener:
        client = authority.client()
        with connected(listener, client) as kept:
            assert shown_by(client, listener) == "first"
            renewed = authority.issue("second")
            for old, new in zip(pair, renewed, strict=True):
                new.replace(old)
            assert shown_by(client, listener) == "second"
            kept.sendall(closing("GET", "/still"))
            assert status_of(all_of(kept)) == 200


def test_a_broken_renewal_changes_nothing_and_is_told_once(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    chain, key = authority.issue("first")
    now = 0.0
    certificates = Certificates(TlsFiles("OSCP", chain, key), look_every_s=10, now_s=lambda: now)
    first = certificates.current()
    chain.write_bytes(authority.issue("second")[0].read_bytes())  # its key is still to come
    assert certificates.current() is first
    for _ in range(3):
        now += 10
        assert certificates.current() is first
    (told,) = [record.getMessage() for record in caplog.records]
    assert "the certificate in use stays: DERMS_GATEWAY__OSCP_TLS_KEY_FILE" in told
    key.unlink()
    now += 10
    assert certificates.current() is first
    key.write_bytes((authority.folder / "second-key.pem").read_bytes())
    now += 9
    assert certificates.current() is first
    now += 1
    assert certificates.current() is not first


@pytest.mark.parametrize("side", ["OSCP", "OPERATIONS"])
def test_wrong_files_are_named_with_their_problem_and_cure(authority: Authority, tmp_path: Path, side: str) -> None:
    chain, key = authority.issue("server")
    _, other_key = authority.issue("other")
    _, locked_key = authority.issue("locked", password=b"sesame")
    (tmp_path / "empty.pem").write_text("")
    missing, empty = tmp_path / "none.pem", tmp_path / "empty.pem"
    wrong = [
        (chain, None, r"TLS_KEY_FILE: is not set, but .*TLS_CERT_FILE is \(set both"),
        (None, key, r"TLS_CERT_FILE: is not set, but .*TLS_KEY_FILE is \(set both"),
        (missing, key, r"TLS_CERT_FILE: No such file or directory: .*none.pem \(name"),
        (chain, missing, r"TLS_KEY_FILE: No such file or directory: .*none.pem \(name"),
        (empty, key, r"TLS_CERT_FILE: .*empty.pem holds no certificate \(name"),
        (key, key, r"TLS_CERT_FILE: .*server-key.pem holds no certificate \(name"),
        (chain, empty, r"TLS_KEY_FILE: .*empty.pem holds no private key \(name"),
        (chain, locked_key, r"TLS_KEY_FILE: the key in .*locked-key.pem has a password \(name"),
        (chain, other_key, r"TLS_KEY_FILE: .*other-key.pem is not the key of the certificate in .*server-cert.pem \(name"),
    ]
    for found_chain, found_key, words in wrong:
        settings = GatewaySettings(**{f"{side.lower()}_tls_cert_file": found_chain, f"{side.lower()}_tls_key_file": found_key})  # type: ignore[arg-type]
        with pytest.raises(Misconfigured, match=rf"^DERMS_GATEWAY__{side}_{words}"):
            certificates_of(settings, side)
    assert certificates_of(GatewaySettings(), side) is None


def test_a_wrong_client_authority_is_named(authority: Authority, tmp_path: Path) -> None:
    chain, key = authority.issue("server")
    (tmp_path / "empty.pem").write_text("")
    for client_ca, words in ((tmp_path / "none.pem", "No such file"), (tmp_path / "empty.pem", "holds no certificate"), (key, "holds no")):
        settings = GatewaySettings(oscp_tls_cert_file=chain, oscp_tls_key_file=key, oscp_client_ca_file=client_ca)
        with pytest.raises(Misconfigured, match=rf"^DERMS_GATEWAY__OSCP_CLIENT_CA_FILE: .*{words}"):
            certificates_of(settings, "OSCP")
    with pytest.raises(Misconfigured, match=r"^DERMS_GATEWAY__OSCP_CLIENT_CA_FILE: .*no certificate \(set"):
        certificates_of(GatewaySettings(oscp_client_ca_file=authority.file), "OSCP")


def test_an_expired_certificate_is_served_and_told_of(authority: Authority, caplog: pytest.LogCaptureFixture) -> None:
    Certificates(files_of(authority.issue("old", days=-1)))
    assert "has expired" in caplog.text


def test_a_handshake_that_does_not_come_is_given_up(authority: Authority) -> None:
    with listening(certificates=Certificates(files_of(authority.issue("server"))), limits=QUICK, connections=4) as listener:
        with connected(listener) as silent, connected(listener) as half:
            half.sendall(b"\x16\x03\x01\x02\x00\x01")
            until(lambda: listener.places._taken == 2)
            assert all_of(silent) == b""
            assert all_of(half) == b""
        until(lambda: listener.places._taken == 0)


def test_half_done_handshakes_make_room_for_who_finishes_one(authority: Authority) -> None:
    server = Certificates(files_of(authority.issue("server")))
    with listening(certificates=server, connections=4) as listener:  # handshakes may take 10 s here
        with connected(listener), connected(listener), connected(listener, source="127.0.0.2"), connected(listener, source="127.0.0.3"):
            until(lambda: listener.places._taken == 4)
            answer = ask(listener, closing("GET", "/x"), authority.client(), source="127.0.0.4")
            assert status_of(answer) == 200
        until(lambda: listener.places._taken == 0)


def test_commands_reach_a_listener_with_a_certificate_of_our_own(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gateway.commands.target import Target

    for name in [name for name in os.environ if name.startswith("DERMS_")]:
        monkeypatch.delenv(name)
    chain, key = authority.issue("server")

    async def app(scope, receive, send):
        headers = [(b"content-type", b"application/json"), (b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"{}"})

    with listening(app, name="operations", certificates=Certificates(TlsFiles("OPERATIONS", chain, key))) as listener:
        monkeypatch.setenv("DERMS_OPERATOR_TOKEN", "a-token")
        monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_PORT", str(listener.port))
        monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_TLS_CERT_FILE", str(chain))
        with pytest.raises(Misconfigured, match=r"^DERMS_GATEWAY__OPERATIONS_CA_FILE: is not set, and TLS with 127.0.0.1"):
            Target(None).operations("GET", "/status")
        monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_CA_FILE", str(tmp_path / "none.pem"))
        with pytest.raises(Misconfigured, match=r"^DERMS_GATEWAY__OPERATIONS_CA_FILE: .*none.pem holds no usable"):
            Target(None).operations("GET", "/status")
        monkeypatch.setenv("DERMS_GATEWAY__OPERATIONS_CA_FILE", str(authority.file))
        assert Target(None).operations("GET", "/status") == {}
