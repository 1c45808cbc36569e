"""A lease as a lock on a file: for the embedded broker, which belongs to one machine and one directory (semantics 8.1)."""

import fcntl
import math
import os
import threading
from pathlib import Path

from sinks.errors import Misconfigured
from sinks.lease import Spokesman, this_process

LOOK_EVERY_S = 0.1


class FileLease:
    """The lock on `path`, whose content says who has it. The kernel frees it when its process ends, however that happens."""

    def __init__(self, path: Path, spokesman: Spokesman | None = None) -> None:
        self._path, self._spokesman = path, spokesman or Spokesman()
        self._handle: int | None = None

    def acquire(self, stop: threading.Event) -> bool:
        """As `Lease.acquire`. Raises Misconfigured where there can be no such file."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Misconfigured("DERMS_DATA", f"{error.strerror}: {self._path}", "name a directory that can be written") from None
        told = False
        while not _locked(handle):
            if not told:
                told = True
                self._spokesman.stands_by(
                    f"{os.pread(handle, 200, 0).decode('utf-8', 'replace').strip() or 'another process'} has the lease"
                )
            if stop.wait(LOOK_EVERY_S):
                os.close(handle)
                return False
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"{this_process()}\n".encode(), 0)
        self._spokesman.store(None)
        self._handle = handle
        return True

    def good_for(self) -> float:
        """For ever, while it is held: nobody takes a lock away."""
        return math.inf if self._handle is not None else 0.0

    def held(self) -> bool:
        """Whether it is held."""
        return self._handle is not None

    def write_within_s(self) -> float:
        """As long as it likes: the lock goes with the process. What is in the broker's hands by then may still arrive."""
        return math.inf

    def lost(self) -> bool:
        """Never."""
        return False

    def release(self) -> None:
        """As `Lease.release`."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


def _locked(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
