"""Write pprof's `profile.proto`, gzipped, as google-pprof's successors and their backends read it.

Values are estimates ("measurements should be stored in unsampled form"); the label `bytes` of a
sample is the mean size of its blocks, which keeps size classes apart in merged files. Addresses are
look-up addresses, one byte before a return address. Every location has a mapping, because some
backends fail without one; the program's own comes first. The gzip header has no time, so that the
same profile gives the same bytes.
"""

from __future__ import annotations

import gzip
import itertools
import re
from collections.abc import Iterator
from typing import Any

import numpy as np

from mem_parser.escape import one_line
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule, is_allocator
from mem_parser.profileproto import message_class
from mem_parser.symbols.symbolizer import AddressNames, lost_stacks

DROPPED = (
    "malloc|calloc|realloc|reallocarray|memalign|posix_memalign|aligned_alloc|valloc|pvalloc|"
    "operator new|operator new\\[\\]"
)
"""What viewers that look names up themselves are to hide, and all that it calls."""
_NO_FILE = "[unknown]"
_MOST = float(1 << 62)


def write_pprof(profile: Profile, names: AddressNames) -> bytes:
    """Return the file, without counts that the profile does not have."""
    return gzip.compress(_Writer(profile, names).build(), compresslevel=6, mtime=0)


class _Writer:
    """Fills one message."""

    def __init__(self, profile: Profile, names: AddressNames) -> None:
        self.profile = profile
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
        if self.profile.has(Count.PEAK):
            counts.append(Count.PEAK)
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
        message.default_sample_type = self.text(f"{self.profile.default_count}_space")
        message.drop_frames = self.text(self._dropped())
        message.time_nanos = _nanos(capture.started)
        message.duration_nanos = _nanos(capture.duration_s)
        message.comment.extend(
            self.text(note) for note in (capture.command, *capture.notes) if note
        )

    def _dropped(self) -> str:
        functions = self.names.builder.functions
        own = {f.name for f in functions if f.known and is_allocator(f, FrameRule.OWN)}
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
            mapping.has_functions = index in known and self._all_named(index)
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
            if f.known:
                self._function(k + 1, f.name, f.full_name, f.file)

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
                if builder.functions[found.function].known:
                    location.line.add(function_id=found.function + 1, line=found.line)

    def _mapping_at(self, module: int, address: int) -> int:
        if module < 0:
            return self.no_mapping
        ranges = self.profile.modules[module].ranges
        at = next((k for k, r in enumerate(ranges) if r.start <= address < r.end), 0)
        return self.mapping_of_range[module, at]

    def _lost_location(self, name: str) -> int:
        """Return a location without address that says why there is no stack."""
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
                lost[name] = self._lost_location(name)
            result[k] = [lost[name]]
        return result

    def _samples(self, counts: list[Count]) -> None:
        columns = []
        for count in counts:
            for unit in (Unit.OBJECTS, Unit.SPACE):
                value, _, _ = self.profile.weigh(count, unit)
                columns.append(np.rint(np.minimum(value, _MOST)).astype(np.int64))
        values = np.stack(columns, axis=1)
        stacks = self._stacks()
        key, unit_text = self.text("bytes"), self.text("bytes")
        domain_key = self.text("domain") if len(self.profile.domains) > 1 else 0
        domain = [self.text(d) for d in self.profile.domains] if domain_key else []
        rows = zip(values.tolist(), self.profile.sites.stack.tolist(), self._sizes(), strict=True)
        for k, (value, stack, size) in enumerate(rows):
            if not any(value):
                continue
            sample = self.message.sample.add(location_id=stacks[stack], value=value)
            sample.label.add(key=key, num=size, num_unit=unit_text)
            if domain_key:
                sample.label.add(key=domain_key, str=domain[int(self.profile.sites.domain[k])])

    def _sizes(self) -> Iterator[int]:
        """Yield the mean size of each site's blocks, rounded."""
        sites = self.profile.sites
        use_alloc = (sites.alloc_blocks > 0) & self.profile.has_alloc
        blocks = np.where(use_alloc, sites.alloc_blocks, sites.inuse_blocks)
        size = np.where(use_alloc, sites.alloc_bytes, sites.inuse_bytes)
        mean = np.divide(size, blocks, out=np.zeros(len(size)), where=blocks > 0)
        yield from np.rint(mean).astype(np.int64).tolist()


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
