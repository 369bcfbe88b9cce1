"""The sampler in `LD_PRELOAD`: its path, and how a program's variables get it and lose it."""

from __future__ import annotations

from collections.abc import MutableMapping

import mem_profiler
from mem_parser.errors import MemError

_NAME = "LD_PRELOAD"


def library() -> str:
    """The sampler to preload. Raises MemError if it was not built."""
    path = mem_profiler.library_path()
    if not path.is_file():
        raise MemError(f"the sampler {path} is missing", hint="make build")
    return str(path)


def is_one_word(path: str) -> bool:
    """Whether the loader takes a path as one name: it splits at blanks and colons."""
    return not any(mark in path for mark in " :")


def put(variables: MutableMapping[str, str], path: str) -> None:
    """Put a library before all that are preloaded."""
    theirs = variables.get(_NAME, "")
    variables[_NAME] = f"{path}:{theirs}" if theirs else path


def take_back(variables: MutableMapping[str, str], path: str) -> None:
    """Undo `put`, where the library is still the first."""
    first, _, theirs = variables.get(_NAME, "").partition(":")
    if first != path:
        return
    if theirs:
        variables[_NAME] = theirs
    else:
        del variables[_NAME]
