"""After sudden death: what is left becomes a profile, and parser and jeprof read it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from controller_tools import run_command
from mem_profiler.process import procfs
from mem_profiler.segment import folders
from parser_run import parse
from sampler_run import Target, build, environment, run, segments


def test_a_killed_program_is_recovered_whole_and_its_file_is_read_by_us_and_by_jeprof(
    segment_dir: Path, tmp_path: Path
) -> None:
    program = build("blocks.c")
    with Target([program], environment(segment_dir, rate=1)) as target:
        target.line()
        target.ask("alloc 1000 1")
        target.ask("churn 50 100")
        target.tell("churn 100000000 0")
        target.kill()
    result = run_command("recover", target.pid, "-o", tmp_path / "r")
    assert result.returncode == 0, result.stderr
    [heap] = tmp_path.glob(f"r.{target.pid}.*.heap")
    assert run_command("clean").returncode == 0
    assert segments(segment_dir) == []
    table = parse("-p", program, "-f", heap, "-t")
    [row] = [line for line in table.stdout.splitlines() if line.endswith("alloc_kept")]
    assert row.split()[:2] == ["1,000", "B"], table.stdout
    if shutil.which("jeprof") is None:
        pytest.skip("jeprof is not installed")
    text = run(["jeprof", "--text", "--show_bytes", program, heap], dict(os.environ)).stdout
    flat = {line.split()[-1]: int(line.split()[0]) for line in text.splitlines() if "%" in line}
    assert flat["alloc_kept"] == 1000, text


def test_a_folder_that_a_service_had_for_its_segments_is_recovered_by_name(
    segment_dir: Path, tmp_path: Path
) -> None:
    """As a volume of a container: the command's own folder is another."""
    volume = tmp_path / "vol"
    volume.mkdir()
    env = environment(volume, rate=1)
    with Target([build("blocks.c")], env) as target:
        target.line()
        target.ask("alloc 1000 1")
        target.kill()
    nothing = run_command("recover", target.pid, "-o", tmp_path / "r")
    assert f"left nothing to recover in {segment_dir}\n" in nothing.stderr
    assert "mem_profiler recover FOLDER" in nothing.stderr
    result = run_command("recover", volume, "-o", tmp_path / "r")
    assert (result.returncode, result.stderr) == (0, ""), result.stderr
    assert len(list(tmp_path.glob(f"r.{target.pid}.*.heap"))) == 1
    assert segments(volume) == []
    again = run_command("recover", volume)
    assert (again.returncode, again.stdout) == (0, f"nothing to recover below {volume}\n")


def test_what_an_ended_worker_left_in_the_folder_of_a_living_one_is_listed_saved_and_cleaned(
    segment_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = tmp_path / "service"
    service.mkdir()
    env = environment(service, rate=1)
    with Target([build("blocks.c")], env) as living, Target([build("blocks.c")], env) as dead:
        for target in (living, dead):
            target.line()
            target.ask("alloc 1000 1")
        dead.kill()
        # Of this machine's processes and folders only those of this test.
        monkeypatch.delenv("MEM_PROFILER_DIR")
        monkeypatch.setattr(folders, "DEFAULT_DIR", str(segment_dir))
        monkeypatch.setattr(procfs, "pids", lambda: [living.pid])
        assert (
            f"dead, not written: mem_profiler recover {dead.pid}\n"
            in run_command("ps", "--all").stdout
        )
        below = run_command("ps", service).stdout
        assert f"{living.pid} " in below
        assert f"dead, not written: mem_profiler recover {service}\n" in below
        kept = run_command("clean", service).stdout.splitlines()[-1]
        saves = f"mem_profiler recover {service}"
        assert kept == f"kept unsaved profile of pid {dead.pid}; save it with {saves}"
        saved = run_command("recover", dead.pid, "-o", tmp_path / "r")
        assert saved.returncode == 0, saved.stderr
        assert len(segments(service)) == 1
        monkeypatch.setattr(procfs, "pids", list)
        assert "dead" not in run_command("ps", "--all").stdout
        living.kill()
    assert "removed 1 segment" in run_command("clean", "--all", service).stdout
    assert segments(service) == []


def test_events_that_a_small_segment_has_no_room_for_are_said_to_be_missing(
    segment_dir: Path, tmp_path: Path
) -> None:
    env = environment(segment_dir, rate=1, events="16M", max_memory="4M")
    text = "no events: they need a segment of 8 MiB, this one has 4 MiB (MEM_PROFILER_MAX_MEMORY)"
    with Target([build("blocks.c")], env) as target:
        target.line()
        target.ask("alloc 1000 1")
        listed = run_command("ps")
        assert f"\npid {target.pid}: {text}\n" in listed.stdout, listed.stdout + listed.stderr
        saved = run_command("snapshot", target.pid, "-o", tmp_path / "s")
        assert f"note: {text}\n" in saved.stdout, saved.stdout + saved.stderr
        target.kill()
    result = run_command("recover", target.pid, "-o", tmp_path / "r")
    assert f"note: {text}\n" in result.stdout, result.stdout + result.stderr
    [heap] = tmp_path.glob("r.*.heap")
    assert f"note: {text}" in parse("-f", heap, "-t").stdout
