"""The demonstration: profile a real redis-server under load, from start to picture.

Started by ``make demo``. It starts its own redis-server (loopback, a free port, nothing on
disk) with the sampler preloaded, puts it under load, captures it by pid with the two commands a
user would type, and stops what it started. The files stay in the folder given by ``--out``.

All load is bounded: redis by ``--maxmemory``, both children by a signal the kernel sends them when
this process is gone.
"""

from __future__ import annotations

import ctypes
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import click

from mem_cli.errors import run_command
from mem_parser.errors import MemError

PR_SET_PDEATHSIG = 1  # linux/prctl.h
START_TIMEOUT_S = 30.0
SEGMENTS = "/dev/shm"  # noqa: S108 - only a private folder is made in it
MAX_MEMORY = "1gb"
# Requests of every kind, over and over until it is stopped: strings, lists, hashes, sets.
LOAD = "-l -q -c 20 -P 16 -n 60000 -r 1000000 -d 120 -t set,lpush,hset,sadd,zadd"
PROGRAMS = ("redis-server", "redis-benchmark")


def find_programs() -> dict[str, str]:
    """Paths of the programs the demo runs; MemError naming the first that is missing."""
    found = {name: shutil.which(name) for name in PROGRAMS}
    for name, path in found.items():
        if path is None:
            raise MemError(
                f"{name} is not installed", hint="apt-get install redis-server redis-tools"
            )
    return {name: path for name, path in found.items() if path is not None}


def find_sampler() -> Path:
    """The library next to the package mem_profiler; MemError if it was not built."""
    spec = find_spec("mem_profiler")
    places = spec.submodule_search_locations if spec is not None else None
    library = Path(next(iter(places or ["."]))) / "libmem_sampler.so"
    if not library.is_file():
        raise MemError(f"{library} is missing", hint="make build")
    return library


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def child(arguments: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program in the background and end it with the block, or with this process."""
    process = subprocess.Popen(
        arguments,
        env=os.environ | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=_end_with_parent,  # noqa: PLW1509 - no threads have been started here
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A loopback port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    return int(port)


def wait_for_server(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Return once the server answers; MemError when it ends or takes too long."""
    give_up = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up:
        if process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as client:
                client.sendall(b"PING\r\n")
                if client.recv(16).startswith(b"+PONG"):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    last = log.read_text(errors="replace").strip().splitlines()[-1:] if log.exists() else []
    raise MemError(f"redis-server did not start: {''.join(last) or 'it logged nothing'}")


def show(command: list[str]) -> None:
    """Print a command as one would type it, run it, and end as it ended."""
    click.secho(f"\n$ {shlex.join(command)}", bold=True)
    program = Path(sys.executable).parent / command[0]
    sys.stdout.flush()
    done = subprocess.run([str(program), *command[1:]], check=False, timeout=600)
    if done.returncode != 0:
        raise MemError(f"{command[0]} ended with {done.returncode}")


def capture(out: Path, seconds: float, programs: dict[str, str]) -> Path:
    """Start redis under load, capture it, stop it; return the path of the profile."""
    library = find_sampler()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mem-demo-")))
        port, log = free_port(), folder / "redis.log"
        server = [programs["redis-server"], "--port", str(port), "--bind", "127.0.0.1"]
        server += ["--dir", str(folder), "--logfile", str(log), "--save", ""]
        server += ["--maxmemory", MAX_MEMORY, "--maxmemory-policy", "allkeys-lru"]
        # Segments of the demo's own, so that nothing of it is left in the usual folder.
        base = SEGMENTS if os.access(SEGMENTS, os.W_OK) else None
        segments = stack.enter_context(tempfile.TemporaryDirectory(prefix="mem-demo-", dir=base))
        environment = {"LD_PRELOAD": str(library), "MEM_PROFILER_DIR": segments}
        redis = stack.enter_context(child(server, environment))
        wait_for_server(redis, port, log)
        click.echo(
            f"redis-server runs as pid {redis.pid}, on port {port}, with the sampler loaded:"
        )
        click.echo(f"  LD_PRELOAD={library} {PROGRAMS[0]} --port {port}")
        load = [programs["redis-benchmark"], "-p", str(port), *LOAD.split()]
        stack.enter_context(child(load, {}))
        click.echo(f"redis-benchmark loads it: {LOAD}")
        prefix = os.path.relpath(out / "redis")
        rate = ["-c", "1024"]
        show(["mem_profiler", "-s", f"{seconds:g}", *rate, "-o", prefix, "-p", str(redis.pid)])
        written = sorted(out.glob(f"redis.{redis.pid}.*.heap"))
    if not written:
        raise MemError(f"no profile of pid {redis.pid} in {out}")
    return written[-1]


def clear(out: Path) -> None:
    """Remove the files of an earlier run, and no others, from ``out``."""
    out.mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("redis.*.heap"), out / "redis.svg", out / "redis.txt"]:
        old.unlink(missing_ok=True)


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo"),
    show_default=True,
    help="Folder for the profile, the table and the call graph.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Length of the capture.",
)
def demo(out: Path, seconds: float) -> None:
    """Profile a redis-server under load; leave its table and call graph in a folder."""
    programs = find_programs()
    clear(out)
    profile = capture(out, seconds, programs)
    parse = ["mem_parser", "-p", programs["redis-server"], "-f", os.path.relpath(profile)]
    table, graph = out / "redis.txt", out / "redis.svg"
    show([*parse, "-t", "-o", os.path.relpath(table)])
    click.echo(table.read_text(encoding="utf-8"), nl=False)
    show([*parse, "-s", "-o", os.path.relpath(graph)])
    click.secho("\nredis-server and its load are stopped. The files:", bold=True)
    for path, text in ((profile, "the profile"), (table, "the table"), (graph, "the call graph")):
        click.echo(f"  {path.resolve()}  {text}")
    click.echo(f"Open the call graph in a browser: file://{graph.resolve()}")


def main() -> None:
    """Run the demonstration as a program."""
    sys.exit(run_command(demo, "make demo"))


if __name__ == "__main__":
    main()
