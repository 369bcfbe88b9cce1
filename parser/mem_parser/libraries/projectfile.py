"""The project's own rules: `.mem_parser.toml`, in the working folder or one above it.

    library = ["^mylib::", "pool_get"]     # regular expressions, as of --library
    program = ["^std::hash<Route>"]        # never folded, whatever else says so

Only a file of the user (behind sudo too) or of root counts: in a folder like /tmp anybody can put
one above ours. The search ends at the folder that holds `.git`, at the user's home and at the root
of the file system. A file that others can write is refused.
"""

from __future__ import annotations

import os
import re
import stat
from typing import Any

from mem_parser import sudo
from mem_parser.errors import UsageProblem
from mem_parser.libraries.rules import Libraries
from mem_parser.plainfile import PlainFile

NAME = ".mem_parser.toml"
_MOST_BYTES = 1 << 20
_KEYS = ("library", "program")
_MOST_FOLDERS = 64


def find(folder: str) -> str | None:
    """Return the nearest project file of ``folder`` or above it; None if there is none."""
    at = os.path.abspath(folder)
    home = os.path.expanduser("~")
    for _ in range(_MOST_FOLDERS):
        path = os.path.join(at, NAME)
        if _is_trusted(path):
            return path
        above = os.path.dirname(at)
        if at in (above, home) or os.path.exists(os.path.join(at, ".git")):
            return None
        at = above
    return None


def _owners() -> set[int]:
    user = sudo.caller()
    return {os.getuid(), 0} | ({user.uid} if user is not None else set())


def _is_trusted(path: str) -> bool:
    """Tell whether one of those whom we trust put something there."""
    try:
        return os.lstat(path).st_uid in _owners()
    except OSError:
        return False


def of_folder(folder: str) -> Libraries:
    """Return the rules of the project that ``folder`` is in. Raises `UsageProblem`."""
    path = find(folder)
    return Libraries() if path is None else load(path)


def load(path: str) -> Libraries:
    """Read a project file. Raises `UsageProblem` naming it and the error."""
    try:
        with PlainFile(path) as file:
            status = file.status
            others = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if status.st_uid not in _owners() or others:
                raise UsageProblem(
                    f"{path}: others can write it", hint=f"chmod go-w {NAME}, or delete it"
                )
            text = file.read(0, _MOST_BYTES + 1).decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise UsageProblem(f"{path}: {reason.lower()}") from error
    if len(text) > _MOST_BYTES:
        raise UsageProblem(f"{path}: it is larger than 1 MiB")
    import tomllib

    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageProblem(f"{path}: {error}") from error
    return _rules(document, path)


def _rules(document: dict[str, Any], path: str) -> Libraries:
    for key in document:
        if key not in _KEYS:
            raise UsageProblem(
                f"{path}: unknown key {key!r}", hint=f"it may hold {' and '.join(_KEYS)}"
            )
    return Libraries(*(_patterns(document.get(key, []), key, path) for key in _KEYS))


def _patterns(value: object, key: str, path: str) -> tuple[re.Pattern[str], ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageProblem(f"{path}: {key} is not a list of regular expressions")
    found = []
    for text in texts:
        try:
            found.append(re.compile(text))
        except (re.error, RecursionError, OverflowError) as error:
            reason = str(error) or type(error).__name__
            raise UsageProblem(
                f"{path}: {key}: {text!r} is not a regular expression: {reason}"
            ) from error
    return tuple(found)
