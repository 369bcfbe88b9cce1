"""The pytest plugin, run as users run it: pytest in a folder of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any, cast

import pytest

from mem_cli.pytest_plugin import settings
from parser_run import report
from pytest_run import run

TESTS = """
import json, os, time
import pytest

kept = []

@pytest.mark.mem_limit("10 MB")
def test_small():
    bytearray(2 << 20)

@pytest.mark.mem_limit("10 MB")
def test_big():
    block = bytearray(30 << 20)
    assert len(block)

@pytest.mark.mem_limit(inuse="1 MB")
def test_keeps():
    kept.append(bytearray(3 << 20))

@pytest.mark.mem_limit("10 MB", alloc="20 MB", allocs="2M")
def test_churns():
    for _ in range(8):
        bytearray(5 << 20)

@pytest.mark.mem_sites("function:PyByteArray_Resize", alloc="20 MB")
def test_churns_in_a_function():
    for _ in range(8):
        bytearray(5 << 20)

@pytest.mark.mem_limit(alloc="60 MB")
def test_churns_less():
    for _ in range(8):
        bytearray(5 << 20)

@pytest.mark.mem_leaks("100 KB")
def test_leaks():
    kept.append([object() for _ in range(20000)])

@pytest.mark.mem_leaks("100 KB")
def test_fills_a_cache_once():
    kept.append(1) if "once" in os.environ else kept.extend(object() for _ in range(20000))
    os.environ["once"] = "1"

@pytest.mark.mem_leaks("0", warmups=3, repeat=10)
def test_leaks_nothing():
    pass

@pytest.mark.mem_sites("function:PyByteArray_Resize", peak="1 MB")
def test_site():
    block = bytearray(4 << 20)
    time.sleep(0.1)
    assert len(block)

@pytest.mark.mem_alloc_rate("1 TB/s")
def test_rate():
    [object() for _ in range(20000)]

@pytest.mark.mem_limit("10 MB")
def test_fails_by_itself():
    block = bytearray(30 << 20)
    assert not block, "its own failure"

@pytest.mark.mem_sites("file:misspelled", peak="1 MB")
def test_site_of_nothing():
    pass

def test_free():
    kept.clear()
