"""Names that are wider than their column keep what tells them from others."""

from __future__ import annotations

import pytest

from mem_parser.textwidth import differences, shortened, told_apart, width


@pytest.mark.parametrize(("text", "columns", "shown"), [
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
])  # fmt: skip
def test_a_shortened_name_keeps_its_file_and_line(text: str, columns: int, shown: str) -> None:
    assert shortened(text, columns) == shown
    assert width(shown) <= max(columns, 1)


GUNICORN = "/srv/venv/bin/python3 /srv/venv/bin/gunicorn --config /etc/shop/gunicorn.conf.py"


@pytest.mark.parametrize("columns", [30, 42, 80])
def test_command_lines_of_workers_are_cut_where_they_are_alike(columns: int) -> None:
    """Two differ in a late word, two are the same, one is of another program."""
    late = [f"{GUNICORN} --bind 10.0.0.1:80{k} --preload shop.wsgi" for k in (11, 12)]
    texts = [*late, late[1], f"postgres: {'x' * 100}", "short"]
    shown = [told_apart(t, columns, d) for t, d in zip(texts, differences(texts), strict=True)]
    assert ["10.0.0.1:8011" in shown[0], "10.0.0.1:8012" in shown[1]] == [True, True]
    assert shown[1] == shown[2]
    assert all(text.startswith("/srv/venv") for text in shown[:3])
    assert shown[3] == f"{texts[3][: columns - 1]}…"
    assert shown[4] == "short"
    assert max(map(width, shown)) <= columns
