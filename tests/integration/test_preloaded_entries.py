"""A preloaded sampler behind the malloc of the program itself is led to it, and let go."""

import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attach_agent import Attached
from c_build import BUILD, prefixed_jemalloc
from controller_tools import HeapFile, command_ok, run_command
from mem_parser.errors import TargetUnsupported
from mem_profiler import attach as attaching
from mem_profiler.doctor import examine_process, first_blocker
from mem_profiler.entries import plan
from mem_profiler.segment import layout
from redirect_facts import FAMILY, NEW, check, text
from sampler_run import SAMPLER, Controller, Target, build, environment, only_counted, run, segments

JEMALLOC = ("-l:libjemalloc.a", "-lstdc++", "-lpthread", "-ldl", "-lm")
ENOTSUP, EALREADY = 95, 114

pytestmark = [
    pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 only"),
    pytest.mark.usefixtures("sampler"),
]


def program(*flags: str) -> Path:
    """A program that obeys, with a jemalloc that it exports."""
    return build("blocks.c", *flags, libs=JEMALLOC, out=f"blocks-jemalloc{len(flags)}")


def behind(target: Target) -> None:
    """Its sampler says that the program's own malloc is before it."""
    counted = target.counted()
    assert counted.control["state"] == layout.STATE_SHADOWED
    assert text(counted, "state_text") == str(Path(f"/proc/{target.pid}/exe").readlink())
    assert not counted.control["startup_flags"] & layout.STARTUP_ATTACHED


@pytest.fixture
def prepared(segment_dir: Path) -> Iterator[Target]:
    """Such a program that was started as one prepares a service."""
    with Target.started([program()], environment(segment_dir)) as target:
        behind(target)
        yield target


def test_the_sampler_of_the_start_is_led_to_a_static_allocator_and_back(segment_dir: Path) -> None:
    static = build("redirect.cc", libs=("-l:libjemalloc.a", "-lpthread", "-ldl", "-lm"),
                   out="redirect-static-jemalloc")  # fmt: skip
    held = {"hold": True, "preload_after": [SAMPLER], "AGENT_PRELOADED": "1"}
    with Attached(segment_dir, [static], **held) as target:  # type: ignore[arg-type]
        made = plan.of_program(f"/proc/{target.pid}/exe", target.bias())
        target.hand(made.data)
        behind(target)
        for _ in range(3):
            answer = target.begin()
            assert (answer.result, answer.text) == (0, "")
            assert answer.patched == answer.held == len(made.functions)
            assert target.begin().result == -EALREADY
            assert target.rescan().result == 0
            ended = target.detach()
            assert (ended.result, ended.restored, ended.held) == (0, answer.patched, 0)
            behind(target)
            assert target.detach().result == -EALREADY
        assert target.begin().result == 0
        with Controller(target) as controller:
            controller.start(1)
        target.go()
        target.finish()
    check(only_counted(segment_dir), FAMILY | NEW | {"by_mallocx": 112})


def test_without_a_plan_the_process_is_left_as_it_was(segment_dir: Path) -> None:
    with Attached.started(
        segment_dir, [program()], preload=[SAMPLER], AGENT_PRELOADED="1"
    ) as target:
        answer = target.begin()
        assert (answer.result, answer.patched) == (-ENOTSUP, 0)
        assert answer.text == "malloc is part of the program, before the sampler"
        target.hand(b"\0" * 64)
        assert target.begin().result < 0
        behind(target)
        assert len(segments(segment_dir)) == 1


def test_the_everyday_form_captures_a_prepared_program(prepared: Target, tmp_path: Path) -> None:
    for round_number in range(2):
        done = command_ok(
            "-s", "0.2", "-c", "1", "-o", tmp_path / f"{round_number}", "-p", prepared.pid
        )
        assert f"(pid {prepared.pid}): 13 hooks" in done.stderr
        behind(prepared)
    assert len(list(tmp_path.glob("*.heap"))) == 2


@pytest.mark.parametrize(
    "by_hand", [[("attach",), ("start", "-c", "1")], [("start", "-c", "1")]], ids=["both", "start"]
)
def test_the_halves_by_hand_see_all_blocks_of_a_prepared_program(
    prepared: Target, tmp_path: Path, by_hand: list[tuple[str, ...]]
) -> None:
    pid = prepared.pid
    assert "behind the program's own malloc" in run_command("ps").stdout
    first = command_ok(*by_hand[0], pid)
    assert f"mem_profiler detach {pid}" in first.stdout
    for more in by_hand[1:]:
        assert run_command(*more, pid).returncode == 0
    assert prepared.ask("alloc 100 1000") == "done"
    assert run_command("stop", "-o", tmp_path / "p", pid).returncode == 0
    assert run_command("detach", pid).returncode == 0
    behind(prepared)
    [path] = tmp_path.glob("*.heap")
    heap = HeapFile(path)
    assert heap.total("alloc_blocks") == 100
    assert heap.header["allocator"] == str(program())
    again = run_command("detach", pid)
    assert again.returncode == 4


