"""What events add to a capture of the churn, beside tracers of every event; size and speed of logs.

A case "RATE, events" writes into rings that nobody reads: what the thread of the program pays.
"RATE, log" is the whole command that writes the log, with all its processes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import memlog_speed
from churn import LIVE, RATES, SHORTEST_S, Shape, _numbers, whole
from rounds import Case, Numbers, Series, interleave
from tools import Tools, run

from mem_parser.memlog.run import read_log

SECTION = "events, depth 24, 1 thread"
LOGS = "logs of events"
SIMULATED = 2_000_000
_RINGS = "32M"


def with_events(rate: str) -> str:
    """The name of the case with rings."""
    return f"{rate}, events"


def with_log(rate: str) -> str:
    """The name of the case with a log."""
    return f"{rate}, log"


def _recorder(shape: Shape, name: str, rate: str) -> Case:
    def once() -> Numbers:
        extra = shape.tools.sampled(rate) | {"MEM_PROFILER_EVENTS": _RINGS}
        return shape._plain(extra)

    return Case(with_events(name), once)


def _log(shape: Shape, name: str, rate: str) -> Case:
    return Case(with_log(name), lambda: logged(shape, rate))


def logged(shape: Shape, rate: str) -> Numbers:
    """Run the churn under the command that writes its events, and look at the log."""
    profiler = Path(sys.executable).parent / "mem_profiler"
    with tempfile.TemporaryDirectory(dir=shape.tools.scratch) as name:
        folder = Path(name)
        command = [str(profiler), "run", "-q", "-c", rate, "--events", "-o", str(folder / "x.heap")]
        words = [str(shape.threads), str(shape.depth), str(shape.seconds), str(shape.live)]
        numbers = _numbers(run([*command, "--", str(shape.tools.churn), *words], cwd=folder))
        return numbers | log_numbers(sorted(folder.glob("*.memlog")))


def log_numbers(files: list[Path]) -> Numbers:
    """Events of a log, events that it lacks, and its bytes."""
    with read_log(files) as log:
        count = sum(file.end.events for file in log.files if file.end is not None)
        lost = sum(hole.lost or 0 for hole in log.holes)
    return {"events": count, "lost": lost, "log_bytes": sum(f.stat().st_size for f in files)}


def _cases(tools: Tools, seconds: float) -> list[Case]:
    shape = Shape(tools, 1, 24, seconds, LIVE)
    cases = shape.ours()
    cases += [_recorder(shape, name, rate) for name, rate in RATES.items()]
    peers = [case for case in shape.peers() if case.name.startswith(("heaptrack", "python"))]
    return cases + peers


def _logs(tools: Tools, seconds: float) -> list[Case]:
    long, short = (Shape(tools, 1, 24, s, LIVE) for s in (seconds, SHORTEST_S))
    return [whole(_log(long, n, r), _log(short, n, r)) for n, r in RATES.items()]


def _written(folder: Path) -> Numbers:
    """Write the log of a simulated program, and read it again."""
    path = folder / "x.1.memlog"
    count, used_s = memlog_speed.write_log(path, memlog_speed.simulated(SIMULATED), SIMULATED)
    read, read_s = memlog_speed.read_whole(path)
    if read != count:
        raise RuntimeError(f"{read} of {count} events were read again")
    return {
        "written_per_s": count / used_s,
        "read_per_s": read / read_s,
        "bytes": path.stat().st_size / count,
    }


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """The churn with and without events, and logs."""
    seconds, rounds = (0.05, 5) if quick else (0.15, 15)
    cases = _cases(tools, seconds)
    found = {SECTION: interleave(cases, rounds, SECTION)}
    # A log needs some time to fill: its first file, its keyframes, what the drain does.
    found[SECTION] |= interleave(_logs(tools, 1.0), 3 if quick else 5, f"{SECTION}, logs")
    one = Case(f"{SIMULATED:,} events", lambda: _written(tools.scratch))
    found[LOGS] = interleave([one], 1 if quick else 3, LOGS)
    return found
