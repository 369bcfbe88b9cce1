"""Limits of the heap where the program has memory beside it."""

from __future__ import annotations

import dataclasses

import pytest

from budget_profiles import Made, Row
from mem_parser.budget import Budget, Limit, Measure, Report, Site, Subject, check, parse_match
from mem_parser.devices import Device
from mem_parser.model import Reading
from mem_parser.processfacts import Memory
from mem_parser.unseen import ALL_ENDED, BY_MMAP, MMAP_CURE

MIB = 1 << 20
LIMITS = (
    Limit(Measure.PEAK, 20.0 * MIB, text="20 MiB"),
    Limit(Measure.INUSE, 20.0 * MIB, text="20 MiB"),
)
HALF = Limit(Measure.PEAK, 64.0 * MIB, text="64 MiB")


def heap(anon: int, mapped: int | None = None) -> Subject:
    """A capture of 4 MiB in blocks beside so much anonymous memory; sizes are MiB."""
    made = Made([Row(("f", "main"), 64, 65536)], rate=1).subject("h.heap")
    size = None if mapped is None else mapped * MIB
    made.profile.series = [
        Reading(0.1 * k, 0.0, 0.0, 0, None, anon_bytes=anon * MIB, mapped_bytes=size)
        for k in range(4)
    ]
    made.profile.capture.memory = Memory(peak_rss_bytes=(anon + 2) * MIB, file_bytes=2 * MIB)
    return made


def mapped(kind: str, size: int, **facts: object) -> Subject:
    made = Made([Row(("g", "main"), size, MIB)], rate=1).subject("/x/h.mmap.heap")
    made.profile.domains = ["mmap"]
    made.profile.capture.device = Device("mmap", None, kind)
    made.profile.capture.memory = Memory(peak_rss_bytes=100 * MIB)
    made.profile.capture = dataclasses.replace(made.profile.capture, **facts)  # type: ignore[arg-type]
    return made


def site(*limits: Limit, match: str = "domain:mmap") -> Site:
    return Site(tuple(map(parse_match, match.split(" and "))), limits)


def reasons(report: Report) -> list[str]:
    return [result.reason for _, result in report.results]


@pytest.mark.parametrize(
    ("anon", "beside", "more"),
    [
        (44, mapped("mapped", 40), "40.00 MiB"),
        (9, mapped("mapped", 40), ""),  # touched hardly any of it
        (24, mapped("mapped", 400), "up to 20.00 MiB"),
        (9, mapped("mapped-shared", 40), "40.00 MiB"),
        (44, mapped("mapped-file", 40), ""),
        (44, mapped("mapped-reserved", 40), ""),
        (44, mapped("mapped", 40, pid=7), ""),  # of another process
    ],
)
def test_mappings_that_no_limit_is_for_count(anon: int, beside: Subject, more: str) -> None:
    budget = Budget(LIMITS)
    told = reasons(check([(heap(anon), budget), (beside, budget)]))
    said = f"{more} more in mappings (h.mmap.heap): limit them by a site with match"
    assert [reason.startswith(said) for reason in told] == [bool(more)] * 2
    assert all(bool(reason) == bool(more) for reason in told)


@pytest.mark.parametrize(
    ("more", "doubted"),
    [
        (Budget(LIMITS, (site(HALF),)), False),
        (Budget(LIMITS, (site(HALF, match="domain:mmap and function:g"),)), True),
        (Budget(LIMITS, (site(Limit(Measure.ALLOC, 1e9)),)), True),
        (Budget((*LIMITS, Limit(Measure.RSS, 1e9))), True),
    ],
)
def test_a_limit_of_all_mappings_is_one_for_them_but_none_of_what_is_resident(
    more: Budget, *, doubted: bool
) -> None:
    told = reasons(check([(heap(44), more), (mapped("mapped", 40), more)]))
    assert any("more in mappings" in reason for reason in told) == doubted


def test_mappings_whose_file_is_elsewhere_count_too() -> None:
    told = reasons(check([(heap(44, 40), Budget(LIMITS))]))
    assert all(one.startswith("40.00 MiB more in mappings (their file is not") for one in told)
    assert reasons(check([(heap(44), Budget(LIMITS))])) == ["", ""]


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (None, "no capture of mappings: mem_profiler run --device mmap makes one"),
        (40, "the file of the program's mappings is not among these"),
        (0, None),
    ],
)
def test_a_site_of_mappings_passes_only_if_somebody_looked_for_them(
    size: int | None, reason: str | None
) -> None:
    budget = Budget((HALF,), (site(HALF),))
    report = check([(heap(9, size), budget)])
    assert reasons(report) == ["", *filter(None, [reason])]
    assert report.exit_code == (7 if reason else 0)
    noted = [] if reason else ["domain:mmap: no capture of such memory"]
    assert report.captures[0].notes == noted


