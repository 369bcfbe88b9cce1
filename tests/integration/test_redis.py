"""Real programs under load: redis's own count of its memory, and the same work as alone."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from controller_tools import HeapFile, command_environment, command_ok, run_command
from mem_cli import demo
from mem_parser.estimate import unsample
from sampler_run import (
    SAMPLER,
    WAIT_S,
    Counted,
    Target,
    environment,
    only_counted,
    run,
    run_ok,
    segments,
    silent,
)

NEEDS_REDIS = pytest.mark.skipif(
    not all(map(shutil.which, demo.PROGRAMS)), reason="redis is not installed"
)
SOAK_CAPTURES = 60


class Redis:
    """A redis-server of the test's own, with the sampler in it."""

    def __init__(self, pid: int, port: int) -> None:
        self.pid, self.port = pid, port

    def ask(self, words: str) -> str:
        """The answer to one inline command."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as client:
            client.sendall(f"{words}\r\nQUIT\r\n".encode())
            answer = b""
            while part := client.recv(65536):
                answer += part
        return answer.decode()

    def used_memory(self) -> int:
        """Bytes that redis counts as allocated: usable sizes of all its blocks."""
        found = re.search(r"used_memory:(\d+)", self.ask("INFO memory"))
        return int(found[1])

    def load(self, *arguments: str) -> None:
        subprocess.run(
            ["redis-benchmark", "-p", str(self.port), "-q", *arguments],
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=120,
        )


@contextmanager
def redis_server(folder: Path, work: Path) -> Iterator[Redis]:
    port, log = demo.free_port(), work / "redis.log"
    arguments = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
    arguments += ["--dir", str(work), "--logfile", str(log), "--maxmemory", "1gb"]
    arguments += ["--maxmemory-policy", "allkeys-lru"]
    environment = {"LD_PRELOAD": str(SAMPLER), "MEM_PROFILER_DIR": str(folder)}
    with demo.child(arguments, environment) as process:
        demo.wait_for_server(process, port, log)
        yield Redis(process.pid, port)


@NEEDS_REDIS
def test_the_demonstration_leaves_a_table_and_a_picture_and_nothing_running(tmp_path: Path) -> None:
    done = run_ok(
        [sys.executable, "-m", "mem_cli.demo", "--seconds", "1", "--out", str(tmp_path / "demo")],
        command_environment(), cwd=tmp_path,
    )  # fmt: skip
    table = (tmp_path / "demo" / "redis.txt").read_text()
    assert re.match(r"Total: \d[\d.]* MiB (± \S+ MiB \(95 %\) )?in use", table)
    assert "processCommand" in table
    assert "Total MB: " in (tmp_path / "demo" / "redis.svg").read_text()
    assert "succeeded in collecting memory data!" in done.stdout
    pid = re.search(r"runs as pid (\d+)", done.stdout)
    assert not Path(f"/proc/{pid[1]}").exists()


@NEEDS_REDIS
def test_the_estimate_agrees_with_what_redis_counts_itself(
    segment_dir: Path, tmp_path: Path
) -> None:
    with redis_server(segment_dir, tmp_path) as redis:
        before = redis.used_memory()
        assert run_command("start", redis.pid, "-c", "1024").returncode == 0
        redis.load("-n", "200000", "-r", "1000000", "-d", "300", "-P", "16", "-t", "set")
        grown = redis.used_memory() - before
        command_ok("stop", redis.pid, "-o", tmp_path / "redis")

    heap = HeapFile(next(tmp_path.glob("redis.*.heap")))
    blocks = heap.columns["alloc_blocks"] - heap.columns["freed_blocks"]
    bytes_ = heap.columns["alloc_bytes"] - heap.columns["freed_bytes"]
    live = unsample(blocks, bytes_, 1024).bytes.sum()
    print(f"redis counts {grown} bytes, the estimate is {live:.0f}")
    # Redis counts whole size classes of jemalloc, at most a quarter above what was asked for.
    assert 0.78 * grown < live < 1.01 * grown


@NEEDS_REDIS
@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_many_captures_of_a_loaded_server_lose_nothing_and_stay_bounded(
    segment_dir: Path, tmp_path: Path
) -> None:
    lost, samples, segment, answered = 0, 0, 0, 0
    with redis_server(segment_dir, tmp_path) as redis:
        load = ["redis-benchmark", "-p", str(redis.port), *demo.LOAD.split()]
        with demo.child(load, {}):
            for _ in range(SOAK_CAPTURES):
                command_ok("-s", "3", "-p", redis.pid, "-o", tmp_path / "soak")
                answered += redis.ask("PING").startswith("+PONG")
                heap = HeapFile(max(tmp_path.glob("soak.*.heap"), key=os.path.getmtime))
                samples += heap.header["samples"]
                lost += sum(
                    heap.header["lost"][k]
                    for k in ("reentry", "live_full", "site_full", "stack_room")
                )
                segment = max(segment, heap.header["memory"]["segment_bytes"])
    print(f"{SOAK_CAPTURES} captures, {samples} samples, {lost} lost, segment {segment >> 20} MiB")
    assert answered == SOAK_CAPTURES
    assert lost * 10_000 <= samples
    assert segment <= 256 << 20


def need(*programs: str) -> None:
    """Skip where a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def estimate(counted: Counted, rate: int) -> tuple[float, float]:
    """Estimated bytes allocated and in use."""
    sites = counted.rows.sites
    return (
        float(unsample(sites.alloc_blocks, sites.alloc_bytes, rate).bytes.sum()),
        float(unsample(sites.inuse_blocks, sites.inuse_bytes, rate).bytes.sum()),
    )


