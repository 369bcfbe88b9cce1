"""Give addresses outside of all modules the names that the target's runtime lists for them.

Runs where files of the target are read, in a child without rights (`capture.saving`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import numpy as np

from mem_parser.model import Profile
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedNames
from mem_parser.symbols.madecode import MadeCode

UNREADABLE_NOTE = "a list of code that the program made as it ran cannot be read: {}"


def with_names(make: Callable[[], list[Profile]], files: Sequence[int]) -> list[Profile]:
    """What `make` returns, with names from `files`, descriptors of perf maps and jitdumps."""
    profiles = make()
    for profile in profiles if files else []:
        _name(profile, files)
    return profiles


def _name(profile: Profile, files: Sequence[int]) -> None:
    made = MadeCode(_outside(profile))
    for fd in files:
        try:
            with os.fdopen(os.dup(fd), "rb") as file:
                file.seek(0)
                made.read(file)
        except OSError as error:
            profile.capture.notes.append(UNREADABLE_NOTE.format(error.strerror))
    frames = made.frames()
    if frames:
        named = {(NO_MODULE, address): (frame,) for address, frame in frames.items()}
        profile.embedded = EmbeddedNames(dict(named))


def _outside(profile: Profile) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """The distinct look-up addresses of return addresses in no module, in rising order."""
    frames = np.unique(profile.stacks.frames[~profile.stacks.is_leaf])
    address = frames[frames > 0] - np.uint64(1)
    inside = np.zeros(len(address), dtype=np.bool_)
    for module in profile.modules:
        for part in module.ranges:
            inside |= (address >= part.start) & (address < part.end)
    return address[~inside]
