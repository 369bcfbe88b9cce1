"""The folder of one process's collection.

The process and who follows it make the same names: whoever is first makes the folder.
"""

from __future__ import annotations

import json
import os
from typing import Any

from mem_parser.memscope.form import Folders, folders
from mem_parser.memscope.settings import SETTINGS_FILE, Settings
from mem_parser.output_path import make_own_folder, open_own

EVENTS_FOLDER = "events"
MODE = 0o640


def places_of(settings: Settings, pid: int, stamp: str) -> Folders:
    """Return the names of a process's tree."""
    return folders(os.path.abspath(settings.output), pid, stamp)


def events_folder(places: Folders) -> str:
    """Return the folder of logs and side rows, made where it is missing. Raises OSError."""
    return make_own_folder(places.run, EVENTS_FOLDER)


def write_settings(folder: str, settings: Settings) -> None:
    """Keep the settings beside the log: a conversion reads them. Raises OSError."""
    _replace(os.path.join(folder, SETTINGS_FILE), settings.as_dict())


def write_config(places: Folders, settings: Settings) -> None:
    """Keep what a program configured. Raises OSError."""
    make_own_folder(places.run)
    _replace(places.config, settings.as_dict())


def _replace(path: str, told: dict[str, Any]) -> None:
    temporary = f"{path}.{os.getpid()}"
    handle = open_own(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, MODE)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(told, file, indent=1, sort_keys=True)
    os.rename(temporary, path)
