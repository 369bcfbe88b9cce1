"""stats: groups by size, call and module."""

from __future__ import annotations

from mem_cli.terminal import plain_lines
from mem_parser.reports import stats
from reportview import view


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
    assert "1 more hidden. Use -n 0 to show all." not in lines
    assert "1 more hidden. Use -n 0 to show all." in plain_lines(
        stats.blocks(stats.stats(view(), 2))
    )
