"""Programs that are watched while they run, and what is asked of those who watch."""

import sys
import time
from pathlib import Path

from mem_profiler.capture.recorder import Pace
from mem_profiler.live.watched import State, Watched
from sampler_run import WAIT_S, Target, environment, segments

OFTEN = Pace(tick_s=0.01, cost_share=1.0)
PROGRAM = """
import os, sys
kept = []
print("ready", flush=True)
for line in sys.stdin:
    if line.strip() == "exec":
        os.execv("/bin/cat", ["cat"])
    if line.strip() == "exec without":
        os.execve("/bin/cat", ["cat"], {})
    if line.strip() == "fork":
        if not os.fork():
            kept.append(bytearray(9_000_000))
            os._exit(0)
        os.wait()
    else:
        kept.append(bytearray(int(line)))
    print("ok", flush=True)
"""
"""Keeps a block of each size that it is told."""
COMMAND = [sys.executable, "-c", PROGRAM]


def keeper(folder: Path, rate: int | None = None) -> Target:
    """The program with the sampler, which captures from the start if there is a rate."""
    return Target(COMMAND, environment(folder, rate=rate))


def held(watched: Watched) -> int:
    """The bytes in use that the latest capture has counted."""
    moment = watched.moment()
    return int(moment.profiles[0].sites.inuse_bytes.sum())


def until(watched: Watched, state: State) -> None:
    """Watch until the process does that."""
    give_up = time.monotonic() + WAIT_S
    while watched.tick() is not state:
        assert time.monotonic() < give_up
        time.sleep(0.01)


def content(target: Target) -> bytes:
    """All that is in the segment of a program."""
    [path] = segments(target.folder)
    with path.open("rb") as file:
        return file.read()
