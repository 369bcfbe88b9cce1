"""What `mem_profiler serve` reads a target with: processes without rights, and none else."""

import contextlib
import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import Stepper, build_stepper, wait_until
from mem_sandbox import confine
from other_users import OTHER_UID, UID, become, home_of, need_users
from serving import Server, below, readers_below

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")
RATE = {"MEM_PROFILER_START": "1"}


@pytest.fixture
def target(stepper: Path, segment_dir: Path) -> Iterator[Stepper]:
    with Stepper(stepper, **RATE) as one:
        one.tell("a 100 1000")
        yield one


def only_reader(server: Server) -> int:
    (pid,) = readers_below(server.pid)
    return pid


def test_a_target_is_read_by_a_process_without_rights(target: Stepper, segment_dir: Path) -> None:
    with Server() as server:
        assert server.ask(f"/p/{target.pid}/live").status == 200
        reader = only_reader(server)
        words = below(server.pid)[reader]
        assert (words["NoNewPrivs"], words["CapEff"].strip("0")) == ("1", "")
        if os.geteuid() == 0:
            uids = {int(uid) for uid in words["Uid"].split()}
            assert len(uids) == 1
            assert uids.pop() in confine._UNUSED_UIDS
            assert words["Groups"] == ""
            opened = [
                os.readlink(f"/proc/{reader}/fd/{n}") for n in os.listdir(f"/proc/{reader}/fd")
            ]
            kinds = {name.partition(":")[0] for name in opened} - {"socket", "/dev/null"}
            assert all(kind.startswith(str(segment_dir)) for kind in kinds), kinds
        assert server.end() == (0, "")
    assert not Path(f"/proc/{reader}").exists()


@NEEDS_ROOT
def test_a_reader_knows_no_token(target: Stepper, segment_dir: Path) -> None:
    with Server() as server:
        server.ask(f"/p/{target.pid}/live")
        assert server.token.encode() in memory_of(server.pid)
        for pid in below(server.pid):
            assert server.token.encode() not in memory_of(pid)


def memory_of(pid: int) -> bytes:
    """All that a process can write to."""
    parts = []
    maps = Path(f"/proc/{pid}/maps").read_text(encoding="utf-8").splitlines()
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        for line in maps:
            span, permissions, *_ = line.split()
            if not permissions.startswith("rw") or "/dev/shm" in line:
                continue
            start, end = (int(x, 16) for x in span.split("-"))
            file.seek(start)
            parts.append(file.read(min(end - start, 256 << 20)) or b"")
    return b"".join(parts)


@pytest.mark.skipif(os.geteuid() != 0, reason="ends a process of another user")
def test_a_reader_that_is_killed_is_one_line_and_the_next_question_has_another(
    target: Stepper, segment_dir: Path, tmp_path: Path
) -> None:
    with Server(folder=tmp_path) as server:
        first = server.ask(f"/p/{target.pid}/live").json()
        reader = only_reader(server)
        os.kill(reader, signal.SIGKILL)
        failed = server.ask(f"/p/{target.pid}/live?after={first['seq']}")
        assert failed.status == 409, failed.body
        assert set(failed.json()) <= {"error", "hint"}
        assert "reads pid" in failed.json()["error"]
        again = server.ask(f"/p/{target.pid}/live")
        assert again.status == 200, again.body
        assert only_reader(server) != reader
        assert server.end() == (0, "")


@pytest.mark.skipif(os.geteuid() != 0, reason="ends a process of another user")
def test_a_process_that_reads_programs_may_end_too(
    target: Stepper, segment_dir: Path, tmp_path: Path
) -> None:
    with Server(folder=tmp_path) as server:
        server.ask(f"/p/{target.pid}/live")
        reader = only_reader(server)
        others = {p: w for p, w in below(server.pid).items() if p != reader}
        namers = [p for p, w in others.items() if int(w["PPid"]) != server.pid]
        assert namers
        for pid in namers:
            os.kill(pid, signal.SIGKILL)
        target.tell("c 10 700")
        answers = [server.ask(f"/p/{target.pid}/debug/pprof/heap") for _ in range(2)]
        assert answers[-1].status == 200, answers[-1].body


def forge(path: Path, seed: int) -> None:
    """Write here and there into a segment, but not into its first words, by which it is known as
    one of this process.
    """
    numbers = random.Random(seed)
    with open(path, "r+b") as file:
        size = os.fstat(file.fileno()).st_size
        for _ in range(200):
            file.seek(numbers.randrange(4096, min(size, 64 << 20)))
            file.write(numbers.randbytes(numbers.choice([1, 8, 200])))


def test_a_forged_segment_is_read_or_refused_in_a_line_and_harms_no_other(
    stepper: Path, segment_dir: Path, target: Stepper, tmp_path: Path
) -> None:
    with Server(folder=tmp_path) as server:
        for seed in range(4):
            with Stepper(stepper, **RATE) as hostile:
                hostile.tell("a 50 1000")
                server.ask(f"/p/{hostile.pid}/live")
                (path,) = segment_dir.rglob(f"{hostile.pid}-*")
                forge(path, seed)
                for address in ("live", "profile.heap", "debug/pprof/heap", "live"):
                    answered = server.ask(f"/p/{hostile.pid}/{address}")
                    assert answered.status in {200, 403, 404, 409, 500}, answered.status
                    if answered.status != 200:
                        text = answered.json()["error"]
                        assert "\n" not in text
                metrics = server.scrape()
                assert metrics.status == 200
                found = server.ask(f"/p/{target.pid}/live").json()
                assert "97.66 KiB" in found["data"]["facts"]["headlines"]["inuse.space"]
        assert server.end() == (0, "")


def test_nothing_stays_when_the_server_is_killed(
    target: Stepper, segment_dir: Path, tmp_path: Path
) -> None:
    with Server(folder=tmp_path) as server:
        server.ask(f"/p/{target.pid}/live")
        every = list(below(server.pid))
        assert len(every) >= 3
        server.child.kill()

        def gone() -> bool:
            return not any(Path(f"/proc/{pid}").exists() for pid in every)

        wait_until(gone, "the processes that read end with the server")


@NEEDS_ROOT
def test_root_shows_a_service_of_another_user_with_names_that_only_this_user_may_read(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    """The program is in a folder of the user's own; the user is no more than a number."""
    uid = 12_345
    home = Path("/tmp") / f"mem_profiler-test-{os.getpid()}"
    home.mkdir(mode=0o700)
    try:
        program = home / "own"
        program.write_bytes(stepper.read_bytes())
        program.chmod(0o700)
        for path in (home, program):
            os.chown(path, uid, uid)
        segment_dir.chmod(0o1777)
        with (
            Stepper(
                program,
                prefix=("setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"),
                **RATE,
            ) as one,
            Server(folder=tmp_path) as server,
        ):
            one.tell("a 10 1000")
            frame = server.ask(f"/p/{one.pid}/live")
            assert frame.status == 200, frame.body
            assert b"allocate" in frame.body
            users = {words["Uid"].split()[0] for words in below(server.pid).values()}
            assert str(uid) in users
            assert json.loads(frame.body)["state"] == "captured"
    finally:
        for path in home.iterdir():
            path.unlink()
        home.rmdir()


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
