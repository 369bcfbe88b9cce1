"""Results in a folder where others can make files too: nothing of theirs is followed or waited for.

Each attack has its honest twin: the same call without what the other user put there.
"""

import dataclasses
import os
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller_tools import command_environment
from mem_parser.errors import UsageProblem
from mem_parser.memscope.form import Folders
from mem_parser.memscope.settings import Settings
from mem_profiler.inprocess import server
from mem_profiler.memscope import recovery, tree
from mem_profiler.memscope.calls import TraceFile
from mem_profiler.memscope.run import remove_events
from mem_profiler.memscope.siderows import SideRows, row_now
from mem_profiler.memscope.watchfiles import WatchFiles

OTHER = 65534
STAMP = "20250101000000000"
WAIT_S = 30
pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="makes files of another user"),
    pytest.mark.usefixtures("sampler", "segment_dir"),
]


@pytest.fixture
def shared() -> Iterator[Path]:
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


def places(shared: Path) -> Folders:
    settings = dataclasses.replace(Settings(), output=str(shared))
    return tree.places_of(settings, os.getpid(), STAMP)


@pytest.mark.parametrize("trap", ["folder", "link"])
def test_a_tree_that_another_user_began_is_not_used(shared: Path, trap: str) -> None:
    honest = places(shared)
    private = shared / "private"
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

    run.rename(shared / "aside")
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
    shared: Path, write: Callable[[Path], Path], trap: str
) -> None:
    """The program itself writes these: a pipe without a reader must not stop it."""
    precious = shared / "precious"
    precious.write_bytes(b"mine")
    honest = shared / "honest"
    honest.mkdir()
    written = write(honest)
    assert b"one" in written.read_bytes()

    folder = shared / "trapped"
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


def test_only_the_runs_own_events_are_removed(shared: Path) -> None:
    """What `memscope` removes of a process without a dump is what it made."""
    run = shared / "run"
    (run / "events").mkdir(parents=True)
    remove_events(str(run))
    assert not run.exists()
    victim = shared / "victim"
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
def test_a_tracker_refuses_a_name_that_another_user_has(shared: Path, name: str, trap: str) -> None:
    precious = shared / "precious"
    precious.write_bytes(b"mine")
    path = shared / name
    if trap == "file":
        path.write_bytes(b"theirs")
    else:
        lay_trap(trap, path, precious)
    of_other(path)
    done = track(shared)
    assert done.returncode == 1
    assert "out" in done.stderr.splitlines()[-1] and "TrackerError" in done.stderr
    assert precious.read_bytes() == b"mine"
    assert sorted(p.name for p in shared.iterdir()) == sorted({"precious", name})


def test_the_log_of_another_user_beside_a_trackers_name_stays(shared: Path) -> None:
    """In a folder like /tmp its removal is refused: no reason to capture nothing."""
    done = track(shared)
    assert (done.returncode, done.stderr) == (0, "")
    (shared / "out.heap").unlink()
    [log] = shared.iterdir()
    log.chmod(0o644)

    def remove() -> None:
        os.setresuid(OTHER, OTHER, OTHER)
        server._remove_log_of(str(shared / "out.heap"))
        (shared / "came").touch()

    assert ended(remove)
    assert (shared / "came").exists() and log.exists()


def test_a_mark_of_another_user_makes_nobody_complete_a_dump(shared: Path) -> None:
    events = shared / "msmemscope_1_1_ascend" / "events"
    events.mkdir(parents=True)
    mark = events / "log1.collecting"
    mark.write_text("{}")
    [error] = recovery.complete_all(str(shared)).errors
    assert "another user" not in str(error)
    of_other(mark)
    [error] = recovery.complete_all(str(shared)).errors
    assert "is another user's" in str(error)