"""
OUTCOMES = {
    "test_small": None,
    "test_big": "peak  30.0",
    "test_keeps": "inuse",
    "test_churns": "FAIL  alloc  40.",
    "test_churns_in_a_function": "alloc",
    "test_churns_less": None,
    "test_leaks": "leaks",
    "test_fills_a_cache_once": None,
    "test_leaks_nothing": None,
    "test_site": "function:PyByteArray_Resize",
    "test_site_of_nothing": None,
    "test_rate": None,
    "test_fails_by_itself": "its own failure",
    "test_free": None,
}


def outcomes(path: Path) -> dict[str, str | None]:
    """Each test of a JUnit file, with the text of its failure."""
    cases = ET.parse(path).getroot().iter("testcase")
    found = {}
    for case in cases:
        failure = case.find("failure")
        found[case.get("name", "")] = (
            None if failure is None else f"{failure.get('message')}\n{failure.text}"
        )
    return found


@pytest.fixture
def folder_of_tests(tmp_path: Path) -> Path:
    """A folder with tests of each kind."""
    (tmp_path / "test_limits.py").write_text(TESTS, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_every_kind_of_limit(folder_of_tests: Path, workers: tuple[str, ...]) -> None:
    done = run(folder_of_tests, "--mem", "--junit-xml=out.xml", *workers, code=1)
    found = outcomes(folder_of_tests / "out.xml")
    assert set(found) == set(OUTCOMES)
    for name, text in OUTCOMES.items():
        if text is None:
            assert found[name] is None, found[name]
        else:
            assert text in (found[name] or ""), (name, found[name])
    assert "  test_site  test_limits.py:" in (found["test_site"] or "")
    assert [t for t in found.values() if t and re.search(r"pytest_pyfunc_call|_multicall", t)] == []
    # An estimate: the small blocks of the interpreter are beside the large one.
    assert re.search(r"30\.0\d MiB peak", done.stdout)
    assert "file:misspelled: no sampled block matches" in done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "1")])
def test_tests_have_the_environment_of_who_started_pytest(
    tmp_path: Path, workers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "libm.so.6")
    (tmp_path / "test_it.py").write_text(
        "import os, pytest\n"
        '@pytest.mark.mem_limit("1 GB")\n'
        "def test_it():\n"
        '    assert os.environ["LD_PRELOAD"] == "libm.so.6"\n'
        '    assert "MEM_PROFILER_PYTEST" not in os.environ\n'
        "    with pytest.raises(ChildProcessError):\n"
        "        os.wait()\n"
    )
    done = run(tmp_path, "--mem", *workers, code=0)
    assert "== memory ==" in done.stdout


def test_without_mem_limits_are_named_and_not_checked(folder_of_tests: Path) -> None:
    done = run(folder_of_tests, "-k", "big or keeps", code=0)
    assert "pytest --mem" in done.stdout
    assert f"2 passed, {len(OUTCOMES) - 2} deselected, 1 warning" in done.stdout


def test_the_session_default_and_the_budget_file(folder_of_tests: Path) -> None:
    (folder_of_tests / "test_limits.py").write_text(
        "def test_a(): bytearray(1 << 20)\ndef test_b(): bytearray(9 << 20)\n"
    )
    done = run(folder_of_tests, "--mem-limit", "4 MiB", "-rA", code=1)
    assert "PASSED test_limits.py::test_a" in done.stdout
    assert "FAILED test_limits.py::test_b" in done.stdout
    (folder_of_tests / "memory.toml").write_text(
        '[target."*::test_a"]\npeak = "64 KiB"\n', encoding="utf-8"
    )
    done = run(folder_of_tests, "--mem-budget", "memory.toml", "-rA", code=1)
    assert "FAILED test_limits.py::test_a" in done.stdout
    assert "PASSED test_limits.py::test_b" in done.stdout


def test_a_limit_that_cannot_be_read_is_one_line(folder_of_tests: Path) -> None:
    mark = '@pytest.mark.mem_limit("4 XB")'
    (folder_of_tests / "test_limits.py").write_text(f"import pytest\n{mark}\ndef test_a(): ...\n")
    for options in ((), ("--mem",)):
        done = run(folder_of_tests, *options, code=1)
        assert "test_limits.py::test_a: '4 XB' is not a size" in done.stdout
        assert "marks.py" not in done.stdout
        assert "another exception" not in done.stdout


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ('mem_limit(peek="1 MB")', "mem_limit: unknown argument 'peek': did you mean peak? "),
        ('mem_sites("file:x", peek="1 MB")', "mem_sites: unknown argument 'peek': did you mean "),
        ('mem_leaks("1 MB", runs=3)', "mem_leaks: unknown argument 'runs': it takes size, "),
        ("mem_leaks()", "mem_leaks: missing a required argument: 'size'; it takes size, warmups"),
        ("mem_limit(24)", "24 is 24 B: write 24 MiB, or 24 B"),
    ],
)
def test_a_misspelled_mark_is_one_line_with_what_it_takes(
    folder_of_tests: Path, mark: str, said: str
) -> None:
    text = f"import pytest\n@pytest.mark.{mark}\ndef test_a(): ...\n"
    (folder_of_tests / "test_limits.py").write_text(text)
    done = run(folder_of_tests, code=1)
    assert f"test_limits.py::test_a: {said}" in done.stdout
    assert "locals" not in done.stdout


def test_a_section_of_a_test_that_is_not_there_is_named(folder_of_tests: Path) -> None:
    names = ("test_smal", "test_big", "test_k*")
    sections = "".join(f'[target."test_limits.py::{name}"]\npeak = "1 GiB"\n' for name in names)
    other = '[target."test_other.py::test_x"]\npeak = "1 GiB"\n'
    (folder_of_tests / "memory.toml").write_text(sections + other)
    options = ("--mem-budget", "memory.toml", "-k", "free")
    done = run(folder_of_tests, *options, code=0)
    said = '[target."test_limits.py::test_smal"] is no test of this run; did you mean'
    assert done.stdout.count("is no test of this run") == 1
    assert said in done.stdout
    done = run(folder_of_tests, "--mem-budget", "memory.toml", "test_limits.py::test_free", code=0)
    assert "is no test of this run" not in done.stdout


def test_an_increase_over_the_baseline_fails(folder_of_tests: Path) -> None:
    tests = folder_of_tests / "test_limits.py"

    def allocate(**mib: int) -> None:
        tests.write_text(
            "".join(
                f"def test_{name}():\n    block = bytearray({size} << 20)\n    del block\n"
                for name, size in mib.items()
            )
        )

    allocate(same=8, more=8, less=8)
    run(folder_of_tests, "--mem-update-baseline", code=0)
    assert "test_limits.py::test_same" in (folder_of_tests / "pytest_mem.baseline").read_text()
    allocate(same=8, more=12, less=4)
    done = run(folder_of_tests, "--mem-fail-on-increase", "--mem-strict", "-rA", code=1)
    assert "undecided" not in done.stdout
    assert "growth" in done.stdout
    passed = [line for line in done.stdout.splitlines() if line.startswith("PASSED")]
    assert passed == ["PASSED test_limits.py::test_same", "PASSED test_limits.py::test_less"]
    assert "1 failed, 2 passed" in done.stdout


GROWING = """
def parse(rows, width):
    return [["x%d" % (i * j) for j in range(width)] for i in range(rows)]

