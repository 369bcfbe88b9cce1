"""`mem_profiler serve` as clients see it: real sockets, real processes, real readers of formats."""

import base64
import contextlib
import gzip
import json
import os
import shutil
import signal
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller_tools import TIMEOUT_S, Stepper, command_ok, run_command, wait_until
from javascript import JAVASCRIPT, OPTIONS
from made_program import Made
from mem_parser.model import Count, Unit
from mem_parser.profileproto import message_class
from mem_parser.readers import read_bytes, read_profile
from mem_parser.symbols.symbolizer import symbolize
from sampler_run import Target, build, environment, run_ok
from serving import (
    Answered,
    Server,
    below,
    read_all,
    readers_below,
    resident_bytes,
    served,
    shared_server,
)

RATE = {"MEM_PROFILER_START": "1"}


@pytest.fixture
def target(stepper: Path, segment_dir: Path) -> Iterator[Stepper]:
    """A program under capture, every block a sample, that holds 100 blocks of 1000 bytes."""
    with Stepper(stepper, **RATE) as one:
        one.tell("a 100 1000")
        yield one


@pytest.fixture(scope="module")
def both(stepper: Path) -> Iterator[tuple[Stepper, Server]]:
    """As `target`, with a server, for tests that change neither."""
    with served(stepper, "--control") as pair:
        yield pair


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Path, Server]]:
    with shared_server("--control") as pair:
        yield pair


