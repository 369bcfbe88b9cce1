"""stats: groups by size, call and module."""

from __future__ import annotations

from mem_cli.terminal import plain_lines
from mem_parser.filters import Filters
from mem_parser.model import PeakSource
from mem_parser.reports import stats
from mem_parser.reports.view import make_view
from reportview import named, view


def test_sizes_begin_with_blocks_of_no_byte_and_have_commas() -> None:
    texts = [stats._size_text(step) for step in (0, 1, 9, 10)]
    assert texts == ["0 B to 1 B", "2 B to 3 B", "512 B to 1,023 B", "1 KiB to 2 KiB"]


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


def test_what_is_left_by_filters_has_no_peak_of_its_own() -> None:
    profile, symbols = named()
    sites = profile.sites
    sites.peak_blocks, sites.peak_bytes = sites.inuse_blocks * 0, sites.inuse_bytes * 0
    capture = profile.capture
    capture.peak_at_s, capture.peak_bytes, capture.peak_source = 1.0, 200.0, PeakSource.SAMPLER
    for focus, words in (
        ((), ("peak: 200 B after 1.0 s; sites are of a moment at most 1/1024 lower", " peak")),
        (("db",), ("peak of the whole", "at that")),
    ):
        found = stats.stats(make_view(profile, symbols, Filters(focus=focus)))
        text = "\n".join(plain_lines(stats.blocks(found)))
        assert all(word in text for word in words), text
        assert ("of the whole" in text) is bool(focus)
        assert ("1/1024" in text) is not bool(focus)
