"""Tables of the Python programs, of at most 80 columns."""

from __future__ import annotations

import statistics

from bars import Sections
from programs import NONE, PREFIX, ratios_of
from pyfiles import SECTION, STACKS, below_frames
from rounds import Series, median, ratios
from table import number, table

SHORT = {
    "512K": "512K",
    "64K": "64K",
    "1024": "1024",
    "1": "1",
    "1024, malloc only": "1024m",
    "1, malloc only": "1m",
    "memray": "memr.",
    "memray objects": "m.obj",
    "memray --native": "m.nat",
    "scalene": "scal.",
}
"""Each case, and the head of its column."""


def _short(program: str) -> str:
    """The program's name in eight letters."""
    kind, _, variant = program.partition(" ")
    return f"as. {variant[:4]}" if variant else kind


def _program(series: Series) -> list[str]:
    found = [ratios(series, case, NONE, "cpu_s") for case in SHORT]
    base = number(median(series, NONE, "cpu_s"), 2)
    return [base, *(f"{statistics.median(v):.2f}" if v else "-" for v in found)]


def _by_program(sections: Sections) -> str:
    rows = [
        [_short(name.removeprefix(PREFIX)), *_program(series)]
        for name, series in sections.items()
        if name.startswith(PREFIX)
    ]
    middles = [ratios_of(sections, case, "cpu_s") for case in SHORT]
    rows.append(["median", "", *(f"{statistics.median(v):.2f}" if v else "-" for v in middles)])
    title = (
        "Python programs: CPU time of the program's work, in times of that without a\n"
        "profiler (`none`, in seconds); `1024m`, `1m`: malloc only, as memray has it\n"
        "by default; `m.obj`: memray --trace-python-allocators, `m.nat`: --native"
    )
    return table(title, ["", "none", *SHORT.values()], rows)


def _span(values: list[float]) -> list[str]:
    if not values:
        return ["-", "-"]
    return [f"{statistics.median(values):.2f}", f"{min(values):.2f}-{max(values):.2f}"]


def _middle(sections: Sections, case: str, what: str) -> float | None:
    values = [
        median(series, case, what) for name, series in sections.items() if name.startswith(PREFIX)
    ]
    known = [v for v in values if v is not None]
    return statistics.median(known) if known else None


def by_case(sections: Sections) -> str:
    rows = []
    for case in (NONE, *SHORT):
        cpu, wall = (ratios_of(sections, case, what) for what in ("cpu_s", "wall_s"))
        whole = ratios_of(sections, case, "all_wall_s")
        cells = [number(_middle(sections, case, what)) for what in ("rss_mib", "file_mib")]
        rows.append([case, *_span(cpu), *_span(wall), _span(whole)[0], *cells])
    head = ["of no profiler", "CPU", "programs", "wall", "programs", "whole", "RSS", "file"]
    title = (
        "The median of the programs, and the least and greatest; `whole`: wall time of\n"
        "the whole command; medians of peak RSS and file in MiB"
    )
    return table(title, head, rows)


def _frames(series: Series) -> str:
    rows = [
        ["all as at the block before", number(below_frames(series, "known_ns"), 0)],
        ["all others", number(below_frames(series, "new_ns"), 0)],
    ]
    title = "Thirty Python frames at each block: what they add to a block below one frame"
    return table(title, ["", "CPU ns"], rows)


def _files(series: Series) -> str:
    rows = [
        [
            case,
            *(number(median(series, case, n), 2) for n in ("all_wall_s", "all_cpu_s", "file_mib")),
        ]
        for case in series
    ]
    return table("Files of Python programs", ["", "wall s", "CPU s", "file MiB"], rows)


def has_programs(sections: Sections) -> bool:
    """Whether any program was measured."""
    return any(name.startswith(PREFIX) for name in sections)


def tables(sections: Sections) -> list[str]:
    """The tables that have something to show."""
    texts = []
    if has_programs(sections):
        texts += [_by_program(sections), by_case(sections)]
    if sections.get(STACKS):
        texts.append(_frames(sections[STACKS]))
    if sections.get(SECTION):
        texts.append(_files(sections[SECTION]))
    return texts
