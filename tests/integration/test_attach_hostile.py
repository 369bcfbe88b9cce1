"""Root attaches to processes that lie, die or do not answer: nothing outside of them is touched."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from attach_run import Unprepared, begin, storm
from mem_parser.errors import MemError, ProcessGone, TargetBusy
from mem_profiler import attach as attaching
from mem_profiler._inject import lib
from mem_profiler.attach import kill_points, remote
from mem_profiler.attach.memory import Memory
from mem_sandbox import child
from sampler_run import build

NOBODY = 65534
STEPS = [str(step) for step in range(lib.MP_STEP_SEIZED, lib.MP_STEP_DETACHED + 1)]
# Stages in which the loader waits for the controller: no other is sure to be seen.
MOMENTS = [f"stage-{stage}" for stage in (lib.MP_LOADER_WANTS_LIBRARY, lib.MP_LOADER_DONE)]
MOMENTS += ["library-written", "acknowledged"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="makes a process of another user")


@pytest.fixture
def victim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that only we may write, and everybody may name."""
    path = tmp_path_factory.mktemp("victim") / "file"
    path.write_bytes(b"untouched")
    path.chmod(0o644)
    for folder in (path.parent, *path.parent.parents[:2]):
        folder.chmod(0o755)
    return path


@needs_root
@pytest.mark.parametrize("lie", ["descriptor", "address", "silence"])
def test_a_target_that_lies_to_the_loader_gains_nothing(
    lie: str, victim: Path, segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "ANSWER_S", 0.5 if lie == "silence" else 3.0)
    before = victim.stat().st_mtime_ns
    program = build("hostile_frame.c")
    with Unprepared([program, lie, victim], segment_dir, user=NOBODY, group=NOBODY) as target:
        assert target.line() == "ready"
        with contextlib.suppress(MemError):
            attaching.attach(target.pid)
        assert victim.read_bytes() == b"untouched"
        assert victim.stat().st_mtime_ns == before


@contextlib.contextmanager
def killed_at(point: str) -> Iterator[None]:
    """The target is killed where the controller comes to `point`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(kill_points.VARIABLE, point)
        patch.setenv(kill_points.WHO_VARIABLE, "target")
        yield


@pytest.mark.parametrize("point", STEPS + MOMENTS)
def test_a_target_that_is_killed_at_any_step_ends_the_attach(point: str, segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target:
        with killed_at(point), pytest.raises(ProcessGone):
            begin(target.pid) if point in STEPS else attaching.attach(target.pid)
        target.process.wait(timeout=30)
        assert target.process.returncode == -signal.SIGKILL


def test_a_target_that_is_killed_at_any_moment_ends_the_attach(segment_dir: Path) -> None:
    chance = random.Random(7)
    for _ in range(8):
        with storm("handler", segment_dir) as target:
            timer = threading.Timer(chance.uniform(0, 0.1), target.process.kill)
            timer.start()
            with contextlib.suppress(MemError):
                attaching.attach(target.pid)
            timer.join()


def test_writing_into_a_process_that_has_ended_is_an_error(segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target, Memory(target.pid, writable=True) as memory:
        target.kill()
        with pytest.raises(OSError, match="the process has ended"):
            memory.write(0x10000, bytes(1 << 20))


def test_a_reading_that_never_ends_is_given_up(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def for_ever(*_: object) -> None:
        while True:
            signal.pause()

    monkeypatch.setattr(remote, "_in_child", for_ever)
    monkeypatch.setattr(remote, "WHOLE_S", 0.3)
    with storm("handler", segment_dir) as target, pytest.raises(TargetBusy, match="did not answer"):
        attaching.attach(target.pid)


def test_the_user_is_heard_while_a_reading_never_ends(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "GRACE_S", 0.2)
    monkeypatch.setattr(remote, "_in_child", lambda *_: signal.pause())
    with storm("handler", segment_dir) as target, pytest.raises(attaching.Stopped):
        attaching.attach(target.pid, lambda: True)


def test_another_user_cannot_keep_us_from_attaching(segment_dir: Path) -> None:
    """What the lock is on can be opened only by who may trace the process."""
    if os.geteuid() != 0:
        pytest.skip("makes a process of another user")
    with storm("handler", segment_dir) as target:
        taker = os.fork()
        if taker == 0:
            os.setuid(NOBODY)
            try:
                os.open(f"/proc/{target.pid}/mem", os.O_RDONLY)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(taker, 0)[1] == 0
        attaching.attach(target.pid)
        attaching.detach(target.pid)
