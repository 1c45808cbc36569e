"""What a partner's answer means, and what is said of it (semantics 8.3)."""

from datetime import UTC, datetime

import pytest

from schemas.facts import digest
from schemas.outbound import Outcome
from sinks.http import Answer
from sinks.oscp.answers import Unsaid, outcome_of, words_of

MEASUREMENTS = "UpdateAssetMeasurements"
ERROR = "GroupCapacityComplianceError"


def answer(status: int, body: bytes = b"", **headers: str) -> Answer:
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, body, 12)


@pytest.mark.parametrize(
    ("status", "action", "outcome"),
    [
        (204, MEASUREMENTS, Outcome.DELIVERED),
        (200, MEASUREMENTS, Outcome.DELIVERED),
        (409, ERROR, Outcome.DELIVERED),
        (409, MEASUREMENTS, Outcome.REFUSED),
        (400, MEASUREMENTS, Outcome.REFUSED),
        (404, MEASUREMENTS, Outcome.REFUSED),
        (413, MEASUREMENTS, Outcome.REFUSED),
        (501, MEASUREMENTS, Outcome.REFUSED),
        (401, MEASUREMENTS, Outcome.HELD),
        (403, ERROR, Outcome.HELD),
        (408, MEASUREMENTS, Outcome.RETRY),
        (425, MEASUREMENTS, Outcome.RETRY),
        (429, MEASUREMENTS, Outcome.RETRY),
        (500, MEASUREMENTS, Outcome.RETRY),
        (503, ERROR, Outcome.RETRY),
        (302, MEASUREMENTS, Outcome.RETRY),
    ],
)
def test_what_an_answer_means(status: int, action: str, outcome: Outcome) -> None:
    judgement = outcome_of(answer(status), action)
    assert (judgement.outcome, judgement.status, judgement.duration_ms) == (outcome, status, 12)


def test_deliveries_out_of_the_ordinary_are_flagged() -> None:
    assert outcome_of(answer(204), MEASUREMENTS).words == ""
    assert outcome_of(answer(202), MEASUREMENTS).words == "answered 202 (204 was expected)"
    objected = outcome_of(answer(409, b'{"message":"no such forecast"}'), ERROR).words
    assert objected == "answered 409: no such forecast (taken note of, but objected to)"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("Tue, 20 Oct 2026 10:00:30 GMT", 30.0), ("Tue, 20 Oct 2020 10:00:30 GMT", 0.0), ("soon", None), ("", None), ("-3", None)],
)
def test_retry_after_in_seconds_or_as_a_date(text: str, seconds: float | None) -> None:
    now = datetime(2026, 10, 20, 10, 0, tzinfo=UTC)
    assert outcome_of(answer(503, retry_after=text), MEASUREMENTS, now=now).retry_after_s == seconds


def test_words_are_the_partners_on_one_line_without_secrets() -> None:
    assert words_of(answer(400, b'{"message":"bad\\n token s3same"}'), Unsaid(["s3same"])) == "bad token ***"
    assert words_of(answer(400, b"<h1>Bad\x00</h1>")) == "<h1>Bad </h1>"
    assert len(words_of(answer(400, b"x" * 5000))) == 300
    assert words_of(answer(400, b'[{"message":"x"}]')) == '[{"message":"x"}]'


def test_no_form_of_a_secret_is_in_the_partners_words() -> None:
    unsaid = Unsaid(["a/b", "a/b+c", 'say "x"'])
    assert words_of(answer(400, rb'{"errors":["a\/b+c","\u0061/b"]}'), unsaid) == '{"errors":["***","***"]}'
    assert words_of(answer(400, rb'{"errors":["say \"x\""]}'), unsaid) == '{"errors":["***"]}'


@pytest.mark.parametrize("before", ["", "x" * 200, "x" * 280, " " * 4780 + "y", "0 " * 140])
def test_a_token_known_by_its_digest_is_blanked_wherever_it_stands(before: str) -> None:
    token = "abcdefghijklmnopqrstuvwxyz_ABCDEFGH-1234567"
    said = words_of(answer(400, f"{before}{token}{token}x {token}.".encode()), Unsaid(digests={digest(token)}))
    assert "abcdef" not in said
    assert "1234567" not in said
    assert words_of(answer(400, token.encode()), Unsaid(digests={digest("another")})) == token
