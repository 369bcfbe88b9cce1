"""Attach to real programs and services under load: no reply is lost, no result changes."""

import http.client
import json
import math
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest
from click.testing import CliRunner

from attach_run import Unprepared
from controller_tools import HeapFile, command_ok, wait_until
from mem_cli import demo
from mem_cli.parser.group import cli
from mem_profiler import attach as attaching
from sampler_run import build

WAIT_S = 120

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"))), None)
NOBODY = 65534
ROUNDS = 30


def captured(pid: int, folder: Path, seconds: float = 0.2) -> HeapFile:
    """One capture by the default form."""
    done = command_ok("-s", seconds, "-c", "1024", "-p", pid, "-o", folder / "p")
    assert "attached to" in done.stderr
    assert "detached from" in done.stderr
    return HeapFile(max(folder.glob(f"p.{pid}.*.heap"), key=os.path.getmtime))


def attach_and_detach(pid: int, times: int) -> None:
    for _ in range(times):
        attaching.attach(pid)
        attaching.detach(pid)


@contextmanager
def redis(work: Path) -> Iterator[tuple[int, int]]:
    """A redis-server that nobody prepared: pid and port."""
    port, log = demo.free_port(), work / "redis.log"
    arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    arguments += ["--dir", str(work), "--logfile", str(log)]
    with demo.child(arguments, {}) as process:
        demo.wait_for_server(process, port, log)
        yield process.pid, port


