"""Thread-local variables of other modules, found by the code that returns them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from c_build import ROOT, compile_program, core_sources, run_program

COMPILER = "aarch64-linux-gnu-gcc"
LIBRARIES = "/usr/aarch64-linux-gnu"
FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Werror")
SANITIZERS = {
    "plain": (),
    "asan-ubsan": ("-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    "tsan": ("-fsanitize=thread",),
}
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


def program(arch: str, compiler: str, form: str, variant: str = "plain") -> Path:
    """The test itself, whose own variables are reached in another way than those of libraries."""
    sources = core_sources("tls", "tls_code", "stack_range")
    sources.append(ROOT / "sampler" / "redirect" / "elf_lookup.c")
    return compile_program(
        [ROOT / "tests" / "c" / "test_tls.c", *sources],
        (*FLAGS, *SANITIZERS[variant], *PROGRAMS[form], "-rdynamic"),
        name=f"test_tls-{arch}-{form}-{variant}",
        compiler=compiler,
        libs=("-lpthread", "-ldl"),
    )


@pytest.mark.parametrize("form", PROGRAMS)
def test_variables_are_where_their_functions_find_them(form: str) -> None:
    found = run_program(program("x86_64", "gcc", form), *map(str, libraries("x86_64", "gcc")))
    assert found.returncode == 0, found.stderr
    assert "0 failed" in found.stdout


@pytest.mark.parametrize("variant", ["asan-ubsan", "tsan"])
def test_variables_are_found_under(variant: str) -> None:
    built = program("x86_64", "gcc", "moved", variant)
    found = run_program(built, *map(str, libraries("x86_64", "gcc")))
    assert found.returncode == 0, found.stderr


@pytest.mark.skipif(shutil.which(COMPILER) is None, reason=f"{COMPILER} is not installed")
@pytest.mark.parametrize("form", PROGRAMS)
def test_variables_are_found_on_aarch64(form: str) -> None:
    built, opened = program("aarch64", COMPILER, form), libraries("aarch64", COMPILER)
    qemu = shutil.which("qemu-aarch64")
    if qemu is None:
        pytest.skip("qemu-aarch64 (Debian: qemu-user) is not installed; it builds")
    found = run_program(Path(qemu), "-L", LIBRARIES, str(built), *map(str, opened))
    assert found.returncode == 0, found.stderr
