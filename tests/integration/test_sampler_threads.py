"""Threads, signals at any moment, little stack, and children by every route: each sample is
counted, or its loss is.
"""

import functools
import os
import tempfile
from pathlib import Path

import pytest

from sampler_run import (
    Counted,
    Counts,
    Target,
    build,
    environment,
    only_counted,
    run,
    run_ok,
    segments,
)


def run_threads(folder: Path, what: str, n: int) -> Counted:
    """Run threads.c at rate 1 and read what it counted."""
    result = run([build("threads.c"), what, str(n)], environment(folder, rate=1))
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stdout + result.stderr
    return only_counted(folder)


KINDS = {
    "threads that start and exit": (
        "churn", 4000, {"alloc_ten": Counts(40000, 400000, 4000, 40000)},
    ),
    "the smallest stacks": ("tiny", 160, {"alloc_ten": Counts(1600, 16000, 160, 1600)}),
    "destructors of thread keys": (
        "last", 400,
        {"alloc_keyed": Counts(400, 20000, 0, 0), "alloc_late": Counts(400, 24000, 0, 0)},
    ),
    "cancelled threads": ("cancelled", 200, {"alloc_cancelled": Counts(200, 14000, 0, 0)}),
    "blocks freed by another thread": (
        "handover", 5000, {"alloc_handed": Counts(5000, 400000, 0, 0)},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("what", "number", "expected"), KINDS.values(), ids=KINDS)
def test_threads_of_each_kind_are_counted_whole(
    segment_dir: Path, what: str, number: int, expected: dict[str, Counts]
) -> None:
    counted = run_threads(segment_dir, what, number)
    assert {function: counted.by(function) for function in expected} == expected
    assert what not in ("churn", "handover") or counted.missing == 0


def test_more_threads_than_the_thread_table_has_rows_lose_names_only(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "churn", 20000)
    assert counted.missing == 0
    assert counted.lost["thread_full"] > 0
    assert counted.by("alloc_ten") == Counts(200000, 2000000, 20000, 200000)


def test_a_process_may_exit_while_threads_allocate(segment_dir: Path) -> None:
    counted = run_threads(segment_dir, "exit", 6)
    assert counted.by("alloc_for_ever").live_blocks <= 6


@pytest.mark.parametrize("what", ["coroutine", "jit", "deep", "wild", "early"])
@pytest.mark.parametrize("unwinder", ["cfi", "fp"])
def test_stacks_that_no_unwinder_expects_cost_frames_and_not_samples(
    segment_dir: Path, what: str, unwinder: str
) -> None:
    program = build(
        "odd_stacks.c", "-fomit-frame-pointer" if unwinder == "cfi" else "-fno-omit-frame-pointer"
    )
    result = run([program, what], environment(segment_dir, rate=1, unwind=unwinder))
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr
    counted = only_counted(segment_dir)
    assert counted.missing == 0
    blocks = {"coroutine": 100, "jit": 100, "deep": 10, "wild": 100, "early": 10}[what]
    if what == "early":
        return  # before our own constructor nothing is counted; it only has to work
    assert counted.by(f"alloc_{what}").blocks == blocks, counted.callers()
    if what == "deep":
        assert counted.lost["truncated"] == blocks
        assert all(len(s.names) <= 129 for s in counted.stacks)
    if what == "jit" and unwinder == "cfi":
        assert counted.lost["unwind_no_module"] >= 100


MODES = ("return", "jump", "altstack", "altstack-jump", "nested", "nested-jump")
SIGNALS = {1: 1000, 3: 100}


@functools.cache
def storm(mode: str, threads: int) -> tuple[int, int, Counted]:
    """Blocks asked for outside and inside of handlers, and what was counted."""
    with tempfile.TemporaryDirectory() as folder:
        return storm_in(Path(folder), mode, threads)


def storm_in(folder: Path, mode: str, threads: int) -> tuple[int, int, Counted]:
    allocator = build(
        "signal_safe_malloc.c", "-shared", "-fPIC", "-Wno-builtin-declaration-mismatch", libs=()
    )
    env = environment(folder, rate=1, preload=[allocator])
    result = run_ok([build("signals.c"), mode, str(threads), str(SIGNALS[threads])], env)
    plain, inside = map(int, result.stdout.split())
    return plain, inside, only_counted(folder)


# Each mode once; all of them in one thread and in three in `make soak`.
@pytest.mark.parametrize(
    ("mode", "threads"),
    [
        pytest.param(
            mode, threads, marks=[] if (threads == 1) == (k % 4 < 2) else [pytest.mark.soak]
        )
        for k, mode in enumerate(MODES)
        for threads in SIGNALS
    ],
)
def test_a_storm_of_signals_loses_no_sample_in_silence(mode: str, threads: int) -> None:
    plain, inside, counted = storm(mode, threads)
    assert inside >= SIGNALS[threads]
    handler, outside = counted.by("alloc_in_handler"), counted.by("alloc_plain")
    seen, asked = handler.blocks + outside.blocks + counted.missing, inside + plain
    # A handler that interrupts a sample finds the thread inside the sampler: counted as re-entry.
    if "jump" not in mode:
        assert seen == asked, (handler, outside, counted.lost)
    else:
        # Only the sample that a jump leaves half done may be unaccounted for.
        assert asked - inside <= seen <= asked, (handler, outside, counted.lost)
    assert counted.lost.keys() <= {"reentry"}


def test_stacks_from_handlers_reach_the_code_they_interrupted() -> None:
    _, _, counted = storm("return", 1)
    whole = [s for s in counted.stacks if "alloc_in_handler" in s.names and "work" in s.names]
    assert sum(s.counts.blocks for s in whole) >= 0.95 * counted.by("alloc_in_handler").blocks


def test_guards_left_behind_by_jumps_do_not_stop_the_sampling() -> None:
    plain, _, counted = storm("jump", 1)
    # However slow the machine is, a jump leaves at most one block unsampled, and its guard none.
    assert counted.by("alloc_plain").blocks >= plain - SIGNALS[1]
    assert counted.lost.get("reentry", 0) <= 2 * SIGNALS[1]


# The bound below a hook's frame, with room for that frame and for the one that calls it.
BOUND_BYTES = 1536 + 128
HOOKS = 7
# The loader's way to a function that is bound at its first call needs more stack than the hooks do.
NOW = "-Wl,-z,now"


def target() -> Path:
    return build("narrow_stacks.c", NOW)


def narrow(folder: Path, mode: str, count: int, **settings: str) -> str:
    """What the target prints, every block being sampled, with an allocator that needs no stack."""
    allocator = build(
        "signal_safe_malloc.c",
        "-shared",
        "-fPIC",
        NOW,
        "-Wno-builtin-declaration-mismatch",
        libs=(),
    )
    env = environment(folder, rate=1, preload=[allocator], **settings)
    result = run_ok([target(), mode, str(count)], env)
    return result.stdout


@pytest.mark.parametrize("unwinder", ["cfi", "fp"])
def test_no_hook_writes_more_than_its_bound_below_its_caller(
    segment_dir: Path, unwinder: str
) -> None:
    lines = narrow(segment_dir, "measure", 800, unwind=unwinder).splitlines()[:-1]
    most = {(stack, hook): int(n) for stack, hook, n in map(str.split, lines)}
    assert len(most) == 3 * HOOKS
    assert {key: n for key, n in most.items() if n > BOUND_BYTES} == {}
    assert max(most.values()) > BOUND_BYTES / 4  # the paint does show what was written
    assert only_counted(segment_dir).missing == 0


@pytest.mark.parametrize("mode", ["handler", "threads", "coroutines"])
def test_programs_with_little_stack_run_as_they_do_alone(segment_dir: Path, mode: str) -> None:
    assert narrow(segment_dir, mode, 500) == "done\n"
    counted = only_counted(segment_dir)
    assert counted.missing == 0
    assert counted.under("use").blocks >= 500 * 5


@pytest.mark.parametrize("mode", ["edge", "edge-coroutine"])
def test_a_sample_is_skipped_and_counted_where_the_stack_is_nearly_full(
    segment_dir: Path, mode: str
) -> None:
    assert narrow(segment_dir, mode, 100) == "done\n"
    counted = only_counted(segment_dir)
    assert counted.by("alloc_at_edge").blocks == 0
    assert counted.by("alloc_above_edge").blocks == 1
    assert counted.lost["stack_room"] == 100
    assert counted.missing == 100


ROUTES = ("fork", "vfork", "_Fork", "clone", "atfork", "nested")
PARENT = Counts(200, 2000, 200, 2000)


def run_route(folder: Path, route: str, **settings: str) -> tuple[Counted, list[int]]:
    """The parent's capture once its children are gone, and their pids."""
    program = build("forks.c")
    env = environment(folder, rate=1, **settings)
    with Target([program, route, program], env) as target:
        children = []
        while (line := target.line()) != "done":
            children.append(int(line.removeprefix("child ")))
        counted = target.counted()
        target.tell("go")
        target.finish()
    assert children
    return counted, children


def of_child(folder: Path, pid: int) -> list[Counted]:
    """What segments of a child hold."""
    return [Counted.read(p) for p in segments(folder) if p.name.startswith(f"{pid}-")]


@pytest.mark.parametrize("follow", ["0", "1"])
@pytest.mark.parametrize("route", ROUTES)
def test_a_child_leaves_its_parents_numbers_alone(
    segment_dir: Path, route: str, follow: str
) -> None:
    counted, children = run_route(segment_dir, route, follow_fork=follow)
    if follow == "0" and route != "vfork":
        assert [of_child(segment_dir, pid) for pid in children] == [[]] * len(children)
    assert counted.by("alloc_parent") == PARENT
    assert counted.by("alloc_child") == Counts()
    assert counted.missing == 0
    if route in {"fork", "_Fork", "clone", "atfork"}:
        assert counted.by("child") == Counts(1, 77, 0, 0)  # freed by the parent, not by the child
    if route == "atfork":
        assert counted.by("alloc_in_handler").blocks == 2


@pytest.mark.parametrize("route", ["fork", "atfork"])
def test_a_followed_child_starts_empty_and_names_its_parent(segment_dir: Path, route: str) -> None:
    parent, [pid] = run_route(segment_dir, route, follow_fork="1")
    [child] = of_child(segment_dir, pid)
    assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)
    assert child.by("alloc_parent") == Counts()
    assert child.by("child") == Counts()
    assert child.control.number("parent_pid") == parent.control.number("pid")
    assert child.control.number("pid") == pid
    assert child.missing == 0
    if route == "atfork":
        assert child.by("alloc_in_handler").blocks <= 1