@pytest.fixture
def segment_dir(shared: tuple[Path, Server], monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MEM_PROFILER_DIR", str(shared[0]))
    return shared[0]


@pytest.fixture
def server(shared: tuple[Path, Server], segment_dir: Path) -> Server:
    """One that tests share, each with a program of its own."""
    return shared[1]


def heap_of(server: Server, pid: int, tmp_path: Path) -> float:
    """What the .heap file of a process says is in use in blocks of `allocate`."""
    path = tmp_path / "served.heap"
    path.write_bytes(server.ask(f"/p/{pid}/profile.heap").body)
    return read_profile(path).total(Count.INUSE, Unit.SPACE).value


def test_a_process_is_listed_and_its_page_and_data_are_served(
    target: Stepper, server: Server, tmp_path: Path
) -> None:
    rows = {row["pid"]: row for row in server.ask("/processes").json()["rows"]}
    assert rows[target.pid]["state"] == "capturing"
    page = server.ask(f"/p/{target.pid}")
    assert page.status == 200
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "script-src 'sha256-" in policy
    assert b"stepper" not in page.body  # a page is for who has no token, too

    first = server.ask(f"/p/{target.pid}/live").json()
    assert (first["state"], first["number"], first["own"]) == ("captured", 1, False)
    assert "97.66 KiB" in first["data"]["facts"]["headlines"]["inuse.space"]
    before = heap_of(server, target.pid, tmp_path)
    target.tell("a 50 1000")
    later = server.ask(f"/p/{target.pid}/live?after={first['seq']}").json()
    assert later["seq"] > first["seq"]
    assert heap_of(server, target.pid, tmp_path) == before + 50_000


def test_a_mark_shows_what_grew_since(target: Stepper, server: Server) -> None:
    mark = server.ask(f"/p/{target.pid}/mark", method="POST").json()["mark"]
    target.tell("a 70 2000")
    found = server.ask(f"/p/{target.pid}/live?since={mark}").json()
    assert found["base"]["id"] == mark
    assert set(found["data"]["diff"]) >= {"inuse.space", "inuse.objects"}
    assert server.ask(f"/p/{target.pid}/live?since=m1").json()["base_gone"]


@pytest.mark.skipif(shutil.which("go") is None, reason="no Go toolchain")
def test_gos_pprof_reads_it_over_http(target: Stepper, segment_dir: Path, tmp_path: Path) -> None:
    variables = os.environ | {"PPROF_TMPDIR": str(tmp_path), "HOME": str(tmp_path)}

    def top(address: str) -> str:
        done = run_ok(
            ["go", "tool", "pprof", "-top", "-unit=B", "-nodefraction=0", address], variables,
            cwd=tmp_path,
        )  # fmt: skip
        return done.stdout

    with Server() as served:
        root = f"{served.url}/p/{target.pid}/debug/pprof"
        shown = top(f"{root}/heap?gc=1&token={served.token}")
        assert "Type: inuse_space" in shown
        assert any("100000B" in line and "allocate" in line for line in shown.splitlines())
        target.tell("c 40 500")
        assert "Type: alloc_space" in top(
            f"{served.url}/debug/pprof/allocs?pid={target.pid}&token={served.token}"
        )

        with served.connect() as waiting:
            path = f"/p/{target.pid}/debug/pprof/heap?seconds=2&token={served.token}"
            waiting.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
            # Whoever asks later is answered from what is read as late or later.
            served.ask(f"/p/{target.pid}/profile.heap")
            target.tell("a 30 3000")
            data = Answered(read_all(waiting)).body
    file = tmp_path / "part.pb.gz"
    file.write_bytes(data)
    shown = top(str(file))
    assert any("90000B" in line and "allocate" in line for line in shown.splitlines()), shown
    assert "Duration: " in shown


def test_the_text_form_is_that_of_heap_files(both: tuple[Stepper, Server]) -> None:
    target, server = both
    text = server.ask(f"/p/{target.pid}/debug/pprof/heap?debug=1")
    assert text.body.startswith(b"heap profile: ")
    assert text.headers["content-type"].startswith("text/plain")


def test_prometheus_reads_the_metrics(both: tuple[Stepper, Server]) -> None:
    target, server = both
    answer = server.scrape()
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = {
        (sample.name, sample.labels.get("function", "")): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.labels.get("pid") == str(target.pid)
    }
    assert found["mem_profiler_inuse_bytes", ""] >= 100_000
    assert found["mem_profiler_function_inuse_bytes", "allocate"] == 100_000
    assert found["mem_profiler_sampling_rate_bytes", ""] == 1
    assert found["mem_profiler_resident_bytes", ""] > 100_000
    assert found["mem_profiler_lost_total", ""] == 0


def test_captures_are_begun_and_ended_by_post_alone(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    with Stepper(stepper) as one, Server("--control", folder=tmp_path) as server:
        idle = server.ask(f"/p/{one.pid}/live").json()
        assert (idle["state"], idle["data"]) == ("idle", None)
        assert server.ask(f"/p/{one.pid}/start").status == 405
        foreign = server.ask(f"/p/{one.pid}/start", "Origin: http://evil.example", method="POST")
        assert foreign.status == 403
        assert server.ask(f"/p/{one.pid}/start", method="POST", body='{"rate": 0}').status == 400
        assert server.ask(f"/p/{one.pid}/start", method="POST", body='{"rate": 1}').status == 200
        one.tell("a 10 1000")
        found = server.ask(f"/p/{one.pid}/live").json()
        assert (found["state"], found["own"]) == ("captured", True)
        assert heap_of(server, one.pid, tmp_path) == 10_000
        again = server.ask(f"/p/{one.pid}/start", method="POST", body='{"rate": 1}')
        assert again.status == 409
        assert server.ask(f"/p/{one.pid}/stop", method="POST").status == 200
        assert server.ask(f"/p/{one.pid}/live").json()["state"] == "idle"
        # Ended with the server, where nobody ended it.
        assert server.ask(f"/p/{one.pid}/start", method="POST", body='{"rate": 1}').status == 200
        code, errors = server.end()
        assert (code, errors) == (0, "")
        assert "idle" in run_command("ps").stdout


def test_a_server_that_only_reads_begins_nothing(target: Stepper, tmp_path: Path) -> None:
    with Server(folder=tmp_path) as reading:
        for order in ("start", "stop"):
            refused = reading.ask(f"/p/{target.pid}/{order}", method="POST")
            assert refused.status == 403
            assert "--control" in refused.json()["error"]


def test_what_somebody_else_captures_is_left_alone(both: tuple[Stepper, Server]) -> None:
    target, server = both
    refused = server.ask(f"/p/{target.pid}/stop", method="POST")
    assert refused.status == 409
    assert server.ask(f"/p/{target.pid}/live").json()["state"] == "captured"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/p/1/live", 403),
        ("/p/999999999/live", 404),
        ("/p/0/live", 404),
        ("/p/99999999999999999999999/live", 404),
        ("/p/-1/live", 404),
        ("/p/x/live", 404),
        ("/p/1/../../etc/passwd", 404),
        ("/..%2f..%2fetc/passwd", 404),
        ("/%00", 404),
        ("/p/%ff/live", 404),
        ("/debug/pprof/heap?pid=abc", 404),
        ("/debug/pprof/heap?pid=1&seconds=nan", 400),
        ("/debug/pprof/heap?pid=1&seconds=1e9", 400),
        ("/debug/pprof/heap?pid=1&seconds=99999", 400),
        ("/p/1/live?after=" + "9" * 40, 400),
        ("/?" + "a" * 5000, 414),
    ],
)
def test_wrong_addresses_get_one_line(both: tuple[Stepper, Server], path: str, status: int) -> None:
    if status == 403 and os.geteuid() == 0:
        pytest.skip("root may read all processes")
    answered = both[1].ask(path)
    assert answered.status == status, answered.body
    if answered.headers["content-type"] == "application/json":
        assert set(answered.json()) <= {"error", "hint"}


