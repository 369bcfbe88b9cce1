"""`mem_profiler --symbolize`: a captured file that explains itself where its program is not."""

from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from controller_tools import Stepper, build_stepper, run_command
from mem_parser.readers import read_profile
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import symbolize

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(120)]


def names(path: Path) -> set[str]:
    symbols = symbolize(read_profile(path), cache=SymbolCache(None), debug_dirs=())
    return {f.name for f in symbols.functions}


def test_a_symbolized_capture_has_names_without_its_program(
    segment_dir: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    shutil.copy(build_stepper(tmp_path), program)
    for extra in ((), ("--symbolize",)):
        done = run_command(
            "run", "-c", "1", *extra, "-o", tmp_path / "p", "--", program, input="a 100 50\n"
        )
        assert done.returncode == 0, done.stderr
    plain, named = sorted(tmp_path.glob("*.heap"), key=lambda p: p.stat().st_mtime_ns)
    program.unlink()

    assert "main" not in names(plain)
    assert "main" in names(named)
    assert stat.S_IMODE(named.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_snapshots_stops_and_recovered_files_take_names_too(
    segment_dir: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    shutil.copy(build_stepper(tmp_path), program)
    with Stepper(program, MEM_PROFILER_START="1") as target:
        target.tell("a 100 50")
        for command in ("snapshot", "stop"):
            done = run_command(command, target.pid, "--symbolize", "-o", tmp_path / command)
            assert done.returncode == 0, done.stderr
        assert run_command("start", target.pid, "-c", "1").returncode == 0
        target.tell("a 100 50")
    done = run_command("recover", "--symbolize", "-o", tmp_path / "recover")
    assert done.returncode == 0, done.stderr
    program.unlink()

    for command in ("snapshot", "stop", "recover"):
        (written,) = tmp_path.glob(f"{command}.*.heap")
        assert "main" in names(written), command
