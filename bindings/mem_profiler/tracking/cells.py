"""What a notebook calls its cells: the files of their code have names that nobody knows."""

from __future__ import annotations

import linecache
import sys
from typing import Any

_MOST_CELLS = 500
"""The newest cells have names."""


def names_of_cells() -> dict[str, str]:
    """Names of the cells that ran in this process, by the files of their code; none without
    IPython, which nobody imports for it.
    """
    get_shell: Any = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get_shell() if get_shell is not None else None
    named = getattr(getattr(shell, "compile", None), "format_code_name", None)
    if named is None:
        return {}
    names = ((file, named(file)) for file in list(linecache.cache))
    return dict([(file, str(name[1])) for file, name in names if name][-_MOST_CELLS:])
