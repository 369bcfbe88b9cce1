"""Folders, segments and results beside those of other users: none is believed or followed."""

import contextlib
import dataclasses
import errno
import fcntl
import os
import select
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller_tools import command, command_environment, command_ok, run_command
from fake_segment import FakeSegment
from mem_parser.errors import MemError, NoSampler, UsageProblem
from mem_parser.memscope.form import Folders
from mem_parser.memscope.settings import Settings
from mem_parser.plainfile import NotPlainError
from mem_profiler.capture import listing
from mem_profiler.inprocess import server
from mem_profiler.memscope import recovery, tree
from mem_profiler.memscope.calls import TraceFile
from mem_profiler.memscope.run import remove_events
from mem_profiler.memscope.siderows import SideRows, row_now
from mem_profiler.memscope.watchfiles import WatchFiles
from mem_profiler.process import foreign, procfs
from mem_profiler.process.procfs import Mapping
from mem_profiler.segment import devices, discovery, folders, layout, leftovers
from mem_profiler.segment.file import Segment
from mem_profiler.segment.folders import RunFolder
from sampler_run import build

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes files of another user"),
    pytest.mark.usefixtures("sampler", "segment_dir"),
]
NOBODY = 65534


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A base folder like /dev/shm: everybody may make things there."""
    path = Path(tempfile.mkdtemp(prefix="mem_profiler-test-", dir="/dev/shm"))
    path.chmod(0o1777)
    monkeypatch.setenv("MEM_PROFILER_DIR", str(path))
    yield path
    shutil.rmtree(path)


def as_nobody(work: Callable[[], object]) -> int:
    """Run something as another user; the errno it fails with, 0 for none."""
    child = os.fork()
    if child == 0:
        code = 255
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            work()
            code = 0
        except OSError as error:
            code = error.errno or 254
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def left_behind(folder: Path, pid: int = 1, ticks: int = 1) -> Path:
    """A segment of a dead process that nobody wrote yet."""
    fake = FakeSegment()
    fake.control["pid"], fake.control["start_ticks"] = pid, ticks
    fake.begin(rate=1)
    saved = fake.save(folder)
    path = folder / f"{pid}-{ticks}-0"
    saved.rename(path)
    path.chmod(0o600)
    os.utime(path, (1, 1))
    return path


def private(base: Path, uid: int, name: str = "") -> Path:
    path = base / (name or f"mem_profiler.{uid}")
    path.mkdir(mode=0o700)
    os.chown(path, uid, uid)
    return path


def test_a_run_has_a_folder_that_nobody_else_can_enter_or_foresee(shared: Path) -> None:
    one, two = RunFolder(), RunFolder()
    assert one.path.name != two.path.name
    assert stat.S_IMODE(one.path.stat().st_mode) == 0o700
    assert as_nobody(lambda: (one.path / "plan").write_bytes(b"x")) == errno.EACCES
    one.remove()
    two.remove()
    assert list(shared.iterdir()) == []


def test_a_folder_of_a_run_that_another_user_took_first_is_not_used(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter([bytes(8), b"\x11" * 8])
    monkeypatch.setattr("os.urandom", lambda _: next(names))
    taken = shared / ("mem_profiler.run-" + "0" * 16)
    assert as_nobody(lambda: taken.mkdir(mode=0o777)) == 0
    run = RunFolder()
    assert run.path.name.endswith("1" * 16)
    run.remove()


def test_what_a_run_believes_is_its_own(shared: Path, tmp_path: Path) -> None:
    """Another user leaves segments with the program's number wherever he can: none counts."""
    program = build("family.c")
    script = tmp_path / "program"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec {program}\n")
    script.chmod(0o755)
    forged = private(shared, NOBODY)
    for number in range(1, 50):
        (forged / f"{number}-1-0").write_bytes(b"")
    command_ok("run", "-o", str(tmp_path / "x"), "--", str(script))
    [heap] = tmp_path.glob("x.*.heap")
    assert b'"uid":0' in heap.read_bytes().replace(b" ", b"")
    assert sorted(p.name for p in shared.iterdir()) == [forged.name]


