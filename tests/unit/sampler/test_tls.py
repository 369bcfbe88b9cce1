"""Thread-local variables of other modules, found by the code that returns them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from c_build import ASAN, PLAIN, ROOT, TSAN, compile_program, core_program, expect_pass

COMPILER = "aarch64-linux-gnu-gcc"
WAYS = {
    "general": (),
    "not optimized": ("-O0", "-fno-omit-frame-pointer"),
    "with frames": ("-fno-omit-frame-pointer",),
    "local": ("-ftls-model=local-dynamic",),
    "early": ("-ftls-model=initial-exec",),
    "called by slots": ("-fno-plt",),
}
ONLY = {
    "x86_64": {"descriptors": ("-mtls-dialect=gnu2",), "marked": ("-fcf-protection=full",)},
    "aarch64": {"indexes": ("-mtls-dialect=trad",), "signed": ("-mbranch-protection=standard",)},
}
PROGRAMS = {"moved": ("-fPIE", "-pie"), "fixed": ("-fno-pic", "-no-pie"), "relaxed": ("-fPIC",)}


def libraries(arch: str, compiler: str) -> list[Path]:
    """tests/c/tls_library.c in each way that the compiler knows to reach a variable."""
    return [
        compile_program(
            ROOT / "tests" / "c" / "tls_library.c",
            ("-std=gnu11", "-O2", "-fPIC", "-shared", *flags),
            name=f"tls-{arch}-{way.replace(' ', '-')}",
            compiler=compiler,
        )
        for way, flags in {**WAYS, **ONLY[arch]}.items()
    ]


def passes(arch: str, compiler: str, form: str, flags: tuple[str, ...]) -> None:
    """The test's own variables are reached in another way than those of libraries."""
    program = core_program(
        "test_tls.c", flags, *PROGRAMS[form], "-rdynamic", compiler=compiler,
        beside="redirect/elf_lookup.c",
    )  # fmt: skip
    opened = map(str, libraries(arch, compiler))
    if arch == "x86_64":
        expect_pass(program, *opened)
        return
    qemu = shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("qemu-aarch64 (Debian: qemu-user) is not installed; it builds")
    expect_pass(qemu, "-L", "/usr/aarch64-linux-gnu", str(program), *opened)


@pytest.mark.parametrize(
    ("form", "flags"), [*((form, PLAIN) for form in PROGRAMS), ("moved", ASAN), ("moved", TSAN)]
)
def test_variables_are_where_their_functions_find_them(form: str, flags: tuple[str, ...]) -> None:
    passes("x86_64", "gcc", form, flags)


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
@pytest.mark.parametrize("form", PROGRAMS)
def test_variables_are_found_on_aarch64(form: str) -> None:
    passes("aarch64", COMPILER, form, PLAIN)
