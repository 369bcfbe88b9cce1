"""`mem_profiler serve` of a user who is not root: what it shows, what it may not, how it reads."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import Stepper, build_stepper
from other_users import OTHER_UID, UID, become, home_of, need_users
from serving import Server, below, readers_below

RATE = {"MEM_PROFILER_START": "1"}


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_users()
    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.fixture
def own(stepper: Path, segment_dir: Path) -> Iterator[Stepper]:
    """A captured program of the user who serves, in a folder of this user's own."""
    segment_dir.chmod(0o1777)
    with (
        home_of(UID, [stepper]) as home,
        Stepper(home / "stepper", prefix=tuple(become(UID)), **RATE) as one,
    ):
        one.tell("a 100 1000")
        yield one


@pytest.fixture(params=[OTHER_UID, 0], ids=["another user", "root"])
def foreign(stepper: Path, segment_dir: Path, request: pytest.FixtureRequest) -> Iterator[Stepper]:
    """One of somebody else."""
    segment_dir.chmod(0o1777)
    with contextlib.ExitStack() as held:
        program = stepper
        if request.param:
            program = held.enter_context(home_of(request.param, [stepper])) / "stepper"
        one = Stepper(program, prefix=tuple(become(request.param)), **RATE)
        held.enter_context(one)
        one.tell("a 100 1000")
        yield one


@pytest.fixture
def server(own: Stepper) -> Iterator[Server]:
    home = Path(f"/tmp/mem_profiler-test-{os.getpid()}-{UID}")
    with Server("--control", folder=home, prefix=become(UID), variables={"HOME": str(home)}) as one:
        yield one
        assert one.end() == (0, "")


def test_a_user_sees_the_own_programs_with_names(own: Stepper, server: Server) -> None:
    rows = {row["pid"]: row for row in server.ask("/processes").json()["rows"]}
    assert rows[own.pid]["state"] == "capturing"
    assert rows[own.pid]["live_bytes"] == 100_000
    live = server.ask(f"/p/{own.pid}/live")
    assert live.status == 200, live.body
    assert "97.66 KiB" in live.json()["data"]["facts"]["headlines"]["inuse.space"]
    text = server.ask(f"/p/{own.pid}/debug/pprof/heap?debug=1")
    assert text.body.startswith(b"heap profile: ")
    metrics = server.scrape().body.decode()
    assert any(f'pid="{own.pid}"' in line and 'function="allocate"' in line
               for line in metrics.splitlines())  # fmt: skip


def test_programs_of_others_are_left_alone_and_one_line_says_why(
    own: Stepper, foreign: Stepper, server: Server
) -> None:
    listed = server.ask("/processes").json()
    assert own.pid in {row["pid"] for row in listed["rows"]}
    assert foreign.pid not in {row["pid"] for row in listed["rows"] + listed["others"]}
    for path in ("live", "profile.heap", "debug/pprof/heap"):
        answered = server.ask(f"/p/{foreign.pid}/{path}")
        assert answered.status == 403, (path, answered.status, answered.body)
        said = answered.json()
        assert str(foreign.pid) in said["error"]
        assert "\n" not in said["error"]
        assert "sudo" in said.get("hint", "") or "root" in said["error"] + said.get("hint", "")
    for order in ("start", "stop", "attach", "detach"):
        answered = server.ask(f"/p/{foreign.pid}/{order}", method="POST")
        assert answered.status in {403, 409}, (order, answered.body)
        assert "\n" not in answered.json()["error"]
    assert f'pid="{foreign.pid}"' not in server.scrape().body.decode()
    foreign.tell("a 1 1000")


def test_what_reads_has_no_rights_without_root_too(own: Stepper, server: Server) -> None:
    assert server.ask(f"/p/{own.pid}/live").status == 200
    every = below(server.pid)
    [reader] = readers_below(server.pid)
    for words in every.values():
        assert words["Uid"].split() == [str(UID)] * 4
        assert words["CapEff"].strip("0") == ""
    assert every[reader]["NoNewPrivs"] == "1"
    assert every[reader]["Seccomp"] == "2"
    assert not json.loads(server.ask(f"/p/{own.pid}/live").body)["own"]
