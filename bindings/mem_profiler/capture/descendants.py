"""What the processes below a program had that are in no file, where children are not captured.

Model: the kernel tells the most that a child had only to the parent that has waited for it. While
they live, /proc shows their highest. Those whose parent ended have another one now; the variable
that the run gave the program is in the environment that they began with. So who empties that and
loses its parent is not found, and neither is what began and ended between two looks.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mem_parser import unseen
from mem_parser.escape import one_line
from mem_parser.sizes import short_size
from mem_profiler.process import procfs, touched

CHILDREN_NOTE = f"its child processes took {{}} % of the processor time, and {unseen.IN_CHILDREN}"
_NOTED_SHARE, _MOST_SHARE = 0.1, 0.5
_FORKSERVER = "from multiprocessing.forkserver import"
FORKSERVER_NOTE = (
    f"{unseen.NOTE}its workers, which a server of multiprocessing forks, {unseen.IN_CHILDREN}"
)
_LOOKS_SHARE = 0.02  # of the time
_SETTLE_S, _SETTLE_POLL_S = 0.5, 0.02
"""What ends with the program, as helpers at the end of a pipe do, has ended after that time."""


@dataclass
class Descendants:
    """The processes below ``pid``, whose run has the folder ``base``. None had more than
    ``most_bytes`` resident at any look, ``own_bytes`` without what it shares with its parent.
    ``left`` outlived the program. Those that were waited for
    took ``share`` of its processor time; ``wrapper_times`` are what a program had that became this
    one, as pyenv's python.
    """

    pid: int
    base: str
    most_bytes: int = 0
    own_bytes: int = 0
    left: list[str] = field(default_factory=list)
    share: float = 0.0
    wrapper_times: tuple[int, int] = (0, 0)
    _serves_forks: bool = False
    _mine: dict[int, int] = field(default_factory=dict)
    _others: set[tuple[int, int]] = field(default_factory=set)
    _due_s: float = 0.0

    def look(self) -> None:
        """Look at those that live now, if it is time."""
        began_s = time.monotonic()
        if began_s < self._due_s:
            return
        below = procfs.family(self.pid)[1:]
        for pid in below:
            self._mine.setdefault(pid, procfs.start_ticks(pid) or 0)
        if self._mine or not procfs.waited_for_none(self.pid):
            self._find_orphans()
        self._measure()
        ended_s = time.monotonic()
        self._due_s = ended_s + (ended_s - began_s) / _LOOKS_SHARE

    def settle(self) -> None:
        """Look for the last time: the program has ended, and nobody has waited for it. Those that
        end with it may take a moment.
        """
        self.share = procfs.share_of_children(self.pid, self.wrapper_times)
        self._find_orphans()
        until_s = time.monotonic() + _SETTLE_S
        while (living := self._measure()) and time.monotonic() < until_s:
            time.sleep(_SETTLE_POLL_S)
        self.left = [f"{one_line(procfs.comm(pid)) or '?'} (pid {pid})" for pid in living]

    def add_command(self, command: str) -> None:
        """Take the command of one that has a segment: the program does not wait for workers that
        another one forks.
        """
        self._serves_forks |= _FORKSERVER in command

    def notes(self) -> list[str]:
        """Say whether they did much, or most: then the file proves little; and which of them
        outlived the program.
        """
        if self._serves_forks:
            return [FORKSERVER_NOTE]
        text = CHILDREN_NOTE.format(f"{100 * self.share:.0f}")
        notes = [text] if self.share >= _NOTED_SHARE else []
        if self.share >= _MOST_SHARE:
            notes = [unseen.NOTE + text]
        if self.left:
            more = f" and {len(self.left) - 1:,} more" if len(self.left) > 1 else ""
            held = f"the largest had {short_size(self.most_bytes)} resident"
            who = f"{self.left[0]}{more} still ran when the program ended; {held}"
            notes.append(f"its child processes {unseen.IN_CHILDREN}: {who}")
        return notes

    def _find_orphans(self) -> None:
        """Find those whose parent ended; of other processes this looks at each once."""
        began = procfs.start_ticks(self.pid) or 0
        known, self._others = self._others, set()  # those that live, or it would grow for ever
        for pid in procfs.pids():
            ticks = procfs.start_ticks(pid)
            if ticks is None or ticks < began or pid == self.pid or pid in self._mine:
                continue
            if (pid, ticks) in known:
                self._others.add((pid, ticks))
                continue
            given = procfs.environment(pid)  # none of one that is just becoming a program
            if given and given.get("MEM_PROFILER_DIR") == self.base:
                self._mine[pid] = ticks
            elif given:
                self._others.add((pid, ticks))

    def _measure(self) -> list[int]:
        """Note what they have had so far; returns those that live."""
        living = []
        for pid, ticks in list(self._mine.items()):
            held, own = procfs.kinds(pid)["peak_rss_bytes"] or 0, touched.most_bytes(pid)
            if procfs.is_gone(pid) or procfs.start_ticks(pid) != ticks:
                del self._mine[pid]
                continue
            living.append(pid)
            self.most_bytes = max(self.most_bytes, held)
            self.own_bytes = max(self.own_bytes, own)
        return living
