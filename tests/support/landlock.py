"""Whether this kernel has Landlock, and how much of it."""

from __future__ import annotations

import pytest

from mem_profiler._core import lib


def landlock_version() -> int:
    """That of the kernel; 0: none."""
    return max(0, int(lib.mp_syscall(444, 0, 0, 1, 0, 0)))


NEEDS_LANDLOCK = pytest.mark.skipif(landlock_version() < 3, reason="needs Landlock")
NEEDS_SCOPES = pytest.mark.skipif(landlock_version() < 6, reason="needs Landlock's scopes")
