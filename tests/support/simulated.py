"""Profiles of simulated programs: every birth and death is known, sampling is the real one."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from mem_parser.estimate import sampling_probability
from mem_parser.model import Capture, Module, Profile, SiteTable, StackTable
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.table import Function, Location, Symbols

Times = npt.NDArray[np.float64]
FIXED = 8
OPEN_BOUNDS_S = (1, 4, 16, 64, 256, 1024, 4096)


@dataclass
class Source:
    """All blocks of one stack: births and deaths in seconds, one size; names innermost first."""

    names: tuple[str, ...]
    size: int
    born: Times
    died: Times
    line: int = 1


@dataclass
class Program:
    """Sources, sampled at ``rate`` bytes over ``duration`` seconds."""

    sources: list[Source]
    rate: int = 65536
    duration: float = 60.0
    open_end: bool = False
    at: list[float] = field(default_factory=list)

    def sampled(self, random: np.random.Generator) -> list[Source]:
        """The blocks that the sampler takes."""
        result = []
        for s in self.sources:
            p = float(sampling_probability(s.size, self.rate))
            taken = random.random(len(s.born)) < p
            result.append(Source(s.names, s.size, s.born[taken], s.died[taken], s.line))
        return result

    def capture(self, random: np.random.Generator) -> tuple[Profile, Symbols]:
        return self.snapshot(self.sampled(random), self.duration)

    def snapshot(self, blocks: list[Source], now: float) -> tuple[Profile, Symbols]:
        """The profile of sampled ``blocks`` as it is at ``now`` seconds."""
        if self.open_end:
            ends: list[float | None] = [*OPEN_BOUNDS_S, None]
        else:
            ends = [self.duration * (k + 1) / FIXED for k in range(FIXED)]
        rows = [_counts(s, ends, now) for s in blocks]
        births = np.array([r[0] for r in rows], dtype=np.uint32).reshape(-1, FIXED)
        live = np.array([r[1] for r in rows], dtype=np.uint32).reshape(-1, FIXED)
        size = np.array([s.size for s in blocks], dtype=np.int64)
        n = len(blocks)
        frames = [name for s in blocks for name in s.names]
        offsets = np.concatenate(([0], np.cumsum([len(s.names) for s in blocks])))
        known = {name: k for k, name in enumerate(dict.fromkeys(frames))}
        lines = {name: s.line for s in blocks for name in s.names[:1]}
        locations = [Location(k, "target.c", lines.get(name, 7)) for name, k in known.items()]
        index = np.array([known[name] for name in frames], dtype=np.int32)
        stacks = StackTable(
            offsets.astype(np.int64), index.astype(np.uint64) + np.uint64(0x1000),
            np.zeros(n, np.uint32), np.zeros(n, np.uint32), leaf_exact=True,
        )  # fmt: skip
        sites = SiteTable(
            stack=np.arange(n), domain=np.zeros(n, np.int32),
            inuse_blocks=live.sum(axis=1).astype(np.int64),
            inuse_bytes=live.sum(axis=1).astype(np.int64) * size,
            alloc_blocks=births.sum(axis=1).astype(np.int64),
            alloc_bytes=births.sum(axis=1).astype(np.int64) * size,
            births=births, live_births=live,
            oldest_birth_s=np.array([r[2] for r in rows], dtype=np.float64),
        )  # fmt: skip
        profile = Profile(
            "mem_profiler", float(self.rate), stacks, sites,
            modules=[Module("/opt/target", [], "aa")],
            capture=Capture(
                pid=1, host="h", started=5.0, capture=1, duration_s=now, bucket_end_s=ends
            ),
        )  # fmt: skip
        functions = [Function(name, name, "/opt/target", "target.c") for name in known]
        return profile, Symbols(functions, locations, offsets.astype(np.int64), index)


def cleaned_up(profile: Profile, left: float = 0.0) -> Profile:
    """The same of a program that then ended and freed all but the share ``left``."""
    held = profile.sites
    assert held.live_births is not None
    sites = replace(
        held,
        inuse_blocks=(held.inuse_blocks * left).astype(np.int64),
        inuse_bytes=(held.inuse_bytes * left).astype(np.int64),
        live_births=(held.live_births * left).astype(np.uint32),
        peak_blocks=held.inuse_blocks, peak_bytes=held.inuse_bytes,
        before_end_blocks=held.inuse_blocks, before_end_bytes=held.inuse_bytes,
        before_end_births=held.births, before_end_live_births=held.live_births,
        before_end_oldest_s=held.oldest_birth_s,
    )  # fmt: skip
    capture = replace(
        profile.capture, before_end_at_s=profile.capture.duration_s, end="exited 0",
        from_start=True,
    )  # fmt: skip
    return replace(profile, sites=sites, capture=capture)


def _counts(
    s: Source, ends: list[float | None], now: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], float]:
    bounds = np.array([np.inf if e is None else e for e in ends])
    there = s.born <= now
    bucket = np.minimum(np.searchsorted(bounds, s.born, side="right"), FIXED - 1)
    alive = there & (s.died > now)
    oldest = float(s.born[alive].min()) if alive.any() else np.nan
    births = np.bincount(bucket[there], minlength=FIXED)
    return births, np.bincount(bucket[alive], minlength=FIXED), oldest


def arrivals(random: np.random.Generator, rate: float, start: float, end: float) -> Times:
    """A Poisson process of ``rate`` a second."""
    return np.sort(random.uniform(start, end, random.poisson(rate * (end - start))))


def leak(random: np.random.Generator, rate: float, name: str = "leak", *, share: float = 1.0,
         duration: float = 60.0, size: int = 4096) -> Source:  # fmt: skip
    born = arrivals(random, rate, 0, duration)
    lost = random.random(len(born)) < share
    return Source((name, "main"), size, born, np.where(lost, np.inf, born + 0.01))


def filled_cache(random: np.random.Generator, rate: float, by: float, name: str, *,
                 size: int = 4096) -> Source:  # fmt: skip
    born = arrivals(random, rate, 0, by)
    return Source((name, "main"), size, born, np.full(len(born), np.inf))


def lru(random: np.random.Generator, rate: float, life: float, name: str, *,
        duration: float = 60.0, size: int = 4096) -> Source:  # fmt: skip
    born = arrivals(random, rate, 0, duration)
    return Source((name, "main"), size, born, born + life)


def random_cache(random: np.random.Generator, rate: float, life: float, name: str, *,
                 duration: float = 60.0, size: int = 4096) -> Source:  # fmt: skip
    born = arrivals(random, rate, 0, duration)
    return Source((name, "main"), size, born, born + random.exponential(life, len(born)))


def saturating(random: np.random.Generator, rate: float, tau: float, name: str, *,
               duration: float = 60.0, size: int = 4096) -> Source:  # fmt: skip
    """A cache of keys met at random: it fills ever more slowly."""
    born = arrivals(random, rate, 0, duration)
    born = born[random.random(len(born)) < np.exp(-born / tau)]
    return Source((name, "main"), size, born, np.full(len(born), np.inf))


def burst(random: np.random.Generator, at: float, blocks: int, name: str, *,
          size: int = 4096) -> Source:  # fmt: skip
    born = np.sort(random.uniform(at, at + 0.2, blocks))
    return Source((name, "main"), size, born, np.full(blocks, np.inf))


def worker(
    random: np.random.Generator, *sources: Source, shift_s: float = 0.0, rate: float = 6.0
) -> Profile:
    """A capture of a process that allocates in ``leak``, in ``queue`` and in ``sources``; the file
    has the names.
    """
    profile, symbols = Program(
        [leak(random, rate), lru(random, 100, 2, "queue"), *sources], rate=4096
    ).capture(random)
    profile = named_within(profile, symbols)
    profile.capture.started = 5.0 + shift_s
    profile.capture.end = "deadline"
    return profile


def named_within(profile: Profile, symbols: Symbols) -> Profile:
    """Give a profile its names, for its file."""
    profile.embedded = EmbeddedNames()
    for k, function in enumerate(symbols.functions):
        frame = EmbeddedFrame(function.name, function.name, "target.c", 1)
        for address in (0x1000 + k, 0xFFF + k):
            profile.embedded.frames.setdefault((NO_MODULE, address), (frame,))
    profile.modules = []
    return profile


def one_burst(blocks: int, name: str = "f", rate: int = 4096) -> tuple[Profile, Symbols]:
    """The profile of a function that allocates all its blocks in the first second."""
    random = np.random.default_rng(1)
    return Program([burst(random, 1.0, blocks, name)], rate=rate).capture(random)
