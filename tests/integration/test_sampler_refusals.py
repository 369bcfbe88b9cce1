"""Programs that do not want to be looked into: by a variable, or by what they tell the kernel."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from attach_agent import Attached
from mem_parser.errors import TargetUnsupported
from sampler_run import Controller, Counted, Counts, Target, build, environment, run, segments

EPERM = 1


@pytest.mark.parametrize("value", ["1", "yes", "01"])
def test_a_program_that_opts_out_is_left_alone(segment_dir: Path, value: str) -> None:
    """Nothing is made and nothing is said, whatever else is set."""
    env = environment(segment_dir, rate=1, disable=value, max_memory="nonsense", follow_fork="1")
    result = run([build("answer.c")], env)
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
    assert [*segment_dir.iterdir()] == []


@pytest.mark.parametrize("value", ["", "0"])
def test_a_program_that_does_not_opt_out_is_captured(segment_dir: Path, value: str) -> None:
    result = run([build("answer.c")], environment(segment_dir, rate=1, disable=value))
    assert (result.returncode, result.stdout, result.stderr) == (0, "42\n", "")
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
    with Attached(segment_dir, [build("blocks.c")], **variables) as target:
        target.line()
        answer = target.begin()
        assert answer.result == -EPERM
        assert answer.text == "the process was started with MEM_PROFILER_DISABLE"
        assert answer.patched == 0
        assert segments(segment_dir) == []
        assert target.ask("alloc 10 10") == "done"


@pytest.mark.parametrize("value", ["", "0"])
def test_a_program_that_does_not_opt_out_is_attached_to(segment_dir: Path, value: str) -> None:
    variables = {"MEM_PROFILER_DISABLE": value, "XMEM_PROFILER_DISABLE": "1"}
    with Attached(
        segment_dir, [build("blocks.c")], **variables, MEM_PROFILER_DISABLED="1"
    ) as target:
        target.line()
        assert target.begin().result == 0
        assert target.detach().result == 0


@pytest.mark.parametrize("route", ["prctl", "syscall"])
def test_a_capture_ends_where_the_program_makes_itself_undumpable(
    segment_dir: Path, route: str
) -> None:
    env = environment(segment_dir, rate=1, follow_fork="1")
    with Target([build("undumpable.c"), route], env) as target:
        assert target.line() == "ready"
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
    with Target([build("undumpable.c"), route], environment(segment_dir)) as target:
        assert target.line() == "ready"
        with Controller(target) as controller:
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
