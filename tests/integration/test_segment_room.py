"""All segments of a user: trimmed once their processes are gone, bounded, and recovered."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import command_ok, refused, run_command, wait_until
from mem_profiler.process import procfs
from mem_profiler.segment import folders, layout, room
from mem_profiler.segment.file import Segment
from parser_run import parse
from sampler_run import WAIT_S, Counted, Target, build, environment, run, run_ok, segments

KIB, MIB = 1 << 10, 1 << 20
TRIMMED_BYTES = 16 * KIB  # of a short program: four pages
LIVING_BYTES = 512 * KIB  # what a capture begins with
BOUND = 4 * MIB


def held(folder: Path) -> int:
    """Bytes that the segments of a folder take."""
    return sum(path.lstat().st_blocks * 512 for path in segments(folder))


def programs(count: int, env: dict[str, str], at_once: int = 1) -> None:
    """Run a short program many times under one shell, which is without the sampler."""
    program = str(build("answer.c"))
    library = env["LD_PRELOAD"]
    script = (
        "k=0; while [ $k -lt $1 ]; do j=0; while [ $j -lt $2 ]; do "
        'LD_PRELOAD="$3" "$4" & j=$((j+1)); done; wait; k=$((k+$2)); done'
    )
    argv = ["/bin/sh", "-c", script, "sh", str(count), str(at_once), library, program]
    run_ok(argv, env | {"LD_PRELOAD": ""})


def test_a_capture_begins_small(segment_dir: Path) -> None:
    with Target.started([build("blocks.c")], environment(segment_dir, rate=1)) as target:
        assert held(segment_dir) <= LIVING_BYTES
        target.ask("alloc 20000 100")  # and grows as it needs to
        assert target.counted().by("alloc_kept").blocks == 20000
        assert target.counted().lost == {}
        target.finish()


@pytest.mark.parametrize("at_once", [1, 10])
def test_segments_of_short_programs_are_trimmed_by_the_programs_after_them(
    segment_dir: Path, at_once: int
) -> None:
    programs(100, environment(segment_dir, rate=1024), at_once=at_once)
    programs(1, environment(segment_dir, rate=1024))
    assert len(segments(segment_dir)) == 101
    assert held(segment_dir) <= 100 * TRIMMED_BYTES + LIVING_BYTES


def test_dead_segments_behind_many_files_are_trimmed_too(segment_dir: Path) -> None:
    """Not all file systems list the latest first; after many starts at once they are not there."""
    env = environment(segment_dir, rate=1024)
    programs(1, env)
    [path] = segments(segment_dir)
    dead = [path.with_name(f"1-1-{k}") for k in range(20)]
    for copy in dead:
        subprocess.run(["cp", "--sparse=always", path, copy], check=True, timeout=WAIT_S)
    for k in range(500):
        path.with_name(f"2-1-{k}").touch()
    programs(10, env)
    assert all(copy.stat().st_blocks * 512 <= TRIMMED_BYTES for copy in dead)


@pytest.mark.parametrize("end", ["exit", "kill"])
def test_what_a_trimmed_segment_held_is_all_there(segment_dir: Path, end: str) -> None:
    with Target.started([build("blocks.c")], environment(segment_dir, rate=1)) as target:
        target.ask("alloc 1000 10")
        target.ask("churn 50 100")
        if end == "kill":
            target.kill()
        else:
            target.finish()
        [path] = segments(segment_dir)
        before = Counted.read(path)
        size = held(segment_dir)
        programs(1, environment(segment_dir, rate=1024))
        after = Counted.read(path)
        assert path.stat().st_blocks * 512 < size
    assert after.by("alloc_kept") == before.by("alloc_kept")
    assert [vars(s) for s in after.stacks] == [vars(s) for s in before.stacks]
    assert after.modules == before.modules
    assert after.lost == before.lost


def test_the_segment_of_a_living_process_is_neither_trimmed_nor_dropped(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=1, max_total=str(BOUND))
    with Target.started([build("blocks.c")], env) as target:
        target.ask("alloc 1000 10")
        [path] = segments(segment_dir)
        before = path.stat().st_blocks
        programs(100, env)
        assert path.exists()
        assert path.stat().st_blocks == before
        target.ask("alloc 1000 10")
        assert target.counted().by("alloc_kept").blocks == 2000
        target.finish()


def test_a_segment_that_a_fork_child_still_maps_is_not_trimmed(segment_dir: Path) -> None:
    """A child of a dead process may still write there if it shares its memory."""
    env = environment(segment_dir, rate=1024)
    script = (
        "import os, signal\n"
        "child = os.fork()\n"
        "signal.pause() if child == 0 else print(child, flush=True)\n"
    )
    with Target([sys.executable, "-S", "-c", script], env) as target:
        child = int(target.line())
        target.process.wait(WAIT_S)
        [path] = segments(segment_dir)
        before = path.stat().st_blocks
        try:
            programs(1, env)
            assert path.stat().st_blocks == before
        finally:
            os.kill(child, signal.SIGKILL)
        target.finish()  # its output ends with the child, its lock of the segment a moment later
        wait_until(lambda: procfs.is_gone(child), "the child is gone")
        programs(1, env)
        assert path.stat().st_blocks < before


def test_hundreds_of_programs_leave_no_more_than_the_bound(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=1, max_total=str(BOUND))
    programs(300, env, at_once=4)
    assert held(segment_dir) <= BOUND
    [facts] = room.everywhere()
    assert facts.dropped_segments > 0
    assert facts.refused_starts == 0
    assert facts.dropped_segments + len(segments(segment_dir)) == 300
    text = run_command("ps").stdout
    assert f"{facts.dropped_segments} segments of dead processes were dropped" in text
    assert "may take 4 MiB together (MEM_PROFILER_MAX_TOTAL)" in text
    # the latest are those that stay
    latest = max(int(path.name.split("-")[1]) for path in segments(segment_dir))
    programs(1, env)
    assert any(int(path.name.split("-")[1]) >= latest for path in segments(segment_dir))
    run_command("clean", "--all")
    assert room.everywhere() == []
    assert segments(segment_dir) == []


def test_a_segment_that_a_controller_holds_is_not_dropped(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=1, max_total=str(BOUND))
    programs(1, env)
    [oldest] = segments(segment_dir)
    with oldest.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        programs(300, env, at_once=4)
        assert oldest.exists()
        assert Counted.read(oldest).control.number("capture_number") == 1
    programs(300, env, at_once=4)
    assert not oldest.exists()


def test_living_processes_that_fill_the_bound_make_new_ones_smaller_or_none(
    segment_dir: Path,
) -> None:
    env = environment(segment_dir, rate=1, max_total=str(BOUND))
    with Target.started([build("blocks.c")], env) as target:
        [path] = segments(segment_dir)
        assert path.stat().st_size <= BOUND
        other = environment(segment_dir, rate=1, max_total="2M")
        result = run([build("answer.c")], other)
        assert result.stdout == "42\n"
        target.finish()


def take_hours(forged: Path, content: bytes) -> None:
    """A segment with tables of a size that takes hours to read."""
    forged.write_bytes(content[:4096].ljust(64 * KIB, b"\1"))
    with Segment.open(forged, writable=True) as segment:
        segment.store(("startup_flags",), 8, 32)  # not trimmed yet
        segment.store(("limit_bytes",), 1 << 45)
        segment.store(("sites", "level", 0, "offset"), 4096)
        segment.store(("sites", "level", 0, "rows"), 1 << 31, 32)
        segment.store(("sites", "level", 0, "row_bytes"), 64, 32)
        segment.store(("sites", "levels_ready"), 1, 32)
        segment.store(("live", "levels_ready"), 0, 32)
    os.truncate(forged, 1 << 45)


def test_hostile_files_harm_nothing(segment_dir: Path, tmp_path: Path) -> None:
    env = environment(segment_dir, rate=1, max_total=str(BOUND))
    programs(1, env)
    [own] = segments(segment_dir)
    outside = tmp_path / "outside"
    outside.write_bytes(own.read_bytes())
    content = outside.read_bytes()
    link, fifo, sparse, tables, forged, text, folder = (own.with_name(f"1-1-{k}") for k in range(7))
    link.symlink_to(outside)
    os.mkfifo(fifo)
    sparse.write_bytes(content[:4096])
    os.truncate(sparse, 1 << 45)
    take_hours(tables, content)
    forged.write_bytes(content[:400] + os.urandom(3696) + content[4096:])
    text.write_bytes(b"x" * 100)
    folder.mkdir()
    programs(300, env, at_once=4)
    assert outside.read_bytes() == content
    assert held(segment_dir) <= BOUND + 16 * MIB


def test_a_forged_ledger_harms_nothing(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=1, max_total=str(BOUND))
    programs(1, env)
    ledger = next(segment_dir.glob("mem_profiler.*")) / folders.LEDGER
    for content in (b"", b"x", os.urandom(4096), b"\xff" * 64):
        ledger.write_bytes(content)
        programs(20, env)
    ledger.unlink()
    ledger.symlink_to("/dev/zero")
    programs(20, env)
    assert ledger.is_file() and not ledger.is_symlink()
    assert held(segment_dir) <= BOUND


def test_recover_writes_what_was_trimmed(segment_dir: Path, tmp_path: Path) -> None:
    programs(5, environment(segment_dir, rate=1))
    command_ok("recover", "--all", "-o", tmp_path / "x")
    assert len(list(tmp_path.glob("x.*.heap"))) == 5
    assert segments(segment_dir) == []


def test_a_run_hands_the_bound_on_and_says_what_it_cost(segment_dir: Path, tmp_path: Path) -> None:
    program = build("answer.c")
    script = "k=0; while [ $k -lt 40 ]; do $1 & k=$((k+1)); done; wait"
    done = command_ok(
        "run", "-c", "1", "--children", "--max-total", "2M", "-o", str(tmp_path / "x"), "--",
        "/bin/sh", "-c", script, "sh", str(program),
    )  # fmt: skip
    assert done.stdout.count("42\n") == 40
    assert "may take 2 MiB together (MEM_PROFILER_MAX_TOTAL): " in done.stderr
    assert "did not begin" in done.stderr or "dropped" in done.stderr
    assert list(segment_dir.iterdir()) == []


def test_a_large_segment_that_was_asked_for_needs_no_second_variable(segment_dir: Path) -> None:
    asked = 512 * MIB
    place = os.statvfs(segment_dir)
    if min(place.f_bavail // 4, place.f_blocks // 8) * place.f_frsize < asked:
        pytest.skip("the file system has too little room for such a segment")
    env = environment(segment_dir, rate=1, max_memory=str(asked))
    run([build("answer.c")], env)
    assert segments(segment_dir)[0].stat().st_size == asked
    # Unless the second was given too.
    run([build("answer.c")], env | {"MEM_PROFILER_MAX_TOTAL": "64M"})
    assert min(path.stat().st_size for path in segments(segment_dir)) <= 64 * MIB


@pytest.mark.parametrize("value", ["1M", "2T", "much"])
def test_a_bound_that_makes_no_sense_is_refused(segment_dir: Path, value: str) -> None:
    done = refused(2, "run", "--max-total", value, "--", "/bin/true")
    assert "--max-total" in done


def test_what_was_half_packed_when_its_writer_died_is_removed(segment_dir: Path) -> None:
    env = environment(segment_dir, rate=1)
    programs(1, env)
    [path] = segments(segment_dir)
    dead = path.with_name("pack-4194303")
    dead.write_bytes(b"x")
    living = path.with_name(f"pack-{os.getpid()}")
    living.write_bytes(b"x")
    programs(1, env)
    assert not dead.exists()
    assert living.exists()


def test_recover_while_programs_start_writes_each_capture_once(
    segment_dir: Path, tmp_path: Path
) -> None:
    env = environment(segment_dir, rate=1)
    programs(10, env)
    script = 'for k in $(seq 40); do LD_PRELOAD="$1" "$2" >/dev/null; done'
    argv = ["/bin/sh", "-c", script, "sh", env["LD_PRELOAD"], str(build("answer.c"))]
    with subprocess.Popen(argv, env=env | {"LD_PRELOAD": ""}) as busy:
        command_ok("recover", "--all", "-o", tmp_path / "x")
        assert busy.wait(WAIT_S) == 0
    command_ok("recover", "--all", "-o", tmp_path / "x")
    written = [int(path.name.split(".")[1]) for path in tmp_path.glob("x.*.heap")]
    assert len(written) == len(set(written)) == 50
    assert segments(segment_dir) == []


@pytest.mark.parametrize("captures", [True, False])
def test_a_program_that_sets_a_filter_gets_the_pages_before_that(
    segment_dir: Path, captures: bool
) -> None:
    """Under a filter hooks make no system call, so they can reserve nothing."""
    unused_call = "9999"
    env = environment(segment_dir, rate=1 if captures else None)
    with Target.started([build("filtered.c"), "errno", unused_call], env) as target:
        [path] = segments(segment_dir)
        with Segment.open(path, writable=False) as segment:
            control = segment.control()
        stacks = control.array(layout.STACKS, 8, 1 << 30)
        assert control.number("controller_flags") & layout.FLAG_SECCOMP
        assert stacks.reserved_bytes == (MIB if captures else 0)
        assert (control.lost_level("lost_sites", "mp_site_row") is not None) == captures
        target.finish()


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
    command_ok("recover", target.pid, "-o", tmp_path / "r")
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
    with Target.started([build("blocks.c")], env) as target:
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
        command_ok("recover", dead.pid, "-o", tmp_path / "r")
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
    with Target.started([build("blocks.c")], env) as target:
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