def test_shared_memory_and_strays_without_a_file_leave_what_they_may_hold_undecided() -> None:
    one = heap(5)
    memory, notes = one.profile.capture.memory, one.profile.capture.notes
    one.profile.capture.memory = dataclasses.replace(memory, mapped_shared_bytes=17 * MIB)
    told = "17.00 MiB of shared memory beside it, which is in no file"
    of_file = dataclasses.replace(LIMITS[0], where="c.toml:2:1")
    more = Budget((*LIMITS, of_file, Limit(Measure.RSS, 1e9)))
    cured = f"{told}; mem_profiler run --device mmap captures it"
    assert reasons(check([(one, more)])) == [told, told, cured, ""]
    one.profile.capture.memory = dataclasses.replace(
        memory, mapped_shared_bytes=15 * MIB, tree_peak_rss_bytes=30 * MIB
    )
    notes.append(f"child processes {ALL_ENDED}")
    peak, inuse, cured = reasons(check([(one, Budget((*LIMITS, of_file)))]))
    assert peak == "a child process without the sampler may have had 30.00 MiB resident"
    assert cured == f"{peak}; limits in [target.NAME] alone, none in [budget], leave it out"
    assert not inuse


def started(anon: int, shmem: int = 0, of_child: int = 0) -> Subject:
    """A capture of 4 MiB in blocks, of a program that began with 1 MiB of anonymous memory."""
    made = heap(anon)
    capture = made.profile.capture
    capture.from_start = True
    made.profile.series = [
        dataclasses.replace(one, shmem_bytes=shmem * MIB) for one in made.profile.series
    ]
    capture.memory = dataclasses.replace(
        capture.memory,
        peak_rss_bytes=(anon + 2 + shmem) * MIB,
        shmem_bytes=shmem * MIB,
        segment_bytes=MIB,
        start_anon_bytes=MIB,
        child_peak_rss_bytes=of_child * MIB,
    )
    return made


@pytest.mark.parametrize(
    ("anon", "shmem", "limit", "said"),
    [
        (8, 1, 5, ""),  # pages of malloc, code and stacks
        (11, 1, 10, ""),  # more than those, and below the limit
        (16, 1, 10, "up to 11.00 MiB of anonymous or shared memory beside it"),
        (5, 9, 10, "8.000 MiB of shared memory beside it"),
        (9, 5, 10, "up to 8.000 MiB of anonymous or shared memory beside it"),
        (16, 1, 16, ""),
    ],
)
def test_memory_beside_the_heap_counts_against_whatever_limit(
    anon: int, shmem: int, limit: int, said: str
) -> None:
    budget = Budget((Limit(Measure.PEAK, limit * MIB, text="x", where="c.toml:2:1"),))
    [told] = reasons(check([(started(anon, shmem), budget)]))
    assert told.partition(", which is in no file; mem_profiler run --device mmap")[0] == said


@pytest.mark.parametrize(("of_child", "said"), [(5, ""), (6, "may have had 6.000 MiB resident")])
def test_a_child_counts_against_the_limit_however_small(of_child: int, said: str) -> None:
    budget = Budget((Limit(Measure.PEAK, 5.0 * MIB, text="5 MiB"),))
    [told] = reasons(check([(started(5, 1, of_child), budget)]))
    assert said in told
    assert bool(told) == bool(said)


def test_a_program_that_ended_abruptly_may_have_touched_all_that_it_mapped() -> None:
    one = heap(9)
    one.profile.capture.memory = dataclasses.replace(
        one.profile.capture.memory, rss_bound_bytes=54 * MIB
    )
    told = reasons(check([(one, Budget(LIMITS)), (mapped("mapped", 24), Budget(LIMITS))]))
    assert told[0].startswith("24.00 MiB more in mappings")


def test_a_mark_names_no_option_of_run() -> None:
    one = started(40)
    one.profile.capture.notes = [f"the program {BY_MMAP}; {MMAP_CURE}"]
    for where, said in (("", ""), ("c.toml:2:1", f"; {MMAP_CURE}")):
        limit = dataclasses.replace(LIMITS[0], where=where)
        assert reasons(check([(one, Budget((limit,)))])) == [f"the program {BY_MMAP}{said}"]
