"""Groups of marks account for every mark."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mem_parser.devices import Mark
from mem_parser.marks import group_marks

times = st.floats(0, 100)
random_marks = st.builds(
    Mark, time_s=times, id=st.integers(0, 3), kind=st.sampled_from(["point", "begin", "end"]),
    thread=st.just(0), domain=st.sampled_from(["", "d"]), text=st.sampled_from(["a", "b"]),
)  # fmt: skip


@given(marks=st.lists(random_marks, max_size=30))
def test_groups_of_marks_account_for_every_mark(marks: list[Mark]) -> None:
    groups = group_marks(marks)
    assert sum(g.count for g in groups) == sum(m.kind != "end" for m in marks)
    assert sum(g.ranges for g in groups) <= sum(m.kind == "end" for m in marks)
    for group in groups:
        assert 0 <= group.ranges <= group.count
        assert group.range_s <= group.ranges * (group.last_s - group.first_s) + 1e-9


def mark(time_s: float, kind: str, number: int, text: str = "", domain: str = "") -> Mark:
    return Mark(time_s, number, kind, 0, domain, text)


def test_a_range_ends_at_the_next_end_of_its_number() -> None:
    groups = group_marks(
        [
            mark(1.0, "begin", 1, "step"), mark(1.5, "begin", 2, "step"),
            mark(2.0, "end", 2), mark(4.0, "end", 1), mark(5.0, "point", 0, "note"),
        ]
    )  # fmt: skip
    assert [(g.text, g.count, g.ranges, g.range_s) for g in groups] == [
        ("step", 2, 2, 3.5), ("note", 1, 0, 0.0),
    ]  # fmt: skip
    assert (groups[0].first_s, groups[0].last_s) == (1.0, 4.0)


def test_ends_of_older_ranges_and_of_other_domains_end_nothing() -> None:
    [group] = group_marks(
        [mark(0.5, "end", 1), mark(1.0, "begin", 1, "a"), mark(2.0, "end", 1, domain="d")]
    )
    assert (group.count, group.ranges) == (1, 0)


def test_the_group_with_the_most_time_comes_first_then_the_most_frequent() -> None:
    marks = [mark(1, "begin", 1, "long"), mark(9, "end", 1)]
    marks += [mark(k, "point", 0, "often") for k in range(5)] + [mark(2, "point", 0, "once")]
    assert [g.text for g in group_marks(marks[::-1])] == ["long", "often", "once"]
