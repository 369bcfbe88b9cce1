"""Tables of at most 80 columns from what was measured, for the terminal and the document."""

from __future__ import annotations

from collections.abc import Iterable

from bars import CPU, Bar, Sections
from churn import WHOLE
from rounds import Series, added, median, ratio

RATES = ("forwarding", "idle", "512K", "1024", "every block")


def table(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A title, column names and rows; the first column to the left, the rest to the right."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [title, ""]
    for line in lines:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        text.append("  ".join(cells).rstrip())
    text.insert(3, "-" * (sum(widths) + 2 * (len(widths) - 1)))
    return "\n".join(text)


def _n(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _churn(sections: Sections) -> str:
    """Ours: one row a shape."""
    shapes = [name for name in sections if name.startswith("depth ")]
    rows = []
    for shape in shapes:
        series = sections[shape]
        cells = [_n(added(series, case, "not loaded", CPU)) for case in RATES]
        rows.append([shape, _n(median(series, "not loaded", CPU)), *cells])
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
            rows.append([name, *(_n(value, 0) for value in found)])
    head = ["added ns per pair, each over its own base", *(s.split(", ")[1] for s in shapes)]
    return table("One thread, ours and theirs in turns, CPU ns", head, rows)


def _whole(series: Series) -> str:
    """What a case adds to its thread, to all processes, and to the time that passes."""
    numbers = (CPU, "all_cpu_ns", "all_wall_ns")
    rows = [
        [name, *(_n(added(series, case, base, number), 0) for number in numbers)]
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
        [name, _n(median(series, base, CPU)), _n(added(series, case, base, CPU))]
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
        [name, *(_n(median(series, case, f"{key}.{kind}"), 2) for kind in kinds)]
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
        share = _n(ratio(base, cpu[-1]), 2)
        rows.append([case, *(_n(c, 0) for c in cpu), share, *(_n(rate, 0) for rate in rates[-1:])])
    head = ["server CPU ns per request", *names, "throughput", "1000/s seen"]
    title = "redis-server pinned, pipelined by 32; throughput: 1 / CPU time, of unprofiled"
    return table(title, head, rows)


def _python(series: Series) -> str:
    base = median(series, "not loaded", "cpu_ms") or 1.0
    rows = []
    for case in series:
        cpu, wall = median(series, case, "cpu_ms"), median(series, case, "wall_ms")
        rows.append([case, _n(wall, 0), _n(cpu, 0), f"{(cpu or 0) / base:.2f}"])
    head = ["", "wall ms", "CPU ms", "of not loaded"]
    return table("CPython, a program of objects, PYTHONMALLOC=malloc", head, rows)


def _memory(series: Series) -> str:
    rows = []
    for case in series:
        rss = median(series, case, "rss_mib")
        more = added(series, case, "not loaded", "rss_mib")
        segment = median(series, case, "segment_mib")
        rows.append([case, _n(rss), _n(more), _n(segment)])
    head = ["MiB", "resident", "added", "segment's pages"]
    return table("Memory of a process that holds 1 GiB in blocks of 64 B to 128 KiB", head, rows)


def _snapshot(series: Series) -> str:
    rows = []
    for case in series:
        numbers = ("seconds", "cpu_s")
        cells = [_n(median(series, case, number), 2) for number in numbers]
        rows.append(
            [
                case,
                *cells,
                _n(median(series, case, "records"), 0),
                _n(median(series, case, "file_mib")),
            ]
        )
    head = ["mem_profiler snapshot", "wall s", "CPU s", "records", "file MiB"]
    return table("Snapshot of a running process, the whole command", head, rows)


def _parse(name: str, series: Series) -> str:
    numbers = ("seconds", "cpu_s")
    rows = [[case, *(_n(median(series, case, n), 2) for n in numbers)] for case in series]
    return table(f"From file to table ({name})", ["", "wall s", "CPU s"], rows)


def _wide(name: str, series: Series) -> str:
    rows = [
        [
            case,
            *(_n(median(series, case, n), 2) for n in ("seconds", "cpu_s")),
            _n(median(series, case, "peak_mib"), 0),
        ]
        for case in series
    ]
    return table(f"Files of {name}", ["mem_parser", "wall s", "CPU s", "peak MiB"], rows)


def bars_table(bars: list[Bar]) -> str:
    """The bars, each with its verdict."""
    verdict = {True: "met", False: "NOT MET", None: "-"}
    rows = [[bar.what, bar.asked, bar.measured, verdict[bar.met]] for bar in bars]
    return table("Bars", ["", "asked", "measured", ""], rows)


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
    singles = {"redis": _redis, "python": _python, "memory": _memory, "snapshot": _snapshot}
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
    return [*texts, bars_table(bars)]