def test_little(): parse(50, WIDTH)
def test_some(): parse(1000, WIDTH)
def test_much(): parse(12000, WIDTH)
"""


def write_growing(folder: Path, width: int) -> None:
    (folder / "test_grow.py").write_text(GROWING.replace("WIDTH", str(width)), encoding="utf-8")


def test_a_growth_by_a_sixth_is_decided_and_none_passes_without_a_word(tmp_path: Path) -> None:
    write_growing(tmp_path, width=10)
    run(tmp_path, "--mem-update-baseline", code=0)
    done = run(tmp_path, "--mem-fail-on-increase", "--mem-strict", code=0)
    assert "warning" not in done.stdout
    write_growing(tmp_path, width=13)
    done = run(tmp_path, "--mem-fail-on-increase", "-rA", code=1)
    for name in ("test_some", "test_much"):
        assert f"FAILED test_grow.py::{name} - Failed: FAIL  growth" in done.stdout


def test_a_growth_that_the_baseline_is_too_coarse_for_is_undecided(tmp_path: Path) -> None:
    write_growing(tmp_path, width=10)
    run(tmp_path, "--mem-update-baseline", "--mem-rate=64K", code=0)
    baseline = tmp_path / "pytest_mem.baseline"
    parts = re.split(r"(?<=::test_much\n)((?:.*\n){3}total\t)\d+", baseline.read_text())
    before, head, after = parts
    baseline.write_text(f"{before}{head}{8 << 20}{after}")  # true; the estimate is by chance
    write_growing(tmp_path, width=11)
    check = ("--mem-fail-on-increase", "-k", "much")
    done = run(tmp_path, *check, code=0)
    assert "test_grow.py::test_much: memory limit undecided" in done.stdout
    said = " ".join(done.stdout.split())
    (cure,) = set(re.findall(r"with (--mem-update-baseline) (--mem-rate=\d+)", said))
    assert "1 failed" in run(tmp_path, *check, "--mem-strict", code=1).stdout
    write_growing(tmp_path, width=10)
    run(tmp_path, *cure, code=0)
    assert "warning" not in run(tmp_path, *check, "--mem-strict", code=0).stdout


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--mem-limit", "much"), "--mem-limit"),
        (("--mem-budget", "none.toml"), "none.toml"),
        (("--mem", "--mem-tries", "0"), "at least 1"),
        (("--mem-update-baseline", "-n", "2"), "leave out -n"),
        (("--mem-fail-on-increase",), "pytest_mem.baseline"),
        (("--fail-on-increase",), "--fail-on-increase: its name is --mem-fail-on-increase"),
    ],
)
def test_bad_options_are_usage_errors(
    folder_of_tests: Path, arguments: tuple[str, ...], text: str
) -> None:
    done = run(folder_of_tests, *arguments)
    assert done.returncode == 4, done.stdout + done.stderr
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


class Recorded:
    """A parser of options that notes what is asked of it."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.inis: list[str] = []

    def getgroup(self, _name: str) -> Recorded:
        return self

    def addoption(self, *names: str, **about: Any) -> None:
        self.names += [*names, about.get("dest", names[0].strip("-").replace("-", "_"))]

    def addini(self, name: str, *_about: Any, **_more: Any) -> None:
        self.inis.append(name)


def test_every_option_and_key_begins_so_that_none_collides() -> None:
    parser = Recorded()
    settings.add_options(cast(pytest.Parser, parser))
    assert {name for name in parser.names if not name.startswith(("--mem-", "mem_"))} == {"--mem"}
    assert all(name.startswith("mem_") for name in parser.inis)
    assert len(parser.names) >= 20


