"""The text dialect of gperftools: `heap profile: ... @ heapprofile`, `heap_v2/T`, `heap/T`,
`growth`.

It is also the first part of our own files, and all of one that was cut before its second part. This
reader treats each header as common tools do:

    heap_v2/T, heapz_v2/T   records are divided by 1 - exp(-(bytes/blocks)/T)
    heap/T                  jeprof's older rule: records of a mean size below T/2 are scaled up
    heapprofile, growth     no scaling
    no type                 heap/131072 if both pairs of the first line are equal, else no scaling
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mem_parser.allowance import MemoryAllowance
from mem_parser.errors import NotAProfile
from mem_parser.maps import parse_maps
from mem_parser.model import SAMPLER_NAME, Profile
from mem_parser.readers.build import ProfileBuilder

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


def read_legacy(lines: Iterator[bytes], path: str, allowance: MemoryAllowance) -> Profile:
    """Read a profile from its lines (with their ends). Raises `InputFileError` naming the line."""
    reader = _LegacyReader(lines, path, allowance)
    return reader.read()


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
        self.last: bytes = b""
        self.unpadded = False

    def read(self) -> Profile:
        kind, rate = self._read_header()
        modules = parse_maps(self._read_records(), self.allowance)
        ours = self.unpadded or any(m.name == SAMPLER_NAME for m in modules)
        if ours and self.incomplete is None:
            self.incomplete = "its second part is missing"
        self._warn_of_losses()
        sites = self.builder.sites()
        return Profile(
            format=f"gperftools {kind or 'untyped'}",
            rate_bytes=rate,
            stacks=self.builder.stacks(leaf_exact=ours),
            sites=sites,
            modules=modules,
            since_start=not ours,
            has_alloc=True,
            exact_samples=self.v1_rate is None,
            incomplete=self.incomplete,
            warnings=self.warnings,
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
        elif kind not in ("heapprofile", "growth", "fragmentation", ""):
            raise NotAProfile(f"{self.path}: unknown type of profile {kind!r}")
        return kind, 1.0

    def _read_records(self) -> Iterator[str]:
        """Read up to the end; yield the lines after the mark of the mappings."""
        for number, raw in self.lines:
            self.last = raw
            match = _RECORD.match(raw)
            if match is not None:
                self._add(match, number)
                continue
            line = raw.strip()
            if any(mark in line for mark in _MAP_MARKS):
                yield from self._read_maps()
                return
            if line and not line.startswith(b"%"):
                self._meet_foreign_line(number, raw)
        if self.incomplete is None:
            self.incomplete = "it ends before the list of mappings"

    def _meet_foreign_line(self, number: int, raw: bytes) -> None:
        if not raw.endswith(b"\n"):
            self.incomplete = f"it ends within line {number}"
        elif self.incomplete is None:
            self.incomplete = f"line {number} is not understood"

    def _read_maps(self) -> Iterator[str]:
        for _, raw in self.lines:
            self.last = raw
            if not raw.startswith(b"%"):
                yield raw.decode("utf-8", "surrogateescape")
        if not self.last.endswith(b"\n") and self.incomplete is None:
            self.incomplete = "it ends within a line of its mappings"

    def _add(self, match: re.Match[bytes], number: int) -> None:
        counts = (int(match[1]), int(match[2]), int(match[3]), int(match[4]))
        if not match.string.endswith(b"\n") and self.incomplete is None:
            # The last address may be cut.
            self.incomplete = f"it ends within line {number}"
            return
        self.unpadded = self.unpadded or bool(_OUR_RECORD.match(match.string))
        senseless = (not counts[0] and counts[1]) or (not counts[2] and counts[3])
        if senseless or min(counts) < 0:
            self.dropped += 1
            return
        if self.v1_rate is not None:
            counts = _scale_v1(*counts[:2], self.v1_rate) + _scale_v1(*counts[2:], self.v1_rate)
        self.builder.add(self.builder.intern(match[5].strip()), counts, number)

    def _warn_of_losses(self) -> None:
        if self.dropped:
            self.warnings.append(
                f"{self.dropped} records have negative counts, or bytes but no blocks; left out"
            )
        if self.builder.bad_addresses:
            self.warnings.append(f"{self.builder.bad_addresses} addresses cannot be read")


def _scale_v1(blocks: int, size: int, rate: float) -> tuple[int, int]:
    """Return one pair as jeprof scales it: up to a mean size of half the rate."""
    if blocks <= 0:
        return blocks, size
    ratio = (size / blocks) / (rate / 2)
    if 0 < ratio < 1:
        return round(blocks / ratio), round(size / ratio)
    return blocks, size
