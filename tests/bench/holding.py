"""Memory that a capture adds to a process of 1 GiB, and how long reading many sites takes."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from rounds import Case, Numbers, Series, interleave
from tools import HERE, ROOT, Tools, child_environment, compile_c

GIB = 1 << 30
SIZES = 64  # sites of one stack in holder.c
READY_S = 120


@contextlib.contextmanager
def _holder(what: list[str], extra: dict[str, str]) -> Iterator[tuple[int, int]]:
    """Pid and resident KiB of a holder.c process that has everything it will have."""
    program = compile_c("holder", [HERE / "holder.c"], "-fomit-frame-pointer")
    with subprocess.Popen(
        [str(program), *what],
        env=child_environment(extra),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        try:
            words = child.stdout.readline().split()
            if len(words) != 2:
                raise RuntimeError("the process that holds memory did not get ready")
            yield child.pid, int(words[1])
        finally:
            child.kill()


def _resident(tools: Tools, rate: str | None, held: int, *, loaded: bool = True) -> Numbers:
    extra = tools.sampled(rate) if loaded else {}
    with _holder(["bytes", str(held)], extra) as (pid, rss_kib):
        rollup = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
        pss_kib = next(int(line.split()[1]) for line in rollup if line.startswith("Pss:"))
        segment = sum(
            path.stat().st_blocks * 512
            for path in tools.scratch.glob("segments/**/*")
            if path.is_file()
        )
    return {"rss_mib": rss_kib / 1024, "pss_mib": pss_kib / 1024, "segment_mib": segment / 1048576}


def memory(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """Resident memory of a process that holds 1 GiB, per setting."""
    held = GIB // 8 if quick else GIB
    cases = [
        Case("not loaded", lambda: _resident(tools, None, held, loaded=False)),
        Case("idle", lambda: _resident(tools, None, held)),
        Case("512K", lambda: _resident(tools, "512K", held)),
        Case("1024", lambda: _resident(tools, "1024", held)),
    ]
    return {"memory": interleave(cases, 3 if quick else 5, "memory")}


def _snapshot(tools: Tools, held: list[str], rate: str = "1", *options: str) -> Numbers:
    """Seconds of `mem_profiler snapshot` on a holder.c process that holds these."""
    extra = {**tools.sampled(rate), "MEM_PROFILER_MAX_MEMORY": "2G"}
    prefix = tools.scratch / "snapshot"
    command = [str(Path(sys.executable).parent / "mem_profiler"), "snapshot", "-o", str(prefix)]
    with _holder(held, extra) as (pid, _):
        begin = time.perf_counter()
        before = os.times()
        done = subprocess.run(
            [*command, *options, str(pid)],
            env={**child_environment(), "MEM_PROFILER_DIR": str(tools.scratch / "segments")},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        wall = time.perf_counter() - begin
        after = os.times()
    files = list(tools.scratch.glob("snapshot*.heap"))
    if done.returncode != 0 or len(files) != 1:
        raise RuntimeError(f"snapshot: {(done.stderr or done.stdout).strip()[-160:]}")
    size = files[0].stat().st_size
    with files[0].open("rb") as file:
        records = sum(1 for line in file if b"] @ 0x" in line)
    files[0].unlink()
    cpu = (
        after.children_user + after.children_system - before.children_user - before.children_system
    )
    return {"seconds": wall, "cpu_s": cpu, "records": records, "file_mib": size / 1048576}


def snapshots(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """Snapshots of about 10 thousand and a million sites, at one stack for 64 of them, and of 1 GiB
    in 100 thousand sampled blocks without and with their pages.
    """
    small, large = (["sites", str(count // SIZES)] for count in (10_240, 1_048_576))
    many = ["bytes", str(GIB)], "8K"
    cases = [Case("10k sites", lambda: _snapshot(tools, small))]
    if quick:
        return {"snapshot": interleave(cases, 2, "snapshot")}
    cases += [
        Case("1M sites", lambda: _snapshot(tools, large)),
        Case("1 GiB, 100k samples", lambda: _snapshot(tools, *many)),
        Case("the same, --resident", lambda: _snapshot(tools, *many, "--resident")),
    ]
    return {"snapshot": interleave(cases, 3, "snapshot")}
