"""From addresses to names: `symbolize` gives every stack of a profile its functions and lines.

It looks up every distinct address once, module by module, and return addresses one byte earlier,
inside the call. In files of other tools the innermost frame may be either; it stays unchanged if a
function begins exactly there, which a return address of an allocation never does. A child process
reads files and demangles names (see `isolation`); a module whose addresses are all in the cache
needs neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from mem_parser.model import (
    LOST_CAUSES,
    SAMPLER_NAME,
    STACK_CUT,
    STACK_LOST_SHIFT,
    Module,
    Profile,
    StackTable,
)
from mem_parser.programname import captured_name, file_name
from mem_parser.symbols import answerform, remote_files
from mem_parser.symbols.answerform import Answer
from mem_parser.symbols.cache import SymbolCache, default_folder
from mem_parser.symbols.debugfiles import DEFAULT_DEBUG_DIRS, is_read_whole
from mem_parser.symbols.demangle import printable
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame
from mem_parser.symbols.files import ModuleFinder, changed_since
from mem_parser.symbols.isolation import Crash, Job, in_child
from mem_parser.symbols.keptnames import KeptNames
from mem_parser.symbols.modulelabels import module_keys, module_labels
from mem_parser.symbols.modulenames import ModuleNames, file_addresses
from mem_parser.symbols.reasons import stripped_own
from mem_parser.symbols.table import (
    CUT_NAME,
    Function,
    SymbolProblem,
    Symbols,
    SymbolTableBuilder,
)

if TYPE_CHECKING:
    from mem_parser.symbols.debuginfod import Debuginfod

Addresses = npt.NDArray[np.uint64]
Ids = npt.NDArray[np.int64]
_Number = TypeVar("_Number", bound=np.generic)
_NO_STACK = "[no stack]"
_CUT = Function(CUT_NAME, CUT_NAME, "", known=False)
_FRAMES_AT_A_TIME = 1 << 20


def symbolize(
    profile: Profile,
    binary: str | None = None,
    *,
    debug_dirs: Sequence[str] = DEFAULT_DEBUG_DIRS,
    cache: SymbolCache | None = None,
    debuginfod: Debuginfod | None = None,
) -> Symbols:
    """Name all stacks of ``profile``.

    ``binary`` is the program's own file if it is not where the profile says. Raises
    `InputFileError` if that is unreadable or another program's; `Symbols.problems` has everything
    else that is missing. ``debuginfod`` gives debug files that are not here.
    """
    return name_addresses(
        profile, binary, debug_dirs=debug_dirs, cache=cache, debuginfod=debuginfod
    ).spell()


def name_addresses(
    profile: Profile,
    binary: str | None = None,
    *,
    debug_dirs: Sequence[str] = DEFAULT_DEBUG_DIRS,
    cache: SymbolCache | None = None,
    debuginfod: Debuginfod | None = None,
) -> AddressNames:
    """Name every distinct address of ``profile``; arguments and errors as of `symbolize`."""
    cache = cache or SymbolCache(default_folder())
    finder = ModuleFinder(
        profile, binary, debug_dirs, debuginfod, cache, open_given=remote_files.open_given
    )
    run = _Symbolizer(profile, finder, cache, SymbolTableBuilder())
    return run.named(distinct_addresses(profile))


def name_distinct(
    profile: Profile,
    distinct: Distinct,
    builder: SymbolTableBuilder,
    binary: str | None = None,
    *,
    debug_dirs: Sequence[str] = DEFAULT_DEBUG_DIRS,
) -> AddressNames:
    """Name some addresses of ``profile``; their locations go to ``builder``. Arguments and errors
    as of `symbolize`.
    """
    cache = SymbolCache(default_folder())
    finder = ModuleFinder(
        profile, binary, debug_dirs, None, cache, open_given=remote_files.open_given
    )
    return _Symbolizer(profile, finder, cache, builder).named(distinct)


@dataclass(slots=True)
class Distinct:
    """The distinct (address, generation, is it a foreign leaf) of all frames, and each frame's
    index in these.
    """

    address: Addresses
    generation: npt.NDArray[np.uint32]
    foreign_leaf: npt.NDArray[np.bool_]
    of_frame: npt.NDArray[np.int32]


def tells_generations(modules: list[Module]) -> bool:
    """Tell whether the program closed a module: only then can an address be in two modules."""
    return any(m.last_generation is not None for m in modules)


def distinct_addresses(profile: Profile) -> Distinct:
    """Return the addresses to look up: return addresses minus one byte."""
    stacks = profile.stacks
    by_generation = tells_generations(profile.modules)
    if stacks.leaf_exact and not by_generation:
        return _plain_distinct(stacks)
    leaf = stacks.is_leaf
    exact = leaf if stacks.leaf_exact else np.zeros_like(leaf)
    address = stacks.frames - np.where(exact | (stacks.frames == 0), 0, 1).astype(np.uint64)
    foreign = leaf & ~exact
    generation = np.zeros(len(address), dtype=np.uint32)
    if by_generation:
        generation = np.repeat(stacks.generation, stacks.depths)
    key = np.empty(len(address), dtype=[("a", "u8"), ("g", "u4"), ("f", "?")])
    key["a"], key["g"], key["f"] = address, generation, foreign
    rows, inverse = np.unique(key, return_inverse=True)
    return Distinct(
        rows["a"].copy(),
        rows["g"].copy(),
        rows["f"].copy(),
        np.asarray(inverse).reshape(-1).astype(np.int32),
    )


def _plain_distinct(stacks: StackTable) -> Distinct:
    """Return the distinct addresses of stacks of a single generation; some frames at a time,
    because there may be many millions.
    """
    address = np.zeros(0, dtype=np.uint64)
    for part in _looked_up(stacks):
        address = _sorted_distinct(np.concatenate((address, _sorted_distinct(part))))
    of_frame = np.empty(len(stacks.frames), dtype=np.int32)
    at = 0
    for part in _looked_up(stacks):
        of_frame[at : at + len(part)] = np.searchsorted(address, part)
        at += len(part)
    zeros = np.zeros(len(address), dtype=np.uint32)
    return Distinct(address, zeros, zeros.astype(np.bool_), of_frame)


def _looked_up(stacks: StackTable) -> Iterator[Addresses]:
    """Yield the look-up addresses of all frames in order; innermost ones are unchanged."""
    leaf = stacks.offsets[:-1][stacks.depths > 0]
    for low in range(0, len(stacks.frames), _FRAMES_AT_A_TIME):
        part = stacks.frames[low : low + _FRAMES_AT_A_TIME]
        address = part - (part > 0)
        mine = leaf[slice(*np.searchsorted(leaf, (low, low + len(part))))] - low
        address[mine] = part[mine]
        yield address


def _sorted_distinct(values: npt.NDArray[_Number]) -> npt.NDArray[_Number]:
    """Return the distinct values in order. Sorting beats numpy's hashing by far here, and its
    `unique` loads masked arrays, which cost more than both.
    """
    ordered = np.sort(values)
    if not len(ordered):
        return ordered
    return ordered[np.concatenate(([True], ordered[1:] != ordered[:-1]))]


@dataclass(frozen=True, slots=True)
class _Question:
    """The look-ups in the files of one module: positions in `Distinct`, and the locations that the
    profile itself gives for each.
    """

    index: int
    which: Ids
    inside: list[tuple[int, ...]]


class _Symbolizer:
    """One run over addresses of one profile."""

    def __init__(
        self,
        profile: Profile,
        finder: ModuleFinder,
        cache: SymbolCache,
        builder: SymbolTableBuilder,
    ) -> None:
        self.profile = profile
        self.finder = finder
        self.cache = cache
        self.builder = builder
        self.problems: list[SymbolProblem] = []
        self.nameless: dict[str, int] = {}
        self.read: dict[str, KeptNames] = {}
        self.keys = module_keys(profile.modules)
        self.labels = module_labels(profile.modules)

    def named(self, distinct: Distinct) -> AddressNames:
        """Name these addresses."""
        modules = self.profile.modules
        module_of = assign_modules(modules, distinct)
        expansion: list[tuple[int, ...]] = [()] * len(distinct.address)
        order = np.argsort(module_of, kind="stable")
        bounds = np.searchsorted(module_of[order], np.arange(-1, len(modules) + 1))
        asked = []
        for index in range(-1, len(modules)):
            which = order[bounds[index + 1] : bounds[index + 2]]
            if not len(which):
                continue
            inside = self._embedded(index, distinct.address[which])
            if index < 0 or (all(inside) and not modules[index].build_id):
                # There is nothing to check a local file against.
                self._fill(expansion, which, self._without_file(inside, distinct.address[which]))
            else:
                asked.append(_Question(index, which, inside))
        for question, answer in self._answers(asked, distinct):
            self._fill(expansion, question.which, self._named(question, answer))
        self._note_unfit()
        return AddressNames(
            self.profile.stacks,
            distinct,
            module_of,
            expansion,
            self.builder,
            self.problems,
            self.nameless,
            self._program(),
        )

    def _program(self) -> tuple[str, str]:
        """Return the module of the program's file, and the name of the program: that of the file
        that the user gave, else as it was called.
        """
        main, given = self.finder.main, self.finder.given
        if main is None:
            return "", ""
        capture = self.profile.capture
        name = file_name(given) if given else main.name
        if not given and main.path == capture.exe.removesuffix(" (deleted)"):
            name = captured_name(capture)
        return main.path, printable(name)

    def _answers(
        self, asked: list[_Question], distinct: Distinct
    ) -> Iterator[tuple[_Question, Answer]]:
        """Yield each question with its answer, in order: from the cache, else from a child."""
        if remote_files.is_asked():
            yield from self._answers_from_elsewhere(asked, distinct)
            return
        known = [self._remembered(question, distinct) for question in asked]
        open_ones = [q for q, answer in zip(asked, known, strict=True) if answer is None]
        job: Job[_Question, Answer] = Job(
            lambda q: answerform.written(self._look_up(q, distinct)),
            answerform.read,
            lambda q: self.finder.stored_bytes(self.profile.modules[q.index]),
            **self.finder.rights(),
        )
        found = in_child(open_ones, job)
        for question, answer in zip(asked, known, strict=True):
            yield question, self._checked(question, distinct, answer or next(found))
        next(found, None)  # ends the child

    def _answers_from_elsewhere(
        self, asked: list[_Question], distinct: Distinct
    ) -> Iterator[tuple[_Question, Answer]]:
        """As `_answers`, for a process that opens no files."""
        modules = self.profile.modules
        found = remote_files.names(
            [
                remote_files.Asked(
                    self.finder.as_found(modules[q.index]),
                    distinct.address[q.which],
                    distinct.foreign_leaf[q.which],
                )
                for q in asked
            ],
            self.finder.debug_dirs,
        )
        for question, given in zip(asked, found, strict=True):
            yield question, self._checked(question, distinct, given)

    def _checked(self, question: _Question, distinct: Distinct, given: Answer | Crash) -> Answer:
        """Return an answer that has an entry for each address."""
        if isinstance(given, Crash):
            return self._crashed(question, distinct, given)
        if not len(given.virtual) == len(given.frames) == len(question.which):
            return self._crashed(
                question, distinct, Crash("made its reader answer for too few addresses")
            )
        return given

    @staticmethod
    def _fill(
        expansion: list[tuple[int, ...]], which: Ids, locations: list[tuple[int, ...]]
    ) -> None:
        for k, found in zip(which.tolist(), locations, strict=True):
            expansion[k] = found

    def _without_file(
        self, inside: list[tuple[int, ...]], addresses: Addresses
    ) -> list[tuple[int, ...]]:
        return [e or self._unknown("", a) for e, a in zip(inside, addresses.tolist(), strict=True)]

    def _remembered(self, question: _Question, distinct: Distinct) -> Answer | None:
        """Return the answer for one module from the cache alone; None if it lacks an address."""
        names = ModuleNames(self.profile.modules[question.index], self.finder, self.cache)
        which = question.which
        found = names.remembered(distinct.address[which], distinct.foreign_leaf[which])
        if found is None:
            return None
        return Answer(found[0].tolist(), found[1], names.problem, found[2].tolist())

    def _look_up(self, question: _Question, distinct: Distinct) -> Answer:
        """Read the files of one module; in a child process."""
        module = self.profile.modules[question.index]
        names = ModuleNames(module, self.finder, self.cache, self.read)
        which = question.which
        found = names.find(distinct.address[which], distinct.foreign_leaf[which])
        virtual, frames, starts = found
        return Answer(virtual.tolist(), frames, names.problem, starts.tolist())

    def _crashed(self, question: _Question, distinct: Distinct, crash: Crash) -> Answer:
        module = self.profile.modules[question.index]
        virtual = file_addresses(module, module.bias, distinct.address[question.which])
        text = f"{module.path} {crash.text}; it is shown without names"
        problem = SymbolProblem(module.path, text)
        return Answer(virtual.tolist(), [()] * len(virtual), problem, virtual.tolist())

    def _named(self, question: _Question, answer: Answer) -> list[tuple[int, ...]]:
        module = self.profile.modules[question.index]
        key, label = self.keys[question.index], self.labels[question.index]
        result = []
        nameless = 0
        columns = (answer.virtual, answer.starts, answer.frames, question.inside)
        for address, start, frames, embedded in zip(*columns, strict=True):
            if frames:
                result.append(self._given(frames, key))
            elif embedded:
                result.append(embedded)
            else:
                nameless += 1
                result.append(self._unknown(label, start, key, address - start))
        if nameless:
            self.nameless[key] = self.nameless.get(key, 0) + nameless
        if nameless or not any(question.inside):
            self._note(module, answer.problem)
        if any(answer.frames):
            self._note(module, changed_since(self.profile, module, self.finder.path_of(module)))
        return result

    def _note_unfit(self) -> None:
        """Record which build-id would have fitted, where a folder of debug files was given."""
        told = {problem.module for problem in self.problems}
        wanted = {
            key: module
            for module, key in reversed([*zip(self.profile.modules, self.keys, strict=True)])
            if key in self.nameless and module.build_id and module.path not in told
        }
        folders = [d for d in self.finder.debug_dirs if d not in DEFAULT_DEBUG_DIRS]
        if not folders or not wanted or remote_files.is_asked():
            return
        read = "" if all(map(is_read_whole, folders)) else " (of what was read there)"
        for path in stripped_own(list(wanted), self.cache):
            module = wanted[path]
            text = f"nothing in {', '.join(folders)}{read} fits {module.name}"
            text = f"{text} (build-id {module.build_id})"
            if module is self.finder.main:
                text += "; -p UNSTRIPPED names its own file"
            self._note(module, SymbolProblem(path, text))

    def _note(self, module: Module, problem: SymbolProblem | None) -> None:
        """Record why names are missing, except those of the sampler's own frames."""
        if problem is not None and problem not in self.problems and module.name != SAMPLER_NAME:
            self.problems.append(problem)

    def _embedded(self, index: int, addresses: Addresses) -> list[tuple[int, ...]]:
        """Return the profile's own locations for each address; empty where it has none."""
        names = self.profile.embedded
        if names is None:
            return [()] * len(addresses)
        path = self.keys[index] if index >= 0 else ""
        # Some runtimes make code in a mapping that looks like a file; the loader does not know it.
        made = index >= 0 and not self.profile.modules[index].build_id
        return [
            self._given(names.find(index, a) or (names.find(NO_MODULE, a) if made else ()), path)
            for a in addresses.tolist()
        ]

    def _given(self, frames: Sequence[EmbeddedFrame], path: str) -> tuple[int, ...]:
        last, builder = len(frames) - 1, self.builder
        return tuple(
            [
                builder.location_of(
                    builder.function(f.name, f.full_name, path, f.file),
                    f.file,
                    f.line,
                    inlined=k < last,
                )
                for k, f in enumerate(frames)
            ]
        )

    def _unknown(self, module: str, start: int, path: str = "", offset: int = 0) -> tuple[int, ...]:
        """Return the location ``offset`` bytes into the nameless function at ``start``."""
        name = printable(f"{module}+0x{start:x}" if module else f"0x{start:x}")
        return (self.builder.location(Function(name, name, path, known=False), offset=offset),)


