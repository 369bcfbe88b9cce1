"""Names that are wider than their column keep what tells them from others."""

from __future__ import annotations

import pytest

from mem_parser.textwidth import shortened, width


@pytest.mark.parametrize(
    ("text", "columns", "shown"),
    [
        ("net_read", 8, "net_read"),
        ("net_read_header", 8, "net_rea…"),
        ("net_read /src/net/net.c:12", 17, "net_read net.c:12"),
        ("net_read /src/net/net.c:12", 14, "net_… net.c:12"),
        ("net_read /src/net/net.c:12", 10, "…net.c:12"),
        ("net_read /src/net/net.c:12", 8, "net_rea…"),
        ("load (app/cart.py) /shop/app/cart.py:8", 20, "load cart.py:8"),
        ("load (app/cart.py):8", 15, "load cart.py:8"),
        ("load (cart.py):8", 12, "…cart.py:8"),
        ("load (app/cart.py)", 10, "load (app…"),
        ("std::pair<a, b> f.cc:1", 14, "std::p… f.cc:1"),
        ("/usr/lib/libc.so.6", 11, "…/libc.so.6"),
        ("内存内存内存 a.c:1", 11, "内存… a.c:1"),
        ("abc", 0, "…"),
    ],
)
def test_a_shortened_name_keeps_its_file_and_line(text: str, columns: int, shown: str) -> None:
    assert shortened(text, columns) == shown
    assert width(shown) <= max(columns, 1)
