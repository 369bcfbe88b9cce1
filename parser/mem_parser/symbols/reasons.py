"""Why a module's addresses have no names, and what would give them some.

Only said where it is known: the file is here, unchanged, and holds no symbol table.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

from mem_parser.symbols.elf import BadElf, ElfImage

_PACKAGE_TIMEOUT_S = 5.0


def why_nameless(paths: Sequence[str]) -> dict[str, str]:
    """Return for each of the ``paths`` whose reason is known a phrase that says it."""
    stripped = [p for p in paths if _is_stripped(p)]
    packages = _packages_of(stripped) if stripped else {}
    return {
        path: f"stripped; install {packages[path]}-dbgsym or pass --debug-dir"
        if path in packages
        else "stripped; pass --debug-dir"
        for path in stripped
    }


def _is_stripped(path: str) -> bool:
    try:
        image = ElfImage.open(path)
    except (BadElf, OSError, ValueError):
        return False
    return ".symtab" not in image.sections and not image.has_dwarf


def _packages_of(paths: Sequence[str]) -> dict[str, str]:
    """Return which Debian package each file is of, where the system knows."""
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
    # The package system takes these characters for patterns.
    return [n for n in dict.fromkeys(names) if n.startswith("/") and not set(n) & set("*?[\\")]