def test_a_followed_child_without_a_sample_makes_no_segment(segment_dir: Path) -> None:
    _, children = run_route(segment_dir, "silent", follow_fork="1")
    assert len(children) == 20
    assert [of_child(segment_dir, pid) for pid in children] == [[]] * 20


def test_a_followed_child_makes_its_segment_before_it_gives_up_rights(segment_dir: Path) -> None:
    _, [pid] = run_route(segment_dir, "limits", follow_fork="1")
    [child] = of_child(segment_dir, pid)
    assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)


def test_a_vfork_child_that_allocates_first_leaves_the_segment_to_its_parent(
    segment_dir: Path,
) -> None:
    _, [pid] = run_route(segment_dir, "vforks", follow_fork="1")
    [child] = of_child(segment_dir, pid)
    assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)
    assert child.missing == 1
    assert len(segments(segment_dir)) == 2


def test_a_followed_childs_child_is_followed_too(segment_dir: Path) -> None:
    _, (first, second) = run_route(segment_dir, "nested", follow_fork="1")
    [child], [grandchild] = of_child(segment_dir, first), of_child(segment_dir, second)
    assert grandchild.by("alloc_grandchild") == Counts(25, 750, 25, 750)
    assert grandchild.by("alloc_child") == Counts()
    assert grandchild.control.number("parent_pid") == first
    assert child.by("alloc_child").blocks == 51


