"""The environment of a program that is run under the sampler."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mem_parser.errors import UsageProblem
from mem_profiler.capture import launch
from mem_profiler.capture.launch import Options

pytestmark = pytest.mark.usefixtures("sampler")


def variables(tmp_path: Path, **options: object) -> dict[str, str]:
    return launch.environment(Options(1024, "out", **options), tmp_path)  # type: ignore[arg-type]


def test_the_program_is_told_where_and_how_to_capture(tmp_path: Path) -> None:
    found = variables(tmp_path, device_rate_bytes=4096)
    assert found["LD_PRELOAD"].split(":")[0] == launch.library()
    assert found["MEM_PROFILER_DIR"] == str(tmp_path)
    assert (found["MEM_PROFILER_START"], found["MEM_PROFILER_DEVICE_RATE"]) == ("1024", "4096")
    assert not {"PYTHONMALLOC", "MEM_PROFILER_PYMEM"} & (found.keys() - os.environ.keys())
    assert "MEM_PROFILER_FOLLOW_FORK" not in found


def test_options_become_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONMALLOC", raising=False)
    found = variables(tmp_path, children=True, keep_pymalloc=True)
    assert found["MEM_PROFILER_FOLLOW_FORK"] == "1"
    assert "PYTHONMALLOC" not in found
    assert found["MEM_PROFILER_PYMEM"] == "0"
    found = variables(tmp_path, no_pymalloc=True)
    assert (found["PYTHONMALLOC"], found["MEM_PROFILER_PYMEM"]) == ("malloc", "0")


def test_libraries_that_were_preloaded_already_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/other.so")
    assert variables(tmp_path)["LD_PRELOAD"].endswith(":/other.so")


def test_a_path_that_the_loader_would_split_is_reached_by_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a folder:here"
    odd.mkdir()
    library = odd / "libmem_sampler.so"
    library.write_bytes(b"")
    monkeypatch.setattr(launch, "library", lambda: str(library))
    first = variables(tmp_path)["LD_PRELOAD"].split(":")[0]
    assert " " not in first
    assert Path(first).resolve() == library


def test_a_program_that_opted_out_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DISABLE", "1")
    with pytest.raises(UsageProblem, match="MEM_PROFILER_DISABLE is set"):
        variables(tmp_path)
