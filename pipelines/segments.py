"""Where what is too large for the engine's recovery store is kept beside it: files that snapshots name (see `rules.quarter_snapshot`).

A snapshot may only name a file that is on disk: so files are written through before their name is used, and removed only
when several later snapshots have not named them: the engine goes back to the last snapshot it committed, never further.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from sinks.errors import Misconfigured, Unavailable

SNAPSHOTS = 3
"""So many snapshots a file outlives the last one that named it."""


class Segments:
    """One shard's files in a directory that all workers share. All methods block on the disk.

    Names are the shard's own: they begin with its number and a hyphen. `wrote` hears how many bytes each new file has.
    """

    def __init__(self, directory: Path, wrote: Callable[[int], None] = lambda size: None) -> None:
        self._directory, self._wrote = directory, wrote
        self._named: deque[set[str]] = deque(maxlen=SNAPSHOTS)

    def put(self, name: str, content: bytes) -> None:
        """Write a file. Raises `Unavailable` when the disk does not take it."""
        path = self._path(name)
        unfinished = path.with_suffix(".part")
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            with unfinished.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink()
            raise Unavailable(f"the state of the telemetry flow cannot be stored in {self._directory}: {error.strerror}", 5.0) from error
        self._wrote(len(content))

    def get(self, name: str) -> bytes:
        """A file's content. Raises `Misconfigured` where it is gone."""
        try:
            return self._path(name).read_bytes()
        except OSError as error:
            problem = f"names {self._path(name)}, which cannot be read: {error.strerror}"
            cure = "put it back, or move the store away: the flow then reads again what Kafka holds and writes the same rows"
            raise Misconfigured("the telemetry flow's recovery store", problem, cure) from error

    def name(self, shard: int, names: Iterable[str]) -> None:
        """These are what the shard's new snapshot names: its files that none of the last ones named go."""
        self._named.append(set(names))
        if len(self._named) < SNAPSHOTS:
            return
        wanted = {self._path(name) for named in self._named for name in named}
        for path in self._directory.glob(f"{shard}-*"):
            if path not in wanted:
                path.unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}.quarters"
