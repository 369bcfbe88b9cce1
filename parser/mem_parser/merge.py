"""Add up profiles of many processes and hosts, one file at a time.

The identity of a frame is its module's build-id (its path where there is none) and its offset in
that file, so equal stacks of different hosts or load addresses merge. Every module gets its own
range in a new address space of the result; programs linked to fixed addresses keep theirs. Frames
in no module keep their address, or have the names that the file gives them.

Sampled counts add up per (stack, size class, rate): each record later gets the weight of its own
rate, so estimates and variances of the result are the sums of those of the files. The number of
distinct records bounds memory, not the number of files. Threads, ages, peaks and time series belong
to one process, so the result has them only if there is only one file.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mem_parser.errors import UsageProblem
from mem_parser.mergedmodules import MergedModules
from mem_parser.model import Capture, Profile, SiteTable, StackTable
from mem_parser.symbols.embedded import FIRST_INVENTED, NO_MODULE, EmbeddedNames, Frames
from mem_parser.symbols.modulelabels import module_keys
from mem_parser.symbols.symbolizer import assign_modules, distinct_addresses

Counts = npt.NDArray[np.int64]
_COLUMNS = ("inuse_blocks", "inuse_bytes", "alloc_blocks", "alloc_bytes")
_DEVICE_COLUMNS = ("inuse_taken_bytes", "alloc_taken_bytes", "failed_blocks", "failed_bytes")
_LOST_MARKER = 1
_COUNT_LIMIT = 1 << 62
_NOTED_HOSTS = 20
_NOTED_SAMPLINGS = 3


@dataclass(slots=True)
class _Known:
    """The common facts of the files so far."""

    files: int = 0
    exact_samples: bool = True
    samplings: dict[str, None] = field(default_factory=dict)
    leaf_exact: bool = True
    has_alloc: bool = True
    since_start: bool = True
    domain: str | None = None
    device: bool = False
    incomplete: str | None = None
    hosts: dict[str, None] = field(default_factory=dict)
    warnings: dict[str, None] = field(default_factory=dict)
    capture: Capture = field(default_factory=Capture)


class Merger:
    """`add` every profile, then take the `result`."""

    def __init__(self) -> None:
        self._known = _Known()
        self._first: tuple[Profile, str] | None = None
        self._modules = MergedModules()
        self._frame_index: dict[tuple[int, int, Frames], int] = {}
        self._stack_index: dict[tuple[bytes, int], int] = {}
        self._site_index: dict[tuple[int, int, int, float], int] = {}
        self._site_stack: list[int] = []
        self._site_rate: list[float] = []
        self._sums: list[list[int]] = []

    def add(self, profile: Profile, name: str) -> None:
        """Add one profile; ``name`` is its name in the result's notes. Raises `UsageProblem`."""
        if self._known.files == 0 and self._first is None:
            self._first = profile, name
            return
        if self._first is not None:
            first, self._first = self._first, None
            self._fold(*first)
        self._fold(profile, name)

    def _fold(self, profile: Profile, name: str) -> None:
        self._join_facts(profile, name)
        frames = self._intern_frames(profile)
        stacks = self._intern_stacks(profile, frames)
        rates = np.broadcast_to(np.asarray(profile.rates, dtype=np.float64), len(profile.sites))
        s = profile.sites
        classes = (_size_class(s.inuse_blocks, s.inuse_bytes),
                   _size_class(s.alloc_blocks, s.alloc_bytes))  # fmt: skip
        nothing = np.zeros(len(s), dtype=np.int64)
        found = [getattr(s, c) for c in (*_COLUMNS, *_DEVICE_COLUMNS)]
        columns = [np.maximum(nothing if c is None else c, 0).tolist() for c in found]
        keys = zip(
            stacks[s.stack].tolist(),
            *(c.tolist() for c in classes),
            np.maximum(rates, 1.0).tolist(),
            strict=True,
        )
        for key, *counts in zip(keys, *columns, strict=True):
            index = self._site_index.get(key)
            if index is None:
                self._site_index[key] = len(self._sums)
                self._site_stack.append(key[0])
                self._site_rate.append(key[3])
                self._sums.append(counts)
                continue
            sums = self._sums[index]
            for k, count in enumerate(counts):
                sums[k] += count

    def _join_facts(self, profile: Profile, name: str) -> None:
        known, new = self._known, profile.capture
        domain = profile.domains[0] if profile.domains else "host"
        if known.domain not in (None, domain) or len(profile.domains) > 1:
            raise UsageProblem(f"{name}: blocks of another kind ({domain}) than in the first file")
        known.domain = domain
        known.device |= profile.sites.failed_blocks is not None
        known.exact_samples &= profile.errors_known
        known.samplings[profile.sampling] = None
        known.leaf_exact &= profile.stacks.leaf_exact
        known.has_alloc &= profile.has_alloc
        known.since_start &= profile.since_start
        if profile.incomplete is not None and known.incomplete is None:
            known.incomplete = f"{name}: {profile.incomplete}"
        known.warnings |= dict.fromkeys(profile.warnings[:10])
        if new.host and len(known.hosts) < _NOTED_HOSTS:
            known.hosts[new.host] = None
        if known.files == 0:
            known.capture = _shared_facts(new)
        else:
            _add_facts(known.capture, new)
        known.files += 1

    def _intern_frames(self, profile: Profile) -> Counts:
        """Return for every frame of ``profile`` its index among all distinct ones."""
        distinct = distinct_addresses(profile)
        module_of = assign_modules(profile.modules, distinct)
        place = np.full(len(distinct.address), NO_MODULE, dtype=np.int64)
        offset = distinct.address.copy()
        keys = module_keys(profile.modules)
        for k in np.unique(module_of[module_of >= 0]).tolist():
            here = np.flatnonzero(module_of == k)
            # A module without a name is none of another file's.
            key = keys[k] if profile.modules[k].path else f"{self._known.files}:{keys[k]}"
            found = self._modules.place(profile.modules[k], distinct.address[here], key)
            if found is not None:
                place[here], offset[here] = found
        embedded = profile.embedded
        ids = np.empty(len(distinct.address), dtype=np.int64)
        rows = (place.tolist(), offset.tolist(), module_of.tolist(), distinct.address.tolist())
        for k, (where, at, module, address) in enumerate(zip(*rows, strict=True)):
            names: Frames = tuple(embedded.find(module, address)) if embedded is not None else ()
            # A made-up address means nothing in another file: its names alone are the key.
            key = (where, 0 if where == NO_MODULE and names else at, names)
            ids[k] = self._frame_index.setdefault(key, len(self._frame_index))
        return ids[distinct.of_frame]

    def _intern_stacks(self, profile: Profile, frames: Counts) -> Counts:
        """Return for every stack of ``profile`` its index among all distinct ones."""
        stacks = profile.stacks
        bounds, flags = stacks.offsets.tolist(), stacks.flags.tolist()
        result = np.empty(len(stacks), dtype=np.int64)
        for k, flag in enumerate(flags):
            key = (frames[bounds[k] : bounds[k + 1]].tobytes(), flag)
            result[k] = self._stack_index.setdefault(key, len(self._stack_index))
        return result

    def result(self) -> Profile:
        """Return the sum of all added profiles; a single one unchanged."""
        if self._first is not None:
            return self._first[0]
        known = self._known
        rates = np.array(self._site_rate, dtype=np.float64)
        mixed = len(rates) > 0 and bool((rates != rates[0]).any())
        modules = self._modules.finish()
        hosts = ", ".join(known.hosts)
        known.capture.notes = [
            f"merged from {known.files} files" + (f" of {hosts}" if hosts else "")
        ]
        if mixed:
            span = f"{rates.min():.0f} to {rates.max():.0f} B"
            known.capture.notes.append(f"sampled at {span}; each record weighs by its own rate")
        lookup, names = self._addresses()
        return Profile(
            format="mem_profiler",
            rate_bytes=float(rates.max()) if len(rates) else 1.0,
            stacks=self._stacks(lookup),
            sites=self._sites(rates if mixed else None),
            domains=[known.domain or "host"],
            modules=modules,
            capture=known.capture,
            since_start=known.since_start,
            has_alloc=known.has_alloc,
            exact_samples=known.exact_samples,
            sampling=_sampling(list(known.samplings)),
            incomplete=known.incomplete,
            warnings=list(known.warnings),
            embedded=names,
        )

    def _addresses(self) -> tuple[npt.NDArray[np.uint64], EmbeddedNames | None]:
        """Return the look-up address of every frame, and the names in the files."""
        lookup = np.zeros(len(self._frame_index), dtype=np.uint64)
        names = EmbeddedNames()
        for k, (place, offset, frames) in enumerate(self._frame_index):
            if place != NO_MODULE:
                address = self._modules.base(place) + offset
            else:
                address = FIRST_INVENTED + 2 * k if frames else offset
            lookup[k] = address
            if frames:
                names.frames[place, address] = frames
        return lookup, names if names.frames else None

    def _stacks(self, lookup: npt.NDArray[np.uint64]) -> StackTable:
        keys = list(self._stack_index)
        ids = np.frombuffer(b"".join(k for k, _ in keys), dtype=np.int64)
        depths = np.array([len(k) // 8 for k, _ in keys], dtype=np.int64)
        offsets = np.concatenate(([0], np.cumsum(depths))).astype(np.int64)
        flags = np.array([f for _, f in keys], dtype=np.uint32)
        generation = np.zeros(len(keys), dtype=np.uint32)
        frames = lookup[ids]
        table = StackTable(offsets, frames, flags, generation, self._known.leaf_exact)
        exact = table.is_leaf if table.leaf_exact else np.zeros(len(frames), dtype=np.bool_)
        moved = frames + np.where(exact, 0, 1).astype(np.uint64)
        table.frames = np.where(frames <= _LOST_MARKER, np.uint64(_LOST_MARKER), moved)
        return table

    def _sites(self, rates: npt.NDArray[np.float64] | None) -> SiteTable:
        clipped = [[min(v, _COUNT_LIMIT) for v in row] for row in self._sums]
        sums = np.array(clipped, dtype=np.int64).reshape(-1, len(_COLUMNS) + len(_DEVICE_COLUMNS))
        table = SiteTable(
            stack=np.array(self._site_stack, dtype=np.int64),
            domain=np.zeros(len(sums), dtype=np.int32),
            inuse_blocks=sums[:, 0].copy(),
            inuse_bytes=sums[:, 1].copy(),
            alloc_blocks=sums[:, 2].copy(),
            alloc_bytes=sums[:, 3].copy(),
            rate_bytes=rates,
        )
        if self._known.device:
            for k, name in enumerate(_DEVICE_COLUMNS, start=len(_COLUMNS)):
                setattr(table, name, sums[:, k].copy())
        return table


def _sampling(found: list[str]) -> str:
    """Return the sampling of a sum of profiles that have these."""
    if len(found) == 1:
        return found[0]
    return "; ".join(text or "sampled" for text in found[:_NOTED_SAMPLINGS])


def _size_class(blocks: Counts, size: Counts) -> Counts:
    """Return a number for each record's mean size: equal numbers mean sizes within 1/64."""
    mean = np.divide(size, blocks, out=np.zeros(len(size)), where=blocks > 0)
    small = np.rint(mean)
    large = 64 + np.floor(64 * np.log2(np.maximum(mean, 64) / 64))
    classes = np.where(mean < 64, small, large).astype(np.int64)
    return np.where(blocks > 0, classes, -1)


def _shared_facts(first: Capture) -> Capture:
    return Capture(
        host=first.host,
        arch=first.arch,
        comm=first.comm,
        exe=first.exe,
        command=first.command,
        started=first.started,
        duration_s=first.duration_s,
        kind="merged",
        depth_limit=first.depth_limit,
        samples=first.samples,
        lost=dict(first.lost),
    )


def _add_facts(known: Capture, new: Capture) -> None:
    """Keep facts that are the same in all files; add, widen or drop the others."""
    for name in ("host", "arch", "comm", "exe", "command"):
        if getattr(known, name) != getattr(new, name):
            setattr(known, name, "")
    times = (known.started, new.started)
    known.started = min((t for t in times if t is not None), default=None)
    spans = (known.duration_s, new.duration_s)
    known.duration_s = max((t for t in spans if t is not None), default=None)
    if known.samples is not None and new.samples is not None:
        known.samples += new.samples
    else:
        known.samples = None
    for cause, count in new.lost.items():
        known.lost[cause] = known.lost.get(cause, 0) + count
