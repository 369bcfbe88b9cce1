"""Map a log's domains to dumps: event type, device, Attr."""

from __future__ import annotations

import re
from typing import NamedTuple

from mem_parser.devices import HOST as HOST_DOMAIN
from mem_parser.memscope.form import ATB, HAL, HOST, MINDSPORE, PTA, PTA_WORKSPACE

_POOLS = {
    "ptacaching": PTA,
    "msleaks": PTA,
    "ptaworkspace": PTA_WORKSPACE,
    "atb": ATB,
    "mindsporemempool": MINDSPORE,
}
_DOMAIN = re.compile(r"([a-z]+)(?:-([0-9]{1,4}))?(?:-(pinned|managed))?")
_POOL = "pool-"
FIRST_DEVICE = "0"
USED_KEYS = "used:%d"
TOTAL_KEYS = "total:%d"
PINNED_KEYS = "pinned:true,used:%d"
SHADOW_KEYS = "shadow:true"
PINNED_SHADOW_KEYS = "pinned:true,shadow:true"
CANN = "CANN"
FRAMEWORKS = {HAL: CANN}


class Place(NamedTuple):
    """``device`` None: that of the block around each block, as a pool's blocks are pieces of
    others. ``keys`` are those of Attr behind the size, with a place for the number.
    """

    type: str
    device: str | None
    keys: str = USED_KEYS

    @property
    def shadow_keys(self) -> str:
        """The keys of a row that the conversion made."""
        return PINNED_SHADOW_KEYS if self.keys == PINNED_KEYS else SHADOW_KEYS

    @property
    def framework(self) -> str:
        """The first part of an owner."""
        return FRAMEWORKS.get(self.type, self.type)


def place_of(domain: str) -> Place:
    """Return the place of a domain, by its name."""
    if domain == HOST_DOMAIN:
        return Place("HOST", HOST, TOTAL_KEYS)
    if domain.startswith(_POOL):
        name = domain[len(_POOL) :]
        return Place(_POOLS.get(name.lower(), _word(name)), None)
    found = _DOMAIN.fullmatch(domain)
    if found is None:
        return Place(_word(domain), FIRST_DEVICE)
    family, number, kind = found.groups()
    if kind == "pinned":
        return Place("HOST_PINNED", HOST, PINNED_KEYS)
    return Place(HAL if family == "hal" else _word(family), number or FIRST_DEVICE)


def _word(name: str) -> str:
    """Return a name as an event type: words of the file's own, no text of others."""
    return re.sub(r"[^A-Z0-9_]", "_", name.upper())[:40] or "UNNAMED"
