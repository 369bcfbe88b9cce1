"""Limits on resident memory: whose it is, what of it may be the sampler's, and what was read."""

from __future__ import annotations

from typing import Any

import pytest

from budget_profiles import Made, Row, one
from mem_parser.budget import Limit, Measure, Verdict
from mem_parser.processfacts import Memory
from mem_parser.unseen import IN_CHILDREN, NOTE, WITHOUT_FILE, WITHOUT_SAMPLER

MIB = 1 << 20
ENDED: dict[str, Any] = {"end": "exit 0", "readings": [(0.0, 0.0)] * 4}
SHORT = ENDED | {"readings": [(0.0, 0.0)]}
UNSEEN = f"its workers {IN_CHILDREN}"


@pytest.mark.parametrize(
    ("memory", "made", "verdict", "reason"),
    [
        ({}, ENDED, Verdict.PASS, ""),
        ({"peak_rss_bytes": 109}, ENDED, Verdict.FAIL, ""),
        ({"peak_rss_bytes": 109, "segment_bytes": 2}, ENDED, Verdict.INCONCLUSIVE, "the sampler's"),
        ({"peak_rss_bytes": 111, "segment_bytes": 2}, ENDED, Verdict.FAIL, ""),
        ({"peak_rss_bytes": None}, ENDED, Verdict.INCONCLUSIVE, "does not say"),
        ({}, SHORT, Verdict.INCONCLUSIVE, "only 1 reading"),
        ({"rss_bound_bytes": 99}, SHORT, Verdict.PASS, ""),
        ({"rss_bound_bytes": 120}, SHORT, Verdict.INCONCLUSIVE, "at most 120.0 MiB in all"),
        ({}, {"readings": [(0.0, 0.0)]}, Verdict.PASS, ""),  # it runs: the kernel's peak so far
        ({"tree_peak_rss_bytes": 120}, ENDED, Verdict.INCONCLUSIVE, "a child process"),
        ({}, ENDED | {"lost": {"live_full": 9000}}, Verdict.PASS, ""),  # of samples
    ],
)
def test_what_was_read_is_held_against_the_limit(
    memory: dict[str, int | None], made: dict[str, Any], verdict: Verdict, reason: str
) -> None:
    result = limited(memory, **made)
    assert (result.verdict, reason in result.reason) == (verdict, True), result.reason
    assert bool(reason) == bool(result.reason)


def limited(memory: dict[str, float | None], notes: tuple[str, ...] = (), **made: Any) -> Any:
    """The result of a limit of 100 MiB; sizes of `memory` are MiB."""
    subject = Made([Row(("f", "main"), 1000)], **made).subject()
    known = {"rss_bytes": 40, "peak_rss_bytes": 90} | memory
    sizes = {key: value and int(value * MIB) for key, value in known.items()}
    subject.profile.capture.memory = Memory(**sizes)
    subject.profile.capture.notes = list(notes)
    return one(subject, Limit(Measure.RSS, 100.0 * MIB, text="100 MiB"))


def test_a_process_whose_children_are_in_no_file_is_not_judged_for_them() -> None:
    result = limited({}, (NOTE + UNSEEN,), **ENDED)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, NOTE + UNSEEN)
    assert limited({}, (f"{NOTE}it is a jemalloc",), **ENDED).verdict is Verdict.PASS


def test_a_child_that_left_no_file_though_children_were_captured_is_said() -> None:
    note = f"a child process that had 120.0 MiB resident {WITHOUT_FILE}"
    result = limited({"peak_rss_bytes": 10, "tree_peak_rss_bytes": 120}, (note,), **ENDED)
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, note)


def test_a_child_without_the_sampler_counts_as_what_it_may_have_had() -> None:
    note = f"{NOTE}2 child processes {WITHOUT_SAMPLER}: them"
    over, under = (limited({"tree_peak_rss_bytes": size}, (note,), **ENDED) for size in (101, 99))
    assert (over.verdict, under.verdict) == (Verdict.INCONCLUSIVE, Verdict.PASS)
    said = "a child process without the sampler may have had 101.0 MiB resident"
    assert over.reason == said


@pytest.mark.parametrize(
    ("peak", "verdict", "said"),
    [
        (200, Verdict.FAIL, ": the other 199.0 MiB is no heap in use; mem_parser rss x.heap"),
        (100.5, Verdict.INCONCLUSIVE, "peak"),  # over the limit, by less than the heap
        (108.5, Verdict.INCONCLUSIVE, ": the other 107.5 MiB is no heap in use"),
        (90, Verdict.PASS, "peak"),
    ],
)
def test_stacks_of_the_heap_are_named_only_where_it_explains_what_is_over(
    peak: float, verdict: Verdict, said: str
) -> None:
    result = limited({"peak_rss_bytes": peak, "segment_bytes": 1}, **ENDED)
    assert result.verdict is verdict
    *told, held = [note for note in (result.reason, *result.notes) if note]
    assert told == ["up to 9.000 MiB of it is the sampler's"]
    assert held.startswith("the heap held 1.0")
    assert said in held
    assert len(result.culprits) == (peak == 100.5)


def test_a_program_of_a_moment_that_told_nothing_at_its_end_accuses_no_stack() -> None:
    result = limited({}, **SHORT)
    assert "a program that ends by exit() tells its highest" in result.reason
    assert result.culprits == []
