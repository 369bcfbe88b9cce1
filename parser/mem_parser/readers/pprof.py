"""pprof's `profile.proto`, plain (`readers` unpacks gzip), as Go, tcmalloc and we write it.

The file is walked field by field and each message is decoded and let go of, so that a forged file
costs little more memory than its own size; how many of each there may be is bounded too.

Values are estimates. Where a period in bytes and the label `bytes` say how they were un-sampled,
the sampled counts are found again (k = n p, p = 1 - exp(-bytes/period)) and with them the error
bars; else the values are taken as they are, without error bars. Addresses are stored as they are
looked up, one byte before a return address.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.errors import InputFileError, NotAProfile, TruncatedProfile
from mem_parser.estimate import sampling_probability
from mem_parser.model import Capture, Profile, SiteTable, StackTable
from mem_parser.profileproto import message_class
from mem_parser.readers.pproflocations import LocationTable

SIZE_LIMIT_BYTES = 256 << 20
_MOST_MESSAGES = 10_000_000
_MOST_MESSAGE_BYTES = 1 << 22
_VALUE_LIMIT = 1 << 61
_BLOCKS = {"inuse_objects": "inuse", "objects": "inuse", "alloc_objects": "alloc"}
_BYTES = {"inuse_space": "inuse", "space": "inuse", "alloc_space": "alloc"}
_NAMES = {1: "ValueType", 2: "Sample", 3: "Mapping", 4: "Location", 5: "Function", 11: "ValueType"}
Counts = npt.NDArray[np.int64]


def looks_like_pprof(head: bytes) -> bool:
    """Tell whether a file that begins so is a profile.proto: every writer begins with the types of
    its samples.
    """
    return len(head) > 2 and head[0] == 0x0A and head[1] < 0x40 and head[2] in (0x08, 0x10)


def read_pprof(data: Any, path: str) -> Profile:
    """Read a profile from bytes or a mapping. Raises `InputFileError`."""
    if len(data) > SIZE_LIMIT_BYTES:
        raise InputFileError(f"{path}: more than {SIZE_LIMIT_BYTES >> 20} MiB of profile.proto")
    return _PprofReader(path).read(memoryview(data))


def _fields(data: memoryview, path: str) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and content of every field at the top: an integer or a stretch of bytes."""
    at, size = 0, len(data)

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while at < size and shift < 70:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7
        raise TruncatedProfile(f"{path}: it ends within a number, at byte {at}")

    while at < size:
        tag = varint()
        kind = tag & 7
        if kind == 0:
            yield tag >> 3, varint()
        elif kind in (1, 2, 5):
            length = varint() if kind == 2 else {1: 8, 5: 4}[kind]
            if length > size - at:
                raise TruncatedProfile(f"{path}: it ends within a message, at byte {at}")
            yield tag >> 3, data[at : at + length]
            at += length
        else:
            raise InputFileError(f"{path}: no profile.proto from byte {at} on")


