"""Inefficient blocks: their labels, what they cost, and how the file gets the labels."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from inefficient_blocks import by_definition
from mem_parser.memscope import inefficient
from mem_parser.memscope.inefficient import EARLY, IDLE, LATE, find_inefficient, labels_by_row
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rows import Rows
from memscope_dumps import Story

A, B, C = 0x1000, 0x2000, 0x3000


def labels(story: Story, folder: Path, **options: object) -> dict[int, list[str]]:
    """Labels by the ID of the allocation."""
    rows = story.read(folder)
    found = find_inefficient(rows, **options)  # type: ignore[arg-type]
    return {int(rows.id[row]): held for row, held in labels_by_row(found).items()}


STORIES = {
    "( m2 ) ( m1 ) ( f2 ) ( a1 )": {"m1": ["early_allocation"]},
    "( m2 ) ( m1 f2 ) ( a1 )": {},
    "( m1 a1 ) ( m2 ) ( f1 )": {"m1": ["late_deallocation"]},
    "( m1 a1 ) ( m2 f1 )": {},
    "( m1 a1 ) ( ) ( ) ( a1 )": {},
    "( m1 a1 ) ( ) ( ) ( ) ( a1 )": {"m1": ["temporary_idleness"]},
    "m2 m1 f2 a1 m3 f1": {"m1": ["early_allocation", "late_deallocation"]},
}
"""Operators in brackets, and what PyTorch's pool does: allocate, access or free a block."""


def pool_story(text: str) -> Story:
    story = Story()
    for word in text.split():
        if word in "()":
            (story.start if word == "(" else story.end)()
        elif word[0] == "a":
            story.access(int(word[1:]), 64, int(word[1:]))
        else:
            (story.malloc if word[0] == "m" else story.free)(
                int(word[1:]), 64, "PTA", int(word[1:])
            )
    return story


@pytest.mark.parametrize("text", STORIES)
def test_labels_are_those_of_the_manual(tmp_path: Path, text: str) -> None:
    """The first operator to free or allocate is another one; events outside count as one each."""
    found = labels(pool_story(text), tmp_path, idle_threshold=3)
    assert {text.split()[number - 1]: kinds for number, kinds in found.items()} == STORIES[text]


def test_small_blocks_and_labels_not_asked_for_are_left_out(tmp_path: Path) -> None:
    story = pool_story("m2 m1 f2 a1")
    assert labels(story, tmp_path, mem_size=65) == {}
    assert labels(story, tmp_path, mem_size=64) == {2: [EARLY]}
    assert labels(story, tmp_path, types=(LATE, IDLE)) == {}


step = st.tuples(
    st.sampled_from(["start", "end", "malloc", "free", "access", "access"]),
    st.integers(1, 3),
    st.just(""),
)


def told(events: list[tuple[str, int, str]]) -> Story:
    story = Story()
    for what, block, _ in events:
        if what in {"start", "end"}:
            getattr(story, what)()
        elif what == "access":
            story.access(block, 64, block)
        else:
            getattr(story, what)(block, 64, "PTA", block)
    return story


@given(st.lists(step, max_size=30))
def test_labels_are_those_of_the_algorithm_event_by_event(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, str]]
) -> None:
    found = labels(told(events), tmp_path_factory.mktemp("x"), idle_threshold=2)
    assert {k: set(v) for k, v in found.items()} == by_definition(events, 2)


class Mixed(NamedTuple):
    """An event in a file of several devices, processes and families."""

    what: str
    block: int
    pool: str
    pid: int
    device: str


mixed_events = st.lists(
    st.builds(
        Mixed,
        what=st.sampled_from(["start", "end", "malloc", "shadow", "free", "access", "access"]),
        block=st.integers(1, 3),
        pool=st.sampled_from(["PTA", "PTA", "ATB", "PTA_WORKSPACE", "HAL"]),
        pid=st.sampled_from([100, 100, 101]),
        device=st.sampled_from(["0", "1"]),
    ),
    max_size=40,
)


def mixed_rows(events: list[Mixed], *, early_form: bool) -> Story:
    """The events as rows; in the form of early releases blocks have no number."""
    story = Story()
    for one in events:
        family = "ATB" if one.pool == "ATB" else "ATEN"
        # Each process and family has its own blocks, and each device.
        number = one.block + 10 * (one.device == "1") + 20 * (family == "ATB")
        number += 50 * (one.pool == "PTA_WORKSPACE") + 100 * (one.pool == "HAL")
        keys, values = ("addr", "size"), (hex(number), 64)
        if not early_form:
            keys, values = ("allocation_id", *keys), (number, *values)
        where = {"pid": one.pid, "device": one.device}
        if one.what in {"start", "end"}:
            story.add("OP_LAUNCH", f"{family}_{one.what.upper()}", "op", **where)
        elif one.what == "access":
            pool = "ATB" if family == "ATB" else "PTA"
            story.add("ACCESS", "READ", "op", number, ((*keys, "type"), (*values, pool)), **where)
        else:
            if one.what == "shadow":
                keys, values = (*keys, "shadow"), (*values, "true")
            event = "FREE" if one.what == "free" else "MALLOC"
            story.add(event, one.pool, address=number, attributes=(keys, values), **where)
    return story


