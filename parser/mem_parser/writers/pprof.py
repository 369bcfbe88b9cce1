"""Write pprof's `profile.proto`, gzipped, as google-pprof's successors and their backends read it.

Values are estimates ("measurements should be stored in unsampled form"); the label `bytes` of a
sample is the mean size of its blocks, which keeps size classes apart in merged files. The labels
`thread` and `task` are the names of the thread and the asyncio task that ran. Addresses are
look-up addresses, one byte before a return address. Every location has a mapping, because some
backends fail without one; the program's own comes first. The gzip header has no time, so that the
same profile gives the same bytes.
"""

from __future__ import annotations

import gzip
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.counts import PRESENCE
from mem_parser.escape import one_line
from mem_parser.estimate import least_in_class
from mem_parser.model import Count, IntArray, Profile, Unit
from mem_parser.names import FrameRule, is_allocator, shown_name
from mem_parser.profileproto import message_class
from mem_parser.symbols.symbolizer import AddressNames, lost_stacks

DROPPED = (
    "malloc|calloc|realloc|reallocarray|memalign|posix_memalign|aligned_alloc|valloc|pvalloc|"
    "operator new|operator new\\[\\]"
)
"""What viewers that look names up themselves are to hide, and all that it calls."""
_NO_FILE = "[unknown]"
_MOST = float(1 << 62)


@dataclass(frozen=True)
class Earlier:
    """An older snapshot of the same capture, and the new number of each of its stacks; -1: none."""

    profile: Profile
    stack_now: IntArray


def write_pprof(
    profile: Profile,
    names: AddressNames,
    *,
    labels: bool = False,
    default: Count | None = None,
    earlier: Earlier | None = None,
    scraped: bool = False,
) -> bytes:
    """Return the file, without counts that the profile does not have.

    ``labels``: threads and tasks are also the outermost frames of stacks. ``default`` is what
    viewers show first (None: as reports do). With ``earlier`` the values are what changed since, in
    one sample for each stack and domain; they may be negative. ``scraped``: for tools that take a
    profile again and again as they take Go's: its four values and no peak, a label `bytes` that
    does not change from one to the next, and mappings that say they have names, or Go's pprof asks
    for the rest at `/symbol`, without the token.
    """
    writer = _Writer(profile, names, labels, default, earlier, scraped=scraped)
    return gzip.compress(writer.build(), compresslevel=6, mtime=0)