def test_the_older_names_of_marks_mean_the_same(folder_of_tests: Path) -> None:
    tests = folder_of_tests / "test_limits.py"
    older = {"mem_limit": "limit_memory", "mem_leaks": "limit_leaks", "mem_sites": "limit_sites"}
    text = tests.read_text()
    for new, old in older.items():
        text = text.replace(f"mark.{new}(", f"mark.{old}(")
    tests.write_text(text)
    done = run(folder_of_tests, "--mem", "--strict-markers", "-k", "big or leaks or site", code=1)
    assert "4 failed" in done.stdout
    for words in ("FAIL  peak  30.0", "FAIL  leaks", "function:PyByteArray_Resize"):
        assert words in done.stdout


OF_MEMRAY = """
import pytest

kept = []

def grow():
    kept.append([object() for _ in range(20000)])

def all_of(stack):
    names = [frame.function for frame in stack.frames]
    assert names and all(isinstance(frame.lineno, int) for frame in stack.frames)
    return any(name.startswith("list") or "list" in name for name in names)

@pytest.mark.limit_leaks("100 KB", filter_fn=lambda stack: False)
def test_no_stack_counts():
    grow()

@pytest.mark.limit_leaks("100 KB", filter_fn=lambda stack: bool(stack.frames))
def test_every_stack_counts():
    grow()

@pytest.mark.limit_leaks("100 KB", filter_fn=all_of, current_thread_only=False)
def test_some_stacks_count():
    grow()

@pytest.mark.limit_memory("10 MB", current_thread_only=False)
def test_peak():
    assert bytearray(30 << 20)

@pytest.mark.limit_memory("10 MB", current_thread_only=True)
def test_one_thread():
    pass

@pytest.mark.limit_leaks("10 MB", filter_fn=3)
def test_no_filter():
    pass
"""


def test_marks_of_pytest_memray_are_understood_with_their_words(folder_of_tests: Path) -> None:
    (folder_of_tests / "test_limits.py").write_text(OF_MEMRAY)
    done = run(folder_of_tests, "--mem", "--strict-markers", "-rA", code=1)
    passed = {line.split("::")[1] for line in done.stdout.splitlines() if line.startswith("PASSED")}
    assert passed == {"test_no_stack_counts"}
    assert "current_thread_only: which thread held what at the peak is not known" in done.stdout
    assert "limit_leaks: filter_fn is a function of a stack" in done.stdout
    assert done.stdout.count("\nFAIL  leaks") >= 2
    assert "FAIL  peak  30.0" in done.stdout


SAME = """
import pytest

@pytest.mark.parametrize("k", range(20))
@pytest.mark.mem_limit("64 MB")
def test_again(k):
    for _ in range(5): [["x%d" % (i * j) for j in range(10)] for i in range(600)]

@pytest.mark.mem_limit("64 MB")
def test_hardly(): bytearray(4096)
"""


def test_the_numbers_of_the_summary_have_their_error(folder_of_tests: Path) -> None:
    (folder_of_tests / "test_limits.py").write_text(SAME)
    done = run(folder_of_tests, "--mem", "--junit-xml=out.xml", code=0)
    lines = done.stdout.partition("= memory =")[2].splitlines()
    assert len([line for line in lines if re.search(r"[\d.]+ KiB (± |\(\d).* peak", line)]) == 5
    exact = run(folder_of_tests, "--mem", "--mem-rate=1", "-k", "again and 19", code=0).stdout
    match = re.search(r"([\d.]+) KiB peak", exact)
    assert match and "±" not in exact
    found = [
        {str(p.get("name")): str(p.get("value")) for p in case.iter("property")}
        for case in ET.parse(folder_of_tests / "out.xml").getroot().iter("testcase")
    ]
    *again, hardly = found
    truth = float(match[1]) * 1024
    ends = [(int(f["mem_peak_lower95_bytes"]), int(f["mem_peak_upper95_bytes"])) for f in again]
    assert sum(lower <= truth <= upper for lower, upper in ends) >= 17
    assert all("±" in f["mem_peak"] or "(" in f["mem_peak"] for f in again)
    assert int(hardly["mem_peak_upper95_bytes"]) >= 4096
    assert hardly["mem_peak"] != "0 B"


NEAR = """
import pytest

@pytest.mark.mem_limit("30.3 MB")
def test_near():
    kept = [bytearray(3000) for _ in range(10_500)]
"""


def test_the_summary_has_the_number_that_the_verdict_has(tmp_path: Path) -> None:
    (tmp_path / "test_near.py").write_text(NEAR)
    done = run(tmp_path, "--mem", "--mem-rate=32768", "--mem-tries=2")
    [verdict] = re.findall(r"(?:FAIL|\?) +peak +(\S+ MiB)", done.stdout)[:1]
    found = re.findall(r"^ *(\S+ MiB).* peak .* allocated +test_near", done.stdout, re.MULTILINE)
    assert found == [verdict]


