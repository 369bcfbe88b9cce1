"""Profiles and files for the tests of budgets: few stacks, known samples."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mem_parser.budget import Budget, Limit, Result, Site, Subject, check
from mem_parser.model import (
    Capture,
    Module,
    Profile,
    Reading,
    SiteTable,
    StackTable,
    Thread,
    ThreadBlocks,
)
from mem_parser.symbols.table import Function, Location, Symbols

RATE = 1024


@dataclass
class Row:
    """Sampled blocks of one stack, innermost function first; all of one size."""

    names: tuple[str, ...]
    blocks: int
    size: int = 64
    alloc: int | None = None
    peak: int | None = None
    file: str = "server.c"
    line: int = 10
    module: str = "/opt/server"
    thread: str | None = None


@dataclass
class Made:
    """What a subject is made of; ``readings`` are (estimate, standard error)."""

    rows: Sequence[Row]
    rate: float = RATE
    exe: str = "/opt/server"
    build: str = "3f2c1a9b20de77"
    end: str = "running"
    duration: float = 10.0
    lost: dict[str, int] = field(default_factory=dict)
    readings: Sequence[tuple[float, float]] = ()
    exact: bool = True

    def subject(self, path: str = "x.heap") -> Subject:
        """The capture with its names."""
        return Subject(*self.profile(), path)

    def profile(self) -> tuple[Profile, Symbols]:
        """The profile and its names."""
        rows, n = self.rows, len(self.rows)
        offsets = np.concatenate(([0], np.cumsum([len(r.names) for r in rows]))).astype(np.int64)
        known: dict[tuple[str, str, int, str], int] = {}
        index = []
        for row in rows:
            for depth, name in enumerate(row.names):
                # Callers keep their line whoever allocates below them.
                line = row.line if depth == 0 else 7
                key = (name, row.file, line, row.module)
                index.append(known.setdefault(key, len(known)))
        functions = [Function(name, name, module, file) for name, file, _, module in known]
        locations = [Location(k, file, line) for k, (_, file, line, _) in enumerate(known)]
        stacks = StackTable(
            offsets, np.array(index, np.uint64) + np.uint64(0x1000),
            np.zeros(n, np.uint32), np.zeros(n, np.uint32), leaf_exact=True,
        )  # fmt: skip
        size = np.array([r.size for r in rows], np.int64)
        inuse = np.array([r.blocks for r in rows], np.int64)
        alloc = np.array([r.blocks if r.alloc is None else r.alloc for r in rows], np.int64)
        peak = np.array([r.blocks if r.peak is None else r.peak for r in rows], np.int64)
        sites = SiteTable(
            stack=np.arange(n), domain=np.zeros(n, np.int32),
            inuse_blocks=inuse, inuse_bytes=inuse * size,
            alloc_blocks=alloc, alloc_bytes=alloc * size,
            peak_blocks=peak, peak_bytes=peak * size,
        )  # fmt: skip
        modules = dict.fromkeys([self.exe, *(r.module for r in rows)])
        profile = Profile(
            "mem_profiler", float(self.rate), stacks, sites,
            modules=[Module(m, [], self.build) for m in modules],
            capture=Capture(
                exe=self.exe, duration_s=self.duration, end=self.end, lost=self.lost,
                samples=int(alloc.sum()),
            ),
            exact_samples=self.exact,
        )  # fmt: skip
        profile.series = [
            Reading(0.1 * k, value, error, 0, rss_bytes=0)
            for k, (value, error) in enumerate(self.readings)
        ]
        self._threads(profile, inuse, size)
        return profile, Symbols(functions, locations, offsets, np.array(index, np.int32))

    def _threads(
        self, profile: Profile, inuse: np.ndarray[tuple[int], np.dtype[np.int64]],
        size: np.ndarray[tuple[int], np.dtype[np.int64]],
    ) -> None:  # fmt: skip
        names = list(dict.fromkeys(r.thread for r in self.rows if r.thread))
        if not names:
            return
        profile.threads = [Thread(k, 100 + k, name) for k, name in enumerate(names)]
        of = np.array([k for k, r in enumerate(self.rows) if r.thread], np.int64)
        row = np.array([names.index(r.thread) for r in self.rows if r.thread], np.int64)
        profile.thread_blocks = ThreadBlocks(of, row, inuse[of], (inuse * size)[of])


def one(subject: Subject, limit: Limit, site: Site | None = None, **budget: object) -> Result:
    """Check a single limit, of a site where one is given."""
    rules = Budget((limit,)) if site is None else Budget((), (site,))
    if site is not None:
        rules = Budget((), (dataclasses.replace(site, limits=(limit,)),))
    rules = dataclasses.replace(rules, **budget)  # type: ignore[arg-type]
    [(_, result)] = check([(subject, rules)]).results
    return result
