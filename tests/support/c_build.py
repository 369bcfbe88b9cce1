"""Compile the C and C++ programs of the tests into build/tests/, once per sources and flags."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "tests"
SAMPLER = ROOT / "sampler"
# The rooms without hooks and constructors: sampled blocks from countdown to segment.
CORE = tuple(SAMPLER / room for room in ("abi", "unwind", "python", "core", "device"))
# Of the others they need the ELF look-up alone.
BESIDE_CORE = (SAMPLER / "redirect" / "elf_lookup.c",)
WARNINGS = ("-Wall", "-Wextra", "-Werror")


def core_sources(*names: str) -> list[Path]:
    """Sources of the sampler's core by stem; all of them without names."""
    if names:
        found = [path for name in names for room in CORE for path in room.glob(f"{name}.c")]
        return found + [path for path in BESIDE_CORE if "runtime" in names]
    return sorted([path for room in CORE for path in room.glob("*.c")] + [*BESIDE_CORE])


def compile_program(
    sources: list[Path] | Path,
    flags: tuple[str, ...] = (),
    *,
    name: str | None = None,
    compiler: str | None = None,
    libs: tuple[str, ...] = (),
    depends: tuple[Path, ...] = (),
) -> Path:
    """Compile to build/tests/NAME-HASH and return its path; reused until an input changes.

    The sampler's headers are found. `flags` come before the sources, `libs` after them; `depends`
    are further inputs. The compiler is gcc, or g++ for C++ sources.
    """
    paths = [sources] if isinstance(sources, Path) else list(sources)
    if compiler is None:
        compiler = "g++" if any(p.suffix in {".cc", ".cpp"} for p in paths) else "gcc"
    command = [compiler, f"-I{SAMPLER}", *flags, *map(str, paths)]
    key = hashlib.sha256(repr((command, libs)).encode()).hexdigest()[:12]
    out = BUILD / f"{name or paths[0].stem}-{key}"
    headers = [*SAMPLER.rglob("*.h"), *(ROOT / "tests" / "c").glob("*.h")]
    newest = max(p.stat().st_mtime for p in [*paths, *headers, *depends])
    if not out.exists() or out.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        partial = out.with_name(f"{out.name}.{os.getpid()}")
        subprocess.run([*command, "-o", str(partial), *libs], check=True, timeout=300)
        partial.rename(out)
    return out


def core_program(name: str, flags: tuple[str, ...]) -> Path:
    """The program tests/c/NAME.c with all of the core, which is compiled once for these flags."""
    core = compile_program(core_sources(), (*flags, "-r"), name="core.o")
    return compile_program(
        ROOT / "tests" / "c" / f"{name}.c",
        flags,
        libs=(str(core), "-lpthread", "-ldl", "-lm"),
        depends=(core,),
    )


def run_program(
    path: Path, *args: str, env: dict[str, str] | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a compiled program with a bounded time; its output is captured as text."""
    return subprocess.run(
        [str(path), *args],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
