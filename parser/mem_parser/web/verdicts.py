"""Cut rows with verdicts to a page's size, keeping every verdict."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from mem_parser.escape import visible
from mem_parser.estimate import Estimate, Unseen
from mem_parser.web.facts import without_paths
from mem_parser.words import joined, phrase, shown

MOST_ROWS = 2000
"""Rows of one table that reach the page."""


def verdict_block(
    given: Mapping[str, Any], unseen: Unseen, *, most: int = MOST_ROWS, confidential: bool = False
) -> dict[str, Any]:
    """Return the block ``given`` with ``most`` rows at most.

    `counts` is how many rows each verdict has. The first rows stay, and of each verdict at least
    the first (see `kept_rows`). `left_out` has for each verdict that lost rows their number, and
    what they hold together as [value, lower, upper]: `bytes` if rows have that, else `delta`.
    ``unseen`` is what a sample more may add to such a sum.
    """
    rows = list(given.get("rows", ()))
    verdicts = [str(row.get("verdict", "")) for row in rows]
    kept = kept_rows(verdicts, most)
    gone: dict[str, list[Mapping[str, Any]]] = {}
    for k in sorted(set(range(len(rows))) - set(kept)):
        gone.setdefault(verdicts[k], []).append(rows[k])
    block = {
        **given,
        "rows": [rows[k] for k in kept],
        "counts": Counter(verdicts),
        "left_out": [
            {"verdict": verdict, "rows": len(lost), **_together(lost, unseen)}
            for verdict, lost in gone.items()
        ],
    }
    told: dict[str, Any] = visible(shown(block))
    return _without_source(told) if confidential else told


def merged_rows(rows: Sequence[Mapping[str, Any]], unseen: Unseen) -> list[Mapping[str, Any]]:
    """Return rows of leaks with those made one that a reader could not tell apart: of the same
    verdict, function, caller and file. A row with a growth of its own stays.

    ``unseen`` is what a sample more may add to a sum.
    """
    alike: dict[Any, list[Mapping[str, Any]]] = {}
    for k, row in enumerate(rows):
        stack = row.get("stack") or [{}]
        names = [frame.get("function") for frame in stack]
        caller = next((name for name in names if name != names[0]), None)
        seen = (row.get("verdict"), names[0], caller, stack[0].get("file"))
        alike.setdefault(k if row.get("growth") else seen, []).append(row)
    return [same[0] if len(same) == 1 else _one_row(same, unseen) for same in alike.values()]


def _one_row(rows: Sequence[Mapping[str, Any]], unseen: Unseen) -> dict[str, Any]:
    """Return the first of ``rows``, which is the largest, with what all of them hold."""
    size, lower, upper = _together(rows, unseen)["bytes"]
    evidence = rows[0].get("evidence", "")
    if any(row.get("evidence") != evidence for row in rows):
        evidence = joined("", [phrase("largest: "), evidence])
    return {
        **rows[0],
        "bytes": size,
        "lower95": lower,
        "upper95": upper,
        "samples": sum(row.get("samples") or 0 for row in rows),
        "stacks": sum(row.get("stacks") or 1 for row in rows),
        "evidence": evidence,
    }


def kept_rows(verdicts: Sequence[str], most: int) -> list[int]:
    """Return which ``most`` rows stay, in order: half of the room is for all verdicts alike, so
    that none vanishes, the other half for the rows that come first.
    """
    if len(verdicts) <= most:
        return list(range(len(verdicts)))
    floor = most // (2 * len(set(verdicts)))
    seen: Counter[str] = Counter()
    sure: list[int] = []
    others: list[int] = []
    for k, verdict in enumerate(verdicts):
        (sure if seen[verdict] < floor else others).append(k)
        seen[verdict] += 1
    return sorted(sure + others[: most - len(sure)])


def _together(rows: Sequence[Mapping[str, Any]], unseen: Unseen) -> dict[str, Any]:
    """Return the sum of the rows: they have no samples in common, so errors add in squares."""
    for value, error in (("bytes", "std_error"), ("delta", "delta_error")):
        if value not in rows[0]:
            continue
        errors = [math.nan if row.get(error) is None else float(row[error]) for row in rows]
        total = Estimate(
            float(sum(row[value] for row in rows)),
            math.hypot(*errors),
            sum(row.get("samples") or 0 for row in rows),
            unseen,
            signed=value == "delta",
        )
        return {value: [total.value, *total.known_ends]}
    return {}


def _without_source(data: Any) -> Any:
    """Return JSON data without files and lines, and without folders in its texts."""
    if isinstance(data, Mapping):
        hidden = {"file": "", "line": 0}
        return {k: hidden[k] if k in hidden else _without_source(v) for k, v in data.items()}
    if isinstance(data, str):
        return without_paths(data)
    if isinstance(data, Sequence):
        return [_without_source(v) for v in data]
    return data
