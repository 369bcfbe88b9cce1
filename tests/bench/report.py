"""Tables of at most 80 columns from what was measured, for the terminal and the document."""

from __future__ import annotations

import events
import live_refresh
import pyreport
from bars import CPU, Bar, Sections
from churn import RATES as CAPTURES
from churn import WHOLE
from rounds import Series, added, median, ratio
from serving_viewers import VIEWED
from table import number, table

RATES = ("forwarding", "idle", "512K", "1024", "every block")


def _churn(sections: Sections) -> str:
    """Ours: one row a shape."""
    shapes = [name for name in sections if name.startswith("depth ")]
    rows = []
    for shape in shapes:
        series = sections[shape]
        cells = [number(added(series, case, "not loaded", CPU)) for case in RATES]
        rows.append([shape, number(median(series, "not loaded", CPU)), *cells])
    head = ["added ns per malloc+free pair", "pair", "forward", "idle", "512K", "1024", "every"]
    return table("CPU ns; `pair`: not loaded", head, rows)


# peer: (its baseline, what the row is called)
PEERS = {
    "1024": ("not loaded", "ours, 1024"),
    "ours on jemalloc 1024": ("jemalloc", "ours over jemalloc, 1024"),
    "jemalloc prof 1024": ("jemalloc", "jemalloc prof, 1024"),
    "tcmalloc sampling 1024": ("tcmalloc", "gperftools (tcmalloc), 1024"),
    "every block": ("not loaded", "ours, every block"),
    "python, ours every block": ("python", "ours in Python, every block"),
    "jemalloc prof every": ("jemalloc", "jemalloc prof, every block"),
    "heaptrack": ("not loaded", "heaptrack"),
    "heaptrack, output discarded": ("not loaded", "heaptrack, output discarded"),
    "python, memray": ("python", "memray in Python, no native stacks"),
    "python, memray --native": ("python", "memray --native in Python"),
}


def _peers(sections: Sections) -> str:
    shapes = [name for name in sections if name.startswith("peers, ")]
    rows = []
    for case, (base, name) in PEERS.items():
        found = [added(sections[shape], case, base, CPU) for shape in shapes]
        if any(value is not None for value in found):
            rows.append([name, *(number(value, 0) for value in found)])
    head = ["added ns per pair, each over its own base", *(s.split(", ")[1] for s in shapes)]
    return table("One thread, ours and theirs in turns, CPU ns", head, rows)


def _whole(series: Series) -> str:
    """What a case adds to its thread, to all processes, and to the time that passes."""
    numbers = (CPU, "all_cpu_ns", "all_wall_ns")
    rows = [
        [name, *(number(added(series, case, base, what), 0) for what in numbers)]
        for case, (base, name) in {
            **{r: ("not loaded", f"ours, {r}") for r in RATES[1:3]},
            **PEERS,
        }.items()
        if case in series and base in series
    ]
    title = "What all processes pay: one thread, 24 frames, each over its own base"
    return table(title, ["added ns per pair", "thread's CPU", "CPU of all", "wall"], rows)


def _live(sections: Sections) -> str | None:
    found = [name for name in sections if name.endswith(" live")]
    if not found:
        return None
    series = sections[found[0]]
    rows = [
        [name, number(median(series, base, CPU)), number(added(series, case, base, CPU))]
        for case, (base, name) in {
            **{r: ("not loaded", f"ours, {r}") for r in RATES[1:4]},
            **PEERS,
        }.items()
        if case in series and base in series
    ]
    return table(f"Many live blocks ({found[0]}), CPU ns", ["", "base pair", "added"], rows)


def _unwind(sections: Sections) -> str:
    series = sections["unwind"]
    case = "ns per frame"
    names = {
        "fp_walk": "bare frame-pointer walk",
        "cfi_hit": "ours, rules cached",
        "cfi_miss": "ours, cache forgotten before each stack",
        "libunwind": "libunwind unw_backtrace",
        "libgcc": "libgcc _Unwind_Backtrace",
    }
    kinds = ("nofp.24", "nofp.90", "fp.24", "fp.90")
    rows = [
        [name, *(number(median(series, case, f"{key}.{kind}"), 2) for kind in kinds)]
        for key, name in names.items()
    ]
    rows = [row for row in rows if any(cell != "-" for cell in row[1:])]
    head = ["ns per frame", "24 no fp", "90 no fp", "24 fp", "90 fp"]
    return table("Unwinders; frames of code without and with frame pointers", head, rows)


