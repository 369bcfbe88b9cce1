"""`%load_ext mem_profiler` and `%%mem_profile`, in an IPython of its own."""

from __future__ import annotations

import html
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from browser import NEEDS_BROWSER, assert_quiet, text_of, until
from controller_tools import command_environment
from mem_parser.readers import read_profile
from parser_run import names_folder, report

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir"),
    pytest.mark.timeout(180),
    pytest.mark.skipif(importlib.util.find_spec("IPython") is None, reason="IPython is missing"),
]
SHELL = """
import json, sys
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "mem_profiler")
shown = []
for cell in json.loads(sys.argv[1]):
    with capture_output() as found:
        good = shell.run_cell(cell, store_history=True).success
    pages = [one.data.get("text/html", "") for one in found.outputs]
    shown.append([good, pages, found.stdout + found.stderr])
print(json.dumps(shown))
"""
KERNEL = SHELL.replace(
    "shown = []",
    """
import asyncio
loop = asyncio.new_event_loop()
async def run(cell):
    transformed = shell.transform_cell(cell)
    if shell.should_run_async(cell, transformed_cell=transformed):
        return await shell.run_cell_async(cell, store_history=True, transformed_cell=transformed)
    return shell.run_cell(cell, store_history=True)
shown = []""",
).replace("= shell.run_cell(cell, store_history=True)", "= loop.run_until_complete(run(cell))")
"""A kernel of Jupyter, which runs cells in its own loop."""
AS_KERNELS = """
get_ipython().compile.get_code_name = lambda raw, code, number: f'/tmp/kernel/{hash(code)}.py'
"""
FRAME = re.compile(
    r"<p>[^<]+(?:<br>[^<]+)*</p>"
    r'<iframe srcdoc="([^"]*)" sandbox="allow-scripts"([^>]*)></iframe>(.*)',
    re.DOTALL,
)


def cells(folder: Path, *texts: str, program: str = SHELL) -> list[list[Any]]:
    """Run cells; for each: whether it went well, its HTML outputs, what it printed."""
    folders = {"IPYTHONDIR": str(folder / "ipython"), "HOME": str(folder)}
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(texts)], cwd=folder,
        env=command_environment() | folders | {"MEM_PROFILER_CACHE": names_folder().name},
        capture_output=True, text=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[list[Any]] = json.loads(done.stdout.splitlines()[-1])
    return found


def parts(pages: list[str]) -> tuple[str, str, str]:
    """The page in the frame, the frame's style, and what is below it."""
    [text] = [page for page in pages if page]
    found = FRAME.fullmatch(text)
    assert found is not None, text[:200]
    return html.unescape(found[1]), found[2], found[3]


def test_a_cell_has_its_flame_graph_and_table_below_it(tmp_path: Path) -> None:
    first, second = cells(
        tmp_path,
        "%%mem_profile -c 1 -o cell.heap --height 333\nx = [bytearray(100_000) for _ in range(5)]",
        "print(len(x))",
    )
    good, pages, printed = first
    assert (good, printed) == (True, "")
    page, style, table = parts(pages)
    assert re.match(r"<p>peak (?:488|49\d|50\d)\.\d KiB at [^<]*", pages[0])
    assert page.startswith("<!DOCTYPE html>")
    assert "height: 333px" in style
    assert re.search(r"Total: (?:488|49\d|50\d)\.\d KiB at the peak", table)
    assert "(In[1]) In[1]:2\n" in table, "the cell's name, and its line as the editor shows it"
    assert "<pre" in table
    # Nothing is loaded from elsewhere.
    assert not re.search(r"""(?:src|href)=["']?https?:""", page)
    assert (second[0], second[2].strip()) == (True, "5")
    # The stack begins at the cell, not at the shell nor at the cell that has the magic.
    shown = report("tree", tmp_path / "cell.heap", "--focus", "bytearray|<listcomp>|<module>")
    names = [row["function"] for row in shown["rows"]]
    assert names[:2] == ["all", "[notebook]"]
    assert names[2] == "<module> (In[1])", "the kept file has the cell's name, too"
    assert not any("IPython" in name or "magic" in name for name in names), names
    profile = read_profile(str(tmp_path / "cell.heap"))
    assert int(profile.sites.inuse_blocks[profile.sites.inuse_bytes >= 100_001].sum()) == 5


