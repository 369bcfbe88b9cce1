"""What all reports for a terminal share."""

from __future__ import annotations

from mem_cli.terminal import plain_lines
from mem_parser.reports import stats, summary, text_tree, top
from reportview import view


def test_nothing_left_is_said_in_every_report() -> None:
    empty = view(focus=("nowhere",))
    for blocks in (
        top.blocks(top.top(empty, top.TopOptions())),
        summary.blocks(summary.summary(empty)),
        text_tree.blocks(text_tree.text_tree(empty, text_tree.TreeOptions())),
        stats.blocks(stats.stats(empty)),
    ):
        assert list(plain_lines(blocks))[-1].startswith("0 samples: nothing")
