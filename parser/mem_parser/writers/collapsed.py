"""Write collapsed stacks: `outermost;...;innermost VALUE`, one line per distinct stack of names.

Flame graph programs read this format. It has one number per stack: bytes or blocks, in use or
allocated, rounded, and no allocator frames; those of libraries stay.
"""

from __future__ import annotations

from mem_parser.escape import log_line, one_line
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.reports.aggregate import sum_stacks
from mem_parser.symbols.table import Symbols


def write_collapsed(
    profile: Profile,
    symbols: Symbols,
    count: Count,
    unit: Unit,
    rule: FrameRule = FrameRule.OWN,
) -> str:
    """Return the file's text, sorted by stack."""
    sums = sum_stacks(profile, symbols, count=count, unit=unit, rule=rule)
    names = [frame_text(name) for name in sums.names]
    keys, bounds = sums.keys.tolist(), sums.offsets.tolist()
    total: dict[str, float] = {}
    for k, value in enumerate(sums.values.tolist()):
        if value > 0:
            stack = ";".join(names[x] for x in reversed(keys[bounds[k] : bounds[k + 1]]))
            total[stack] = total.get(stack, 0.0) + value
    rows = ((stack, round(value)) for stack, value in sorted(total.items()))
    return "".join(f"{log_line(stack)} {value}\n" for stack, value in rows if value)


def frame_text(name: str) -> str:
    """Return a function's name without the characters that have a meaning between frames."""
    return one_line(name).replace(";", ":").strip() or "[unknown]"
