"""Attaching that fails half-way: one line says why, and the target is put back as it was found."""

from __future__ import annotations

import ctypes
import json
import os
import re
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mem_profiler
from attach_run import Unprepared, await_threads, mappings, signal_masks
from controller_tools import HeapFile, Stepper, run_command, small_disk, wait_until
from mem_parser.errors import TargetBusy, TargetError, TargetUnsupported
from mem_profiler import attach as attaching
from mem_profiler.attach import remote
from mem_profiler.attach.remote import BEGIN, Command
from mem_profiler.doctor import examine_process, first_blocker, neighbours
from mem_profiler.process import procfs
from sampler_run import build


@contextmanager
def put_back(folder: Path, program: str = "registers.c") -> Iterator[Unprepared]:
    """A target in which an attach fails; at the end it is looked at, and attached to after all."""
    with Unprepared([build(program)], folder) as target:
        assert target.line() == "ready"
        before, masks = mappings(target.pid), signal_masks(target.pid, 1)
        yield target
        assert mappings(target.pid) == before
        assert signal_masks(target.pid, 1) == masks
        assert target.ask("hello").startswith("same")
        if program == "registers.c":
            attaching.attach(target.pid)
            attaching.detach(target.pid)
            assert target.ask("hello").startswith("same")
        target.finish()


@contextmanager
def address_space(pid: int, more_bytes: int) -> Iterator[None]:
    """The process may map so much more."""
    size = procfs.status(pid)
    assert size is not None
    old = resource.prlimit(pid, resource.RLIMIT_AS)
    resource.prlimit(pid, resource.RLIMIT_AS, (size.sizes["VmSize"] + more_bytes, old[1]))
    yield
    resource.prlimit(pid, resource.RLIMIT_AS, old)


@pytest.mark.parametrize(
    ("more_bytes", "message"),
    [
        (64 << 10, "not map new memory: Cannot allocate memory"),
        (800 << 10, "cannot make a new thread"),
    ],
)
def test_no_memory_for_the_region_or_for_a_thread(
    more_bytes: int, message: str, segment_dir: Path
) -> None:
    with (
        put_back(segment_dir) as target,
        address_space(target.pid, more_bytes),
        pytest.raises(TargetError, match=message),
    ):
        attaching.attach(target.pid)