def benchmark(port: int, requests: int) -> subprocess.Popen[str]:
    load = ["redis-benchmark", "-p", str(port), "-q", "-n", str(requests), "-r", "100000"]
    return subprocess.Popen(
        [*load, "-d", "200", "-P", "8", "-t", "set,lpush,incr"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def end(load: subprocess.Popen[str], port: int) -> None:
    """End a load, which goes on without an error until then; another one ends by itself."""
    assert load.poll() is None
    load.send_signal(signal.SIGINT)
    output, _ = load.communicate(timeout=WAIT_S)
    assert "rror" not in output
    with benchmark(port, 10000) as again:
        output, _ = again.communicate(timeout=WAIT_S)
    assert again.returncode == 0, output
    assert "rror" not in output
    assert len(re.findall("requests per second", output)) == 3


@pytest.mark.skipif(not all(map(shutil.which, demo.PROGRAMS)), reason="redis is not installed")
def test_redis_answers_every_request_meanwhile(segment_dir: Path, tmp_path: Path) -> None:
    with redis(tmp_path) as (pid, port), benchmark(port, 10**8) as load:
        heap = captured(pid, tmp_path)
        attach_and_detach(pid, 1)
        end(load, port)
    assert heap.header["samples"] > 1000
    assert "jemalloc" in heap.header["allocator"]


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_redis_a_hundred_times_under_load(segment_dir: Path, tmp_path: Path) -> None:
    with redis(tmp_path) as (pid, port), benchmark(port, 10**8) as load:
        for _ in range(100):
            attach_and_detach(pid, 1)
        end(load, port)


def cpu_seconds(pid: int) -> float:
    tasks = Path(f"/proc/{pid}/task")
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9


def cost_ratios(one: tuple[int, int], other: tuple[int, int], rounds: int) -> list[float]:
    """CPU time of one server by that of another, for the same load in turns. Each: pid and port."""
    ratios = []
    for i in range(rounds):
        spent = {}
        for pid, port in (one, other) if i % 2 else (other, one):
            start = cpu_seconds(pid)
            with benchmark(port, 100000) as load:
                load.communicate(timeout=WAIT_S)
            spent[pid] = cpu_seconds(pid) - start
        ratios.append(spent[one[0]] / spent[other[0]])
    return ratios


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_after_a_detach_redis_costs_what_it_cost_before(segment_dir: Path, tmp_path: Path) -> None:
    """Two servers differ by some percent from the start: what counts is whether that changes."""
    folders = [tmp_path / name for name in ("never", "detached")]
    for folder in folders:
        folder.mkdir()
    with redis(folders[0]) as never, redis(folders[1]) as detached:
        cost_ratios(detached, never, 2)
        before = cost_ratios(detached, never, ROUNDS)
        attach_and_detach(detached[0], 3)
        after = cost_ratios(detached, never, ROUNDS)
    change = statistics.mean(after) / statistics.mean(before) - 1
    error = 2 * math.hypot(statistics.stdev(before), statistics.stdev(after)) / ROUNDS**0.5
    print(f"after a detach: {100 * change:+.2f} % CPU time a request, ± {100 * error:.2f} (95 %)")
    assert change - error < 0.005


def test_a_cxx_program_is_seen_by_operator_new(segment_dir: Path, tmp_path: Path) -> None:
    with Unprepared.started([build("cxx_storm.cc")], segment_dir) as target:
        heap = captured(target.pid, tmp_path, 1)
        attach_and_detach(target.pid, 1)
        words = target.finish().split()
    assert int(words[1]) > 0
    assert words[3] == "0"
    assert heap.header["samples"] > 1000


def rustc() -> Path | None:
    """The compiler itself, which brings a jemalloc of its own; not rustup's stand-in for it."""
    if shutil.which("rustc") is None:
        return None
    root = subprocess.run(
        ["rustc", "--print", "sysroot"], capture_output=True, text=True, timeout=WAIT_S
    ).stdout.strip()
    program = Path(root) / "bin" / "rustc"
    return program if program.is_file() else None


RUST = """
pub fn f{0}(x: &str) -> std::collections::BTreeMap<String, Vec<u64>> {{
    let mut m = std::collections::BTreeMap::new();
    for (k, c) in x.chars().enumerate() {{
        m.entry(format!("{{}}{{}}", c, k + {0})).or_insert_with(Vec::new).push((k * {0}) as u64);
    }}
    m
}}
"""


@pytest.mark.soak
@pytest.mark.skipif(rustc() is None, reason="rustc is not installed")
def test_rustc_with_its_own_jemalloc_compiles_on(segment_dir: Path, tmp_path: Path) -> None:
    program = rustc()
    assert program is not None
    source = tmp_path / "many.rs"
    source.write_text("".join(RUST.format(i) for i in range(1500)))
    arguments = [program, "-O", "--crate-type", "lib", source, "-o", tmp_path / "libmany.rlib"]
    libraries = {**os.environ, "LD_LIBRARY_PATH": str(program.parents[1] / "lib")}
    with subprocess.Popen(arguments, env=libraries, stderr=subprocess.PIPE, text=True) as compiler:
        time.sleep(0.5)  # it opens its libraries at first
        heap = captured(compiler.pid, tmp_path, 1.0)
        attach_and_detach(compiler.pid, 2)
        _, errors = compiler.communicate(timeout=2 * WAIT_S)
    assert compiler.returncode == 0, errors
    assert (tmp_path / "libmany.rlib").exists()
    assert heap.header["samples"] > 1000


class Postgres:
    """A server of its own for this test, run by an unprivileged user, on a socket only."""

    def __init__(self, folder: Path) -> None:
        assert POSTGRES is not None
        self.data = folder / "data"
        self.folder = folder
        self.bin = POSTGRES
        self.run("initdb", "-D", self.data, "-A", "trust", "-N", "--no-locale")
        options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
        self.run("pg_ctl", "-D", self.data, "-w", "-o", options, "-l", folder / "log", "start")

    def command(self, name: str, *arguments: object) -> list[str]:
        drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        words = [str(self.bin / name), *map(str, arguments)]
        return [*drop, *words] if os.geteuid() == 0 else words

    def run(self, name: str, *arguments: object) -> None:
        subprocess.run(
            self.command(name, *arguments), check=True, timeout=WAIT_S, cwd=self.folder,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def backends(self) -> list[int]:
        """Processes that serve a connection of pgbench."""
        parent = int((self.data / "postmaster.pid").read_text().split()[0])
        words = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        return [
            pid
            for pid in map(int, words)
            if b"[local]" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]


@pytest.mark.skipif(POSTGRES is None, reason="PostgreSQL is not installed")
def test_postgresql_fails_no_transaction(segment_dir: Path, tmp_path: Path) -> None:
    folder = segment_dir / "postgres"
    folder.mkdir()
    folder.chmod(0o777)
    server = Postgres(folder)
    try:
        server.run("pgbench", "-h", folder, "-i", "-q", "-s", "1", "postgres")
        arguments = ("pgbench", "-h", folder, "-n", "-T", "300", "-c", "2", "postgres")
        with subprocess.Popen(
            server.command(*arguments), cwd=folder, stdout=subprocess.PIPE, text=True
        ) as load:
            give_up = time.monotonic() + 20
            # pgbench asks for facts first, over a connection whose process ends after it.
            seen: list[int] = []
            while time.monotonic() < give_up:
                before, seen = seen, server.backends()
                if len(seen) == 2 and seen == before:
                    break
                time.sleep(0.1)
            first, second = seen
            heap = captured(first, tmp_path)
            attach_and_detach(second, 1)
            load.send_signal(signal.SIGALRM)  # as when its time is over
            output, _ = load.communicate(timeout=WAIT_S)
        assert load.returncode == 0
        assert "number of failed transactions: 0 " in output
        assert heap.header["samples"] > 0
    finally:
        server.run("pg_ctl", "-D", server.data, "-m", "immediate", "-w", "stop")


TARGETS = Path(__file__).parents[1] / "targets"
REQUESTS = 50


class Load:
    """Threads that ask a server again and again; ``answers`` are its bodies."""

    def __init__(self, port: int) -> None:
        self.answers: list[bytes] = []
        self.problems: list[str] = []
        self._port = port
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(WAIT_S)

    def more(self, count: int) -> None:
        """Wait until so many more requests were answered."""
        wanted = len(self.answers) + count
        wait_until(lambda: len(self.answers) >= wanted or bool(self.problems), "answers")

    def _ask(self) -> None:
        while not self._end.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
            try:
                for _ in range(20):
                    connection.request("GET", "/")
                    answer = connection.getresponse()
                    assert answer.status == 200
                    self.answers.append(answer.read())
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.problems.append(repr(error))
                return
            finally:
                connection.close()


@contextmanager
def served(workers: int) -> Iterator[int]:
    """A server of the application with so many processes: its port."""
    port = demo.free_port()
    words = [sys.executable, "-m", "uvicorn", "--app-dir", str(TARGETS), "--port", str(port)]
    words += ["--workers", str(workers), "--log-level", "critical", "python_service:application"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: answers(port), "server")
        yield port
    finally:
        server.terminate()
        server.wait(WAIT_S)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def watched(pids: list[int], folder: Path, work: Callable[[], None]) -> list[Path]:
    """Attach to processes, capture while they `work`, and leave them; the files."""
    for pid in pids:
        command_ok("attach", "-c", "1024", pid)
    work()
    files = []
    for pid in pids:
        command_ok("stop", pid, "-o", folder / "x")
        attaching.detach(pid)
        [file] = folder.glob(f"x.{pid}.*.heap")
        files.append(file)
    return files


def own_bytes(file: Path) -> dict[str, float]:
    """What each function of the program holds itself."""
    done = CliRunner().invoke(cli, ["top", str(file), "-n", "0", "--json"])
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.output)["rows"]
    return {row["function"].split(" ")[0]: row["flat"] for row in rows}


@pytest.mark.parametrize("workers", [pytest.param(1, marks=pytest.mark.soak), 2])
def test_a_web_server_answers_every_request(
    segment_dir: Path, tmp_path: Path, workers: int
) -> None:
    with served(workers) as port, Load(port) as load:
        wait_until(lambda: len(set(load.answers)) == workers, "answers of all processes")
        pids = sorted(map(int, set(load.answers)))
        files = watched(pids, tmp_path, lambda: load.more(REQUESTS))
        load.more(REQUESTS)  # without the sampler
        assert not load.problems
    for file in files:
        held = own_bytes(file)
        assert held["remember"] == max(held.values()) > 0


def test_workers_of_a_pool_do_every_task(segment_dir: Path, tmp_path: Path) -> None:
    pool = subprocess.Popen(
        [sys.executable, str(TARGETS / "python_pool.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert pool.stdin is not None and pool.stdout is not None
    out = pool.stdout
    try:
        pids = sorted(map(int, out.readline().split()))
        assert len(pids) == 2

        def work() -> None:
            done = int(out.readline())
            while int(out.readline()) < done + 20 * REQUESTS:
                pass

        files = watched(pids, tmp_path, work)
        rest, _ = pool.communicate("end\n", timeout=WAIT_S)
        assert rest.splitlines()[-1] == "right"
        assert pool.returncode == 0
    finally:
        pool.kill()
        pool.wait(WAIT_S)
    for file in files:
        assert own_bytes(file)["task"] > 0