class _Writer:
    """Fills one message."""

    def __init__(
        self,
        profile: Profile,
        names: AddressNames,
        labels: bool,
        default: Count | None = None,
        earlier: Earlier | None = None,
        *,
        scraped: bool = False,
    ) -> None:
        self.profile = profile
        self.scraped = scraped
        self.default = default or profile.default_count
        self.earlier = earlier
        self.labels_are_frames = labels
        self.names = names
        self.message: Any = message_class("Profile")()
        self.strings: dict[str, int] = {"": 0}
        self.mapping_of_range: dict[tuple[int, int], int] = {}
        self.mappings: list[Any] = []

    def text(self, value: str) -> int:
        """Return the index of ``value`` in the string table."""
        return self.strings.setdefault(value, len(self.strings))

    def build(self) -> bytes:
        """Fill the message and return it as bytes."""
        counts = [Count.ALLOC] if self.profile.has_alloc else []
        counts.append(Count.INUSE)
        if not self.scraped:
            more = (Count.PEAK, *PRESENCE)
            counts += [count for count in more if self.profile.has(count)]
        for count in counts:
            self._sample_type(f"{count}_objects", "count")
            self._sample_type(f"{count}_space", "bytes")
        self._mappings()
        self._functions()
        self._locations()
        self._samples(counts)
        self._facts()
        self.message.string_table.extend(map(one_line, self.strings))
        return bytes(self.message.SerializeToString())

    def _sample_type(self, kind: str, unit: str) -> None:
        self.message.sample_type.add(type=self.text(kind), unit=self.text(unit))

    def _facts(self) -> None:
        message, capture = self.message, self.profile.capture
        message.period_type.type = self.text("space")
        message.period_type.unit = self.text("bytes")
        # Estimates of a rate that nobody knows must not read as every block.
        known = self.profile.errors_known or self.profile.rate_bytes > 1
        message.period = max(round(self.profile.rate_bytes), 1) if known else 0
        message.default_sample_type = self.text(f"{self.default}_space")
        message.drop_frames = self.text(self._dropped())
        before_s = 0.0 if self.earlier is None else self.earlier.profile.capture.duration_s or 0.0
        message.time_nanos = _nanos((capture.started or 0.0) + before_s)
        message.duration_nanos = _nanos((capture.duration_s or 0.0) - before_s)
        message.comment.extend(
            self.text(note) for note in (capture.command, *capture.notes) if note
        )

    def _dropped(self) -> str:
        functions = self.names.builder.functions
        own = {shown_name(f) for f in functions if is_allocator(f, FrameRule.OWN)}
        return "|".join([DROPPED, *sorted(re.escape(name) for name in own)])

    # Tables.

    def _mappings(self) -> None:
        order = _main_first(self.profile)
        for index in order:
            module = self.profile.modules[index]
            for k, r in enumerate(module.ranges):
                self._mapping(module.path, r.start, r.end, r.file_offset, module.build_id)
                self.mapping_of_range[index, k] = len(self.mappings)
        known = {m for m in self.names.module_of.tolist() if m >= 0}
        for (index, _), number in self.mapping_of_range.items():
            mapping = self.mappings[number - 1]
            mapping.has_functions = self.scraped or (index in known and self._all_named(index))
        self.no_mapping = self._mapping(_NO_FILE, 0, 0, 0, "")

    def _mapping(self, path: str, start: int, end: int, offset: int, build_id: str) -> int:
        mapping = self.message.mapping.add(
            id=len(self.mappings) + 1,
            memory_start=start,
            memory_limit=min(end, (1 << 64) - 1),
            file_offset=offset,
            filename=self.text(path),
            build_id=self.text(build_id),
        )
        self.mappings.append(mapping)
        return len(self.mappings)

    def _all_named(self, index: int) -> bool:
        """Tell whether all addresses of the module have names; pprof then looks up none."""
        builder = self.names.builder
        own = np.flatnonzero(self.names.module_of == index).tolist()
        locations = (builder.locations[k] for d in own for k in self.names.expansion[d])
        return all(builder.functions[x.function].known for x in locations)

    def _functions(self) -> None:
        for k, f in enumerate(self.names.builder.functions):
            if name := shown_name(f):
                self._function(k + 1, name, f.full_name if f.known else name, f.file)

    def _function(self, number: int, name: str, full_name: str, file: str) -> None:
        self.message.function.add(
            id=number,
            name=self.text(name),
            system_name=self.text(full_name),
            filename=self.text(file),
        )

    def _locations(self) -> None:
        names, builder = self.names, self.names.builder
        columns = (names.distinct.address.tolist(), names.module_of.tolist(), names.expansion)
        for k, (address, module, frames) in enumerate(zip(*columns, strict=True)):
            location = self.message.location.add(
                id=k + 1, address=address, mapping_id=self._mapping_at(module, address)
            )
            for index in frames:
                found = builder.locations[index]
                if shown_name(builder.functions[found.function]):
                    location.line.add(function_id=found.function + 1, line=found.line)

    def _mapping_at(self, module: int, address: int) -> int:
        if module < 0:
            return self.no_mapping
        ranges = self.profile.modules[module].ranges
        at = next((k for k, r in enumerate(ranges) if r.start <= address < r.end), 0)
        return self.mapping_of_range[module, at]

    def _said_location(self, name: str) -> int:
        """Return a location without address whose name is the reason for a missing stack."""
        number = len(self.message.location) + 1
        function = max((f.id for f in self.message.function), default=0) + 1
        self._function(function, name, name, "")
        location = self.message.location.add(id=number, mapping_id=self.no_mapping)
        location.line.add(function_id=function)
        return number

    # Samples.

    def _stacks(self) -> list[list[int]]:
        """Return the location ids of every stack, innermost first."""
        stacks = self.profile.stacks
        ids = (self.names.distinct.of_frame + 1).tolist()
        bounds = stacks.offsets.tolist()
        result = [ids[a:b] for a, b in itertools.pairwise(bounds)]
        lost: dict[str, int] = {}
        for k in np.flatnonzero(lost_stacks(stacks)).tolist():
            location = self.names.builder.locations[self.names.lost_location(k)]
            name = self.names.builder.functions[location.function].name
            if name not in lost:
                lost[name] = self._said_location(name)
            result[k] = [lost[name]]
        if self.labels_are_frames:
            self._put_labels(result)
        return result

    def _put_labels(self, stacks: list[list[int]]) -> None:
        """Make the labels of stacks their outermost frames."""
        said: dict[str, int] = {}
        for k, found in enumerate(self._labels()):
            for _, _, text in found:
                if text not in said:
                    said[text] = self._said_location(text)
                stacks[k] = [*stacks[k], said[text]]

    def _labels(self) -> list[list[tuple[str, str, str]]]:
        """Return kind, name and text of the labels of each stack, innermost first."""
        labels, numbers = self.profile.labels, self.profile.stacks.label_numbers.tolist()
        if labels is None:
            return [[]] * len(numbers)
        return [
            [(*labels.named(index), labels.spelled(index)) for index in labels.outwards(number)]
            for number in numbers
        ]

    def _samples(self, counts: list[Count]) -> None:
        values = _values(self.profile, counts)
        stack, domain = self.profile.sites.stack, self.profile.sites.domain
        sizes: Sequence[int] | None = list(self._sizes())
        if self.earlier is not None:
            values, stack, domain = self._change(values, counts)
            sizes = None
        stacks = self._stacks()
        key, unit_text = self.text("bytes"), self.text("bytes")
        domain_key = self.text("domain") if len(self.profile.domains) > 1 else 0
        domains = [self.text(d) for d in self.profile.domains] if domain_key else []
        labels = [
            [(self.text(kind), self.text(name)) for kind, name, _ in found]
            for found in self._labels()
        ]
        rows = zip(values.tolist(), stack.tolist(), domain.tolist(), strict=True)
        for k, (value, number, where) in enumerate(rows):
            if not any(value):
                continue
            sample = self.message.sample.add(location_id=stacks[number], value=value)
            if sizes is not None:
                sample.label.add(key=key, num=sizes[k], num_unit=unit_text)
            if domain_key:
                sample.label.add(key=domain_key, str=domains[where])
            for label_key, name in labels[number]:
                sample.label.add(key=label_key, str=name)

    def _change(
        self, values: IntArray, counts: list[Count]
    ) -> tuple[IntArray, IntArray, npt.NDArray[np.int32]]:
        """Return what changed since the earlier profile: a row for each stack and domain."""
        assert self.earlier is not None
        old, sites = self.earlier.profile, self.profile.sites
        of_name = {name: k for k, name in enumerate(self.profile.domains)}
        domain_now = np.array([of_name.get(name, -1) for name in old.domains], dtype=np.int64)
        stack, domain = self.earlier.stack_now[old.sites.stack], domain_now[old.sites.domain]
        known = (stack >= 0) & (domain >= 0)
        width = max(len(self.profile.domains), 1)
        place = np.concatenate(
            (sites.stack * width + sites.domain, (stack * width + domain)[known])
        )
        rows, row = np.unique(place, return_inverse=True)
        every = np.concatenate((values, -_values(old, counts)[known]))
        change = np.zeros((len(rows), len(counts) * 2), dtype=np.int64)
        np.add.at(change, np.asarray(row).reshape(-1), every)
        return change, rows // width, (rows % width).astype(np.int32)

    def _sizes(self) -> Iterator[int]:
        """Yield the mean size of each site's blocks, rounded; for scrapers the smallest size of
        their size class, in which the mean moves.
        """
        sites = self.profile.sites
        use_alloc = (sites.alloc_blocks > 0) & self.profile.has_alloc
        blocks = np.where(use_alloc, sites.alloc_blocks, sites.inuse_blocks)
        size = np.where(use_alloc, sites.alloc_bytes, sites.inuse_bytes)
        mean = np.divide(size, blocks, out=np.zeros(len(size)), where=blocks > 0)
        whole = np.rint(mean).astype(np.int64)
        yield from (least_in_class(whole) if self.scraped else whole).tolist()


def _values(profile: Profile, counts: list[Count]) -> IntArray:
    """Return the estimates of each site: objects and bytes of each count."""
    columns = []
    for count in counts:
        for unit in (Unit.OBJECTS, Unit.SPACE):
            value, _, _ = profile.weigh(count, unit)
            columns.append(np.rint(np.minimum(value, _MOST)).astype(np.int64))
    return np.stack(columns, axis=1)


def _main_first(profile: Profile) -> list[int]:
    """Return the modules' indices, the program's own at the front."""
    modules = profile.modules
    exe = profile.capture.exe.removesuffix(" (deleted)")
    main = next((k for k, m in enumerate(modules) if exe and m.path == exe), None)
    if main is None:
        programs = (k for k, m in enumerate(modules) if m.path[:1] == "/" and ".so" not in m.name)
        main = next(programs, 0)
    rest = [k for k in range(len(modules)) if k != main]
    return [main, *rest] if modules else []


def _nanos(seconds: float | None) -> int:
    nanos = (seconds or 0.0) * 1e9
    return int(nanos) if abs(nanos) < 1 << 62 else 0
