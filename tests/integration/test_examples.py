"""The examples for CI, run as a CI would: what keeps its budget passes, what is planted fails."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

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


RECIPES = ("github.yml", "gitlab.yml", "Jenkinsfile")
INSTALL = re.compile(r'^pip install (pytest )?"\$MEM_PROFILER"$')
_SH = re.compile(r"""\bsh(?: returnStatus: true,\s+script:)? '([^']*)'""")


def lines_of(recipe: Path) -> list[str]:
    """The lines that a recipe gives to the shell, in their order."""
    text = recipe.read_text(encoding="utf-8")
    if recipe.name == "Jenkinsfile":
        return _SH.findall(text)
    [job] = jobs(yaml.safe_load(text))
    return job["script"] if "script" in job else [s["run"] for s in job["steps"] if "run" in s]


def jobs(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The jobs of a file of GitHub or of GitLab."""
    yield from content.get("jobs", content).values()


def reports_of(recipe: Path) -> set[str]:
    """The files that a recipe shows or keeps."""
    text = recipe.read_text(encoding="utf-8")
    return set(re.findall(r"(?:junit:? |artifacts: |path: )'?([\w./]+)", text))


class Project:
    """A copy of an example in which each line of its recipes ran once."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = copied(name, folder)
        self.said: dict[str, str] = {}
        for recipe in RECIPES:
            self._run(self.folder / recipe)

    def _run(self, recipe: Path) -> None:
        lines = [line.strip() for line in lines_of(recipe)]
        assert sum(bool(INSTALL.match(line)) for line in lines) == 1, lines
        ours = [line for line in lines if not INSTALL.match(line) and "apt-get" not in line]
        assert ours
        summary = self.folder / "summary.md"
        for line in ours:
            if line not in self.said:
                done = run("sh", "-c", line.replace("workload.sh 60 ", "workload.sh 1 "),
                           folder=self.folder, GITHUB_STEP_SUMMARY=str(summary))  # fmt: skip
                assert done.returncode == 0, (line, done.stdout, done.stderr)
                self.said[line] = done.stdout + done.stderr
        for report in reports_of(recipe):
            assert (self.folder / report).stat().st_size, report
        if any("--github" in line for line in ours):
            assert summary.stat().st_size
        else:
            assert reports_of(recipe)


def test_the_recipes_of_a_cpp_project_with_ctest(tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed")
    project = Project("cpp", tmp_path)
    ctest = "ctest --test-dir build --output-on-failure"
    assert "wordcount_memory" in project.said[ctest]
    done = run(*ctest.split(), "-R", "memory", folder=project.folder, WORDCOUNT_LEAK="1")
    assert done.returncode != 0
    assert "FAIL  inuse" in done.stdout
    assert (project.folder / "build" / "memory.xml").exists()


def test_the_recipes_of_a_python_project_with_pytest(tmp_path: Path) -> None:
    project = Project("python", tmp_path)
    [said] = project.said.values()
    assert "3 passed, 1 skipped" in said
    done = run("pytest", "-p", "no:cacheprovider", "--mem", folder=project.folder, LEAK="1")
    assert done.returncode == 1
    assert "FAILED test_reports.py::test_a_cache_that_grows" in done.stdout
    assert "FAIL  leaks" in done.stdout


def test_the_recipes_of_a_service_under_a_workload(tmp_path: Path) -> None:
    project = Project("service", tmp_path)
    assert all("PASS  peak of client buffers" in said for said in project.said.values())
    budget = project.folder / "budget.toml"
    budget.write_text(budget.read_text().replace("192 MiB", "1 MiB"))
    done = run("./workload.sh", "1", folder=project.folder)
    assert done.returncode == 6, done.stderr
    assert "FAIL  peak" in done.stdout


@pytest.mark.parametrize("name", ["cpp", "python", "service"])
def test_every_recipe_says_what_pip_installs(name: str) -> None:
    values = set()
    for recipe in RECIPES:
        text = (EXAMPLES / name / recipe).read_text(encoding="utf-8")
        values |= set(re.findall(r"^ *MEM_PROFILER(?: =|:) '?([^'\n]+)'?$", text, re.MULTILINE))
        assert "README.md" in text
    assert values == {"git+https://git.example.com/tools/mem-profiler.git"}
    table = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    for value in ("git+https://", "a checkout", ".whl"):
        assert value in table


@pytest.mark.parametrize("name", ["cpp", "python", "service"])
def test_a_jenkinsfile_is_whole(name: str) -> None:
    text = (EXAMPLES / name / "Jenkinsfile").read_text(encoding="utf-8")
    code = re.sub(r"//[^\n]*|'[^'\n]*'|\"[^\"\n]*\"", "", text)
    depth = 0
    for sign in re.findall(r"[{}]", code):
        depth += 1 if sign == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert [word for word in ("agent", "environment", "stages", "post") if word in code] == [
        "agent", "environment", "stages", "post",
    ]  # fmt: skip
