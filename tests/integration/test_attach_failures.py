"""Attaching that fails, where it cannot work, or to processes that lie, die or do not answer: one
line says why, and the target is as it was found.
"""

import contextlib
import ctypes
import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mem_profiler
from attach_run import Unprepared, await_threads, begin, end_storm, mappings, signal_masks, storm
from controller_tools import (
    HeapFile,
    Stepper,
    command_ok,
    run_command,
    small_disk,
    start_command,
    wait_until,
)
from mem_parser.errors import (
    MemError,
    PermissionDenied,
    ProcessGone,
    TargetBusy,
    TargetError,
    TargetUnsupported,
)
from mem_profiler import attach as attaching
from mem_profiler._inject import lib
from mem_profiler.attach import kill_points, remote
from mem_profiler.attach.memory import Memory
from mem_profiler.attach.remote import BEGIN, Command
from mem_profiler.doctor import examine_process, first_blocker, neighbours
from mem_profiler.process import procfs
from mem_profiler.segment import discovery
from mem_sandbox import child
from sampler_run import build


@contextmanager
def put_back(folder: Path, program: str = "registers.c") -> Iterator[Unprepared]:
    """A target in which an attach fails; at the end it is looked at, and attached to after all."""
    with Unprepared.started([build(program)], folder) as target:
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
    with (
        Unprepared.started([build("registers.c")], segment_dir) as target,
        monkeypatch.context() as patch,
    ):
        patch.setattr(mem_profiler, "library_path", lambda: other)
        with pytest.raises(TargetUnsupported, match="lacks mem_profiler_attach"):
            remote.run(target.pid, Command(BEGIN))
        assert target.ask("hello").startswith("same")
        target.finish()


