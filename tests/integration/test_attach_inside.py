"""Inside a process that the sampler is put into: all is seen once, and all is put back.

The injector is not part of this: a thread of the target itself opens the library from a descriptor
and calls what an injector calls (attach_agent.py).
"""

import re
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from attach_agent import Attached
from mem_profiler.capture import gate
from mem_profiler.segment import collect
from redirect_facts import (
    ALLOCATORS,
    FAMILY,
    LIBRARIES,
    LINKING,
    NEW,
    NEW_OF_LIBSTDCXX,
    check,
    check_own,
    text,
    under,
)
from sampler_run import SAMPLER, Controller, Counted, Counts, build, only_counted, segments

EALREADY, EFBIG, EINVAL, ENOTSUP = 114, 27, 22, 95
EXITED = 4
RTLD_LAZY, RTLD_NOW, RTLD_DEEPBIND = 1, 2, 8
LAZY = ("-Wl,-z,relro,-z,lazy",)


def steps(folder: Path, *flags: str, follow: bool = False) -> Attached:
    """attach_steps.c, lazily bound unless flags say otherwise; ready for its first line."""
    name = "attach_steps" + "".join(re.sub(r"\W", "", flag) for flag in flags)
    target = Attached(folder, [build("attach_steps.c", *(flags or LAZY), out=name)], follow=follow)
    assert target.line() == "ready"
    return target


def plugin(name: str = "a", *flags: str) -> Path:
    """A library that allocates one block per call; all names have the same shape."""
    size = 1000 + ord(name)
    return build(
        "plugin.c", "-shared", "-fPIC", f"-DNAME={name}", f"-DSIZE={size}", *(flags or LAZY),
        out=f"attach_plugin_{name}{''.join(re.sub(r'[^a-z]', '', flag) for flag in flags)}.so",
    )  # fmt: skip


def captured(target: Attached, action: Callable[[], object], rate: int = 1) -> Counted:
    with Controller(target) as controller:
        number = controller.start(rate)
        action()
        counted = controller.stop(number)
        gate.mark_written(controller.segment, number)
        return counted


def held_to_its_end(target: Attached) -> Counted:
    """Capture a held program from before its main to its end."""
    answer = target.begin()
    assert (answer.result, answer.failed, answer.text) == (0, 0, "")
    with Controller(target) as controller:
        controller.start(1)
    target.go()
    target.finish()
    return only_counted(target.folder)


@pytest.mark.parametrize("linking", LINKING)
def test_every_way_of_linking_is_seen(segment_dir: Path, linking: str) -> None:
    program = build("redirect.cc", *LINKING[linking], out=f"redirect-{linking}")
    with Attached(segment_dir, [program], hold=True) as target:
        check(held_to_its_end(target), FAMILY | NEW_OF_LIBSTDCXX)


@pytest.mark.parametrize("linking", ["full-relro", "lazy"])
@pytest.mark.parametrize("allocator", ALLOCATORS)
def test_an_allocator_that_is_a_library_is_seen_once(
    segment_dir: Path, allocator: str, linking: str
) -> None:
    library = LIBRARIES[allocator]
    program = build("redirect.cc", *LINKING[linking], out=f"redirect-{linking}")
    with Attached(segment_dir, [program], hold=True, preload=[library]) as target:
        counted = held_to_its_end(target)
    check(counted, FAMILY | NEW)
    assert under(counted, "by_realloc") == (20, 10 * 114, 6)
    assert library in text(counted, "allocator")
    check_own(counted, allocator)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-plt", "no-pie-lazy"])
def test_detach_leaves_every_slot_as_it_was(segment_dir: Path, linking: str, follow: bool) -> None:
    with steps(segment_dir, *LINKING[linking], follow=follow) as target:
        assert target.ask("alloc 10") == "done"
        target.rescan()  # opens the library, for which the C library binds slots of its own
        before = target.slots()
        begun = target.begin()
        during = target.slots()
        assert target.ask("alloc 10") == "done"
        ended = target.detach()
        after = target.slots()

        changed = {at for at in before if before[at] != during[at]}
        assert len(changed) >= begun.patched >= 6
        assert all(before[at] == during[at] for at in before if at[1] == "relro")
        assert (ended.result, ended.restored, ended.kept) == (0, begun.patched, 0)
        assert {at: (before[at], after[at]) for at in before if before[at] != after[at]} == {}
        assert segments(segment_dir) == []


