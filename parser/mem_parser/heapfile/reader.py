"""Our own files: the section after the part that every tool reads (`docs/heap-format.md`, 2).

Counts and stacks come from the columns, which numpy decodes whole; the reader uses the text records
of part 1 only if the section was cut. The file is untrusted: the reader checks every length against
the bytes in the file before it allocates memory for it, and skips unknown keys, columns and marks.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError, UnsupportedVersion
from mem_parser.heapfile.columns import DTYPES, OPTIONAL_COLUMNS, Columns, PackedColumn
from mem_parser.heapfile.devicecolumns import MARK_COLUMNS, read_device, read_marks
from mem_parser.heapfile.fields import Fields
from mem_parser.heapfile.namecolumns import (
    LABEL_COLUMNS,
    PYTHON_COLUMNS,
    SYMBOL_COLUMNS,
    read_labels,
    read_python,
    read_symbols,
)
from mem_parser.heapfile.readings import read_reading
from mem_parser.maps import parse_maps, undeleted
from mem_parser.model import (
    Capture,
    ExecRange,
    Module,
    PeakSource,
    Profile,
    Reading,
    SiteTable,
    StackTable,
    Thread,
    ThreadBlocks,
)
from mem_parser.processfacts import AttachStops, ControllerUse, Grown, Memory
from mem_parser.tracked import read_tracked

SUPPORTED_VERSIONS = (1, 2)
"""The first had no `stack_interpreter`."""
SECTION_MARK = b"\n%mem_profiler "
MAPS_MARK = b"\nMAPPED_LIBRARIES:"
_COUNT_LIMIT = 1 << 62
_MAX_JSON = 1 << 22
_LONGEST_SAMPLING = 200
_JSON_TIMES = 48
"""What Python's objects take at most for each byte of JSON."""
_KEPT_BYTES = {
    b"%header": (0, 24),
    b"%module": (512, 24),
    b"%thread": (320, 4),
    b"%sample": (640, 0),
}
"""What is kept of an object: so much, and so much for each byte of its line."""
_TABLE_COLUMNS = {
    "stack_depth", "stack_flags", "stack_generation", "stack_interpreter", "stack_frames",
    "stack", "alloc_blocks", "alloc_bytes", "freed_blocks", "freed_bytes", "alloc_taken_bytes",
    "freed_taken_bytes", "thread_record", "thread_row", "thread_blocks", "thread_bytes",
}  # fmt: skip
KNOWN_COLUMNS = (
    _TABLE_COLUMNS | OPTIONAL_COLUMNS.keys() | SYMBOL_COLUMNS | MARK_COLUMNS | PYTHON_COLUMNS
    | LABEL_COLUMNS
)  # fmt: skip
_BUCKETS = 8


class _CutError(Exception):
    """The section ends too early; the text says where."""


def find_section(data: bytes) -> int | None:
    """Return the offset of our section in ``data``; None without one."""
    at = data.rfind(SECTION_MARK)
    return at + 1 if at >= 0 else None


FirstPart = Callable[[], Profile]
"""Reads the part that every tool reads."""


def read_native(
    data: bytes, section: int, path: str, allowance: MemoryAllowance, first_part: FirstPart
) -> Profile:
    """Read the profile whose own section begins at byte ``section``; ``data`` may lack the records
    before it.

    A cut section costs its columns: counts then come from ``first_part`` and `Profile.incomplete`
    is set.
    """
    reader = _SectionReader(data, section, path, allowance)
    map_start = data.rfind(MAPS_MARK, 0, section)
    maps = _read_maps(data, map_start + 1, section, allowance) if map_start >= 0 else []
    try:
        reader.read()
        profile = reader.profile()
    except _CutError as cut:
        profile = first_part()
        profile.incomplete = str(cut)
    profile.capture = reader.capture()
    if profile.capture.lost or reader.header:
        reader.apply_traits(profile)
    profile.modules = _join_modules(reader.modules, maps)
    profile.series = reader.series
    profile.threads = reader.threads
    return profile


