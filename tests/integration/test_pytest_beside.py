"""The pytest plugin beside the plugins that people have installed: nothing collides.

They are installed, at their current versions, in a virtual environment that lives as long as the
tests of this file; what the tests use of this project comes from the environment that runs them.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

PLUGINS = ("pytest-memray", "pytest-cov", "pytest-xdist", "pytest-benchmark")
UNASKED = ("-p", "no:hypothesispytest", "-p", "no:anyio")  # of our own environment: 1.1 s a run
TESTS = """
import pytest

@pytest.mark.mem_limit("10 MB")
def test_ours_holds():
    bytearray(2 << 20)

@pytest.mark.mem_limit("10 MB")
def test_ours_is_exceeded():
    assert bytearray(30 << 20)

@pytest.mark.{memory}("10 MB")
def test_shared_holds():
    bytearray(2 << 20)

@pytest.mark.{memory}("10 MB")
def test_shared_is_exceeded():
    assert bytearray(30 << 20)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter that has the other plugins, and behind them what this one has."""
    folder = tmp_path_factory.mktemp("beside") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=120)
    program = folder / "bin" / "python"
    installed = subprocess.run(
        [sys.executable, "-m", "pip", f"--python={program}", "install", "-q",
         "--disable-pip-version-check", "--no-compile", "--timeout=15", "--retries=1", *PLUGINS],
        capture_output=True, text=True, timeout=280,
    )  # fmt: skip
    if installed.returncode != 0:
        reason = installed.stderr.strip().splitlines()[-1:]
        pytest.skip(f"{', '.join(PLUGINS)} cannot be installed: {' '.join(reason)}")
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    (packages / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    return str(program)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with tests whose marks are ours, and of the name that pytest-memray has too."""
    (tmp_path / "test_marks.py").write_text(TESTS.format(memory="limit_memory"), encoding="utf-8")
    return tmp_path


def run(python: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pytest in the folder, bounded; it is no worker of the pytest that runs us."""
    # pytest prints failures twice where these say that it runs in CI.
    hidden = ("PYTEST_", "CI", "BUILD_NUMBER")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(
        [python, "-m", "pytest", "-p", "no:cacheprovider", *UNASKED, *arguments],
        cwd=folder, env=env, capture_output=True, text=True, timeout=150,
    )  # fmt: skip


def failures(done: subprocess.CompletedProcess[str]) -> set[str]:
    """The tests that pytest's summary names as failed, whatever word a plugin has for that."""
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "test_marks.py::" in line]
    return {
        line.split("::")[1].split()[0]
        for line in lines
        if line.startswith(("FAILED ", "MEMORY PROBLEMS "))
    }


def test_every_plugin_is_there(python: str, folder: Path) -> None:
    done = run(python, folder, "--version", "--version")
    for name in (*PLUGINS, "mem-profiler"):
        assert f"{name}-" in done.stdout + done.stderr, name


def test_pytest_memray_keeps_its_marks_and_a_line_says_so(python: str, folder: Path) -> None:
    done = run(python, folder, "--mem", "-rA")
    assert failures(done) == {"test_ours_is_exceeded", "test_shared_is_exceeded"}
    assert "mem: pytest-memray checks the marks limit_memory and limit_leaks" in done.stdout
    ours, _, shared = done.stdout.partition("test_shared_is_exceeded")
    assert "FAIL  peak  30.0" in ours
    assert "FAIL  peak" not in shared.partition("short test summary")[0]
    assert "Test was limited to 10.0MiB" in done.stdout  # pytest-memray's words
    marks = run(python, folder, "--markers").stdout
    assert "@pytest.mark.mem_limit(peak" in marks
    assert marks.count("@pytest.mark.limit_memory") == 1


def test_without_pytest_memray_in_the_run_the_old_names_are_ours(python: str, folder: Path) -> None:
    done = run(python, folder, "--mem", "-p", "no:memray")
    assert failures(done) == {"test_ours_is_exceeded", "test_shared_is_exceeded"}
    told, _, short = done.stdout.partition("short test summary")
    assert told.count("FAIL  peak  30.0") == 2
    assert short.count("Failed: FAIL  peak  30.0") == 2
    assert "pytest-memray" not in done.stdout


def test_the_option_that_pytest_memray_has_too_is_its_own(python: str, folder: Path) -> None:
    done = run(python, folder, "--fail-on-increase", "-k", "holds")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run(python, folder, "--fail-on-increase", "-p", "no:memray")
    assert done.returncode == 4
    assert "--fail-on-increase: its name is --mem-fail-on-increase" in done.stderr


def test_with_coverage_and_workers(python: str, folder: Path) -> None:
    done = run(python, folder, "--mem", "--cov=.", "--cov-report=term", "-n", "2")
    assert failures(done) == {"test_ours_is_exceeded", "test_shared_is_exceeded"}
    assert "test_marks.py" in done.stdout.partition("coverage:")[2]
    assert "100%" in done.stdout


def test_beside_a_benchmark(python: str, folder: Path) -> None:
    (folder / "test_marks.py").write_text(
        "import pytest\n"
        '@pytest.mark.mem_limit("1 MB")\n'
        "def test_exceeds(benchmark): benchmark.pedantic(bytearray, (8 << 20,), rounds=3)\n"
        '@pytest.mark.mem_limit("64 MB")\n'
        "def test_keeps(benchmark): benchmark.pedantic(bytearray, (8 << 20,), rounds=3)\n"
    )
    done = run(python, folder, "--mem", "--mem-tries=1")
    assert failures(done) == {"test_exceeds"}
    assert "benchmark: 2 tests" in done.stdout