def _redis(series: Series) -> str:
    names = ("SET", "LPUSH", "HSET", "all")
    base = median(series, "unprofiled", "all cpu_ns")
    rows = []
    for case in series:
        rates = [(median(series, case, f"{name} per second") or 0) / 1000 for name in names]
        cpu = [median(series, case, f"{name} cpu_ns") for name in names]
        share = number(ratio(base, cpu[-1]), 2)
        rows.append(
            [case, *(number(c, 0) for c in cpu), share, *(number(rate, 0) for rate in rates[-1:])]
        )
    head = ["server CPU ns per request", *names, "throughput", "1000/s seen"]
    title = "redis-server pinned, pipelined by 32; throughput: 1 / CPU time, of unprofiled"
    return table(title, head, rows)


def _serve(series: Series) -> str:
    rows = [
        [
            case,
            number(median(series, case, "all cpu_ns"), 0),
            number((median(series, case, "all per second") or 0) / 1000, 0),
            number(100 * (median(series, case, "share") or 0), 0),
            number(median(series, case, "frames") if case == VIEWED else 0, 0),
        ]
        for case in series
    ]
    head = ["", "server CPU ns per request", "1000/s seen", "% of a CPU beside", "pages sent"]
    return table("redis-server captured at 1024, shown by mem_profiler serve", head, rows)


def _python(series: Series) -> str:
    base = median(series, "not loaded", "cpu_ms") or 1.0
    rows = []
    for case in series:
        cpu, wall = median(series, case, "cpu_ms"), median(series, case, "wall_ms")
        rows.append([case, number(wall, 0), number(cpu, 0), f"{(cpu or 0) / base:.2f}"])
    head = ["", "wall ms", "CPU ms", "of not loaded"]
    return table("CPython, a program of objects, PYTHONMALLOC=malloc", head, rows)


def _memory(series: Series) -> str:
    rows = []
    for case in series:
        rss = median(series, case, "rss_mib")
        more = added(series, case, "not loaded", "rss_mib")
        segment = median(series, case, "segment_mib")
        rows.append([case, number(rss), number(more), number(segment)])
    head = ["MiB", "resident", "added", "segment's pages"]
    return table("Memory of a process that holds 1 GiB in blocks of 64 B to 128 KiB", head, rows)


def _snapshot(series: Series) -> str:
    rows = []
    for case in series:
        numbers = ("seconds", "cpu_s")
        cells = [number(median(series, case, what), 2) for what in numbers]
        rows.append(
            [
                case,
                *cells,
                number(median(series, case, "records"), 0),
                number(median(series, case, "file_mib")),
            ]
        )
    head = ["mem_profiler snapshot", "wall s", "CPU s", "records", "file MiB"]
    return table("Snapshot of a running process, the whole command", head, rows)


def _parse(name: str, series: Series) -> str:
    numbers = ("seconds", "cpu_s")
    rows = [[case, *(number(median(series, case, n), 2) for n in numbers)] for case in series]
    return table(f"From file to table ({name})", ["", "wall s", "CPU s"], rows)


def _wide(name: str, series: Series) -> str:
    rows = [
        [
            case,
            *(number(median(series, case, n), 2) for n in ("seconds", "cpu_s")),
            number(median(series, case, "peak_mib"), 0),
        ]
        for case in series
    ]
    return table(f"Files of {name}", ["mem_parser", "wall s", "CPU s", "peak MiB"], rows)


