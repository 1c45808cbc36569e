"""The demo's partner has to have been told the truth's sums."""

from datetime import timedelta
from typing import Any

import pytest

from gateway.demo_report import Truth
from gateway.demo_sums import mistold
from schemas.intervals import QUARTER
from schemas.units import rfc3339
from tests.builders import T0, configuration

CONFIG = configuration()
TRUTH = [Truth("mg-1-pv", T0 + n * QUARTER, 3.0, 100.0 + n) for n in range(3)] + [Truth("mg-1-grid", T0, 5.0, 6.0)]


def heard(*energies: float) -> dict[str, Any]:
    told = [{"id": "mg-1-pv", "direction": "EXPORT", "start": rfc3339(T0 + n * QUARTER), "wh": wh} for n, wh in enumerate(energies)]
    return {"energies": told}


@pytest.mark.parametrize(
    ("last", "words"), [(102.0, []), (102.09, []), (102.2, ["the partner was told 303.2 Wh export of mg-1-pv, truth has 303 Wh"])]
)
def test_a_tenth_of_a_watt_hour_is_seen_in_what_is_told_of_each_asset(last: float, words: list[str]) -> None:
    assert mistold(heard(100.0, 101.0, last, 7.0), TRUTH, CONFIG, T0) == words


def test_what_ended_before_the_first_handshake_is_not_owed_and_all_else_is() -> None:
    since = T0 + QUARTER
    assert mistold({"energies": heard(100.0, 101.0, 102.0)["energies"][1:]}, TRUTH, CONFIG, since) == []
    assert mistold({"energies": heard(100.0, 101.0, 102.0)["energies"][1:]}, TRUTH, CONFIG, since - timedelta(seconds=1)) != []
    assert mistold({}, TRUTH, CONFIG, since) == ["the partner was told 0 Wh export of mg-1-pv, truth has 203 Wh"]
    assert mistold(heard(), TRUTH, CONFIG, None) == ["no handshake was acknowledged"]
