"""Labels of blocks, put into the rows of a dump that is there.

Of inefficient memory: words under a key of their own. Of owners: what is known only after a block's
row was written, `FRAMEWORK@COMPONENT@PROCESS@DETAIL_1@DOUBT@DETAIL_2@USER...`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from mem_parser.memscope.attributes import as_csv, as_json, parse, with_labels
from mem_parser.memscope.blockfacts import NAMES, UNKNOWN
from mem_parser.memscope.domains import CANN
from mem_parser.memscope.rewriting import change_attributes

LEVELS = ("COMPONENT", "PROCESS", "DETAIL_1", "DOUBT", "DETAIL_2")
USER = "USER"
USERS_MAX = 3
MODULES = NAMES | {UNKNOWN}
_Levels = dict[str, list[str]]


def add_labels(path: str, labels: Mapping[int, Sequence[str]]) -> int:
    """Add labels to rows, given by their places; returns how many rows changed.

    Labels that a row has already stay, and are there once. Raises `DumpError`, OSError.
    """
    return change_attributes(path, labels, lambda place, old: with_labels(old, labels[place]))


class LateLabels:
    """Parts of owners by the row of a block."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, _Levels]] = {}

    def add(self, device: str, row: int, framework: str, level: str, label: str) -> None:
        """Give a block a label of a level; a later one of the same level takes its place, labels of
        the user come behind each other, at most `USERS_MAX` of them.
        """
        if not label or (level not in LEVELS and level != USER):
            return
        levels = self._rows.setdefault(device, {}).setdefault(row, {"FRAMEWORK": [framework]})
        labels = levels.setdefault(level, [])
        if level != USER:
            labels[:] = [label]
        elif label not in labels and len(labels) < USERS_MAX:
            labels.append(label)

    def write(self, paths: Mapping[str, str]) -> None:
        """Put the labels into the files, by device: each file changes as a whole. Raises
        `DumpError`, OSError.
        """
        by_file: dict[str, dict[int, _Levels]] = {}
        for device, rows in self._rows.items():
            if device in paths:
                by_file.setdefault(paths[device], {}).update(rows)
        for path, levels in by_file.items():
            change_attributes(path, levels, partial(_owned, levels))


def _owned(by_row: Mapping[int, _Levels], row: int, text: str) -> str:
    """Return the Attr of a row with the parts of its owner."""
    levels, values = by_row[row], parse(text)
    had = values.get("owner", "").split("@")[1:]
    component = had[:1] if levels["FRAMEWORK"] == [CANN] and set(had[:1]) <= MODULES else []
    del had[: len(component)]
    users = [*had, *(u for u in levels.get(USER, []) if u not in had)][:USERS_MAX]
    parts = [
        *levels["FRAMEWORK"],
        *component,
        *(p for name in LEVELS for p in levels.get(name, [])),
        *users,
    ]
    owned = {**values, "owner": "@".join(parts)}
    return as_json(owned) if text.startswith('{"') else as_csv(owned)
