"""Packed captures: every command writes them, and old tools read the text that is made of them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import Stepper, build_stepper, run_command
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_profiler import inprocess
from parser_run import told

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
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.mark.parametrize(
    ("options", "begin"),
    [((), TEXT), (("--plain",), TEXT), (("--compress",), PACKED),
     (("--compress", "--symbolize"), PACKED)],
)  # fmt: skip
def test_run_writes_the_form_that_was_asked_for(
    options: tuple[str, ...], begin: bytes, stepper: Path, tmp_path: Path
) -> None:
    arguments = ("run", "-c", "1", *options, "-o", tmp_path / "p", "--", stepper)
    done = run_command(*arguments, input="a 100 50\n")
    assert done.returncode == 0, done.stderr
    [path] = tmp_path.glob("*.heap")

    assert path.read_bytes().startswith(begin)
    assert ("(gzip)" in done.stderr) == ("convert" in done.stderr) == (begin is PACKED)
    assert read_profile(path).total(Count.ALLOC, Unit.OBJECTS).value == 100


def test_captures_snapshots_stops_and_recovered_files_take_the_form(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    with Stepper(stepper, MEM_PROFILER_START="1") as target:
        target.tell("a 100 50")
        for what in ("snapshot", "stop"):
            done = run_command(what, target.pid, "--compress", "-o", tmp_path / what)
            assert done.returncode == 0, done.stderr
        arguments = ("-s", "0.3", "-c", "1", "--compress", "-p", target.pid)
        assert run_command(*arguments, "-o", tmp_path / "timed").returncode == 0
        assert run_command("start", target.pid, "-c", "1").returncode == 0
        target.tell("a 100 50")
    done = run_command("recover", "--compress", "-o", tmp_path / "recover")
    assert done.returncode == 0, done.stderr

    for what in ("snapshot", "stop", "timed", "recover"):
        [path] = tmp_path.glob(f"{what}.*.heap")
        assert path.read_bytes().startswith(PACKED), what
        assert read_profile(path).incomplete is None, what


def test_a_program_chooses_the_form_of_its_own_captures(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INSIDE, tmp_path / "step"],
        env=inprocess.environment(), capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.strip())

    assert path.read_bytes().startswith(PACKED)
    assert read_profile(path).total(Count.INUSE, Unit.SPACE).value >= 100 * 10_000


@pytest.mark.parametrize("tool", ["jeprof", "google-pprof", "gzip"])
def test_the_text_made_of_a_packed_capture_is_what_old_tools_read(
    tool: str, stepper: Path, tmp_path: Path
) -> None:
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    arguments = ("run", "-c", "1", "--compress", "-o", tmp_path / "p", "--", stepper)
    assert run_command(*arguments, input="a 100 50\n").returncode == 0
    [path] = tmp_path.glob("*.heap")
    plain = tmp_path / "plain.heap"
    told("convert", path, "-o", plain)
    first = plain.read_bytes().partition(b"\nMAPPED_LIBRARIES:")[0]
    if tool == "gzip":
        unpacked = subprocess.run(
            [tool, "-dc"], input=path.read_bytes(), capture_output=True, timeout=60
        )
        assert unpacked.stdout.partition(b"\nMAPPED_LIBRARIES:")[0] == first
        return
    done = subprocess.run(
        [tool, "--text", "--show_bytes", "--alloc_space", stepper, plain],
        capture_output=True, timeout=60,
    )  # fmt: skip
    found = re.search(rb"^Total: (\d+) B", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    assert int(found[1]) == read_profile(path).total(Count.ALLOC, Unit.SPACE).value


def test_go_reads_a_packed_file_as_it_is(stepper: Path, tmp_path: Path) -> None:
    if not shutil.which("go"):
        pytest.skip("go is not installed")
    arguments = ("run", "-c", "1", "--compress", "-o", tmp_path / "p", "--", stepper)
    assert run_command(*arguments, input="a 100 50\n").returncode == 0
    [path] = tmp_path.glob("*.heap")
    done = subprocess.run(
        ["go", "tool", "pprof", "-raw", path], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^ *100 +5000: ", done.stdout, re.MULTILINE), done.stdout
