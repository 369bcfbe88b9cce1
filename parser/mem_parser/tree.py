"""All stacks of a profile as one prefix tree, in columns.

Node 0 is the root, above the outermost frames; every other node is one function at one line, called
from its parent node. Functions with one name and different full names (instances of a template) are
different nodes in one group (`Tree.group`). Nodes are numbered level by level, so a parent's number
is smaller than its children's and sums towards the root are one pass. The allocations are in
*rows*: one row per (node, domain) where the program allocated blocks with that stack, and one
*thread row* per (node, domain, thread) for the blocks in use. A row's numbers are five columns,
already weighted: bytes and their variance, objects and their variance, samples. They add, so any
subtree or selection is a sum.

A base profile may share the tree: its rows are in counts of their own (``base_inuse`` ...), for
differences. Of two snapshots of one capture, the variances of the count `BETWEEN` are those of the
births and frees since the base: blocks live in both cancel.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mem_parser.counts import PRESENCE
from mem_parser.diff import variance_between
from mem_parser.estimate import FloatArray, unsample
from mem_parser.interning import distinct
from mem_parser.model import BoolArray, Count, IntArray, Profile, Unit
from mem_parser.symbols.table import Function, Symbols

BYTES, BYTES_VARIANCE, OBJECTS, OBJECTS_VARIANCE, SAMPLES = range(5)
"""Positions of a row's five columns."""
COLUMNS = 5
LEFT_OUT = "[narrower frames]"
"""Name of a node that stands for all that was left out below its parent."""
BETWEEN = "between"
"""Count that has nothing but the variances of changes since the base."""
BORN, LIVE = "born", "live"
"""Counts of rows by moment: what was allocated, and how much more is in use."""

Key = Callable[[Function], object]


def by_function(function: Function) -> object:
    """Return the key by which functions of one profile are the same node."""
    return function.name, function.module, function.file


def across_builds(function: Function) -> object:
    """Return the key by which functions of different builds are the same node: folders and offsets
    differ there.
    """
    name = function.full_name if function.python else function.name
    return name, function.module.rsplit("/", 1)[-1]


@dataclass(slots=True)
class Rows:
    """The allocations at nodes: ``counts[kind]`` has shape (rows, 5), see `BYTES` and following.

    ``thread`` is -1 in rows that are not by thread.
    """

    node: IntArray
    domain: IntArray
    thread: IntArray
    counts: dict[str, FloatArray]

    def __len__(self) -> int:
        return len(self.node)


@dataclass(slots=True)
class Tree:
    """The prefix tree; all node arrays have one entry per node, the root first.

    ``name`` indexes ``names`` (-1 at the root); ``line`` is the source line, 0 if unknown, and
    ``file`` its index in ``files``. ``group[k]`` is the first of ``names`` that differs from name
    *k* at most in its full name. ``left_out`` is the number of branches in a node of the name
    `LEFT_OUT`, 0 in all others; ``widest`` is the largest share of any total (see `shares`) that
    one of them has.
    """

    names: list[Function]
    group: list[int]
    files: list[str]
    parent: IntArray
    name: IntArray
    file: IntArray
    line: IntArray
    inlined: BoolArray
    levels: IntArray
    """Level *d* (root: 0) is nodes levels[d] to levels[d + 1] - 1."""
    rows: Rows
    thread_rows: Rows
    domains: list[str]
    threads: list[str]
    left_out: IntArray
    widest: float = 0.0
    notes: list[str] = field(default_factory=list)
    leaf: IntArray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """The node at which each stack of the profile ends."""
    time_rows: Rows | None = None
    """What came and went up to each of some moments since the one before; None: no times are known.
    Its ``thread`` is the number of the moment, its counts are `BORN` and `LIVE`."""

    def __len__(self) -> int:
        return len(self.parent)

    @property
    def depth(self) -> IntArray:
        """Level of each node."""
        return np.repeat(np.arange(len(self.levels) - 1), np.diff(self.levels))

    def own(self, kind: str) -> FloatArray:
        """Return for each node its own allocations; shape (nodes, 5)."""
        result = np.zeros((len(self), COLUMNS))
        values = self.rows.counts[kind]
        for column in range(COLUMNS):
            result[:, column] = np.bincount(
                self.rows.node, weights=values[:, column], minlength=len(self)
            )
        return result

    def total(self, kind: str) -> FloatArray:
        """Return for each node the allocations of its subtree; shape (nodes, 5)."""
        return self.sum_up(self.own(kind))

    def sum_up(self, own: FloatArray) -> FloatArray:
        """Add every node's numbers to all its ancestors'; shape (nodes,) or (nodes, k)."""
        result = own.copy()
        for depth in range(len(self.levels) - 2, 0, -1):
            low, high = self.levels[depth], self.levels[depth + 1]
            # Children of one parent are neighbours, so a segmented sum does.
            first = np.flatnonzero(np.diff(self.parent[low:high], prepend=-1))
            result[self.parent[low:high][first]] += np.add.reduceat(result[low:high], first, axis=0)
        return result

    def children(self) -> tuple[IntArray, IntArray]:
        """Return (first, last + 1) child of every node; children are neighbours."""
        first = np.searchsorted(self.parent[1:], np.arange(len(self))) + 1
        last = np.searchsorted(self.parent[1:], np.arange(len(self)), side="right") + 1
        return first, last


