"""A program that was started again is found; others are not taken for it."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import wait_until
from mem_profiler.live import successor, watched
from mem_profiler.live.successor import Identity
from mem_profiler.process import cgroup

WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"


def started(stack: contextlib.ExitStack, *arguments: str) -> subprocess.Popen[str]:
    child = stack.enter_context(
        subprocess.Popen([sys.executable, "-c", WAIT, *arguments], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, text=True)
    )  # fmt: skip
    stack.callback(child.kill)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def identity(child: subprocess.Popen[str]) -> Identity:
    found = Identity.of(child.pid)
    assert found is not None
    return found


def test_the_one_of_the_same_command_line_that_was_started_later_is_found() -> None:
    with contextlib.ExitStack() as stack:
        earlier = started(stack, "serve-this")
        first = started(stack, "serve-this")
        ended = identity(first)
        first.kill()
        first.wait(timeout=60)
        assert identity(earlier).started_ticks <= ended.started_ticks
        seen_s = watched._since_boot_s()
        started(stack, "serve-other")
        again = started(stack, "serve-this")
        earlier.kill()
        earlier.wait(timeout=60)
        assert successor.find(ended, seen_s) == [again.pid]


def test_a_worker_that_was_there_all_along_does_not_take_the_place_of_one_that_was_killed() -> None:
    with contextlib.ExitStack() as stack:
        first = started(stack, "serve-workers")
        ended = identity(first)
        others = [started(stack, "serve-workers") for _ in range(2)]
        seen_s = identity(others[1]).started_ticks / os.sysconf("SC_CLK_TCK") + 0.015
        first.kill()
        first.wait(timeout=60)
        assert successor.find(ended, seen_s) == []
        # Of another parent, as after a restart without a gap: any of them.
        of_other = dataclasses.replace(ended, parent=1)
        assert successor.find(of_other, seen_s) == [one.pid for one in others]
        wait_until(lambda: watched._since_boot_s() > seen_s + 0.02, "the next clock ticks")
        again = started(stack, "serve-workers")
        assert successor.find(ended, seen_s) == [again.pid]


def test_without_one_there_is_none() -> None:
    with contextlib.ExitStack() as stack:
        first = started(stack, "serve-alone")
        ended = identity(first)
        first.kill()
        first.wait(timeout=60)
        started(stack, "serve-other")
        assert Identity.of(ended.pid) is None
        assert successor.find(ended, watched._since_boot_s()) == []


@pytest.mark.parametrize(
    ("line", "unit"),
    [
        ("0::/system.slice/redis.service", "/system.slice/redis.service"),
        ("0::/user.slice/user-0.slice/session-1.scope", ""),
        ("0::/", ""),
        ("1:name=systemd:/system.slice/a.service", "/system.slice/a.service"),
        ("4:memory:/system.slice/a.service", ""),
    ],
)
def test_only_a_group_of_one_service_tells_who_belongs_together(
    tmp_path: Path, line: str, unit: str
) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "cgroup").write_text(f"{line}\n", encoding="ascii")
    assert cgroup.unit_of(7, proc=tmp_path) == unit
