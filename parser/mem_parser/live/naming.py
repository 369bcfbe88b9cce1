"""Names for the profiles of one process, which come again and again.

A stack that had its names keeps them: what a refresh costs depends on the stacks that are new. That
needs profiles of one series (`StackTable.series`); any other is named from the beginning, and so is
one of a capture or a program that is another, or where what was known has changed: a library came
to where another one was, the first one was closed, the interpreter was found in a module where it
was not known to be.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mem_parser.interning import Growing, distinct
from mem_parser.libraries.mark import Marked, mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.live.addresses import KeptAddresses
from mem_parser.live.stacksums import last_of_name
from mem_parser.model import BoolArray, IntArray, Profile, StackTable
from mem_parser.python.labelframes import with_labels
from mem_parser.python.splice import Spliced, is_whole, spliced
from mem_parser.python.view import PythonView
from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS
from mem_parser.symbols.symbolizer import AddressNames, Distinct, name_addresses
from mem_parser.symbols.table import KnownColumns, Symbols


@dataclass(frozen=True)
class NamingChoice:
    """How stacks are named: as the options of reports of the same names say.

    ``python`` None: Python's frames are left out.
    """

    binary: str | None = None
    debug_dirs: Sequence[str] = DEFAULT_DEBUG_DIRS
    python: PythonView | None = PythonView.MIXED
    nn_modules: bool = False
    libraries: Libraries | None = None
    labels: bool = False


class Naming:
    """The names of one process's stacks, for one thread."""

    def __init__(self, choice: NamingChoice = NamingChoice()) -> None:
        self.choice = choice
        self._kept: _Kept | None = None

    def names(self, profile: Profile) -> Symbols:
        """Name all stacks of ``profile``. Raises as `name_addresses` does."""
        choice = self.choice
        symbols, marked = self._plain(profile)
        if choice.libraries is not None:
            symbols = mark_libraries(profile, symbols, choice.libraries, marked=marked)
        return with_labels(profile, symbols) if choice.labels else symbols

    def addresses(self, profile: Profile) -> AddressNames:
        """Return what `name_addresses` would, of a profile that was named here last. Raises as it
        does.
        """
        choice = self.choice
        kept = self._kept
        if kept is None or not kept.goes_on(profile):
            return name_addresses(profile, choice.binary, debug_dirs=choice.debug_dirs)
        return kept.addresses(profile)

    def _plain(self, profile: Profile) -> tuple[Symbols, Marked | None]:
        """Return the names without roles and labels, and what is known of roles."""
        if profile.stacks.series is None or not is_whole(profile):
            self._kept = None
            return _anew(profile, self.choice), None
        if self._kept is None or not self._kept.goes_on(profile):
            self._kept = _Kept(profile, self.choice)
        try:
            if not self._kept.take(profile):
                self._kept = _Kept(profile, self.choice)
                self._kept.take(profile)
        except BaseException:
            self._kept = None  # part of it may be missing
            raise
        return self._kept.symbols(profile), self._kept.marked


def _anew(profile: Profile, choice: NamingChoice) -> Symbols:
    names = name_addresses(profile, choice.binary, debug_dirs=choice.debug_dirs)
    shown = Spliced(names)
    if choice.python is not None:
        shown = spliced(profile, names, choice.python, nn_modules=choice.nn_modules)
    return shown.spell()