def test_the_doctor_knows_that_a_capture_leads_it_there(prepared: Target) -> None:
    findings = examine_process(prepared.pid)
    assert first_blocker(findings) is None
    assert {f.status for f in findings if f.check == "sampler"} == {"ok"}


def beside_program() -> Path:
    """A program that obeys, with a jemalloc under names of its own."""
    names = ("malloc", "free", "mallocx")
    flags = [f"-D{name}=_rjem_{name}" for name in names]
    return build("blocks.c", *flags, libs=(f"-l:{prefixed_jemalloc().name}", f"-L{BUILD}",
                 *JEMALLOC[1:]), out="blocks-prefixed")  # fmt: skip


@pytest.fixture
def beside(segment_dir: Path) -> Iterator[Target]:
    """Such a program that was started as one prepares a service."""
    with Target.started([beside_program()], environment(segment_dir)) as target:
        yield target


UNSEEN = "the program's own jemalloc (_rjem_) was not redirected to the sampler"


def blocks_of(folder: Path) -> int:
    """The blocks of the newest file there, which is complete."""
    path = max(folder.glob("*.heap"), key=lambda one: one.stat().st_mtime_ns)
    heap = HeapFile(path)
    assert UNSEEN not in str(heap.header)
    return int(heap.total("alloc_blocks"))


def test_an_allocator_beside_the_sampler_is_led_to_it_for_a_capture(
    beside: Target, tmp_path: Path
) -> None:
    pid = beside.pid
    for round_number in range(3):
        assert "idle, beside the program's own malloc" in run_command("ps").stdout
        first = command_ok("start", "-c", "1", pid)
        assert f"(pid {pid}): " in first.stdout + first.stderr
        assert " capturing " in run_command("ps").stdout
        assert beside.ask("alloc 100 1000") == "done"
        assert beside.ask("free") == "done"
        early = run_command("detach", pid)
        assert early.returncode == 4
        assert run_command("stop", "-o", tmp_path / "p", pid).returncode == 0
        assert blocks_of(tmp_path) == 100, round_number
        assert run_command("detach", pid).returncode == 0


def test_the_everyday_form_leads_an_allocator_beside_the_sampler_there_and_back(
    beside: Target, tmp_path: Path
) -> None:
    done = command_ok("-s", "0.2", "-c", "1", "-o", tmp_path / "p", "-p", beside.pid)
    assert "hooks placed" in done.stderr
    assert "hooks removed" in done.stderr
    assert not attaching.is_attached(beside.pid)
    assert beside.ask("alloc 100 1000") == "done"


def test_the_doctor_knows_an_allocator_beside_the_sampler_and_takes_the_sampler_for_none(
    beside: Target,
) -> None:
    findings = examine_process(beside.pid)
    assert first_blocker(findings) is None
    texts = [f.text for f in findings]
    [said] = [text for text in texts if "the sampler is in it" in text]
    assert said.endswith("beside the program's own malloc: a capture leads that to it")
    allocators = [text for text in texts if text.startswith("allocator: ")]
    assert allocators[0] == "allocator: libc.so.6 (glibc)"
    assert allocators[1].startswith("allocator: jemalloc (_rjem_) in the program")


def test_what_a_capture_from_the_start_does_not_see_is_said(
    segment_dir: Path, tmp_path: Path
) -> None:
    with Target.started([beside_program()], environment(segment_dir, rate=1)) as target:
        assert "capturing, without the program's own malloc" in run_command("ps").stdout
        refused = run_command("attach", target.pid)
        assert refused.returncode == 4
        assert "is being captured, without" in refused.stderr
        assert f"hint:  mem_profiler stop {target.pid}" in refused.stderr
        done = run_command("snapshot", "-o", tmp_path / "s", target.pid)
        assert UNSEEN in done.stdout
        target.kill()
    done = run_command("recover", "-o", tmp_path / "r", target.pid)
    assert UNSEEN in done.stdout
    heaps = [HeapFile(path) for path in tmp_path.glob("*.heap")]
    assert len(heaps) == 2
    assert all(UNSEEN in " ".join(heap.header["notes"]) for heap in heaps)


def test_run_sees_an_allocator_of_other_names_and_its_file_says_nothing_of_it(
    segment_dir: Path, tmp_path: Path
) -> None:
    command_ok(
        "run", "-c", "1", "-o", tmp_path / "p", "--", beside_program(), input="alloc 100 1000\n"
    )
    assert blocks_of(tmp_path) == 100


