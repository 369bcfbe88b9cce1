"""Prometheus metrics of each captured process.

Every scrape reads each captured process once, by the reader that pages have too. Labels come from
the target: they are one line, of limited length, and there are at most `MOST_FUNCTIONS` functions a
process. A function's bytes are its own (*flat*), as in `mem_parser top`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from mem_cli.serve.past import Had, Snapshot
from mem_parser.escape import json_ascii, one_line
from mem_parser.model import MISSING_SAMPLES, Count, Profile, Unit
from mem_parser.python.labelframes import without_labels
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_profiler.live.watched import State

MOST_FUNCTIONS = 50
LONGEST_LABEL = 200
MOST_DOMAINS = 1 + 64
MOST_CAUSES = 64
MOST = float(1 << 70)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Numbers:
    """Of one process and moment: ``domains`` by name, ``functions`` with their own bytes."""

    pid: int
    comm: str
    capturing: bool
    rate_bytes: float
    t_s: float
    samples: int
    lost: dict[str, int]
    rss_bytes: int | None
    peak_bytes: float | None
    domains: dict[str, InDomain]
    functions: Sequence[tuple[str, float]]


@dataclass(frozen=True)
class InDomain:
    """Estimates of one memory."""

    inuse_bytes: float
    inuse_error_bytes: float
    inuse_objects: float
    allocated_bytes: float | None
    allocated_objects: float | None
    resident_bytes: float | None = None


def numbers(snapshot: Snapshot, most_functions: int) -> Numbers | None:
    """Return the numbers of a snapshot; None: the process has had no capture."""
    had = snapshot.had
    if had is None:
        return None
    whole = had.domains or had.profile
    capture = had.profile.capture
    last = had.profile.series[-1] if had.profile.series else None
    rss = capture.memory.rss_bytes
    return Numbers(
        pid=snapshot.pid,
        comm=capture.comm,
        capturing=snapshot.state is State.CAPTURED,
        rate_bytes=had.profile.rate_bytes,
        t_s=snapshot.t_s,
        samples=capture.samples or 0,
        lost=dict(capture.lost),
        rss_bytes=rss if rss is not None else last.rss_bytes if last is not None else None,
        peak_bytes=capture.peak_bytes,
        domains={name: _in_domain(whole, k) for k, name in enumerate(whole.domains)},
        functions=_functions(had, most_functions),
    )


def _in_domain(whole: Profile, index: int) -> InDomain:
    part = whole.where(whole.sites.domain == index)
    inuse = part.total(Count.INUSE, Unit.SPACE)
    alloc = part.has(Count.ALLOC)
    resident = whole.parts.get(whole.domains[index], whole).has(Count.RESIDENT)
    return InDomain(
        inuse.value,
        inuse.std_error,
        part.total(Count.INUSE, Unit.OBJECTS).value,
        part.total(Count.ALLOC, Unit.SPACE).value if alloc else None,
        part.total(Count.ALLOC, Unit.OBJECTS).value if alloc else None,
        part.total(Count.RESIDENT, Unit.SPACE).value if resident else None,
    )


def _functions(had: Had, most: int) -> list[tuple[str, float]]:
    if not most:
        return []
    rows = rows_of(sum_stacks(had.profile, without_labels(had.symbols)))
    rows.sort(key=lambda row: -row.flat.value)
    found: dict[str, float] = {}
    for row in rows[:most]:
        if row.flat.value > 0:
            label = _label(row.name)
            found[label] = found.get(label, 0.0) + row.flat.value
    return list(found.items())


def _label(text: str) -> str:
    shown = one_line(text)
    return shown if len(shown) <= LONGEST_LABEL else f"{shown[: LONGEST_LABEL - 1]}…"


def packed(found: Numbers | None) -> bytes:
    """Return numbers as JSON, for `unpacked`."""
    return json_ascii(None if found is None else dataclasses.asdict(found)).encode()


def unpacked(pid: int, data: bytes) -> Numbers | None:
    """Return the numbers of a process from JSON that may hold anything. Raises ValueError."""
    try:
        told = json.loads(data)
        return None if told is None else _checked(pid, told)
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise ValueError("the numbers of a process make no sense") from None


def _checked(pid: int, told: dict[str, Any]) -> Numbers:
    domains = list(told["domains"].items())[:MOST_DOMAINS]
    functions = list(told["functions"])[:MOST_FUNCTIONS]
    lost = list(told["lost"].items())[:MOST_CAUSES]
    return Numbers(
        pid=pid,
        comm=_label(str(told["comm"])),
        capturing=bool(told["capturing"]),
        rate_bytes=_number(told["rate_bytes"]),
        t_s=_number(told["t_s"]),
        samples=int(_number(told["samples"])),
        lost={_label(str(cause)): int(_number(count)) for cause, count in lost},
        rss_bytes=None if told["rss_bytes"] is None else int(_number(told["rss_bytes"])),
        peak_bytes=_optional(told["peak_bytes"]),
        domains={
            _label(str(name)): InDomain(
                _number(one["inuse_bytes"]),
                _optional(one["inuse_error_bytes"], nan=True),
                _number(one["inuse_objects"]),
                _optional(one["allocated_bytes"]),
                _optional(one["allocated_objects"]),
                _optional(one["resident_bytes"]),
            )
            for name, one in domains
        },
        functions=[(_label(str(name)), _number(size)) for name, size in functions],
    )


def _number(told: Any) -> float:
    if isinstance(told, bool) or not isinstance(told, int | float) or not abs(told) < MOST:
        raise ValueError
    return float(told)


def _optional(told: Any, *, nan: bool = False) -> Any:
    """Return a number or None, with ``nan`` also one that is unknown."""
    if told is None or (nan and told != told):  # noqa: PLR0124 - NaN
        return told
    return _number(told)


@dataclass
class Scrape:
    """What one scrape found: ``unread`` are processes that could not be read, with their names."""

    read: Sequence[Numbers] = ()
    unread: Sequence[tuple[int, str]] = ()
    left_out: int = 0


class _Families(Collector):
    """The metrics of a scrape."""

    def __init__(self, scrape: Scrape) -> None:
        self.scrape = scrape

    def collect(self) -> Iterable[Metric]:
        """Yield them."""
        yield from self._of_processes()
        yield from self._of_domains()
        yield from self._of_server()

    def _rows(self) -> Iterator[tuple[list[str], Numbers]]:
        for one in self.scrape.read:
            yield [str(one.pid), _label(one.comm)], one

    def _of_processes(self) -> Iterator[Metric]:
        process = ("pid", "comm")
        up = GaugeMetricFamily(
            "mem_profiler_readable", "Whether the process could be read.", labels=process
        )
        for labels, _ in self._rows():
            up.add_metric(labels, 1)
        for pid, name in self.scrape.unread:
            up.add_metric([str(pid), _label(name)], 0)
        yield up
        gauges: list[tuple[str, str, Any]] = [
            ("capturing", "Whether a capture runs.", lambda n: float(n.capturing)),
            (
                "sampling_rate_bytes",
                "Mean number of bytes between samples.",
                lambda n: n.rate_bytes,
            ),
            ("capture_seconds", "How long the capture has run.", lambda n: n.t_s),
            ("resident_bytes", "Resident memory of the process (RSS).", lambda n: n.rss_bytes),
            (
                "peak_inuse_bytes",
                "Highest estimate of bytes in use of the capture.",
                lambda n: n.peak_bytes,
            ),
        ]
        for name, about, value in gauges:
            family = GaugeMetricFamily(f"mem_profiler_{name}", about, labels=process)
            for labels, one in self._rows():
                if (number := value(one)) is not None:
                    family.add_metric(labels, number)
            yield family
        samples = CounterMetricFamily(
            "mem_profiler_samples", "Sampled blocks of the capture.", labels=process
        )
        lost, incomplete = (
            CounterMetricFamily(f"mem_profiler_{name}", about, labels=(*process, "cause"))
            for name, about in (
                ("lost", "Samples that were lost."),
                ("incomplete", "Samples that count, of which a detail was lost."),
            )
        )
        functions = GaugeMetricFamily(
            "mem_profiler_function_inuse_bytes",
            "Estimated bytes in use that the function itself allocated; the largest functions.",
            labels=(*process, "function"),
        )
        for labels, one in self._rows():
            samples.add_metric(labels, one.samples)
            for cause, count in one.lost.items():
                counter = lost if cause in MISSING_SAMPLES else incomplete
                counter.add_metric([*labels, _label(cause)], count)
            for name, size in one.functions:
                functions.add_metric([*labels, name], size)
        yield from (samples, lost, incomplete, functions)

    def _of_domains(self) -> Iterator[Metric]:
        labelled = ("pid", "comm", "domain")
        gauge, counter = GaugeMetricFamily, CounterMetricFamily
        in_all = "since the capture began"
        kinds: list[tuple[type[Any], str, str, Any]] = [
            (gauge, "inuse_bytes", "Estimated bytes in use.", lambda d: d.inuse_bytes),
            (gauge, "inuse_bytes_std_error", "Standard error of the estimate.",
             lambda d: d.inuse_error_bytes),
            (gauge, "inuse_objects", "Estimated blocks in use.", lambda d: d.inuse_objects),
            (counter, "allocated_bytes", f"Estimated bytes allocated {in_all}.",
             lambda d: d.allocated_bytes),
            (counter, "allocated_objects", f"Estimated blocks allocated {in_all}.",
             lambda d: d.allocated_objects),
            (gauge, "inuse_resident_bytes", "Bytes in use that are in RAM: of mappings.",
             lambda d: d.resident_bytes),
        ]  # fmt: skip
        for kind, name, about, value in kinds:
            family = kind(f"mem_profiler_{name}", about, labels=labelled)
            for labels, one in self._rows():
                for domain, found in one.domains.items():
                    number = value(found)
                    if number is not None and number == number:  # noqa: PLR0124 - not NaN
                        family.add_metric([*labels, _label(domain)], number)
            yield family

    def _of_server(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "mem_profiler_processes_left_out", "Captured processes beyond those that are read.",
            value=self.scrape.left_out,
        )  # fmt: skip


def text(scrape: Scrape) -> bytes:
    """Return a scrape in Prometheus' text format, with what the server itself uses."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(scrape))
    ProcessCollector(namespace="mem_profiler_serve", registry=registry)
    return generate_latest(registry)
