"""Give the functions of a profile their roles: by the rules first, then by shape."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mem_parser.libraries.rules import Libraries
from mem_parser.libraries.shape import with_role, wrappers
from mem_parser.model import Profile
from mem_parser.symbols.table import Function, Role, Symbols


class Marked:
    """Functions with their roles by the rules; of a list that grows, each is looked at once."""

    def __init__(self, libraries: Libraries) -> None:
        self._libraries = libraries
        self._functions: list[Function] = []
        self._beside_python = False

    def of(self, symbols: Symbols) -> list[Function]:
        """Return the functions of ``symbols``, which begin with those of the call before."""
        if symbols.beside_python != self._beside_python:
            self._functions, self._beside_python = [], symbols.beside_python
        new = symbols.functions[len(self._functions) :]
        if new:
            roles = self._libraries.roles(new, beside_python=self._beside_python)
            self._functions += [
                f if f.role is role else dataclasses.replace(f, role=role)
                for f, role in zip(new, roles, strict=True)
            ]
        return list(self._functions)


def mark_libraries(
    profile: Profile,
    symbols: Symbols,
    libraries: Libraries,
    *,
    passing: Sequence[str] | None = None,
    marked: Marked | None = None,
) -> Symbols:
    """Return ``symbols`` with the role of every function.

    ``passing`` are those of a profile to compare with (`Symbols.passing`): what is a wrapper by
    shape there is one here, and nothing else, so that both charge alike. ``marked``: what
    ``libraries`` say of the functions so far.
    """
    functions = (marked or Marked(libraries)).of(symbols)
    named = dataclasses.replace(symbols, functions=functions, passing=())
    if passing is None:
        found = wrappers(profile, named, libraries)
    else:
        same = set(passing)
        found = [
            k
            for k, f in enumerate(functions)
            if f.role is Role.PROGRAM and _key(f) in same and not libraries.keeps(f)
        ]
    names = tuple(dict.fromkeys(_key(functions[k]) for k in found))
    return dataclasses.replace(with_role(named, found, Role.WRAPPER), passing=names)


def _key(function: Function) -> str:
    return function.name
