"""Names as people write them, and the short names that reports group by.

`full_name` is the library's (LLVM's) demangling of C++ and Rust names, or that of a tool for other
languages (see `foreign`). `short_name` is what jeprof and pprof show: without parameter lists,
template arguments and return types, so that one template is one row. Compilers and linkers mark
copies and parts of a function by a tail (`.isra.0`, `.llvm.1234`): only full names have it.

Go's names are what people write (`main.(*T).Method`, `main.F[...]`) and stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

import pycxxfilt

from mem_parser.escape import one_line
from mem_parser.symbols import foreign
from mem_parser.symbols.isolation import Crash, Job, Json, in_child

_LIBRARY = ("_Z", "_R", "__Z")
"""How names begin that the library demangles."""
_HIGHEST_CODE = 0x10FFFF
_LONGEST = 4096
"""Longer mangled names are shown as they are: a demangler recurses on what it reads."""
_LONGEST_MADE = 1 << 16
"""Longer names are not shown: a short symbol may double itself again and again."""
_AT_A_TIME = 2000
"""Symbols that share the fate of one that crashes the demangler."""
_RUST_HASH = re.compile(r"::h[0-9a-f]{16}$")
_RUST_ESCAPES = {
    "$SP$": "@", "$BP$": "*", "$RF$": "&", "$LT$": "<", "$GT$": ">",
    "$LP$": "(", "$RP$": ")", "$C$": ",", "..": "::",
}  # fmt: skip
_RUST_ESCAPE = re.compile(
    "|".join(re.escape(k) for k in _RUST_ESCAPES) + r"|\$u(?P<code>[0-9a-f]{1,5})\$"
)
_RUST_ESCAPED = re.compile(r"(?:^|(?<=::))_\$")
"""An escape at the start of a part has a `_` before it, so that the part is an identifier."""
_OPERATOR_AT_END = re.compile(r"\boperator\s*$")
_KEPT_GROUPS = ("(anonymous namespace)", "(anonymous class)")
_FIRST_STAND_IN, _MOST_STAND_INS = 0xE000, 0x1000
_STAND_IN = re.compile(f"[{chr(_FIRST_STAND_IN)}-{chr(_FIRST_STAND_IN + _MOST_STAND_INS)}]")
"""Characters for private use, each in the place of a group of template arguments."""
_CLONE_SUFFIX = re.compile(r" \[?\(?(?:\.|clone ).*$")
_TAIL = re.compile(
    r"(?:\.(?:(?:cold|localalias)(?:\.\d+)*"
    r"|(?:part|__part|isra|constprop|lto_priv|llvm|__uniq)(?:\.\d+)+))+$"
)
_LONGEST_TAIL = 256
_GO_MADE = ("type..", "type:", "go..", "go:")
"""How names begin that Go's compiler gave to what it made for a type."""
_NOT_IN_GO = re.compile(r"[\s<(:]")


def printable(text: str) -> str:
    """Return ``text`` with the characters visible that a terminal would act on or not show."""
    return one_line(text)


def is_mangled(symbol: str) -> bool:
    """Tell whether ``symbol`` looks like a mangled name: C++, Rust, D or Swift."""
    return symbol.startswith(_LIBRARY) or foreign.language_of(symbol) is not None


def is_go_file(path: str) -> bool:
    """Tell whether a source file is Go's, which names functions in its own way."""
    return path.endswith(".go")


def _is_go_name(symbol: str) -> bool:
    """Tell whether a name is a method of a type, a generic function, or made by the compiler."""
    if symbol.startswith(_GO_MADE):
        return True
    for bracket in (".(", "["):
        head, found, _ = symbol.partition(bracket)
        if found and (bracket == ".(" or "." in head) and not _NOT_IN_GO.search(head):
            return True
    return False


def without_tail(symbol: str) -> str:
    """Return ``symbol``, mangled or not, without the marks of a function's copies and parts."""
    if "." not in symbol:
        return symbol
    head, end = symbol[:-_LONGEST_TAIL], symbol[-_LONGEST_TAIL:]
    return head + _TAIL.sub("", end) or symbol


