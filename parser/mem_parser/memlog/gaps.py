"""Describe gaps in a log in one line."""

from __future__ import annotations

from mem_parser.memlog.run import Run
from mem_parser.memlog.segments import segments_of

_NS = 1e9


def unknown_lines(run: Run, from_ns: int, to_ns: int) -> list[str]:
    """Return what is not known of the time from one moment to another: at most a line on events
    that are missing, and one on live blocks that were counted a little earlier or later.
    """
    lines = []
    spans = unsure_spans(run, from_ns, to_ns)
    if spans:
        missing = [h for h in run.holes if h.from_ns <= to_ns and h.to_ns >= from_ns]
        lost = [hole.lost for hole in missing]
        known = bool(lost) and None not in lost
        count = f"{sum(n or 0 for n in lost):,}" if known else "an unknown number of"
        why = ", ".join(dict.fromkeys(hole.why for hole in missing if hole.why))
        shown = ", ".join(f"{low / _NS:.3f} to {high / _NS:.3f} s" for low, high in spans[:3])
        more = f" and {len(spans) - 3} more times" if len(spans) > 3 else ""
        lines.append(
            f"{count} events are missing{f' ({why})' if why else ''}: what was in use is not sure"
            f" from {shown}{more}"
        )
    about = [
        segment.from_ns
        for segment in segments_of(run)
        if segment.base is not None
        and segment.from_ns <= to_ns
        and segment.to_ns > from_ns
        and (keyframe := run.keyframe(segment.base)) is not None
        and not keyframe.exact
    ]
    if about:
        lines.append(
            f"what was in use at {', '.join(f'{at / _NS:.3f} s' for at in about[:3])}"
            f"{' and later' if len(about) > 3 else ''} was counted about then, not exactly then"
        )
    return lines


def unsure_spans(run: Run, from_ns: int, to_ns: int) -> list[tuple[int, int]]:
    """Return the times between two moments at which the live blocks are uncertain."""
    spans: list[tuple[int, int]] = []
    for segment in segments_of(run):
        low = segment.from_ns if segment.base is None else segment.sure_until_ns
        low, high = max(low, from_ns), min(segment.to_ns - 1, to_ns)
        if low > high or low >= segment.to_ns:
            continue
        if spans and spans[-1][1] >= low - 1:
            spans[-1] = spans[-1][0], high
        else:
            spans.append((low, high))
    return spans
