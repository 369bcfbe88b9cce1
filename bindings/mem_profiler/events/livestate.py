"""Track live blocks and bytes by stack, domain and size class from events."""

from __future__ import annotations

import numpy as np

from mem_parser.memlog.contents import Keyframe
from mem_parser.memlog.events import Events
from mem_parser.memlog.livesites import SiteSums, counts


class LiveState:
    """Live blocks and bytes, in sampled counts. Not for several threads."""

    def __init__(self) -> None:
        self.time_ns = 0
        self.exact = True
        self._sums = SiteSums()

    def add(self, events: Events) -> None:
        """Take in events that come after all that were there before."""
        if len(events):
            self.time_ns = max(self.time_ns, int(events.time_ns[-1]))
            self._sums.add_signed(events)

    def go_back(self, events: Events, to_ns: int) -> None:
        """Undo these events; the new time must not be later."""
        self.time_ns = to_ns
        self._sums.add(*counts(events, -events.sign.astype(np.int64)))

    def keyframe(self) -> Keyframe:
        """The live blocks now, without empty sites."""
        sites = self._sums.sums().live()
        return Keyframe(
            self.time_ns,
            sites.stack.astype(np.uint32),
            sites.domain.astype(np.uint8),
            sites.size_class.astype(np.uint16),
            sites.blocks,
            sites.bytes,
            exact=self.exact,
        )

    def set_to(self, keyframe: Keyframe) -> None:
        """Forget all, and go on from counters that were read."""
        self._sums = SiteSums(keyframe)
        self.time_ns, self.exact = max(self.time_ns, keyframe.time_ns), keyframe.exact
