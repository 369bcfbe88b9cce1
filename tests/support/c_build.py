"""Compile the C and C++ programs of the tests into build/tests/, once per sources and flags."""

import fcntl
import functools
import hashlib
import math
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "tests"
SAMPLER = ROOT / "sampler"
# The rooms without hooks and constructors: sampled blocks from countdown to segment.
CORE = tuple(SAMPLER / room for room in ("abi", "unwind", "python", "core", "device"))
# Of the others they need the ELF look-up alone.
BESIDE_CORE = (SAMPLER / "redirect" / "elf_lookup.c",)
WARNINGS = ("-Wall", "-Wextra", "-Werror")
C_FLAGS = ("-std=gnu11", "-D_GNU_SOURCE", "-g1", *WARNINGS)
# The builds of the core, which all its tests link.
PLAIN = ("-O2", "-fPIC")
ASAN = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
TSAN = ("-O1", "-fsanitize=thread")


def core_sources() -> list[Path]:
    return sorted([path for room in CORE for path in room.glob("*.c")] + [*BESIDE_CORE])


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Other workers wait instead of making the same."""
    BUILD.mkdir(parents=True, exist_ok=True)
    with out.with_name(f".{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@functools.cache
def sampler_build(
    compiler: str,
    *targets: str,
    flags: str = "-O2 -fcallgraph-info=su,da",
    more: tuple[str, ...] = (),
) -> Path:
    """The folder in which the sampler's Makefile has made these files, or all that it makes.

    Beside each object is the compiler's account of its frames and calls (.ci), by these flags.
    """
    made = hashlib.sha256(f"{flags} {more}".encode()).hexdigest()[:8]
    out = BUILD / f"sampler-{compiler}-{made}"
    with alone(out):
        done = subprocess.run(
            ["make", "-C", SAMPLER, f"BUILD={out}", f"CC={compiler}",
             f"AR={compiler.removesuffix('gcc')}ar", f"CFLAGS={flags}", *more,
             *(f"{out}/{target}" for target in targets)],
            env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return out


def core_library(flags: tuple[str, ...], compiler: str = "gcc") -> Path:
    """The core as an archive of the sampler's Makefile, made with these flags.

    Where a program defines functions of the core itself, they are called instead.
    """
    name = "libmem_core.a"
    if flags == PLAIN:
        return sampler_build(compiler, name) / name
    # A sanitizer's frames are larger than any stack of a hook.
    return sampler_build(compiler, name, flags=" ".join(("-g1", *flags)), more=("FRAMES=",)) / name


def core_program(
    source: str, flags: tuple[str, ...], *more: str, beside: str = "", compiler: str = "gcc"
) -> Path:
    """A program of tests/c/ with the core and a source `beside` it.

    `more` are flags for the program alone.
    """
    library = core_library(flags, compiler)
    return compile_program(
        [ROOT / "tests" / "c" / source, *([SAMPLER / beside] if beside else [])],
        (*C_FLAGS, *flags, *more, "-Wl,--allow-multiple-definition"),
        compiler=compiler,
        libs=(str(library), "-lm", "-lpthread", "-ldl"),
        depends=(library,),
    )


def expect_pass(path: Path | str, *args: str, timeout: float = 120) -> str:
    """Run a program of checks; what it printed."""
    # A timer's signal must not interrupt lazy binding: its frame is found by rbx alone.
    done = run_program(Path(path), *args, env={"LD_BIND_NOW": "1"}, timeout=timeout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


def compile_program(
    sources: list[Path] | Path,
    flags: tuple[str, ...] = (),
    *,
    name: str | None = None,
    compiler: str | None = None,
    libs: tuple[str, ...] = (),
    depends: tuple[Path, ...] = (),
) -> Path:
    """Compile to build/tests/NAME-HASH and return its path; reused until an input changes: what
    gcc has read of it, or any header.

    The sampler's headers are found. `flags` come before the sources, `libs` after them; `depends`
    are further inputs. The compiler is gcc, or g++ for C++ sources.
    """
    paths = [sources] if isinstance(sources, Path) else list(sources)
    if compiler is None:
        compiler = "g++" if any(p.suffix in {".cc", ".cpp"} for p in paths) else "gcc"
    command = [compiler, f"-I{SAMPLER}", *flags, *map(str, paths)]
    key = hashlib.sha256(repr((command, libs)).encode()).hexdigest()[:12]
    out = BUILD / f"{name or paths[0].stem}-{key}"
    with alone(out):
        read = out.with_name(f".{out.name}.d")
        inputs = [*paths, *depends, *_read_by(read)]
        if not out.exists() or out.stat().st_mtime < max(map(_changed, inputs)):
            partial = out.with_name(f"{out.name}.{os.getpid()}")
            read.unlink(missing_ok=True)
            subprocess.run(
                [*command, "-o", str(partial), *libs], check=True, timeout=300,
                env=os.environ | {"DEPENDENCIES_OUTPUT": str(read)},
            )  # fmt: skip
            partial.rename(out)
    return out


def _read_by(rules: Path) -> list[Path]:
    """The files that gcc's rules for make name; without such rules all headers."""
    if not rules.exists():
        return [*SAMPLER.rglob("*.h"), *(ROOT / "tests" / "c").glob("*.h")]
    words = rules.read_text().replace("\\\n", " ").split()
    return [Path(word) for word in words if not word.endswith(":")]


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else math.inf


def prefixed_jemalloc(form: str = "") -> Path:
    """An archive of jemalloc whose functions begin with _rjem_, as Rust's crates link it in; the
    form "_pic" is for libraries.
    """
    source = f"/usr/lib/x86_64-linux-gnu/libjemalloc{form}.a"
    archive, names = BUILD / f"libprefixed{form}.a", BUILD / f"prefixed{form}.{os.getpid()}"
    if archive.exists():
        return archive
    BUILD.mkdir(parents=True, exist_ok=True)
    defined = subprocess.run(
        ["nm", "--defined-only", "-g", source],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    found = {line.split()[-1] for line in defined.splitlines() if len(line.split()) == 3}
    pairs = [f"{name} _rjem_{name}" for name in found if not name.startswith(("_Z", "__"))]
    names.write_text("\n".join(pairs) + "\n")
    partial = names.with_suffix(f".{os.getpid()}.a")
    subprocess.run(
        ["objcopy", f"--redefine-syms={names}", source, str(partial)], check=True, timeout=60
    )
    names.unlink()
    partial.rename(archive)
    return archive


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
