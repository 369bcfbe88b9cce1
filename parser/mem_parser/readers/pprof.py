"""pprof's `profile.proto`, plain (`readers` unpacks gzip), as Go, tcmalloc and we write it.

The reader reads samples, locations and functions in columns (`wire`), some at a time, so that a
million samples take a second or two and a forged file costs little more memory than its own size;
the number of entries has a bound too. The official runtime decodes odd ones and all other messages.

Values are estimates. Where a period in bytes and the label `bytes` say how the writer un-sampled
them, the reader restores the sampled counts (k = n p, p = 1 - exp(-bytes/period)) and with them the
error bars; else it keeps the values unchanged, without error bars, and says what it knows of their
rate. The model gets look-up addresses, one byte before a return address. Fields may be in any
order, in every message: Go begins with the type of the period.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import InputFileError, NotAProfile
from mem_parser.estimate import sampling_probability
from mem_parser.model import Capture, Profile, SiteTable, StackTable
from mem_parser.profileproto import message_class
from mem_parser.readers import golang
from mem_parser.readers.pproflocations import LocationTable, Scanned
from mem_parser.readers.wire import (
    BadVarints,
    Messages,
    count_varints,
    field_at,
    read_fields,
    split,
    varints,
)
from mem_parser.units import format_rate

SIZE_LIMIT_BYTES = 256 << 20
DOMAIN_LABEL = "domain"
"""Label of a sample that names its memory domain."""
_MOST_MESSAGE_BYTES = 1 << 22
_TEXT_BYTES = 4096
_VALUE_LIMIT = 1 << 61
_BLOCKS = {"inuse_objects": "inuse", "objects": "inuse", "alloc_objects": "alloc"}
_BYTES = {"inuse_space": "inuse", "space": "inuse", "alloc_space": "alloc"}
_TYPE, _SAMPLE, _MAPPING, _LOCATION, _FUNCTION, _STRING, _PERIOD_TYPE = 1, 2, 3, 4, 5, 6, 11
_DROP_FRAMES, _COMMENT = 7, 13
_KINDS = dict.fromkeys((1, 2, 3, 4, 5, 6, 11, 13), 2) | dict.fromkeys((7, 8, 9, 10, 12, 14), 0)
"""The fields of a profile with the kinds of their contents: 0 integers, 2 stretches of bytes."""
_INNER = {_SAMPLE: 3, _LOCATION: 4}
"""Fields that are messages themselves: labels, lines."""
_AT_A_TIME = 1 << 18
_MOST_TYPES = 64
_STRING_BYTES, _MAPPING_BYTES, _VALUE_BYTES, _FRAME_BYTES = 64, 1400, 56, 16
_KEPT_BYTES = {_SAMPLE: (200, 2), _LOCATION: (640, 16), _FUNCTION: (700, 0)}
"""What is kept of one message, and for each of its bytes."""
_NAMES = {1: "ValueType", 2: "Sample", 3: "Mapping", 4: "Location", 5: "Function", 11: "ValueType"}
Counts = npt.NDArray[np.int64]


def looks_like_pprof(head: bytes) -> bool:
    """Tell whether a file with this start is a profile.proto: all of its whole fields are those of
    a profile, in any order, one at least with more than a number, and it is no text.
    """
    at, fields = 0, 0
    while at < len(head):
        found = field_at(head, at)
        if found is None:
            break
        number, kind, begin, end = found
        fits = _KINDS.get(number, kind) == kind or (number == _COMMENT and kind == 0)
        if not fits or number == 0:
            return False
        if end > len(head):
            fields += number in _INNER
            break
        if number in (_TYPE, _PERIOD_TYPE) and not _is_value_type(head[begin:end]):
            return False
        at, fields = end, fields + (_KINDS.get(number) == 2)
    return fields > 0 and not _is_text(head)


def _is_value_type(content: bytes) -> bool:
    """Tell whether ``content`` is two integers, or fewer."""
    at = 0
    while at < len(content):
        found = field_at(content, at)
        if found is None or found[1] != 0 or found[3] > len(content):
            return False
        at = found[3]
    return True


def _is_text(head: bytes) -> bool:
    return not any(byte < 0x20 and byte not in b"\t\n\v\f\r" for byte in head[:_TEXT_BYTES])


def _parts(messages: Messages) -> Iterator[Messages]:
    for low in range(0, len(messages), _AT_A_TIME):
        yield messages.part(low, low + _AT_A_TIME)


def _joined(stretches: Collection[bytes]) -> tuple[bytes, Counts]:
    """Return the stretches back to back, and how long each is."""
    return b"".join(stretches), np.fromiter(map(len, stretches), np.int64, len(stretches))


def read_pprof(data: bytes, path: str, allowance: MemoryAllowance) -> Profile:
    """Read a profile from bytes. Raises `InputFileError`."""
    if len(data) > SIZE_LIMIT_BYTES:
        raise InputFileError(f"{path}: more than {SIZE_LIMIT_BYTES >> 20} MiB of profile.proto")
    return _PprofReader(path, allowance).read(data)


class _PprofReader:
    """One pass over the fields of one file."""

    def __init__(self, path: str, allowance: MemoryAllowance) -> None:
        self.path = path
        self.allowance = allowance
        self.strings: list[str] = []
        self.types: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.period_type: Any = None
        self.table = LocationTable(self.text)
        self.values: list[Counts] = []
        self.sizes: list[Counts] = []
        self.domain_texts: list[Counts] = []
        self.stack_of_sample: list[int] = []
        self.stack_index: dict[bytes, int] = {}

    def text(self, index: int) -> str:
        """Return a string of the table; empty where there is none."""
        return self.strings[index] if 0 <= index < len(self.strings) else ""

    def read(self, data: bytes) -> Profile:
        messages, self.numbers = split(data, self.path, self.allowance)
        none = Messages(data, np.zeros(0, np.int64), np.zeros(0, np.int64))
        strings = messages.get(_STRING, none)
        self._keep(strings, _STRING_BYTES, 4)
        self.strings = [s.decode("utf-8", "replace") for s in strings]
        types = messages.get(_TYPE, none)
        if len(types) > _MOST_TYPES:
            raise NotAProfile(
                f"{self.path}: its samples have {len(types)} values each (at most {_MOST_TYPES})"
            )
        self.types = [self._decode(_TYPE, m) for m in types]
        for message in messages.get(_PERIOD_TYPE, none):
            self.period_type = self._decode(_PERIOD_TYPE, message)
        columns = self._columns()
        mappings = messages.get(_MAPPING, none)
        self._keep(mappings, _MAPPING_BYTES, 0)
        for message in mappings:
            self.table.add_mapping(self._decode(_MAPPING, message))
        for number, add in (
            (_FUNCTION, self.table.add_functions),
            (_LOCATION, self.table.add_locations),
        ):
            for part in _parts(messages.get(number, none)):
                self._keep(part, *_KEPT_BYTES[number])
                with self.allowance.lent():
                    add(self._fields(number, part))
        self.table.build()
        for part in _parts(messages.get(_SAMPLE, none)):
            fixed, times = _KEPT_BYTES[_SAMPLE]
            self._keep(part, fixed + _VALUE_BYTES * len(self.types), times)
            with self.allowance.lent():
                self._add_samples(self._fields(_SAMPLE, part))
        return self._profile(columns)

    def _keep(self, messages: Messages, fixed: int, times: int) -> None:
        """Charge the kept part of messages: ``fixed`` for each, and ``times`` for each byte."""
        size = int((messages.end - messages.start).sum())
        self.allowance.take(fixed * len(messages) + times * size)

    def _decode(self, number: int, content: bytes) -> Any:
        if len(content) > _MOST_MESSAGE_BYTES:
            raise InputFileError(f"{self.path}: a message is too long")
        from google.protobuf.message import DecodeError

        try:
            return message_class(_NAMES[number]).FromString(content)
        except DecodeError as error:
            raise self._unreadable(number) from error

    def _unreadable(self, number: int) -> InputFileError:
        return InputFileError(f"{self.path}: a {_NAMES[number]} cannot be read")

    def _fields(self, number: int, messages: Messages) -> Scanned:
        """Return the fields of messages and of their inner messages, in columns."""
        if int((messages.end - messages.start).max()) > _MOST_MESSAGE_BYTES:
            raise InputFileError(f"{self.path}: a message is too long")

        def plain(content: bytes) -> bytes:
            message = self._decode(number, content)
            message.DiscardUnknownFields()
            return bytes(message.SerializeToString())

        try:
            return read_fields(messages, _INNER.get(number, 0), plain, self.allowance)
        except BadVarints as error:
            raise self._unreadable(number) from error

    def _profile(self, columns: dict[str, int]) -> Profile:
        values = np.concatenate([np.zeros((0, len(self.types)), np.int64), *self.values])
        warnings = []
        if (values < 0).any():
            warnings.append("negative values (a difference of profiles?) count as 0")
        values = np.clip(values, 0, _VALUE_LIMIT)
        sites, rate, restored = self._sites(values, columns)
        used = "alloc_blocks" if "alloc_blocks" in columns else "alloc_bytes"
        profile = Profile(
            format="pprof",
            rate_bytes=rate,
            stacks=self._stacks(),
            sites=sites,
            modules=self.table.modules,
            capture=self._capture(),
            since_start=not self.numbers.get(10),
            has_alloc=used in columns,
            exact_samples=restored,
            sampling=self._sampling(restored=restored),
            warnings=warnings,
            embedded=self.table.names,
        )
        self._set_domains(profile)
        return profile

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
            raise NotAProfile(f"{self.path}: not a heap profile; its values are: {types}")
        return found

    def _add_samples(self, found: Scanned) -> None:
        fields, owner, labels = found
        try:
            packed, lengths = _joined(fields.packed(2))
            if (count_varints(packed, lengths) != len(self.types)).any():
                raise InputFileError(f"{self.path}: a sample does not have one value for each type")
            values = np.concatenate([np.zeros(0, np.uint64), *varints(packed)])
        except BadVarints as error:
            raise self._unreadable(_SAMPLE) from error
        self.values.append(values.view(np.int64).reshape(-1, len(self.types)))
        key, number = labels.integers(1).view(np.int64), labels.integers(3).view(np.int64)
        size = np.full(fields.messages, -1, dtype=np.int64)
        chosen = np.isin(key, self._indices("bytes")) & (number != 0)
        size[owner[chosen]] = number[chosen]
        self.sizes.append(size)
        domain = np.zeros(fields.messages, dtype=np.int64)
        chosen = np.isin(key, self._indices(DOMAIN_LABEL))
        domain[owner[chosen]] = labels.integers(2).view(np.int64)[chosen]
        self.domain_texts.append(domain)
        index = self.stack_index
        self.stack_of_sample += [index.setdefault(s, len(index)) for s in fields.packed(1)]

    def _indices(self, text: str) -> list[int]:
        return [k for k, known in enumerate(self.strings) if known == text]

    def _stacks(self) -> StackTable:
        try:
            packed, lengths = _joined(self.stack_index)
            self.stack_index = {}
            depths = count_varints(packed, lengths)
            offsets = np.concatenate(([0], np.cumsum(depths))).astype(np.int64)
            self.allowance.take(_FRAME_BYTES * int(offsets[-1]))
            frames = np.empty(int(offsets[-1]), dtype=np.uint64)
            at = 0
            for numbers in varints(packed):
                frames[at : at + len(numbers)] = self._addresses(numbers)
                at += len(numbers)
        except BadVarints as error:
            raise self._unreadable(_SAMPLE) from error
        # The file has look-up addresses: the innermost is a frame, the others are one less.
        frames += np.uint64(1)
        frames[offsets[:-1][depths > 0]] -= np.uint64(1)
        nothing = np.zeros(len(depths), dtype=np.uint32)
        return StackTable(offsets, frames, nothing, nothing.copy(), leaf_exact=True)

    def _addresses(self, locations: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
        address, there = self.table.addresses_of(locations)
        if not there.all():
            number = int(locations[~there][0])
            raise InputFileError(
                f"{self.path}: a sample names location {number}, which does not exist"
            )
        return address

    def _set_domains(self, profile: Profile) -> None:
        """Set the domains from the label `domain`; samples without it are the host's."""
        if not self._indices(DOMAIN_LABEL) or not self.domain_texts:
            return
        texts = np.concatenate(self.domain_texts)
        used, index = np.unique(texts, return_inverse=True)
        names = [self.text(k) or "host" for k in used.tolist()]
        profile.domains = list(dict.fromkeys(["host", *names]))
        number = np.array([profile.domains.index(name) for name in names], dtype=np.int32)
        profile.sites.domain = number[index]

    def _sites(self, values: Counts, columns: dict[str, int]) -> tuple[SiteTable, float, bool]:
        """Return the sites, the rate at which they are sampled, and whether that is known."""
        counts = {}
        for kind in ("inuse", "alloc"):
            size, blocks = columns.get(f"{kind}_bytes"), columns.get(f"{kind}_blocks")
            total = values[:, size] if size is not None else np.zeros(len(values), np.int64)
            # Bytes without a number of blocks count as one block.
            number = values[:, blocks] if blocks is not None else (total > 0).astype(np.int64)
            counts[kind] = (number, total)
        rate = self._period()
        restored = self._restore(counts, rate) if rate and len(columns) in (2, 4) else None
        counts = restored or counts
        sites = SiteTable(
            stack=np.array(self.stack_of_sample, dtype=np.int64),
            domain=np.zeros(len(values), dtype=np.int32),
            inuse_blocks=counts["inuse"][0],
            inuse_bytes=counts["inuse"][1],
            alloc_blocks=counts["alloc"][0],
            alloc_bytes=counts["alloc"][1],
        )
        return sites, rate if restored else 1.0, restored is not None

    def _sampling(self, *, restored: bool) -> str:
        """Return how the values came about, where their rate does not say it."""
        period = self._period()
        if restored and (period <= 1 or not self._writer()):
            return ""
        if period <= 1:
            return "rate unknown"
        writer = self._writer()
        return f"estimated{f' by {writer}' if writer else ''} at {format_rate(period)}"

    def _writer(self) -> str:
        """Return whose sampler it was, as far as the file's strings say it."""
        if self.numbers.get(_DROP_FRAMES):  # no runtime's own profile has that
            return ""
        if any(s.endswith(".go") for s in self.strings):
            return golang.NAME
        if any(s.startswith("node:") for s in self.strings):
            return "node's sampler"
        return ""

    def _period(self) -> float:
        """Return the bytes between samples; 0 if the file does not say them."""
        kind = self.period_type
        in_bytes = kind is not None and self.text(kind.unit) == "bytes"
        period = self.numbers.get(12, 0)
        return float(period) if in_bytes and 1 <= period < 1 << 40 else 0.0

    def _restore(
        self, counts: dict[str, tuple[Counts, Counts]], rate: float
    ) -> dict[str, tuple[Counts, Counts]] | None:
        """Return the sampled counts; None if the values do not fit any."""
        sizes = np.concatenate([np.zeros(0, np.int64), *self.sizes])
        used = np.zeros(len(sizes), dtype=np.bool_)
        for number, total in counts.values():
            used |= (number > 0) | (total > 0)
        if (sizes[used] <= 0).any():
            return None
        p = sampling_probability(sizes, rate)
        result = {}
        for kind, (number, total) in counts.items():
            sampled = np.rint(number * p)
            # Writers round (1/2) or cut off (1) the number of blocks, and round the label too.
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
