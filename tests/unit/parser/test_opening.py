"""What reports open with: the answers in one sentence each, in words that hold."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mem_parser.leaks.findings import Verdict
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.model import PeakSource, Profile, Reading
from mem_parser.processfacts import Memory
from mem_parser.reports.opening import Sentence, opening, opening_lines, rss_at
from mem_parser.symbols.table import Symbols
from mem_parser.unseen import BY_MMAP, NOTE
from reportview import named
from simulated import Program, burst, leak, lru, saturating


def at_the_peak(
    profile: Profile, *, rss: tuple[tuple[float, int], ...] = (), most: int | None = None
) -> Profile:
    """The profile of a program that was seen to its end, and had all in use at its peak."""
    sites = dataclasses.replace(
        profile.sites, peak_blocks=profile.sites.inuse_blocks, peak_bytes=profile.sites.inuse_bytes
    )
    capture = dataclasses.replace(
        profile.capture, peak_at_s=4.0, peak_source=PeakSource.SAMPLER, from_start=True,
        end="exited 0", duration_s=10.0, memory=Memory(peak_rss_bytes=most),
    )  # fmt: skip
    series = [Reading(t, 0.0, 0.0, 0, value) for t, value in rss]
    return dataclasses.replace(profile, sites=sites, capture=capture, series=series)


def texts(profile: Profile, symbols: Symbols) -> list[str]:
    return [one.text for one in opening(profile, symbols, None)]


@pytest.mark.parametrize(("rss", "most", "beside"), [
    ((), None, ""),
    (((4.2, 5000),), None, " (RSS then 4.883 KiB)"),
    (((1.0, 5000),), 6000, " (RSS at most 5.859 KiB)"),
    (((4.0, 100),), 6000, " (RSS at most 5.859 KiB)"),
    (((4.0, 100),), 120, ""),
    (((3.9, 4000), (4.4, 5000)), 6000, " (RSS then 3.906 KiB)"),
])  # fmt: skip
def test_the_rss_beside_a_peak_is_of_that_moment(
    rss: tuple[tuple[float, int], ...], most: int | None, beside: str
) -> None:
    profile, symbols = named()
    first, second = texts(at_the_peak(profile, rss=rss, most=most), symbols)
    assert first == f"peak 143 B at 4.0 s{beside}, 70 % of it net_read"
    assert second == "in use at the end 143 B"


@pytest.mark.parametrize(("rss", "end", "running", "is_said"), [
    (64 << 20, "deadline", False, True), (64 << 20, "deadline", True, False),
    (64 << 20, "exited 0", False, False), (15 << 20, "deadline", False, False),
])  # fmt: skip
def test_an_rss_that_the_heap_does_not_explain_is_said(
    rss: int, end: str, running: bool, is_said: bool
) -> None:
    profile, symbols = named()
    capture = dataclasses.replace(profile.capture, end=end, memory=Memory(rss_bytes=rss))
    profile = dataclasses.replace(profile, capture=capture)
    found = [one for one in opening(profile, symbols, None, running=running) if one.kind == "rss"]
    text = "RSS 64.00 MiB, 0 % of it heap in use of this capture"
    assert found == ([Sentence("rss", text, "rss")] if is_said else [])


def test_a_moment_without_a_reading_near_has_no_rss() -> None:
    profile = at_the_peak(named()[0], rss=((1.0, 7), (9.0, 8)))
    assert rss_at(profile, 1.4) == 7
    assert rss_at(profile, 1.6) is None
    assert rss_at(profile, None) is None


def test_what_is_in_use_is_said_with_its_largest_owner() -> None:
    assert texts(*named()) == ["in use 143 B, 70 % of it net_read"]
    profile, symbols = named()
    empty = profile.where(np.zeros(len(profile.sites), dtype=np.bool_))
    assert texts(empty, symbols) == ["nothing was allocated"]
    capture = dataclasses.replace(profile.capture, notes=[f"{NOTE}it is a jemalloc"])
    unseen = dataclasses.replace(empty, capture=capture)
    assert texts(unseen, symbols) == ["no sample: it is a jemalloc"]
    capture = dataclasses.replace(profile.capture, notes=[f"PHP {BY_MMAP}", f"{NOTE}why"])
    first = texts(dataclasses.replace(profile, capture=capture), symbols)[:2]
    assert first == [f"PHP {BY_MMAP}", f"{NOTE}why"]
    [freed] = opening(empty, symbols, None, profile)
    assert (freed.text, freed.command) == ("allocated 143 B, all freed again", "summary --alloc")


def test_leaks_growth_and_caches_are_said_first_and_last() -> None:
    random = np.random.default_rng(3)
    cases = {
        "leak": Program([leak(random, 100, "grow"), lru(random, 900, 5, "ring")]),
        "grows": Program([leak(random, 100, "grow"), lru(random, 600, 45, "ring")]),
        "no leak": Program([burst(random, 1.0, 3000, "load")]),
    }
    for kind, program in cases.items():
        profile, symbols = program.capture(np.random.default_rng(1))
        found = opening(profile, symbols, find_leaks(profile, symbols))
        assert found[0].kind == kind, found
        assert found[0].command == ("" if kind == "no leak" else "leaks")
        assert [s.kind for s in found].count("in use") == 1
        if kind == "leak":
            assert found[0].text.startswith("1 leak, ")
            assert found[-1].text.startswith("1 cache: ring, ")
        if kind == "grows":
            assert found[0].text == "grow grows; 60 s is too short to tell: watch 2 min"


def test_lost_samples_are_said_before_any_number_where_they_are_many() -> None:
    profile, symbols = named()
    capture = dataclasses.replace(profile.capture, samples=60, lost={"live_full": 40})
    told = opening(dataclasses.replace(profile, capture=capture), symbols, None)
    assert told[0].text == "40.0 % of the samples were lost: the numbers are too low"
    few = dataclasses.replace(capture, samples=9960)
    assert opening(dataclasses.replace(profile, capture=few), symbols, None) == told[1:]


def test_small_objects_of_python_that_were_not_seen_are_told_first_with_the_cure() -> None:
    profile, symbols = named()
    for pymalloc, said in ((True, 1), (False, 0), (None, 0)):
        capture = dataclasses.replace(profile.capture, pymalloc=pymalloc)
        first, *rest = texts(dataclasses.replace(profile, capture=capture), symbols)
        assert ("small objects of Python are not in the numbers" in first) == bool(said)
        assert "mem_profiler run" in first or not said
        assert [first, *rest][said:] == texts(profile, symbols)


def test_several_that_grow_are_told_in_the_plural() -> None:
    random = np.random.default_rng(3)
    sources = [leak(random, 100, name, duration=20.0) for name in ("grow", "rise")]
    profile, symbols = Program(sources, duration=20.0).capture(random)
    profile.capture.end = "deadline"
    first = opening(profile, symbols, find_leaks(profile, symbols))[0]
    assert first.text.endswith(" and 1 more grow; 20 s is too short to tell: watch 60 s")


def test_a_leak_is_not_all_where_most_has_no_verdict() -> None:
    random = np.random.default_rng(3)
    grows = saturating(random, 4000, 40, "slower")
    profile, symbols = Program([leak(random, 100, "grow"), grows]).capture(np.random.default_rng(1))
    report = find_leaks(profile, symbols)
    leads, follows = opening(profile, symbols, report)[:2]
    assert (leads.kind, follows.kind, follows.command) == ("leak", "no verdict", "leaks")
    assert follows.text.startswith("no verdict on slower, ")
    none = dataclasses.replace(
        report, findings=[f for f in report.findings if f.verdict is not Verdict.LEAK]
    )
    assert none.headline == "no verdict on leaks"
    assert opening(profile, symbols, none)[0].kind == "no verdict"


def test_the_sampler_s_part_of_the_rss_is_said_where_it_is_much() -> None:
    profile, symbols = named()
    profile = at_the_peak(profile, rss=((4.2, 5000),))
    profile.capture.memory = Memory(segment_bytes=2500, peak_rss_bytes=6000)
    assert "(RSS then 4.883 KiB, up to 2.441 KiB of it the sampler's)" in texts(profile, symbols)[0]
    # Less than both: read when the peak was over.
    profile.capture.memory = Memory(segment_bytes=4900, peak_rss_bytes=6000)
    assert "(RSS at most 5.859 KiB, up to 4.785 KiB of it" in texts(profile, symbols)[0]


def test_of_a_program_that_is_watched_a_higher_peak_is_said_and_that_it_is_too_early() -> None:
    profile, symbols = Program([burst(np.random.default_rng(3), 1.0, 3000, "load")]).capture(
        np.random.default_rng(1)
    )
    report = find_leaks(profile, symbols)
    early = dataclasses.replace(profile.capture, end="running", duration_s=3.0)
    running = dataclasses.replace(profile, capture=early)

    def said(of: Profile, **more: bool) -> list[str]:
        return [one.text for one in opening(of, symbols, find_leaks(of, symbols), **more)]

    assert said(running, running=True)[0] == "no leak seen; 3 s is too short to tell: watch 60 s"
    assert "too short" not in said(running)[0]
    assert opening(profile, symbols, report, running=True)[0].kind == "no leak"
    sites = profile.sites
    for times, is_said in ((1, False), (2, True)):
        peak = dataclasses.replace(
            sites, peak_blocks=sites.inuse_blocks * times, peak_bytes=sites.inuse_bytes * times
        )
        kept = dataclasses.replace(early, peak_at_s=2.0, peak_source=PeakSource.SAMPLER)
        higher = dataclasses.replace(profile, sites=peak, capture=kept)
        texts = said(higher, running=True)
        assert any(text.startswith("peak ") for text in texts) is is_said
        assert not any(text.startswith("peak ") for text in said(higher))
        if is_said:
            assert texts[1].endswith(" at 2.0 s, 100 % of it load")
            assert texts[2].startswith("in use ")


def test_a_command_stands_at_the_end_of_its_line_or_below_it() -> None:
    short = Sentence("leak", "1 leak, in f", "leaks")
    long = Sentence("leak", f"1 leak, in {'f' * 60} {'g' * 30}", "leaks")
    lines = list(opening_lines([short, long], "mem_parser {} x.heap", 80))
    assert lines[0] == f"1 leak, in f{'mem_parser leaks x.heap':>68}"
    assert lines[1:] == [f"1 leak, in {'f' * 60}", f"  {'g' * 30}", "  mem_parser leaks x.heap"]
    assert max(map(len, lines)) == 80
