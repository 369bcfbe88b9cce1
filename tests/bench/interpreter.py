"""Time of one CPython program with all its objects from malloc, bare and under each profiler.

The program builds, sorts, dumps and parses what ordinary programs do; with PYTHONMALLOC=malloc each
of its objects is one malloc: the heaviest use a Python program can make of a malloc hook.
"""

from __future__ import annotations

import sys

from rounds import Case, Numbers, Series, interleave
from tools import Tools, run

PROGRAM = """
import json, re, time

def record(i):
    return {"id": i, "name": f"user {i}", "tags": [str(i * k) for k in range(6)], "at": i * 0.5}

def work(n):
    rows = [record(i) for i in range(n)]
    text = json.dumps(rows)
    again = json.loads(text)
    again.sort(key=lambda row: row["name"])
    groups = {}
    for row in again:
        groups.setdefault(row["name"][-2:], []).append(" ".join(row["tags"]))
    words = {}
    for lines in groups.values():
        for word in re.findall("[0-9]+", ",".join(lines)):
            words[word] = words.get(word, 0) + 1
    return len(words)

work(500)
begin, cpu = time.perf_counter(), time.thread_time()
for _ in range(ROUNDS):
    work(4000)
print((time.perf_counter() - begin) * 1e3, (time.thread_time() - cpu) * 1e3)
"""


def _measure(tools: Tools, launcher: list[str], extra: dict[str, str], rounds: int) -> Numbers:
    script = tools.scratch / "program.py"
    script.write_text(PROGRAM.replace("ROUNDS", str(rounds)), encoding="ascii")
    command = [sys.executable, *launcher, str(script)]
    through_malloc = {"PYTHONMALLOC": "malloc", "MEM_PROFILER_PYMEM": "0"}
    printed = run(command, {**through_malloc, **extra}, cwd=tools.scratch)
    wall, cpu = (float(v) for v in printed.split()[:2])
    return {"wall_ms": wall, "cpu_ms": cpu}


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """Bare, with our sampler at each setting, and under memray."""
    rounds = 4 if quick else 10
    cases = [
        Case("not loaded", lambda: _measure(tools, [], {}, rounds)),
        Case("idle", lambda: _measure(tools, [], tools.sampled(None), rounds)),
        Case("512K", lambda: _measure(tools, [], tools.sampled("512K"), rounds)),
        Case("1024", lambda: _measure(tools, [], tools.sampled("1024"), rounds)),
        Case("every block", lambda: _measure(tools, [], tools.sampled("1"), rounds)),
    ]
    if tools.memray:
        capture = tools.scratch / "memray.bin"
        watch = ["-m", "memray", "run", "-q", "-f", "-o", str(capture)]
        cases.append(Case("memray", lambda: _measure(tools, watch, {}, rounds)))
        native = [*watch, "--native"]
        cases.append(Case("memray --native", lambda: _measure(tools, native, {}, rounds)))
    result = interleave(cases, 3 if quick else 5, "python")
    (tools.scratch / "memray.bin").unlink(missing_ok=True)
    return {"python": result}