@dataclass(slots=True)
class _Stacks:
    """Stacks of one or two profiles, spelled in *steps*: a function, its file and line, and whether
    it is inlined there. ``step[locations[k]]`` is the step of frame *k*.
    """

    names: list[Function]
    group: list[int]
    files: list[str]
    name: IntArray
    file: IntArray
    line: IntArray
    inlined: BoolArray
    step: IntArray
    locations: npt.NDArray[np.int32]
    offsets: IntArray


def build_tree(
    profile: Profile,
    symbols: Symbols,
    base: tuple[Profile, Symbols] | None = None,
    *,
    key: Key | None = None,
    most_nodes: int = 0,
) -> Tree:
    """Build the tree of ``profile``; with ``base``, of both.

    ``key`` says which functions of one full name are one node; by default `by_function`, with a
    base `across_builds`. With ``most_nodes`` at least so many nodes of the largest shares are in
    the tree; it may leave out branches that cannot be among them (see `LEFT_OUT`).
    """
    key = key or (by_function if base is None else across_builds)
    sources = [symbols] if base is None else [symbols, base[1]]
    stacks = _join(sources, key, str if base is None else os.path.basename)
    domains = list(profile.domains)
    sites = [_site_rows(profile, "")]
    if base is not None:
        sites.append(_site_rows(base[0], "base_"))
        sites[1].domain = _same_domains(domains, base[0].domains)[sites[1].domain]
        sites[1].node += len(symbols.offsets) - 1
    rows = sites[0] if base is None else _concatenate(*sites)
    grown = _grow(stacks, _weights(rows, len(stacks.offsets) - 1), most_nodes)
    rows.node = grown.leaf[rows.node]
    between = None if base is None else _between_rows(base[0], profile, grown.leaf)
    tree = Tree(
        [*stacks.names, Function(LEFT_OUT, LEFT_OUT, "", known=False)],
        [*stacks.group, len(stacks.names)],
        stacks.files,
        grown.parent,
        np.append(stacks.name, len(stacks.names))[grown.step],
        np.append(stacks.file, 0)[grown.step],
        np.append(stacks.line, 0)[grown.step],
        np.append(stacks.inlined, False)[grown.step],
        grown.levels,
        merge(rows if between is None else _concatenate(rows, between)),
        merge(_thread_rows(profile, grown.leaf)),
        domains,
        [t.name or str(t.tid) for t in profile.threads],
        grown.left_out,
        grown.widest,
        leaf=grown.leaf[: len(symbols.offsets) - 1],
    )
    tree.name[0] = -1
    tree.file[0], tree.line[0], tree.inlined[0] = 0, 0, False
    tree.notes = [p.text for p in symbols.problems]
    return tree


