"""Names of a module's addresses in the cache: bound to the very files of their origin, by path,
inode, size and time of the module's file and of its debug file.

An entry is JSON: every distinct frame once, and for each address the frames there. It has names as
reports show them, so that later runs need no demangler.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mem_parser.symbols.debugfiles import build_id_paths
from mem_parser.symbols.embedded import EmbeddedFrame, Frames
from mem_parser.symbols.filefacts import identity_of
from mem_parser.symbols.files import ModuleFiles, ModuleFinder
from mem_parser.symbols.table import SymbolProblem

Addresses = npt.NDArray[np.uint64]
_Frame = tuple[str, str, str, int]
_VERSION = 4


class KeptNames:
    """Frames by address of the file; an address with an empty entry has no name, and in ``starts``
    the first address of its function where that is known. ``problem``: what reading them met.
    """

    def __init__(self) -> None:
        self.frames: list[_Frame] = []
        self.at: dict[int, Sequence[int]] = {}
        self.starts: dict[int, int] = {}
        self.problem: SymbolProblem | None = None
        self._made: dict[int, EmbeddedFrame] = {}

    def __len__(self) -> int:
        return len(self.at)

    def missing(self, addresses: Addresses) -> Addresses:
        """Return the unknown ones of ``addresses``."""
        return np.array([a for a in addresses.tolist() if a not in self.at], dtype=np.uint64)

    def frames_at(self, addresses: Addresses) -> list[Frames] | None:
        """Return the frames at each address, innermost first; None if one is unknown."""
        found = [self.at.get(a) for a in addresses.tolist()]
        spelled: list[Frames] = []
        for numbers in found:
            if numbers is None:
                return None
            spelled.append(tuple([self._frame(k) for k in numbers]))
        return spelled

    def starts_of(self, addresses: Addresses) -> Addresses:
        """Return the start of the function of each address without a name, else the address."""
        found = [self.starts.get(a, a) for a in addresses.tolist()]
        return np.array(found, dtype=np.uint64)

    def add(self, addresses: Addresses, frames: list[Frames], starts: Addresses) -> None:
        """Add the frames at ``addresses``, and the starts of their functions."""
        known = zip(addresses.tolist(), starts.tolist(), strict=True)
        self.starts.update({address: start for address, start in known if start != address})
        index = {frame: k for k, frame in enumerate(self.frames)}
        for address, found in zip(addresses.tolist(), frames, strict=True):
            numbers = []
            for f in found:
                key = (f.name, f.full_name, f.file, f.line)
                number = index.setdefault(key, len(index))
                if number == len(self.frames):
                    self.frames.append(key)
                numbers.append(number)
            self.at[address] = numbers

    def _frame(self, number: int) -> EmbeddedFrame:
        made = self._made.get(number)
        if made is None:
            made = self._made[number] = EmbeddedFrame(*self.frames[number])
        return made


def dump_names(known: KeptNames, files: ModuleFiles) -> bytes:
    """Return the entry for names from ``files``."""
    entry = {
        "version": _VERSION,
        "image": files.image and files.image.identity,
        "debug": files.debug and files.debug.identity,
        "frames": known.frames,
        "addresses": list(known.at),
        "at": list(known.at.values()),
        "starts": list(known.starts.items()),
    }
    return json.dumps(entry).encode()


def load_names(data: bytes | None, path: str, build_id: str, finder: ModuleFinder) -> KeptNames:
    """Return the names of entry ``data``; none if they are of other files than the one at ``path``
    and the debug file that ``finder`` would choose now.
    """
    known = KeptNames()
    if data is None:
        return known
    try:
        entry = json.loads(data)
        if entry["version"] != _VERSION or entry["image"] != identity_of(path):
            return known
        debug = entry["debug"]
        if debug is not None and debug != identity_of(debug[0]):
            return known
        if debug is None and finder.debuginfod is not None:
            return known
        if debug is None and any(map(os.path.exists, build_id_paths(build_id, finder.debug_dirs))):
            return known
        at = dict(zip(entry["addresses"], entry["at"], strict=True))
        frames = [
            (str(n), str(full), str(file), int(line)) for n, full, file, line in entry["frames"]
        ]
        starts = {int(address): int(start) for address, start in entry["starts"]}
        fit = all(0 <= start <= address < 1 << 64 for address, start in starts.items())
        if fit and all(0 <= k < len(frames) for numbers in at.values() for k in numbers):
            known.frames, known.at, known.starts = frames, at, starts
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return known
    return known
