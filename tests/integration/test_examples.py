"""The examples for CI, run as a CI would: what keeps its budget passes, what is planted fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from c_build import ROOT

EXAMPLES = ROOT / "examples" / "ci"
COMMANDS = Path(sys.executable).parent


def run(*command: str | Path, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command with our commands in the path, bounded."""
    env = {**os.environ, "PATH": f"{COMMANDS}{os.pathsep}{os.environ['PATH']}", **variables}
    return subprocess.run(
        [str(part) for part in command],
        cwd=folder, env=env, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip


def copied(name: str, folder: Path) -> Path:
    """A copy of an example, so that nothing is built in the source tree."""
    return Path(shutil.copytree(EXAMPLES / name, folder / name))


@pytest.mark.skipif(shutil.which("cmake") is None, reason="cmake is not installed")
def test_a_cpp_project_with_ctest(tmp_path: Path) -> None:
    project = copied("cpp", tmp_path)
    for step in (["cmake", "-B", "build"], ["cmake", "--build", "build"]):
        done = run(*step, folder=project)
        assert done.returncode == 0, done.stdout + done.stderr
    ctest = ["ctest", "--test-dir", "build", "--output-on-failure"]
    done = run(*ctest, folder=project)
    assert done.returncode == 0, done.stdout
    assert "wordcount_memory" in done.stdout
    done = run(*ctest, folder=project, WORDCOUNT_LEAK="1")
    assert done.returncode != 0
    assert "FAIL  inuse" in done.stdout
    assert (project / "build" / "memory.xml").exists()


def test_a_python_project_with_pytest(tmp_path: Path) -> None:
    project = copied("python", tmp_path)
    pytest_command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--mem"]
    done = run(*pytest_command, folder=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed, 1 skipped" in done.stdout
    done = run(*pytest_command, folder=project, LEAK="1")
    assert done.returncode == 1
    assert "FAILED test_reports.py::test_a_cache_that_grows" in done.stdout
    assert "FAIL  leaks" in done.stdout


def test_a_service_under_a_workload(tmp_path: Path) -> None:
    project = copied("service", tmp_path)
    done = run("./workload.sh", "2", folder=project)
    assert done.returncode == 0, done.stderr
    assert "PASS  peak of client buffers" in done.stderr
    budget = project / "budget.toml"
    budget.write_text(budget.read_text().replace("192 MiB", "1 MiB"))
    done = run("./workload.sh", "2", folder=project)
    assert done.returncode == 6, done.stderr
    assert "FAIL  peak" in done.stderr
