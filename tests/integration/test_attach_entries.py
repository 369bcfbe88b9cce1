"""Allocators that are part of a program: led to the sampler at their entry points, and let go; the
plan for that comes by a sealed descriptor and no other way.
"""

import fcntl
import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from attach_agent import Answer, Attached
from c_build import BUILD, compile_program, prefixed_jemalloc
from controller_tools import wait_until
from mem_parser.errors import TargetUnsupported
from mem_profiler.capture import gate
from mem_profiler.doctor.examine import examine_program
from mem_profiler.entries import plan
from redirect_facts import FAMILY, NEW, check, under
from sampler_run import (
    FLAGS,
    TARGETS,
    Controller,
    Counted,
    Counts,
    Target,
    build,
    environment,
    only_counted,
    run,
    run_ok,
    segments,
    silent,
)

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="x86-64 only")
STATIC = {
    "jemalloc": ("-l:libjemalloc.a", "-lpthread", "-ldl", "-lm"),
    "tcmalloc": ("-l:libtcmalloc_minimal.a", "-lpthread", "-ldl"),
}
ODD = {
    "by_malloc": 101, "by_zalloc": 102, "by_calloc": 102, "by_small": 103, "by_heap": 104,
    "by_new": 105,
}  # fmt: skip
EINVAL = 22


def odd(*flags: str) -> Path:
    sources = [TARGETS / "odd_entries.c", TARGETS / "odd_entries.S"]
    return compile_program(sources, (*FLAGS, *flags), libs=("-lpthread",))


def attach(target: Attached) -> tuple[plan.Plan, Answer]:
    """Attach with the plan for the target's program."""
    made = plan.of_program(f"/proc/{target.pid}/exe", target.bias())
    target.hand(made.data)
    return made, target.begin()


def settled_maps(pid: int) -> list[str]:
    """The mappings once two looks agree: one that is just split or joined may be shown twice."""
    path = Path(f"/proc/{pid}/maps")
    before, now = "", path.read_text()

    def settled() -> bool:
        nonlocal before, now
        before, now = now, path.read_text()
        return before == now

    wait_until(settled, "the mappings are settled")
    return now.splitlines()


def code(target: Attached) -> bytes:
    """The program's code as it is in memory, each page once however often it is listed."""
    lines = settled_maps(target.pid)
    exe = str(Path(f"/proc/{target.pid}/exe").readlink())
    pages: dict[int, bytes] = {}
    with open(f"/proc/{target.pid}/mem", "rb") as memory:
        for line in lines:
            if line.endswith(f" {exe}") and " r-xp " in line:
                start, end = (int(part, 16) for part in line.split(" ")[0].split("-"))
                memory.seek(start)
                for at in range(start, end, 4096):
                    pages[at] = memory.read(4096)
    return b"".join(pages[at] for at in sorted(pages))


def to_its_end(target: Attached) -> Counted:
    """Capture a held program from before its main to its end."""
    with Controller(target) as controller:
        controller.start(1)
    target.go()
    target.finish()
    return only_counted(target.folder)


@pytest.mark.parametrize("allocator", STATIC)
def test_a_static_allocator_is_seen_completely_and_once(segment_dir: Path, allocator: str) -> None:
    program = build("redirect.cc", libs=STATIC[allocator], out=f"redirect-static-{allocator}")
    with Attached(segment_dir, [program], hold=True) as target:
        made, answer = attach(target)
        assert made.allocator == allocator
        assert (answer.result, answer.failed, answer.text) == (0, 0, "")
        assert answer.patched >= len(made.functions)
        counted = to_its_end(target)
    check(counted, FAMILY | NEW)
    assert under(counted, "by_realloc") == (20, 10 * 114, 6)
    if allocator == "jemalloc":
        check(counted, {"by_mallocx": 112})
        assert under(counted, "by_rallocx") == (20, 10 * 10113, 6)
    else:
        check(counted, {"by_tc_malloc": 114})


@pytest.mark.parametrize("linking", [(), ("-no-pie",)])
def test_every_beginning_of_a_function_is_led_here_and_back(
    segment_dir: Path, linking: Sequence[str]
) -> None:
    with Attached(segment_dir, [odd(*linking)], hold=True) as target:
        target.wait_until_loaded()
        before = code(target)
        made, answer = attach(target)
        assert (made.allocator, answer.result) == ("mimalloc", 0), answer
        changed = sum(a != b for a, b in zip(before, code(target), strict=True))
        assert 1 <= changed <= 5 * len(made.functions)
        ended = target.detach()
        assert (ended.result, ended.restored, ended.kept) == (0, answer.patched, 0)
        assert code(target) == before
        assert target.begin().result == 0
        check(to_its_end(target), ODD)


