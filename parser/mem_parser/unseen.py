"""What a capture says of memory that its sampler could not see at all.

Model: the capturing side knows why (an allocator inside the program without symbols, say) and puts
a note into the file, which holds `NOTE`. Such a profile may lack most of the memory: a small
number, or none, proves nothing.
"""

from __future__ import annotations

from mem_parser.model import Capture

NOTE = "the profile may lack the program's memory: "
BY_MMAP = "takes memory by mmap, which the profile does not show"


def missing(capture: Capture) -> list[str]:
    """The capture's notes on memory of the program that is in no number."""
    return [note for note in capture.notes if NOTE in note or BY_MMAP in note]


def why_unseen(capture: Capture) -> str:
    """Why the profile may lack memory, as the capture noted it; empty: no such note."""
    if capture.device:
        return ""  # the reason is one of the host's allocators
    return next((found[2] for n in capture.notes if (found := n.partition(NOTE))[1]), "")