def _join(sources: Sequence[Symbols], key: Key, place: Callable[[str], str]) -> _Stacks:
    """Spell the stacks of all ``sources`` alike; files of one ``place`` are the same."""
    table: dict[object, int] = {}
    groups: dict[object, int] = {}
    names: list[Function] = []
    group: list[int] = []
    files = [""]
    file_of: dict[str, int] = {"": 0}
    steps: dict[tuple[int, int, int, bool], int] = {}
    step: list[int] = []
    locations, offsets = [], [np.zeros(1, dtype=np.int64)]
    for symbols in sources:
        of_function = []
        for function in symbols.functions:
            same = key(function)
            index = table.setdefault((same, function.full_name), len(names))
            if index == len(names):
                names.append(function)
                group.append(groups.setdefault(same, index))
            of_function.append(index)
        shift = len(step)
        for x in symbols.locations:
            file = file_of.setdefault(place(x.file), len(files))
            if file == len(files):
                files.append(x.file)
            spelled = (of_function[x.function], file, x.line, x.inlined)
            step.append(steps.setdefault(spelled, len(steps)))
        here = symbols.locations_of_stack.astype(np.int32, copy=False)
        locations.append(here + np.int32(shift) if shift else here)
        offsets.append(symbols.offsets[1:] + offsets[-1][-1])
    whole = len(sources) == 1
    return _Stacks(
        names,
        group,
        files,
        np.array([s[0] for s in steps], dtype=np.int64),
        np.array([s[1] for s in steps], dtype=np.int64),
        np.array([s[2] for s in steps], dtype=np.int64),
        np.array([s[3] for s in steps], dtype=np.bool_),
        np.array(step, dtype=np.int64),
        locations[0] if whole else np.concatenate(locations),
        np.concatenate(offsets),
    )


def _weights(rows: Rows, stacks: int) -> FloatArray:
    """Return for each stack its share of every total above 0: bytes and objects of each count.
    ``rows`` still have stacks for nodes.
    """
    columns = []
    for values in rows.counts.values():
        for column in (BYTES, OBJECTS):
            total = float(values[:, column].sum())
            if total > 0:
                columns.append(
                    np.bincount(rows.node, weights=values[:, column] / total, minlength=stacks)
                )
    return np.column_stack(columns) if columns else np.zeros((stacks, 0))


@dataclass(slots=True)
class _Grown:
    """Result of `_grow`; ``leaf`` is the node where each stack ends."""

    parent: IntArray
    step: IntArray
    levels: IntArray
    left_out: IntArray
    widest: float
    leaf: IntArray


