"""What must never break a target, and programs that do not want to be looked into."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from attach_agent import Attached
from controller_tools import small_disk
from mem_parser.errors import TargetUnsupported
from mem_profiler.segment import layout
from mem_profiler.segment.file import Segment
from sampler_run import (
    SAMPLER,
    Controller,
    Counted,
    Counts,
    Target,
    answered,
    build,
    environment,
    only_counted,
    run,
    segments,
    silent,
)


@pytest.fixture
def small_folder(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB for segments."""
    with small_disk(tmp_path / "small", "4m,mode=777") as folder:
        yield folder


def fill(folder: Path, leave: int) -> None:
    """Fill a file system up to `leave` bytes."""
    free = os.statvfs(folder)
    size = free.f_bavail * free.f_bsize - leave
    with (folder / "filler").open("wb") as out:
        out.write(b"\0" * size)


def test_a_full_folder_loses_samples_and_not_the_target(small_folder: Path) -> None:
    with Target.started([build("blocks.c")], environment(small_folder, rate=1)) as target:
        fill(small_folder, 0)
        assert target.ask("alloc 200000 8") == "done"
        counted = target.counted()
        assert counted.lost["reserve"] > 0
        kept = counted.by("alloc_kept")
        assert kept.blocks + counted.missing == 200000, counted.lost
        assert kept.blocks >= 4000
        (small_folder / "filler").unlink()
        target.ask("free")
        assert target.counted().by("alloc_kept").live_blocks == 0
        target.finish()


@pytest.mark.parametrize("leave", [0, 4096, 65536, 400_000])
def test_a_program_starts_unprofiled_where_nothing_fits(small_folder: Path, leave: int) -> None:
    fill(small_folder, leave)
    program = build("family.c")
    plain = subprocess.run([program], capture_output=True, text=True, timeout=30).stdout
    result = run([program], environment(small_folder, rate=1))
    assert (result.returncode, result.stdout) == (0, plain)
    assert len(result.stderr.splitlines()) == 1
    assert "no capture in" in result.stderr


def test_a_program_that_is_not_captured_says_nothing_in_a_full_folder(small_folder: Path) -> None:
    fill(small_folder, 0)
    silent([build("family.c")], environment(small_folder))


def test_a_filtered_program_lives_on_under_a_controller(segment_dir: Path) -> None:
    with Target([build("seccomp.c")], environment(segment_dir)) as target:
        assert target.line() == "filtered"
        with Controller(target) as controller:
            number = controller.start(1)
            assert target.ask("go") == "allocated"
            counted = controller.stop(number)
            found, lost = counted.by("alloc_filtered"), counted.missing
            assert found.blocks + lost >= 30000
            assert found.blocks >= 4000
        target.tell("end")
        target.finish()


def test_an_idle_program_that_filters_itself_ends_as_it_would(segment_dir: Path) -> None:
    with Target([build("seccomp.c")], environment(segment_dir)) as target:
        assert target.line() == "filtered"
        assert target.ask("go") == "allocated"
        target.tell("end")
        target.finish()


def test_a_program_that_filters_itself_is_captured_without_a_controller(segment_dir: Path) -> None:
    with Target([build("seccomp.c")], environment(segment_dir, rate=1)) as target:
        assert target.line() == "filtered"
        assert target.ask("go") == "allocated"
        counted = target.counted()
        assert counted.by("alloc_filtered").blocks + counted.missing >= 30000
        target.tell("end")
        target.finish()


def test_a_filter_from_before_the_start_is_known_without_a_controller(segment_dir: Path) -> None:
    program = build("seccomp.c")
    with Target([program, program], environment(segment_dir, rate=1)) as target:
        assert target.line() == "filtered"
        assert target.ask("go") == "allocated"
        assert target.counted().control.number("controller_flags") & layout.FLAG_SECCOMP
        target.tell("end")
        target.finish()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("groups", [0, 1500])
def test_a_filter_is_known_however_many_groups_the_kernel_lists_before_it(
    segment_dir: Path, groups: int
) -> None:
    """The program, cat, has no filter of its own that the sampler could see it make."""
    join = "import os, sys; os.setgroups(range(100000, 100000 + int(sys.argv[1])));"
    join += "os.execv(sys.argv[2], sys.argv[2:])"
    argv = [sys.executable, "-c", join, str(groups), build("seccomp.c"), "/bin/cat"]
    with Target(argv, environment(segment_dir, rate=1)) as target:
        assert target.ask("here") == "here"
        assert target.counted().control.number("controller_flags") & layout.FLAG_SECCOMP
        target.finish()


