"""The reports for a terminal, against sums done by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from mem_cli.terminal import plain_lines
from mem_parser.errors import UsageProblem
from mem_parser.estimate import Estimate
from mem_parser.filters import Filters
from mem_parser.model import Unit
from mem_parser.reports import listing, peek, stats, summary, text_tree, top
from mem_parser.reports.aggregate import GroupBy
from mem_parser.reports.grid import amount, in_noise
from mem_parser.reports.view import View, make_view
from reportview import named

STACKS = (("malloc net_read serve main", 100), ("malloc db_get serve main", 40),
          ("calloc parse main", 3))  # fmt: skip


def view(
    stacks: tuple[tuple[str, int], ...] = STACKS, rate: int = 1, blocks: int = 1, **filters: object
) -> View:
    return make_view(*named(stacks, rate, blocks), Filters(**filters))  # type: ignore[arg-type]


def test_a_number_carries_its_margin_and_noise_is_one_with_an_error_as_large() -> None:
    assert amount(Estimate(3 << 20, 1 << 17, 576), Unit.SPACE) == "3.000 MiB ± 0.25"
    assert amount(Estimate(3.0, float("nan"), 9), Unit.OBJECTS) == "3 ± ?"
    assert amount(Estimate(3.0, 0.0, 3), Unit.OBJECTS) == "3"
    assert in_noise(Estimate(100, 60, 3))
    assert not in_noise(Estimate(100, 40, 3))
    assert not in_noise(Estimate(0, 0, 0))


def test_top_marks_what_is_noise_and_says_so() -> None:
    shown = view((("malloc a main", 4 << 20), ("malloc b main", 1024)), rate=1 << 16)
    found = top.top(shown, top.TopOptions(rows=0))
    lines = list(plain_lines(top.blocks(found)))

    assert [r.name for r in found.shown] == ["a", "b", "main"]
    assert [bool(line.startswith("~ ")) for line in lines[3:6]] == [False, True, False]
    assert lines[6] == "~ 1 row is inside the noise: its error is as large as the number"
    assert [r["noise"] for r in top.records(found)] == [False, True, False]


def test_top_leaves_out_small_rows_and_names_their_sum() -> None:
    shown = view((("malloc a", 1000), ("malloc b", 1)))
    lines = list(plain_lines(top.blocks(top.top(shown, top.TopOptions()))))
    assert lines[-1] == "1 row below 0.5 % not shown (1 B flat): -n 0 shows all"


def test_top_by_line_tells_file_and_line_to_programs() -> None:
    found = top.top(view(), top.TopOptions(group=GroupBy.LINE))
    row = top.records(found)[0]
    assert (row["function"], row["file"], row["module"]) == (
        "net_read", "net_read.c", "/lib/net_read.so")  # fmt: skip
    assert isinstance(row["line"], int)


def test_summary_counts_a_recursive_function_once() -> None:
    shown = view((("malloc f f g", 10), ("malloc g", 5)), blocks=1)
    found = summary.summary(shown)
    assert {r.name: (r.total.value, r.own.value, r.count.value) for r in found.rows} == {
        "g": (15, 5, 2), "f": (10, 10, 1)}  # fmt: skip
    by_own = summary.summary(shown, summary.Sort.OWN, 1)
    assert ([r.name for r in by_own.rows], by_own.left_out) == (["f"], 1)


def test_the_tree_indents_where_branches_part() -> None:
    found = text_tree.text_tree(view(), text_tree.TreeOptions())
    names = [line.split("B ")[-1].rstrip() for line in plain_lines(text_tree.blocks(found))][3:]
    assert [n.lstrip(" 0123456789.%") for n in names[:6]] == [
        "all", "main", "├─ serve", "│  ├─ net_read", "│  └─ db_get", "└─ parse"]  # fmt: skip


def test_the_tree_says_what_it_left_out_and_keeps_parents() -> None:
    small = text_tree.text_tree(view(), text_tree.TreeOptions(share=0.1))
    assert small.left_out == 1
    few = text_tree.text_tree(view(), text_tree.TreeOptions(share=0, most=3))
    rows = text_tree.records(few)
    assert [(r["depth"], r["function"]) for r in rows] == [
        (0, "all"), (1, "main"), (2, "serve"), (3, "net_read")]  # fmt: skip
    assert few.left_out == 2


def test_an_inverted_tree_begins_at_the_allocating_functions() -> None:
    found = text_tree.text_tree(view(), text_tree.TreeOptions(inverted=True))
    assert [n.name for n in found.root.children] == ["net_read", "db_get", "parse"]
    assert found.root.children[0].children[0].name == "serve"


def test_stats_group_by_size_call_and_module() -> None:
    found = stats.stats(view())
    assert [(g.name, g.objects.value) for g in found.sizes if g.objects.value] == [
        ("2 B to 3 B", 1), ("32 B to 63 B", 1), ("64 B to 127 B", 1)]  # fmt: skip
    assert [(g.name, g.bytes.value) for g in found.calls] == [("malloc", 140), ("calloc", 3)]
    assert [g.name for g in found.modules] == [
        "/lib/net_read.so", "/lib/db_get.so", "/lib/parse.so"]  # fmt: skip
    assert {g.name: g.bytes.value for g in found.totals} == {
        "allocated": 143, "freed": 0, "in use": 143}  # fmt: skip
    lines = list(plain_lines(stats.blocks(found)))
    assert "1 more not shown: -n 0 shows all" not in lines
    assert "1 more not shown: -n 0 shows all" in plain_lines(stats.blocks(stats.stats(view(), 2)))


def test_peek_shows_who_calls_and_who_is_called() -> None:
    found = peek.peek(view(), "serve")[0]
    assert [(n.name, n.value.value) for n in found.callers] == [("main", 140)]
    assert [(n.name, n.value.value) for n in found.callees] == [("net_read", 100), ("db_get", 40)]
    leaf = peek.peek(view(), "^par")[0]
    assert [n.name for n in leaf.callees] == [peek.OWN]
    assert [n.name for n in peek.peek(view(), "main")[0].callers] == [peek.OUTERMOST]
    with pytest.raises(UsageProblem, match="no such function"):
        peek.peek(view(), "nowhere")


def test_list_shows_the_lines_around_what_was_allocated(tmp_path: Path) -> None:
    (tmp_path / "serve.c").write_text("".join(f"\tline {k}\x1b[2J\n" for k in range(1, 20)))
    shown = view()
    found = listing.listing(shown, "serve", listing.Sources([str(tmp_path)]))[0]
    text = list(plain_lines(listing.blocks(shown, [found])))

    assert (found.cum.value, found.flat.value) == (140, 0)
    number = found.lines[0].number
    allocating = next(line for line in text if f"line {number}\\x1b" in line)
    assert allocating.split()[:3] == ["140", "B", str(number)]
    assert "\x1b" not in "".join(text)


def test_list_without_the_source_says_where_it_looked() -> None:
    shown = view()
    text = "\n".join(
        plain_lines(listing.blocks(shown, listing.listing(shown, "serve", listing.Sources())))
    )
    assert "source not found: serve.c" in text
    assert "140 B" in text


def test_only_plain_files_are_read_as_source(tmp_path: Path) -> None:
    assert listing.read_source("/dev/zero", listing.Sources())[0] is None
    assert listing.read_source("/etc", listing.Sources())[0] is None
    (tmp_path / "a.c").write_text("x")
    assert listing.read_source("../../a.c", listing.Sources([str(tmp_path)]))[0] == ["x"]


def test_nothing_left_is_said_in_every_report() -> None:
    empty = view(focus=("nowhere",))
    for blocks in (
        top.blocks(top.top(empty, top.TopOptions())),
        summary.blocks(summary.summary(empty)),
        text_tree.blocks(text_tree.text_tree(empty, text_tree.TreeOptions())),
        stats.blocks(stats.stats(empty)),
    ):
        assert list(plain_lines(blocks))[-1].startswith("0 samples: nothing")
