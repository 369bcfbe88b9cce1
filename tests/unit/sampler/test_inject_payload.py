"""Code copied into a target stands on its own; filters are run as the kernel runs them."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from elftools.elf.relocation import RelocationSection

from c_build import ASAN, C_FLAGS, ROOT, compile_program, core_program, expect_pass

INJECT = ROOT / "sampler" / "inject"
COPIED = {"mp_payload", ".rodata"}
# Distances between two places that are copied together.
RELATIVE = {
    "EM_X86_64": {2: "PC32", 4: "PLT32"},
    "EM_AARCH64": {
        273: "LD_PREL_LO19", 274: "ADR_PREL_LO21", 280: "CONDBR19", 282: "JUMP26", 283: "CALL26",
    },
}  # fmt: skip
COMPILERS = {"x86_64": "gcc", "aarch64": "aarch64-linux-gnu-gcc"}


@pytest.fixture(params=COMPILERS, scope="module")
def objects(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine's objects as the sampler's Makefile compiles them."""
    compiler = COMPILERS[request.param]
    if request.param == platform.machine():
        compiler = "gcc"
    elif shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    subprocess.run(
        ["make", "-s", "-C", str(ROOT / "sampler"), f"BUILD={folder}", f"CC={compiler}",
         f"{folder}/libmem_inject.a"],
        check=True, timeout=240, capture_output=True,
    )  # fmt: skip
    return folder / "inject"


def test_nothing_that_is_copied_refers_to_anything_else(objects: Path) -> None:
    seen = 0
    for path in objects.glob("p*.o"):
        with path.open("rb") as file:
            elf = ELFFile(file)
            for section in elf.iter_sections():
                if not isinstance(section, RelocationSection):
                    continue
                if elf.get_section(section["sh_info"]).name not in COPIED:
                    continue
                symbols = elf.get_section(section["sh_link"])
                for relocation in section.iter_relocations():
                    name = symbols.get_symbol(relocation["r_info_sym"]).name
                    kind = relocation["r_info_type"]
                    assert kind in RELATIVE[elf["e_machine"]], (path.name, name, kind)
                    assert name.startswith("mp_pa"), (path.name, name)
                    seen += 1
    assert seen > 0


def test_the_pad_is_small_enough_for_the_tail_of_a_page(objects: Path) -> None:
    [path] = [p for p in objects.glob("pad_*.o") if _symbol(p, "mp_pad_code") is not None]
    start, end = _symbol(path, "mp_pad_code"), _symbol(path, "mp_pad_code_end")
    assert start is not None
    assert end is not None
    assert 0 < end - start < 1024


def _symbol(path: Path, name: str) -> int | None:
    with path.open("rb") as file:
        found = ELFFile(file).get_section_by_name(".symtab").get_symbol_by_name(name)
    return int(found[0]["st_value"]) if found else None


def test_filters_are_run_as_the_kernel_runs_them() -> None:
    expect_pass(core_program("test_seccomp_filter.c", ASAN, beside="inject/seccomp_filter.c"))


def test_an_unwinding_copies_no_tables() -> None:
    """A thread is held for no longer than it must be: its callers' tables are copied before."""
    expect_pass(
        core_program(
            "test_remote_unwind.c", ASAN, str(INJECT / "remote.c"), "-Wl,--wrap=mp_remote_read",
            beside="inject/remote_unwind.c",
        )
    )  # fmt: skip


@pytest.mark.parametrize("machine", COMPILERS)
def test_the_pad_finds_its_way_back_with_every_register(machine: str) -> None:
    native = machine == platform.machine()
    compiler = "gcc" if native else COMPILERS[machine]
    emulator = () if native else (f"qemu-{machine}", "-L", f"/usr/{machine}-linux-gnu")
    if any(shutil.which(tool) is None for tool in (compiler, *emulator[:1])):
        pytest.skip(f"{compiler} or qemu-{machine} is not installed")
    program = compile_program(
        [ROOT / "tests" / "c" / "test_pad.c", *sorted(INJECT.glob("pad_*.c")),
         INJECT / "payload.c"],
        (*C_FLAGS, "-O1", "-fno-builtin", "-no-pie"),
        name=f"pad-{machine}", compiler=compiler, libs=("-lpthread",),
    )  # fmt: skip
    expect_pass(*emulator, str(program))
