"""The plan for an allocator inside a program, made by a child without rights.

Model: we open the program's file with our rights, and the child reads it without them: it decodes
symbol tables and code, partly by a library. It returns a plan, whose bytes the sampler checks once
more in the target, against the code that it finds (sampler/abi/entry_plan.h), and what it found in
the symbols, which is kept for the next time (`kept`).
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mem_parser.errors import MemError, TargetBusy, TargetUnsupported
from mem_parser.plainfile import open_plain
from mem_parser.symbols.cache import SymbolCache, default_folder
from mem_parser.symbols.elf import ElfImage
from mem_profiler.entries import kept
from mem_sandbox import child, confine

if TYPE_CHECKING:
    from mem_profiler.entries.symbols import Program

LIMIT_S = 60.0  # symbols of the largest programs take some seconds
STAT_LIMIT_S = 5.0
LARGE_LIBRARY_BYTES = 32 << 20
"""Only such a library is looked at for an allocator that it brings along."""
_LONGEST = 100
_INVALID = "the child process that reads programs gave an invalid answer"
WITHOUT_SYMBOLS = "{} seems to be linked into the program, without symbols"
WITHOUT_SYMBOLS_CURE = "use a build with its symbols (not stripped)"


def of_file(path: str, bias: int, what: str) -> tuple[bytes, str]:
    """The plan for a program loaded at `bias`, and the reason if none is possible; both may be
    empty.

    `what` names the program in errors. Raises MemError where the read does not end.
    """
    return _of_file(path, bias, what)[:2]


def unseen(path: str, what: str) -> str:
    """Why a sampler without a plan does not see the allocator inside a program; empty: there is
    none.
    """
    try:
        data, refusal, allocator = _of_file(path, 0, what)
    except MemError as error:
        return str(error)
    if refusal or not data:
        return refusal
    own = "allocator" if allocator == "malloc" else allocator
    return f"the program's own {own} was not redirected to the sampler"


def brought(paths: Sequence[str]) -> dict[str, str]:
    """The allocators that large libraries bring along, by path; a child without rights reads.

    Raises MemError where the read does not end.
    """
    from mem_profiler.entries import plan

    told = _of_large(paths, lambda _number, program: plan.brought(program))
    try:
        return {paths[number]: str(name)[:_LONGEST] for number, name in told if name}
    except (TypeError, ValueError, IndexError):
        raise MemError(_INVALID) from None


def of_own_libraries(paths: Sequence[str]) -> list[bytes]:
    """The plans for files of the user, kept for the next time. Raises MemError, OSError."""
    folder = default_folder()
    if folder is None or not paths:
        return list(of_libraries(dict.fromkeys(paths, 0)).values()) if paths else []
    cache = SymbolCache(folder)
    identities = {path: kept.identity_of(os.stat(path)) for path in paths if os.path.isfile(path)}
    plans = {path: kept.get_plan(cache, one) for path, one in identities.items()}
    unknown = [path for path, plan in plans.items() if plan is None]
    made = of_libraries(dict.fromkeys(unknown, 0)) if unknown else {}
    for path in unknown:
        kept.put_plan(cache, identities[path], made.get(path, b""))
    return [plan for path in plans if (plan := plans[path] or made.get(path))]


def of_libraries(libraries: Mapping[str, int]) -> dict[str, bytes]:
    """The plans for the allocators that large libraries bring along, by path; given are biases.

    Those that cannot be followed have none. Raises MemError where the read does not end.
    """
    from mem_profiler.entries import plan

    paths, biases = list(libraries), list(libraries.values())

    def work(number: int, program: Program) -> str:
        made = plan.of_library(program, biases[number])
        return "" if made is None else base64.b64encode(made.data).decode()

    told = _of_large(paths, work)
    try:
        return {paths[n]: base64.b64decode(data, validate=True) for n, data in told if data}
    except (TypeError, ValueError, IndexError, binascii.Error):
        raise MemError(_INVALID) from None


def _of_large(paths: Sequence[str], work: Callable[[int, Program], str]) -> Any:
    """What `work` says of each large library, as pairs of its number and that."""
    from mem_profiler.entries.symbols import Program

    held: list[tuple[int, str, int]] = []

    def give_up() -> None:
        ElfImage.prepare()
        for number, path in enumerate(paths):
            with contextlib.suppress(OSError, ValueError):
                held.append((number, path, open_plain(path)))
        confine.enter()

    def all_of(_asked: child.Asked) -> list[tuple[int, str]]:
        found = []
        for number, path, fd in held:
            if os.fstat(fd).st_size >= LARGE_LIBRARY_BYTES:
                with (
                    contextlib.suppress(OSError, TargetUnsupported),
                    Program(path, fd) as program,
                ):
                    found.append((number, work(number, program)))
        return found

    return child.call(all_of, "libraries", LIMIT_S, enter=give_up)


def _of_file(path: str, bias: int, what: str) -> tuple[bytes, str, str]:
    """As `of_file`, and the name of the allocator."""
    folder = default_folder()
    identity = _identity(path, what) if folder is not None else None
    if identity is None:
        return _named(*_made(path, bias, what, None, None))
    cache = SymbolCache(folder)
    known = kept.get(cache, identity)
    if known is not None and not known[1]:
        return b"", _without_symbols(known[0]), known[0]
    data, refusal, found = _made(path, bias, what, identity, known)
    if known is None and found:
        kept.put(cache, identity, found)
    return _named(data, refusal, found)


def _without_symbols(name: str) -> str:
    """Why an allocator of which the program has only texts cannot be followed; empty: no name."""
    return f"{WITHOUT_SYMBOLS.format(name)}; {WITHOUT_SYMBOLS_CURE}" if name else ""


def _named(data: bytes, refusal: str, found: str) -> tuple[bytes, str, str]:
    known = kept.read(found)
    return data, refusal, known[0] if known else ""


def _identity(path: str, what: str) -> kept.Identity | None:
    def status(_asked: child.Asked) -> kept.Identity | None:
        try:
            return kept.identity_of(os.stat(path))
        except (OSError, ValueError):
            return None

    told = child.call(status, what, STAT_LIMIT_S)
    return [int(number) for number in told] if told is not None else None


def _made(
    path: str, bias: int, what: str, identity: kept.Identity | None, known: kept.Found | None
) -> tuple[bytes, str, str]:
    """The plan, why there is none, and what was found in the symbols, as `kept.written` gives it.

    With `identity` only that file is read, so that nothing is kept about another one.
    """
    from mem_profiler.entries import plan  # noqa: F401 - the child could not without rights
    from mem_profiler.entries.symbols import Program

    held: list[int] = []

    def give_up() -> None:
        ElfImage.prepare()
        try:
            held.append(open_plain(path))
        except OSError:
            return  # unreadable: no plan
        finally:
            confine.enter()

    def work(_asked: child.Asked) -> list[str]:
        if not held:
            return ["", "", ""]
        if identity is not None and kept.identity_of(os.fstat(held[0])) != identity:
            raise TargetBusy(f"{what}: its file changed while mem_profiler read it")
        try:
            with Program(path, held[0]) as program:
                return _work_on(program, bias, known)
        except TargetUnsupported as error:
            return ["", str(error), ""]
        except OSError:
            return ["", "", ""]

    return _checked(child.call(work, what, LIMIT_S, enter=give_up))


def _work_on(program: Program, bias: int, known: kept.Found | None) -> list[str]:
    """Look for the allocator, unless it is `known`, and make the plan. Raises TargetUnsupported."""
    from mem_profiler.entries import plan

    inside = plan.find(program) if known is None else plan.Inside(known[0], tuple(known[1]))
    if inside is None:
        name = plan.without_symbols(program)
        return ["", _without_symbols(name), kept.written((name, []))]
    found = kept.written((inside.allocator, list(inside.functions)))
    try:
        made = plan.made_of(program, inside, bias)
    except TargetUnsupported as error:
        return ["", str(error), found]
    return [base64.b64encode(made.data).decode(), "", found]


def _checked(told: Any) -> tuple[bytes, str, str]:
    """The checked answer of the child, which a hostile file may control."""
    try:
        data, refusal, found = told
        return base64.b64decode(data, validate=True), str(refusal), str(found)
    except (TypeError, ValueError, binascii.Error):
        raise MemError(_INVALID) from None
