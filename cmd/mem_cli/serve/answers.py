"""Answers about one process, as bytes: moments with names, verdicts, pages.

Model: an `Answers` is used by one thread. `take` reads what the process has now and names it;
`make` answers about that moment. This is where data of the process are read and interpreted, in a
process without rights (`worker`): the server itself gets bytes.

    live SINCE CONTROL      JSON for the page (`frames`)
    heap DOMAIN             a .heap file; DOMAIN empty: the host's
    text                    the same as text, of the host's memory
    pprof COUNT BEFORE      pprof's format; BEFORE names a moment that `keep` kept, or is empty
    keep SECONDS            keep this moment for so long; returns its name
    mark                    keep this moment for the page; returns its name
    metrics TOP             JSON of `metrics.Numbers`, with so many functions
"""

from __future__ import annotations

import dataclasses

from mem_cli.serve import metrics, profiles
from mem_cli.serve.frames import frame
from mem_cli.serve.past import Had, Past, Snapshot
from mem_cli.watching.worker import About, Question, Read
from mem_parser.domains import as_part, join
from mem_parser.errors import TargetBusy, TargetError
from mem_parser.libraries.rules import Libraries
from mem_parser.live.keptverdicts import KeptVerdicts
from mem_parser.live.naming import Naming, NamingChoice
from mem_parser.model import Count, Profile
from mem_parser.programname import captured_name
from mem_profiler.live.watched import Facts

MOST_KEPT = 16
"""Moments that are kept at the same time for profiles of what changed."""
KEPT_MORE_S = 120.0
"""How much longer than asked for: a reading of the process may take long."""
REHEARSAL: tuple[Question, ...] = (
    ("mark",), ("keep", 1.0), ("live", "m1", False), ("heap", ""), ("text",), ("metrics", 1),
    ("pprof", str(Count.INUSE), ""), ("pprof", str(Count.ALLOC), "k1"),
)  # fmt: skip
"""Each kind of question, about moment 1."""


class Answers:
    """One process. ``read`` makes profiles from its segment."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._naming = Naming(NamingChoice(libraries=Libraries(), labels=True))
        self._past = Past()
        self._verdicts = KeptVerdicts()
        self._latest: Snapshot | None = None
        self._kept: dict[str, tuple[float, Snapshot]] = {}

    def take(self, about: About, facts: Facts | None) -> None:
        """Read what the process has now; ``facts`` None: it has had no capture. Raises MemError,
        MemoryError, OSError.
        """
        had, t_s = None, 0.0
        if facts is not None:
            found = self._read(facts)
            had, t_s = self._named(found), found[0].capture.duration_s or 0.0
            self._past.add(facts.number, about.at_s, had)
        name = "" if had is None else captured_name(had.profile.capture)
        self._latest = Snapshot(
            seq=about.seq,
            pid=about.pid,
            name=f"{name or about.program or '?'} (pid {about.pid})",
            at_s=about.at_s,
            clock=about.clock,
            state=about.state,
            number=facts.number if facts is not None else 0,
            t_s=t_s,
            own=about.own,
            why=about.why,
            had=had,
            windows=self._past.windows(about.at_s),
        )

    def _named(self, found: list[Profile]) -> Had:
        joined = join([(profile.domains[0], profile) for profile in found])
        symbols = self._naming.names(joined)
        if len(found) == 1:
            return Had(joined, symbols)
        host = as_part(joined.where(joined.sites.domain == 0), joined.domains[0])
        return Had(host, symbols, joined)

    def make(self, question: Question) -> bytes:
        """Answer a question about the latest moment. Raises MemError, MemoryError, ValueError,
        ArithmeticError.
        """
        assert self._latest is not None
        now = dataclasses.replace(self._latest, marks=self._past.marks)
        kind, *more = question
        if kind == "live":
            return frame(now, str(more[0]), self._verdicts, control=bool(more[1]))
        if kind == "heap":
            return profiles.heap_file(now, str(more[0]) or None)
        if kind == "text":
            return profiles.heap_text(now)
        if kind == "pprof":
            before = self._found(str(more[1])) if more[1] else None
            return profiles.pprof(now, self._naming.addresses, Count(str(more[0])), before)
        if kind == "keep":
            return self._keep(now, float(more[0]))
        if kind == "mark":
            return self._mark(now)
        assert kind == "metrics", kind
        return metrics.packed(metrics.numbers(now, int(more[0])))

    def _mark(self, now: Snapshot) -> bytes:
        if now.had is None:
            raise TargetError(f"pid {now.pid} has had no capture: there is nothing to mark")
        return self._past.mark(now).encode()

    def _keep(self, now: Snapshot, seconds: float) -> bytes:
        profiles.whole(now)
        self._kept = {name: one for name, one in self._kept.items() if one[0] > now.at_s}
        name = f"k{now.seq}"
        until_s, _ = self._kept.get(name, (0.0, now))
        if name not in self._kept and len(self._kept) >= MOST_KEPT:
            raise TargetBusy(f"{MOST_KEPT} profiles of pid {now.pid} over time are being made")
        self._kept[name] = (max(until_s, now.at_s + seconds + KEPT_MORE_S), now)
        return name.encode()

    def _found(self, name: str) -> Snapshot:
        if name not in self._kept:
            raise TargetError("the beginning of this profile is no longer known: ask again")
        return self._kept[name][1]