def mixed(text: str) -> list[Mixed]:
    """Events of device 0: what, block, pool and process of each."""
    rows = [word.split(":") for word in text.split()]
    return [Mixed(what, int(block), pool, int(pid), "0") for what, block, pool, pid in rows]


OF_BEFORE = "shadow:1:PTA:100 access:1:PTA:100 malloc:2:PTA:100 free:1:PTA:100"
OF_ANOTHER = "malloc:1:PTA:100 malloc:2:PTA:101 free:2:PTA:101 access:1:PTA:100"
FAMILIES = """malloc:2:PTA_WORKSPACE:100 malloc:1:PTA:100 malloc:3:ATB:100
    free:2:PTA_WORKSPACE:100 access:1:PTA:100 access:3:ATB:100"""


@example(mixed(OF_BEFORE), False, "csv", Random(1))
@example(mixed(OF_ANOTHER), False, "csv", Random(1))
@example(mixed(FAMILIES), True, "db", Random(1))
@given(mixed_events, st.booleans(), st.sampled_from(["csv", "db"]), st.randoms())
def test_processes_families_and_devices_in_one_file_have_their_own_labels(
    tmp_path_factory: pytest.TempPathFactory,
    events: list[Mixed],
    early_form: bool,
    form: str,
    random: Random,
) -> None:
    story = mixed_rows(events, early_form=early_form)
    expected: dict[int, set[str]] = {}
    for pid in (100, 101):
        for family in ("PTA", "ATB"):
            mine = [
                (place, one)
                for place, one in enumerate(events, 1)
                if one.pid == pid and (one.pool == "ATB") == (family == "ATB")
                and not (one.pool == "HAL" and one.what in {"malloc", "shadow", "free"})
            ]  # fmt: skip
            shadows = {place for place, one in mine if one.what == "shadow"}
            plain = [
                (
                    one.what if one.what != "shadow" else "malloc",
                    int(story.rows[place - 1].address or 0),
                    "",
                )
                for place, one in mine
            ]
            for k, kinds in by_definition(plain, 2).items():
                if mine[k - 1][0] not in shadows:
                    expected[mine[k - 1][0]] = kinds
    random.shuffle(story.rows)
    rows = read_rows(getattr(story, form)(tmp_path_factory.mktemp("x")))
    found = find_inefficient(rows, idle_threshold=2)
    by_id = {int(rows.id[row]): set(held) for row, held in labels_by_row(found).items()}
    assert by_id == expected


# --- what it costs -----------------------------------------------------------------------------


def curves(rows: Rows) -> tuple[int, int]:
    (peak,) = inefficient.peaks(rows, find_inefficient(rows))
    return peak.peak_bytes, peak.better_peak_bytes


def test_the_ranking_is_by_bytes_and_time_and_the_peak_without_them_is_lower(
    tmp_path: Path,
) -> None:
    story = Story()
    story.malloc(A, 1000, "PTA", 1)
    story.access(A, 1000, 1)
    story.malloc(B, 600, "PTA", 2)
    story.access(B, 600, 2)
    story.free(A, 1000, "PTA", 1)
    story.malloc(C, 300, "PTA", 3)
    story.free(B, 600, "PTA", 2)
    rows = story.read(tmp_path)
    found = find_inefficient(rows)
    ranked = inefficient.costs(rows, found)
    assert [(int(rows.id[one.row]), one.labels) for one in ranked] == [(1, [LATE]), (3, [LATE])]
    assert [(one.size_bytes, one.idle_ns) for one in ranked] == [(1000, 3000), (600, 3000)]
    assert ranked[0].byte_seconds == pytest.approx(1000 * 3000e-9)
    # Without: A is gone before B comes, B before C comes.
    assert curves(rows) == (1600, 1000)


@example(events=[(what, 1, "") for what in ("malloc", "malloc", "free", "access")])
@given(events=st.lists(step, max_size=30))
def test_the_peak_without_waste_is_never_higher(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[str, int, str]]
) -> None:
    rows = told([*events, ("malloc", 9, "")]).read(tmp_path_factory.mktemp("x"))
    found = find_inefficient(rows, idle_threshold=2)
    (peak,) = inefficient.peaks(rows, found)
    assert peak.better_peak_bytes <= peak.peak_bytes
    assert (peak.better_bytes <= peak.used_bytes).all()
    assert sum(one.byte_seconds for one in inefficient.costs(rows, found)) >= 0
    used, better = inefficient.over_time(peak, 7)
    assert used.max() == peak.peak_bytes
    assert (better <= used).all()