def test_a_lock_that_the_borrowed_thread_itself_holds(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BORROW_MS", 300)
    with (
        put_back(segment_dir, "held_lock.c") as target,
        pytest.raises(TargetBusy, match="restored it"),
    ):
        remote.run(target.pid, Command(BEGIN))


def test_a_library_that_cannot_be_opened(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = tmp_path / "libmem_sampler.so"
    wrong.write_bytes(b"\x7fELF" + bytes(1000))
    with put_back(segment_dir) as target, monkeypatch.context() as patch:
        patch.setattr(mem_profiler, "library_path", lambda: wrong)
        with pytest.raises(TargetUnsupported, match=r"cannot open the sampler: .*ELF"):
            remote.run(target.pid, Command(BEGIN))


def test_a_library_without_the_function(segment_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = build("plugin.c", "-shared", "-fPIC", "-DNAME=c", "-DSIZE=9", out="not_sampler.so")
    with Unprepared([build("registers.c")], segment_dir) as target, monkeypatch.context() as patch:
        assert target.line() == "ready"
        patch.setattr(mem_profiler, "library_path", lambda: other)
        with pytest.raises(TargetUnsupported, match="lacks mem_profiler_attach"):
            remote.run(target.pid, Command(BEGIN))
        assert target.ask("hello").startswith("same")
        target.finish()


def test_another_version_of_the_sampler_is_not_mixed_with_the_first(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build("plugin.c", "-shared", "-fPIC", "-DNAME=c", "-DSIZE=9", "-Wl,--build-id")
    with Unprepared([build("registers.c")], segment_dir) as target:
        assert target.line() == "ready"
        attaching.attach(target.pid)
        attaching.detach(target.pid)
        build_name = run_command("--version").stdout.split()[-1]
        with monkeypatch.context() as patch:
            patch.setattr(mem_profiler, "library_path", lambda: other)
            said = f"the sampler in it is of another build, {build_name}"
            blocker = first_blocker(examine_process(target.pid))
            assert (blocker.text if blocker else "") == said
            with pytest.raises(TargetUnsupported, match=f"pid {target.pid}: {said}"):
                attaching.attach(target.pid)
            patch.setattr(neighbours, "sampler_build", lambda *_: [])  # a file that is unreadable
            with pytest.raises(TargetUnsupported, match=f"pid {target.pid}: {said}"):
                attaching.attach(target.pid)
        assert first_blocker(examine_process(target.pid)) is None
        attaching.attach(target.pid)
        attaching.detach(target.pid)
        target.finish()


def test_a_loader_that_gets_no_answer_gives_up_by_itself(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    never_written: Callable[[object], None] = lambda _self: None  # noqa: E731
    with put_back(segment_dir) as target, monkeypatch.context() as patch:
        patch.setattr(remote._Talk, "_hand_over", never_written)
        patch.setattr(remote, "ANSWER_S", 0.2)
        with pytest.raises(TargetBusy, match="has not answered"):
            attaching.attach(target.pid)
        await_threads(target.pid, 1)


def deny_executable_memory() -> None:
    """For the time between fork and exec: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)."""
    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)


def mdwe_is_known() -> bool:
    """Whether the kernel has it (since 6.3)."""
    return int(ctypes.CDLL(None).prctl(66, 0, 0, 0, 0)) >= 0


@pytest.mark.skipif(not mdwe_is_known(), reason="the kernel has no MDWE")
def test_a_process_that_denies_new_executable_memory_is_told_so(segment_dir: Path) -> None:
    with Unprepared(
        [build("registers.c")], segment_dir, preexec_fn=deny_executable_memory
    ) as target:
        assert target.line() == "ready"
        before, masks = mappings(target.pid), signal_masks(target.pid, 1)
        with pytest.raises(TargetUnsupported) as refused:
            attaching.attach(target.pid)
        assert str(refused.value) == (
            f"pid {target.pid}: it denies new executable memory"
            " (MDWE, systemd's MemoryDenyWriteExecute=)"
        )
        assert mappings(target.pid) == before
        assert signal_masks(target.pid, 1) == masks
        assert target.ask("hello").startswith("same")
        target.finish()


@pytest.mark.usefixtures("segment_dir")
def test_a_capture_that_found_the_disk_full_is_kept_and_the_hint_saves_it(
    stepper: Path, tmp_path: Path
) -> None:
    with Unprepared([stepper], tmp_path) as target, small_disk(tmp_path / "small", "4k") as small:
        assert target.line() == "ok"
        (small / "filler").write_bytes(bytes(4096))
        full = run_command("-s", "0.5", "-c", "1", "-p", target.pid, "-o", small / "x")
        assert full.returncode == 8, full.stderr
        assert os.listdir(small) == ["filler"]

        listed = run_command("ps").stdout
        assert f"  detached, not written: mem_profiler recover {target.pid}\n" in listed
        rows = json.loads(run_command("ps", "--json").stdout)["processes"]
        [row] = [one for one in rows if one["pid"] == target.pid]
        assert row["dead"] is False
        assert row["rss_bytes"] > 0

        hint = re.search(r"save it with mem_profiler (.*) -o PREFIX", full.stderr)
        assert hint, full.stderr
        saved = run_command(*hint[1].split(), "-o", tmp_path / "p")
        assert saved.returncode == 0, saved.stderr
        assert "had ended" not in saved.stdout
        [heap] = map(HeapFile, tmp_path.glob("p.*.heap"))
        assert (heap.header["kind"], heap.header["end"]) == ("capture", "deadline")
        assert f"recover {target.pid}\n" not in run_command("ps", "--all").stdout
        assert run_command("stop", target.pid).returncode == 4


def test_a_snapshot_that_found_the_disk_full_does_not_advise_to_end_the_capture(
    stepper: Path, tmp_path: Path
) -> None:
    with Stepper(stepper, MEM_PROFILER_START="1") as target:
        with small_disk(tmp_path / "small", "4k") as small:
            (small / "filler").write_bytes(bytes(4096))
            full = run_command("snapshot", target.pid, "-o", small / "x")
        assert full.returncode == 8, full.stderr
        assert f"save it with mem_profiler snapshot {target.pid} -o PREFIX" in full.stderr


def test_a_capture_from_before_an_exec_is_not_that_of_a_dead_process(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    with Stepper(stepper, MEM_PROFILER_START="1") as target:
        target.tell("a 30 100")
        target.send("x /bin/cat")
        wait_until(lambda: procfs.comm(target.pid) == "cat", "the exec")
        listed = run_command("ps").stdout
        assert f"before exec, not written: mem_profiler recover {target.pid}" in listed
        saved = run_command("recover", target.pid, "-o", tmp_path / "p")
        assert saved.returncode == 0, saved.stderr
        assert "had ended" not in saved.stdout
        assert "started another program (exec)" in saved.stdout