@dataclass(slots=True)
class AddressNames:
    """The module (-1: none) and the locations of each distinct address, innermost first, at least
    one.
    """

    stacks: StackTable
    distinct: Distinct
    module_of: Ids
    expansion: list[tuple[int, ...]]
    builder: SymbolTableBuilder
    problems: list[SymbolProblem]
    nameless: dict[str, int]
    program: tuple[str, str] = ("", "")
    """As `Symbols.program`."""

    def spell(self) -> Symbols:
        """Replace the address of every frame by its locations."""
        offsets, spelled = self._expand()
        offsets, spelled = self._replace_lost(offsets, spelled)
        offsets, spelled = self._put_below_cut(offsets, spelled)
        return Symbols(
            self.builder.functions,
            self.builder.locations,
            offsets,
            spelled,
            self.problems,
            self.nameless,
            program=self.program,
        )

    def _expand(self) -> tuple[Ids, npt.NDArray[np.int32]]:
        """Return every stack's locations; some frames at a time, see `distinct_addresses`."""
        of_frame, bounds = self.distinct.of_frame, self.stacks.offsets
        lengths = np.array([len(e) for e in self.expansion], dtype=np.int64)
        flat = np.array([x for e in self.expansion for x in e], dtype=np.int32)
        if (lengths == 1).all():
            return bounds, flat[of_frame]
        starts = np.cumsum(lengths) - lengths
        total = int(np.bincount(of_frame, minlength=len(lengths)) @ lengths)
        spelled = np.empty(total, dtype=np.int32)
        offsets = np.full(len(bounds), total, dtype=np.int64)
        done = 0
        for low in range(0, len(of_frame), _FRAMES_AT_A_TIME):
            part = of_frame[low : low + _FRAMES_AT_A_TIME]
            count = lengths[part]
            behind = np.cumsum(count)
            within = np.arange(int(behind[-1])) - np.repeat(behind - count, count)
            spelled[done : done + len(within)] = flat[np.repeat(starts[part], count) + within]
            mine = slice(*np.searchsorted(bounds, (low, low + len(part))))
            offsets[mine] = done + (behind - count)[bounds[mine] - low]
            done += len(within)
        return offsets, spelled

    def _replace_lost(
        self, offsets: Ids, spelled: npt.NDArray[np.int32]
    ) -> tuple[Ids, npt.NDArray[np.int32]]:
        """Give lost or empty stacks the one location that says so."""
        special = lost_stacks(self.stacks)
        if not special.any():
            return offsets, spelled
        lengths = np.where(special, 1, np.diff(offsets))
        new_offsets = np.concatenate(([0], np.cumsum(lengths)))
        keep = np.repeat(~special, np.diff(offsets))
        result = np.zeros(int(new_offsets[-1]), dtype=np.int32)
        is_special = np.repeat(special, lengths)
        result[~is_special] = spelled[keep]
        result[is_special] = [self.lost_location(k) for k in np.flatnonzero(special).tolist()]
        return new_offsets, result

    def _put_below_cut(
        self, offsets: Ids, spelled: npt.NDArray[np.int32]
    ) -> tuple[Ids, npt.NDArray[np.int32]]:
        """Give stacks that were cut at the depth limit one outermost location, so that they do not
        seem to begin in the middle of the program.
        """
        cut = (self.stacks.flags & STACK_CUT != 0) & ~lost_stacks(self.stacks)
        if not cut.any():
            return offsets, spelled
        location = self.builder.location(_CUT)
        result = np.insert(spelled, offsets[1:][cut], location)
        return offsets + np.concatenate(([0], np.cumsum(cut))), result

    def lost_location(self, stack: int) -> int:
        """Return the location for ``stack``, which is lost or empty: see `lost_stacks`."""
        cause = int(self.stacks.flags[stack] >> STACK_LOST_SHIFT & 0xFF)
        empty = not cause and int(self.stacks.depths[stack]) == 0
        name = _NO_STACK if empty else _lost_name(cause)
        return self.builder.location(Function(name, name, "", known=False))


