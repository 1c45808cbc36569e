"""What an answer means for the message it answers (semantics 8.3), and what is known of an attempt without one. No I/O."""

import json
import re
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from schemas.clock import wall_seconds
from schemas.facts import digest
from schemas.oscp.v20 import Action
from schemas.outbound import Outcome
from sinks.errors import Unavailable
from sinks.http import Answer

MAX_WORDS = 300
_READ = 16 * MAX_WORDS
MAX_RETRY_AFTER_S = 86_400.0
BLANK = "***"
_TOKEN_LENGTH = 43
_LONG_WORD = re.compile(rf"[A-Za-z0-9_-]{{{_TOKEN_LENGTH},}}")
"""What a token of ours stands in: `sinks.secrets` makes it of 43 such characters, and a peer may have glued others to it."""
_AGAIN = frozenset({408, 425, 429})
_CREDENTIALS = frozenset({401, 403})


@dataclass(frozen=True, slots=True)
class Unsaid:
    """What a partner's words must not tell: `secrets` themselves, and tokens of ours of which only `digests` are known."""

    secrets: Collection[str] = ()
    digests: Collection[str] = ()


NOTHING_UNSAID = Unsaid()


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of one attempt. `words` are for people and hold no secrets; `retry_after_s` is wall time, as the partner asked.

    `defect` is a refusal of our own: the message breaks the protocol, and was not sent. So is `too_large`: it does not fit what
    the partner takes. `method` and `url` (without a query) say where it was sent; "" where nothing was.
    """

    outcome: Outcome
    status: int | None = None
    words: str = ""
    retry_after_s: float | None = None
    duration_ms: int = 0
    defect: bool = False
    too_large: bool = False
    method: str = "POST"
    url: str = ""


@dataclass(slots=True)
class UnderWay:
    """An attempt that has begun, for who may cut it off: what it is, and where it goes once that is known. Until `began` is called
    nothing of it has left us."""

    method: str = "POST"
    url: str = ""
    since: float | None = None

    def began(self, method: str) -> None:
        """Somebody works on it now."""
        self.method, self.since = method, wall_seconds()

    @property
    def duration_ms(self) -> int:
        """How long it has taken (wall); 0 where it has not begun."""
        return 0 if self.since is None else round((wall_seconds() - self.since) * 1000)

    def cut_off(self, words: str) -> Judgement:
        """What is to be recorded of it: nobody knows what the partner made of it, so it goes again."""
        return Judgement(Outcome.RETRY, None, words, None, self.duration_ms, method=self.method, url=self.url)


def outcome_of(answer: Answer, action: str, *, now: datetime | None = None, unsaid: Unsaid = NOTHING_UNSAID) -> Judgement:
    """The meaning of an answer to a message of `action`.

    2xx is delivered, flagged in words if it is not 204; so is a 409 to a compliance error. 401 and 403 hold the
    queue. 501 and the other 4xx are refusals. Everything else is to be tried again, a redirect too: it is not
    followed, and is more likely a mistake on the way than an answer. `now` (wall) is for a Retry-After that is
    a date; what is `unsaid` is blanked in the partner's words.
    """
    status = answer.status
    words = answered(answer, unsaid)
    if 200 <= status < 300:
        return Judgement(
            Outcome.DELIVERED, status, "" if status == HTTPStatus.NO_CONTENT else f"{words} (204 was expected)", None, answer.duration_ms
        )
    if status == HTTPStatus.CONFLICT and action == Action.GROUP_CAPACITY_COMPLIANCE_ERROR:
        return Judgement(Outcome.DELIVERED, status, f"{words} (taken note of, but objected to)", None, answer.duration_ms)
    if status in _CREDENTIALS:
        return Judgement(Outcome.HELD, status, words, None, answer.duration_ms)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        words += " (with max_body set for the partner, larger messages go in segments that fit)"
    if status == HTTPStatus.NOT_IMPLEMENTED or (400 <= status < 500 and status not in _AGAIN):
        return Judgement(Outcome.REFUSED, status, words, None, answer.duration_ms)
    return Judgement(Outcome.RETRY, status, words, retry_after_of(answer, now or datetime.now(UTC)), answer.duration_ms)


def judgement_of(problem: Exception, duration_ms: int) -> Judgement:
    """What it means that there is no answer: what is away is tried again, all else waits for a person who mends it."""
    words = getattr(problem, "words", None) or str(problem)
    if isinstance(problem, Unavailable):
        return Judgement(Outcome.RETRY, None, words, problem.retry_after_s, duration_ms)
    return Judgement(Outcome.HELD, getattr(problem, "status", None) or None, words, None, duration_ms)


def retry_after_of(answer: Answer, now: datetime) -> float | None:
    """Seconds of wall time the partner asks us to wait, at most a day; None if it says nothing readable."""
    text = answer.headers.get("retry-after", "").strip()
    try:
        seconds = float(text) if text.isdigit() else (parsedate_to_datetime(text) - now).total_seconds()
    except (TypeError, ValueError, OverflowError):  # no date, or one without a zone, or with numbers beyond measure
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_S)


def answered(answer: Answer, unsaid: Unsaid = NOTHING_UNSAID) -> str:
    """`answered 503: busy`: the status, and the other side's words where it has some."""
    said = words_of(answer, unsaid)
    return f"answered {answer.status}" + (f": {said}" if said else "")


def words_of(answer: Answer, unsaid: Unsaid = NOTHING_UNSAID) -> str:
    """The partner's own words: `message` of its error body, else the beginning of the text; one line, nothing of what is `unsaid`."""
    text = answer.body.decode("utf-8", "replace")
    with suppress(ValueError, RecursionError):
        found = json.loads(answer.body)
        if isinstance(found, dict):
            found = next((found[name] for name in ("message", "error_description", "detail", "error") if found.get(name)), found)
        if found is not None:  # written anew, so that no escape hides what is unsaid
            text = found if isinstance(found, str) else json.dumps(found, ensure_ascii=False, separators=(",", ":"))
    return trimmed(text, unsaid)


def trimmed(text: str, unsaid: Unsaid = NOTHING_UNSAID) -> str:
    """`text` on one line, printable, at most `MAX_WORDS` characters, without what is `unsaid`."""
    forms = {form for secret in unsaid.secrets for form in (secret, json.dumps(secret, ensure_ascii=False)[1:-1]) if form}
    for form in sorted(forms, key=len, reverse=True):  # one may begin with another
        text = text.replace(form, BLANK)
    line = " ".join("".join(char if char.isprintable() else " " for char in text[:_READ]).split())
    line = _LONG_WORD.sub(lambda word: _without_tokens(word[0], unsaid.digests), line)
    if len(text) > _READ:
        line = line[: 1 - _TOKEN_LENGTH]  # which may be the beginning of a token
    return line if len(line) <= MAX_WORDS else f"{line[: MAX_WORDS - 1]}…"


def _without_tokens(word: str, digests: Collection[str]) -> str:
    start = 0
    while digests and start + _TOKEN_LENGTH <= len(word):
        end = start + _TOKEN_LENGTH
        if digest(word[start:end]) in digests:
            word = word[:start] + BLANK + word[end:]
            start += len(BLANK)
        else:
            start += 1
    return word