def _events(series: Series) -> str:
    """What a capture adds to the thread without events, with rings, and with a log."""
    rows = []
    for rate in CAPTURES:
        log = events.with_log(rate)
        cases = (rate, events.with_events(rate), log)
        cells = [number(added(series, case, "not loaded", CPU)) for case in cases[:2]]
        cells.append(number(_added_outside(series, log)))
        cells.append(number(median(series, log, "all_cpu_ns")))
        count, lost = median(series, log, "events"), median(series, log, "lost")
        size = ratio(median(series, log, "log_bytes"), count)
        share = 100 * (lost or 0) / (count + (lost or 0)) if count else None
        rows.append([f"ours, {rate}", *cells, number(size), number(share)])
    for case, (base, name) in PEERS.items():
        if case in series and base in series and "ours" not in name:
            rows.append([name, "", number(added(series, case, base, CPU)), "", "", "", ""])
    head = ["added ns per pair", "capture", "events", "log", "pair, all", "B/event", "% lost"]
    return table("Events: one thread, 24 frames; log: written at the same time", head, rows)


def _added_outside(series: Series, case: str) -> float | None:
    """A difference of medians: the rounds of logs are others than those of the rest."""
    value, base = median(series, case, CPU), median(series, "not loaded", CPU)
    return None if value is None or base is None else value - base


def _logs(series: Series) -> str:
    rows = []
    for case in series:
        speeds = [median(series, case, name) for name in ("written_per_s", "read_per_s")]
        cells = [number(None if v is None else v / 1e6) for v in speeds]
        rows.append([case, *cells, number(median(series, case, "bytes"))])
    head = ["a simulated program", "M/s written", "M/s read", "B/event"]
    return table("Logs of events, per second of a core", head, rows)


def bars_table(bars: list[Bar]) -> str:
    """The bars, each with its verdict."""
    verdict = {True: "met", False: "NOT MET", None: "-"}
    rows = [[bar.what, bar.asked, bar.measured, verdict[bar.met]] for bar in bars]
    return table("Bars", ["", "asked", "measured", ""], rows)


def _live_views(series: Series) -> str:
    """A refresh, by program."""
    rows = [
        [case, *(number(median(series, case, what), 0) for what in ("cpu_ms", "wall_ms"))]
        for case in series
    ]
    return table("A refresh of mem_profiler live", ["program", "CPU ms", "wall ms"], rows)


def tables(sections: Sections, bars: list[Bar]) -> list[str]:
    """Every table that has something to show, in the order of the document."""
    texts: list[str] = []
    if any(name.startswith("depth ") for name in sections):
        texts.append(_churn(sections))
    if any(name.startswith("peers, ") for name in sections):
        texts.append(_peers(sections))
    if sections.get(WHOLE):
        texts.append(_whole(sections[WHOLE]))
    live = _live(sections)
    if live:
        texts.append(live)
    if sections.get("unwind"):
        texts.append(_unwind(sections))
    if sections.get(events.SECTION):
        texts.append(_events(sections[events.SECTION]))
    if sections.get(events.LOGS):
        texts.append(_logs(sections[events.LOGS]))
    singles = {
        "redis": _redis,
        "serve": _serve,
        live_refresh.SECTION: _live_views,
        "python": _python,
        "memory": _memory,
        "snapshot": _snapshot,
    }
    texts += [make(sections[name]) for name, make in singles.items() if sections.get(name)]
    parses = [name for name in sections if name.startswith("parse, ")]
    texts += [
        _parse(name.removeprefix("parse, "), sections[name]) for name in parses if sections[name]
    ]
    texts += [
        _wide(name.removeprefix("wide, "), series)
        for name, series in sections.items()
        if name.startswith("wide, ") and series
    ]
    return [*texts, *pyreport.tables(sections), bars_table(bars)]


def of_page(sections: Sections, bars: list[Bar]) -> list[str]:
    """The tables of the document: its other numbers are in the bars and in the JSON beside it."""
    kept = {
        name: series
        for name, series in sections.items()
        if name in {"redis", "memory"}
        or (name.startswith(("depth ", "peers, ")) and not name.endswith(" live"))
    }
    python = [pyreport.by_case(sections)] if pyreport.has_programs(sections) else []
    return [*tables(kept, bars)[:-1], *python, bars_table(bars)]
