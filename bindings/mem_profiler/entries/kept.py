"""Cache the functions found in a program's symbols on disk.

Model: the folder, its bound and its privacy are those of the symbol cache. The key is the file's
identity (device, inode, size, times), not its build-id: a file controls its own build-id, and a
forged one would give a program the answer of another. A child without rights found the kept data,
maybe in a hostile file, so whoever reads it checks it like any other input; an entry that makes no
sense is absent.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any

from mem_parser.symbols.cache import SymbolCache
from mem_profiler._core import lib
from mem_profiler.entries.names import NONE, Signature
from mem_profiler.entries.symbols import Function

_VERSION = 4
_MOST_BYTES = 1 << 18
_LONGEST_NAME = 256
_LONGEST_TEXT = 1024

Identity = list[int]
Found = tuple[str, list[tuple[Function, Signature]]]
"""The names of the allocators, and their functions: none of one without symbols. Empty both where
there is no allocator.
"""


def identity_of(status: os.stat_result) -> Identity:
    """Values that identify a file and its version."""
    return [
        status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns,
    ]  # fmt: skip


def _key(identity: Identity, kind: str = "entries") -> str:
    spelled = json.dumps([_VERSION, lib.MP_PLAN_VERSION, *identity]).encode()
    return f"{hashlib.sha256(spelled).hexdigest()[:40]}-{kind}"


def get_plan(cache: SymbolCache, identity: Identity) -> bytes | None:
    """The cached plan of a library, which the sampler checks; empty: it has none; None: unknown."""
    return cache.get(_key(identity, "library"))


def put_plan(cache: SymbolCache, identity: Identity, data: bytes) -> None:
    """Keep a library's plan for the addresses in its file, or that it has none."""
    cache.put(_key(identity, "library"), data)


def get(cache: SymbolCache, identity: Identity) -> Found | None:
    """The cached data of the file; None if there are none."""
    kept = cache.get(_key(identity))
    return None if kept is None else read(kept.decode("utf-8", "replace"))


def put(cache: SymbolCache, identity: Identity, text: str) -> None:
    """Keep what `written` made, if it makes sense."""
    if read(text) is not None:
        cache.put(_key(identity), text.encode())


def written(found: Found) -> str:
    """The found functions, as text."""
    allocator, functions = found
    rows = [
        [f.name, f.address, f.size, f.is_ifunc, f.is_local, s.kind, s.flags, s.size, s.count,
         s.block]
        for f, s in functions
    ]  # fmt: skip
    return json.dumps([allocator, rows])


def read(text: str) -> Found | None:
    """The opposite of `written`; None where the text makes no sense."""
    if len(text) > _MOST_BYTES:
        return None
    try:
        allocator, rows = json.loads(text)
        functions = [_function(*row) for row in rows]
    except (ValueError, TypeError, RecursionError):
        return None
    is_text = isinstance(allocator, str) and len(allocator) <= _LONGEST_TEXT
    makes_sense = is_text and (bool(allocator) or not functions)
    return (allocator, functions) if makes_sense else None


def _function(
    name: Any, address: Any, size: Any, is_ifunc: Any, is_local: Any, *signature: Any
) -> tuple[Function, Signature]:
    """One row. Raises ValueError, TypeError."""
    flags = (is_ifunc, is_local)
    numbers = (address, size, *signature)
    if not (isinstance(name, str) and len(name) <= _LONGEST_NAME):
        raise ValueError
    if not all(isinstance(flag, bool) for flag in flags) or not all(
        type(number) is int and 0 <= number < 1 << 64 for number in numbers
    ):
        raise ValueError
    if any(number > NONE for number in signature):
        raise ValueError
    return Function(name, address, size, *flags), Signature(*signature)
