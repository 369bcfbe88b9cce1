"""What a notebook calls the files of its cells: `In[3]`, told to the commands that it starts."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLE = "MEM_PARSER_CELLS"


def told(cells: Mapping[str, str]) -> dict[str, str]:
    """Return the variable of the environment that tells the names by file."""
    return {VARIABLE: "\n".join(f"{file}\t{name}" for file, name in cells.items())}


def cells() -> dict[str, str]:
    """Return the names by file; none where no notebook started this command."""
    lines = os.environ.get(VARIABLE, "").splitlines()
    return {file: name for file, _, name in (line.partition("\t") for line in lines)}
