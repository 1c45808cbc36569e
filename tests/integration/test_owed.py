"""The law of delivery finds what breaks it: it is what the tests of faults and kills rest on."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from schemas.outbound import Delivery, OutboundMessage, Outcome
from tests.builders import T0
from tests.integration.owed import Books, Request, broken


def message(number: int, group_id: str = "g") -> OutboundMessage:
    return OutboundMessage(
        event_id=f"m{number}", at=T0, message_id=f"m{number}", partner_id="p", action="UpdateAssetMeasurements", group_id=group_id,
        body="{}", not_before=T0, expires_at=T0 + timedelta(days=7),
    )  # fmt: skip


def delivery(number: int, outcome: Outcome = Outcome.DELIVERED, attempt: int = 1) -> Delivery:
    return Delivery(
        event_id=f"d{number}/{attempt}", at=T0, message_id=f"m{number}", partner_id="p", action="UpdateAssetMeasurements",
        attempt=attempt, outcome=outcome, url="http://p",
    )  # fmt: skip


def request(number: int, group_id: str = "g", status: int = 204) -> Request:
    return Request(float(number), T0, "UpdateAssetMeasurements", f"m{number}", group_id, status, status < 300)


def found(deliveries: list[Delivery], requests: list[Request], *, owed: int = 2, deaths: Sequence[datetime] = ()) -> list[str]:
    return broken(Books.of("p", [message(number) for number in range(owed)], deliveries), requests, deaths)


LATER = T0 + timedelta(minutes=1)
BOTH = [delivery(0), delivery(1)]


def test_what_is_as_it_should_be() -> None:
    assert found(BOTH, [request(0), request(1)]) == []
    tried = [delivery(0, Outcome.RETRY), delivery(0, attempt=2), delivery(1)]
    assert found(tried, [request(0, status=500), request(0), request(1)]) == []
    assert found([delivery(0, Outcome.REFUSED), delivery(1)], [request(0, status=400), request(1)]) == []


def test_what_is_missing_or_too_much() -> None:
    assert found(BOTH, [request(0)]) == [
        "owed and never accepted: m1 (" + str(delivery(1)) + ")",
        "delivered by the books, not by the partner's: m1",
    ]
    assert found(BOTH, [request(0), request(1), request(7)])[0] == "accepted and never owed: m7"
    assert found([delivery(0)], [request(0), request(1)], deaths=[LATER]) == ["no final outcome: m1"]


def test_order_is_kept_to_the_end() -> None:
    assert found(BOTH, [request(1), request(0)]) == ["m0 came after a later one of ('g', 'UpdateAssetMeasurements')"]
    assert len(found(BOTH, [request(0), request(1), request(0)], deaths=[LATER])) == 1


def test_what_comes_again_is_explained_by_a_record_or_a_death() -> None:
    twice = "m0 was accepted 2 times in one life of dispatch, 1 can be explained"
    assert found(BOTH, [request(0), request(0), request(1)]) == [twice]
    assert found(BOTH, [request(0), request(0), request(1)], deaths=[T0 - timedelta(minutes=1)]) == [twice]
    assert found(BOTH, [request(0), request(0), request(1)], deaths=[LATER]) == []
    assert len(found(BOTH, [request(0), request(0), request(0), request(1)], deaths=[LATER])) == 1
