"""tree: who called whom, as indented text."""

from __future__ import annotations

from mem_cli.terminal import plain_lines
from mem_parser.reports import text_tree
from reportview import view


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
    # Of other stacks there is nothing that -n 0 could show.
    assert text_tree.text_tree(view(focus=("db",)), text_tree.TreeOptions()).left_out == 0


def test_an_inverted_tree_begins_at_the_allocating_functions() -> None:
    found = text_tree.text_tree(view(), text_tree.TreeOptions(inverted=True))
    assert [n.name for n in found.root.children] == ["net_read", "db_get", "parse"]
    assert found.root.children[0].children[0].name == "serve"


def test_the_biggest_are_those_that_allocate_most_with_their_callers() -> None:
    texts = ("malloc a f main", "malloc b g main", "malloc c f main", "malloc d")
    stacks = tuple((text, 5 - k) for k, text in enumerate(texts))
    chosen = text_tree.TreeOptions(biggest=2)
    found = text_tree.text_tree(view(stacks), chosen)
    rows = [record["function"] for record in text_tree.records(found)]
    assert rows == ["all", "main", "f", "a", "g", "b"]
