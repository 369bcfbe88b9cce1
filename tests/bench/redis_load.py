"""Throughput of a redis-server pinned to one CPU, under SET, LPUSH and HSET, pipelined.

Model: each measurement starts a fresh server on one CPU, loads it from another with redis-benchmark
over a Unix socket, and ends it. Beside throughput stands the server's own CPU time per request,
which does not depend on what else the machine does. Debian's redis-server is linked with jemalloc:
its built-in profiler is one variable away, and ours works on top of the same allocator.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from rounds import Case, Numbers, Series, interleave
from tools import Tools, run, server

COMMANDS = {"SET": "set", "LPUSH": "lpush", "HSET": "hset"}
LOAD = ("-P", "32", "-c", "50", "-r", "1000000", "-d", "300")
READY_S = 10.0


Beside = Callable[[int, int], contextlib.AbstractContextManager[None]]


def _nothing(_pid: int, _cpu: int) -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _wait_for(socket: Path) -> None:
    give_up = time.monotonic() + READY_S
    while time.monotonic() < give_up:
        try:
            if "PONG" in run(["redis-cli", "-s", str(socket), "ping"]):
                return
        except RuntimeError:
            pass
        time.sleep(0.02)
    raise RuntimeError("redis-server did not answer")


def _cpu_ns(pid: int) -> int:
    """CPU time of the server's main thread."""
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0])


def _load(pid: int, socket: Path, test: str, requests: int, cpu: int) -> tuple[float, float]:
    """Requests per second, and CPU nanoseconds of the server per request."""
    load = ["redis-benchmark", "-s", str(socket), *LOAD, "-n", str(requests), "-t", test, "--csv"]
    before = _cpu_ns(pid)
    printed = run(["taskset", "-c", str(cpu), *load])
    spent = _cpu_ns(pid) - before
    row = printed.strip().splitlines()[-1].split(",")
    return float(row[1].strip('"')), spent / requests


def measure_once(
    tools: Tools, extra: dict[str, str], requests: int, beside: Beside = _nothing
) -> Numbers:
    """Numbers of one server under load; ``beside`` runs for as long, given the server's pid and
    the processor of the load.
    """
    cpus = sorted(os.sched_getaffinity(0))
    socket = tools.scratch / "redis.sock"
    command = ["taskset", "-c", str(cpus[0]), "redis-server", "--port", "0", "--save", ""]
    command += ["--unixsocket", str(socket), "--appendonly", "no", "--daemonize", "no"]
    numbers: Numbers = {}
    with server(command, extra, tools.scratch) as child:
        _wait_for(socket)
        with beside(child.pid, cpus[-1]):
            for name, test in COMMANDS.items():
                rate, cpu_ns = _load(child.pid, socket, test, requests, cpus[-1])
                numbers[f"{name} per second"] = rate
                numbers[f"{name} cpu_ns"] = cpu_ns
    socket.unlink(missing_ok=True)
    seconds = sum(1 / numbers[f"{name} per second"] for name in COMMANDS)
    numbers["all per second"] = len(COMMANDS) / seconds
    numbers["all cpu_ns"] = sum(numbers[f"{name} cpu_ns"] for name in COMMANDS) / len(COMMANDS)
    return numbers


def _captured(tools: Tools, rate: str | None, requests: int) -> Numbers:
    return measure_once(tools, tools.sampled(rate), requests)


def _cases(tools: Tools, requests: int) -> list[Case]:
    cases = [
        Case("unprofiled", lambda: measure_once(tools, {}, requests)),
        Case("idle", lambda: _captured(tools, None, requests)),
        Case("512K", lambda: _captured(tools, "512K", requests)),
        Case("1024", lambda: _captured(tools, "1024", requests)),
        Case("every block", lambda: _captured(tools, "1", requests)),
    ]
    if tools.jemalloc_profiles:
        profile = {"MALLOC_CONF": "prof:true,lg_prof_sample:10"}
        cases.append(Case("jemalloc prof 1024", lambda: measure_once(tools, profile, requests)))
        profile19 = {"MALLOC_CONF": "prof:true,lg_prof_sample:19"}
        cases.append(Case("jemalloc prof 512K", lambda: measure_once(tools, profile19, requests)))
    return cases


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """All cases in turns; then more pairs of unprofiled and 512K, whose difference is small."""
    if not tools.redis:
        return {}
    requests = 100_000 if quick else 400_000
    cases = _cases(tools, requests)
    if quick:
        cases = [
            case for case in cases if case.name in {"unprofiled", "1024", "jemalloc prof 1024"}
        ]
        return {"redis": interleave(cases, 3, "redis")}
    pairs = [case for case in cases if case.name in {"unprofiled", "512K"}]
    return {
        "redis": interleave(cases, 5, "redis"),
        "redis pairs": interleave(pairs, 12, "redis, 512K against unprofiled"),
    }
