"""Names of threads and tasks on sampled stacks, against what the program itself says at the same
moment.
"""

from __future__ import annotations

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from controller_tools import run_command
from mem_cli.parser.group import cli
from mem_parser.libraries.rules import Libraries
from mem_parser.live.naming import Naming, NamingChoice
from mem_parser.memlog.profiles import read_part
from mem_parser.model import Profile
from mem_parser.readers import read_profile
from mem_parser.startframes import START_FUNCTIONS, fold_starts
from python_stacks_seen import MOST_WITHOUT, RATE_BYTES, captured
from pythons import of_pythons
from sampler_run import TARGETS

BLOCK_BYTES, BARE_BYTES = 3000001, 3100001
MOST_NAMES = 256
MOST_BYTES = 128
TARGET = TARGETS / "python_labels.py"


def who_allocated(profile: Profile, block_bytes: int) -> Counter[str]:
    """How often the threads and tasks of each path allocated blocks of that size."""
    sites = profile.sites
    assert profile.labels is not None
    chosen = np.flatnonzero(sites.alloc_bytes == block_bytes * sites.alloc_blocks)
    found: Counter[str] = Counter()
    numbers = profile.stacks.label_numbers[sites.stack[chosen]].tolist()
    for number, blocks in zip(numbers, sites.alloc_blocks[chosen].tolist(), strict=True):
        found[profile.labels.path(number)] += blocks
    return found


def assert_said(profile: Profile, block_bytes: int, expected: Counter[str]) -> None:
    """Each name as often as the program said it; a stack that is lost has none."""
    found, lost = who_allocated(profile, block_bytes), profile.capture.lost
    counted = lost["python"] + lost["stack_table_full"] + lost["stack_sites_full"]
    assert found.total() == expected.total()
    assert set(found - expected) <= {""}
    # A busy machine may give the segment its pages too late.
    assert (found - expected).total() <= counted < MOST_WITHOUT, (found - expected, lost)


def label_of(thread: str, task: str | None) -> str:
    """What a label says of names that nobody gave, and of all others."""
    found = []
    if thread.startswith("long"):
        thread = thread[: MOST_BYTES - 4 + 1]  # room for one character of four bytes is kept
    thread = re.sub(r"^Thread-\d+$|^MainThread$", "", thread)
    thread = re.sub(r"^Thread-\d+ ", "Thread ", thread)
    thread = re.sub(r"^ThreadPoolExecutor-\d+_\d+$", "ThreadPoolExecutor", thread)
    thread = re.sub(r"^asyncio_\d+$", "asyncio", thread)
    if thread:
        found.append(f"thread {thread}")
    if task is not None and not re.fullmatch(r"Task-\d+", task):
        found.append(f"task {task}")
    return ", ".join(found)


def expected(noted: list[tuple[tuple[str, str | None], int]], *, tasks: bool) -> Counter[str]:
    found: Counter[str] = Counter()
    for (thread, task), count in noted:
        found[label_of(thread, task if tasks else None)] += count
    return found


@pytest.mark.parametrize("python", of_pythons(ends=True))
def test_stacks_have_the_thread_and_task_that_the_program_names(
    python: str, tmp_path: Path
) -> None:
    out = tmp_path / "names.json"
    profile = captured(python, tmp_path, TARGET, out)
    held, bare = json.loads(out.read_text())

    assert_said(profile, BLOCK_BYTES, expected(held, tasks=True))
    # Without the GIL nobody may read the name of a task.
    assert_said(profile, BARE_BYTES, expected(bare, tasks=False))
    assert profile.capture.lost["label"] == 0
    assert_program_alone(profile)


def assert_program_alone(profile: Profile) -> None:
    """Frames by which threads and event loops call the program are folded."""
    symbols = fold_starts(Naming(NamingChoice(libraries=Libraries())).names(profile))
    sites = profile.sites
    blocks = sites.stack[sites.alloc_bytes == BLOCK_BYTES * sites.alloc_blocks]
    stack = np.repeat(np.arange(len(profile.stacks)), np.diff(symbols.offsets))
    places = symbols.locations_of_stack[np.isin(stack, blocks)]
    functions = [symbols.functions[symbols.locations[k].function] for k in places]
    assert {f.file for f in functions if f.python} == {str(TARGET)}
    starts = {f.name for f in functions if f in START_FUNCTIONS}
    assert starts == {"[thread start]", "[event loop]"}


def test_ten_thousand_names_make_no_more_labels_than_are_kept(tmp_path: Path) -> None:
    out = tmp_path / "names.json"
    profile = captured(sys.executable, tmp_path, TARGET, out, 10000)
    found = who_allocated(profile, BLOCK_BYTES)

    others = found.pop("other tasks")
    assert others == 10000 - MOST_NAMES
    assert len(found) == MOST_NAMES
    assert set(found.values()) == {1}
    assert all(re.fullmatch(r"task request-\d+", name) for name in found)
    assert profile.capture.lost["label"] >= others
    assert profile.labels is not None
    assert len(profile.labels) == MOST_NAMES + 1


def test_a_log_of_events_has_the_labels_of_its_capture(tmp_path: Path) -> None:
    out = tmp_path / "names.json"
    done = run_command(
        "run",
        "-c",
        RATE_BYTES,
        "--events",
        "-o",
        tmp_path / "x.heap",
        "--",
        sys.executable,
        TARGET,
        out,
    )
    assert done.returncode == 0, done.stderr
    logs = sorted(tmp_path.glob("x-*.memlog"))
    assert "removed" not in done.stderr
    heap, [log] = read_profile(tmp_path / "x.heap"), read_part(logs)
    for size in (BLOCK_BYTES, BARE_BYTES):
        assert who_allocated(log, size) == who_allocated(heap, size)
    held, _ = json.loads(out.read_text())
    assert_said(heap, BLOCK_BYTES, expected(held, tasks=True))
    tables = [
        CliRunner().invoke(cli, ["table", "--alloc", "-n", "0", "--labels", *map(str, paths)])
        for paths in ([tmp_path / "x.heap"], logs)
    ]
    of_heap, of_log = (
        Counter(re.findall(r"thread io, task fetch|thread [\w-]+|other tasks", one.output))
        for one in tables
    )
    assert of_log == of_heap
    assert of_log["thread io, task fetch"]


def test_reports_show_labels_if_asked_and_are_else_as_without_any(tmp_path: Path) -> None:
    captured(sys.executable, tmp_path, TARGET, tmp_path / "names.json")
    [path] = tmp_path.glob("x*.heap")

    def said(*arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments, str(path)])
        assert done.exit_code == 0, done.output
        return done.output

    collapsed = ("convert", "--to", "collapsed", "-o", "-", "--alloc")
    plain, labelled = said(*collapsed), said(*collapsed, "--labels")
    assert "thread worker-1" not in plain
    assert any(line.startswith("thread io;task fetch;") for line in labelled.splitlines())

    def sums(text: str) -> Counter[str]:
        total: Counter[str] = Counter()
        for line in text.splitlines():
            stack, _, value = line.rpartition(" ")
            total[re.sub(r"^((thread|task|other) [^;]*;)+", "", stack)] += int(value)
        return total

    bare, merged = sums(plain), sums(labelled)
    assert bare.keys() == merged.keys()
    assert all(abs(bare[k] - merged[k]) <= 200 for k in bare)  # numbers are rounded line by line
    tree = ("tree", "--alloc", "-n", "0")
    assert "task fetch" in said(*tree, "--labels")
    assert "task fetch" not in said(*tree, "--no-labels")
    assert "thread io, task fetch" in said("table", "--alloc", "-n", "0", "--labels")
