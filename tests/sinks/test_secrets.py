import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.facts import digest
from sinks.errors import Misconfigured
from sinks.secrets import Secrets, WrongSecret

KEY = bytes(range(32))
SECRETS = Secrets(KEY)
OTHER = Secrets(bytes(32))
TEXT = "peer-token-nobody-may-see"


def test_a_token_is_43_characters_of_base64url_and_the_same_on_every_run():
    token = SECRETS.token("vector", "register-1")
    assert re.fullmatch(r"[A-Za-z0-9_-]{43}", token)
    assert token == Secrets(KEY).token("vector", "register-1")
    assert SECRETS.token_digest("vector", "register-1") == digest(token) == hashlib.sha256(token.encode()).hexdigest()


def test_partner_cause_and_secret_each_make_another_token():
    tokens = {
        SECRETS.token("vector", "a"), SECRETS.token("vector", "b"), SECRETS.token("orion", "a"), OTHER.token("vector", "a"),
        SECRETS.token("vectora", ""), SECRETS.token("", "vectora"), SECRETS.token("v", "ectora"),
    }  # fmt: skip
    assert len(tokens) == 7


@given(st.text(), st.text())
def test_what_is_encrypted_comes_back(text: str, context: str):
    assert SECRETS.decrypt(SECRETS.encrypt(text, context), context) == text


def test_the_same_text_never_looks_the_same():
    assert SECRETS.encrypt(TEXT, "vector") != SECRETS.encrypt(TEXT, "vector")
    assert SECRETS.encrypt(TEXT, "vector").startswith(f"v1.{SECRETS.key_id}.")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda sealed: OTHER.encrypt(TEXT, "vector"),
        lambda sealed: SECRETS.encrypt(TEXT, "orion"),
        lambda sealed: sealed[:-2] + ("AA" if sealed[-2:] != "AA" else "BB"),
        lambda sealed: sealed[:40],
        lambda sealed: sealed.replace("v1.", "v2."),
        lambda sealed: sealed.rsplit(".", 1)[0] + ".!!!",
        lambda sealed: TEXT,
        lambda sealed: "",
    ],
)
def test_anything_else_is_a_wrong_secret_and_nothing_shows(spoil):
    sealed = spoil(SECRETS.encrypt(TEXT, "vector"))
    with pytest.raises(WrongSecret) as raised:
        SECRETS.decrypt(sealed, "vector")
    assert TEXT not in str(raised.value)
    assert sealed == "" or sealed not in str(raised.value)
    assert isinstance(raised.value, ValueError)


def test_another_installations_secret_is_named_by_its_id():
    with pytest.raises(WrongSecret, match=OTHER.key_id):
        SECRETS.decrypt(OTHER.encrypt(TEXT, "vector"), "vector")


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, lambda key: base64.b64encode(key).rstrip(b"=")])
def test_a_key_is_read_as_people_write_it(encode):
    key = b"\xfb\xef" * 16
    assert Secrets.from_base64(encode(key).decode() + "\n").key_id == Secrets(key).key_id


@pytest.mark.parametrize(
    "text", ["", "short", base64.b64encode(bytes(31)).decode(), "not base64 at all!", base64.b64encode(bytes(33)).decode()]
)
def test_a_wrong_key_names_the_setting_and_not_itself(text: str):
    with pytest.raises(Misconfigured) as raised:
        Secrets.from_base64(text)
    assert raised.value.setting == "DERMS_SECRET"
    assert not text or text not in str(raised.value)


def test_nothing_of_the_key_shows():
    assert repr(SECRETS) == f"Secrets(key_id={SECRETS.key_id!r})"
    assert SECRETS.key_id not in (KEY.hex(), base64.b64encode(KEY).decode()[:12])


def test_what_must_never_show_has_the_tokens_of_both_secrets_while_they_change():
    assert SECRETS.tokens("vector", "c") == [SECRETS.token("vector", "c")]
    both = Secrets(KEY, OTHER).tokens("vector", "c")
    assert both == [SECRETS.token("vector", "c"), OTHER.token("vector", "c")]
