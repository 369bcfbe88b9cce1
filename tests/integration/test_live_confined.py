"""What `mem_profiler live` reads a target with: processes without rights, and none else."""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from controller_tools import Stepper, build_stepper, command, command_environment, wait_until
from live_views import plan, run, screen_text, until
from mem_cli.live.app import LiveApp
from mem_cli.live.distant import Far, picture_from, question, readers
from mem_cli.live.following import Follower
from mem_cli.live.screen_state import Situation
from mem_cli.live.view_model import ViewModel
from mem_cli.live.view_options import ViewOptions
from mem_cli.watching import worker as worker_module
from mem_cli.watching.worker import About, Question, Read, Worker, works
from mem_parser.errors import TargetBusy
from mem_parser.filters import Filters
from mem_parser.live.naming import NamingChoice
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import Facts, State, Watched
from mem_profiler.segment import discovery
from mem_sandbox import confine
from mem_sandbox.forkserver import Forkserver
from serving import below
from tmux import Terminal

WAIT_S = 30.0
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.fixture(scope="module", autouse=True)
def all_loaded() -> None:
    """Load what readers need: without rights they may be unable to open the files of Python."""
    with readers(NamingChoice(), Filters()):
        pass


@pytest.fixture
def target(stepper: Path, segment_dir: Path) -> Iterator[Stepper]:
    with Stepper(stepper) as one:
        yield one


def is_captured(pid: int) -> bool:
    with discovery.open_process(pid, writable=False) as segment:
        return segment.control().running(time.monotonic_ns())


def view(target: Stepper, segment_dir: Path) -> Terminal:
    variables = {
        "PYTHONPATH": command_environment()["PYTHONPATH"], "MEM_PROFILER_DIR": str(segment_dir),
    }  # fmt: skip
    words = command("live", target.pid, "-c", "1", "--interval", "0.2")
    return Terminal(words, variables, 100, 30, folder=str(segment_dir.parent))


def reader_of(viewer: int) -> int:
    """The process that has the segment, and no rights."""
    (found,) = (
        pid for pid, words in below(viewer).items()
        if int(words["Uid"].split()[0]) in confine._UNUSED_UIDS and words["CapEff"].strip("0") == ""
    )  # fmt: skip
    return found


@NEEDS_ROOT
def test_the_segment_is_read_without_rights_and_a_reader_that_is_killed_costs_a_line(
    target: Stepper, segment_dir: Path
) -> None:
    with view(target, segment_dir) as seen:
        seen.shows(f"pid {target.pid}")
        target.tell("a 100 1000")
        seen.shows("allocate")
        reader = reader_of(seen.pid)
        assert below(seen.pid)[reader]["NoNewPrivs"] == "1"
        os.kill(reader, signal.SIGKILL)
        seen.shows(f"the process that reads pid {target.pid} failed")
        target.tell("a 100 1000")
        seen.shows("195.3 KiB")
        assert reader_of(seen.pid) != reader
        seen.press("q")
        assert seen.code == 0
    assert not is_captured(target.pid)


@NEEDS_ROOT
def test_a_reader_that_hangs_keeps_nobody_from_leaving(target: Stepper, segment_dir: Path) -> None:
    with view(target, segment_dir) as seen:
        seen.shows(f"pid {target.pid}")
        target.tell("a 100 1000")
        seen.shows("allocate")
        reader = reader_of(seen.pid)
        os.kill(reader, signal.SIGSTOP)
        seen.press("q")
        assert seen.code == 0
    wait_until(lambda: not Path(f"/proc/{reader}").exists(), "the reader ends with the view")
    assert not is_captured(target.pid)


class Told(Far):
    """A reader that has been taken over: it answers by ``lie``, to all but what takes a moment."""

    def __init__(self, lie: Callable[[bytes], bytes], read: Read) -> None:
        super().__init__(read, ViewModel(NamingChoice(), Filters()))
        self._lie = lie

    def make(self, question: Question) -> bytes:
        return self._lie(super().make(question))


class Views:
    """A capture of a target, shown by a reader that lies."""

    def __init__(self, target: Stepper, lie: Callable[[bytes], bytes]) -> None:
        self.forkserver = Forkserver(works(lambda read: Told(lie, read)))
        self.watched = Watched(target.pid, Rates(1))
        self.follower = Follower(self.watched, functools.partial(Worker, self.forkserver), plan())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self.follower.end()
        self.watched.close()
        self.forkserver.close()


