"""Names of D and Swift, demangled by the tools that users of these languages have.

    D       c++filt or llvm-cxxfilt, of the binutils and LLVM
    Swift   swift-demangle, of Swift itself

There is no maintained library for either. A tool reads mangled names from standard input, one a
line; if it is missing or fails, the names stay mangled. Call `prepare` in a confined
child (see `isolation`) only: the tool, its child, has no more rights, memory or time than that.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable

D, SWIFT = "D", "Swift"
_STARTS = re.compile(r"(_D(?=\d|main$))|(_?\$[sS](?=\d|[A-Za-z])|_T0(?=\d|[A-Za-z]))")
_TOOLS: dict[str, tuple[tuple[str, ...], ...]] = {
    D: (("c++filt", "-s", "dlang"), ("llvm-cxxfilt",)),
    SWIFT: (("swift-demangle", "-simplified"),),
}
_TIMEOUT_S = 20.0
_LONGEST = 4096
_MOST_KNOWN = 1 << 17
_NAME = re.compile(r"[$\w.]+", re.ASCII)
_MEMBER_KIND = re.compile(r"(?: (?:const|immutable|inout|shared))+$")

_known: dict[str, str] = {}


def language_of(symbol: str) -> str | None:
    """Return the language of a mangled name; None for a name of no such language."""
    if symbol[:1] not in ("_", "$"):
        return None
    found = _STARTS.match(symbol)
    if found is None:
        return None
    return D if found[1] is not None else SWIFT


def known(symbol: str) -> str | None:
    """Return the demangled form of a name that `prepare` met; None if there is none."""
    return _known.get(symbol)


def prepare(symbols: Iterable[str]) -> None:
    """Demangle those of ``symbols`` that are names of these languages."""
    wanted: dict[str, dict[str, None]] = {}
    for symbol in symbols:
        language = language_of(symbol)
        if language is not None and symbol not in _known and len(symbol) <= _LONGEST:
            wanted.setdefault(language, {})[symbol] = None
    for language, names in wanted.items():
        for tool in _TOOLS[language]:
            left = [n for n in names if n not in _known and _NAME.fullmatch(n)]
            if left and len(_known) + len(left) <= _MOST_KNOWN:
                _known.update(_run(tool, left))


def _run(tool: tuple[str, ...], names: list[str]) -> dict[str, str]:
    """Return what ``tool`` makes of ``names``, without those that it leaves as they are."""
    program = shutil.which(tool[0])
    if program is None:
        return {}
    try:
        done = subprocess.run(
            [program, *tool[1:]],
            input="".join(f"{name}\n" for name in names),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    told = done.stdout.removesuffix("\n").split("\n")
    if done.returncode or len(told) != len(names):
        return {}
    pairs = zip(names, told, strict=True)
    return {name: text.strip() for name, text in pairs if text.strip() not in ("", name)}


def short(full: str, language: str) -> str:
    """Return the name under which reports group a demangled one: D's without parameter lists."""
    if language != D:
        return full
    kept: list[str] = []
    at = 0
    while at < len(full):
        end = at + 1
        if full[at] == "(":
            end = _end_of_group(full, at)
        if full[at] != "(" or full[at - 1 : at] == "!":
            kept.append(full[at:end])
        at = end
    return _MEMBER_KIND.sub("", "".join(kept)).strip() or full


def _end_of_group(text: str, at: int) -> int:
    """Return the position after the group that opens at ``at``; the end if it never closes."""
    depth = 0
    for k in range(at, len(text)):
        depth += (text[k] == "(") - (text[k] == ")")
        if not depth:
            return k + 1
    return len(text)
