"""The programs that a command names, and may start or become: wrappers and start scripts.

Model: nothing is executed or parsed as a shell would. Every word of the arguments and of the
scripts is looked up as a path, in PATH, in the script's folder, and in folders that other words
name; what leads to a program is in the list. Such a list may have too much in it, and misses names
that a script computes: it only prepares, and decides nothing.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mem_parser.plainfile import open_plain, read_plain
from mem_profiler.process import elfhead

PROGRAMS_MAX = 32
SCRIPTS_MAX = 8
TEXT_MAX_BYTES = 1 << 16
WORDS_MAX = 4000
FOLDERS_MAX = 8
_BREAKS = re.compile(r"""[\s;|&()<>`"'{}=]+""")
_VARIABLE = re.compile(r"\$\w*")


@dataclass(frozen=True)
class Named:
    """What a command names: programs by their real paths, and all of these as they are named."""

    programs: list[str]
    places: list[str]


def search(path: str, arguments: Sequence[str]) -> Named:
    """Programs that `path` may start or become when it runs with `arguments` (its name first).

    Those that are named by a path come first; `path` itself is not among the programs.
    """
    search = _Search(os.path.realpath(path))
    search.file(path)
    search.words(arguments[1:], os.curdir)
    for text in arguments[1:]:
        search.words(_words(text), os.curdir)
    while search.scripts and search.scripts_read < SCRIPTS_MAX:
        search.script(search.scripts.pop(0))
    found = [*search.by_path, *search.by_name][:PROGRAMS_MAX]
    return Named(found, [path, *search.places][: 2 * PROGRAMS_MAX])


def programs(path: str, arguments: Sequence[str]) -> list[str]:
    """Only the programs that `search` finds."""
    return search(path, arguments).programs


def _words(text: str) -> list[str]:
    return _BREAKS.split(text[:TEXT_MAX_BYTES])


class _Search:
    """What was found so far. The lists are dicts, which keep their order and have no doubles."""

    def __init__(self, first: str) -> None:
        self.by_path: dict[str, None] = {}
        self.by_name: dict[str, None] = {}
        self.places: dict[str, None] = {}
        self.scripts: list[str] = []
        self.scripts_read = 0
        self._seen = {first}
        self._left = WORDS_MAX

    def words(self, words: Sequence[str], folder: str) -> None:
        """Look words up; relative ones also in a folder."""
        named = [w for w in words[:WORDS_MAX] if "/" in w.strip("/.") and _is_folder(w)]
        folders = [folder, *dict.fromkeys(named)][:FOLDERS_MAX]
        for word in words:
            if self._left == 0:
                return
            self._left -= 1
            for place, is_path in _places(word, folders):
                found = os.path.realpath(place)
                if not _is_executable(found):
                    continue
                self.places[place] = None
                if found in self._seen:
                    continue
                self._seen.add(found)
                self.file(found, self.by_path if is_path else self.by_name)

    def file(self, path: str, into: dict[str, None] | None = None) -> None:
        """Take a program, or keep a script to read it later."""
        try:
            fd = open_plain(path)
        except (OSError, ValueError):
            return
        try:
            if os.pread(fd, 2, 0) == b"#!":
                self.scripts.append(path)
            elif into is not None and elfhead.read(fd) is not None:
                into[path] = None
        except OSError:
            return
        finally:
            os.close(fd)

    def script(self, path: str) -> None:
        """Look up the words of a script, its first line included."""
        self.scripts_read += 1
        try:
            text = os.fsdecode(read_plain(path, TEXT_MAX_BYTES))
        except (OSError, ValueError):
            return
        self.words(_words(text), os.path.dirname(os.path.realpath(path)))


def _places(word: str, folders: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Where the program of a word may be, and whether the word is a path.

    A variable of a script at the beginning of a path most often holds the script's own folder, or
    one that the script names elsewhere.
    """
    plain = _VARIABLE.sub("", word)
    if not plain.strip("/.") or "\0" in plain:
        return
    if "/" in plain:
        yield plain, True
    elif named := shutil.which(plain):
        yield named, False
    for folder in folders:
        yield os.path.join(folder, plain.lstrip("/")), True


def _is_folder(path: str) -> bool:
    try:
        return os.path.isdir(path)
    except ValueError:
        return False


def _is_executable(path: str) -> bool:
    try:
        return os.path.isfile(path) and os.access(path, os.X_OK)
    except (OSError, ValueError):
        return False
