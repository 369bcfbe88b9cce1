"""How often leak verdicts are right: `leak_rates.py [--runs N] [--only WORD]` prints a table.

A cell has three percentages: of programs with the verdict leak, with its 95 % interval; of those
without a verdict, because too little was seen; of the others (cache-like, young, nothing in use).

Programs of known truth are simulated: births of the sampled blocks of one site, which are thinned
Poisson or batch arrivals, and their deaths. Beside it every program has a second site of short
requests, so that its turnover says nothing of the first. The verdict is that of `find_leaks` on the
profile, as of a running program.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "parser"), str(ROOT / "tests" / "support")]

from mem_parser.estimate import Z95, sampling_probability  # noqa: E402
from mem_parser.leaks.findings import Verdict  # noqa: E402
from mem_parser.leaks.verdicts import find_leaks  # noqa: E402
from mem_parser.model import IntArray, Profile, Reading  # noqa: E402
from mem_parser.symbols.table import Symbols  # noqa: E402
from simulated import FIXED, Program, Source, Times  # noqa: E402

SIZE, HERTZ = 4096, 60.0
"""Bytes and births a second of the blocks of the site in question."""
RATES = (1024, 65536, 524288)
WATCHES_S = (5.0, 10.0, 30.0, 60.0, 300.0)
LEAK, UNSURE, OTHER = "leak", "inconclusive", "other"
_CHUNK = 2_000_000
_HEAP_BYTES, _MOVED_BYTES = 64 << 20, 512 << 10
_NEVER = np.inf
_OF = {Verdict.LEAK: LEAK, Verdict.INCONCLUSIVE: UNSURE}


class Blocks(NamedTuple):
    """Sampled blocks of many runs: number of the run, birth and death in seconds."""

    run: IntArray
    born: Times
    died: Times


Maker = Callable[[np.random.Generator, int, float, float], Blocks]
"""Of a random generator, a number of runs, the watch in seconds and sampled births a second."""
Lives = Callable[[np.random.Generator, int, float], Times]
"""Lifetimes in seconds: of a generator, their number and the watch in seconds."""


@dataclass(frozen=True)
class Behaviour:
    """One kind of program. ``truth``: whether the site leaks; None where nothing that happened
    within the watch could tell it from a leak. ``adds``: the share of the births by which anonymous
    memory grows, of a capture that began late; None: it was not read.
    """

    name: str
    truth: bool | None
    make: Maker
    hertz: float = HERTZ
    adds: float | None = None


def poisson(
    random: np.random.Generator, runs: int, hertz: float, start: float, end: float
) -> tuple[IntArray, Times]:
    """Births of all runs in [``start``, ``end``) seconds, at ``hertz``."""
    counts = random.poisson(hertz * (end - start), runs)
    return np.repeat(np.arange(runs), counts), random.uniform(start, end, int(counts.sum()))


def steady(lives: Lives) -> Maker:
    """Births at one rate, each freed after a time of its own."""

    def make(random: np.random.Generator, runs: int, watch: float, hertz: float) -> Blocks:
        run, born = poisson(random, runs, hertz, 0, watch)
        return Blocks(run, born, born + lives(random, len(born), watch))

    return make


def fixed(share: float) -> Lives:
    """Blocks are replaced in the order of birth, after ``share`` of the watch."""
    return lambda _, n, watch: np.full(n, share * watch)


def exponential(share: float = 0.0, mean_s: float = 0.0) -> Lives:
    """Exponential lifetimes, of a mean in seconds or as a share of the watch."""
    return lambda random, n, watch: random.exponential(mean_s or share * watch, n)


def lognormal(sigma: float, share: float = 0.0, median_s: float = 0.0) -> Lives:
    """Lognormal lifetimes, of a median in seconds or as a share of the watch."""
    return lambda random, n, watch: (median_s or share * watch) * random.lognormal(0, sigma, n)


def pareto(share: float = 0.0, least_s: float = 0.0) -> Lives:
    """Lifetimes of a heavy tail, exponent 1.1, from seconds or a share of the watch on."""
    return lambda random, n, watch: (least_s or share * watch) * (1 + random.pareto(1.1, n))


def leaking(share: float, others: Lives) -> Lives:
    """A share of the blocks is never freed."""

    def lives(random: np.random.Generator, n: int, watch: float) -> Times:
        return np.where(random.random(n) < share, _NEVER, others(random, n, watch))

    return lives


def batches(share: float) -> Maker:
    """Jobs that take ``share`` of the watch, at a random phase, and free all at their end."""

    def make(random: np.random.Generator, runs: int, watch: float, hertz: float) -> Blocks:
        run, born = poisson(random, runs, hertz, 0, watch)
        period = share * watch
        phase = random.uniform(0, period, runs)[run]
        return Blocks(run, born, born + period - (born + phase) % period)

    return make


def start_up(random: np.random.Generator, runs: int, watch: float, hertz: float) -> Blocks:
    """What a program loads in its first twentieth, and keeps."""
    run, born = poisson(random, runs, 10 * hertz, 0, watch / 20)
    return Blocks(run, born, np.full(len(born), _NEVER))


def ever_slower(share: float) -> Maker:
    """A cache of keys met at random, and met again after ``share`` of the watch on average."""

    def make(random: np.random.Generator, runs: int, watch: float, hertz: float) -> Blocks:
        run, born = poisson(random, runs, hertz, 0, watch)
        new = random.random(len(born)) < np.exp(-born / (share * watch))
        return Blocks(run[new], born[new], np.full(int(new.sum()), _NEVER))

    return make


def grown_then_shrunk(random: np.random.Generator, runs: int, watch: float, hertz: float) -> Blocks:
    """A table that grows for 0.6 of the watch and then loses its entries at random."""
    run, born = poisson(random, runs, hertz, 0, 0.6 * watch)
    return Blocks(run, born, random.uniform(0.6 * watch, 1.2 * watch, len(born)))


def sessions(random: np.random.Generator, runs: int, watch: float, hertz: float) -> Blocks:
    """Sessions that become twice as many while the watch lasts, as in the morning."""
    run, born = poisson(random, runs, hertz, 0, watch)
    kept = random.random(len(born)) < 0.5 + 0.5 * born / watch
    run, born = run[kept], born[kept]
    return Blocks(run, born, born + lognormal(0.8, share=0.15)(random, len(born), watch))


Clock = Callable[[Times, float], Times]
"""When a program gets to what it does: of times at an even pace and the watch, in seconds."""


def even(at: Times, _watch: float) -> Times:
    """The machine keeps its pace."""
    return at


def changing(factor: float) -> Clock:
    """The pace of the second half of the watch is ``factor`` times that of the first."""

    def clock(at: Times, watch: float) -> Times:
        first, second = 2 / (1 + factor), 2 * factor / (1 + factor)
        return np.where(at < first * watch / 2, at / first, watch - (watch - at) / second)

    return clock


def stopping(start: float, share: float) -> Clock:
    """The program is stopped for a ``share`` of the watch, from ``start`` (a share) on."""

    def clock(at: Times, watch: float) -> Times:
        run = at * (1 - share)
        return np.where(run < start * watch, run, run + share * watch)

    return clock


_BRIEF = exponential(mean_s=0.1)
BEHAVIOURS = (
    Behaviour("requests, exponential, mean 0.1 s", False, steady(_BRIEF)),
    Behaviour("requests, lognormal, median 0.1 s", False, steady(lognormal(1.5, median_s=0.1))),
    Behaviour("requests, Pareto 1.1 from 50 ms", False, steady(pareto(least_s=0.05))),
    Behaviour("objects, exponential, mean 0.1 W", False, steady(exponential(0.1))),
    Behaviour("objects, exponential, mean 0.3 W", False, steady(exponential(0.3))),
    Behaviour("objects, exponential, mean 1 W", False, steady(exponential(1.0))),
    Behaviour("objects, lognormal, median 0.3 W", False, steady(lognormal(1.0, share=0.3))),
    Behaviour("cache, full at 0.3 W", False, steady(fixed(0.3))),
    Behaviour("cache, full at 0.9 W", False, steady(fixed(0.9))),
    Behaviour("jobs of 0.1 W", False, batches(0.1)),
    Behaviour("jobs of 0.45 W", False, batches(0.45)),
    Behaviour("jobs of 0.8 W", False, batches(0.8)),
    Behaviour("start-up", False, start_up),
    Behaviour("grows, then shrinks", False, grown_then_shrunk),
    Behaviour("sessions, ever more", False, sessions),
    Behaviour("cache, full at 1.5 W", None, steady(fixed(1.5))),
    Behaviour("objects, exponential, mean 3 W", None, steady(exponential(3.0))),
    Behaviour("objects, Pareto 1.1 from 0.3 W", None, steady(pareto(share=0.3))),
    Behaviour("jobs of 2 W", None, batches(2.0)),
    Behaviour("leak of 100 %", True, steady(leaking(1.0, _BRIEF))),
    Behaviour("leak of 10 %", True, steady(leaking(0.1, _BRIEF))),
    Behaviour("leak of 1 %", True, steady(leaking(0.01, _BRIEF))),
    Behaviour("leak of 1 block/s", True, steady(leaking(1.0, _BRIEF)), 1.0),
    Behaviour("leak of 10 % in turnover of 0.1 W", True, steady(leaking(0.1, exponential(0.1)))),
    Behaviour("leak of 50 % in turnover of 0.3 W", True, steady(leaking(0.5, exponential(0.3)))),
    Behaviour("cache, ever more slowly, 0.25 W", False, ever_slower(0.25), 10 * HERTZ),
    Behaviour("cache, full of older entries", False, steady(fixed(1.5)), HERTZ, 0.0),
    Behaviour("leak of 100 %, memory read", True, steady(leaking(1.0, _BRIEF)), HERTZ, 1.0),
)


def outcomes(
    what: Behaviour, rate: int, watch: float, runs: int, clock: Clock = even
) -> Counter[str]:
    """How many of ``runs`` programs, at the pace of ``clock``, got which verdict on their site."""
    random = np.random.default_rng([1, rate, int(watch), BEHAVIOURS.index(what)])
    profile, symbols = _template(rate, watch)
    hertz = what.hertz * float(sampling_probability(SIZE, rate))
    at_once = max(1, int(_CHUNK / (hertz * watch + 1)))
    found: Counter[str] = Counter()
    for first in range(0, runs, at_once):
        count = min(at_once, runs - first)
        made = (what.make, steady(_BRIEF))
        blocks = (make(random, count, watch, hertz) for make in made)
        site, beside = (
            _columns(Blocks(run, clock(born, watch), clock(died, watch)), count, watch)
            for run, born, died in blocks
        )
        for k in range(count):
            if what.adds is not None:
                profile.series = _readings(random, watch, what.hertz * what.adds)
            _fill(profile, [tuple(column[k] for column in one) for one in (site, beside)])
            found[_verdict(profile, symbols)] += 1
    return found


def _template(rate: int, watch: float) -> tuple[Profile, Symbols]:
    nothing = np.empty(0)
    sources = [Source((name, "main"), SIZE, nothing, nothing) for name in ("site", "beside")]
    profile, symbols = Program(sources, rate, watch).capture(np.random.default_rng(0))
    profile.capture.end = "deadline"
    return profile, symbols


def _readings(random: np.random.Generator, watch: float, hertz: float) -> list[Reading]:
    """Readings of anonymous memory that ``hertz`` blocks a second make grow, and others move."""
    times = np.arange(0.0, watch, max(watch / 300, 0.1))
    grown = np.cumsum(random.poisson(hertz * times[1], len(times))) * SIZE
    size = _HEAP_BYTES + grown + random.uniform(0, _MOVED_BYTES, len(times))
    return [
        Reading(t_s, 0.0, 0.0, 0, None, anon_bytes=int(held) // 4096 * 4096)
        for t_s, held in zip(times.tolist(), size.tolist(), strict=True)
    ]


def _columns(blocks: Blocks, runs: int, watch: float) -> tuple[IntArray, IntArray, Times]:
    """Births and survivors by bucket, and the oldest survivor, of each run."""
    bucket = np.minimum((blocks.born / watch * FIXED).astype(np.int64), FIXED - 1)
    cell = blocks.run * FIXED + bucket
    lives = blocks.died > watch
    oldest = np.full(runs, np.inf)
    np.minimum.at(oldest, blocks.run[lives], blocks.born[lives])
    births, left = (np.bincount(c, minlength=runs * FIXED) for c in (cell, cell[lives]))
    return births.reshape(runs, FIXED), left.reshape(runs, FIXED), oldest


def _fill(profile: Profile, rows: list[tuple[IntArray, IntArray, float]]) -> None:
    """Put births, survivors and the oldest of each site into the profile."""
    sites = profile.sites
    births, left = (np.stack([row[k] for row in rows]).astype(np.uint32) for k in (0, 1))
    sites.births, sites.live_births = births, left
    sites.alloc_blocks = births.sum(axis=1).astype(np.int64)
    sites.inuse_blocks = left.sum(axis=1).astype(np.int64)
    sites.alloc_bytes, sites.inuse_bytes = sites.alloc_blocks * SIZE, sites.inuse_blocks * SIZE
    oldest = np.array([row[2] for row in rows])
    sites.oldest_birth_s = np.where(np.isfinite(oldest), oldest, np.nan)


def _verdict(profile: Profile, symbols: Symbols) -> str:
    for finding in find_leaks(profile, symbols).findings:
        if finding.frames and finding.frames[0].function == "site":
            return _OF.get(finding.verdict, OTHER)
    return OTHER


def interval(hits: int, runs: int) -> tuple[float, float]:
    """The 95 % interval of a share (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    share, z = hits / runs, Z95 * Z95 / runs
    middle, half = share + z / 2, Z95 * math.sqrt(share * (1 - share) / runs + z / 4 / runs)
    return max((middle - half) / (1 + z), 0.0), min((middle + half) / (1 + z), 1.0)


def rows(runs: int, word: str) -> Iterator[str]:
    """The lines of the table. Watches below half a minute get a fifth of the runs."""
    heads = ["program (W: the watch)", "leaks", "T", *(f"{w:.0f} s" for w in WATCHES_S)]
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    truth = {True: "yes", False: "no", None: "not to be seen"}
    for what in BEHAVIOURS:
        for rate in RATES if word in what.name else ():
            cells = [_cell(what, rate, w, runs if w >= 30 else runs // 5 + 1) for w in WATCHES_S]
            row = [what.name, truth[what.truth], f"{rate >> 10} KiB", *cells]
            yield f"| {' | '.join(row)} |"


def _cell(what: Behaviour, rate: int, watch: float, runs: int) -> str:
    found = outcomes(what, rate, watch, runs)
    leak, unsure, other = (100 * found[kind] / runs for kind in (LEAK, UNSURE, OTHER))
    low, high = (100 * end for end in interval(found[LEAK], runs))
    return f"{leak:.1f} ({low:.1f}-{high:.1f}), {unsure:.0f}, {other:.0f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500, help="programs in each cell")
    parser.add_argument("--only", default="", help="rows whose name has this word")
    given = parser.parse_args()
    for line in rows(given.runs, given.only):
        print(line, flush=True)


if __name__ == "__main__":
    main()
