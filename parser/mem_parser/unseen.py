"""What a capture says of allocations that its sampler could not see at all.

Model: the capturing side knows why (an allocator inside the program without symbols, say) and puts
a note into the file, which begins with `NOTE`. Such a profile may lack most of the memory: a small
number, or none, proves nothing.
"""

from __future__ import annotations

from mem_parser.model import Capture

NOTE = "the sampler does not see all allocations: "


def why_unseen(capture: Capture) -> str:
    """Why the profile lacks allocations, as the capture noted it; empty: no such note."""
    return next((n.removeprefix(NOTE) for n in capture.notes if n.startswith(NOTE)), "")