@NEEDS_ROOT
@pytest.mark.parametrize("with_id", [True, False])
def test_a_given_binary_in_a_folder_that_only_root_enters_gives_names(
    stepper: Path, segment_dir: Path, tmp_path: Path, with_id: bool
) -> None:
    moved, given = tmp_path / "moved", tmp_path / "closed" / "given"
    given.parent.mkdir(mode=0o700)
    shutil.copy(stepper, moved)
    if not with_id:
        subprocess.run(
            ["objcopy", "--remove-section=.note.gnu.build-id", moved], check=True, timeout=WAIT_S
        )
    shutil.copy(moved, given)
    naming = NamingChoice(binary=str(given))
    with (
        Stepper(moved) as target,
        Forkserver(works(lambda read: Far(read, ViewModel(naming, Filters())))) as forkserver,
    ):
        moved.unlink()
        watched = Watched(target.pid, Rates(1))
        follower = Follower(watched, functools.partial(Worker, forkserver), plan())
        try:
            target.tell("a 100 1000")
            told = follower.watcher.ask(question("want", ViewOptions()), 0).result(WAIT_S)
        finally:
            follower.end()
            watched.close()
        found = picture_from(told, Situation(State.CAPTURED))
        assert "allocate" in " ".join(found.rows.names)


FORBIDDEN: dict[str, Callable[[], object]] = {
    "fork": os.fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),
    "network": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
    "write": lambda: os.open("/dev/null", os.O_WRONLY),
    "signal": lambda: os.kill(os.getppid(), 0),
    "memory of others": lambda: os.open(f"/proc/{os.getppid()}/mem", os.O_RDONLY),
}


@NEEDS_ROOT
@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_a_reader_needs_not_is_refused_and_the_view_goes_on(
    target: Stepper, segment_dir: Path, name: str
) -> None:
    def lie(told: bytes) -> bytes:
        try:
            FORBIDDEN[name]()
        except OSError:
            return told
        return b"it may do that"

    target.tell("a 10 1000")
    with Views(target, lie) as one:
        target.tell("a 100 1000")
        told = one.follower.watcher.ask(question("want", ViewOptions()), 0).result(WAIT_S)
        found = picture_from(told, Situation(State.CAPTURED))
        assert "allocate" in " ".join(found.rows.names)
    assert not is_captured(target.pid)


def changed(**words: Any) -> Callable[[bytes], bytes]:
    return lambda told: json.dumps(json.loads(told) | words).encode()


def end(_told: bytes) -> bytes:
    os._exit(3)


LIES: dict[str, Callable[[bytes], bytes]] = {
    "ends": end,
    "noise": lambda _: b"\x80\x04\x95",
    "no picture": lambda _: b"[1, 2]",
    "wrong types": changed(notes=7, head=[]),
    "endless numbers": changed(cost_s=1e308),
    "rows without numbers": changed(rows={}),
    "too long": lambda _: b"x" * 5000,
}


@pytest.mark.parametrize("name", LIES)
def test_a_reader_that_lies_is_one_line_and_the_capture_ends(
    target: Stepper, segment_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with Views(target, LIES[name]) as one:
        target.tell("a 10 1000")
        app = LiveApp(one.follower)
        if name == "too long":
            monkeypatch.setattr(worker_module, "ANSWER_MAX_BYTES", 4000)

        async def body(pilot: Any) -> None:
            await until(
                pilot, lambda: f"pid {target.pid}" in screen_text(app)
                or "the process that reads" in screen_text(app), "a line says it",
            )  # fmt: skip
            assert "Traceback" not in screen_text(app)
            assert "allocate" not in screen_text(app)

        run(app, body)
        assert app.broken is None
        assert one.follower.failure is None
        assert one.watched.state is State.CAPTURED
    assert not is_captured(target.pid)


def test_texts_of_a_reader_are_shown_and_never_obeyed(target: Stepper, segment_dir: Path) -> None:
    def lie(told: bytes) -> bytes:
        form = json.loads(told)
        if "rows" in form:
            form["rows"]["names"] = ["\x1b[2Jname"] * len(form["rows"]["names"])
            form["head"]["program"] = "\x1b]0;comm\x07"
            form["graphs"][0] |= {"title": "\x1b[1mt", "now": "\r\x9bn"}
        return json.dumps(form).encode()

    with Views(target, lie) as one:
        target.tell("a 100 1000")
        app = LiveApp(one.follower)

        async def body(pilot: Any) -> None:
            await until(pilot, lambda: "\\x1b[2Jname" in screen_text(app), "names are escaped")
            assert "\\x1b]0;comm\\x07" in screen_text(app)
            assert all(line.isprintable() for line in screen_text(app).splitlines())

        run(app, body)
        assert app.broken is None


def test_a_reader_that_is_silent_is_ended_by_whoever_leaves(
    target: Stepper, segment_dir: Path
) -> None:
    class Silent(Told):
        def take(self, about: About, facts: Facts | None) -> None:
            time.sleep(1000)

    with Forkserver(works(lambda read: Silent(bytes, read))) as forkserver:
        watched = Watched(target.pid, Rates(1))
        begun = threading.Event()

        def open_worker(*given: Any) -> Worker:
            begun.set()
            return Worker(forkserver, *given)

        follower = Follower(watched, open_worker, plan())
        asked = follower.watcher.ask(question("want", ViewOptions()), 0)
        assert begun.wait(WAIT_S)
        follower.end()
        with pytest.raises(TargetBusy, match="is ending"):
            asked.result(WAIT_S)
        watched.close()
    assert not is_captured(target.pid)