def test_a_daemon_that_closes_all_descriptors_finds_only_its_own_data(
    segment_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with Target([build("daemon.c"), out], environment(segment_dir, rate=1)) as target:
        assert target.line() == "written"
        counted = target.counted()
        assert counted.by("alloc_daemon") == Counts(40100, 40100 * 50, 40100, 40100 * 50)
        assert counted.missing == 0
        target.tell("end")
        target.finish()
    assert out.read_bytes() == b"line\n" * 61


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_what_was_counted_outlives_the_process(segment_dir: Path, number: int) -> None:
    with Target.started([build("blocks.c")], environment(segment_dir, rate=1)) as target:
        target.ask("alloc 1234 56")
        target.kill(number)
    assert only_counted(segment_dir).by("alloc_kept") == Counts(1234, 1234 * 56, 1234, 1234 * 56)


def test_death_in_the_middle_of_allocating_leaves_a_readable_segment(segment_dir: Path) -> None:
    for _ in range(5):
        with Target.started([build("blocks.c")], environment(segment_dir, rate=1)) as target:
            target.tell("churn 100000000 16")
            with Controller(target) as controller:
                while Counted.of(controller.segment).total().blocks < 3000:
                    pass
            target.kill()
        counted = only_counted(segment_dir)
        churned = counted.by("alloc_churned")
        assert churned.blocks >= 3000
        assert churned.live_blocks <= 1
        segments(segment_dir)[0].unlink()


def test_a_script_of_hundreds_of_short_processes_leaves_no_files(segment_dir: Path) -> None:
    script = 'for i in $(seq 150); do /bin/true; x=$(echo "$i" | cat); done; (exit 3); echo $?'
    result = run(["bash", "-c", script], environment(segment_dir))
    assert (result.returncode, result.stdout, result.stderr) == (0, "3\n", "")
    assert segments(segment_dir) == []


def test_what_killed_processes_left_unused_is_swept_by_the_next(segment_dir: Path) -> None:
    for _ in range(5):
        with Target.started([build("blocks.c")], environment(segment_dir)) as target:
            target.kill()
    run([build("family.c")], environment(segment_dir))
    assert segments(segment_dir) == []


def test_captured_segments_are_never_swept(segment_dir: Path) -> None:
    with Target.started([build("blocks.c")], environment(segment_dir, rate=1)) as target:
        target.ask("alloc 9 9")
        target.kill()
    for _ in range(3):
        run([build("family.c")], environment(segment_dir))
    assert only_counted(segment_dir).by("alloc_kept") == Counts(9, 81, 9, 81)


@pytest.mark.parametrize("seed", range(6))
def test_a_forged_control_page_does_not_break_the_target(segment_dir: Path, seed: int) -> None:
    """The capture slots and the gate are the controller's to write; here they hold nonsense."""
    import random

    draw = random.Random(seed)
    with Target.started([build("blocks.c")], environment(segment_dir)) as target:
        with Controller(target) as controller:
            for _ in range(30):
                number = controller.start(1)
                slot = ("capture", draw.choice([0, 1]))
                value = draw.choice([0, 1, 2**63, 2**64 - 1, draw.getrandbits(64)])
                name = draw.choice(["rate_bytes", "start_ns", "deadline_ns", "stop_ns"])
                controller.segment.store((*slot, name), value)
                if draw.random() < 0.5:
                    controller.segment.store(("gate",), draw.getrandbits(64))
                if draw.random() < 0.3:
                    controller.segment.store((*slot, "number"), draw.getrandbits(32), 32)
                assert target.ask("churn 500 16") == "done"
                assert target.ask("alloc 50 16") == "done"
                controller.stop(number)
        target.ask("free")
        target.finish()


def test_segments_are_private(segment_dir: Path) -> None:
    with Target.started([build("blocks.c")], environment(segment_dir)) as target:
        [path] = segments(segment_dir)
        assert path.stat().st_mode & 0o7777 == 0o600
        assert path.parent.stat().st_mode & 0o7777 == 0o700
        with Segment.open(path, writable=False) as segment:
            assert segment.control().number("pid") == target.pid


def test_a_process_that_drops_its_rights_goes_on_counting(segment_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    script = (
        "import os; os.setgid(65534); os.setuid(65534); "
        "x = [bytes(5000) for _ in range(500)]; print(len(x))"
    )
    result = run([sys.executable, "-c", script], environment(segment_dir, rate=1))
    assert (result.returncode, result.stdout) == (0, "500\n"), result.stderr
    assert only_counted(segment_dir).total().blocks > 500
    assert SAMPLER.exists()


def deny_executable_memory() -> None:
    """For the time between fork and exec: prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN)."""
    ctypes.CDLL(None).prctl(65, 1, 0, 0, 0)


def test_a_program_that_denies_new_executable_memory_is_captured_from_its_start(
    segment_dir: Path,
) -> None:
    with Target.started(
        [build("blocks.c")], environment(segment_dir, rate=1), preexec_fn=deny_executable_memory
    ) as target:
        assert target.ask("alloc 1000 8") == "done"
        assert target.counted().by("alloc_kept").blocks == 1000
        target.finish()


EPERM = 1


@pytest.mark.parametrize("value", ["1", "yes", "01"])
def test_a_program_that_opts_out_is_left_alone(segment_dir: Path, value: str) -> None:
    """Nothing is made and nothing is said, whatever else is set."""
    env = environment(segment_dir, rate=1, disable=value, max_memory="nonsense", follow_fork="1")
    assert answered(env) == ""
    assert [*segment_dir.iterdir()] == []


@pytest.mark.parametrize("value", ["", "0"])
def test_a_program_that_does_not_opt_out_is_captured(segment_dir: Path, value: str) -> None:
    assert answered(environment(segment_dir, rate=1, disable=value)) == ""
    assert len(segments(segment_dir)) == 1


@pytest.mark.parametrize("route", ["fork", "vfork", "nested"])
def test_children_of_a_program_that_opts_out_have_nothing_either(
    segment_dir: Path, route: str
) -> None:
    program = build("forks.c")
    env = environment(segment_dir, rate=1, disable="1", follow_fork="1")
    with Target([program, route, program], env) as target:
        while target.line() != "done":
            pass
        assert [*segment_dir.iterdir()] == []
        target.tell("go")
        target.finish()


@pytest.mark.parametrize("value", ["1", "yes"])
def test_a_program_that_opts_out_is_not_attached_to(segment_dir: Path, value: str) -> None:
    long = "x" * 70000  # the variable may stand behind any other
    variables = {"A_LONG_ONE": long, "MEM_PROFILER_DISABLE": value, "MEM_PROFILER_DISABLED": "0"}
    with Attached.started(segment_dir, [build("blocks.c")], **variables) as target:
        answer = target.begin()
        assert answer.result == -EPERM
        assert answer.text == "the process was started with MEM_PROFILER_DISABLE"
        assert answer.patched == 0
        assert segments(segment_dir) == []
        assert target.ask("alloc 10 10") == "done"


@pytest.mark.parametrize("value", ["", "0"])
def test_a_program_that_does_not_opt_out_is_attached_to(segment_dir: Path, value: str) -> None:
    variables = {"MEM_PROFILER_DISABLE": value, "XMEM_PROFILER_DISABLE": "1"}
    with Attached.started(
        segment_dir, [build("blocks.c")], **variables, MEM_PROFILER_DISABLED="1"
    ) as target:
        assert target.begin().result == 0
        assert target.detach().result == 0


@pytest.mark.parametrize("route", ["prctl", "syscall"])
def test_a_capture_ends_where_the_program_makes_itself_undumpable(
    segment_dir: Path, route: str
) -> None:
    env = environment(segment_dir, rate=1, follow_fork="1")
    with Target.started([build("undumpable.c"), route], env) as target:
        assert target.ask("go") == "undumpable"
        [path] = segments(segment_dir)
        counted = Counted.read(path)
        assert counted.by("alloc_before") == Counts(10, 100, 10, 100)
        assert counted.by("alloc_after") == Counts()
        assert int(counted.control.capture["stop_ns"]) > 0
        target.tell("end")
        target.finish()


@pytest.mark.parametrize("route", ["prctl", "syscall"])
def test_a_program_that_made_itself_undumpable_is_not_captured(
    segment_dir: Path, route: str
) -> None:
    """Nor by somebody who writes to the segment without asking."""
    with (
        Target.started([build("undumpable.c"), route], environment(segment_dir)) as target,
        Controller(target) as controller,
    ):
        assert target.ask("go") == "undumpable"
        with pytest.raises(TargetUnsupported, match="made itself undumpable"):
            controller.start(1)
        controller.segment.store(("gate",), 1 << 40)
        target.tell("end")
        target.finish()
        assert Counted.of(controller.segment).stacks == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another user")
@pytest.mark.parametrize("rate", [None, 1])
def test_a_program_whose_file_may_not_be_read_has_no_segment(
    segment_dir: Path, rate: int | None
) -> None:
    program = Path(shutil.copy(build("answer.c"), segment_dir))
    library = Path(shutil.copy(environment(segment_dir)["LD_PRELOAD"], segment_dir))
    library.chmod(0o755)
    program.chmod(0o711)
    env = environment(segment_dir, rate=rate) | {"LD_PRELOAD": str(library)}
    result = run([program], env, user=1000, group=1000, cwd="/")
    assert (result.returncode, result.stdout) == (0, "42\n")
    assert segments(segment_dir) == []
    words = "no capture in" if rate else ""
    assert words in result.stderr and len(result.stderr.splitlines()) == bool(rate)