def test_what_cannot_be_led_elsewhere_is_refused_with_the_reason(segment_dir: Path) -> None:
    with pytest.raises(TargetUnsupported) as refused:
        plan.of_program(odd("-DREFUSED"), 0)
    assert str(refused.value) == (
        "mimalloc is part of the program, and its mi_realloc begins with instructions "
        "that the sampler cannot redirect safely"
    )


def test_a_program_without_an_allocator_needs_no_plan() -> None:
    assert plan.of_program(build("attach_steps.c"), 0) is None


def test_code_that_another_tool_changed_is_left_alone(segment_dir: Path) -> None:
    with Attached(segment_dir, [odd()], hold=True) as target:
        made = plan.of_program(odd(), target.bias())
        target.hand(made.data.replace(b"\xe9", b"\xea", 1))
        before = code(target)
        answer = target.begin()
        assert answer.result < 0 and "another tool changed it" in answer.text
        assert code(target) == before
        assert segments(segment_dir) == []


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda plan: plan[:-1], "another version"),
        (lambda plan: b"\0" + plan[1:], "another version"),
        (lambda plan: plan[:32] + b"\xff" + plan[33:], "damaged"),  # kind of the first entry
    ],
    ids=["cut", "no plan", "no kind"],
)
def test_a_damaged_plan_changes_nothing(
    segment_dir: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    with Attached(segment_dir, [odd()], hold=True) as target:
        made = plan.of_program(odd(), target.bias())
        target.hand(damage(made.data))
        before = code(target)
        answer = target.begin()
        assert answer.result == -EINVAL and words in answer.text
        assert code(target) == before
        assert segments(segment_dir) == []


def test_threads_go_on_while_entry_points_change_hundreds_of_times(segment_dir: Path) -> None:
    with Attached(segment_dir, [odd(), "3"]) as target:
        assert target.line() == "running"
        _, answer = attach(target)
        assert answer.result == 0
        with Controller(target) as controller:
            number = controller.start(4096)
            counted = controller.stop(number)
            gate.mark_written(controller.segment, number)
        assert counted.missing == 0
        assert target.detach().result == 0
        maps = Path(f"/proc/{target.pid}/maps").read_text().count("\n")
        assert target.command(f"cycle 300 {segment_dir}", wait_s=120) == "0 "
        now = Path(f"/proc/{target.pid}/maps").read_text().count("\n")
        assert now < maps + 30  # a thread may get an arena meanwhile; a cycle leaves nothing
        assert target.ask("stop") == "done"
        target.finish()


def rust_source(items: int) -> str:
    """Code that keeps a compiler busy."""
    item = """#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct S@ { a: Vec<u16>, b: Option<Box<S@>>, c: String, d: BTreeMap<u32, String> }
pub fn f@(n: usize) -> HashMap<S@, Vec<S@>> {
    (0..n).map(|k| (S@ { a: vec![k as u16; k], ..S@::default() }, vec![S@::default()])).collect()
}
"""
    return "use std::collections::*;\n" + "".join(item.replace("@", str(i)) for i in range(items))


@functools.cache
def compiler() -> Path:
    """rustc itself, not rustup's stand-in: its allocator is a jemalloc that it brings along."""
    if shutil.which("rustc") is None:
        pytest.skip("no rustc")
    asked = subprocess.run(
        ["rustc", "--print", "sysroot"], capture_output=True, text=True, timeout=60, check=True
    )
    return Path(asked.stdout.strip()) / "bin" / "rustc"


@pytest.fixture(scope="module")
def compilation(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path, bytes]:
    """A compilation: its command, its output, and what that holds when nobody looks."""
    folder = tmp_path_factory.mktemp("compilation")
    source, out = folder / "lib.rs", folder / "lib.o"
    source.write_text(rust_source(40))
    command = [compiler(), "--crate-type", "lib", "--emit=obj", "-o", out, source]
    assert run(command, {**os.environ}).returncode == 0
    expected = out.read_bytes()
    out.unlink()
    return [str(part) for part in command], out, expected


def test_a_compiler_with_a_jemalloc_of_its_own(
    segment_dir: Path, compilation: tuple[list[str], Path, bytes]
) -> None:
    command, out, expected = compilation
    blocks = {}
    for way in ("slots", "entry points"):
        with Attached(segment_dir, command, hold=True) as target:
            if way == "slots":
                answer = target.begin()
                assert (
                    "the sampler sees the calls of libraries, not those of the program"
                    in answer.text
                )
            else:
                made, answer = attach(target)
                assert (made.allocator, answer.text) == ("malloc", "")
            assert answer.result == 0
            with Controller(target) as controller:
                controller.start(1 << 16)
            target.go()
            target.finish()
        counted = only_counted(segment_dir)
        assert counted.missing == 0
        blocks[way] = counted.total().blocks
        # BOLT moved the program headers of its libraries, and with them the way to unwind tables
        assert counted.lost.get("unwind_no_rule", 0) < blocks[way] / 10
        for path in segments(segment_dir):
            path.unlink()
        assert out.read_bytes() == expected
        out.unlink()
    assert min(blocks.values()) > 300
    # two counts of samples of nearly the same blocks
    assert abs(blocks["slots"] - blocks["entry points"]) < 5 * sum(blocks.values()) ** 0.5


def test_a_compiler_goes_on_while_its_allocator_is_led_here_and_back(
    segment_dir: Path, compilation: tuple[list[str], Path, bytes]
) -> None:
    command, out, expected = compilation
    with Attached(segment_dir, command, hold=True) as target:
        attach(target)
        assert target.detach().result == 0
        target.go()
        target.send(f"churn 1000000 {segment_dir}")
        target.finish()
    assert out.read_bytes() == expected


@pytest.fixture(scope="module")
def rust_program() -> Path:
    """A Rust program whose global allocator is a jemalloc of another prefix, linked in."""
    rustc = shutil.which("rustc")
    if rustc is None:
        pytest.skip("no rustc")
    folder = BUILD / "rust"
    program = folder / "rust_alloc"
    source = TARGETS / "rust_alloc.rs"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [rustc, "-O", "-C", "force-frame-pointers=no", f"-Clink-arg={prefixed_jemalloc()}",
             "-Clink-arg=-lm", "-Clink-arg=-lstdc++", "-o", str(program), str(source)],
            check=True, timeout=120,
        )  # fmt: skip
    return program