def test_options_choose_what_is_shown(tmp_path: Path) -> None:
    [[good, pages, printed], help_] = cells(
        tmp_path,
        "%%mem_profile --leaks --inverted --rows 0 --rate 4096 --native\n"
        "x = bytearray(9 << 20)\ndel x\ny = bytearray(1 << 20)",
        "get_ipython().find_cell_magic('mem_profile').__doc__",
    )
    assert (good, printed) == (True, "")
    page, _, table = parts(pages)
    assert table == ""
    start = re.search(r'"start":\s*(\{[^}]*\})', page)
    assert start is not None
    facts = json.loads(start[1])
    assert (facts["count"], facts["invert"]) == ("inuse", True)
    assert "--follow-fork" in help_[2]
    assert list(tmp_path.glob("*.heap")) == []


def test_hints_below_a_cell_work_in_a_cell(tmp_path: Path) -> None:
    body = "x = [bytearray(9_000), [0] * 5_000, 'x' * 7_000]"
    first, second = cells(
        tmp_path,
        f"%%mem_profile -c 1 --rows 1\n{body}",
        f"%%mem_profile -c 1 -n 0 --inuse\n{body}",
    )
    _, _, table = parts(first[1])
    assert "font-family: monospace" in table
    assert "Use --inuse for" in table
    assert "Use -n 0 to show all." in table
    assert second[0], second[2]
    _, _, table = parts(second[1])
    assert "hidden" not in table
    assert "at the peak" not in table


def test_a_function_of_an_earlier_cell_has_its_name_in_the_kept_file(tmp_path: Path) -> None:
    cells(
        tmp_path,
        "def grown():\n    return [bytearray(100_000) for _ in range(5)]",
        "%%mem_profile -c 1 -o cell.heap\nx = grown()",
    )
    names = [row["function"] for row in report("tree", tmp_path / "cell.heap")["rows"]]
    assert {"grown (In[1])", "<module> (In[2])"} <= set(names), names


def test_a_tracker_across_cells_calls_them_as_the_notebook_does(tmp_path: Path) -> None:
    grown = "def grown():\n    return [bytearray(100_000) for _ in range(5)]"
    done = cells(
        tmp_path,
        "from mem_profiler import Tracker",
        "pass",
        "tracker = Tracker('cells.heap', rate=1).start()",
        grown,
        "x = grown()",
        "path = tracker.stop()",
    )
    assert [(good, printed) for good, _, printed in done] == [(True, "")] * 6
    names = [row["function"] for row in report("tree", tmp_path / "cells.heap")["rows"]]
    assert {"grown (In[4])", "<module> (In[5])"} <= set(names), names


def test_a_cell_with_the_code_of_an_earlier_one_has_its_own_number(tmp_path: Path) -> None:
    work = "%%mem_profile -c 1 --height 0\nx = [bytearray(100_000) for _ in range(5)]"
    done = cells(tmp_path, AS_KERNELS, work, work)
    shown = done[2][1][0]
    assert "(In[3]) In[3]:2\n" in shown and "In[2]" not in shown, shown
    assert "<iframe" not in shown and len(shown) < 5_000


def test_a_cell_that_is_killed_leaves_its_profile_in_the_folder_of_the_notebook(
    tmp_path: Path,
) -> None:
    work = "import os\nx = [bytearray(100_000) for _ in range(5)]\n"
    killed = f"{work}os.kill(os.getpid(), 9)"
    folders = {"IPYTHONDIR": str(tmp_path / "ipython"), "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", SHELL, json.dumps([AS_KERNELS, f"%%mem_profile -c 1\n{killed}"])],
        cwd=tmp_path, env=command_environment() | folders, capture_output=True, timeout=150,
    )  # fmt: skip
    assert done.returncode == -9, done.stderr
    # The process beside writes it, and holds the pipe of errors until then.
    [path] = tmp_path.glob("killed-cell-*.heap")
    names = [row["function"] for row in report("tree", path)["rows"]]
    assert "<module> (In[2])" in names
    assert not any("kernel/" in name for name in names), names
    # A cell that is not killed leaves none.
    cells(tmp_path, f"%%mem_profile --rows 0 --height 0\n{work}")
    assert list(tmp_path.glob("*.heap")) == [path]


