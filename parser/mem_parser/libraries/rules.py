"""Rules for library functions: the table, and the user's and the project's additions."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mem_parser.libraries.table import LIBRARIES, By
from mem_parser.names import FrameRule, is_allocator
from mem_parser.symbols.table import CUT_NAME, Function, Role

_MAPPED_MEMORY = "memfd:"
_ENTRY_POINT = re.compile(r"/bin/[^/.]+$")
_DELETED = " (deleted)"
Matches = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Libraries:
    """The rules; ``library`` and ``program`` are patterns that match anywhere in a function's name,
    source file or module. ``program`` wins over all else.
    """

    library: tuple[re.Pattern[str], ...] = ()
    program: tuple[re.Pattern[str], ...] = ()

    def more(self, library: Iterable[re.Pattern[str]]) -> Libraries:
        """Return these rules and more patterns of libraries."""
        return Libraries((*self.library, *library), self.program)

    def roles(self, functions: Sequence[Function], *, beside_python: bool = False) -> list[Role]:
        """Return the role of each function by its name, source file and module.

        ``beside_python``: the stacks have Python's frames and not the interpreter's.
        """
        known = _Known()
        modules: dict[str, Role] = {}
        result = []
        for function in functions:
            role = self._chosen(function)
            if role is None and function.nn_module:
                role = Role.PROGRAM  # the program chose this layer
            if role is None and _is_entry_point(function):
                role = Role.LIBRARY
            if role is None:
                role = known.of_function(function)
            if role is None and (function.name, function.module) == (CUT_NAME, ""):
                role = Role.START
            if role is None and _is_python(function):
                role = Role.PROGRAM
            if role is None:
                if function.module not in modules:
                    modules[function.module] = known.of_module(
                        function.module, beside_python=beside_python
                    )
                role = modules[function.module]
            result.append(role)
        return result

    def keeps(self, function: Function) -> bool:
        """Tell whether the function is the program's by the user's own words."""
        return _any(self.program, function)

    def _chosen(self, function: Function) -> Role | None:
        if _any(self.program, function):
            return Role.PROGRAM
        return Role.LIBRARY if _any(self.library, function) else None


@functools.cache
def _beginning() -> re.Pattern[str]:
    return re.compile("|".join(r.pattern for r in LIBRARIES if r.role is Role.START))


def begins_stacks(name: str) -> bool:
    """Tell whether a function of this name runs before `main`, or before that of a thread."""
    return bool(_beginning().fullmatch(name))


def is_of_header(function: Function) -> bool:
    """Tell whether a library's function is in the program's file because its source is compiled
    with the program's.
    """
    in_source = function.role is Role.LIBRARY and not function.python and function.file
    return bool(in_source and _sources().search(function.file))


@functools.cache
def _sources() -> re.Pattern[str]:
    return re.compile("|".join(r.pattern for r in LIBRARIES if r.by is By.SOURCE))


def guessed(functions: Sequence[Function]) -> list[Function]:
    """Return those of ``functions`` that are wrappers only because they are named like malloc."""
    wrappers = [f for f in functions if f.role is Role.WRAPPER and f.known]
    like = [f for f in wrappers if _guess().fullmatch(f.name)]
    rest = _Known(guesses=False)
    like = [f for f in like if not (rest.of_function(f) or rest.of_module(f.module))]
    return [f for f in like if not is_allocator(f, FrameRule.OWN)]


@functools.cache
def _guess() -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{r.pattern})" for r in LIBRARIES if r.is_guess))


def _any(patterns: Sequence[re.Pattern[str]], f: Function) -> bool:
    texts = (f.name, f.full_name, f.file, f.module)
    return any(p.search(text) for p in patterns for text in texts)


class _Known:
    """The rows of the table, with those that only guess or without."""

    def __init__(self, *, guesses: bool = True) -> None:
        self._guesses = guesses
        self._python: dict[str, Role | None] = {}  # many functions share a file

    def of_function(self, function: Function) -> Role | None:
        """Return the role by name or source file; None where no row matches."""
        if not function.known:
            return None
        if _is_python(function):
            # The module of made code is the file that made it.
            file = function.module if function.python else function.file
            if file not in self._python:
                self._python[file] = self._first(By.PYTHON, file)
            return self._python[file]
        found = self._first(By.NAME, function.name)
        if found is None and not function.module:
            found = self._first(By.MADE, function.full_name)
        if found is None and not _has_parameters(function.full_name):
            found = self._of_rust(function.name)
        if found is None and function.file:
            found = self._first(By.SOURCE, function.file)
        return found

    def of_module(self, path: str, *, beside_python: bool = False) -> Role:
        """Return the role of a module's functions that have none by their names."""
        name = path.rsplit("/", 1)[-1].removeprefix(_MAPPED_MEMORY).removesuffix(_DELETED)
        found = self._first(By.MODULE, name) or self._first(By.PATH, path.removesuffix(_DELETED))
        if found is None and beside_python:
            found = self._first(By.BESIDE_PYTHON, path)
        return found or Role.PROGRAM

    def _of_rust(self, name: str) -> Role | None:
        parts = _type_and_trait(name)
        if not parts:
            return self._first(By.RUST_NAME, name)
        found = [self._first(By.RUST_TYPE, part) for part in parts]
        return None if None in found else found[-1]

    def _first(self, by: By, text: str) -> Role | None:
        for role, guess, matches in _matchers(by):
            if (self._guesses or not guess) and matches(text):
                return role
        return None


@functools.cache
def _matchers(by: By) -> list[tuple[Role, bool, Matches]]:
    """Return one pattern for each role of what rows match, and whether it only guesses."""
    found = []
    for role in (Role.PROGRAM, Role.START, Role.WRAPPER, Role.RUNTIME, Role.LIBRARY):
        for guess in (False, True):
            rows = [r for r in LIBRARIES if (r.by, r.role, r.is_guess) == (by, role, guess)]
            if rows:
                joined = re.compile("|".join(f"(?:{r.pattern})" for r in rows))
                found.append((role, guess, _matching(joined, by)))
    return found


def _is_python(function: Function) -> bool:
    """Tell whether it is a function of Python's, in the files of other tools too."""
    return function.python or function.file.endswith(".py")


def _is_entry_point(function: Function) -> bool:
    """Tell whether it is the code of a script that an installer wrote for a command, such as
    `bin/uvicorn`: it calls a function of the package, and is on every stack.
    """
    script = function.python and function.full_name == "<module>"
    return script and bool(_ENTRY_POINT.search(function.module))


def _matching(pattern: re.Pattern[str], by: By) -> Matches:
    if by in (By.SOURCE, By.PYTHON, By.BESIDE_PYTHON, By.PATH):
        return pattern.search
    return pattern.match if by is By.RUST_TYPE else pattern.fullmatch


def _has_parameters(full_name: str) -> bool:
    """Tell whether a name ends like a demangled C++ function."""
    whole = full_name.partition(" [clone")[0].partition(" (.")[0]
    return whole.removesuffix(" const").endswith(")")


def _type_and_trait(name: str) -> list[str]:
    """Return the type and the trait of `<type as trait>::function`, the type alone of
    `<type>::function`; nothing of another name.
    """
    if not name.startswith("<"):
        return []
    parts: list[str] = []
    depth, begin = 0, 1
    for at, char in enumerate(name):
        if char in "<([":
            depth += 1
        elif char in ">)]" and name[at - 1 : at + 1] != "->":
            depth -= 1
            if depth == 0:
                return [*parts, name[begin:at]]
        elif depth == 1 and not parts and name.startswith(" as ", at):
            parts, begin = [name[begin:at]], at + len(" as ")
    return []
