"""Pages of a Python program in headless Chromium: its frames, files, source lines and search."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from browser import NEEDS_BROWSER, Shown
from mem_cli.parser.group import cli
from mem_parser.heapfile.writer import write_heap
from python_profiles import LOOP, Stack, profile_of

Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys
pytestmark = NEEDS_BROWSER
END = f"python!{LOOP} python!Py_RunMain libc!__libc_start_main python!_start"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shop") / "app.py"
    path.write_text("".join(f"line {k} of the shop\n" for k in range(1, 40)))
    return path


@pytest.fixture(scope="module")
def pages(source: Path) -> dict[str, str]:
    """Addresses of the flame graph and the report of one profile."""
    stacks = [
        Stack(
            f"sampler!malloc python!list_resize {END}",
            f"Cart.add:7@{source} main:20@{source} *<module>:30@{source}", blocks=30,
        ),
        Stack(
            f"sampler!malloc ext!fast_join python!cfunction_call {END}",
            f"Cart.add:9@{source} main:21@{source} *<module>:30@{source}", blocks=10,
        ),
    ]  # fmt: skip
    heap = source.with_name("x.heap")
    profile = profile_of(stacks, host=os.uname().nodename, uid=os.geteuid())
    heap.write_bytes(write_heap(profile))
    found = {}
    for kind in ("flamegraph", "report"):
        page = source.with_name(f"{kind}.html")
        done = CliRunner().invoke(
            cli, [kind, str(heap), "-o", str(page), "--source-dir", str(source.parent)]
        )
        assert done.exit_code == 0, done.output
        found[kind] = page.as_uri()
    return found


@pytest.mark.parametrize("kind", ["flamegraph", "report"])
def test_a_page_finds_python_functions_by_name_file_and_line(
    desktop: Any, pages: dict[str, str], source: Path, kind: str
) -> None:
    page = Shown(desktop, pages[kind], "#tab=flame" if kind == "report" else "")

    assert page.search("fast_join").endswith("(25.0 %)")
    page.until(lambda: page.text(".details-title") == "fast_join")
    assert page.search("app.py:21").endswith("(100.0 %)")
    page.until(lambda: page.text(".details-title") == f"main ({source.parent.name}/app.py)")
    assert page.text(".details-facts").endswith(f"at {source}")
    assert page.search(r"app\.py:4\d") == "no match"
    page.assert_quiet()


def test_a_line_is_found_alone_where_lines_are_apart(desktop: Any, pages: dict[str, str]) -> None:
    page = Shown(desktop, pages["flamegraph"], "#lines=1")

    assert page.search("app.py:21").endswith("(25.0 %)")
    assert page.search("app.py:7$").endswith("(75.0 %)")
    page.assert_quiet()


def test_the_source_lines_of_a_python_function_are_there(
    desktop: Any, pages: dict[str, str], source: Path
) -> None:
    page = Shown(desktop, pages["flamegraph"], "#source=1")

    page.search("Cart.add")
    page.until(lambda: str(source) in page.text("#source-pane"))
    shown = page.text("#source-pane")
    assert "line 7 of the shop" in shown
    assert "line 9 of the shop" in shown
    page.assert_quiet()


def test_the_table_of_functions_names_pythons_files(
    desktop: Any, pages: dict[str, str], source: Path
) -> None:
    page = Shown(desktop, pages["report"], "#tab=table")

    rows = page.texts("#functions-rows tr")
    [row] = [text for text in rows if "Cart.add" in text]
    assert f"Cart.add ({source.parent.name}/app.py)" in row
    assert not any("_PyEval" in text for text in rows)
    page.assert_quiet()
