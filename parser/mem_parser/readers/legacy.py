"""The text dialect of gperftools: `heap profile: ... @ heapprofile`, `heap_v2/T`, `heap/T`,
`growth`; Go writes it too.

It is also the first part of our own files, and all of one that was cut before its second part. This
reader treats each header as common tools do:

    heap_v2/T, heapz_v2/T   records are divided by 1 - exp(-(bytes/blocks)/T)
    heap/T                  jeprof's older rule: records of a mean size below T/2 are scaled up;
                            Go's files (see `golang`): as heap_v2/(T/2)
    heapprofile, growth(z), fragmentation(z)    no scaling
    no type                 heap/131072 if both pairs of the first line are equal, else no scaling
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import NotAProfile
from mem_parser.maps import parse_maps
from mem_parser.model import SAMPLER_NAME, IntArray, Profile, SiteTable
from mem_parser.readers import golang
from mem_parser.readers.build import COUNT_LIMIT, ProfileBuilder
from mem_parser.units import format_rate

HEADER = re.compile(
    rb"heap profile:\s*(-?\d{1,20}):\s*(-?\d{1,20})\s*\[\s*(-?\d{1,20}):\s*(-?\d{1,20})\s*\]"
    rb"(?:\s*@\s*([A-Za-z_][\w]*)?(?:/(\d{1,20}(?:\.\d{1,20})?))?)?\s*$"
)
_RECORD = re.compile(
    rb"\s*(-?\d{1,20}):\s*(-?\d{1,20})\s*\[\s*(-?\d{1,20}):\s*(-?\d{1,20})\s*\]\s*@(.*)$"
)
_OUR_RECORD = re.compile(rb" \d{1,4}: \d")
"""gperftools pads the first number to six places; our writer puts one blank before it."""
_MAP_MARKS = (b"MAPPED_LIBRARIES:", b"--- Memory map: ---")
_DEFAULT_V1_RATE = 128 * 1024
_UNSCALED = {
    "heapprofile": "",
    "growth": "each growth of the heap", "growthz": "each growth of the heap",
    "fragmentation": "each free range", "fragmentationz": "each free range",
    "": "rate unknown",
}  # fmt: skip
"""Types whose counts are as they are, with what they count where that is not every block."""


def read_legacy(lines: Iterator[bytes], path: str, allowance: MemoryAllowance) -> Profile:
    """Read a profile from its lines (with their ends). Raises `InputFileError` naming the line."""
    reader = _LegacyReader(lines, path, allowance)
    return reader.read()


Counts = tuple[int, int, int, int]


class _LegacyReader:
    """One pass over the lines of one file."""

    def __init__(self, lines: Iterator[bytes], path: str, allowance: MemoryAllowance) -> None:
        self.lines = enumerate(lines, start=1)
        self.path = path
        self.builder = ProfileBuilder(path, allowance)
        self.allowance = allowance
        self.warnings: list[str] = []
        self.incomplete: str | None = None
        self.dropped = 0
        self.v1_rate: float | None = None
        self.go = golang.GoLines(allowance)
        self.waiting: tuple[bytes, Counts, int] | None = None
        self.last: bytes = b""
        self.unpadded = False

    def read(self) -> Profile:
        kind, rate = self._read_header()
        modules = parse_maps(self._read_records(), self.allowance)
        if self.go.is_go and self.v1_rate is not None:
            return self._go_profile(self.v1_rate / 2)
        ours = self.unpadded or any(m.name == SAMPLER_NAME for m in modules)
        if ours and self.incomplete is None:
            self.incomplete = "its second part is missing"
        self._warn_of_losses()
        sites, sampling = self.builder.sites(), _UNSCALED.get(kind, "")
        if self.v1_rate is not None:
            sites = _scaled(sites, self.v1_rate)
            sampling = f"estimated at {format_rate(self.v1_rate)}"
        return Profile(
            format=f"gperftools {kind or 'untyped'}",
            rate_bytes=rate,
            stacks=self.builder.stacks(leaf_exact=ours),
            sites=sites,
            modules=modules,
            since_start=not ours,
            has_alloc=True,
            exact_samples=self.v1_rate is None and sampling != "rate unknown",
            sampling=sampling,
            incomplete=self.incomplete,
            warnings=self.warnings,
        )

    def _go_profile(self, rate: float) -> Profile:
        """Return the profile of a file that Go wrote, sampled at ``rate``."""
        if not self.go.is_whole and self.incomplete is None:
            self.incomplete = "it ends before Go's statistics"
        self._warn_of_losses()
        rate = max(rate, 1.0)
        sampling = f"estimated by {golang.NAME} at {format_rate(rate)}" if rate > 1 else ""
        return Profile(
            format="go heap text",
            rate_bytes=rate,
            stacks=self.builder.stacks(leaf_exact=False),
            sites=self.builder.sites(),
            since_start=True,
            has_alloc=True,
            sampling=sampling,
            incomplete=self.incomplete,
            warnings=self.warnings,
            embedded=self.go.embedded(),
        )

    def _read_header(self) -> tuple[str, float]:
        for number, raw in self.lines:
            self.last = raw
            line = raw.strip()
            if not line or line.startswith(b"%"):
                continue
            at = line.find(b"heap profile:")
            match = HEADER.match(line, at) if at >= 0 else None
            if match is None:
                raise NotAProfile(
                    f"{self.path}, line {number}: not the first line of a heap profile"
                )
            return self._interpret_header(match)
        raise NotAProfile(f"{self.path}: empty")

    def _interpret_header(self, match: re.Match[bytes]) -> tuple[str, float]:
        kind = (match[5] or b"").decode("ascii", "replace")
        rate = float(match[6]) if match[6] else 0.0
        if kind in ("heap_v2", "heapz_v2"):
            return kind, rate or _DEFAULT_V1_RATE
        pairs_equal = match[1] == match[3] and match[2] == match[4]
        if kind == "heap" or (not kind and pairs_equal):
            self.v1_rate = rate or _DEFAULT_V1_RATE
        elif kind not in _UNSCALED:
            raise NotAProfile(f"{self.path}: unknown type of profile {kind!r}")
        return kind, 1.0

    def _read_records(self) -> Iterator[str]:
        """Read up to the end; yield the lines after the mark of the mappings."""
        for number, raw in self.lines:
            self.last = raw
            match = _RECORD.match(raw)
            if match is not None:
                self._begin(match, number)
                continue
            line = raw.strip()
            if any(mark in line for mark in _MAP_MARKS):
                self._add_waiting()
                yield from self._read_maps()
                return
            if line and not line.startswith(b"%"):
                self._meet_foreign_line(number, raw)
        self._add_waiting()
        if self.incomplete is None and not self.go.is_go:
            self.incomplete = "it ends before the list of mappings"

    def _meet_foreign_line(self, number: int, raw: bytes) -> None:
        whole = raw.endswith(b"\n")
        if not whole:
            self.incomplete = f"it ends within line {number}"
        elif (self.v1_rate is None or not self.go.read(raw)) and self.incomplete is None:
            self.incomplete = f"line {number} is not understood"

    def _read_maps(self) -> Iterator[str]:
        for _, raw in self.lines:
            self.last = raw
            if not raw.startswith(b"%"):
                yield raw.decode("utf-8", "surrogateescape")
        if not self.last.endswith(b"\n") and self.incomplete is None:
            self.incomplete = "it ends within a line of its mappings"

    def _begin(self, match: re.Match[bytes], number: int) -> None:
        """Read the line of a record; Go's has its frames in the lines after it."""
        self._add_waiting()
        counts: Counts = (int(match[1]), int(match[2]), int(match[3]), int(match[4]))
        if not match.string.endswith(b"\n") and self.incomplete is None:
            # The last address may be cut.
            self.incomplete = f"it ends within line {number}"
            return
        self.unpadded = self.unpadded or bool(_OUR_RECORD.match(match.string))
        senseless = (not counts[0] and counts[1]) or (not counts[2] and counts[3])
        if senseless or min(counts) < 0:
            self.dropped += 1
            return
        self.waiting = match[5].strip(), counts, number

    def _add_waiting(self) -> None:
        """Add the record of which all lines are read."""
        named = self.go.stack()
        if self.waiting is not None:
            stack, counts, number = self.waiting
            self.builder.add(self.builder.intern(stack if named is None else named), counts, number)
        self.waiting = None

    def _warn_of_losses(self) -> None:
        if self.dropped:
            self.warnings.append(
                f"{self.dropped} records have negative counts, or bytes but no blocks; left out"
            )
        if self.builder.bad_addresses:
            self.warnings.append(f"{self.builder.bad_addresses} addresses cannot be read")


def _scaled(sites: SiteTable, rate: float) -> SiteTable:
    """Return all sites as jeprof scales those of `heap/T`."""
    for kind in ("inuse", "alloc"):
        blocks, size = getattr(sites, f"{kind}_blocks"), getattr(sites, f"{kind}_bytes")
        found = _scale_v1(blocks, size, rate)
        setattr(sites, f"{kind}_blocks", found[0])
        setattr(sites, f"{kind}_bytes", found[1])
    return sites


def _scale_v1(blocks: IntArray, size: IntArray, rate: float) -> tuple[IntArray, IntArray]:
    """Return pairs as jeprof scales them: up to a mean size of half the rate."""
    mean = np.divide(size, blocks, out=np.zeros(len(size)), where=blocks > 0)
    ratio = mean / (rate / 2)
    small = (ratio > 0) & (ratio < 1)
    factor = np.divide(1.0, ratio, out=np.ones(len(ratio)), where=small)
    most = float(COUNT_LIMIT)
    return (
        np.where(small, np.rint(np.minimum(blocks * factor, most)), blocks).astype(np.int64),
        np.where(small, np.rint(np.minimum(size * factor, most)), size).astype(np.int64),
    )
