"""Programs whose segments lie far apart: other mappings between them take no name and no frame.

The linkers' layouts differ in which segments share a page of the file and where the holes are. A
library is put into a hole by the address that it prefers. The oracle for stacks is libgcc's
unwinder, in the sampler's own mode for it.
"""

from __future__ import annotations

import functools
import itertools
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from attach_run import Unprepared
from controller_tools import run_command
from mem_parser.readers import read_profile
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.symbolizer import symbolize
from mem_profiler.attach.images import images_of, program_of
from mem_profiler.attach.memory import Memory
from mem_profiler.process import procfs
from sampler_run import Counted, Target, build, environment, run

GUEST_ROOM_BYTES = 1 << 20
"""Of a hole that holds the guest with room to spare."""
FAR = ("-Wl,-z,max-page-size=0x200000",)
FIXED, MOVABLE = ("-no-pie", "-fno-pie"), ("-pie", "-fPIE")
LAYOUTS = {
    "bfd": ("-fuse-ld=bfd", *FAR, "-Wl,-z,separate-code"),
    "bfd-together": ("-fuse-ld=bfd", *FAR, "-Wl,-z,noseparate-code"),
    "gold": ("-fuse-ld=gold", *FAR),
    "gold-apart": ("-fuse-ld=gold", *FAR, "-Wl,--rosegment"),
    "lld": ("-fuse-ld=lld", *FAR),
    "lld-apart": ("-fuse-ld=lld", *FAR, "-Wl,-z,separate-code"),
    "mold": ("-fuse-ld=mold", *FAR),
    "mold-apart": ("-fuse-ld=mold", *FAR, "-Wl,-z,separate-code"),
}
OWN = ["malloc", "inner", "middle", "outer", "allocate", "main"]
CALLED_BACK = ["malloc", "inner", "called_back", "guest", "allocate", "main"]
GUESTS = ["malloc", "guest_block", "guest", "allocate", "main"]
STARTED = "_start"
LIBGCC = Path("libgcc_s.so.1")


@dataclass(frozen=True)
class Built:
    """A program and the guest for one of its holes; `prefix` keeps the program where it is."""

    program: Path
    guest: Path
    prefix: tuple[str, ...]

    def command(self, *arguments: str) -> list[str | Path]:
        return [*self.prefix, self.program, *arguments]


@functools.cache
def built(layout: str, kind: str) -> Built:
    """Link the program in one layout, and a guest that prefers an address in its largest hole."""
    linker = LAYOUTS[layout][0].removeprefix("-fuse-ld=")
    if shutil.which(f"ld.{linker}") is None:
        pytest.skip(f"the linker {linker} is not installed")
    flags = (*LAYOUTS[layout], *(FIXED if kind == "fixed" else MOVABLE))
    program = build("holes.c", *flags, "-Wl,--build-id", out=f"holes-{layout}-{kind}")
    prefix = () if kind == "fixed" else ("setarch", "-R")
    base = int(run([*prefix, program], {}).stdout, 16)
    hole = base + hole_in(program)
    place = f"-Wl,-Ttext-segment={hole:#x}"
    shared = ("-shared", "-fPIC", "-fuse-ld=bfd", "-Wl,-z,noseparate-code", place)
    return Built(program, build("holes_guest.c", *shared, out="holes_guest.so"), prefix)


def hole_in(program: Path) -> int:
    """Where a hole begins between the segments, counted from the ELF header, a page after its
    begin.
    """
    segments = sorted(ElfImage.open(str(program)).segments, key=lambda s: s.vaddr)
    header = next(s.vaddr for s in segments if s.offset == 0)
    for before, after in itertools.pairwise(segments):
        end = before.vaddr + before.mem_size + 0xFFFF & ~0xFFFF
        if after.vaddr - end >= GUEST_ROOM_BYTES:
            return end - header
    pytest.skip("this linker leaves no hole in this layout")


def stacks_of(counted: Counted) -> set[tuple[str, ...]]:
    """The stacks of the program's own blocks, without what glibc has between main and _start."""
    return {tuple(s.names) for s in counted.stacks if "allocate" in s.names}


def check(stacks: set[tuple[str, ...]]) -> None:
    """All three paths are there, each down to the outermost frame."""
    for wanted in (OWN, CALLED_BACK, GUESTS):
        found = [stack for stack in stacks if list(stack[: len(wanted)]) == wanted]
        assert found, (wanted, stacks)
        assert all(stack[-1] == STARTED for stack in found), found


def named(path: Path) -> set[tuple[str, ...]]:
    """The stacks of a file, as the parser names them."""
    profile = read_profile(str(path))
    symbols = symbolize(profile)
    assert not symbols.problems
    functions = [symbols.functions[place.function].name for place in symbols.locations]
    spelled, bounds = symbols.locations_of_stack.tolist(), symbols.offsets.tolist()
    names = (tuple(functions[k] for k in spelled[a:b]) for a, b in itertools.pairwise(bounds))
    # The first frames are those of the sampler's own hook, as its debug information has them.
    return {stack[stack.index("malloc") :] for stack in names if "allocate" in stack}


