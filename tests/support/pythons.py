"""The CPythons of this machine, and the library whose blocks tests count.

Those of the system and of pyenv are found; MEM_PROFILER_TEST_PYTHONS names more of them, programs
with a colon in between (CONTRIBUTING.md says how to get some). A version may end in "t": a
free-threaded build.
"""

from __future__ import annotations

import functools
import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from c_build import compile_program
from sampler_run import FLAGS, TARGETS, WAIT_S

VERSIONS = ("3.8", "3.9", "3.10", "3.11", "3.12", "3.13", "3.14", "3.15", "3.13t", "3.14t", "3.15t")
_ASK = (
    "import sys, sysconfig;"
    "flag = 't' if sysconfig.get_config_var('Py_GIL_DISABLED') else '';"
    "print('%d.%d' % sys.version_info[:2] + flag)"
)


# Read once: tests run without the variables that mem_profiler reads.
_NAMES = os.environ.get("MEM_PROFILER_TEST_PYTHONS", "")
_NAMED = [path for path in _NAMES.split(os.pathsep) if path]


def _version(path: str) -> str:
    asked = subprocess.run(
        [path, "-I", "-c", _ASK], capture_output=True, text=True, timeout=WAIT_S, check=False
    )
    return asked.stdout.strip()


@functools.cache
def interpreters() -> dict[str, Path]:
    """Version -> program: of the system, of pyenv, and what else is on the path."""
    roots = os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv"
    found = sorted(glob.glob(f"{roots}/versions/3.*/bin/python3"), reverse=True)
    on_path = [shutil.which(f"python{version}") for version in VERSIONS]
    paths = [*_NAMED, *found, *(path for path in on_path if path)]
    versions = {_version(path): Path(path) for path in reversed(paths)}
    return {version: path for version, path in versions.items() if version in VERSIONS}


def interpreter(version: str) -> Path:
    """The program of a version; the test is skipped where it is not installed."""
    path = interpreters().get(version)
    if path is None:
        pytest.skip(f"no CPython {version}")
    return path


def any_interpreter() -> Path:
    found = interpreters()
    assert found, "no CPython on this machine"
    return found.get("3.11") or found[max(found, key=lambda v: int(v.split(".")[1]))]


def system_interpreter() -> Path:
    """The system's own, which may be linked in another way."""
    path = Path("/usr/bin/python3")
    if not path.exists() or _version(str(path)) not in VERSIONS:
        pytest.skip("no CPython of the system")
    return path


def blocks_library() -> Path:
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-shared", "-fPIC", *FLAGS)
    return compile_program(TARGETS / "pymem_blocks.c", flags, libs=("-lpthread",))


def pythons() -> list[str]:
    """One interpreter of each version that this machine has, and the system's own."""
    found = dict.fromkeys([sys.executable, "/usr/bin/python3", *_NAMED])
    for minor in range(9, 16):
        kept = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}"))
        named = shutil.which(f"python3.{minor}")
        found |= dict.fromkeys(str(path) for path in kept[-1:])
        found |= {named: None} if named and "pyenv" not in named else {}
    real: dict[str, str] = {}
    for path in found:
        if Path(path).exists():
            real.setdefault(str(Path(path).resolve()), path)
    return list(real.values())


def _version_named(path: str) -> str:
    """The version by the name of the program, without a start of it."""
    found = re.search(r"3\.\d+t?$", Path(path).resolve().name)
    return found[0] if found else ""


@functools.cache
def _quick(ends: bool) -> set[str]:
    """The versions of the normal run: this one, and with `ends` the oldest and newest."""
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    named = filter(None, map(_version_named, pythons()))
    installed = sorted(named, key=lambda version: int(version.rstrip("t").split(".")[1]))
    return {running, *(installed[:: max(len(installed) - 1, 1)] if ends else ())}


def _param(value: str, quick: bool) -> ParameterSet:
    return pytest.param(value, marks=() if quick else pytest.mark.soak)


def of_versions(versions: Sequence[str] = VERSIONS, *, ends: bool = False) -> list[ParameterSet]:
    """Versions as parameters: all but this one, and with `ends` the oldest and newest that are
    installed, are for `make soak`.
    """
    return [_param(version, version in _quick(ends)) for version in versions]


def of_pythons(*, ends: bool = False) -> list[ParameterSet]:
    """The same with the programs of `pythons()`."""
    others = _quick(ends) - {_version_named(sys.executable)}
    return [
        _param(path, path == sys.executable or _version_named(path) in others) for path in pythons()
    ]
