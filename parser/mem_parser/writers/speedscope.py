"""Write speedscope's JSON: one "sampled" profile per kind of count, all in one file.

Frames have function, file and line; stacks go from the outermost frame inwards, each with its
estimate as weight. Schema: https://www.speedscope.app/file-format-schema.json
"""

from __future__ import annotations

from typing import Any

from mem_parser.escape import json_text
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import StackSums, sum_stacks
from mem_parser.symbols.table import Symbols
from mem_parser.version import __version__

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"
_TITLES = {
    (Count.INUSE, Unit.SPACE): "in use, bytes",
    (Count.INUSE, Unit.OBJECTS): "in use, blocks",
    (Count.ALLOC, Unit.SPACE): "allocated, bytes",
    (Count.ALLOC, Unit.OBJECTS): "allocated, blocks",
    (Count.PEAK, Unit.SPACE): "at the peak, bytes",
    (Count.PEAK, Unit.OBJECTS): "at the peak, blocks",
    (Count.RESIDENT, Unit.SPACE): "resident, bytes",
    (Count.HUGE, Unit.SPACE): "on huge pages, bytes",
    (Count.SWAPPED, Unit.SPACE): "swapped, bytes",
}


def write_speedscope(
    profile: Profile, symbols: Symbols, name: str, rule: FrameRule = FrameRule.OWN
) -> str:
    """Return the file's text; ``name`` is its title."""
    kinds = [k for k in _TITLES if profile.has(k[0])]
    sums = [sum_stacks(profile, symbols, count=c, unit=u, rule=rule) for c, u in kinds]
    document = {
        "$schema": _SCHEMA,
        "exporter": f"mem_parser {__version__}",
        "name": name,
        "activeProfileIndex": kinds.index((profile.default_count, Unit.SPACE)),
        "shared": {"frames": _frames(symbols)},
        "profiles": [_profile(_TITLES[k], k[1], s) for k, s in zip(kinds, sums, strict=True)],
    }
    return json_text(document) + "\n"


def _frames(symbols: Symbols) -> list[dict[str, Any]]:
    """Return one frame per distinct function name, in the order of the keys of `sum_stacks`."""
    index: dict[str, dict[str, Any]] = {}
    for location in symbols.locations:
        function = symbols.functions[location.function]
        if function.name not in index:
            file = function.file or location.file
            index[function.name] = {"name": function.name} | ({"file": file} if file else {})
    return list(index.values())


def _profile(title: str, unit: Unit, sums: StackSums) -> dict[str, Any]:
    keys, bounds = sums.keys.tolist(), sums.offsets.tolist()
    rows = [(k, v) for k, v in enumerate(sums.values.tolist()) if v > 0]
    weights = [round(v) for _, v in rows]
    return {
        "type": "sampled",
        "name": title,
        "unit": "bytes" if unit is Unit.SPACE else "none",
        "startValue": 0,
        "endValue": sum(weights),
        "samples": [keys[bounds[k] : bounds[k + 1]][::-1] for k, _ in rows],
        "weights": weights,
    }
