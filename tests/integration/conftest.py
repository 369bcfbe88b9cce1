"""Fixtures of the tests that run whole programs."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A segment folder on a tmpfs for this test alone, open to targets of other users."""
    path = Path(tempfile.mkdtemp(prefix="mem_profiler-test-", dir="/dev/shm"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path, ignore_errors=True)