def test_two_hundred_clients_at_once_share_one_reader(both: tuple[Stepper, Server]) -> None:
    target, server = both
    server.ask(f"/p/{target.pid}/live")
    with ThreadPoolExecutor(200) as workers:
        answers = list(workers.map(lambda _: server.ask(f"/p/{target.pid}/live"), range(200)))
    assert {answer.status for answer in answers} == {200}
    readers = [
        name
        for task in Path(f"/proc/{server.pid}/task").iterdir()
        if (name := (task / "comm").read_text().strip()).startswith("reader of")
    ]
    threads = len(list(Path(f"/proc/{server.pid}/task").iterdir()))
    assert len(readers) <= 1
    assert threads < 20


def test_a_client_that_never_reads_holds_up_nobody_and_costs_little(
    both: tuple[Stepper, Server],
) -> None:
    target, server = both
    ask = f"GET /p/{target.pid} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    with server.connect() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            for _ in range(2000):
                deaf.send(ask)
        before = resident_bytes(server.pid)
        for _ in range(5):
            assert server.ask("/processes").status == 200
        assert resident_bytes(server.pid) - before < 20 << 20


def test_the_target_is_killed_while_it_is_watched(
    stepper: Path, segment_dir: Path, server: Server
) -> None:
    with Stepper(stepper, **RATE) as one:
        one.tell("a 10 1000")
        first = server.ask(f"/p/{one.pid}/live").json()
        one.child.kill()
        one.child.wait(TIMEOUT_S)
        seen, frame = first["seq"], first
        while frame["state"] == "captured":
            answer = server.ask(f"/p/{one.pid}/live?after={seen}")
            assert answer.status == 200, answer.body
            frame = answer.json()
            seen = frame["seq"]
        assert frame["state"] == "ended"
        assert frame["data"] is not None
        again = server.ask(f"/p/{one.pid}/live").json()
        assert (again["seq"], again["how"]) == (seen, "")
        assert server.ask(f"/p/{one.pid}/debug/pprof/heap").status == 200