def test_files_are_kept_where_asked(folder_of_tests: Path) -> None:
    run(folder_of_tests, "--mem", "-k", "small", "--mem-keep", "kept", "--mem-rate", "1", code=0)
    (heap,) = (folder_of_tests / "kept").glob("*.heap")
    assert report("summary", heap)["rows"]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("MEM_PROFILER_ONLY", "another", "MEM_PROFILER_ONLY=another leaves it out; unset"),
        ("MEM_PROFILER_DISABLE", "1", "opted out: MEM_PROFILER_DISABLE is set in its environment"),
    ],
)
def test_why_pytest_itself_has_no_sampler_is_said_in_the_words_of_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    (tmp_path / "test_one.py").write_text("def test_one():\n    pass\n", encoding="utf-8")
    monkeypatch.setenv(name, value)
    done = run(tmp_path, "--mem", "test_one.py", code=4)
    assert f"this process runs without the sampler: {reason}" in done.stdout + done.stderr


OUTER = (sys.executable, "-m", "mem_profiler", "run", "-q", "-o", "outer", "--")


def started(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder, bounded."""
    return subprocess.run(
        command,
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_the_way_of_a_program_that_calls_pytest_is_true(tmp_path: Path) -> None:
    (tmp_path / "test_one.py").write_text(
        'import pytest\n@pytest.mark.mem_limit("1 MB")\ndef test_one(): bytearray(9 << 20)\n'
    )
    words = ["--mem", "-q", "-pmem_cli.pytest_plugin", "-pno:cacheprovider", "test_one.py"]
    program = f"import pytest, sys; sys.exit(pytest.main({words}))"
    python = [sys.executable, "-c", program]
    ways = []
    for outer in ((), OUTER):
        done = started(tmp_path, *outer, *python)
        assert done.returncode == 4, done.stdout + done.stderr
        ways += re.findall(r"; start that program with (LD_PRELOAD=\S+)\n", done.stderr)
    assert len(ways) == 2
    assert "is being captured by mem_profiler" in done.stderr
    done = started(tmp_path, "env", ways[0], *python)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAIL  peak  9.0" in done.stdout


@pytest.mark.parametrize("option", ["--mem", "--mem-limit=1GB"])
def test_limits_under_the_capture_of_another_are_refused(
    folder_of_tests: Path, option: str
) -> None:
    words = ["-pmem_cli.pytest_plugin", "-pno:cacheprovider", option]
    done = started(folder_of_tests, *OUTER, sys.executable, "-m", "pytest", *words)
    assert done.returncode == 4, done.stdout
    said = r"--mem: pid \d+ is being captured by mem_profiler \(pid \d+\) since [\d:]+, and one "
    assert re.search(said + "capture runs at a time; start pytest --mem by itself\n", done.stderr)


def test_tests_under_the_capture_of_another_run_and_one_warning_says_what_was_not_checked(
    folder_of_tests: Path,
) -> None:
    words = ["-pmem_cli.pytest_plugin", "-pno:cacheprovider", "-k", "big or small or free"]
    done = started(folder_of_tests, *OUTER, sys.executable, "-m", "pytest", *words)
    assert done.returncode == 0, done.stdout
    assert "3 passed, 11 deselected, 1 warning" in done.stdout
    assert "only pytest --mem checks them, by itself: pid " in done.stdout


@pytest.mark.parametrize(("strict", "code"), [((), 0), (("--mem-strict",), 1)])
def test_a_capture_that_begins_in_between_leaves_the_limit_undecided(
    tmp_path: Path, strict: tuple[str, ...], code: int
) -> None:
    (tmp_path / "test_one.py").write_text(
        "import pytest\n"
        "from mem_profiler.inprocess import capture\n"
        "@pytest.fixture\n"
        "def other(tmp_path):\n"
        '    with capture(tmp_path / "other"):\n'
        "        yield\n"
        '@pytest.mark.mem_limit("1 MB")\n'
        '@pytest.mark.mem_leaks("1 MB")\n'
        'def test_one(other): print("its body ran"); bytearray(9 << 20)\n'
    )
    done = run(tmp_path, "--mem", "-rP", *strict, code=code)
    assert "?     pid " in done.stdout
    assert done.stdout.count("its body ran") == 1
    assert ("test_one.py::test_one: memory limit undecided" in done.stdout) is not bool(strict)