def demangled(symbols: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return the short and the full name of every symbol, made in a child process: a symbol that
    crashes the demangler stays as it is.
    """
    wanted = list(dict.fromkeys(symbols))
    parts = [wanted[k : k + _AT_A_TIME] for k in range(0, len(wanted), _AT_A_TIME)]
    result: dict[str, tuple[str, str]] = {}
    job: Job[list[str], list[tuple[str, str]]] = Job(_names_of, _understood, helpers=True)
    answers = in_child(parts, job)
    for part, names in zip(parts, answers, strict=True):
        if isinstance(names, Crash) or len(names) != len(part):
            as_they_are = [(printable(s), printable(s)) for s in part]
            result.update(zip(part, as_they_are, strict=True))
        else:
            result.update(zip(part, names, strict=True))
    return result


def _names_of(symbols: list[str]) -> Json:
    foreign.prepare(without_tail(s) for s in symbols)
    return [(short_name(s), full_name(s)) for s in symbols]


def _understood(answer: Json) -> list[tuple[str, str]]:
    return [(printable(str(short)), printable(str(full))) for short, full in answer]


def full_name(symbol: str) -> str:
    """Return the demangled form of ``symbol``, or the symbol itself.

    D and Swift names have one only if `foreign.prepare` was called with them.
    """
    if not is_mangled(symbol) or len(symbol) > _LONGEST:
        return printable(symbol)
    base = without_tail(symbol)
    name = foreign.known(base) or _demangled(base)
    if name is None or len(name) > _LONGEST_MADE:
        return printable(symbol)
    tail = symbol[len(base) :]
    return printable(f"{name} ({tail})" if tail else name)


@lru_cache(maxsize=1 << 16)
def _demangled(symbol: str) -> str | None:
    if not symbol.startswith(_LIBRARY):
        return None
    try:
        name = pycxxfilt.demangle(symbol)
    except (ValueError, UnicodeError):
        return _by_gcc(symbol)
    if name is not None and _RUST_HASH.search(name):
        name = _RUST_ESCAPED.sub("$", _RUST_HASH.sub("", name))
        name = _RUST_ESCAPE.sub(_rust_escape, name)
    return name


def _by_gcc(symbol: str) -> str | None:
    """Demangle what LLVM does not read: GCC's names for what depends on a template argument (`sr`),
    as in `std::make_shared<T>` of C++17 or Boost.Asio. The C++ library that LLVM's demangler is
    linked with has GCC's.
    """
    if "sr" not in symbol or not symbol.startswith("_Z"):
        return None
    import ctypes  # for rare names

    demangle = ctypes.CDLL("libstdc++.so.6")["__cxa_demangle"]
    demangle.restype = ctypes.c_void_p
    made = demangle(symbol.encode(), None, None, None)
    if not made:
        return None
    name = ctypes.string_at(made).decode(errors="replace")
    ctypes.CDLL(None).free(ctypes.c_void_p(made))
    return name


def _rust_escape(found: re.Match[str]) -> str:
    code = found["code"]
    if code is None:
        return _RUST_ESCAPES[found[0]]
    return chr(int(code, 16)) if int(code, 16) <= _HIGHEST_CODE else found[0]


def short_name(symbol: str) -> str:
    """Return the name under which reports group ``symbol`` (mangled or not)."""
    if not is_mangled(symbol) and _is_go_name(symbol):
        return printable(symbol)
    base = without_tail(symbol)
    if (language := foreign.language_of(base)) is not None:
        full = full_name(base)
        return foreign.short(full, language) if full != base else full
    return _short_name(base)


@lru_cache(maxsize=1 << 16)
def _short_name(symbol: str) -> str:
    full = full_name(symbol)
    if symbol.startswith("_R") or (full == symbol and not any(c in full for c in "(<")):
        return full
    if full.startswith("<"):
        return full
    short = _without_groups(_CLONE_SUFFIX.sub("", full)).strip()
    return _without_return_type(short) or full


def templated_name(full: str) -> str:
    """Return a demangled name with its template arguments, without parameter lists and return type;
    of other names the whole name.
    """
    if "<" not in full or full.startswith("<") or _STAND_IN.search(full):
        return full
    groups: list[str] = []
    kept: list[str] = []
    at = 0
    while at < len(full):
        if full[at] == "<" and _operator_text(full, at, kept) is None:
            end = _skip_group(full, at)
            kept.append(chr(_FIRST_STAND_IN + len(groups)))
            groups.append(full[at:end])
            at = end
        else:
            kept.append(full[at])
            at += 1
        if len(groups) == _MOST_STAND_INS:
            return full
    text = "".join(kept)
    short = _without_return_type(_without_groups(_CLONE_SUFFIX.sub("", text)).strip()) or text
    return _STAND_IN.sub(lambda m: groups[ord(m[0]) - _FIRST_STAND_IN], short)


def _without_groups(name: str) -> str:
    """Remove every balanced (...) and <...> that is not part of an operator's name."""
    kept: list[str] = []
    at = 0
    while at < len(name):
        char = name[at]
        if char in "(<":
            group = next((g for g in _KEPT_GROUPS if name.startswith(g, at)), None)
            operator = _operator_text(name, at, kept)
            if group or operator:
                text = group or operator or ""
                kept.append(text)
                at += len(text)
                continue
            at = _skip_group(name, at)
            continue
        kept.append(char)
        at += 1
    return re.sub(
        r"(?<!operator) const\b|(?<=[\w>)]) (?:const|volatile|&&?)(?=\s|$)", "", "".join(kept)
    )


def _operator_text(name: str, at: int, kept: list[str]) -> str | None:
    """Return the symbol characters at ``at`` if they are the name of an operator."""
    before = "".join(kept[-12:])
    if not _OPERATOR_AT_END.search(before) and not before.endswith("operator-"):
        return None
    for text in ("()", "<=>", "<<=", "<<", "<=", "<"):
        if name.startswith(text, at):
            return text
    return None


def _skip_group(name: str, at: int) -> int:
    """Return the position after the group that opens at ``at``; the end if it never closes."""
    depth = 0
    while at < len(name):
        char = name[at]
        if char in "(<":
            depth += 1
        elif char in ")>" and name[at - 1 : at + 1] != "->":
            depth -= 1
            if depth == 0:
                return at + 1
        at += 1
    return at


def _without_return_type(name: str) -> str:
    """Remove the return type at the front of templates and some functions."""
    protected = name.replace("(anonymous namespace)", "\x01").replace("(anonymous class)", "\x02")
    operator = re.search(r"(?:^|[\s:])operator(?!\w)", protected)
    head, tail = (
        (protected[: operator.start() + 1], protected[operator.start() + 1 :])
        if operator and operator.start() > 0
        else (protected, "")
    )
    if operator and operator.start() == 0 and protected.startswith("operator"):
        head, tail = "", protected
    head = head.rsplit(" ", 1)[-1] if not head.endswith(" ") else ""
    text = (head + tail).lstrip("*&")
    return (
        text.replace("\x01", "(anonymous namespace)").replace("\x02", "(anonymous class)").strip()
    )
