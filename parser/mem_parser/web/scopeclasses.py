"""The page of dumps of device memory: bytes by class and owner, over the steps and at the peak."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from mem_parser.memscope.decompose import FRAMEWORK_TYPES
from mem_parser.memscope.ownersums import Held, PoolOwners, with_fewer_owners
from mem_parser.web.pack import Columns, cut_name, pack_columns
from mem_parser.web.page import SIZE_LIMIT, assemble
from mem_parser.words import phrase, shown

SCOPE_SCRIPTS = (
    "theme.js", "format.js", "unpack.js", "state.js", "keys.js", "toolbar.js", "header.js",
    "charts.js", "table.js", "tabs.js",
)  # fmt: skip
SCOPE_STYLES = ("base.css", "flame.css", "report.css", "timeline.css", "scope.css")
MOST_CELLS = 1_000_000
"""Numbers of owners at steps that a page may have."""
_NS = 1_000_000_000


def render(dumps: Sequence[tuple[str, Sequence[PoolOwners]]], size_limit: int = SIZE_LIMIT) -> str:
    """Return the page of dumps, each with its name and what its pools hold.

    The page is below ``size_limit`` bytes if that is possible with one owner for each class; what
    was added up is stated on it.
    """
    several = len(dumps) > 1
    given = [
        (os.path.basename(name) if several else "", pool) for name, own in dumps for pool in own
    ]
    cells = MOST_CELLS
    while True:
        most = cells // max(sum(4 * len(pool.names) + 2 for _, pool in given), 1)
        pools = [(name, with_fewer_owners(pool, most)) for name, pool in given]
        page = _page([name for name, _ in dumps], pools)
        if len(page.encode()) <= size_limit or most <= 1:
            return page
        cells //= 2


def _page(names: Sequence[str], pools: Sequence[tuple[str, PoolOwners]]) -> str:
    title = (
        os.path.basename(names[0])
        if len(names) == 1
        else phrase("{number} dumps", number=len(names))
    )
    facts: dict[str, Any] = {
        "title": phrase("{name}: memory by class", name=cut_name(title)),
        "origin": cut_name(", ".join(names)),
        "warnings": [],
        "opening": _opening([pool for _, pool in pools]),
    }
    return assemble(
        f"{shown(facts['title'])} – {shown(phrase('device memory'))}",
        "report.html",
        SCOPE_STYLES,
        (*SCOPE_SCRIPTS, "class_data.js", "class_chart.js", "class_tree.js", "classes_page.js"),
        {"facts": facts, "pools": [_pack(name, pool) for name, pool in pools]},
    )


def _opening(pools: Sequence[PoolOwners]) -> int:
    """Return which pool the page opens with: one of a framework, of which the most has an owner."""

    def known(pool: PoolOwners) -> tuple[bool, int, int]:
        sizes = zip(pool.owners, pool.top.bytes[0].tolist(), strict=True)
        owned = sum(size for owner, size in sizes if owner.name)
        return pool.pool in FRAMEWORK_TYPES, owned, pool.peak_bytes

    return max(range(len(pools)), key=lambda k: known(pools[k]), default=0)


def _pack(file: str, pool: PoolOwners) -> str:
    """Return a pool. Columns of owners at steps have the steps of one owner one after the other,
    as differences to the step before.
    """
    classes = pool.classes
    number = {name: k for k, name in enumerate(classes)}
    head = {
        "file": cut_name(file),
        "device": cut_name(pool.device),
        "pool": cut_name(pool.pool),
        "is_steps": pool.is_steps,
        "left_out": pool.left_out,
        "classes": [cut_name(name) for name in classes],
        "owners": [
            [cut_name(one.name), number[one.owner_class], cut_name(one.operator), one.joined]
            for one in pool.owners
        ],
        "steps": [cut_name(name) for name in pool.names],
        "begins_s": _seconds(pool.begins_ns),
        "ends_s": _seconds(pool.ends_ns),
        "peaks_s": _seconds(pool.peaks_ns),
        "peak_rows": pool.peak_rows.tolist(),
        "top_row": pool.top_row,
        "top_s": pool.top_ns / _NS,
    }
    columns = Columns()
    for name, held in (("end", pool.ends), ("peak", pool.peaks), ("top", pool.top)):
        _add(columns, name, held)
    return pack_columns(head, columns)


def _add(columns: Columns, name: str, held: Held) -> None:
    for kind, table in (("bytes", held.bytes), ("blocks", held.blocks)):
        steps = np.diff(table.T, axis=1, prepend=0)
        columns.signed_integers(f"{name}.{kind}", steps.reshape(-1))


def _seconds(times_ns: np.ndarray) -> list[float]:
    found: list[float] = np.round(times_ns / _NS, 6).tolist()
    return found
