"""Real programs as targets: they do their work as without us, and what is counted is theirs."""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mem_parser.estimate import unsample
from sampler_run import (
    WAIT_S,
    Counted,
    Target,
    environment,
    only_counted,
    run,
    segments,
    silent,
)


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
