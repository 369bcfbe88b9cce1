"""Name addresses outside all modules from the runtime's own list of its JIT code.

Runs where files of the target are read, in a child without rights (`capture.saving`,
`live.madenames`).
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.interning import distinct
from mem_parser.model import Module, Profile
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.jit_symbols import MadeCode

Addresses = npt.NDArray[np.uint64]
READ_LIMIT_S = 30.0
"""For all lists of a capture: it is written with the names that were found until then."""
UNREADABLE_NOTE = "a list of code that the program made as it ran cannot be read: {}"


def with_names(make: Callable[[], list[Profile]], files: Sequence[int]) -> list[Profile]:
    """What `make` returns, with names from `files`, descriptors of perf maps and jitdumps."""
    profiles = make()
    give_up = time.monotonic() + READ_LIMIT_S
    for profile in profiles if files else []:
        _name(profile, files, give_up - time.monotonic())
    return profiles


def _name(profile: Profile, files: Sequence[int], limit_s: float) -> None:
    stacks = profile.stacks
    addresses = outside(stacks.frames[~stacks.is_leaf], profile.modules)
    found, problems = names_of(addresses, files, limit_s)
    profile.capture.notes += [
        UNREADABLE_NOTE.format(problem) for problem in dict.fromkeys(problems)
    ]
    if found:
        profile.embedded = embedded(found)


def embedded(found: Mapping[int, EmbeddedFrame]) -> EmbeddedNames:
    """The names of addresses of no module, as a profile has them."""
    return EmbeddedNames({(NO_MODULE, address): (frame,) for address, frame in found.items()})


def names_of(
    addresses: Addresses, files: Sequence[int], limit_s: float = math.inf
) -> tuple[dict[int, EmbeddedFrame], list[str]]:
    """The frames of those of `addresses`, in rising order, that the files name; and why files could
    not be read, to their ends within ``limit_s``.
    """
    made = MadeCode(addresses, time.monotonic() + limit_s)
    problems = []
    for fd in files:
        try:
            with os.fdopen(os.dup(fd), "rb") as file:
                file.seek(0)
                made.read(file)
        except OSError as error:
            problems.append(str(error.strerror))
    return made.frames(), problems


def outside(frames: Addresses, modules: Sequence[Module]) -> Addresses:
    """The distinct look-up addresses of return addresses in no module, in rising order."""
    frames = distinct(frames)
    address = frames[frames > 0] - np.uint64(1)
    inside = np.zeros(len(address), dtype=np.bool_)
    for module in modules:
        for part in module.ranges:
            inside |= (address >= part.start) & (address < part.end)
    return address[~inside]
