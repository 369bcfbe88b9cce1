"""Owners that are known only after their block's row was written: put into the rows at the end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from functools import partial

from mem_parser.memscope import database
from mem_parser.memscope.attributes import as_csv, as_json, parse
from mem_parser.memscope.blockfacts import NAMES, UNKNOWN
from mem_parser.memscope.domains import CANN
from mem_parser.memscope.rewriting import rewritten
from mem_parser.output_path import find_place, new_file

LEVELS = ("COMPONENT", "PROCESS", "DETAIL_1", "DOUBT", "DETAIL_2")
USER = "USER"
USERS_MAX = 3
MODULES = NAMES | {UNKNOWN}


class LateLabels:
    """Labels by the row of a block:
    `FRAMEWORK@COMPONENT@PROCESS@DETAIL_1@DOUBT@DETAIL_2@USER...`.
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[int, dict[str, list[str]]]] = {}

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
        changes: dict[str, dict[int, Callable[[str], str]]] = {}
        for device, rows in self._rows.items():
            if device in paths:
                of_file = changes.setdefault(paths[device], {})
                of_file.update({row: _changer(levels) for row, levels in rows.items()})
        for path, of_file in changes.items():
            if database.is_database(path):
                database.update_attributes(path, of_file, partial(_changed, of_file))
            else:
                _rewrite(path, of_file)


def _changer(levels: Mapping[str, list[str]]) -> Callable[[str], str]:
    def changed(text: str) -> str:
        values = parse(text)
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

    return changed


def _changed(changes: Mapping[int, Callable[[str], str]], rowid: int, text: str) -> str:
    return changes[rowid](text)


def _rewrite(path: str, changes: Mapping[int, Callable[[str], str]]) -> None:
    """Write the file anew beside its place, and rename it."""
    with find_place(path) as place:
        handle, temporary = new_file(place.folder, place.name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(rewritten(path, changes))
                file.flush()
                if place.status is not None:
                    os.fchmod(handle, place.status.st_mode & 0o777)
                os.fsync(handle)
            os.rename(temporary, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=place.folder)
            raise
