"""Forecasts as the simulated Capacity Provider sends them: whole, in segments, or wrong. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from gateway.simulator_config import REFUSED, Mistake, SegmentLink, Segments
from gateway.simulator_voice import Message, new_id
from schemas.oscp.v20 import Action, UpdateGroupCapacityForecast
from schemas.units import rfc3339

TOO_LARGE_BYTES = 1024 * 1024 + 1
FORECAST = Action.UPDATE_GROUP_CAPACITY_FORECAST


def messages_of(
    whole: UpdateGroupCapacityForecast, request_id: str, segments: Segments | None, correlation_id: str | None = None
) -> Iterator[Message]:
    """The forecast as its messages, in the order they go; the first segment (or all of it) has `request_id`, and the message it
    answers as its `correlation_id`."""
    body = whole.model_dump(mode="json", exclude_none=True)
    body["forecasted_blocks"] = [
        {**block, "start_time": rfc3339(each.start_time), "end_time": rfc3339(each.end_time)}
        for block, each in zip(body["forecasted_blocks"], whole.forecasted_blocks, strict=True)
    ]
    if segments is None:
        yield Message(FORECAST, body, request_id, correlation_id)
        return
    shares, ids = _shares(body["forecasted_blocks"], segments.count), [request_id, *(new_id() for _ in range(segments.count - 1))]
    for index in segments.order or range(1, segments.count + 1):
        linked = {SegmentLink.FIRST: ids[0], SegmentLink.PREVIOUS: ids[index - 2], SegmentLink.NONE: None}[segments.link]
        headers = {"X-Segment-Index": str(index), "X-Segment-Count": str(segments.count)}
        part = {**body, "forecasted_blocks": shares[index - 1]}
        yield Message(FORECAST, part, ids[index - 1], linked if index > 1 else correlation_id, headers=headers)


def _shares(blocks: list[dict[str, Any]], count: int) -> list[list[dict[str, Any]]]:
    """The blocks in `count` parts, as equal as can be. ValueError for fewer blocks than parts."""
    if len(blocks) < count:
        raise ValueError(f"{len(blocks)} blocks cannot be sent in {count} segments")
    ends = [len(blocks) * number // count for number in range(count + 1)]
    return [blocks[start:end] for start, end in pairwise(ends)]


def mistaken(mistake: Mistake, group_id: str, now: datetime) -> Message:
    """A forecast that has to be refused."""
    times = (now, now + timedelta(hours=1)) if mistake is not Mistake.BACKWARDS else (now, now - timedelta(hours=1))
    block = {"capacity": 1.0, "phase": "ALL", "unit": "KW", "start_time": rfc3339(times[0]), "end_time": rfc3339(times[1])}
    group = f"not-{group_id}" if mistake is Mistake.WRONG_GROUP else group_id
    body: dict[str, Any] | bytes = {"group_id": group, "type": "CONSUMPTION", "forecasted_blocks": [block]}
    if mistake is Mistake.TOO_LARGE:
        body = b'{"x": "' + TOO_LARGE_BYTES * b"x" + b'"}'
    elif mistake is Mistake.NO_JSON:
        body = b"{"
    headers = {"Content-Type": "text/plain"} if mistake is Mistake.CONTENT_TYPE else {}
    return Message(FORECAST, body, new_id(), headers=headers, expected=REFUSED[mistake])
