"""Freed memory stays with the process. In processes of their own, for it is a setting of the whole process."""

import subprocess
import sys

import pytest

_POLLS = """
import resource, sys
import numpy as np
from sinks.heap import keep_heap

kept = keep_heap() if sys.argv[1] == "kept" else True

def poll():
    for array in [np.empty(1 << 20, np.uint8) for _ in range(8)]:
        array.fill(1)

poll()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    poll()
print(int(kept), resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _POLLS, how], capture_output=True, text=True, check=True)
    kept, faults = map(int, done.stdout.split())
    if not kept:
        pytest.skip("this C library has no such settings")
    return faults


def test_memory_of_a_poll_is_not_taken_from_the_system_again_for_the_next() -> None:
    assert _faults("kept") < 2000 < _faults("as it is")
