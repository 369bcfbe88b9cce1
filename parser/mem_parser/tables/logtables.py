"""The tables of a log of events: its events, and the lives of its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mem_parser.devices import HOST
from mem_parser.estimate import FloatArray, sampling_probability
from mem_parser.interning import distinct
from mem_parser.memlog.events import Events, Kind
from mem_parser.memlog.matching import NO_THREAD, Lives, Matcher, Open
from mem_parser.memlog.run import Run
from mem_parser.memlog.timeline import Stretch, stretch_of
from mem_parser.memlog.weights import weigh
from mem_parser.tables.columns import (
    NO_TEXT,
    Codes,
    Column,
    Columns,
    Mask,
    Maybe,
    ThreadWords,
    Words,
    maybe,
    nothing,
    same,
    words,
)

_KINDS = ("", *(kind.name.lower() for kind in Kind))
_Blocks = TypeVar("_Blocks", Lives, Open)
_ROWS_AT_A_TIME = 1 << 17
_NOT_WEIGHED = (Kind.REFUSED, Kind.MARK)


class LogTables:
    """The tables of one run that need nothing but the log itself.

    ``from_ns``, ``to_ns``: the events after the first moment and up to the last are in them, and
    what has its time from the first to the last; None: all.
    """

    def __init__(
        self, run: Run, file: str, from_ns: int | None = None, to_ns: int | None = None
    ) -> None:
        self._run, self._file = run, file
        self._from_ns = run.begin_ns - 1 if from_ns is None else from_ns
        self._to_ns = run.end_ns if to_ns is None else to_ns
        self._facts = run.file_facts
        threads = [] if run.facts is None else run.facts.threads
        self._threads = ThreadWords((t.row, t.tid, t.name) for t in threads)

    def events(self) -> Iterator[Columns]:
        """Yield the events in order, some at a time. Raises InputFileError."""
        for events in self._stretch().events():
            if len(events):
                yield self._of_events(events)

    def blocks(self) -> Iterator[Columns]:
        """Yield the blocks whose birth or death is an event, some at a time: by the time of their
        end, then what is live. Takes memory for what is live at once. Raises InputFileError.
        """
        matchers: dict[int, Matcher] = {}
        for events in self._stretch().events():
            present = distinct(events.domain).tolist()
            for domain in present:
                own = events if len(present) == 1 else events.take(events.domain == domain)
                if domain not in matchers:
                    frees_fail = self._facts.domains[domain] != HOST
                    matchers[domain] = Matcher(frees_fail=frees_fail)
                matcher = matchers[domain]
                for lives in matcher.add(own):
                    yield from self._of_ended(lives, matcher.take_lost(), domain)
        for domain, matcher in matchers.items():
            lives, alive = matcher.finish()
            yield from self._of_ended(lives, matcher.take_lost(), domain)
            for part in _parts(alive):
                yield self._of_open(part, "live", domain)

    def readings(self) -> Iterator[Columns]:
        """Yield the readings of the process's counters."""
        found = [r for r in self._run.readings if self._is_within(round(r.t_s * 1e9))]
        rows = len(found)
        yield {
            "file": same(self._file, rows),
            "domain": same(HOST, rows),
            "time_ns": np.array([round(r.t_s * 1e9) for r in found], dtype=np.int64),
            "rss_bytes": maybe((r.rss_bytes for r in found), np.int64),
            "live_bytes": nothing(rows, np.float64),
            "live_bytes_variance": nothing(rows, np.float64),
            "samples": nothing(rows, np.int64),
            "device_used_bytes": maybe((r.actual_used_bytes for r in found), np.int64),
            "device_total_bytes": maybe((r.actual_total_bytes for r in found), np.int64),
            "reserved_bytes": maybe((r.reserved_bytes for r in found), np.int64),
        }

    def holes(self) -> Iterator[Columns]:
        """Yield the times of which events are missing."""
        low, high = self._from_ns, self._to_ns
        found = [h for h in self._run.holes if h.from_ns <= high and h.to_ns >= low]
        yield {
            "file": same(self._file, len(found)),
            "from_ns": np.array([h.from_ns for h in found], dtype=np.int64),
            "to_ns": np.array([h.to_ns for h in found], dtype=np.int64),
            "lost": maybe((h.lost for h in found), np.int64),
            "ring": maybe((h.ring for h in found), np.int64),
            "why": words(h.why for h in found),
        }

    def _is_within(self, time_ns: int) -> bool:
        return self._from_ns <= time_ns <= self._to_ns

    def _stretch(self) -> Stretch:
        return stretch_of(self._run, self._from_ns, self._to_ns)

    # -- events ----------------------------------------------------------------------------------

    def _of_events(self, events: Events) -> Columns:
        rows = len(events)
        is_block = events.kind != Kind.MARK
        domain = np.where(is_block, events.domain, 0)
        weighed = ~np.isin(events.kind, _NOT_WEIGHED)
        estimates = self._estimates(events.size_bytes, domain, weighed)
        return {
            "file": same(self._file, rows),
            "time_ns": events.time_ns,
            "kind": Words(events.kind.astype(np.int32), _KINDS),
            "change": events.sign,
            "address": Maybe(events.address, is_block),
            "size_bytes": Maybe(events.size_bytes, is_block),
            **estimates,
            **self._threads.columns(events.thread),
            "domain": self._domains(events.domain, is_block),
            "stack": Maybe(events.stack, is_block),
            "born_ns": Maybe(events.birth_ns, is_block),
            "mark": Maybe(events.address.astype(np.uint32), ~is_block),
        }

    def _domains(self, domain: npt.NDArray[np.uint8], known: Mask) -> Words:
        codes: Codes = np.where(known, domain.astype(np.int32), NO_TEXT).astype(np.int32)
        return Words(codes, self._facts.domains)

    def _estimates(
        self, size_bytes: npt.NDArray[np.uint64], domain: npt.NDArray[Any], known: Mask | None
    ) -> dict[str, Column]:
        """Return what blocks stand for; ``domain`` is one for each."""
        names = ("objects", "objects_variance", "bytes", "bytes_variance")
        found = {name: np.zeros(len(size_bytes)) for name in names}
        present = distinct(domain).tolist()
        for one in present:
            of = slice(None) if len(present) == 1 else domain == one
            parts = _weighed(size_bytes[of], self._facts.rates_bytes[one])
            for name, part in zip(names, parts, strict=True):
                found[name][of] = part
        if known is None or known.all():
            return dict(found)
        return {name: Maybe(values, known) for name, values in found.items()}

    # -- blocks ----------------------------------------------------------------------------------

    def _of_ended(self, lives: Lives, lost: Sequence[Open], domain: int) -> Iterator[Columns]:
        for opened in lost:
            for part in _parts(opened):
                yield self._of_open(part, "lost", domain)
        for of in _parts(lives):
            yield self._of_lives(of, domain)

    def _of_lives(self, lives: Lives, domain: int) -> Columns:
        died = np.ones(len(lives), dtype=np.bool_)
        return {
            **self._of_block(lives, "freed", domain),
            "died_ns": Maybe(lives.died_ns, died),
            "lifetime_ns": Maybe(np.maximum(lives.died_ns - lives.born_ns, 0), died),
            **self._threads_of(lives.died_thread, "died_"),
            "between": Maybe(lives.others, lives.others >= 0),
        }

    def _of_open(self, opened: Open, fate: str, domain: int) -> Columns:
        rows = len(opened.stack)
        nobody = np.full(rows, NO_THREAD, dtype=np.uint32)
        return {
            **self._of_block(opened, fate, domain),
            "died_ns": nothing(rows, np.int64),
            "lifetime_ns": nothing(rows, np.int64),
            **self._threads_of(nobody, "died_"),
            "between": nothing(rows, np.int64),
        }

    def _of_block(self, blocks: Lives | Open, fate: str, domain: int) -> dict[str, Column]:
        rows = len(blocks.stack)
        of = np.full(rows, domain, dtype=np.uint8)
        return {
            "file": same(self._file, rows),
            "domain": same(self._facts.domains[domain], rows),
            "stack": blocks.stack,
            "address": blocks.address,
            "size_bytes": blocks.size_bytes,
            **self._estimates(blocks.size_bytes, of, None),
            "fate": same(fate, rows),
            "born_ns": blocks.born_ns,
            "born_exactly": blocks.exact,
            **self._threads_of(blocks.born_thread, "born_"),
        }

    def _threads_of(self, rows: npt.NDArray[np.uint32], prefix: str) -> dict[str, Column]:
        found = self._threads.columns(rows, prefix)
        row = f"{prefix}thread_row"
        return found | {row: Maybe(rows, rows != NO_THREAD)}


def _parts(blocks: _Blocks) -> Iterator[_Blocks]:
    """Yield the same in parts, each small beside what is live at once; none where it is empty."""
    columns = [getattr(blocks, f.name) for f in fields(blocks)]
    for low in range(0, len(blocks.stack), _ROWS_AT_A_TIME):
        yield type(blocks)(*(column[low : low + _ROWS_AT_A_TIME] for column in columns))


def _weighed(
    size_bytes: npt.NDArray[np.uint64], rate_bytes: float
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Return what each sampled block stands for: objects and bytes, each with its variance.

    Bytes are as `mem_parser.memlog.weights` has them, so that running totals are exact.
    """
    value, variance = weigh(size_bytes, rate_bytes)
    if rate_bytes <= 1:
        return np.ones(len(value)), np.zeros(len(value)), value, variance
    p = sampling_probability(size_bytes, rate_bytes)
    return 1.0 / p, (1.0 - p) / (p * p), value, variance
