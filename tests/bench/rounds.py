"""Run things in turns, so that what else happens on the machine hits all of them alike.

Model: a `Case` is one way of running one workload and gives named numbers each time it runs. A
round runs every case once, in an order of its own; nothing is compared across runs of this program.
What one case adds to another is the median over rounds of the difference inside a round.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Callable
from dataclasses import dataclass

Numbers = dict[str, float]
Series = dict[str, dict[str, list[float]]]  # case -> number -> one value a round


@dataclass(frozen=True)
class Case:
    """One thing to run; `run` gives numbers by name."""

    name: str
    run: Callable[[], Numbers]


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


def interleave(cases: list[Case], rounds: int, what: str) -> Series:
    """Run all cases `rounds` times; a case that fails once is left out, with a word on stderr."""
    order = list(cases)
    shuffle = random.Random(7)
    series: Series = {}
    failed: set[str] = set()
    for number in range(rounds):
        _progress(f"{what}: round {number + 1} of {rounds}")
        shuffle.shuffle(order)
        for case in order:
            if case.name in failed:
                continue
            try:
                numbers = case.run()
            except Exception as error:
                failed.add(case.name)
                _progress("")
                print(f"{what}: {case.name} left out: {error}", file=sys.stderr)
                continue
            for name, value in numbers.items():
                series.setdefault(case.name, {}).setdefault(name, []).append(value)
    _progress("")
    return {case.name: series[case.name] for case in cases if case.name not in failed}


def median(series: Series, case: str, number: str) -> float | None:
    """The median over rounds; None for a case that did not run."""
    values = series.get(case, {}).get(number)
    return statistics.median(values) if values else None


def added(series: Series, case: str, base: str, number: str) -> float | None:
    """Median over rounds of what `case` adds to `base`."""
    values = series.get(case, {}).get(number)
    bases = series.get(base, {}).get(number)
    if not values or not bases:
        return None
    return statistics.median(v - b for v, b in zip(values, bases, strict=True))


def ratios(series: Series, case: str, base: str, number: str) -> list[float]:
    """`case` / `base`, round by round."""
    values = series.get(case, {}).get(number, [])
    bases = series.get(base, {}).get(number, [])
    return [v / b for v, b in zip(values, bases, strict=False)]


def ratio(a: float | None, b: float | None) -> float | None:
    """a / b where both are known and b is positive."""
    return a / b if a is not None and b is not None and b > 0 else None