def test_the_doctor_says_of_a_stripped_jemalloc_that_it_is_not_seen(
    rust_program: Path, tmp_path: Path
) -> None:
    stripped = tmp_path / "stripped"
    subprocess.run(["strip", "-o", str(stripped), str(rust_program)], check=True, timeout=60)
    texts = {f.text: f.status for f in examine_program((str(rust_program),)) if f.check == "inside"}
    assert list(texts.values()) == ["ok"]
    [found] = [f for f in examine_program((str(stripped),)) if f.check == "inside"]
    assert found.status == "warning"
    assert found.text.startswith("jemalloc seems to be linked into the program, without symbols")


def test_a_rust_program_with_a_jemalloc_of_its_own(segment_dir: Path, rust_program: Path) -> None:
    with Attached(segment_dir, [rust_program], hold=True) as target:
        made, answer = attach(target)
        assert made.allocator == "jemalloc (_rjem_)"
        assert answer.result == 0
        counted = to_its_end(target)
    assert counted.missing == 0
    assert counted.under("rust_boxes") == Counts(100, 100 * 48, 60, 60 * 48)
    assert counted.under("rust_vector").live_bytes == 4096
    assert counted.under("rust_libc") == Counts(1, 77, 1, 77)


SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
JEMALLOC = ("-l:libjemalloc.a", "-lstdc++", "-lpthread", "-ldl", "-lm")
USER = 1000


def plan_data() -> bytes:
    """The plan for it, for addresses as they stand in its file."""
    made = plan.of_program(odd(), 0)
    return made.data


@pytest.fixture
def opened() -> Iterator[list[int]]:
    """Descriptors that end with the test."""
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


def memory_file(data: bytes, seals: int = SEALS, owner: int | None = None) -> int:
    """A descriptor of a memory file."""
    fd = os.memfd_create("plan", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, data)
    if owner is not None:
        os.fchown(fd, owner, owner)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def test_a_sealed_plan_is_followed(segment_dir: Path, opened: list[int]) -> None:
    fd = memory_file(plan_data())
    opened.append(fd)
    silent([odd()], environment(segment_dir, rate=1, plan=f"fd:{fd}"), pass_fds=[fd])
    check(only_counted(segment_dir), ODD)


def plain_file(tmp_path: Path) -> int:
    path = tmp_path / "plan"
    path.write_bytes(plan_data())
    return os.open(path, os.O_RDONLY)