def lost_stacks(stacks: StackTable) -> npt.NDArray[np.bool_]:
    """Tell for each stack whether it was lost or is empty."""
    return np.asarray(dropped_stacks(stacks) | (stacks.depths == 0), dtype=np.bool_)


def dropped_stacks(stacks: StackTable) -> npt.NDArray[np.bool_]:
    """Tell for each stack whether it was lost with its sample: it stands for many others."""
    one_frame = stacks.depths == 1
    marker = np.zeros(len(stacks), dtype=np.bool_)
    marker[one_frame] = stacks.frames[stacks.offsets[:-1][one_frame]] == 1
    cause = stacks.flags >> STACK_LOST_SHIFT & 0xFF
    return np.asarray((cause > 0) | marker, dtype=np.bool_)


def _lost_name(cause: int) -> str:
    return f"[stack lost: {LOST_CAUSES.get(cause, f'cause {cause}')}]" if cause else "[stack lost]"


def assign_modules(modules: list[Module], distinct: Distinct) -> Ids:
    """Return for each distinct address the index of its module, -1 for none."""
    result = np.full(len(distinct.address), -1, dtype=np.int64)
    by_generation = tells_generations(modules)
    for generation in _sorted_distinct(distinct.generation).tolist():
        here = np.flatnonzero(distinct.generation == generation)
        ranges = [
            (r.start, r.end, k)
            for k, m in enumerate(modules)
            if m.first_generation <= generation or not by_generation
            if m.last_generation is None or generation <= m.last_generation
            for r in m.ranges
        ]
        if not ranges:
            continue
        # Of overlapping ranges the one with the last start wins; a later module wins over an
        # earlier one.
        table = sorted(ranges, key=lambda r: (r[0], r[2]))
        start = np.array([r[0] for r in table], dtype=np.uint64)
        last = np.array([r[1] - 1 for r in table], dtype=np.uint64)
        index = np.array([r[2] for r in table], dtype=np.int64)
        at = np.searchsorted(start, distinct.address[here], side="right") - 1
        inside = (at >= 0) & (distinct.address[here] <= last[at])
        result[here[inside]] = index[at[inside]]
    return result