class _Kept:
    """The stacks of one series with their names so far."""

    def __init__(self, profile: Profile, choice: NamingChoice) -> None:
        self._choice = choice
        self._series = profile.stacks.series
        self._addresses = KeptAddresses(profile, choice.binary, choice.debug_dirs)
        self._shown: BoolArray = np.zeros(0, dtype=np.bool_)
        self._holding: BoolArray = np.zeros(0, dtype=np.bool_)
        self._held: set[str] = set()
        self._ends: Growing[np.int64] = Growing(np.int64)
        self._ends.extend(np.zeros(1, dtype=np.int64))
        self._spelled: Growing[np.int32] = Growing(np.int32)
        self._is_last: Growing[np.bool_] = Growing(np.bool_)
        self._called: Growing[np.int32] = Growing(np.int32)
        self._function_of: Growing[np.int32] = Growing(np.int32)
        self._name_of: Growing[np.int64] = Growing(np.int64)
        self._names: dict[str, int] = {}
        self.marked = None if choice.libraries is None else Marked(choice.libraries)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def goes_on(self, profile: Profile) -> bool:
        """Tell whether ``profile`` begins with the stacks that are known, and their names hold."""
        is_same = profile.stacks.series is self._series
        return is_same and self._addresses.fits(profile)

    def take(self, profile: Profile) -> bool:
        """Name the stacks that are new. False: the names of known ones no longer hold. Raises as
        `name_addresses` does.
        """
        low, high = len(self), len(profile.stacks)
        if high <= low:
            return True
        rows = self._addresses.take(profile, low, high)
        if not self._same_interpreters(profile):
            return False
        names, used = self._part(profile, low, high, rows.of_frame)
        shown = Spliced(names)
        if self._choice.python is not None:
            part = dataclasses.replace(profile, stacks=names.stacks)
            shown = spliced(
                part, names, self._choice.python, nn_modules=self._choice.nn_modules,
                kinds=self._addresses.kinds, holding=self._holding,
            )  # fmt: skip
        self._note_shown(shown, used)
        self._append(shown.spell())
        return True

    def _same_interpreters(self, profile: Profile) -> bool:
        """Tell whether no more modules have an interpreter than when known stacks were named."""
        self._holding = self._addresses.holding()
        held = {profile.modules[k].path for k in np.flatnonzero(self._holding).tolist()}
        same = held == self._held or not len(self)
        self._held = held
        return same

    def _part(
        self, profile: Profile, low: int, high: int, of_frame: IntArray
    ) -> tuple[AddressNames, IntArray]:
        """Return the stacks from ``low`` on with the names of their addresses, and which rows these
        are.
        """
        stacks, addresses = profile.stacks, self._addresses
        used, back = np.unique(of_frame, return_inverse=True)
        table = StackTable(
            stacks.offsets[low : high + 1] - stacks.offsets[low],
            stacks.frames_between(low, high),
            stacks.flags[low:high],
            stacks.generation[low:high],
            stacks.leaf_exact,
            None if stacks.interpreter is None else stacks.interpreter[low:high],
            None if stacks.label is None else stacks.label[low:high],
        )
        none = np.zeros(len(used), dtype=np.uint64)
        distinct = Distinct(
            none,
            none.astype(np.uint32),
            none.astype(np.bool_),
            np.asarray(back).reshape(-1).astype(np.int32),
        )
        return AddressNames(
            table,
            distinct,
            addresses.module_of[used],
            [addresses.expansion[k] for k in used.tolist()],
            addresses.builder,
            [],
            {},
        ), used

    def _note_shown(self, shown: Spliced, used: IntArray) -> None:
        """Note which addresses are on stacks as these are shown."""
        more = len(self._addresses) - len(self._shown)
        self._shown = np.concatenate((self._shown, np.zeros(more, dtype=np.bool_)))
        rows = distinct(shown.names.distinct.of_frame)
        self._shown[used[rows[rows < len(used)]]] = True

    def _append(self, named: Symbols) -> None:
        builder = self._addresses.builder
        base = len(self._spelled)
        new = builder.locations[len(self._function_of) :]
        self._function_of.extend(np.array([x.function for x in new], dtype=np.int32))
        names = [f.name for f in builder.functions[len(self._name_of) :]]
        index = [self._names.setdefault(name, len(self._names)) for name in names]
        self._name_of.extend(np.array(index, dtype=np.int64))
        self._spelled.extend(named.locations_of_stack)
        self._ends.extend(named.offsets[1:] + base)
        key = self._name_of.values[self._function_of.values[named.locations_of_stack]]
        self._is_last.extend(last_of_name(key, named.offsets))
        count = len(named.offsets) - 1
        called = np.full(count, -1, np.int32) if named.called is None else named.called
        self._called.extend(called)

    def addresses(self, profile: Profile) -> AddressNames:
        """Return the names of the addresses of ``profile``."""
        known = self._addresses
        rows = known.take(profile, 0, len(profile.stacks))
        return AddressNames(
            profile.stacks,
            known.distinct(rows.of_frame),
            known.module_of,
            known.expansion,
            known.builder.copy(),
            known.problems,
            known.nameless(),
            known.program,
        )

    def symbols(self, profile: Profile) -> Symbols:
        """Return all of them."""
        choice, addresses = self._choice, self._addresses
        has_python = profile.python is not None and len(profile.python) > 0
        is_spliced = choice.python is not None and (
            has_python or choice.python is PythonView.PYTHON
        )
        locations = list(addresses.builder.locations)
        # A shorter profile of the series than the latest one has fewer stacks.
        count = len(profile.stacks)
        offsets = self._ends.values[: count + 1]
        spelled = self._spelled.values[: int(offsets[-1])]
        return Symbols(
            list(addresses.builder.functions),
            locations,
            offsets,
            spelled,
            addresses.problems,
            addresses.nameless(self._shown if is_spliced else None),
            program=addresses.program,
            beside_python=is_spliced and choice.python is PythonView.MIXED,
            called=(
                self._called.values[:count] if is_spliced and choice.python is PythonView.PYTHON
                else None
            ),
            known=KnownColumns(
                locations, self._function_of.values, spelled, self._is_last.values[: len(spelled)],
                series=self,
            ),
        )  # fmt: skip
