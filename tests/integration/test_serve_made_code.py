"""`mem_profiler serve` names code that a program makes as it runs."""

from __future__ import annotations

import base64
import gzip
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from javascript import JAVASCRIPT, OPTIONS
from made_program import Made
from mem_parser.profileproto import message_class
from mem_parser.readers import read_bytes
from mem_parser.symbols.symbolizer import symbolize
from sampler_run import WAIT_S, Target, build, environment
from serving import Server, below, readers_below, shared_server

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs files of another user")
UID = 12_345


@pytest.fixture
def made(segment_dir: Path) -> Iterator[Made]:
    with Made(segment_dir) as one:
        one.allocate(0, 100, 5000)
        yield one


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Path, Server]]:
    with shared_server() as pair:
        yield pair


@pytest.fixture
def segment_dir(shared: tuple[Path, Server]) -> Path:
    """That of all tests here."""
    return shared[0]


@pytest.fixture
def server(shared: tuple[Path, Server]) -> Server:
    """One that tests share, each with a program of its own."""
    return shared[1]


def on_page(server: Server, pid: int, *, now: bool = False) -> bytes:
    """What the page of a process gets, unpacked; ``now``: of a moment to come."""
    answered = server.ask(f"/p/{pid}/live?after={time.time_ns() // 10**6 if now else 0}")
    assert answered.status == 200, answered.body
    _, _, packed = answered.json()["data"]["tree"].partition(":")
    return zlib.decompress(base64.b64decode(packed))


def functions(body: bytes) -> set[str]:
    """Those of a .heap file."""
    return {one.name for one in symbolize(read_bytes(body, "served")).functions}


def functions_of_pprof(body: bytes) -> set[str]:
    message = message_class("Profile")()
    message.ParseFromString(gzip.decompress(body))
    return {message.string_table[one.name] for one in message.function}


def test_the_page_files_profiles_and_metrics_have_the_names(made: Made, server: Server) -> None:
    made.list_as("handle_request")
    assert b"handle_request" in on_page(server, made.pid)
    assert "handle_request" in functions(server.ask(f"/p/{made.pid}/profile.heap").body)
    profile = server.ask(f"/p/{made.pid}/debug/pprof/heap")
    assert "handle_request" in functions_of_pprof(profile.body)
    metrics = server.scrape().body.decode()
    mine = [line for line in metrics.splitlines() if f'pid="{made.pid}"' in line]
    [line] = [line for line in mine if 'function="handle_request"' in line]
    assert float(line.rpartition(" ")[2]) == 500_000


def test_who_reads_the_list_may_open_nothing_and_keeps_nothing_open(
    made: Made, segment_dir: Path, tmp_path: Path
) -> None:
    made.list_as("handle_request")
    with Server(folder=tmp_path, variables={"MEM_PROFILER_DIR": str(segment_dir)}) as server:
        assert b"handle_request" in on_page(server, made.pid)
        [reader] = readers_below(server.pid)
        words = below(server.pid)[reader]
        assert (words["NoNewPrivs"], words["CapEff"].strip("0")) == ("1", "")
        for pid in below(server.pid):
            opened = [os.readlink(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")]
            assert not [name for name in opened if "memfd" in name or "perf-" in name], opened
        assert server.end() == (0, "")


def test_names_of_code_that_is_made_later_come_with_later_data(made: Made, server: Server) -> None:
    made.list_as("handle_request")
    assert b"handle_request" in on_page(server, made.pid)
    made.list_as("handle_request", "later_one")
    made.allocate(1, 10, 5000)
    give_up = time.monotonic() + WAIT_S
    while b"later_one" not in on_page(server, made.pid, now=True):
        assert time.monotonic() < give_up


def put_fifo(made: Made, _folder: Path) -> None:
    os.mkfifo(made.map)


def put_link(made: Made, folder: Path) -> None:
    made.list_as("handle_request")
    made.map.rename(folder / "moved")
    made.map.symlink_to(folder / "moved")


def put_second_name(made: Made, folder: Path) -> None:
    made.list_as("handle_request")
    os.link(made.map, f"{made.map}.{os.getpid()}")


def put_of_another(made: Made, _folder: Path) -> None:
    made.list_as("handle_request", uid=UID)


def put_large(made: Made, _folder: Path) -> None:
    """Gigabytes that take no room; the names come behind them."""
    with made.map.open("wb") as file:
        file.truncate(8 << 30)
        file.seek(0, os.SEEK_END)
        file.write(made.lines("handle_request").encode())


@pytest.mark.parametrize(
    "put",
    [
        put_fifo,
        put_link,
        put_second_name,
        pytest.param(put_of_another, marks=NEEDS_ROOT),
        put_large,
    ],
)
def test_a_list_that_is_none_names_nothing_and_holds_nobody_up(
    made: Made, server: Server, tmp_path: Path, put: Callable[[Made, Path], None]
) -> None:
    try:
        put(made, tmp_path)
        assert b"handle_request" not in on_page(server, made.pid)
        assert server.ask(f"/p/{made.pid}/debug/pprof/heap").status == 200
    finally:
        Path(f"{made.map}.{os.getpid()}").unlink(missing_ok=True)


@NEEDS_ROOT
def test_root_shows_the_names_of_a_program_of_another_user_and_reads_as_that_user(
    segment_dir: Path, server: Server
) -> None:
    program = Path(f"/tmp/mem_profiler-test-{os.getpid()}-made")
    program.write_bytes(build("made_code.c").read_bytes())
    program.chmod(0o755)
    words = ("setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
    try:
        with Made(segment_dir, *words, program=program) as one:
            one.allocate(0, 10, 5000)
            one.list_as("handle_request", uid=UID)
            one.map.chmod(0o600)
            assert b"handle_request" in on_page(server, one.pid)
        with Made(segment_dir, *words, program=program) as one:
            one.allocate(0, 10, 5000)
            one.list_as("handle_request")  # root's, which that user did not write
            assert b"handle_request" not in on_page(server, one.pid)
    finally:
        program.unlink()


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_javascript_has_its_names(segment_dir: Path, tmp_path: Path, server: Server) -> None:
    script = tmp_path / "serving.js"
    script.write_text(JAVASCRIPT)
    words = ["node", *OPTIONS, str(script)]
    with Target(words, environment(segment_dir, rate=1), cwd=tmp_path) as node:
        assert node.line() == "ready"
        assert node.ask("go") == "ok"
        found = functions_of_pprof(server.ask(f"/p/{node.pid}/debug/pprof/heap").body)
        assert {"makeBuffer", "handleRequest"} <= found
        Path(f"/tmp/perf-{node.pid}.map").unlink(missing_ok=True)
