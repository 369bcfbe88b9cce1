"""Time in a page: births and deaths of each node between moments, and the timeline.

The page chooses a window of two moments (`mem_parser.memlog.edges`), and adds up in it what it
shows: two look-ups for each node. Of every node and domain there is an entry for each moment up to
which something changed; entries have whole numbers, of sums that were rounded, so that what came
and went again adds up to nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mem_parser.escape import one_line
from mem_parser.estimate import FloatArray
from mem_parser.memlog.edges import edges, nearest
from mem_parser.memlog.gaps import unsure_spans
from mem_parser.memlog.livesites import domain_of, stack_of
from mem_parser.memlog.moments import peaks
from mem_parser.memlog.profiles import jobs_of
from mem_parser.memlog.run import Run
from mem_parser.memlog.series import Series, series
from mem_parser.memlog.steps import Step, steps
from mem_parser.model import BoolArray, IntArray
from mem_parser.tree import BORN, BYTES, COLUMNS, LIVE, Rows, Tree, merge
from mem_parser.web.facts import without_paths
from mem_parser.web.pack import Columns, pack_columns, preorder
from mem_parser.web.prune import prune, shares

MOST_ENTRIES = 1_000_000
"""Entries that are held at once; more are made fewer by joining the smallest nodes."""
_INTERVALS = 1000
_PEAKS = 5
_MOST_SHOWN = 200
_MOST_READINGS = 600
_NS = 1e9
_VARIANCE_PARTS = 256
_OBJECT_PARTS = 16


@dataclass(slots=True)
class LogTimes:
    """A part of a log that a page shows.

    ``domains``: its memories, in the order of the page's. ``kept``: which of the page's stacks its
    filters left; the stacks of each memory are those of the run, one memory after the other.
    """

    run: Run
    first_ns: int
    last_ns: int
    domains: Sequence[int]
    kept: BoolArray

    @property
    def rates_bytes(self) -> list[float]:
        """The mean number of bytes between samples, of each memory."""
        return [self.run.file_facts.rates_bytes[d] for d in self.domains]

    def picture(self) -> Picture:
        """Find the series of the line, and the moments. Raises InputFileError."""
        run, length = self.run, self.last_ns - self.first_ns
        step = max(math.ceil((length + 1) / _INTERVALS), 1)
        jobs = jobs_of(run)
        every = series(run, step, jobs=jobs)
        low = max((self.first_ns - every[0].from_ns) // step, 0)
        high = (self.last_ns - every[0].from_ns) // step + 1
        shown = [every[d].between(low, high) for d in self.domains]
        highest = [peak for one in shown for peak in peaks(one, _PEAKS)]
        marks = [] if run.facts is None else run.facts.marks
        named = [*(peak.time_ns for peak in highest), *(round(m.time_s * _NS) for m in marks)]
        found = edges(
            run, self.first_ns, self.last_ns, named_ns=named, domain=self.domains[0], jobs=jobs
        )
        at_peaks = {nearest(found, peak.time_ns): len(peak.rivals_ns) for peak in highest}
        return Picture(self, shown, found, at_peaks, np.zeros((len(shown), len(found))))


@dataclass(slots=True)
class Picture:
    """The line above the tabs: series of each memory, the moments, and which of them are peaks,
    each with the number of other peaks that are as high within the error.

    ``live``: the estimate of live bytes of each memory at each moment, of all stacks; `with_times`
    fills it.
    """

    log: LogTimes
    every: list[Series]
    moments: IntArray
    peaks: dict[int, int]
    live: FloatArray

    def as_json(self, *, confidential: bool) -> dict[str, Any]:
        """Return the head of the block: times are seconds of the capture. Numbers of moments are
        positions in `moments`; a mark has the nearest.
        """
        log, run = self.log, self.log.run
        low, high = log.first_ns, log.last_ns
        own = (lambda text: one_line(without_paths(text))) if confidential else one_line
        marks = [] if run.facts is None else run.facts.marks
        within = [m for m in marks if low <= m.time_s * _NS <= high]
        rss = [
            r for r in run.readings if r.rss_bytes is not None and low <= r.t_s * _NS <= high
        ]  # fmt: skip
        holes = [h for h in run.holes if h.from_ns <= high and h.to_ns >= low]
        unsure = unsure_spans(run, low, high)
        return {
            "moments": (self.moments / _NS).tolist(),
            "peaks": sorted(self.peaks.items()),
            "live_bytes": [_whole_numbers(one) for one in self.live],
            "from_s": self.every[0].from_ns / _NS,
            "interval_s": self.every[0].interval_ns / _NS,
            "max_bytes": [_whole_numbers(one.max_bytes) for one in self.every],
            "rss": [[r.t_s, r.rss_bytes] for r in rss[:: -(-len(rss) // _MOST_READINGS) or 1]],
            "marks": [
                [m.time_s, nearest(self.moments, round(m.time_s * _NS)), own(m.text), m.kind, m.id]
                for m in within[:_MOST_SHOWN]
            ],
            "marks_left_out": max(len(within) - _MOST_SHOWN, 0),
            "holes": [
                [h.from_ns / _NS, h.to_ns / _NS, h.lost, own(h.why)] for h in holes[:_MOST_SHOWN]
            ],
            "unsure": [[a / _NS, b / _NS] for a, b in unsure[:_MOST_SHOWN]],
            "filtered": not bool(log.kept.all()),
        }


def _whole_numbers(values: FloatArray) -> list[int | None]:
    return [None if math.isnan(value) else round(value) for value in values.tolist()]


def with_times(tree: Tree, picture: Picture, most_entries: int = MOST_ENTRIES) -> Tree:
    """Return the tree with what came and went at its nodes up to each moment.

    Nodes are joined, the smallest first, where entries are too many. Raises InputFileError.
    """
    log = picture.log
    waiting: list[Rows] = []
    count = 0
    for step in steps(log.run, picture.moments.tolist(), log.domains):
        more = np.bincount(_parts_of(step, log), step.live[:, BYTES], len(log.domains))
        picture.live[:, step.moment :] += more[:, None]
        rows = _rows_of(step, tree, log)
        waiting.append(rows)
        count += len(rows)
        if count > most_entries:
            tree.time_rows = found = _joined(waiting)
            while len(found) > most_entries // 2 and len(tree) > 2:
                tree = prune(tree, max(len(tree) * 2 // 3, 2), shares(tree)).tree
                found = found if tree.time_rows is None else tree.time_rows
            waiting, count = [found], len(found)
    tree.time_rows = _joined(waiting)
    return tree


def _rows_of(step: Step, tree: Tree, log: LogTimes) -> Rows:
    part = _parts_of(step, log)
    stack = part * len(log.run.stacks) + stack_of(step.keys)
    kept = log.kept[stack]
    node = tree.leaf[stack[kept]]
    moment = np.full(len(node), step.moment, dtype=np.int64)
    return merge(Rows(node, part[kept], moment, {BORN: step.born[kept], LIVE: step.live[kept]}))


def _parts_of(step: Step, log: LogTimes) -> IntArray:
    return np.searchsorted(np.array(log.domains), domain_of(step.keys))


def _joined(parts: list[Rows]) -> Rows:
    first, *others = parts
    if not others:
        return first
    return Rows(
        np.concatenate([part.node for part in parts]),
        np.concatenate([part.domain for part in parts]),
        np.concatenate([part.thread for part in parts]),
        {kind: np.concatenate([part.counts[kind] for part in parts]) for kind in (BORN, LIVE)},
    )


def pack_times(tree: Tree, head: dict[str, Any], rates_bytes: Sequence[float]) -> str:
    """Return the block `times`: the head, and the entries of each node and domain in the order of
    the page's nodes.

    Columns: `pair.step` and `pair.domain` of each node and domain that has entries, `pair.entries`
    how many; of the entries `moment` (number of the moment, from that of the pair's entry before),
    and of `born` and `live` the increase of bytes, their variance, objects, their variance,
    samples. Where all blocks are samples, objects are samples, and there are no variances.
    Numbers are in `units`.
    """
    rows = tree.time_rows
    assert rows is not None
    _, number = preorder(tree)
    place = number[rows.node]
    order = np.lexsort((rows.thread, rows.domain, place))
    place, domain, moment = place[order], rows.domain[order], rows.thread[order]
    fresh = np.ones(len(order), dtype=np.bool_)
    fresh[1:] = (place[1:] != place[:-1]) | (domain[1:] != domain[:-1])
    first = np.flatnonzero(fresh)
    columns = Columns()
    columns.integers("pair.step", np.diff(place[first], prepend=0))
    columns.integers("pair.domain", domain[first])
    columns.integers("pair.entries", np.diff(np.append(first, len(order))))
    columns.integers("moment", np.where(fresh, moment, np.diff(moment, prepend=0)))
    exact = max(rates_bytes) <= 1
    units = _units(rates_bytes)
    for kind, add in ((BORN, columns.long_integers), (LIVE, columns.signed_integers)):
        for k in range(COLUMNS):
            if exact and k not in (0, COLUMNS - 1):
                continue
            values = rows.counts[kind][order, k] / units[k]
            add(f"{kind}.{k}", _steps_of_rounded(values, first, fresh))
    return pack_columns(head | {"exact": exact, "units": units}, columns)


def _units(rates_bytes: Sequence[float]) -> list[float]:
    """Return in what units each column is: a small part of what one sample adds."""
    rate = min((r for r in rates_bytes if r > 1), default=1.0)
    return [1.0, max(rate * rate / _VARIANCE_PARTS, 1.0), 1 / _OBJECT_PARTS, 1 / _OBJECT_PARTS, 1.0]


def _steps_of_rounded(values: FloatArray, first: IntArray, fresh: BoolArray) -> IntArray:
    """Return the steps of the rounded running sums of each pair."""
    if not len(values):
        return np.zeros(0, dtype=np.int64)
    total = np.cumsum(values)
    pair = np.cumsum(fresh) - 1
    whole: IntArray = np.rint(total - (total - values)[first][pair]).astype(np.int64)
    steps_of: IntArray = np.diff(whole, prepend=0)
    steps_of[first] = whole[first]
    return steps_of
