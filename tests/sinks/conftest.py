"""Fixtures of the history's tests."""

import pytest

from sinks.clickhouse.client import Store
from tests.embedded_history import emptied_store


@pytest.fixture
def store() -> Store:
    """The embedded history, empty."""
    return emptied_store()
