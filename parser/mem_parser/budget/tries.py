"""Several tries of one check: what they say together, and how much finer the next has to be.

Each try repeats the program, at a finer rate than the one before. The error of all is shared by
`mem_parser.budget.verdict.check`, so any of them may decide.
"""

from __future__ import annotations

import dataclasses

from mem_parser.budget.rules import FEW_BLOCKS, Measure
from mem_parser.budget.verdict import Report, Result, Verdict


def combine(earlier: Report, later: Report) -> Report:
    """Return the report of a repetition together with the earlier verdicts.

    A limit that was inconclusive takes its new verdict; one that passed stays, unless it fails now.
    One on leaks takes each: the finer try may know blocks that the earlier could not have seen.
    Captures match by their order and program.
    """
    reports = list(later.captures)
    for k, (old, new) in enumerate(zip(earlier.captures, later.captures, strict=False)):
        if old.title != new.title or len(old.results) != len(new.results):
            continue
        kept = [_later(a, b) for a, b in zip(old.results, new.results, strict=True)]
        reports[k] = dataclasses.replace(new, results=kept)
    return dataclasses.replace(later, captures=reports)


def _later(old: Result, new: Result) -> Result:
    stays = old.verdict is Verdict.PASS and old.limit.measure is not Measure.LEAKS
    return old if stays and new.verdict is Verdict.INCONCLUSIVE else new


def needed_rate(report: Report, rate: float) -> float:
    """Return the bytes per sample that likely decide the nearest undecided limit; a quarter of
    ``rate`` at most.
    """
    return min([rate_for(result, rate) for _, result in report.results], default=max(rate / 4, 1.0))


def rate_for(result: Result, rate: float) -> float:
    """Return the bytes per sample that likely decide one limit: the error falls with the root of
    the rate. From a quarter to a 64th of ``rate``; the distance to the limit counts one standard
    error shorter, since it is only an estimate. Blocks that are few are sampled each: an error from
    unseen small ones takes a rate near that, however near the limit is.
    """
    share = 0.25
    if (
        result.verdict is Verdict.INCONCLUSIVE
        and result.estimate is not None
        and result.amount is not None
        and not result.reason
    ):
        if result.limit.measure.counts_blocks and result.estimate.value <= FEW_BLOCKS:
            return 1.0
        gap = max(abs(result.excess) - result.estimate.std_error, 0.0)
        width = max(result.upper - result.estimate.value, result.estimate.value - result.lower)
        if width > 0:
            share = min(share, 0.5 * (gap / width) ** 2)
    return max(rate * max(share, 1 / 64), 1.0)