def test_a_capture_of_the_servers_own_is_kept_when_its_target_is_killed(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    with Stepper(stepper) as one, Server("--control", folder=tmp_path) as server:
        assert server.ask(f"/p/{one.pid}/start", method="POST", body='{"rate": 1}').status == 200
        one.tell("a 10 1000")
        one.child.kill()
        one.child.wait(TIMEOUT_S)
        wait_until(
            lambda: server.ask(f"/p/{one.pid}/live").json()["state"] == "ended", "the end is seen"
        )
        for _ in range(2):
            frame = server.ask(f"/p/{one.pid}/live").json()
            assert frame["how"] == f"mem_profiler recover {one.pid}"
            assert "SIGKILL" in frame["why"] or "target ended" in frame["why"]
            assert heap_of(server, one.pid, tmp_path) == 10_000
        assert server.ask(f"/p/{one.pid}/start", method="POST", body='{"rate": 1}').status == 404
        with Server() as other:
            refused = other.ask(f"/p/{one.pid}/profile.heap")
            assert (refused.status, "recover" in refused.json()["hint"]) == (404, True)
        assert server.end() == (0, "")
        command_ok("recover", one.pid, "-o", tmp_path / "late")
        assert list(tmp_path.glob("late*.heap"))


def test_another_program_in_the_process_is_followed(
    target: Stepper, stepper: Path, server: Server, tmp_path: Path
) -> None:
    frame = server.ask(f"/p/{target.pid}/live").json()
    target.tell(f"x {stepper}")
    target.tell("a 33 1000")
    while frame["state"] == "captured":
        frame = server.ask(f"/p/{target.pid}/live?after={frame['seq']}").json()
    assert (frame["state"], "exec" in frame["why"]) == ("ended", True)
    assert "97.66 KiB" in frame["data"]["facts"]["headlines"]["inuse.space"]
    later = server.ask(f"/p/{target.pid}/live?after={frame['seq']}").json()
    assert later["state"] == "captured"
    assert heap_of(server, target.pid, tmp_path) == 33_000


def test_a_target_that_forks_is_watched_as_before(target: Stepper, server: Server) -> None:
    first = server.ask(f"/p/{target.pid}/live").json()
    target.send("k")
    target.tell("a 5 1000")
    assert server.ask(f"/p/{target.pid}/live?after={first['seq']}").json()["seq"] > first["seq"]


def test_hostile_names_of_a_target_are_text(
    stepper: Path, segment_dir: Path, server: Server, tmp_path: Path
) -> None:
    hostile = tmp_path / '<b>\x1b[m"}\n'
    shutil.copy(stepper, hostile)
    with Stepper(hostile, **RATE) as one:
        one.tell("a 5 1000")
        page = server.ask(f"/p/{one.pid}").body
        assert b"<b>" not in page
        assert b"\x1b" not in page
        frame = server.ask(f"/p/{one.pid}/live")
        assert b"\x1b" not in frame.body
        assert frame.json()["state"] == "captured"
        rows = server.ask("/processes").json()["rows"]
        assert all(json.dumps(row).isprintable() for row in rows)
        text = server.scrape().body.decode()
        families = list(text_string_to_metric_families(text))
        mine = [s for f in families for s in f.samples if s.labels.get("pid") == str(one.pid)]
        assert mine
        assert all(value.isprintable() for sample in mine for value in sample.labels.values())
        name = server.ask(f"/p/{one.pid}/profile.heap").headers["content-disposition"]
        assert name.isprintable()
        assert "<" not in name


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly_whoever_waits(
    target: Stepper, segment_dir: Path, tmp_path: Path, number: int
) -> None:
    with Server(folder=tmp_path) as one:
        path = tmp_path / "serve.sock"
        assert path.exists()
        target_live = one.ask(f"/p/{target.pid}/live").json()

        def wait() -> None:
            with contextlib.suppress(ConnectionError):  # the server may be quicker
                one.ask(f"/p/{target.pid}/debug/pprof/heap?seconds=60")

        idle = threading.Thread(target=wait, daemon=True)
        idle.start()
        assert target_live["state"] == "captured"
        assert one.end(number) == (0, "")
        assert not path.exists()
        idle.join(TIMEOUT_S)
        assert not idle.is_alive()
    # The capture of somebody else goes on.
    assert "capturing" in run_command("ps").stdout


def test_a_second_server_at_the_socket_is_refused_and_a_dead_ones_is_replaced(
    segment_dir: Path, tmp_path: Path
) -> None:
    with Server(folder=tmp_path) as first:
        again = run_command("serve", "--socket", tmp_path / "serve.sock")
        assert again.returncode == 1
        assert "another server answers" in again.stderr
        first.child.kill()
        first.child.wait(TIMEOUT_S)
        with Server(folder=tmp_path) as second:
            assert second.ask("/processes").status == 200


def test_an_address_that_others_reach_needs_words_for_it(segment_dir: Path) -> None:
    refused = run_command("serve", "--listen", "0.0.0.0:0")
    assert refused.returncode == 2
    assert "--public" in refused.stderr
    with Server("--listen", "0.0.0.0:0", "--public", "--host", "build7") as one:
        assert one.token
        assert one.ask("/processes").status == 200
        assert one.ask("/processes", known=False).status == 401
        assert one.ask("/processes", "Host: build7:80").status == 200
        assert one.ask("/processes", "Host: evil.example").status == 403
        _, errors = one.end()
        assert "not encrypted" in errors


def test_a_token_file_is_read_if_it_is_the_users_alone(segment_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a-token-of-the-scraper-1234\n")
    file.chmod(0o644)
    refused = run_command("serve", "--listen", "127.0.0.1:0", "--token-file", file)
    assert refused.returncode == 2
    assert "chmod 600" in refused.stderr
    file.chmod(0o600)
    with Server("--token-file", file) as one:
        assert "token" not in one.first_line
        given = "Authorization: Bearer a-token-of-the-scraper-1234"
        assert one.ask("/processes", given, known=False).status == 200
        assert one.ask("/processes", known=False).status == 401
    file.write_text("short")
    assert "16" in run_command("serve", "--listen", ":0", "--token-file", file).stderr


@pytest.mark.soak  # a quarter of a minute
def test_nobody_watching_means_no_reading(
    target: Stepper, segment_dir: Path, tmp_path: Path
) -> None:
    with Server(folder=tmp_path) as one:
        one.ask(f"/p/{target.pid}/live")

        def has_segment() -> bool:
            opened = []
            for fd in Path(f"/proc/{one.pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                    opened.append(os.readlink(fd))
            return any(str(segment_dir) in name for name in opened)

        assert has_segment()
        wait_until(lambda: not has_segment(), "the reader rests")


NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs files of another user")
UID = 12_345


@pytest.fixture
def made(segment_dir: Path) -> Iterator[Made]:
    with Made(segment_dir) as one:
        one.allocate(0, 100, 5000)
        yield one


def on_page(server: Server, pid: int, *, now: bool = False) -> bytes:
    """What the page of a process gets, unpacked; ``now``: of a moment to come."""
    answered = server.ask(f"/p/{pid}/live?after={time.time_ns() // 10**6 if now else 0}")
    assert answered.status == 200, answered.body
    _, _, packed = answered.json()["data"]["tree"].partition(":")
    return zlib.decompress(base64.b64decode(packed))


def functions(body: bytes) -> set[str]:
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
    wait_until(lambda: b"later_one" in on_page(server, made.pid, now=True), "the name is there")


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
    with Target.started(words, environment(segment_dir, rate=1), cwd=tmp_path) as node:
        assert node.ask("go") == "ok"
        found = functions_of_pprof(server.ask(f"/p/{node.pid}/debug/pprof/heap").body)
        assert {"makeBuffer", "handleRequest"} <= found
        Path(f"/tmp/perf-{node.pid}.map").unlink(missing_ok=True)