def test_another_version_of_the_sampler_is_not_mixed_with_the_first(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = build("plugin.c", "-shared", "-fPIC", "-DNAME=c", "-DSIZE=9", "-Wl,--build-id")
    with Unprepared.started([build("registers.c")], segment_dir) as target:
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
    with Unprepared.started(
        [build("registers.c")], segment_dir, preexec_fn=deny_executable_memory
    ) as target:
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
    with (
        Unprepared.started([stepper], tmp_path) as target,
        small_disk(tmp_path / "small", "4k") as small,
    ):
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
        saved = command_ok(*hint[1].split(), "-o", tmp_path / "p")
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
        saved = command_ok("recover", target.pid, "-o", tmp_path / "p")
        assert "had ended" not in saved.stdout
        assert "started another program (exec)" in saved.stdout


NOBODY = 65534
MEMFD_CREATE, CLONE3, UNUSED = 319, 435, 500
MMAP, MPROTECT, MUNMAP = 9, 10, 11
x86_64_only = pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")


def in_child(action: Callable[[], object], uid: int | None = None) -> str:
    """Do it in a forked child, as another user: "" or the kind and text of the error."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        said = ""
        try:
            if uid is not None:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
            action()
        except MemError as error:
            said = f"{type(error).__name__}: {error}"
        except BaseException as error:
            said = f"unexpected {error!r}"
        finally:
            os.write(write, said.encode())
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def test_a_process_that_dies_at_once_is_gone(segment_dir: Path) -> None:
    for _ in range(5):
        child = subprocess.Popen(["true"])
        try:
            attaching.attach(child.pid)
        except TargetError:
            pass
        assert child.wait(20) == 0


def test_a_process_killed_meanwhile_is_gone(segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target:

        def kill_it() -> bool:
            target.kill()
            return False

        with pytest.raises(ProcessGone):
            attaching.attach(target.pid, asked_to_stop=kill_it)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_users_process_is_refused_and_ones_own_is_not(segment_dir: Path) -> None:
    with storm("handler", segment_dir) as target:
        said = in_child(lambda: attaching.attach(target.pid), NOBODY)
        reason = f"No permission to trace pid {target.pid}: its owner is root"
        assert said == f"{PermissionDenied.__name__}: {reason}"
        end_storm(target)

    drop = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    with Unprepared.started([build("storm.c"), "handler"], segment_dir, **drop) as target:

        def both() -> None:
            attaching.attach(target.pid)
            attaching.detach(target.pid)

        assert in_child(both, NOBODY) == ""
        both()  # as root
        end_storm(target)


@x86_64_only
@pytest.mark.parametrize("action", ["kill", "trap"])
def test_a_filter_that_would_kill_is_seen_beforehand(action: str, segment_dir: Path) -> None:
    filtered = build("filtered.c")
    with Unprepared.started([filtered, action, str(MEMFD_CREATE)], segment_dir) as target:
        with pytest.raises(TargetUnsupported, match="memfd_create"):
            attaching.attach(target.pid)
        assert "libmem_sampler" not in " ".join(mappings(target.pid))
        target.finish()


@x86_64_only
def test_a_filter_that_refuses_is_coped_with_or_told(segment_dir: Path) -> None:
    filtered = build("filtered.c")
    refusals = {
        UNUSED: "", MEMFD_CREATE: "", CLONE3: "cannot make a new thread",
        MMAP: "may not map new memory", MPROTECT: "denies new executable memory",
    }  # fmt: skip
    for number, fails in refusals.items():
        with Unprepared.started([filtered, "errno", str(number)], segment_dir) as target:
            if fails:
                with pytest.raises(TargetError, match=fails):
                    attaching.attach(target.pid)
            else:
                attaching.attach(target.pid)
                attaching.detach(target.pid)
            target.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own")
def test_a_container_needs_no_file_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other mount and pid namespaces, an empty /dev/shm, none of the folders of this tree."""
    program = build("storm.c")
    tree = program.parents[2]
    script = (
        f'cp "$0" /run/target && mount -t tmpfs none {tree} && mount -t tmpfs none /tmp'
        " && mount -t tmpfs none /dev/shm && exec /run/target handler"
    )
    shell = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
    monkeypatch.delenv("MEM_PROFILER_DIR", raising=False)
    with Unprepared.started(
        [*shell, f"mount -t tmpfs none /run && {script}", program], tmp_path
    ) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        [pid] = map(int, children.read_text().split())
        command_ok("-s", "0.3", "-c", "1", "-p", pid, "-o", tmp_path / "c")
        assert list(tmp_path.glob(f"c.{pid}.1.heap"))
        assert outer.finish().startswith("rounds")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs namespaces of its own")
def test_a_user_namespace_is_no_hindrance(segment_dir: Path) -> None:
    shell = ["unshare", "--user", "--map-root-user", "--kill-child", "--fork"]
    with Unprepared.started([*shell, build("storm.c"), "handler"], segment_dir) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        [pid] = map(int, children.read_text().split())
        attaching.attach(pid)
        attaching.detach(pid)
        assert outer.finish().startswith("rounds")


def test_ctrl_c_ends_a_capture_early_writes_the_file_and_detaches(
    segment_dir: Path, tmp_path: Path
) -> None:
    with storm("threads", segment_dir) as target:
        with start_command("-s", "60", "-p", target.pid, "-o", tmp_path / "p") as capture:
            wait_until(lambda: is_capturing(target.pid), "it captures")
            capture.send_signal(signal.SIGINT)
            output, errors = capture.communicate(timeout=60)
        assert capture.returncode == 0, errors
        assert "interrupted" in output
        assert "detached from" in errors
        assert not attaching.is_attached(target.pid)
        end_storm(target)


def is_capturing(pid: int) -> bool:
    try:
        with discovery.open_process(pid, writable=False) as segment:
            return segment.control().gate_capture != 0
    except TargetError:
        return False


def test_a_process_that_starts_another_program_meanwhile_is_left_alone(segment_dir: Path) -> None:
    with Unprepared.started([build("stepper.c")], segment_dir) as target:
        program = build("stepper.c")

        def exec_it() -> bool:
            target.tell(f"x {program}")
            assert target.line() == "ok"
            return False

        with pytest.raises(TargetError):  # here, and not in a child, which has no pipe to it
            remote._in_child(target.pid, remote.Command(remote.BEGIN), exec_it)
        assert target.ask("a 1 40") == "ok"
        target.finish()


@pytest.mark.skipif(shutil.which("gdb") is None, reason="gdb is not installed")
def test_a_debugger_finds_nothing_of_ours_on_any_stack_afterwards(segment_dir: Path) -> None:
    with storm("malloc", segment_dir) as target:
        attaching.attach(target.pid)
        attaching.detach(target.pid)
        text = "mp_"

        def is_out_of_hooks() -> bool:
            nonlocal text
            text = stacks_of(target.pid)
            return "mp_" not in text

        wait_until(is_out_of_hooks, "no thread is in a hook")
        assert text.count("sit_in_malloc") >= 1
        assert "libmem_sampler" not in text
        end_storm(target)


def stacks_of(pid: int) -> str:
    return subprocess.run(
        ["gdb", "-q", "-nx", "-batch", "-p", str(pid), "-ex", "thread apply all bt"],
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout


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
    with Unprepared.started(
        [program, lie, victim], segment_dir, user=NOBODY, group=NOBODY
    ) as target:
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