def test_calls_inside_the_c_library_are_seen(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        assert target.begin().result == 0
        counted = captured(target, lambda: target.ask("dup"))
        assert counted.under("strdup_inside") == Counts(1, 22, 1, 22)
        assert counted.under("getline_inside").blocks >= 2
        assert str(SAMPLER) in {module.path for module in counted.modules}


def test_blocks_from_before_are_freed_as_if_nothing_was(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        target.ask("keep 100")
        target.begin()

        def exchange() -> None:
            target.ask("drop")
            target.ask("keep 50")

        counted = captured(target, exchange)
        assert counted.under("kept_blocks") == Counts(50, 25000, 50, 25000)
        target.detach()
        assert target.ask("drop") == "done"
        target.begin()
        counted = captured(target, exchange)
        assert counted.under("kept_blocks") == Counts(50, 25000, 50, 25000)
        assert counted.missing == 0


@pytest.mark.parametrize("tool", ["forwards", "allocates itself"])
def test_a_preloaded_tool_that_takes_malloc_is_counted_once(segment_dir: Path, tool: str) -> None:
    if tool == "forwards":
        library = build("chain.c", "-shared", "-fPIC", out="chain.so")
    else:
        flags = ("-shared", "-fPIC", "-Dmain=unused_main")
        library = build("own_malloc.c", *flags, out="own_malloc.so")
    with Attached(segment_dir, [build("redirect.cc")], hold=True, preload=[library]) as target:
        check(held_to_its_end(target), FAMILY | NEW_OF_LIBSTDCXX)


@pytest.mark.parametrize("follow", [False, True])
@pytest.mark.parametrize("scanning", [True, False], ids=["rescan", "attach and detach"])
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-relro"])
def test_libraries_open_and_close_beside_it(
    segment_dir: Path, linking: str, scanning: bool, follow: bool
) -> None:
    """Threads bind, open and close while slots are looked through, taken and restored, and the
    process ends in the middle of it.
    """
    plugin = build(
        "redirect_plugin.cc", "-shared", "-fPIC", *LINKING[linking],
        out=f"redirect_plugin-{linking}.so",
    )  # fmt: skip
    with Attached(
        segment_dir, [build("redirect_threads.c"), plugin], hold=True, follow=follow
    ) as target:
        if scanning:
            target.begin()
            with Controller(target) as controller:
                controller.start(4096)
        target.go()
        target.send("scan 1000000" if scanning else f"churn 1000000 {segment_dir}")
        assert target.finish() == "joined\n"


@pytest.mark.parametrize("mode", [RTLD_LAZY, RTLD_NOW | RTLD_DEEPBIND])
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-relro"])
def test_libraries_opened_later_are_seen_after_a_rescan(
    segment_dir: Path, linking: str, mode: int
) -> None:
    with steps(segment_dir) as target:
        begun = target.begin()
        assert target.rescan().patched == 0
        target.ask(f"open {plugin('a', *LINKING[linking])} {mode}")
        assert target.rescan().patched >= 1
        counted = captured(target, lambda: target.ask("call"))
        assert counted.under("ask_plugin").blocks == 1
        target.ask("close")
        assert target.rescan().held == begun.held
        assert target.detach().kept == 0


@pytest.mark.parametrize("mode", [RTLD_LAZY, RTLD_NOW | RTLD_DEEPBIND])
@pytest.mark.parametrize("linking", ["full-relro", "lazy", "no-relro"])
def test_libraries_opened_later_are_seen_at_the_next_dlsym(
    segment_dir: Path, linking: str, mode: int
) -> None:
    with steps(segment_dir, follow=True) as target:
        for _ in range(2):
            target.begin()
            target.ask(f"open {plugin('a', *LINKING[linking])} {mode}")
            counted = captured(target, lambda: target.ask("call"))
            assert counted.under("ask_plugin").blocks == 1
            target.ask("close")
            ended = target.detach()
            assert (ended.result, ended.held) == (0, 0)


def test_no_slot_changes_under_a_filter_of_the_program(segment_dir: Path) -> None:
    with steps(segment_dir, follow=True) as target:
        target.begin()
        target.ask(f"open {plugin('a', '-Wl,-z,relro,-z,now')} {RTLD_NOW}")
        assert target.ask("filter") == "done"
        assert target.ask("call") == "done"  # a dlsym, and the library is new
        assert target.ask("alloc 10") == "done"


def test_a_slot_that_the_loader_bound_over_the_hook_is_taken_again(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        target.begin()
        assert captured(target, lambda: target.ask("alloc 10")).under("step_alloc").blocks == 10
        target.ask("bind")
        assert captured(target, lambda: target.ask("alloc 10")).under("step_alloc").blocks == 0
        assert target.rescan().patched == 1
        assert captured(target, lambda: target.ask("alloc 10")).under("step_alloc").blocks == 10


def test_a_hook_that_another_tool_put_over_ours_stays(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        begun = target.begin()
        target.ask("tool")
        ended = target.detach()
        assert (ended.result, ended.restored, ended.kept) == (0, begun.patched - 1, 1)
        target.ask("alloc 10")
        assert target.ask("tooled") == "10 1"
        assert target.begin().result == 0
        counted = captured(target, lambda: target.ask("alloc 10"))
        assert counted.under("step_alloc").blocks == 10
        target.detach()
        assert target.ask("tooled") == "20 1"


def test_a_library_closed_meanwhile_is_left_alone_and_so_is_what_came_after_it(
    segment_dir: Path,
) -> None:
    with steps(segment_dir) as target:
        base = target.ask(f"open {plugin('a')} {RTLD_NOW}")
        target.begin()
        target.ask("close")
        again = [target.ask(f"open {plugin(name)} {RTLD_NOW}") for name in "ba"]
        assert base in again, "nothing came to lie at the place of the library"
        ended = target.detach()
        assert (ended.result, ended.kept) == (0, 0)
        assert target.ask("call") == "done"


def test_hundreds_of_times_without_growth(segment_dir: Path) -> None:
    def size(pid: int) -> tuple[int, int]:
        lines = Path(f"/proc/{pid}/maps").read_text().count("\n")
        return lines, len(list(Path(f"/proc/{pid}/fd").iterdir()))

    def resident_kib(pid: int) -> int:
        text = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+)", text)
        return int(found[1])

    with steps(segment_dir) as target:
        assert target.ask("threads 3") == "started"
        assert target.command(f"cycle 20 {segment_dir}") == "0 "
        before, kib = size(target.pid), resident_kib(target.pid)
        assert target.command(f"cycle 300 {segment_dir}", wait_s=120) == "0 "
        assert size(target.pid) == before
        assert resident_kib(target.pid) < kib + 300
        assert int(target.ask("stop")) > 0
        assert segments(segment_dir) == []


def test_threads_are_named_in_each_segment(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        for _ in range(3):
            assert target.begin().result == 0
            with Controller(target) as controller:
                number = controller.start(1)
                target.ask("alloc 10")
                counted = controller.stop(number)
                gate.mark_written(controller.segment, number)
                threads = collect.read_threads(controller.segment, counted.control)
            assert target.pid in [thread.tid for thread in threads]
            target.detach()


def test_captures_under_threads_while_it_comes_and_goes(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        target.ask("threads 3")
        for number in range(1, 9):
            assert target.begin().result == 0
            with Controller(target) as controller:
                assert controller.start(64) == number
                target.ask("alloc 100")
                counted = controller.stop(number)
                gate.mark_written(controller.segment, number)
            assert counted.under("step_alloc").blocks > 0
            assert counted.missing == 0, counted.lost
            assert target.detach().result == 0
        target.ask("stop")
        assert segments(segment_dir) == []


@pytest.mark.soak
def test_a_thousand_captures_by_as_many_attaches(segment_dir: Path) -> None:
    """Threads allocate, children fork, libraries come and go; each capture is complete."""
    with steps(segment_dir) as target:
        target.ask("threads 3")
        for number in range(1, 1001):
            begun = target.begin()
            assert (begun.result, begun.failed) == (0, 0), begun
            if number % 5 == 0:
                target.ask(f"open {plugin('ab'[number // 5 % 2])} {RTLD_NOW}")
                assert target.rescan().result == 0
            with Controller(target) as controller:
                assert controller.start(64) == number
                target.ask("alloc 100")
                if number % 5 == 0:
                    target.ask("call")
                if number % 10 == 0:
                    assert target.ask("fork") == str(7 << 8)
                counted = controller.stop(number)
                gate.mark_written(controller.segment, number)
            assert counted.missing == 0, counted.lost
            assert counted.under("step_alloc").blocks > 50
            if number % 5 == 0:
                assert counted.under("ask_plugin").blocks == 1
                target.ask("close")
            assert target.detach().result == 0
            assert segments(segment_dir) == []
        target.ask("stop")


def test_what_is_in_no_file_yet_is_kept(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        target.begin()
        with Controller(target) as controller:
            controller.start(1)
        target.ask("alloc 10")
        target.detach()
        counted = only_counted(segment_dir)
        assert counted.under("step_alloc").blocks == 10
        assert counted.control["state"] == EXITED
        target.begin()
        assert len(segments(segment_dir)) == 2


def test_a_child_of_an_attached_process_goes_on_and_can_be_attached_to_itself(
    segment_dir: Path,
) -> None:
    with steps(segment_dir) as target:
        target.begin()
        counted = captured(target, lambda: target.ask("fork"))
        assert counted.under("step_alloc").blocks == 0
        assert target.command("end") == "ended"
        child = int(target.ask("linger"))
        assert target.detach().result == -EALREADY
        assert target.begin().result == 0
        [path] = [path for path in segments(segment_dir) if path.name.startswith(f"{child}-")]
        target.pid = child
        counted = captured(target, lambda: target.ask("alloc 10"))
        assert counted.under("step_alloc").blocks == 10
        assert target.detach().result == 0
        assert not path.exists()
        target.finish()


def test_the_library_does_nothing_until_it_is_told_to(segment_dir: Path) -> None:
    with steps(segment_dir, *LINKING["full-relro"]) as target:
        before = target.slots()
        assert target.rescan().result == -EALREADY
        assert target.detach().result == -EALREADY
        assert segments(segment_dir) == []
        after = target.slots()
        assert {at: after[at] for at in before if at[0] == "program"} == {
            at: before[at] for at in before if at[0] == "program"
        }


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        ("UNWIND=dwarf", EINVAL, "MEM_PROFILER_UNWIND=dwarf: expected cfi, fp or libgcc"),
        ("MAX_MEMORY=1K", EINVAL, "MEM_PROFILER_MAX_MEMORY=1K: expected bytes from 1M to 64G"),
        ("UNWIND=libgcc", EINVAL, "libgcc_s"),
    ],
)
def test_what_cannot_be_is_said_and_changes_nothing(
    segment_dir: Path, options: str, code: int, words: str
) -> None:
    with steps(segment_dir) as target:
        target.rescan()
        before = target.slots()
        answer = target.begin(options)
        assert answer.result == -code and words in answer.text
        assert target.slots() == before
        assert segments(segment_dir) == []
        assert target.begin().result == 0
        assert target.begin().result == -EALREADY


def test_a_folder_that_is_not_there_is_replaced_by_the_usual_one(segment_dir: Path) -> None:
    place = Path("/dev/shm")
    with steps(segment_dir) as target:
        target.folder = segment_dir / "missing"
        assert target.begin().result == 0
        assert len([*place.glob(f"mem_profiler.*/{target.pid}-*")]) == 1
        assert target.detach().result == 0
        assert [*place.glob(f"mem_profiler.*/{target.pid}-*")] == []


def test_a_limit_of_file_sizes_kills_nobody(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        target.rescan()
        _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.prlimit(target.pid, resource.RLIMIT_FSIZE, (1000, most))
        answer = target.begin()
        assert (answer.result, answer.patched) == (-EFBIG, 0)
        assert answer.text.endswith("(ulimit -f) leaves no room for a segment")
        resource.prlimit(target.pid, resource.RLIMIT_FSIZE, (3 << 20, most))
        assert target.begin().result == 0
        assert segments(segment_dir)[0].stat().st_size == 3 << 20


def test_no_room_for_the_segment_is_said(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        target.rescan()
        used = int(Path(f"/proc/{target.pid}/statm").read_text().split()[0]) * 4096
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.prlimit(target.pid, resource.RLIMIT_AS, (used + (8 << 20), most))
        answer = target.begin()
        assert answer.result < 0
        assert answer.text.endswith("(ulimit -v) leaves no room for a segment")
        resource.prlimit(target.pid, resource.RLIMIT_AS, (used + (64 << 20), most))
        assert target.begin().result == 0
        assert 2 << 20 < segments(segment_dir)[0].stat().st_size <= 4 << 20


def test_a_process_that_locks_its_memory_does_not_get_more_than_it_needs(segment_dir: Path) -> None:
    with steps(segment_dir) as target:
        target.rescan()
        if target.ask("lock") != "0":
            pytest.skip("this user may not lock memory")

        def locked_kib() -> int:
            status = Path(f"/proc/{target.pid}/status").read_text()
            return int(re.search(r"VmLck:\s+(\d+)", status)[1])  # type: ignore[index]

        before = locked_kib()
        assert target.begin().result == 0
        [path] = segments(segment_dir)
        assert path.stat().st_blocks * 512 <= 1 << 20
        assert target.detach().result == 0
        assert locked_kib() <= before + 4096


def test_libraries_that_bypass_the_allocator_are_said(segment_dir: Path) -> None:
    library, names = LIBRARIES["jemalloc"], ["attach_steps.c", *LAZY]
    program = build(*names, out="attach_steps-lazy")
    with Attached.started(segment_dir, [program], preload=[library]) as target:
        target.ask(f"open {plugin('a', *LINKING['full-relro'])} {RTLD_NOW | RTLD_DEEPBIND}")
        answer = target.begin()
        assert answer.result == 0
        assert answer.text.startswith("some libraries call the C library's malloc, not that of ")
        assert target.ask("call") == "done"


def test_a_malloc_inside_the_program_is_said(segment_dir: Path) -> None:
    program = build("own_malloc.c", "-rdynamic")
    with Attached.started(segment_dir, [program]) as target:
        answer = target.begin()
        assert answer.result == 0
        assert answer.text == (
            "malloc is part of the program: the sampler sees the calls of libraries, not "
            "those of the program"
        )


def test_a_sanitized_program_is_refused(segment_dir: Path) -> None:
    program = build("attach_steps.c", "-fsanitize=address", out="steps-asan")
    asan = Attached(segment_dir, [program], ASAN_OPTIONS="verify_asan_link_order=0:detect_leaks=0")
    with asan as target:
        assert target.line() == "ready"
        answer = target.begin()
        assert answer.result == -ENOTSUP
        assert "AddressSanitizer" in answer.text
        assert segments(segment_dir) == []


@pytest.mark.parametrize("asked", [{}, {"AGENT_PRELOADED": "1"}], ids=["another copy", "itself"])
def test_a_process_that_has_the_sampler_from_its_start_is_left_alone(
    segment_dir: Path, asked: dict[str, str]
) -> None:
    program = build("attach_steps.c", *LAZY, out="attach_steps-lazy")
    with Attached.started(segment_dir, [program], preload=[SAMPLER], **asked) as target:
        answer = target.begin()
        assert answer.result == -EALREADY
        assert answer.text == "the sampler has been in the process since its start"
        counted = captured(target, lambda: target.ask("alloc 10"))
        assert counted.under("step_alloc").blocks == 10


def test_a_child_of_a_process_with_the_sampler_can_be_attached_to(segment_dir: Path) -> None:
    program = build("attach_steps.c", *LAZY, out="attach_steps-lazy")
    with Attached.started(segment_dir, [program], preload=[SAMPLER], AGENT_PRELOADED="1") as target:
        assert target.command("end") == "ended"
        target.pid = int(target.ask("linger"))
        for _ in range(2):
            assert target.begin().result == 0
            assert target.begin().result == -EALREADY
            counted = captured(target, lambda: target.ask("alloc 10"))
            assert counted.under("step_alloc").blocks == 10
            assert target.rescan().result == 0
            assert target.detach().result == 0
            assert [p for p in segments(segment_dir) if p.name.startswith(f"{target.pid}-")] == []
        target.finish()
