"""Which module an address without a name belongs to: never one of another file, never by guess."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from heapfiles import map_line
from mem_parser.maps import parse_maps
from mem_parser.merge import Merger
from mem_parser.model import ExecRange, Module, Profile
from mem_parser.names import FrameRule
from mem_parser.profileproto import message_class
from mem_parser.readers import read_bytes, read_profile
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.modulelabels import module_keys, module_labels
from mem_parser.symbols.symbolizer import symbolize
from mem_parser.symbols.table import Symbols
from mem_parser.units import local_time
from parser_run import parse

ROOT = Path(__file__).resolve().parents[3]
WAIT_S = 60


def module(path: str, build_id: str = "") -> Module:
    return Module(path, [ExecRange(0x1000, 0x2000, 0)], build_id=build_id)


def spelled(profile: Profile) -> Symbols:
    return symbolize(profile, cache=SymbolCache(None), debug_dirs=())


def flat(profile: Profile) -> dict[str, int]:
    sums = sum_stacks(profile, spelled(profile), rule=FrameRule.NONE)
    return {r.name: round(r.flat.value) for r in rows_of(sums)}


def text_profile(*paths: str) -> bytes:
    """One record of 100 bytes at offset 0x10 of each file."""
    starts = [0x10_0000 * (k + 1) for k in range(len(paths))]
    lines = ["heap profile: 1: 1 [1: 1] @ heapprofile"]
    lines += [f"     1:  100 [    1:  100] @ 0x{start + 0x11:x}" for start in starts]
    lines += ["", "MAPPED_LIBRARIES:"]
    lines += [map_line(s, s + 0x1000, 0, p) for s, p in zip(starts, paths, strict=True)]
    return "\n".join([*lines, ""]).encode()


def proto_profile(*mappings: tuple[int, str], apart: bool = True) -> bytes:
    """One sample of 100 bytes at offset 0x10 of each mapping: (file offset, name)."""
    message = message_class("Profile")()
    message.string_table.extend(["", "inuse_space", "bytes", *(name for _, name in mappings)])
    message.sample_type.add(type=1, unit=2)
    for k, (offset, _) in enumerate(mappings, start=1):
        start = 0x10_0000 * (k if apart else 1)
        message.mapping.add(id=k, memory_start=start, memory_limit=start + 0x1000,
                            file_offset=offset, filename=2 + k)  # fmt: skip
        message.location.add(id=k, mapping_id=k, address=start + 0x10)
        message.sample.add(location_id=[k], value=[100])
    return bytes(message.SerializeToString())


def test_labels_tell_modules_of_one_name_apart() -> None:
    modules = [
        module("/a/libm.so"), module("/b/libm.so"), module("/b/libz.so", "ab" * 4),
        module("/b/libz.so", "ab" * 4), module("/b/libz.so", "cd" * 4), module("./x/liby.so"),
        module(""), module(""), module("/opt/one"), module("[vdso]"),
        module("/c/libz.so", "ab" * 4),
    ]  # fmt: skip
    assert module_labels(modules) == [
        "a/libm.so", "b/libm.so", "libz.so", "libz.so", "libz.so#2", "./x/liby.so", "[unnamed]",
        "[unnamed]#2", "one", "[vdso]", "libz.so",
    ]  # fmt: skip
    assert module_keys(modules)[-1] == "/b/libz.so"
    assert module_keys(modules)[3:7] == ["/b/libz.so", "/b/libz.so#2", "./x/liby.so", "[unnamed]"]


def test_files_of_one_name_are_rows_of_their_own() -> None:
    assert flat(read_bytes(text_profile("/none/a/libm.so", "/none/b/libm.so"), "x")) == {
        "a/libm.so+0x10": 100,
        "b/libm.so+0x10": 100,
    }


def test_mappings_without_a_name_are_not_one_module() -> None:
    profile = read_bytes(proto_profile((0, ""), (0x5000, ""), (0, "")), "x")
    assert len(profile.modules) == 3
    assert flat(profile) == {"[unnamed]+0x10": 100, "[unnamed]#2+0x5010": 100,
                             "[unnamed]#3+0x10": 100}  # fmt: skip


def test_one_address_in_two_mappings_is_two_places() -> None:
    profile = read_bytes(proto_profile((0, "/none/one"), (0x3000, "/none/two"), apart=False), "x")
    assert flat(profile) == {"one+0x10": 100, "two+0x3010": 100}


def test_a_sum_keeps_modules_without_a_name_apart() -> None:
    merger = Merger()
    for name in ("x", "y"):
        merger.add(read_bytes(proto_profile((0, ""), (0, "/none/lib.so")), name), name)
    total = merger.result()
    assert sorted(flat(total).values()) == [100, 100, 200]
    assert flat(total)["lib.so+0x10"] == 200


def test_a_folder_that_the_profile_states_is_that_of_its_relative_paths() -> None:
    lines = [
        map_line(0x1000, 0x2000, 0, "./a/early.so"), "build=/opt/app v1",
        map_line(0x3000, 0x4000, 0, "./a/libm.so"),
        map_line(0x5000, 0x6000, 0, "$build/lib/libz.so"),
        map_line(0x7000, 0x8000, 0, "lib/../one"),
        map_line(0x9000, 0xA000, 0, "/usr/lib/libc.so.6"), map_line(0xB000, 0xC000, 0, "[vdso]"),
        map_line(0xD000, 0xE000, 0, "memfd:x"),
    ]  # fmt: skip
    assert [m.path for m in parse_maps(lines)] == [
        "./a/early.so", "/opt/app v1/a/libm.so", "/opt/app v1/lib/libz.so", "/opt/app v1/one",
        "/usr/lib/libc.so.6", "[vdso]", "memfd:x",
    ]  # fmt: skip


def compile_program(folder: Path) -> Path:
    source = folder / "p.c"
    source.write_text("int first(void) { return 1; }\nint main(void) { return first(); }\n")
    program = folder / "p"
    subprocess.run(
        ["gcc", "-no-pie", "-Wl,--build-id=none", "-o", program, source],
        check=True, timeout=WAIT_S,
    )  # fmt: skip
    return program


def profile_of(program: Path, path: str) -> bytes:
    """A profile without build-ids of a block that ``main`` of ``program`` allocated."""
    listed = subprocess.run(
        ["nm", program], capture_output=True, text=True, check=True, timeout=WAIT_S
    ).stdout
    main = next(int(x.split()[0], 16) for x in listed.splitlines() if x.endswith(" T main"))
    return (
        "heap profile: 1: 100 [1: 100] @ heapprofile\n"
        f"     1:  100 [    1:  100] @ 0x{main + 3:x}\n\n"
        f"MAPPED_LIBRARIES:\n{map_line(0x401000, 0x402000, 0x1000, path)}\n"
    ).encode()


def test_a_relative_path_is_no_file_of_the_readers_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = compile_program(tmp_path)
    (tmp_path / "a").mkdir()
    shutil.copy(program, tmp_path / "a" / "p")
    monkeypatch.chdir(tmp_path)
    profile = read_bytes(profile_of(program, "./a/p"), "x")
    found = spelled(profile)
    (function,) = found.functions
    assert function.name.startswith("./a/p+0x")
    assert [p.text for p in found.problems] == [
        "./a/p: the profile does not say in which folder it is; it is shown without names"
    ]


def test_a_binary_changed_after_the_capture_is_named_with_both_times(tmp_path: Path) -> None:
    program = compile_program(tmp_path)
    heap = tmp_path / "x.heap"
    heap.write_bytes(profile_of(program, str(program)))
    os.utime(heap, (1_700_000_000, 1_700_000_000))
    os.utime(program, (1_600_000_000, 1_600_000_000))
    assert spelled(read_profile(heap)).problems == []
    os.utime(program, (1_700_003_600, 1_700_003_600))
    found = spelled(read_profile(heap))
    assert [f.name for f in found.functions] == ["main"]
    (problem,) = found.problems
    assert problem.text == (
        f"{program} changed at {local_time(1_700_003_600)}, after the capture at "
        f"{local_time(1_700_000_000)}, and the profile has no build-id of it; its names may be "
        "wrong"
    )


def test_the_command_warns_of_a_changed_binary_and_ends_with_5_when_strict(tmp_path: Path) -> None:
    program = compile_program(tmp_path)
    heap = tmp_path / "x.heap"
    heap.write_bytes(profile_of(program, str(program)))
    os.utime(heap, (1_700_000_000, 1_700_000_000))

    def run(*more: str) -> subprocess.CompletedProcess[str]:
        return parse("-p", program, "-f", heap, "-t", *more)

    warned, strict = run(), run("--strict")
    assert (warned.returncode, warned.stderr.count("\n")) == (0, 1)
    assert "changed at" in warned.stderr
    assert " main" in warned.stdout
    assert (strict.returncode, strict.stdout) == (5, "")
    assert str(program) in strict.stderr
