"""Whether this kernel has Landlock, and how much of it."""

import pytest

from mem_sandbox import syscalls


def landlock_version() -> int:
    """That of the kernel; 0: none."""
    try:
        return syscalls.call(444, 0, 0, 1)
    except OSError:
        return 0


NEEDS_LANDLOCK = pytest.mark.skipif(landlock_version() < 3, reason="needs Landlock")
NEEDS_SCOPES = pytest.mark.skipif(landlock_version() < 6, reason="needs Landlock's scopes")
