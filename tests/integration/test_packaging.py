"""The distribution: it builds from a bare source tree and carries everything it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(arguments: list[str], cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        arguments,
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def bare_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the sources, as `git archive` would give them: no .git, nothing built."""
    try:
        listed = run(["git", "ls-files", "-z", "-co", "--exclude-standard"], ROOT)
    except (OSError, AssertionError):
        pytest.skip("not a git work tree")
    tree = tmp_path_factory.mktemp("source") / "mem-profiler"
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tree / name)
    return tree


@pytest.fixture(scope="module")
def wheel(bare_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the bare tree."""
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(out), "."], bare_tree)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_carries_the_sampler_the_extension_and_every_module(
    wheel: Path, bare_tree: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    modules = {
        str(path.relative_to(bare_tree / root))
        for root in ("parser", "bindings", "cmd")
        for path in (bare_tree / root).rglob("*.py")
        if "build" not in path.relative_to(bare_tree).parts
    }

    assert "mem_profiler/libmem_sampler.so" in names
    beside = {"libmem_sampler_layers.so", "VkLayer_mem_profiler.json"}
    assert {f"mem_profiler/{name}" for name in beside} <= names
    assert any(name.startswith("mem_profiler/_core.") and ".so" in name for name in names)
    assert modules - names == set()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == {
        "mem_parser",
        "mem_profiler",
        "mem_cli",
    }


def test_the_wheel_carries_the_data_files_that_lie_beside_the_modules(
    wheel: Path, bare_tree: Path
) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    data = {
        str(path.relative_to(bare_tree / root))
        for root in ("parser", "bindings", "cmd")
        for path in (bare_tree / root).rglob("*")
        if path.suffix in {".typed", ".pyi", ".js", ".css", ".html", ".json", ".svg"}
    }
    assert data - names == set()


def test_the_wheel_is_for_this_platform_and_every_python_from_3_11_on(wheel: Path) -> None:
    name, _, python, abi, platform = wheel.stem.split("-")
    assert (name, python, abi) == ("mem_profiler", "cp311", "abi3")
    assert platform.startswith("linux_")


def test_the_commands_of_an_installed_wheel_start_and_find_their_sampler(
    wheel: Path, tmp_path: Path
) -> None:
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "-q", "--no-deps", "--target", str(target), str(wheel)], tmp_path)

    for command in ("mem_profiler", "mem_parser"):
        text = run([sys.executable, str(target / "bin" / command), "--help"], tmp_path,
                   PYTHONPATH=str(target))  # fmt: skip
        assert command in text
    where = run([sys.executable, "-c", "import mem_profiler as m; print(m.__file__)"], tmp_path,
                PYTHONPATH=str(target)).strip()  # fmt: skip
    library = Path(where).with_name("libmem_sampler.so")
    assert library == target / "mem_profiler" / "libmem_sampler.so"
    run(["true"], tmp_path, LD_PRELOAD=str(library), MEM_PROFILER_DIR=str(tmp_path))


def test_the_source_distribution_carries_what_a_build_needs(
    bare_tree: Path, tmp_path: Path
) -> None:
    code = (
        "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"
    )
    run([sys.executable, "-c", code, str(tmp_path)], bare_tree)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        names = {name.partition("/")[2] for name in tar.getnames()}

    needed = {
        str(path.relative_to(bare_tree))
        for folder in ("sampler", "parser", "bindings", "cmd", "tests", "docs")
        for path in (bare_tree / folder).rglob("*")
        if path.suffix in {".c", ".h", ".S", ".map", ".py", ".md", ".typed", ".pyi", ".txt", ".js"}
        or path.name == "Makefile"
    }
    generated = {name for name in needed if "egg-info" in name or name.endswith("_core.c")}
    assert (
        needed | {"pyproject.toml", "setup.py", "Makefile", "LICENSE"}
    ) - generated - names == set()