class _PprofReader:
    """One pass over the fields of one file."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.strings: list[str] = []
        self.types: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.period_type: Any = None
        self.table = LocationTable(self.text)
        self.samples: list[bytes] = []
        self.values = array("q")
        self.sizes = array("q")
        self.stack_of_sample = array("q")
        self.frames = array("Q")
        self.offsets = array("q", [0])
        self.stack_index: dict[bytes, int] = {}
        self.classes = {n: message_class(name) for n, name in _NAMES.items()}

    def text(self, index: int) -> str:
        """Return a string of the table; empty where there is none."""
        return self.strings[index] if 0 <= index < len(self.strings) else ""

    def read(self, data: memoryview) -> Profile:
        counted: dict[int, int] = {}
        for number, content in _fields(data, self.path):
            counted[number] = counted.get(number, 0) + 1
            if counted[number] > _MOST_MESSAGES:
                raise InputFileError(f"{self.path}: more entries than any profile has")
            if isinstance(content, int):
                self.numbers[number] = content
            elif number == 6:
                self.strings.append(bytes(content).decode("utf-8", "replace"))
            elif number in _NAMES:
                self._take(number, content)
        return self._profile(data)

    def _take(self, number: int, content: memoryview) -> None:
        if number == 2:
            return  # its labels are named by strings that stand further on
        message = self._decode(number, content)
        if number == 1:
            self.types.append(message)
        elif number == 11:
            self.period_type = message
        else:
            self.table.add(message, number)

    def _decode(self, number: int, content: memoryview) -> Any:
        if len(content) > _MOST_MESSAGE_BYTES:
            raise InputFileError(f"{self.path}: a message is too long to be one")
        from google.protobuf.message import DecodeError

        try:
            return self.classes[number].FromString(bytes(content))
        except DecodeError as error:
            raise InputFileError(f"{self.path}: a {_NAMES[number]} cannot be read") from error

    def _profile(self, data: memoryview) -> Profile:
        columns = self._columns()
        self.table.build()
        for number, content in _fields(data, self.path):
            if number == 2 and not isinstance(content, int):
                self._add_sample(self._decode(2, content))
        values = np.frombuffer(self.values, dtype=np.int64).reshape(-1, len(self.types))
        warnings = []
        if (values < 0).any():
            warnings.append("negative values (a difference of profiles?) count as 0")
        values = np.clip(values, 0, _VALUE_LIMIT)
        sites, rate = self._sites(values, columns)
        used = "alloc_blocks" if "alloc_blocks" in columns else "alloc_bytes"
        return Profile(
            format="pprof",
            rate_bytes=rate,
            stacks=self._stacks(),
            sites=sites,
            modules=self.table.modules,
            capture=self._capture(),
            since_start=not self.numbers.get(10),
            has_alloc=used in columns,
            exact_samples=rate > 1,
            warnings=warnings,
            embedded=self.table.names,
        )

    def _columns(self) -> dict[str, int]:
        """Return which value of a sample is which count."""
        found: dict[str, int] = {}
        for k, kind in enumerate(self.types):
            name = self.text(kind.type)
            if name in _BLOCKS:
                found.setdefault(f"{_BLOCKS[name]}_blocks", k)
            elif name in _BYTES:
                found.setdefault(f"{_BYTES[name]}_bytes", k)
        if not any(name.endswith("bytes") for name in found):
            types = ", ".join(self.text(t.type) for t in self.types[:8]) or "none"
            raise NotAProfile(f"{self.path}: no heap profile; its values are: {types}")
        return found

    def _add_sample(self, sample: Any) -> None:
        if len(sample.value) != len(self.types):
            raise InputFileError(f"{self.path}: a sample has not one value for each type")
        self.values.extend(sample.value)
        size = -1
        for label in sample.label:
            if label.num and self.text(label.key) == "bytes":
                size = label.num
        self.sizes.append(size)
        self.stack_of_sample.append(self._stack(array("Q", sample.location_id)))

    def _stack(self, ids: array[int]) -> int:
        key = ids.tobytes()
        known = self.stack_index.get(key)
        if known is not None:
            return known
        for k, number in enumerate(ids):
            address = self.table.address_of.get(number)
            if address is None:
                raise InputFileError(f"{self.path}: a sample names location {number}, not there")
            self.frames.append(address + (k > 0))
        self.offsets.append(len(self.frames))
        index = self.stack_index[key] = len(self.stack_index)
        return index

    def _stacks(self) -> StackTable:
        empty = np.zeros(len(self.offsets) - 1, dtype=np.uint32)
        return StackTable(
            np.frombuffer(self.offsets, dtype=np.int64),
            np.frombuffer(self.frames, dtype=np.uint64)
            if self.frames
            else np.zeros(0, dtype=np.uint64),
            empty,
            empty.copy(),
            leaf_exact=True,
        )

    def _sites(self, values: Counts, columns: dict[str, int]) -> tuple[SiteTable, float]:
        counts = {}
        for kind in ("inuse", "alloc"):
            size, blocks = columns.get(f"{kind}_bytes"), columns.get(f"{kind}_blocks")
            total = values[:, size] if size is not None else np.zeros(len(values), np.int64)
            # Bytes without a number of blocks are one block, so that they count at all.
            number = values[:, blocks] if blocks is not None else (total > 0).astype(np.int64)
            counts[kind] = (number, total)
        rate = self._period() if len(columns) in (2, 4) else 1.0
        restored = self._restore(counts, rate) if rate > 1 else None
        counts = restored or counts
        sites = SiteTable(
            stack=np.array(self.stack_of_sample, dtype=np.int64),
            domain=np.zeros(len(values), dtype=np.int32),
            inuse_blocks=counts["inuse"][0],
            inuse_bytes=counts["inuse"][1],
            alloc_blocks=counts["alloc"][0],
            alloc_bytes=counts["alloc"][1],
        )
        return sites, rate if restored else 1.0

    def _period(self) -> float:
        kind = self.period_type
        in_bytes = kind is not None and self.text(kind.unit) == "bytes"
        period = self.numbers.get(12, 0)
        return float(period) if in_bytes and 1 < period < 1 << 40 else 1.0

    def _restore(
        self, counts: dict[str, tuple[Counts, Counts]], rate: float
    ) -> dict[str, tuple[Counts, Counts]] | None:
        """Return the sampled counts; None if the values cannot have come from such."""
        sizes = np.array(self.sizes, dtype=np.int64)
        if (sizes <= 0).any():
            return None
        p = sampling_probability(sizes, rate)
        result = {}
        for kind, (number, total) in counts.items():
            sampled = np.rint(number * p)
            # Writers round (1/2) or cut off (1) the number of blocks; the label is rounded too.
            if (np.abs(number * p - sampled) > p + 0.02 * sampled).any():
                return None
            size = np.where(sampled > 0, np.rint(total * p), 0)
            result[kind] = (sampled.astype(np.int64), size.astype(np.int64))
        return result

    def _capture(self) -> Capture:
        started, duration = self.numbers.get(9, 0), self.numbers.get(10, 0)
        modules = self.table.modules
        return Capture(
            exe=modules[0].path if modules else "",
            started=started / 1e9 if 0 < started < 1 << 63 else None,
            duration_s=duration / 1e9 if 0 < duration < 1 << 63 else None,
        )
