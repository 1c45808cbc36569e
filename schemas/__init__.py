"""The nouns of Vector DERMS: every message, unit, interval, topic and the clock. Pure: no I/O."""

from schemas.errors import Undecodable

__all__ = ["Undecodable"]