@pytest.mark.parametrize("route", ["_Fork", "clone"])
def test_a_child_without_fork_handlers_stays_off(segment_dir: Path, route: str) -> None:
    _, [pid] = run_route(segment_dir, route, follow_fork="1")
    assert of_child(segment_dir, pid) == []


def test_an_executed_program_is_a_process_of_its_own(segment_dir: Path) -> None:
    _, [pid] = run_route(segment_dir, "vfork")
    [child] = of_child(segment_dir, pid)
    assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)
    assert child.control.number("parent_pid") == 0


@pytest.mark.parametrize("follow", ["0", "1"])
def test_forks_beside_allocating_threads_neither_hang_nor_mix(
    segment_dir: Path, follow: str
) -> None:
    counted, children = run_route(segment_dir, "threads", follow_fork=follow)
    assert len(children) == 40
    assert counted.by("alloc_parent") == PARENT
    assert counted.by("child") == Counts(40, 40 * 77, 0, 0)
    for pid in children:
        found = of_child(segment_dir, pid)
        assert len(found) == int(follow)
        for child in found:
            assert child.by("alloc_child") == Counts(51, 1020, 50, 1000)
            assert child.by("allocate_on") == Counts()


def test_exec_in_the_same_process_starts_a_new_segment(segment_dir: Path) -> None:
    program = build("blocks.c")
    with Target([program], environment(segment_dir, rate=1)) as target:
        target.line()
        target.ask("alloc 10 10")
        target.tell(f"exec {program}")
        assert target.line() == "ready"
        target.ask("alloc 20 20")
        old, new = sorted(
            (Counted.read(path) for path in segments(segment_dir)),
            key=lambda counted: counted.control.number("exec_count"),
        )
        assert old.by("alloc_kept") == Counts(10, 100, 10, 100)
        assert new.by("alloc_kept") == Counts(20, 400, 20, 400)
        assert new.control.number("exec_count") == 1
        assert old.control.identity != new.control.identity


