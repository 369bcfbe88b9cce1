"""Why a program ran without the preloaded sampler, in the doctor's words.

Model: check its environment, if known, then its files. Any other reason is on the program's
standard error, where the loader and the sampler wrote it.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from mem_parser.errors import MemError
from mem_parser.escape import shell_word
from mem_profiler.doctor import neighbours
from mem_profiler.doctor.examine import examine_program
from mem_profiler.doctor.findings import Finding, first_blocker

LEFT_OUT = "left_out"
"""The check of a program that MEM_PROFILER_ONLY leaves out."""
_LIBRARY = "libmem_sampler.so"
_REFUSED_BY_LOADER = 127  # what glibc's exits with


def reason(
    path: str,
    environment: Mapping[str, str] | None,
    uids: Collection[int],
    library: str,
    status: int | None = None,
) -> Finding:
    """Why the program at `path` did not load `library`.

    ``environment`` is what it started with, None if unknown; ``uids`` are its users, if known, and
    ``status`` its exit code.
    """
    return (
        first_blocker(neighbours.opted_out(environment))
        or _left_out(path, os.environ if environment is None else environment)
        or _of_file(path)
        or _cleared(path, environment)
        or _closed(uids, library)
        or _unknown(path, environment, status)
    )


def reason_behind(path: str, words: Sequence[str]) -> Finding:
    """Why no plan led the program's own malloc to the sampler; `words` are its command."""
    command = " ".join(map(shell_word, words))
    more = "" if len(words) > 1 else " ..."
    text = "its own malloc is before the sampler, and the command does not name the program"
    cure = f"mem_profiler run -- {command}{more}"
    return _of_file(path) or Finding("behind", "blocker", text, cure)


def _left_out(path: str, environment: Mapping[str, str]) -> Finding | None:
    pattern = environment.get("MEM_PROFILER_ONLY", "")
    if not pattern or fnmatch.fnmatchcase(os.path.basename(path), pattern):
        return None
    text = f"MEM_PROFILER_ONLY={pattern} leaves it out"
    return Finding(LEFT_OUT, "blocker", text, "unset MEM_PROFILER_ONLY")


def _of_file(path: str) -> Finding | None:
    try:
        return first_blocker(examine_program((path,)))
    except MemError:
        return None


def _cleared(path: str, environment: Mapping[str, str] | None) -> Finding | None:
    if environment is None or _LIBRARY in environment.get("LD_PRELOAD", ""):
        return None
    text = "the environment that it got does not preload the sampler"
    return Finding("environment", "blocker", text, _run_it(path))


def _run_it(path: str) -> str:
    return f"keep LD_PRELOAD and MEM_PROFILER_* there, or: mem_profiler run -- {shell_word(path)}"


def _closed(uids: Collection[int], library: str) -> Finding | None:
    """A library that another user than ours may not read."""
    closed = _closed_to_others(Path(library)) if set(uids) - {os.geteuid(), 0} else None
    if closed is None:
        return None
    text = f"its user may not read the sampler: {closed} is closed to others"
    cure = f"copy {library} to /usr/local/lib and preload it from there"
    return Finding("library", "blocker", text, cure)


def _closed_to_others(path: Path) -> Path | None:
    for place in (*reversed(path.parents), path):
        try:
            mode = place.stat().st_mode
        except OSError:
            return place
        if not mode & (stat.S_IXOTH if stat.S_ISDIR(mode) else stat.S_IROTH):
            return place
    return None


def _unknown(path: str, environment: Mapping[str, str] | None, status: int | None) -> Finding:
    if status == _REFUSED_BY_LOADER:
        text = "its loader refused the program or a library of it: see its standard error"
        return Finding("loader", "blocker", text, f"{shell_word(path)} has to start alone first")
    if environment is None:
        text = "something cleared its environment, or its loader refused the library"
        return Finding("environment", "blocker", text, _run_it(path))
    text = "its loader or the sampler refused: see its standard error"
    return Finding("loader", "blocker", text, f"mem_profiler doctor -- {shell_word(path)}")
