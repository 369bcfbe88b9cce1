"""What processes without rights need is loaded before they give these up: root's own Python is
often in a folder that others cannot enter.
"""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from attach_run import Unprepared
from controller_tools import ROOT, Stepper, build_stepper, command, command_environment
from sampler_run import run
from serving import Server

_LIVE = """
import functools, sys, time
from mem_cli.live.distant import question, readers
from mem_cli.live.following import Follower, Plan
from mem_cli.live.view_options import ViewOptions
from mem_cli.watching.worker import Worker
from mem_parser.filters import Filters
from mem_parser.live.naming import NamingChoice
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import Watched

pid, binary, function = int(sys.argv[1]), sys.argv[2], sys.argv[3]
with readers(NamingChoice(binary=binary), Filters()) as forkserver:
    watched = Watched(pid, Rates(1))
    follower = Follower(watched, functools.partial(Worker, forkserver), Plan("x", Rates(1)))
    every = ViewOptions()
    for kind, more in {
        "want": (), "stacks": (function, True), "leaks": (80,), "page": (1,), "mark": (),
    }.items():
        told = follower.watcher.ask(question(kind, every, *more), 0).result(30)
        print(kind, function in told.decode())
    follower.end()
    watched.close()
"""


@pytest.fixture(scope="module")
def stepper() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)  # readers may open what everybody may
        yield build_stepper(Path(folder))


@pytest.fixture
def target(stepper: Path, segment_dir: Path) -> Iterator[Stepper]:
    with Stepper(stepper, MEM_PROFILER_START="1") as one:
        one.tell("a 100 1000")
        yield one


@pytest.fixture
def watched(tmp_path: Path) -> dict[str, str]:
    """Variables of a fresh interpreter with empty caches, which says what it imports late."""
    here = command_environment()
    late = str(ROOT / "tests" / "support" / "late_imports")
    return here | {
        "PYTHONPATH": os.pathsep.join([late, here["PYTHONPATH"]]),
        "MEM_PROFILER_CACHE": str(tmp_path / "cache"), "MEM_PROFILER_DEBUG": "1",
    }  # fmt: skip


def said(words: list[str], variables: dict[str, str], folder: Path) -> str:
    done = run(words, variables, cwd=folder)
    assert "late import" not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readers_of_the_live_view_load_nothing_late(
    target: Stepper, stepper: Path, watched: dict[str, str], tmp_path: Path
) -> None:
    words = [sys.executable, "-c", _LIVE, str(target.pid), str(stepper), "allocate"]
    told = said(words, watched, tmp_path).splitlines()
    assert told == ["want True", "stacks True", "leaks True", "page True", "mark False"]


def test_the_readers_of_the_server_load_nothing_late(
    target: Stepper, watched: dict[str, str], tmp_path: Path
) -> None:
    with Server("--control", folder=tmp_path, variables=watched) as server:
        for asked in ("live", "profile.heap", "debug/pprof/heap", "debug/pprof/heap?debug=1"):
            found = server.ask(f"/p/{target.pid}/{asked}")
            assert found.status == 200, (asked, found.body, server.end())
        found = server.scrape()
        assert found.status == 200, (found.body, server.end())
        code, errors = server.end()
    assert "late import" not in errors, errors
    assert code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["snapshot", "PID"], ["stop", "PID"], ["ps"], ["doctor", "PID"], ["doctor", "PROGRAM"],
        ["attach", "OTHER"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_the_children_of_a_command_load_nothing_late(
    target: Stepper, stepper: Path, watched: dict[str, str], tmp_path: Path, words: list[str]
) -> None:
    with Unprepared([stepper], Path(watched["MEM_PROFILER_DIR"])) as other:
        given = {"PID": target.pid, "PROGRAM": stepper, "OTHER": other.process.pid}
        said(command(*(given.get(word, word) for word in words)), watched, tmp_path)


def test_the_children_of_a_run_with_a_log_load_nothing_late(
    stepper: Path, segment_dir: Path, watched: dict[str, str], tmp_path: Path
) -> None:
    said(
        command("run", "--events", "-o", "x", "--", "/bin/sh", "-c", "exec ls /"), watched, tmp_path
    )
