"""Give the functions of a profile their roles: by the rules first, then by shape."""

from __future__ import annotations

import dataclasses

from mem_parser.libraries.rules import Libraries
from mem_parser.libraries.shape import with_role, wrappers
from mem_parser.model import Profile
from mem_parser.symbols.table import Function, Role, Symbols


def mark_libraries(
    profile: Profile, symbols: Symbols, libraries: Libraries, *, like: Symbols | None = None
) -> Symbols:
    """Return ``symbols`` with the role of every function.

    ``like`` are the marked symbols of a profile to compare with: what is a wrapper by shape there
    is one here, and nothing else, so that both charge alike.
    """
    roles = libraries.roles(symbols.functions, beside_python=symbols.beside_python)
    functions = [
        f if f.role is role else dataclasses.replace(f, role=role)
        for f, role in zip(symbols.functions, roles, strict=True)
    ]
    named = dataclasses.replace(symbols, functions=functions, passing=())
    if like is None:
        found = wrappers(profile, named, libraries)
    else:
        same = set(like.passing)
        found = [
            k
            for k, f in enumerate(functions)
            if f.role is Role.PROGRAM and _key(f) in same and not libraries.keeps(f)
        ]
    passing = tuple(dict.fromkeys(_key(functions[k]) for k in found))
    return dataclasses.replace(with_role(named, found, Role.WRAPPER), passing=passing)


def _key(function: Function) -> str:
    return function.name
