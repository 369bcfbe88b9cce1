"""Packed and named captures: every command writes them, and old tools read what is made of them."""

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import Stepper, command_ok, run_command
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import symbolize
from mem_profiler import inprocess
from parser_run import told
from sampler_run import run_ok

pytestmark = [pytest.mark.usefixtures("sampler"), pytest.mark.timeout(120)]
PACKED, TEXT = b"\x1f\x8b", b"heap profile: "
INSIDE = """
import sys
from mem_profiler import inprocess

with inprocess.capture(sys.argv[1], rate_bytes=1, form=inprocess.Form.GZIP) as captured:
    kept = [bytes(10_000) for _ in range(100)]
print(captured.path)
"""


@pytest.fixture(scope="module")
def packed(stepper: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed capture of 100 blocks of 50 bytes."""
    return captured(stepper, tmp_path_factory.mktemp("packed"), "--compress")[0]


def captured(program: Path, folder: Path, *options: str) -> tuple[Path, str]:
    """Capture a program; returns the file, and what the command said."""
    arguments = ("run", "-c", "1", *options, "-o", folder / "p", "--", program)
    done = command_ok(*arguments, input="a 100 50\n")
    [path] = folder.glob("*.heap")
    return path, done.stderr


def names(path: Path) -> set[str]:
    symbols = symbolize(read_profile(path), cache=SymbolCache(None), debug_dirs=())
    return {f.name for f in symbols.functions}


@pytest.mark.parametrize(
    "options", [(), ("--plain",), ("--compress",), ("--symbolize",), ("--compress", "--symbolize")]
)
def test_run_writes_the_form_and_the_names_that_were_asked_for(
    options: tuple[str, ...], stepper: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    shutil.copy(stepper, program)
    path, said = captured(program, tmp_path, *options)
    program.unlink()

    is_packed = "--compress" in options
    assert path.read_bytes().startswith(PACKED if is_packed else TEXT)
    assert ("(gzip)" in said) == ("convert" in said) == is_packed
    assert ("main" in names(path)) == ("--symbolize" in options)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert read_profile(path).total(Count.ALLOC, Unit.OBJECTS).value == 100


def test_captures_snapshots_stops_and_recovered_files_take_form_and_names(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    shutil.copy(stepper, program)
    wanted = ("--compress", "--symbolize")
    with Stepper(program, MEM_PROFILER_START="1") as target:
        target.tell("a 100 50")
        for what in ("snapshot", "stop"):
            command_ok(what, target.pid, *wanted, "-o", tmp_path / what)
        arguments = ("-s", "0.3", "-c", "1", "--compress", "-p", target.pid)
        assert run_command(*arguments, "-o", tmp_path / "timed").returncode == 0
        assert run_command("start", target.pid, "-c", "1").returncode == 0
        target.tell("a 100 50")
    command_ok("recover", "--all", *wanted, "-o", tmp_path / "recover")
    program.unlink()

    for what in ("snapshot", "stop", "timed", "recover"):
        [path] = tmp_path.glob(f"{what}.*.heap")
        assert path.read_bytes().startswith(PACKED), what
        assert read_profile(path).incomplete is None, what
        assert what == "timed" or "main" in names(path), what


def test_a_program_chooses_the_form_of_its_own_captures(tmp_path: Path) -> None:
    done = run_ok([sys.executable, "-c", INSIDE, tmp_path / "step"], inprocess.environment())
    path = Path(done.stdout.strip())

    assert path.read_bytes().startswith(PACKED)
    assert read_profile(path).total(Count.INUSE, Unit.SPACE).value >= 100 * 10_000


def test_gzip_and_go_read_a_packed_capture_as_it_is(packed: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain.heap"
    told("convert", packed, "-o", plain)
    unpacked = subprocess.run(["gzip", "-dc", packed], capture_output=True, timeout=60).stdout
    mark = b"\nMAPPED_LIBRARIES:"
    assert unpacked.partition(mark)[0] == plain.read_bytes().partition(mark)[0]
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    raw = subprocess.run(["go", "tool", "pprof", "-raw", packed], capture_output=True, timeout=60)
    assert re.search(rb"^ *100 +5000: ", raw.stdout, re.MULTILINE), raw.stderr
