"""The distribution that the tests are of, where it is installed: its code is the program's own.

Installed packages count as libraries, whose blocks are charged to their callers. That would be the
test, and no frame of what it tests.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import tomllib
from pathlib import Path

from mem_parser.libraries.projectfile import of_folder
from mem_parser.libraries.rules import Libraries


def rules(root: Path) -> Libraries:
    """The rules of the project that the working folder is in, and of the distribution that
    pyproject.toml of `root` names. Raises `UsageProblem`.
    """
    found = of_folder(os.getcwd())
    own = "|".join(map(re.escape, _modules(root)))
    if not own:
        return found
    pattern = re.compile(rf"/(?:site|dist)-packages/(?:{own})(?:/|\.[^/]+$)")
    return Libraries(found.library, (*found.program, pattern))


def _modules(root: Path) -> list[str]:
    """The top-level modules of that distribution; none where it is not installed."""
    try:
        name = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["name"]
        files = importlib.metadata.files(name) or []
    except (OSError, ValueError, LookupError, TypeError, importlib.metadata.PackageNotFoundError):
        return []
    tops = {file.parts[0].partition(".")[0] for file in files if file.suffix in (".py", ".so")}
    return sorted(tops - {"", "__pycache__"})
