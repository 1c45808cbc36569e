"""How the telemetry flow's state is spread over workers: names of shards that the engine deals out evenly.

The engine sends a key to the worker its hash says, modulo the number of workers, and the hash of short names is as
uneven as chance makes it: of "0" to "3", one of two workers gets all. So the names are chosen.
"""

SHARD_KEYS = ("0an", "1d", "2t", "3h", "4g", "5e", "6a", "7")
"""The key of each shard: number n is worker n's, modulo 1, 2, 3, 4 or 8 workers. A test holds the engine to it. Names are
recovery keys: another name begins with empty state."""


def shard_key(shard: int) -> str:
    """The engine's key of a shard; IndexError past the last of `SHARD_KEYS`."""
    return SHARD_KEYS[shard]
