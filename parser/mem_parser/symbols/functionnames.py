"""Whether a program has a function of a name, sampled or not: from the symbols of all its files;
or a library, from those that they need.

Where the name of a site is in no profile, nothing was allocated there, or nothing has that name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from mem_parser.model import Profile
from mem_parser.symbols import remote_files
from mem_parser.symbols.cache import SymbolCache, default_folder
from mem_parser.symbols.demangle import full_name, is_mangled, short_name
from mem_parser.symbols.elf import BadElf
from mem_parser.symbols.files import ModuleFiles, ModuleFinder, may_have_file
from mem_parser.symbols.isolation import Crash, Job, Json, in_child
from mem_parser.symbols.modulelabels import is_relative

_SYSTEM = ("/lib", "/usr/lib")
_MOST_DEMANGLED = 200_000
_MOST_COMPARED = 20_000
_LONGEST_NEAR = 200
_LIKE = 0.7
_MOST_NEAR = 3
_QUALIFIED = re.compile(r"[^\W\d]\w*(?:::~?\w+)*")
_VARIES = re.compile(r"[|?*{\[\\]|operator|std")
"""A pattern with it may match a name that lacks its longest word, or is mangled without it."""

Known = tuple[bool, list[str]]
"""Whether a function matches, and else the names that may be meant."""


def known(
    profile: Profile,
    pattern: re.Pattern[str],
    binary: str | None,
    debug_dirs: Sequence[str],
    *,
    libraries: bool = False,
) -> Known:
    """Search the symbols (or the ``libraries``) of the files of ``profile``; ``binary`` is the
    program's own, as of `symbolizer.symbolize`. A file that is not here, or has no symbols, has no
    names.
    """
    if remote_files.is_asked():
        return False, []
    search = _search_libraries if libraries else _search
    finder = ModuleFinder(profile, binary, debug_dirs, cache=SymbolCache(default_folder()))
    job: Job[int, Known] = Job(
        lambda k: search(finder.files_of(profile.modules[k]), pattern),
        _understood,
        lambda k: finder.stored_bytes(profile.modules[k]),
        **finder.rights(),
    )
    every = [k for k, module in enumerate(profile.modules) if may_have_file(module)]
    near: dict[bool, list[str]] = {True: [], False: []}
    answers = in_child(every, job)
    for k, answer in zip(every, answers, strict=True):
        if isinstance(answer, Crash):
            continue
        if answer[0]:
            return answer
        path = profile.modules[k].path
        near[is_own(path) and path != profile.capture.sampler] += answer[1]
    return False, near[True] or near[False]


def nearest(pattern: re.Pattern[str], names: Iterable[str]) -> list[str]:
    """Return the names that a pattern may be a slip of, the nearest first. A name is compared by as
    many of its last parts (`Table::add` has two) as the pattern has.
    """
    word = max(_QUALIFIED.findall(pattern.pattern), key=len, default="")
    parts = word.count("::") + 1
    spelled: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        text = "::".join(name.split("::")[-parts:])
        if abs(len(text) - len(word)) * 3 <= len(word):
            spelled.setdefault(text, []).append(name)
    near = get_close_matches(word, sorted(spelled)[:_MOST_COMPARED], cutoff=_LIKE) if word else []
    return [name for text in near for name in spelled[text]][:_MOST_NEAR]


def is_own(module: str) -> bool:
    """Tell whether a file is none of the system's libraries, whose functions no site is about."""
    name = module.rsplit("/", 1)[-1]
    file = is_relative(module) or (module.startswith("/") and not module.startswith("//anon"))
    return file and not (".so" in name and module.startswith(_SYSTEM))


def _search(files: ModuleFiles, pattern: re.Pattern[str]) -> Json:
    """Runs in the child."""
    texts: set[str] = set()
    for image in (files.debug, files.image):
        with contextlib.suppress(BadElf, OSError):
            texts.update(image.symbols().names() if image is not None else ())
    if any(map(pattern.search, texts)):
        return [True, []]
    word = "" if _VARIES.search(pattern.pattern) else _word(pattern)
    mangled = sorted(filter(is_mangled, texts))
    for text in [one for one in mangled if word in one][:_MOST_DEMANGLED]:
        if pattern.search(short_name(text)) or pattern.search(full_name(text)):
            return [True, []]
    spelled = map(short_name, mangled[:_MOST_COMPARED])
    return [False, nearest(pattern, [*spelled, *texts.difference(mangled)])]


def _search_libraries(files: ModuleFiles, pattern: re.Pattern[str]) -> Json:
    """Runs in the child."""
    names: list[str] = []
    with contextlib.suppress(BadElf, OSError):
        names += files.image.libraries if files.image is not None else ()
    if any(map(pattern.search, names)):
        return [True, []]
    return [False, nearest(pattern, [name.split(".so")[0] for name in names])]


def _understood(form: Json) -> Known:
    found, near = form
    return bool(found), [str(name)[:_LONGEST_NEAR] for name in near[:_MOST_NEAR]]


def _word(pattern: re.Pattern[str]) -> str:
    """Return the longest name in a pattern; empty if it has none."""
    return max(re.findall(r"[^\W\d]\w*", pattern.pattern), key=len, default="")