def _lines(data: bytes, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        stop = data.find(b"\n", start, end)
        stop = end if stop < 0 else stop + 1
        yield data[start:stop]
        start = stop


def _read_maps(data: bytes, start: int, end: int, allowance: MemoryAllowance) -> list[Module]:
    lines = (line.decode("utf-8", "surrogateescape") for line in _lines(data, start, end))
    next(lines, None)  # the mark
    return parse_maps(lines, allowance)


def _join_modules(own: list[Module], mapped: list[Module]) -> list[Module]:
    """Return the recorded modules, and those of mappings outside them."""
    if not own:
        return mapped
    ranges = sorted((r.start, r.end) for m in own for r in m.ranges)
    starts = [start for start, _ in ranges]
    # The highest end of all ranges that begin no later, to detect overlaps.
    reach = list(itertools.accumulate((end for _, end in ranges), max))
    extra = []
    for module in mapped:
        first, last = module.ranges[0].start, module.ranges[0].end
        before = bisect.bisect_left(starts, last) - 1  # the last range that begins before its end
        if before < 0 or reach[before] <= first:
            extra.append(module)
    return own + extra


def _fail(path: str, what: str) -> NoReturn:
    raise InputFileError(f"{path}: {what}")


class _SectionReader:
    """One pass over the lines of the section, then the columns as tables."""

    def __init__(self, data: bytes, section: int, path: str, allowance: MemoryAllowance) -> None:
        self.data = data
        self.path = path
        self.at = section
        self.allowance = allowance
        # Not a method, to avoid a reference cycle that would keep the whole file in memory until
        # the next garbage collection.
        self.fail: Callable[[str], NoReturn] = partial(_fail, path)
        self.header: dict[str, Any] = {}
        self.modules: list[Module] = []
        self.threads: list[Thread] = []
        self.series: list[Reading] = []
        self.columns = Columns(data, allowance, self.fail)
        self.records: int | None = None

    def read(self) -> None:
        self._check_version(self._line())
        mark, body, size = b"", [b""], 0
        while self.records is None:
            line = self._line()
            if line.startswith(b"%+ "):
                body.append(line[3:])
                size += len(line)
                if size > _MAX_JSON:
                    self.fail("a line of its section is too long")
                continue
            self._take_object(mark, b"".join(body))
            mark, _, rest = line.partition(b" ")
            body, size = [rest], len(rest)
            if mark == b"%column":
                self._take_column(rest)
            elif mark == b"%end":
                self.records = self._number(rest)

    def _line(self) -> bytes:
        end = self.data.find(b"\n", self.at)
        if end < 0:
            raise _CutError("it ends within its second part")
        line = self.data[self.at : end]
        self.at = end + 1
        return line

    def _number(self, text: bytes) -> int:
        if not text.isdigit() or len(text) > 18:
            self.fail("a number of its section cannot be read")
        return int(text)

    def _check_version(self, line: bytes) -> None:
        version = self._number(line.partition(b" ")[2].strip())
        if version not in SUPPORTED_VERSIONS:
            newest = SUPPORTED_VERSIONS[-1]
            raise UnsupportedVersion(
                f"{self.path}: unknown format version {version} (at most {newest} here)",
                hint="a newer mem_parser reads it",
            )

    def _take_object(self, mark: bytes, body: bytes) -> None:
        if mark not in _KEPT_BYTES:
            return
        if len(body) > _MAX_JSON:
            self.fail("a line of its section is too long")
        try:
            with self.allowance.lent():
                self.allowance.take(len(body) * _JSON_TIMES)
                value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise InputFileError(f"{self.path}: a {mark.decode()} line is not JSON") from error
        fixed, times = _KEPT_BYTES[mark]
        self.allowance.take(fixed + times * len(body))
        if not isinstance(value, dict):
            self.fail(f"a {mark.decode()} line is not a JSON object")
        fields = Fields(value)
        if mark == b"%header":
            self.header = value
        elif mark == b"%module":
            self.modules.append(_module(fields))
        elif mark == b"%thread":
            self.threads.append(
                Thread(fields.integer("row"), fields.integer("tid"), fields.text("name"))
            )
        else:
            self.series.append(read_reading(fields))

    def _take_column(self, body: bytes) -> None:
        words = body.split()
        if len(words) < 4:
            self.fail("a %column line cannot be read")
        dtype = DTYPES.get(words[1])
        count, lines, start = self._number(words[2]), self._number(words[3]), self.at
        for _ in range(lines):
            if not self._line().startswith(b"%| "):
                self.fail("a column has fewer lines than it says")
        name = words[0].decode("ascii", "replace")
        if dtype is not None and name in KNOWN_COLUMNS:
            self.columns.add(name, PackedColumn(dtype, count, start, self.at))

    # The columns as tables.

    def _counts(self, name: str, count: int | None) -> npt.NDArray[np.int64]:
        column = self.columns.whole(name, count)
        if column.dtype.kind != "u" or (len(column) and int(column.max()) > _COUNT_LIMIT):
            self.fail(f"column {name} holds no counts")
        return column.view(np.int64) if column.itemsize == 8 else column.astype(np.int64)

    def _stacks(self) -> StackTable:
        depth = self._counts("stack_depth", None)
        count = len(depth)
        frames = self.columns.whole("stack_frames")
        offsets = np.zeros(count + 1, dtype=np.int64)
        if count and int(depth.max()) > len(frames):
            self.fail("a stack is deeper than there are frames")
        np.cumsum(depth, out=offsets[1:])
        if int(offsets[-1]) != len(frames) or frames.dtype.kind != "u":
            self.fail("stack_depth and stack_frames do not agree")
        flags = self._counts("stack_flags", count).astype(np.uint32)
        generation = self._counts("stack_generation", count).astype(np.uint32)
        return StackTable(
            offsets,
            frames.astype(np.uint64, copy=False),
            flags,
            generation,
            leaf_exact=True,
            interpreter=self._interpreters(count),
        )

    def _interpreters(self, count: int) -> npt.NDArray[np.uint32] | None:
        if "stack_interpreter" not in self.columns:
            return None
        found = self._counts("stack_interpreter", count)
        return found.astype(np.uint32) if found.any() else None

    def profile(self) -> Profile:
        """Return the profile in the columns."""
        stacks = self._stacks()
        python = read_python(self.columns)
        if stacks.interpreter is not None:
            most = 0 if python is None else len(python)
            if int(stacks.interpreter.max()) > most:
                self.fail("a stack names a Python frame that does not exist")
        stacks.label, labels = read_labels(self.columns, len(stacks))
        stack = self._counts("stack", None)
        count = len(stack)
        if count != self.records:
            raise _CutError(f"it has {count} records, but its last line says {self.records}")
        if count and int(stack.max()) >= len(stacks):
            self.fail("a record names a stack that does not exist")
        sites = self._sites(stack)
        domain = Fields(self.header).text("domain") or "host"
        return Profile(
            format="mem_profiler",
            rate_bytes=float(max(Fields(self.header).integer("rate_bytes"), 0)),
            stacks=stacks,
            sites=sites,
            domains=[domain],
            thread_blocks=self._thread_blocks(count),
            embedded=read_symbols(self.columns),
            python=python,
            labels=labels,
            marks=read_marks(self.columns),
        )

    def apply_traits(self, profile: Profile) -> None:
        """Set the kind of counts and stacks from the header.

        Only files made from other formats have it; our sampler's are always exact.
        """
        fields = Fields(self.header)
        profile.stacks.leaf_exact = fields.optional_bool("leaf_exact") is not False
        profile.exact_samples = fields.optional_bool("exact_samples") is not False
        profile.has_alloc = fields.optional_bool("has_alloc") is not False
        profile.since_start = fields.optional_bool("since_start") is True
        profile.sampling = fields.text("sampling")[:_LONGEST_SAMPLING]

    def _sites(self, stack: npt.NDArray[np.int64]) -> SiteTable:
        n = len(stack)
        alloc_blocks = self._counts("alloc_blocks", n)
        alloc_bytes = self._counts("alloc_bytes", n)
        has_taken = {"alloc_taken_bytes", "freed_taken_bytes"} <= self.columns.keys()
        taken = self._counts("alloc_taken_bytes", n) if has_taken else None
        given_back = self._counts("freed_taken_bytes", n) if has_taken else 0
        optional = {name: self._site_column(name, n) for name in OPTIONAL_COLUMNS}
        for kind in ("peak", "failed", "before_end"):
            pair = (f"{kind}_blocks", f"{kind}_bytes")
            if any(optional[name] is None for name in pair):
                optional |= dict.fromkeys(pair)
        return SiteTable(
            stack=stack,
            domain=np.zeros(n, dtype=np.int32),
            inuse_blocks=np.maximum(alloc_blocks - self._counts("freed_blocks", n), 0),
            inuse_bytes=np.maximum(alloc_bytes - self._counts("freed_bytes", n), 0),
            alloc_blocks=alloc_blocks,
            alloc_bytes=alloc_bytes,
            inuse_taken_bytes=None if taken is None else np.maximum(taken - given_back, 0),
            alloc_taken_bytes=taken,
            **optional,
        )

    def _site_column(self, name: str, count: int) -> npt.NDArray[Any] | None:
        if name not in self.columns:
            return None
        kind = OPTIONAL_COLUMNS[name]
        if kind == "<u8":
            return self._counts(name, count)
        if kind == "<u4":
            buckets = self.columns.whole(name, count * _BUCKETS)
            return buckets.astype(np.uint32, copy=False).reshape(count, _BUCKETS)
        numbers = self.columns.whole(name, count).astype(np.float64)
        ages = name.endswith("_s")
        if not ages and not np.all(np.isfinite(numbers) & (numbers >= 0)):
            self.fail(f"column {name} holds no sizes")
        return numbers

    def _thread_blocks(self, records: int) -> ThreadBlocks | None:
        if "thread_record" not in self.columns:
            return None
        site = self._counts("thread_record", None)
        count = len(site)
        if count and int(site.max()) >= records:
            self.fail("a thread's blocks belong to a record that does not exist")
        names = ("thread_row", "thread_blocks", "thread_bytes")
        return ThreadBlocks(site, *(self._counts(name, count) for name in names))

    def capture(self) -> Capture:
        """Return the capture's facts from the header."""
        return _capture(Fields(self.header))


def _module(fields: Fields) -> Module:
    ranges = []
    for entry in fields.items("exec"):
        if isinstance(entry, list) and len(entry) == 3 and all(isinstance(v, int) for v in entry):
            start, end, offset = entry
            if 0 <= start < end <= 1 << 64 and 0 <= offset < 1 << 64:
                ranges.append(ExecRange(start, end, offset))
    start, end = fields.integer("start"), fields.integer("end")
    if not ranges and 0 <= start < end <= 1 << 64:
        ranges.append(ExecRange(start, end, 0))
    path, deleted = undeleted(fields.text("path"))
    return Module(
        path=path,
        ranges=ranges,
        build_id=fields.hex_text("build_id"),
        bias=fields.optional_int("bias"),
        first_generation=fields.integer("first_generation"),
        last_generation=fields.optional_int("last_generation"),
        deleted=deleted,
        start=start,
        end=end,
    )


_PLAIN_STRINGS = (
    "writer host arch comm exe command allocator unwinder sampler kind end suppressions".split()  # noqa: SIM905
)
_PLAIN_INTS = ("pid", "parent_pid", "uid", "capture", "depth_limit", "samples")


def _is_growth(row: Any) -> bool:
    kinds = [str, str, int, int]
    return (
        isinstance(row, list)
        and [type(value) for value in row] == kinds
        and all(0 <= size < 1 << 63 for size in row[2:])
    )


def _capture(fields: Fields) -> Capture:
    values: dict[str, Any] = {name: fields.text(name) for name in _PLAIN_STRINGS}
    values |= {name: fields.optional_int(name) for name in _PLAIN_INTS}
    memory = Fields(fields.mapping("memory"))
    return Capture(
        **values,
        **_peak(fields),
        **_part(Fields(fields.mapping("part"))),
        before_end_at_s=Fields(fields.mapping("before_end")).optional_float("at_s"),
        started=fields.optional_float("started"),
        duration_s=fields.optional_float("duration_s"),
        python=fields.text("python") or None,
        from_start=fields.optional_bool("from_start") is True,
        pymalloc=fields.optional_bool("pymalloc"),
        pymem=fields.optional_bool("pymem") is True,
        lost=_int_values(fields.mapping("lost")),
        memory=Memory(**{f.name: memory.optional_int(f.name) for f in dataclasses.fields(Memory)}),
        grown=[Grown(*row) for row in fields.items("grown") if _is_growth(row)],
        bucket_end_s=[
            v if isinstance(v, int | float) else None for v in fields.items("bucket_end_s")
        ],
        tracked=read_tracked(fields.mapping("tracked")) if fields.mapping("tracked") else None,
        complete=fields.optional_bool("complete") is not False,
        controller=_controller(Fields(fields.mapping("controller"))),
        attach=_attach(Fields(fields.mapping("attach"))),
        notes=[v for v in fields.items("notes") if isinstance(v, str)],
        device=read_device(fields),
        domains=[v for v in fields.items("domains") if isinstance(v, str)],
        marks_lost=max(fields.integer("marks_lost"), 0),
    )


def _part(fields: Fields) -> dict[str, Any]:
    """Which part of a log of events a file was made from."""
    low, high = fields.optional_float("from_s"), fields.optional_float("to_s")
    if low is None or high is None or not 0 <= low <= high:
        return {}
    return {"part_s": (low, high), "holds_older": fields.optional_bool("holds_older") is True}


def _peak(fields: Fields) -> dict[str, Any]:
    """The peak's keys of a capture. Older files have `highest` for a total that the sampler
    tracked, and `peak` for the highest reading.
    """
    peak, source = Fields(fields.mapping("peak")), PeakSource.READING
    if fields.mapping("highest"):
        peak, source = Fields(fields.mapping("highest")), PeakSource.TOTAL
    elif peak.text("source") in set(PeakSource):
        source = PeakSource(peak.text("source"))
    size = peak.optional_float("estimate_bytes")
    return {
        "peak_at_s": peak.optional_float("at_s"),
        "peak_bytes": size,
        "peak_source": None if size is None else source,
        "peak_of_estimates": peak.optional_bool("of_estimates") is True,
    }


def _controller(fields: Fields) -> ControllerUse | None:
    cpu_s, peak = fields.optional_float("cpu_s"), fields.optional_int("peak_rss_bytes")
    return None if cpu_s is None or peak is None else ControllerUse(cpu_s, peak)


def _attach(fields: Fields) -> AttachStops | None:
    times, total_s = fields.optional_int("times"), fields.optional_float("total_s")
    longest_s = fields.optional_float("longest_s")
    if times is None or total_s is None or longest_s is None or times < 1:
        return None
    return AttachStops(times, max(total_s, 0.0), max(longest_s, 0.0))


def _int_values(value: Mapping[str, Any]) -> dict[str, int]:
    return {k: v for k, v in value.items() if isinstance(v, int) and 0 <= v < _COUNT_LIMIT}