def test_exec_leaves_nothing_of_an_image_that_was_not_captured(segment_dir: Path) -> None:
    program = build("blocks.c")
    with Target([program], environment(segment_dir)) as target:
        target.line()
        target.tell(f"exec {program}")
        assert target.line() == "ready"
        assert len(segments(segment_dir)) == 1
        target.finish()
    assert segments(segment_dir) == []


def test_a_shell_wrapper_that_executes_ends_as_the_program(segment_dir: Path) -> None:
    program = build("forks.c")
    run_ok(
        ["bash", "-c", f"x=$(true); exec {program} vfork-child"], environment(segment_dir, rate=1)
    )
    found = [Counted.read(path) for path in segments(segment_dir)]
    assert Counts(51, 1020, 50, 1000) in [counted.by("alloc_child") for counted in found]


FORK_STACK_MAX_BYTES = 1536  # below the function that runs fork handlers


@pytest.mark.parametrize("taken", [False, True])
def test_a_thread_with_the_smallest_stack_may_fork(segment_dir: Path, taken: bool) -> None:
    """Also where another folder for segments has to be found."""
    if taken:
        (segment_dir / f"mem_profiler.{os.geteuid()}").write_bytes(b"")
    program = build("small_stack.c", "-Wl,-z,now")  # no lazy binding, which needs more
    plain = run([program], environment(segment_dir) | {"LD_PRELOAD": ""})
    result = run([program], environment(segment_dir, rate=1, follow_fork="1"))
    assert (result.returncode, len(result.stderr.splitlines())) == (0, int(taken))
    depth, parent = result.stdout.split()
    assert parent == "parent"
    assert int(depth) - int(plain.stdout.split()[0]) <= FORK_STACK_MAX_BYTES
    counted = [Counted.read(path) for path in segments(segment_dir)]
    assert Counts(21, 441, 21, 441) in [child.by("alloc_in_child") for child in counted]