def test_a_cell_replaces_the_file_that_it_wrote_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "other.heap").write_text("precious")
    again, other = "%%mem_profile --height 0 -o x.heap\ny = 1", "%%mem_profile -o other.heap\ny = 1"
    *written, refused, forced = cells(
        tmp_path, again, again, other, other.replace("-o", "--height 0 -f -o")
    )
    assert all(good and any(pages) for good, pages, _ in [*written, forced]), written
    assert "other.heap" in refused[2] and "exists" in refused[2]


def test_the_help_of_the_magic_is_found_in_every_way(tmp_path: Path) -> None:
    texts = "%%mem_profile -h\nx = 1", "x", "%mem_profile", "%mem_profile?", "%%mem_profile?"
    asked, x, *others = cells(tmp_path, *texts)
    assert "NameError" in x[2], "the cell did not run"
    for shown in [asked[1][0], *(printed for _, _, printed in others)]:
        assert "--rate" in shown and "killed-cell-TIME.heap" in shown, shown


def test_an_error_of_the_cell_is_shown_and_its_memory_too(tmp_path: Path) -> None:
    body = "%%mem_profile -c 4096\nx = bytearray(1 << 20)\n1 / 0"
    [[good, pages, printed]] = cells(tmp_path, body)
    assert not good, "a run of all cells stops here"
    assert printed.endswith("\nCellError: the cell raised ZeroDivisionError\n")
    assert re.search(r"Total: \d\.\d+ MiB.* at the peak", parts(pages)[2])


FULL = """
import resource
used = int(open("/proc/self/statm").read().split()[0]) << 12
resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20), resource.RLIM_INFINITY))
x = []
while True: x.append(bytearray(16 << 20))
"""


@pytest.mark.parametrize("output", ["", " -o cell.heap"])
def test_a_cell_that_took_all_memory_has_its_verdict_and_its_file(
    output: str, tmp_path: Path
) -> None:
    """Short of room for the page, however much the last block left."""
    page = "import mem_profiler.notebook.magic as magic\nmagic._COPIES = 1 << 16"
    _, [good, pages, printed] = cells(tmp_path, page, f"%%mem_profile{output}{FULL}")
    assert not good
    assert printed.endswith("\nCellError: the cell raised MemoryError\n"), printed[-2000:]
    [path] = tmp_path.glob("cell.heap" if output else "killed-cell-*.heap")
    [text] = filter(None, pages)
    assert re.search(r"<(?:p|br)>peak \d+\.\d MiB", text), text[:300]
    assert f"for the flame graph: mem_parser flamegraph {path}</p>" in text
    assert "(In[2]) In[2]:6\n" in text and "<iframe" not in text
    assert report("tree", path)["rows"]


def test_a_cell_that_frees_what_is_older_says_how_to_see_it(tmp_path: Path) -> None:
    _, [_, pages, _], [_, other, _] = cells(
        tmp_path,
        "x = bytearray(64 << 20)",
        "%%mem_profile --height 0 --rows 0\ndel x",
        "%%mem_profile --height 0 --rows 0\ny = bytearray(8 << 20)",
    )
    said = r"RSS fell by 6\d\.\d MiB: blocks from before the cell are not counted; a Tracker"
    assert re.search(said, "".join(pages)), pages
    assert "RSS fell" not in "".join(other)


MAPS = """
import mmap
m = mmap.mmap(-1, 40 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
"""


def test_mappings_have_a_part_of_their_own_below_the_cell(tmp_path: Path) -> None:
    first, wrong = cells(
        tmp_path, f"%%mem_profile --device mmap --height 0{MAPS}", "%%mem_profile --device x\ny = 1"
    )
    [shown] = filter(None, first[1])
    host, mapped = shown.split("<h4>mmap</h4>")
    assert mapped.startswith("<p>peak 40.00 MiB at ")
    assert "(In[1]) In[1]:3\n" in mapped
    assert host.count("note: the process opened ") == shown.count("note: the process opened ")
    assert "device" in wrong[2].lower() and "none, or of hal, cuda" in wrong[2], wrong


