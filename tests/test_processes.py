"""Properties shared by all processes, as the kernel sees them."""

import subprocess
import sys

import pytest

CHURN = """
import ctypes, resource, sys
from megalith.processes import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def step():
    blocks = [c.malloc(8 * 2**20) for _ in range(8)]
    for block in blocks:
        ctypes.memset(block, 1, 8 * 2**20)
    for block in blocks:
        c.free(block)
step()
step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", CHURN, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_process_that_keeps_its_freed_memory_is_given_no_new_pages_by_the_kernel() -> None:
    """A step of 64 MB in pieces of 8, as a small model's; 4 KB a page."""
    assert page_faults("leave") > 5 * 64 * 2**20 / 4096 / 4
    assert page_faults("keep") < 100


HOLES = """
import ctypes, sys
from pathlib import Path
from megalith.processes import return_freed_memory
if sys.argv[1] == "return":
    return_freed_memory()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])
c.free(c.malloc(16 * 2**20))  # glibc takes smaller blocks from the heap from now on
before = resident()
blocks = [c.malloc(2**20) for _ in range(100)]
for block in blocks:
    ctypes.memset(block, 1, 2**20)
for block in blocks[:-1]:  # the last one holds the heap up
    c.free(block)
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mallopt is glibc's")
def test_a_server_gives_back_what_it_frees_below_a_block_that_lives() -> None:
    left = {
        mode: int(
            subprocess.run([sys.executable, "-c", HOLES, mode], capture_output=True, text=True, check=True).stdout
        )
        for mode in ("leave", "return")
    }
    assert left["leave"] > 90 * 2**20
    assert left["return"] < 10 * 2**20