def test_a_failed_attach_leaves_the_capture_of_what_the_sampler_sees(
    beside: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> Any:
        raise TargetUnsupported("pid 1: no way")

    monkeypatch.setattr(attaching, "attach", refuse)
    done = command_ok("-s", "0.1", "-o", tmp_path / "p", "-p", beside.pid)
    assert "pid 1: no way" in done.stderr
    assert UNSEEN in done.stdout


def assert_refused(pid: int) -> str:
    """All forms of an attach refuse in the words of the doctor; the cure."""
    blocker = first_blocker(examine_process(pid))
    assert blocker.cure
    for arguments in (("-s", "0.1", "-p"), ("attach",), ("start",)):
        done = run_command(*arguments, pid)
        assert done.returncode == 4
        lines = done.stderr.splitlines()
        said = " ".join(x.removeprefix("error: ").removeprefix("hint:  ") for x in lines)
        assert blocker.text in said and blocker.cure in said, arguments
    return blocker.cure


def test_a_malloc_that_cannot_be_followed_is_refused_in_the_words_of_the_doctor(
    segment_dir: Path,
) -> None:
    odd = build("own_malloc.c", "-rdynamic")
    with Target.started([odd], environment(segment_dir)) as target:
        assert_refused(target.pid)
        assert not attaching.is_attached(target.pid)
        behind(target)


def test_a_library_that_is_before_the_sampler_is_a_blocker_with_the_order_that_works(
    segment_dir: Path,
) -> None:
    tool = build("chain.c", "-shared", "-fPIC", "-DTAKES_LARGE", out="chain-large.so")
    env = environment(segment_dir) | {"LD_PRELOAD": f"{tool} {SAMPLER}"}
    with Target.started([build("blocks.c")], env) as target:
        assert f'LD_PRELOAD="{SAMPLER} {tool}"' in assert_refused(target.pid)


WRAPPERS = {
    "exec": ["sh", "-c", "exec {}"],
    "env": ["env", "A=b", "{}"],
    "nice": ["nice", "-n", "1", "{}"],
    "script": ["{folder}/start.sh"],
}


@pytest.mark.parametrize("name", WRAPPERS)
def test_run_sees_the_allocator_of_what_a_wrapper_becomes(
    segment_dir: Path, tmp_path: Path, name: str
) -> None:
    target = program()
    script = tmp_path / "start.sh"
    script.write_text(
        f'#!/bin/sh\nHERE={target.parent}\nexec "$HERE/{target.name}" "$@"\n', encoding="utf-8"
    )
    script.chmod(0o755)
    wrapped = [word.format(target, folder=tmp_path) for word in WRAPPERS[name]]
    command_ok("run", "-c", "1", "-o", tmp_path / "p", "--", *wrapped, input="alloc 100 1000\n")
    [path] = tmp_path.glob("*.heap")
    heap = HeapFile(path)
    assert heap.header["comm"] == target.name[:15]
    assert heap.total("alloc_blocks") >= 100


def test_run_with_children_sees_the_allocators_of_children(
    segment_dir: Path, tmp_path: Path
) -> None:
    target = program()
    script = f"echo alloc 50 100 | {target}; echo alloc 60 100 | {target}; true"
    command_ok("run", "-c", "1", "--children", "-o", tmp_path / "p", "--", "sh", "-c", script)
    heaps = [HeapFile(path) for path in tmp_path.glob("*.heap")]
    totals = sorted(h.total("alloc_blocks") for h in heaps if h.header["comm"] == target.name[:15])
    assert [total // 10 for total in totals] == [5, 6]


def test_a_program_that_a_script_computes_is_said_with_the_command_that_sees_it(
    segment_dir: Path, tmp_path: Path
) -> None:
    target = program()
    script = tmp_path / "start.sh"
    parts = target.name.partition("-")
    script.write_text(
        f"#!/bin/sh\ncd {target.parent}\nP={parts[0]}\nexec ./$P-{parts[2][:3]}* 'an argument'\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    for given in ("", "alloc 100 1000\n"):
        done = run_command("run", "-c", "1", "-o", tmp_path / "p", "--", script, input=given)
        assert done.returncode == 4, done.stderr
        assert f"{target.name} ended without a capture: its own malloc is before" in done.stderr
        assert f"hint:  mem_profiler run -- {target}" in done.stderr
        assert list(tmp_path.glob("*.heap")) == []


def test_a_capture_from_the_start_says_that_there_is_none(segment_dir: Path) -> None:
    done = run([program()], environment(segment_dir, rate=1), input="")
    assert done.stdout == "ready\n"
    assert done.stderr == (
        f"mem_profiler: no capture: the program's own malloc is before the sampler; {program()}"
        " runs unprofiled\n"
    )


def test_no_plan_is_made_for_the_malloc_of_a_sanitizer(tmp_path: Path) -> None:
    flags = ("-fsanitize=address", "-static-libasan")
    sanitized = build("blocks.c", *flags, out="blocks-static-asan")
    with pytest.raises(TargetUnsupported, match="runs under AddressSanitizer"):
        plan.of_program(sanitized, 0)