def _grow(stacks: _Stacks, weights: FloatArray, most: int) -> _Grown:
    """Grow the tree level by level, outermost frames first.

    A node's share is never above its parent's. So a node that is not among the ``most`` largest so
    far will not be at the end, and neither will its descendants.
    """
    depths = np.diff(stacks.offsets)
    leaf = np.zeros(len(depths), dtype=np.int64)
    rest = len(stacks.name)
    width = rest + 1
    parents, steps = [np.array([-1])], [np.array([0])]
    counts = [np.zeros(1, dtype=np.int64)]
    levels, widest = [0, 1], 0.0
    largest = np.zeros(0)
    active = np.flatnonzero(depths > 0)
    depth = 0
    while len(active):
        frame = stacks.offsets[1:][active] - 1 - depth
        keys = leaf[active] * width + stacks.step[stacks.locations[frame]]
        unique, inverse = np.unique(keys, return_inverse=True)
        share = _largest_share(inverse, weights[active], len(unique))
        keep, largest = _keep_largest(share, largest, most)
        held = np.where(keep, unique, unique // width * width + rest)
        table = unique if keep.all() else distinct(held)
        place = np.searchsorted(table, held)
        parents.append(table // width)
        steps.append(table % width)
        counts.append(np.bincount(place[~keep], minlength=len(table)))
        widest = max(widest, float(share[~keep].max(initial=0.0)))
        leaf[active] = place[inverse] + levels[-1]
        levels.append(levels[-1] + len(table))
        depth += 1
        active = active[keep[inverse] & (depths[active] > depth)]
    return _Grown(
        np.concatenate(parents),
        np.concatenate(steps),
        np.array(levels, dtype=np.int64),
        np.concatenate(counts),
        widest,
        leaf,
    )


def _largest_share(group: IntArray, weights: FloatArray, groups: int) -> FloatArray:
    result = np.zeros(groups)
    for column in weights.T:
        np.maximum(result, np.bincount(group, weights=column, minlength=groups), out=result)
    return result


def _keep_largest(
    share: FloatArray, largest: FloatArray, most: int
) -> tuple[BoolArray, FloatArray]:
    """Return which of the nodes with these shares may be among the ``most`` largest (0: all), and
    the largest shares so far.
    """
    if not most:
        return np.ones(len(share), dtype=np.bool_), largest
    both = np.concatenate((largest, share))
    if len(both) <= most:
        return np.ones(len(share), dtype=np.bool_), both
    both = np.partition(both, len(both) - most)[len(both) - most :]
    # Sums of the same numbers in another order differ in the last digit.
    return (share >= both[0] * (1 - 1e-9)) & (share > 0), both


def _site_rows(profile: Profile, prefix: str) -> Rows:
    """Return the rows of every site, with its stack for the node."""
    counts = {}
    for kind in (Count.INUSE, Count.FREED, Count.PEAK, *PRESENCE):
        if not profile.has(kind):
            continue
        size, size_variance, samples = profile.weigh(kind, Unit.SPACE)
        objects, objects_variance, _ = profile.weigh(kind, Unit.OBJECTS)
        counts[prefix + str(kind)] = np.column_stack(
            (size, size_variance, objects, objects_variance, samples)
        ).astype(np.float64)
    stack = profile.sites.stack.astype(np.int64)
    domain = profile.sites.domain.astype(np.int64)
    return Rows(stack, domain, np.full(len(stack), -1, dtype=np.int64), counts)


def _between_rows(base: Profile, new: Profile, leaf: IntArray) -> Rows | None:
    variances = [variance_between(base, new, unit) for unit in (Unit.SPACE, Unit.OBJECTS)]
    if variances[0] is None or variances[1] is None:
        return None
    stack, domain = np.nonzero(variances[0] + variances[1])
    values = np.zeros((len(stack), COLUMNS))
    values[:, BYTES_VARIANCE] = variances[0][stack, domain]
    values[:, OBJECTS_VARIANCE] = variances[1][stack, domain]
    return Rows(leaf[stack], domain, np.full(len(stack), -1, dtype=np.int64), {BETWEEN: values})


def _thread_rows(profile: Profile, leaf: IntArray) -> Rows:
    blocks = profile.thread_blocks
    if blocks is None:
        nothing = np.zeros(0, dtype=np.int64)
        return Rows(nothing, nothing, nothing, {str(Count.INUSE): np.zeros((0, COLUMNS))})
    rates = profile.rates
    rate = rates if isinstance(rates, float) else rates[blocks.site]
    weighed = unsample(blocks.blocks, blocks.bytes, rate)
    values = np.column_stack(
        (
            weighed.bytes,
            weighed.bytes_variance,
            weighed.objects,
            weighed.objects_variance,
            blocks.blocks,
        )
    ).astype(np.float64)
    position_of_row = {t.row: k for k, t in enumerate(profile.threads)}
    thread = np.array([position_of_row.get(r, -1) for r in blocks.row.tolist()], dtype=np.int64)
    domain = profile.sites.domain[blocks.site].astype(np.int64)
    return Rows(leaf[profile.sites.stack[blocks.site]], domain, thread, {str(Count.INUSE): values})


def _same_domains(domains: list[str], others: Sequence[str]) -> IntArray:
    """Return the positions of ``others`` in ``domains``, appending missing ones."""
    for other in others:
        if other not in domains:
            domains.append(other)
    return np.array([domains.index(other) for other in others], dtype=np.int64)


def _concatenate(first: Rows, second: Rows) -> Rows:
    counts = {}
    for kind in (*first.counts, *second.counts):
        above = first.counts.get(kind, np.zeros((len(first), COLUMNS)))
        below = second.counts.get(kind, np.zeros((len(second), COLUMNS)))
        counts[kind] = np.concatenate((above, below))
    return Rows(
        np.concatenate((first.node, second.node)),
        np.concatenate((first.domain, second.domain)),
        np.concatenate((first.thread, second.thread)),
        counts,
    )


def merge(rows: Rows) -> Rows:
    """Add up rows of the same node, domain and thread, and drop rows with only zeros."""
    wanted: npt.NDArray[np.bool_] = np.zeros(len(rows), dtype=np.bool_)
    for values in rows.counts.values():
        wanted |= values.any(axis=1)
    domains = int(rows.domain.max(initial=0)) + 1
    threads = int(rows.thread.max(initial=-1)) + 2
    keys = ((rows.node * domains + rows.domain) * threads + rows.thread + 1)[wanted]
    unique, inverse = np.unique(keys, return_inverse=True)
    counts: dict[str, FloatArray] = {}
    for kind, values in rows.counts.items():
        columns = [
            np.bincount(inverse, weights=values[wanted, k], minlength=len(unique))
            for k in range(COLUMNS)
        ]
        counts[kind] = np.column_stack(columns).astype(np.float64)
    node_domain = unique // threads
    return Rows(node_domain // domains, node_domain % domains, unique % threads - 1, counts)


def regroup(rows: Rows, new_node: IntArray) -> Rows:
    """Return ``rows`` moved from node *k* to node ``new_node[k]`` and merged there."""
    return merge(Rows(new_node[rows.node], rows.domain, rows.thread, rows.counts))