WRONG: dict[str, Callable[[Path], int]] = {
    "a plain file": plain_file,
    "not sealed": lambda _: memory_file(plan_data(), 0),
    "not sealed against writing": lambda _: memory_file(plan_data(), SEALS & ~fcntl.F_SEAL_WRITE),
    "not sealed against growing": lambda _: memory_file(plan_data(), SEALS & ~fcntl.F_SEAL_GROW),
    "not sealed against cutting": lambda _: memory_file(plan_data(), SEALS & ~fcntl.F_SEAL_SHRINK),
    "seals may be added": lambda _: memory_file(plan_data(), SEALS & ~fcntl.F_SEAL_SEAL),
    "empty": lambda _: memory_file(b""),
    "too large": lambda _: memory_file(plan_data() + bytes(8 << 20)),
    "another user's": lambda _: memory_file(plan_data(), owner=USER),
    "a folder": lambda path: os.open(path, os.O_RDONLY),
    "a device": lambda _: os.open("/dev/zero", os.O_RDONLY),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_anything_else_is_left_alone_and_not_mentioned(
    segment_dir: Path, tmp_path: Path, opened: list[int], wrong: str
) -> None:
    if wrong == "another user's" and os.geteuid() != 0:
        pytest.skip("needs root")
    fd = WRONG[wrong](tmp_path)
    opened.append(fd)
    env = environment(segment_dir, rate=1, plan=f"fd:{fd}")
    silent([odd()], env, pass_fds=[fd])
    assert under(only_counted(segment_dir), "by_malloc") == (0, 0, 0)
    listed = run(["ls", "/proc/self/fd"], env, pass_fds=[fd])
    assert str(fd) in listed.stdout.split()


@pytest.mark.parametrize(
    "value", ["", "fd:", "fd:x", "fd:0", "fd:2", "fd:-1", "fd:99999999999", "7", "{path}"]
)
def test_a_value_that_names_no_plan_is_not_mentioned(
    segment_dir: Path, tmp_path: Path, value: str
) -> None:
    os.close(plain_file(tmp_path))
    value = value.format(path=tmp_path / "plan")
    sealed = memory_file(plan_data())
    saved = os.dup(0)
    os.dup2(sealed, 0)
    os.close(sealed)
    try:
        result = run([odd()], environment(segment_dir, rate=1, plan=value))
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert (result.returncode, result.stderr) == (0, "")
    assert under(only_counted(segment_dir), "by_malloc") == (0, 0, 0)


@pytest.mark.parametrize("follow", [False, True])
def test_the_program_keeps_the_descriptor_only_for_its_children(
    segment_dir: Path, opened: list[int], follow: bool
) -> None:
    fd = memory_file(plan_data())
    opened.append(fd)
    env = environment(segment_dir, rate=1, plan=f"fd:{fd}", follow_fork="1" if follow else "0")
    result = run(["ls", "/proc/self/fd"], env, pass_fds=[fd])
    assert (str(fd) in result.stdout.split()) == follow


def blocks(*libraries: str) -> Path:
    """A program that obeys, with or without a jemalloc in it."""
    return compile_program(TARGETS / "blocks.c", FLAGS, libs=libraries)


@pytest.fixture
def several(opened: list[int]) -> int:
    """A descriptor of plans for two programs, of which a third needs none."""
    jemalloc = plan.of_program(blocks(*JEMALLOC), 0)
    fd = memory_file(plan_data() + jemalloc.data)
    opened.append(fd)
    return fd


@pytest.mark.parametrize("which", ["first", "second"])
def test_of_several_plans_the_one_that_fits_is_followed(
    segment_dir: Path, several: int, which: str
) -> None:
    env = environment(segment_dir, rate=1, plan=f"exec:{several}")
    program = odd() if which == "first" else blocks(*JEMALLOC)
    silent(["sh", "-c", f"exec {program}"], env, pass_fds=[several], input="alloc 7 100\n")
    last = max(segments(segment_dir), key=lambda path: int(path.name.rpartition("-")[2]))
    if which == "first":
        check(Counted.read(last), ODD)
    else:
        assert under(Counted.read(last), "alloc_kept") == (7, 700, 7)


@pytest.mark.parametrize("which", ["one that fits", "none that fits"])
def test_plans_for_the_next_program_stay_open_until_one_fits(
    segment_dir: Path, several: int, which: str
) -> None:
    env = environment(segment_dir, plan=f"exec:{several}")
    program = blocks(*(JEMALLOC if which == "one that fits" else ()))
    with Target.started([program], env, pass_fds=[several]) as target:
        held = {int(name) for name in os.listdir(f"/proc/{target.pid}/fd")}
        assert (several in held) == (which == "none that fits")


@pytest.mark.parametrize("damage", ["cut by a byte", "cut by much", "zeros"])
def test_a_damaged_plan_is_none(segment_dir: Path, opened: list[int], damage: str) -> None:
    data = plan_data()
    kept = {"cut by a byte": data[:-1], "cut by much": data[:-4000], "zeros": bytes(len(data))}
    fd = memory_file(kept[damage])
    opened.append(fd)
    run_ok([odd()], environment(segment_dir, rate=1, plan=f"exec:{fd}"), pass_fds=[fd])
    assert under(only_counted(segment_dir), "by_malloc") == (0, 0, 0)
