"""A plain counter beneath the sampler: what the sampler has recorded must be what the counter saw.

Model: tests/targets/beneath.c is preloaded behind the sampler, and so is the real allocator to it.
It counts each successful call from the first one on, before any constructor has run.
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sampler_run
from sampler_run import WAIT_S, Counted


@dataclass(frozen=True)
class Seen:
    """Blocks and bytes that a process allocated, by its counter."""

    blocks: int
    bytes: int


def library() -> Path:
    """The counter, as a library to preload."""
    return sampler_run.build("beneath.c", "-shared", "-fPIC", out="beneath.so")


def environment(folder: Path, counts: Path, **settings: str) -> dict[str, str]:
    """Environment of a program that captures every block, with the counter beneath."""
    counts.mkdir(exist_ok=True)
    variables = sampler_run.environment(folder, rate=1, preload=[library()], **settings)
    return variables | {"BENEATH_DIR": str(counts)}


def seen(counts: Path, pid: int, image: int = 0) -> Seen:
    """What the counter saw in one program image of a process."""
    return Seen(*struct.unpack("=QQ", (counts / f"{pid}-{image}").read_bytes()[:16]))


def run(
    argv: Sequence[str | Path], folder: Path, counts: Path, **variables: str
) -> tuple[Counted, Seen]:
    """Run a program to its successful end; what the sampler has of it, and what the counter saw."""
    process = subprocess.Popen(
        [str(part) for part in argv],
        env={**os.environ, **environment(folder, counts), **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        _, errors = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors.decode(errors="replace")
    [path] = [p for p in sampler_run.segments(folder) if p.name.startswith(f"{process.pid}-")]
    return Counted.read(path), seen(counts, process.pid)
