"""Accesses to a control page whose file its owner cut: an error code, in every thread."""

from __future__ import annotations

import errno
import subprocess
import sys

from controller_tools import command_environment

# A process of its own: the threads race for the first access, which installs the guard.
PROGRAM = """
import tempfile, threading
from mem_profiler._core import ffi, lib
file = tempfile.TemporaryFile()
file.truncate(1 << 20)
page = lib.mp_control_map(file.fileno())
file.truncate(0)
start, codes = threading.Barrier(8), []
def access():
    start.wait(30)
    codes.append(lib.mp_load64(page, 8, ffi.new("uint64_t *")))
    codes.append(lib.mp_store32(page, 8, 1))
    codes.append(lib.mp_cas64(page, 8, 0, 1))
threads = [threading.Thread(target=access) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(*codes)
"""


def test_every_access_of_every_thread_to_a_cut_file_is_an_error_code() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=command_environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [str(-errno.EFAULT)] * 24