def test_a_program_that_changes_its_user_is_followed(shared: Path, tmp_path: Path) -> None:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("setpriv is not installed")
    tmp_path.chmod(0o755)
    program = tmp_path / "program"
    shutil.copy(build("blocks.c"), program)
    for folder in (tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    done = subprocess.run(
        [*command("run"), "-c", "1", "-o", str(tmp_path / "x"), "--", setpriv,
         f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", str(program)],
        input="alloc 3 100\n", env=command_environment(), capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [heap] = tmp_path.glob("x.*.heap")
    assert f'"uid":{NOBODY},' in heap.read_text("utf-8", "replace"), done.stderr


@pytest.mark.parametrize("forge", ["owner", "mode", "link", "name"])
def test_a_folder_that_is_not_its_users_own_is_left_alone(forge: str, shared: Path) -> None:
    path = private(shared, NOBODY if forge in ("owner", "name") else 0, "mem_profiler.0")
    segment = left_behind(path)
    if forge == "mode":
        path.chmod(0o755)
    if forge == "link":
        elsewhere = path.rename(shared / "elsewhere")
        path.symlink_to(elsewhere)
        segment = elsewhere / segment.name
    assert leftovers.in_folders() == []
    run_command("clean", "--all")
    assert segment.exists()


def test_a_segment_of_another_user_in_our_folder_is_left_alone(shared: Path) -> None:
    path = left_behind(private(shared, 0))
    os.chown(path, NOBODY, NOBODY)
    assert leftovers.in_folders() == []


def test_a_folder_that_is_swapped_while_it_is_cleaned_is_not_followed(shared: Path) -> None:
    mine = private(shared, NOBODY)
    segment = left_behind(mine)
    os.chown(segment, NOBODY, NOBODY)
    [found] = leftovers.in_folders()
    target = private(shared, 0, "precious")
    precious = target / segment.name
    os.link(segment, precious)
    mine.rename(shared / "aside")
    mine.symlink_to(target)
    assert not leftovers.remove(found)
    assert precious.exists()


def test_a_run_that_begins_while_another_cleans_keeps_its_folder(shared: Path) -> None:
    run = RunFolder()
    folders.remove_unused_runs()
    assert run.path.is_dir()
    os.close(run.fd)  # as if the controller had been killed
    folders.remove_unused_runs()
    assert not run.path.exists()


@pytest.mark.parametrize("kind", ["device", "pipe", "link"])
def test_nothing_but_a_regular_file_is_opened_as_a_segment(kind: str, shared: Path) -> None:
    folder = private(shared, 0)
    path = folder / "1-1-0"
    if kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    assert leftovers.in_folders() == []
    [user] = [(f.uid, f.files()) for f in folders.everywhere()]
    assert user == (0, ["1-1-0"])


@pytest.mark.parametrize("path", ["/dev/null", "/dev/shm", "/proc/self/mem"])
def test_root_opens_no_device_that_a_process_says_it_has_mapped(path: str) -> None:
    status = os.stat(path)
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    mapping = Mapping(0x1000, 0x2000, "rw-s", 0, device, status.st_ino, path, b"")
    with subprocess.Popen(["sleep", "60"], user=NOBODY) as process:
        try:
            with pytest.raises((NotPlainError, OSError, MemError)) as refused:
                foreign.open_mapped(process.pid, mapping, os.O_RDWR)
        finally:
            process.kill()
    assert "answer" not in str(refused.value)


def test_what_another_user_has_mapped_comes_by_descriptor(shared: Path) -> None:
    """The file of root that the process has mapped, and no other, is what is opened."""
    program = Path(os.path.realpath(shutil.which("sleep") or ""))
    with subprocess.Popen(["sleep", "60"], user=NOBODY) as process:
        try:
            [mapping, *_] = [m for m in procfs.maps(process.pid) if m.path == str(program)]
            fd = foreign.open_mapped(process.pid, mapping, os.O_RDONLY)
            assert os.path.samestat(os.fstat(fd), program.stat())
            os.close(fd)
        finally:
            process.kill()


def test_thousands_of_dead_segments_are_counted_and_the_latest_shown(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = private(shared, 0)
    first = left_behind(folder)
    for ticks in range(2, 1001):
        os.link(first, folder / f"1-{ticks}-0")
    monkeypatch.setattr(leftovers.in_folders, "__defaults__", (None, 200, discovery.scan))
    monkeypatch.setattr(leftovers.count_beyond, "__defaults__", (200,))
    found = listing.listing()
    assert len([row for row in found.rows if row.dead]) == listing.DEAD_MAX
    assert found.more == 1000 - listing.DEAD_MAX


def test_a_forged_segment_cannot_take_the_listing_down(shared: Path) -> None:
    folder = private(shared, 0)
    good = left_behind(folder, ticks=9)
    forged = left_behind(folder, ticks=8)
    with Segment.open(forged, writable=True) as segment:
        segment.store(("sites", "level", 0, "rows"), 1 << 31, 32)
    rows = [row for row in listing.listing().rows if row.dead]
    assert [row.state for row in rows] == ["dead, not written"] * 2
    with contextlib.suppress(FileNotFoundError):
        good.unlink()


def test_names_that_are_none_of_ours_hide_no_folder(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "ENTRIES_MAX", 3)
    for number in range(50):
        (shared / f"junk-{number}").touch()
    left_behind(private(shared, 0))
    assert len(leftovers.in_folders()) == 1


def test_a_user_with_many_folders_has_no_more_to_look_at(shared: Path) -> None:
    for number in range(5):
        folder = private(shared, NOBODY, f"mem_profiler.{NOBODY}.{number:016x}")
        for ticks in range(1, 5):
            os.chown(left_behind(folder, ticks=ticks), NOBODY, NOBODY)
    mine = left_behind(private(shared, 0))
    found = leftovers.in_folders(most=7)
    assert len([one for one in found if one.uid == NOBODY]) == 7
    assert [one.path for one in found if one.uid == 0] == [str(mine)]


def test_what_another_user_left_under_a_pid_does_not_keep_ours_from_being_written(
    shared: Path, tmp_path: Path
) -> None:
    forged = left_behind(private(shared, NOBODY, f"mem_profiler.{NOBODY}"), pid=3999998)
    os.chown(forged, NOBODY, NOBODY)
    left_behind(private(shared, 0), pid=3999998)
    with forged.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = run_command("recover", "3999998", "-o", tmp_path / "x")
    assert done.returncode == 0, done.stderr
    [heap] = tmp_path.glob("x.*.heap")
    assert b'"uid":0,' in heap.read_bytes()


def test_the_user_of_a_profile_is_the_owner_of_its_segment(shared: Path, tmp_path: Path) -> None:
    path = left_behind(private(shared, NOBODY), pid=3999997)
    os.chown(path, NOBODY, NOBODY)  # its control page says that it is root's
    command_ok("recover", "3999997", "-o", tmp_path / "x")
    [heap] = tmp_path.glob("x.*.heap")
    assert f'"uid":{NOBODY},'.encode() in heap.read_bytes()


def test_a_file_that_a_process_may_only_read_is_never_opened_to_write(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = left_behind(private(shared, 0))
    status = path.stat()
    device = (os.major(status.st_dev), os.minor(status.st_dev))
    mapping = Mapping(0x1000, 0x2000, "r--s", 0, device, status.st_ino, str(path), b"")
    opened: list[int] = []
    monkeypatch.setattr(foreign, "open_mapped", lambda *_: opened.append(1))
    with pytest.raises(NoSampler, match="not as a sampler maps its segment"):
        discovery._open_mapped(os.getpid(), mapping, writable=True)
    assert opened == []


def test_a_forged_ring_of_marks_costs_no_memory(shared: Path) -> None:
    path = left_behind(private(shared, 0))
    with Segment.open(path, writable=True) as segment:
        for name, value in (("rows", 1 << 24), ("reserved_bytes", 1 << 50), ("offset", 4096)):
            segment.store(("directory", layout.MARKS, name), value)
        segment.store(("mark_count",), 1 << 24)
        assert len(devices._ring(segment, segment.control())) == 0


OTHER = 65534
STAMP = "20250101000000000"
WAIT_S = 30


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder like /tmp: everybody may make things there."""
    path = Path(tempfile.mkdtemp(dir="/dev/shm"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def of_other(path: Path) -> Path:
    """Give what is at a path to the other user."""
    os.lchown(path, OTHER, OTHER)
    return path


def ended(work: Callable[[], object]) -> bool:
    """Whether some work ends at all, in a child of its own."""
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(0)
    watched = os.pidfd_open(child)
    try:
        if select.select([watched], [], [], WAIT_S)[0]:
            return True
        os.kill(child, 9)
        return False
    finally:
        os.close(watched)
        os.waitpid(child, 0)


def places(common: Path) -> Folders:
    settings = dataclasses.replace(Settings(), output=str(common))
    return tree.places_of(settings, os.getpid(), STAMP)


@pytest.mark.parametrize("trap", ["folder", "link"])
def test_a_tree_that_another_user_began_is_not_used(common: Path, trap: str) -> None:
    honest = places(common)
    private = common / "private"
    (private / "events").mkdir(parents=True)
    run = Path(honest.run)
    if trap == "folder":
        run.mkdir()
    else:
        run.symlink_to(private)
    of_other(run)
    for make in (
        lambda: tree.events_folder(honest),
        lambda: tree.write_config(honest, Settings()),
        lambda: honest.make_dump_folder("0"),
    ):
        with pytest.raises(PermissionError, match=r"another user|link in place"):
            make()
    assert list(private.rglob("*")) == [private / "events"]
    assert trap == "link" or list(run.iterdir()) == []

    run.rename(common / "aside")
    assert Path(tree.events_folder(honest)).is_dir()
    assert Path(honest.make_dump_folder("0")).is_dir()
    tree.write_config(honest, Settings())
    assert sorted(p.name for p in run.iterdir()) == ["config.json", "device_0", "events"]


def side_rows(folder: Path) -> Path:
    rows = SideRows(str(folder))
    rows.write([row_now("MARK", "STEP", "one")])
    return Path(rows.path)


def calls(folder: Path) -> Path:
    trace = TraceFile(str(folder), 7, STAMP)
    trace.add("one", 1, 2)
    trace.flush()
    return Path(trace.path)


def content(folder: Path) -> Path:
    WatchFiles(str(folder)).write_content("0", "one", b"one")
    return folder / "device_0" / "watch_dump" / "one.bin"


WRITERS = [side_rows, calls, content]


def lay_trap(trap: str, path: Path, precious: Path) -> None:
    if trap == "pipe":
        os.mkfifo(path)
    elif trap == "link":
        path.symlink_to(precious)
    else:
        os.link(precious, path)  # as a system without fs.protected_hardlinks lets anybody do


@pytest.mark.parametrize("trap", ["pipe", "link", "second name"])
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_a_trap_under_the_name_of_a_file_neither_holds_nor_leads_the_program(
    common: Path, write: Callable[[Path], Path], trap: str
) -> None:
    """The program itself writes these: a pipe without a reader must not stop it."""
    precious = common / "precious"
    precious.write_bytes(b"mine")
    honest = common / "honest"
    honest.mkdir()
    written = write(honest)
    assert b"one" in written.read_bytes()

    folder = common / "trapped"
    path = folder / written.relative_to(honest)
    path.parent.mkdir(parents=True)
    lay_trap(trap, path, precious)
    for made in [path.parent, *([] if trap == "second name" else [path])]:
        of_other(made)
    name = Path(str(path).replace(str(os.getpid()), "*")).name

    def attempt() -> None:
        if write is side_rows:
            # The child's own number is in the name.
            path.rename(path.with_name(name.replace("*", str(os.getpid()))))
        write(folder)

    assert ended(attempt)
    assert precious.read_bytes() == b"mine"
    left = [p for p in folder.rglob("*") if not p.is_dir()]
    assert len(left) == 1, left


def test_only_the_runs_own_events_are_removed(common: Path) -> None:
    """What `memscope` removes of a process without a dump is what it made."""
    run = common / "run"
    (run / "events").mkdir(parents=True)
    remove_events(str(run))
    assert not run.exists()
    victim = common / "victim"
    (victim / "events").mkdir(parents=True)
    run.symlink_to(victim)
    of_other(run)
    with pytest.raises(UsageProblem, match="link of another user"):
        remove_events(str(run))
    assert (victim / "events").is_dir()


TRACKED = "import sys; from mem_profiler import Tracker as T; T(sys.argv[1], events=True).start()"


def track(folder: Path) -> subprocess.CompletedProcess[str]:
    """Let a program track itself to the end, into a file and a log of a folder."""
    return subprocess.run(
        [sys.executable, "-c", TRACKED, str(folder / "out.heap")], env=command_environment(),
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "trap"),
    [("out.heap", "pipe"), ("out.heap", "link"), ("out.heap", "file"), ("out-0.memlog", "pipe"),
     ("out-0.memlog", "link"), ("out-0.memlog", "file")],
)  # fmt: skip
def test_a_tracker_refuses_a_name_that_another_user_has(common: Path, name: str, trap: str) -> None:
    precious = common / "precious"
    precious.write_bytes(b"mine")
    path = common / name
    if trap == "file":
        path.write_bytes(b"theirs")
    else:
        lay_trap(trap, path, precious)
    of_other(path)
    done = track(common)
    assert done.returncode == 1
    assert "out" in done.stderr.splitlines()[-1] and "TrackerError" in done.stderr
    assert precious.read_bytes() == b"mine"
    assert sorted(p.name for p in common.iterdir()) == sorted({"precious", name})


def test_the_log_of_another_user_beside_a_trackers_name_stays(common: Path) -> None:
    """In a folder like /tmp its removal is refused: no reason to capture nothing."""
    done = track(common)
    assert (done.returncode, done.stderr) == (0, "")
    (common / "out.heap").unlink()
    [log] = common.iterdir()
    log.chmod(0o644)

    def remove() -> None:
        os.setresuid(OTHER, OTHER, OTHER)
        server._remove_log_of(str(common / "out.heap"))
        (common / "came").touch()

    assert ended(remove)
    assert (common / "came").exists() and log.exists()


def test_a_mark_of_another_user_makes_nobody_complete_a_dump(common: Path) -> None:
    events = common / "msmemscope_1_1_ascend" / "events"
    events.mkdir(parents=True)
    mark = events / "log1.collecting"
    mark.write_text("{}")
    [error] = recovery.complete_all(str(common)).errors
    assert "another user" not in str(error)
    of_other(mark)
    [error] = recovery.complete_all(str(common)).errors
    assert "is another user's" in str(error)
