"""Memory that is freed stays with the process, for the next poll.

Each poll makes some MB of arrays and frees them. By itself the C library gives that back to the system at once, and takes it
again page by page: a third of what decoding a poll costs.
"""

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_MMAP_BYTES = 32 * 1024 * 1024
"""Blocks below this size come from the heap. The most the library takes; it goes there by itself once it freed one of that size."""
_TRIM_BYTES = 64 * 1024 * 1024
"""So much free memory at the end of the heap is kept."""


def keep_heap() -> bool:
    """For a process that works on polls, at its start. False, and nothing done, where the C library has no such settings."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _MMAP_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _TRIM_BYTES))
