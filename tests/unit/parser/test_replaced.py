"""Growth that may replace blocks older than the capture is no sure leak."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from budget_profiles import one
from mem_parser.budget import Limit, Measure, Subject
from mem_parser.filters import Filters
from mem_parser.heapfile.writer import write_heap
from mem_parser.leaks.findings import LeakReport, Verdict
from mem_parser.leaks.judged import narrow
from mem_parser.leaks.verdicts import find_leaks
from mem_parser.model import Module, Profile, Reading
from mem_parser.processfacts import Grown, Memory
from mem_parser.reports.opening import opening
from mem_parser.rss import account
from mem_parser.symbols.table import Symbols
from parser_run import parse
from simulated import Program, Source, leak

MIB = 1 << 20
CACHE, LEAK = 90.0, 60.0
"""Blocks of 4 KiB a second."""


def captured(
    *sources: Source, grows: float, rate: int = 1024, swap_bytes: int = 0
) -> tuple[Profile, Symbols]:
    """The capture of a minute of a program whose memory grows by so many blocks a second."""
    random = np.random.default_rng(5)
    profile, symbols = Program(list(sources), rate).capture(random)
    profile.capture.end = "deadline"
    profile.capture.memory = Memory(rss_bytes=90 * MIB, swap_bytes=swap_bytes)
    moved = random.uniform(0, 256 << 10, 600)
    profile.series = [
        Reading(t_s, 0.0, 0.0, 0, size + MIB, anon_bytes=size)
        for t_s, size in (
            (k / 10, int(80 * MIB + grows * 4096 * k / 10 + moved[k])) for k in range(600)
        )
    ]
    return profile, symbols


def full_cache() -> Source:
    """Its entries live longer than the minute, so no free of one is seen."""
    return leak(np.random.default_rng(1), CACHE, "get")


def true_leak(name: str = "session", blocks: float = LEAK) -> Source:
    return leak(np.random.default_rng(2), blocks, name)


def verdicts(report: LeakReport) -> dict[str, Verdict]:
    return {f.frames[0].function: f.verdict for f in report.findings}


def test_a_full_cache_that_was_there_before_the_capture_is_no_leak() -> None:
    report = find_leaks(*captured(full_cache(), grows=0.0))
    assert verdicts(report) == {"get": Verdict.INCONCLUSIVE}
    assert report.headline.startswith("no verdict on leaks; ")
    assert report.headline.endswith("may replace blocks older than the capture: watch 5 min")
    [finding] = report.findings
    assert "may replace ones older than the capture: watch 5 min" in finding.evidence
    assert any("anonymous memory grew by" in note for note in report.notes)


@pytest.mark.parametrize(("grown_mib", "verdict"), [(1, Verdict.INCONCLUSIVE), (22, Verdict.LEAK)])
def test_of_a_capture_by_hand_memory_is_known_at_both_ends(
    grown_mib: int, verdict: Verdict
) -> None:
    profile, symbols = captured(full_cache(), grows=0.0)
    profile.series = profile.series[-1:]
    sizes = {"start_anon_bytes": 80 * MIB, "anon_bytes": (80 + grown_mib) * MIB}
    profile.capture.memory = dataclasses.replace(profile.capture.memory, **sizes)
    assert verdicts(find_leaks(profile, symbols)) == {"get": verdict}


def test_no_check_fails_or_passes_for_what_may_be_replaced(tmp_path: Path) -> None:
    profile, symbols = captured(full_cache(), grows=0.0)
    file = tmp_path / "x.heap"
    file.write_bytes(write_heap(profile))
    done = parse("leaks", "--fail-on", "leak", file)
    result = one(Subject(profile, symbols, "x"), Limit(Measure.LEAKS, 0.0, text="0"))
    assert done.returncode == 7
    assert str(result.verdict) == "inconclusive"
    assert "may replace blocks older than the capture" in result.reason


def test_leaks_beside_a_full_cache_are_told_with_what_adds_nothing() -> None:
    leaks = true_leak(), true_leak("other", 3 * LEAK)
    report = find_leaks(*captured(full_cache(), *leaks, grows=4 * LEAK))
    assert verdicts(report) == {
        "other": Verdict.LEAK, "get": Verdict.INCONCLUSIVE, "session": Verdict.INCONCLUSIVE,
    }  # fmt: skip
    assert "more without a verdict; at least" in report.headline
    assert report.headline.endswith("of all this adds nothing to memory")


def test_no_more_is_called_a_leak_than_memory_grew_by() -> None:
    # Half of it replaces: more than a third surely adds to memory.
    report = find_leaks(*captured(true_leak(), grows=LEAK / 2))
    assert verdicts(report) == {"session": Verdict.LEAK}
    assert report.headline.startswith("1 leak, at most 7.")
    assert "MiB/min, in session" in report.headline


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("changes", [{}, {"from_start": True}, {"end": "exited"}, {"swap": True}])
def test_a_leak_that_memory_does_not_contradict_stays_one(
    changes: dict[str, object], seed: int
) -> None:
    swap = 30 * MIB if "swap" in changes else 0
    facts = {name: value for name, value in changes.items() if name != "swap"}
    source = leak(np.random.default_rng(seed), LEAK, "session")
    profile, symbols = captured(source, grows=0.0 if changes else LEAK, swap_bytes=swap)
    profile.capture = dataclasses.replace(profile.capture, **facts)  # type: ignore[arg-type]
    report = find_leaks(profile, symbols)
    assert verdicts(report) == {"session": Verdict.LEAK}
    assert report.excess is None
    assert report.headline.startswith("1 leak, 1")


def test_a_part_of_a_file_is_judged_by_the_memory_of_all() -> None:
    profile, symbols = captured(full_cache(), true_leak(blocks=2 * LEAK), grows=2 * LEAK)
    excess = find_leaks(profile, symbols).excess
    part = narrow(profile, symbols, Filters(focus=("^get$",)))
    alone = find_leaks(part.profile, part.symbols)
    report = find_leaks(part.profile, part.symbols, excess=excess)
    assert verdicts(alone) == {"get": Verdict.LEAK}
    assert verdicts(report) == {"get": Verdict.INCONCLUSIVE}


def test_the_opening_says_how_little_of_the_growth_of_rss_the_leaks_are() -> None:
    profile, symbols = captured(true_leak(), grows=10 * LEAK)

    def told() -> list[str]:
        return [s.text for s in opening(profile, symbols, find_leaks(profile, symbols))]

    assert any(
        text.startswith("RSS 90.00 MiB grows by 14") and "the leaks are at most 1" in text
        for text in told()
    )
    profile, symbols = captured(true_leak(), grows=LEAK)
    assert not any("grows by" in text for text in told())
    kept = true_leak()
    begun = Source(kept.names, kept.size, kept.born / 12, kept.died)  # grew in the first seconds
    profile, symbols = captured(begun, grows=10 * LEAK)
    assert any("grows by 14" in text and "no leak explains it" in text for text in told())
    # All growth is of buffers that the processes of a service share.
    profile.series = [
        dataclasses.replace(r, anon_bytes=0, shmem_bytes=(r.rss_bytes or 0) - 5)
        for r in profile.series
    ]
    assert any(text.endswith("; 100.0 % of it is shared memory, not heap") for text in told())


def test_the_sampler_s_own_growth_is_not_the_program_s() -> None:
    profile, symbols = captured(true_leak(), grows=6 * LEAK)
    grown_bytes = int(2 * LEAK * 4096 * 60)
    profile.capture.sampler = "/opt/libmem_sampler.so"
    profile.modules.append(Module("/opt/libmem_sampler.so", [], start=0x10000, end=0x80800))

    def told(name: str) -> list[str]:
        profile.capture.grown = [Grown("anonymous", name, 0, grown_bytes)]
        return [s.text for s in opening(profile, symbols, find_leaks(profile, symbols))]

    [text] = [text for text in told("90000-a0000") if "grows by" in text]
    assert "grows by 84" in text
    assert "sampler" not in text
    [text] = [text for text in told("20000-81000") if "grows by" in text]
    assert "grows by 56" in text
    assert "without the sampler's own; the leaks are at most 2" in text
    assert account(profile).grown[0].label == "the sampler's own, anonymous"
    grown_bytes = int(5 * LEAK * 4096 * 60)
    assert not any("grows by" in text for text in told("20000-81000"))