@contextlib.contextmanager
def redis(folder: Path, tmp_path: Path, **settings: str) -> Iterator[tuple[Target, Path]]:
    """A redis-server on a socket of its own."""
    need("redis-server", "redis-benchmark", "redis-cli")
    path = tmp_path / "redis.sock"
    argv = ["redis-server", "--port", "0", "--unixsocket", path, "--save", "", "--daemonize", "no"]
    with Target(argv, environment(folder, **settings), cwd=tmp_path) as target:
        while "eady to accept connections" not in target.line():
            pass
        while not path.exists():  # announced just before the socket is bound in some versions
            os.sched_yield()
        yield target, path


def cli(path: Path, *words: str) -> str:
    return run(["redis-cli", "-s", path, *words], dict(os.environ)).stdout.strip()


def test_redis_may_fork_to_save_while_it_is_captured(segment_dir: Path, tmp_path: Path) -> None:
    with redis(segment_dir, tmp_path, rate=64) as (target, path):
        cli(path, "debug", "populate", "20000")
        assert cli(path, "save") == "OK"
        assert "started" in cli(path, "bgsave")
        while "rdb_bgsave_in_progress:0" not in cli(path, "info", "persistence"):
            pass
        assert "rdb_last_bgsave_status:ok" in cli(path, "info", "persistence")
        assert len(segments(segment_dir)) == 1
        assert target.counted().missing == 0
        cli(path, "shutdown", "nosave")
        target.finish()


def test_sqlite_gives_the_same_answers(segment_dir: Path) -> None:
    need("sqlite3")
    script = (
        "create table t(a, b); "
        "with recursive n(i) as (select 1 union all select i+1 from n where i<20000) "
        "insert into t select i, hex(randomblob(20)) from n; create index x on t(b); "
        "select count(*), sum(a), count(distinct b) from t;"
    )
    result = run(["sqlite3", ":memory:", script], environment(segment_dir, rate=512))
    assert (result.returncode, result.stdout, result.stderr) == (0, "20000|200010000|20000\n", "")
    counted = only_counted(segment_dir)
    assert counted.missing == 0
    allocated, live = estimate(counted, 512)
    assert allocated > 1_000_000
    assert live < 0.2 * allocated


def test_the_c_compiler_makes_the_same_file(segment_dir: Path, tmp_path: Path) -> None:
    need("gcc")
    source = Path(__file__).resolve().parent.parent / "targets" / "family.c"
    flags = ["-O2", "-D_GNU_SOURCE", "-S", "-Wno-all", source, "-o"]
    subprocess.run(["gcc", *flags, tmp_path / "plain.s"], check=True, timeout=WAIT_S)
    env = environment(segment_dir, rate=256, only="cc1")
    silent(["gcc", *flags, tmp_path / "loaded.s"], env)
    assert (tmp_path / "loaded.s").read_bytes() == (tmp_path / "plain.s").read_bytes()
    counted = only_counted(segment_dir)
    assert counted.control.text("comm") == "cc1"
    assert counted.missing == 0
    allocated, _ = estimate(counted, 256)
    assert allocated > 1_000_000
