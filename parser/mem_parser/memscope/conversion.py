"""The dumps of a log that is there: the same that the collection writes while it grows.

Beside a log of a collection are the rows that its process told of itself, and its settings. A log
without settings has all its memory in its dump.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from typing import NamedTuple

from mem_parser.errors import InputFileError, UsageProblem
from mem_parser.memlog.filefacts import FileFacts
from mem_parser.memscope.collecting import Collecting
from mem_parser.memscope.dumps import Dumps
from mem_parser.memscope.form import HOST, folders, stamp_of
from mem_parser.memscope.logtail import LogTail
from mem_parser.memscope.settings import ALL_DEVICES, SETTINGS_FILE, Settings, of_dict
from mem_parser.memscope.siderows import SideFile, path_in
from mem_parser.plainfile import read_plain

_SETTINGS_MAX_BYTES = 1 << 20
ALL = Settings(devices=(ALL_DEVICES, HOST), analysis=frozenset())


class Converted(NamedTuple):
    """The dumps that were written, by device, and what is missing in them."""

    paths: dict[str, str]
    warnings: list[str]


def settings_beside(path: str) -> Settings:
    """Return the settings of the collection whose log a file is. Raises UsageProblem."""
    name = _settings_path(path)
    try:
        told = json.loads(read_plain(name, _SETTINGS_MAX_BYTES))
    except FileNotFoundError:
        return ALL
    except (OSError, ValueError, RecursionError) as error:
        raise UsageProblem(f"{name}: cannot be read: {error}") from None
    if not isinstance(told, dict):
        raise UsageProblem(f"{name}: the settings of a collection are a JSON object")
    return of_dict(told)


def convert(
    paths: Sequence[str],
    *,
    folder: str = "",
    file: str = "",
    form: str = "",
    stacks: Settings | None = None,
) -> Converted:
    """Write the dumps of a log: a tree below ``folder``, or one ``file``.

    ``form`` is `csv` or `db`; empty: that of the settings. ``stacks`` has depths of
    stacks; those of the settings hold where they are 0. Raises MemError, OSError, sqlite3.Error.
    """
    facts = [(_facts_of(path), path) for path in paths]
    if len({one.run for one, _ in facts}) != 1:
        raise InputFileError(f"{paths[0]} and {paths[-1]}: files of several logs")
    facts.sort(key=lambda pair: pair[0].number)
    in_order = [path for _, path in facts]
    settings = settings_beside(in_order[0])
    settings = _with_depths(settings, stacks or settings)
    pid = facts[0][0].pid
    side = SideFile(path_in(os.path.dirname(in_order[0]) or ".", pid))
    places = folders(folder, pid, stamp_of()) if folder else None
    dumps = Dumps(form or settings.form, places, path=file)
    collecting = Collecting(settings, LogTail(paths=in_order), side, dumps, pid)
    if os.path.isfile(_settings_path(in_order[0])):
        collecting.scribe.run_folder = os.path.dirname(
            os.path.dirname(os.path.abspath(in_order[0]))
        )
    try:
        collecting.finish()
    finally:
        collecting.close()
    return Converted(dumps.paths, collecting.warnings)


def _settings_path(path: str) -> str:
    return os.path.join(os.path.dirname(path), SETTINGS_FILE)


def _with_depths(settings: Settings, given: Settings) -> Settings:
    python = given if given.python_depth else settings
    return dataclasses.replace(
        settings,
        python_depth=python.python_depth,
        python_all=python.python_all,
        c_depth=given.c_depth or settings.c_depth,
    )


def _facts_of(path: str) -> FileFacts:
    from mem_parser.memlog.reader import open_memlog

    with open_memlog(path) as log:
        return log.file_facts
