"""Builders of configuration and messages for tests: say only what the test is about."""

from datetime import UTC, datetime
from typing import Any

from pipelines.rules.configuration import changes_between, configuration_of, merged
from schemas.config import ConfigChange, Configuration

T0 = datetime(2026, 10, 20, 10, 0, tzinfo=UTC)


def configuration(**changes: Any) -> Configuration:
    """One circuit, one scope with grid meter, PV and battery, one partner `vector`, one group `VEC-0001`."""
    plain: dict[str, Any] = {
        "circuits": [{"id": "feeder-17", "name": "Harbour feeder", "rated_import_kw": 250, "rated_export_kw": 150}],
        "scopes": [
            {"id": "mg-1", "name": "Harbour Street", "circuit_id": "feeder-17", "time_zone": "Pacific/Auckland"},
        ],
        "assets": [
            {"id": "mg-1-grid", "scope_id": "mg-1", "category": "CONSUMPTION", "connection_meter": True},
            {"id": "mg-1-pv", "scope_id": "mg-1", "category": "GENERATION"},
            {"id": "mg-1-bat", "scope_id": "mg-1", "category": "STORAGE"},
        ],
        "partners": [{"id": "vector", "name": "Vector", "allow_private_addresses": True}],
        "groups": [{"partner_id": "vector", "group_id": "VEC-0001", "scope_id": "mg-1"}],
    }
    return Configuration.model_validate({**plain, **changes})


class Applied:
    """Configurations applied one after the other: each knows what held before, as one that was read from the broker does."""

    def __init__(self) -> None:
        self._changes: dict[str, ConfigChange] = {}

    def apply(self, wanted: Configuration, at: datetime) -> Configuration:
        """The configuration in force once exactly this was applied at an instant."""
        changes = changes_between(self._changes, wanted, prune=True, by="test", at=at)
        self._changes = merged(self._changes, changes)
        return configuration_of(self._changes)
