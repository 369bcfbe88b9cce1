"""The Python interpreters of this machine, for tests of what the sampler reads of them."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

MINORS = (9, 10, 11, 12, 13, 14)


def pythons() -> list[str]:
    """One interpreter of each version that this machine has, and the system's own."""
    found = {sys.executable: None, "/usr/bin/python3": None}
    for minor in MINORS:
        kept = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"))
        named = shutil.which(f"python3.{minor}")
        found |= dict.fromkeys(str(path) for path in kept[-1:])
        found |= {named: None} if named and "pyenv" not in named else {}
    real: dict[str, str] = {}
    for path in found:
        if Path(path).exists():
            real.setdefault(str(Path(path).resolve()), path)
    return list(real.values())
