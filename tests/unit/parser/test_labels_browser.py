"""The switch for names of threads and tasks, in headless Chromium."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from browser import NEEDS_BROWSER, Shown
from mem_cli.parser.group import cli
from mem_parser.heapfile.writer import write_heap
from mem_parser.python.labels import Labels
from python_profiles import LOOP, Stack, profile_of

pytestmark = NEEDS_BROWSER
NATIVE = f"sampler!malloc python!{LOOP} python!_start"
RUN = "*task_main:1"


@pytest.fixture(scope="module")
def heap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same function in a task of a named thread, in the thread itself, and elsewhere."""
    profile = profile_of([Stack(NATIVE, RUN, blocks=count) for count in (50, 30, 20)])
    profile.labels = Labels(np.array([0, 1], np.uint32), np.array([1, 2], np.uint8), ["io", "get"])
    profile.stacks.label = np.array([2, 1, 0], np.uint32)
    path = tmp_path_factory.mktemp("labels") / "x.heap"
    path.write_bytes(write_heap(profile))
    return path


def page_of(heap: Path, kind: str, *arguments: str) -> str:
    page = heap.with_name(f"{kind}{''.join(arguments)}.html")
    done = CliRunner().invoke(cli, [kind, *arguments, str(heap), "-o", str(page)])
    assert done.exit_code == 0, done.output
    return page.as_uri()


@pytest.mark.parametrize("kind", ["flamegraph", "report"])
def test_a_switch_begins_stacks_with_threads_and_tasks(desktop: Any, heap: Path, kind: str) -> None:
    page = Shown(desktop, page_of(heap, kind), "#tab=flame" if kind == "report" else "")
    assert page.search("^thread io$") == "no match"
    assert page.search("^task_main").endswith("(100.0 %)")
    page.element("#toggle-labels").click()
    page.until(lambda: page.element("#toggle-labels").get_attribute("aria-pressed") == "true")
    assert page.search("^thread io$").endswith("(80.0 %)")
    assert page.search("^task get$").endswith("(50.0 %)")
    assert "labels=1" in page.fragment
    page.assert_quiet()


def test_a_page_opens_with_labels_if_asked(desktop: Any, heap: Path) -> None:
    page = Shown(desktop, page_of(heap, "flamegraph", "--labels"))
    assert page.search("^thread io$").endswith("(80.0 %)")
    page.element("#toggle-labels").click()
    page.until(lambda: page.search("^thread io$") == "no match")
    page.assert_quiet()


def test_patterns_do_not_match_labels_that_are_not_shown(desktop: Any, heap: Path) -> None:
    page = Shown(desktop, page_of(heap, "flamegraph"), "#focus=task")
    assert "100.0 %" in page.text("#filter-note")
    page.element("#toggle-labels").click()
    page.type("#filter-focus", "^task get")
    page.until(lambda: "50.0 %" in page.text("#filter-note"))
    page.assert_quiet()


def test_a_table_of_the_report_has_labels_with_the_switch_alone(desktop: Any, heap: Path) -> None:
    address = page_of(heap, "report")
    assert "thread io" not in Shown(desktop, address, "#tab=table").text("#panel-table")
    page = Shown(desktop, address, "#tab=table&labels=1")
    assert "callers without own memory hidden" in page.text("#panel-table")
    page.element("#functions-rows th[data-key=total] button").click()
    assert "thread io" in page.text("#panel-table")
    page.assert_quiet()