KINDS = ("fixed", "movable")
every = pytest.mark.parametrize(("layout", "kind"), [*itertools.product(LAYOUTS, KINDS)])
# Each layout in one kind, each kind in several layouts; all of them in `make soak`.
some = pytest.mark.parametrize(
    ("layout", "kind"),
    [
        pytest.param(layout, kind, marks=[pytest.mark.soak] if (n + k) % 2 else [])
        for n, layout in enumerate(("bfd", "gold-apart", "lld", "mold"))
        for k, kind in enumerate(KINDS)
    ],
)


@every
def test_stacks_through_a_hole_are_whole_and_equal_to_those_of_libgcc(
    segment_dir: Path, tmp_path: Path, layout: str, kind: str
) -> None:
    made = built(layout, kind)
    found = []
    for unwinder in ("cfi", "libgcc"):
        own = segment_dir / unwinder
        own.mkdir(mode=0o700)
        command = made.command("run", str(made.guest))
        variables = environment(own, rate=1, preload=[LIBGCC], unwind=unwinder)
        with Target(command, variables) as target:
            assert target.line() == "inside"
            target.finish()
        counted = target.counted()
        program = next(m for m in counted.modules if Path(m.path) == made.program)
        assert program.build_id == ElfImage.open(str(made.program)).build_id
        found.append(stacks_of(counted))
    check(found[0])
    assert found[0] == found[1]


@some
def test_a_captured_run_names_every_frame(
    segment_dir: Path, tmp_path: Path, layout: str, kind: str
) -> None:
    made = built(layout, kind)
    command = made.command("run", str(made.guest))
    done = run_command("run", "-c", 1, "-o", tmp_path / "p", "--", *command, input="")
    assert done.returncode == 0, done.stderr
    [path] = [p for p in tmp_path.glob("p*.heap") if "holes" in p.read_text(errors="replace")]
    check(named(path))


@some
def test_an_attached_program_with_something_in_its_holes_is_named_and_let_go(
    segment_dir: Path, tmp_path: Path, layout: str, kind: str
) -> None:
    made = built(layout, kind)
    with Unprepared(made.command("storm", str(made.guest)), segment_dir) as target:
        assert target.line() == "inside"
        told = run_command("doctor", target.pid)
        assert told.returncode == 0, told.stdout
        done = run_command("-s", 0.3, "-c", 64, "-p", target.pid, "-o", tmp_path / "p")
        assert done.returncode == 0, done.stderr
        target.finish()
    [path] = tmp_path.glob("p*.heap")
    check(named(path))


@every
def test_the_attaching_side_sees_each_image_whole_and_apart(
    tmp_path: Path, layout: str, kind: str
) -> None:
    made = built(layout, kind)
    with Unprepared(made.command("run", str(made.guest)), tmp_path) as target:
        assert target.line() == "inside"
        mappings = procfs.maps(target.pid)
        with Memory(target.pid) as memory:
            images = images_of(mappings, memory)
            program = program_of(target.pid, images)
            guest = next(i for i in images if i.path == str(made.guest))
            assert [s.address for s in guest.find("guest")] != []
        target.finish()
    assert program is not None
    assert program.mappings == [m for m in mappings if m.path == str(made.program)]
    assert program.start < guest.start < guest.end < program.end
    assert all(b <= guest.start or guest.end <= a for a, b in program.runs)
    for image in (program, guest):
        assert image.build_id.hex() == ElfImage.open(image.path).build_id
        assert [s.executable for s in image.segments].count(True) == 1
        assert all(image.run_at(s.start) != (0, 0) for s in image.segments)


def foreign_profile(made: Built, tmp_path: Path) -> Path:
    """A profile as gperftools writes one: addresses and /proc/PID/maps, no build-id."""
    with Unprepared(made.command("run", str(made.guest)), tmp_path) as target:
        assert target.line() == "inside"
        maps = Path(f"/proc/{target.pid}/maps").read_text()
        target.finish()
    bias = _bias(made.program, maps)
    frames = [_address(made.program, name) + bias + 5 for name in ("inner", "main")]
    stack = " ".join(f"{at:#x}" for at in frames)
    path = tmp_path / "foreign.heap"
    path.write_text(
        f"heap profile: 1: 10 [1: 10] @ heapprofile\n1: 10 [1: 10] @ {stack}\n\n"
        f"MAPPED_LIBRARIES:\n{maps}"
    )
    return path


def _bias(program: Path, maps: str) -> int:
    first = re.search(rf"^([0-9a-f]+)-\S+ \S+ 0+ .* {re.escape(str(program))}$", maps, re.MULTILINE)
    assert first is not None
    header = next(s.vaddr for s in ElfImage.open(str(program)).segments if s.offset == 0)
    return int(first[1], 16) - header


def _address(program: Path, name: str) -> int:
    text = subprocess.run(["nm", program], capture_output=True, text=True, check=True, timeout=60)
    [line] = [line for line in text.stdout.splitlines() if line.split()[-1] == name]
    return int(line.split()[0], 16)


@some
def test_profiles_of_other_tools_match_the_file_by_its_mappings(
    tmp_path: Path, layout: str, kind: str
) -> None:
    profile = read_profile(str(foreign_profile(built(layout, kind), tmp_path)))
    symbols = symbolize(profile)
    names: Sequence[str] = [function.name for function in symbols.functions]
    assert not symbols.problems
    assert {"inner", "main"} <= set(names)