ARROW = """
import pyarrow as pa
chunk = pa.array(range(1000), pa.int64())
table = pa.table({"x": pa.concat_arrays([chunk] * 25_000)})
"""


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is missing")
def test_an_arrow_table_is_seen_where_the_cell_itself_imports_arrow(tmp_path: Path) -> None:
    [[good, pages, printed]] = cells(tmp_path, f"%%mem_profile --height 0{ARROW}")
    assert good, printed
    [shown] = filter(None, pages)
    assert "anonymous memory" not in shown
    assert re.search(r"^19\d\.\d MiB .*\(In\[1\]\) In\[1\]:4$", shown, re.MULTILINE), shown


AWAITING = """
import asyncio
async def work(n):
    await asyncio.sleep(0)
    return bytearray(n)
x = [await work(100_000) for _ in range(5)]
loop_of_cell = asyncio.get_running_loop()
"""


@pytest.mark.parametrize("program", [SHELL, KERNEL], ids=["shell", "kernel"])
def test_a_cell_that_awaits_runs_as_the_shell_runs_it(program: str, tmp_path: Path) -> None:
    first, second, wrong, plain = cells(
        tmp_path,
        f"%%mem_profile -c 1 -o cell.heap\n{AWAITING}",
        "async def same():\n    return asyncio.get_running_loop() is loop_of_cell\n"
        "print(await same(), len(x))",
        "%%mem_profile --nothing\nawait work(1)",
        "%%mem_profile -c 4096 --rows 0\ny = bytearray(1 << 20)",
        program=program,
    )
    assert (first[0], first[2]) == (True, "")
    assert "(In[1]) In[1]:6\n" in parts(first[1])[2], parts(first[1])[2]
    assert second[2] == "True 5\n"
    assert "UsageError: %%mem_profile: unrecognized arguments" in wrong[2]
    assert plain[0] and any(plain[1])
    names = [row["function"] for row in report("tree", tmp_path / "cell.heap")["rows"]]
    assert {"<module> (In[1])", "work (In[1])"} <= set(names), names
    assert not any("IPython" in name or "magic" in name for name in names), names


WRONG = {
    "--nothing": "UsageError: %%mem_profile: unrecognized arguments: --nothing",
    "-c 0": "UsageError: rate is a number of bytes from 1 to",
    "-c many": "UsageError: %%mem_profile: argument -c/--rate: invalid int value",
    "--follow-fork": "UsageError: %%mem_profile: --follow-fork needs -o FILE",
    "-o /nowhere/x.heap": "UsageError: -o /nowhere/x.heap: there is no folder /nowhere",
}


def test_what_cannot_be_is_one_line_in_the_cell(tmp_path: Path) -> None:
    wrong = (f"%%mem_profile {line}\nx = 1" for line in WRONG)
    *found, [good, _, still] = cells(tmp_path, *wrong, "print('on')")
    for (_, pages, printed), text in zip(found, WRONG.values(), strict=True):
        assert not any(pages)
        assert printed.strip().splitlines()[-1].startswith(text)
        assert "Traceback" not in printed
    assert (good, still) == (True, "on\n")


def browser_marks(function: Any) -> Any:
    for mark in NEEDS_BROWSER:
        function = mark(function)
    return function


@browser_marks
def test_a_browser_draws_the_flame_graph_in_the_cell(desktop: Any, tmp_path: Path) -> None:
    [[_, pages, _]] = cells(tmp_path, "%%mem_profile -c 4096\nx = bytearray(3 << 20)")
    [text] = [page for page in pages if page]
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><body>{text}", encoding="utf-8")
    desktop.get((tmp_path / "notebook.html").as_uri())
    desktop.switch_to.frame(desktop.find_element("tag name", "iframe"))
    ready = "return document.documentElement.dataset.ready"
    until(desktop, lambda frame: frame.execute_script(ready) == "1")
    text = desktop.find_element("tag name", "body").text
    assert re.search(r"Total: 3\.\d+ MiB.* at the peak", text)
    desktop.find_element("id", "search").send_keys("nothing_of_that_name")
    until(desktop, lambda frame: text_of(frame, "#search-found") == "no match")
    assert_quiet(desktop)
