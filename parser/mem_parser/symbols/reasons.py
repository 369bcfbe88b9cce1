"""Why a module's addresses have no names, and what would give them names.

There is a reason only where it is certain: the file is here, unchanged, and has no symbol table.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from mem_parser.plainfile import stored_bytes
from mem_parser.symbols.cache import SymbolCache, default_folder
from mem_parser.symbols.elf import BadElf, ElfImage
from mem_parser.symbols.filefacts import FileFact
from mem_parser.symbols.isolation import Job, Json, in_child

_PACKAGE_TIMEOUT_S = 5.0
_READ_TIMEOUT_S = 20.0


def why_nameless(paths: Sequence[str], cache: SymbolCache | None = None) -> dict[str, str]:
    """Return a phrase with the reason for each of the ``paths`` where it is known.

    ``cache`` (the user's) keeps the reasons while the files are unchanged.
    """
    cache = cache or SymbolCache(default_folder())
    found: dict[str, str] = {}
    unknown: dict[str, FileFact] = {}
    for path in paths:
        fact = FileFact(cache, path, "nameless")
        kept = fact.get()
        if kept is None:
            unknown[path] = fact
        else:
            found[path] = kept
    fresh = _reasons_of(list(unknown))
    for path, reason in fresh.items():
        unknown[path].put(reason)
    found |= fresh
    return {path: found[path] for path in paths if found.get(path)}


def _reasons_of(paths: Sequence[str]) -> dict[str, str]:
    """Return for each readable path of ``paths`` why it gives no names; empty: unknown."""
    job: Job[str, bool | None] = Job(_is_stripped, _understood, stored_bytes, _READ_TIMEOUT_S)
    answers = in_child(paths, job)
    stripped = {p: a for p, a in zip(paths, answers, strict=True) if isinstance(a, bool)}
    asked = [p for p in stripped if stripped[p]]
    packages = _packages_of(asked) if asked else {}
    return {path: _phrase(packages.get(path)) if stripped[path] else "" for path in stripped}


def _phrase(package: str | None) -> str:
    install = f"install {package}-dbgsym or " if package else ""
    return f"stripped; {install}pass --debug-dir"


def _is_stripped(path: str) -> bool | None:
    """Tell whether the file has no names of its own; None if it cannot be read."""
    try:
        image = ElfImage.open(path)
    except (BadElf, OSError, ValueError):
        return None
    return ".symtab" not in image.sections and not image.has_dwarf


def _understood(answer: Json) -> bool | None:
    return answer if isinstance(answer, bool) else None


def _packages_of(paths: Sequence[str]) -> dict[str, str]:
    """Return the Debian package of each file, where the system knows it."""
    import subprocess  # here: kept reasons do not need it

    spelled = {name: p for p in paths for name in _spellings(p)}
    try:
        done = subprocess.run(
            ["dpkg-query", "-S", *spelled],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=_PACKAGE_TIMEOUT_S,
            env=os.environ | {"LC_ALL": "C"},
        )
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        package, _, name = line.partition(": ")
        if name in spelled and "," not in package:
            found[spelled[name]] = package.partition(":")[0]
    return found


def _spellings(path: str) -> list[str]:
    """Return how the package system may write ``path``: it knows files by older places too."""
    names = [path, os.path.realpath(path)]
    names += [n.removeprefix("/usr") for n in names if n.startswith("/usr/lib")]
    # The package system treats these characters as patterns.
    return [n for n in dict.fromkeys(names) if n.startswith("/") and not set(n) & set("*?[\\")]
