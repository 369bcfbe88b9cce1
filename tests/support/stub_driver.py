"""Stub drivers: built once, run under the sampler, their ledger compared with the profile.

Model: a stub (tests/stubs/) has the true interface of a driver and writes one line for each block
that it really gave or took back. A `Ledger` adds them up by domain; `agrees` holds it against what
the sampler counted. `App` is a program on top of a stub, which obeys the lines it is told; the
`DRIVERS` say how to start one in each way that a program may come to its driver.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from attach_agent import Answer, Attached
from c_build import BUILD, ROOT, WARNINGS, compile_program
from device_run import DeviceCounted, Tally
from sampler_run import Target, environment

STUBS = ROOT / "tests" / "stubs"
FLAGS = (
    "-std=gnu11",
    "-D_GNU_SOURCE",
    "-O1",
    "-g",
    "-fno-inline",
    "-fno-optimize-sibling-calls",
    *WARNINGS,
)
CXX_FLAGS = ("-std=gnu++11", *FLAGS[1:])


@dataclass
class Ledger:
    """What really happened: blocks by domain and key, in use now; all that were given; refusals."""

    tallies: dict[str, Tally] = field(default_factory=lambda: defaultdict(Tally))
    live: dict[tuple[str, str], int] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Add up the lines of a file. Fails where a block ends that had not begun."""
        ledger = cls()
        for line in path.read_text().splitlines() if path.exists() else ():
            event, domain, key, size = line.split()
            tally = ledger.tallies[domain]
            if event == "alloc":
                assert (domain, key) not in ledger.live, line
                ledger.live[domain, key] = int(size)
                tally.blocks += 1
                tally.bytes += int(size)
                tally.live_blocks += 1
                tally.live_bytes += int(size)
            elif event == "free":
                assert ledger.live.pop((domain, key)) == int(size), line
                tally.live_blocks -= 1
                tally.live_bytes -= int(size)
            else:
                tally.failed_blocks += 1
                tally.failed_bytes += int(size)
        return ledger

    def given(self) -> dict[str, Tally]:
        """Blocks by domain, refusals left out: which of them are losses is for the test to say."""
        plain = {d: dataclasses.replace(t, failed_blocks=0, failed_bytes=0)
                 for d, t in self.tallies.items()}  # fmt: skip
        return {domain: tally for domain, tally in plain.items() if tally.blocks}


def given(counted: DeviceCounted) -> dict[str, Tally]:
    """What the sampler counted, comparable with Ledger.given()."""
    plain = {
        d: dataclasses.replace(t, taken=0, failed_blocks=0, failed_bytes=0)
        for d, t in counted.by_domain().items()
    }
    return {domain: tally for domain, tally in plain.items() if tally.blocks}


def agrees(ledger: Ledger, counted: DeviceCounted, *, refusals: bool = False) -> None:
    """Ledger and profile hold the same, byte for byte, and nothing was lost."""
    assert counted.lost == {}
    assert given(counted) == ledger.given()
    if refusals:
        found = {d: (t.failed_blocks, t.failed_bytes) for d, t in counted.by_domain().items()}
        true = {d: (t.failed_blocks, t.failed_bytes) for d, t in ledger.tallies.items()}
        assert found == {d: true.get(d, (0, 0)) for d in found.keys() | true.keys()}


def library(
    folder: Path,
    name: str,
    source: Path,
    *flags: str,
    libs: tuple[str, ...] = (),
    compiler: str | None = None,
) -> Path:
    """Build a shared library of that soname into `folder`, as a link to the kept file."""
    folder.mkdir(parents=True, exist_ok=True)
    built = compile_program(
        source,
        (*_flags_of(source), "-fPIC", "-shared", f"-Wl,-soname,{name}", *flags),
        name=f"{folder.name}-{name}",
        compiler=compiler,
        libs=(f"-L{folder}", "-Wl,-rpath,$ORIGIN", *libs, "-lpthread"),
    )
    return _link(folder / name, built)


def _link(link: Path, built: Path) -> Path:
    if not link.is_symlink() or link.readlink() != built:
        partial = link.with_name(f"{link.name}.{os.getpid()}")
        partial.symlink_to(built)
        partial.rename(link)
    return link


def _flags_of(source: Path) -> tuple[str, ...]:
    return CXX_FLAGS if source.suffix == ".cc" else FLAGS


@dataclass(frozen=True)
class Ascend:
    """Ascend's layers in a folder, and programs on top of them."""

    folder: Path
    driver: Path
    runtime: Path
    acl: Path
    compiler: str | None

    @classmethod
    def build(cls, variant: str = "plain", *flags: str, compiler: str | None = None) -> Self:
        """Build one variant of the driver, with the runtime and ACL over it."""
        folder = BUILD / f"ascend-{variant}"
        source = STUBS / "ascend"
        driver = library(folder, "libascend_hal.so", source / "hal.c", *flags, compiler=compiler)
        runtime = library(folder, "libruntime.so", source / "runtime.c", libs=("-lascend_hal",),
                          compiler=compiler)  # fmt: skip
        acl = library(folder, "libascendcl.so", source / "acl.c", "-Wl,-Bsymbolic",
                      libs=("-lruntime",), compiler=compiler)  # fmt: skip
        return cls(folder, driver, runtime, acl, compiler)

    def program(self, *, linked: bool, flags: tuple[str, ...] = ()) -> Path:
        """The program app.c, linked with the libraries or to open them."""
        libs = (f"-L{self.folder}", f"-Wl,-rpath,{self.folder}", "-lascendcl", "-lruntime",
                "-lascend_hal") if linked else ()  # fmt: skip
        return compile_program(
            STUBS / "ascend" / "app.c",
            (*FLAGS, *(("-DLINKED",) if linked else ()), *flags),
            name=f"{self.folder.name}-app",
            compiler=self.compiler,
            libs=(*libs, "-ldl", "-lpthread"),
        )

    def launching_program(self, *, old_strings: bool = False) -> Path:
        """The program launch_app.cc, with a library of operators over the runtime; `old_strings`:
        both have the strings from before C++11.
        """
        flags = (f"-D_GLIBCXX_USE_CXX11_ABI={int(not old_strings)}",)
        folder = self.folder.with_name(f"{self.folder.name}-atb{int(old_strings)}")
        for below in (self.driver, self.runtime, self.acl):
            folder.mkdir(parents=True, exist_ok=True)
            _link(folder / below.name, below.resolve())
        library(folder, "libatb.so", STUBS / "ascend" / "atb.cc", *flags, libs=("-lruntime",))
        return compile_program(
            STUBS / "ascend" / "launch_app.cc",
            (*CXX_FLAGS, *flags),
            name=f"{folder.name}-app",
            libs=(f"-L{folder}", f"-Wl,-rpath,{folder}", "-latb", "-lascendcl", "-lruntime",
                  "-lascend_hal", "-lpthread"),
        )  # fmt: skip

    def libraries(self) -> tuple[Path, Path, Path]:
        """In an order in which each one finds those below it loaded."""
        return self.driver, self.runtime, self.acl


Variables = dict[str, str]
Command = tuple[tuple[str | Path, ...], Variables]
"""Arguments of a program, and the environment that it needs."""


def _command(
    app: Path,
    flags: tuple[str, ...],
    libs: tuple[str, ...],
    opened: tuple[Path | str, ...],
    way: str,
) -> tuple[str | Path, ...]:
    """The program of stubs/app.h: linked with `libs`, or to open libraries itself."""
    linked = way == "link"
    built = compile_program(
        app, (*FLAGS, *(("-DLINKED",) if linked else ()), *flags), name=f"{app.parent.name}-{way}",
        libs=(*(libs if linked else ()), "-ldl", "-lpthread"),
    )  # fmt: skip
    if linked or way == "lookup":
        return built, way
    return (built, way, *opened) if way == "default" else (built, "open", way, *opened)


_HAL = {"plain": (), "inner": ("-DWITH_INNER",), "old": ("-DOLD_DRIVER",)}


def _hal(way: str, variant: str) -> Command:
    ascend = Ascend.build(variant or "plain", *_HAL[variant or "plain"])
    program = ascend.program(linked=way == "link")
    libraries = ascend.libraries()
    words = (way, *libraries) if way == "default" else ("open", way, *libraries)
    return (program, *(("link",) if way == "link" else words)), {}


_CUDA = {"new": (), "old": ("-DOLD_DRIVER",), "secretive": ("-DSECRETIVE",)}


def cuda_toolkit() -> Path | None:
    """NVIDIA's runtime for programs, headers and libraries; None: its package is absent."""
    spec = importlib.util.find_spec("nvidia.cuda_runtime") if _installed("nvidia") else None
    return Path(next(iter(spec.submodule_search_locations or ()))) if spec else None


def _installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def cuda_includes() -> tuple[str, ...]:
    """Flags by which a C compiler finds the headers."""
    return f"-I{STUBS / 'cuda'}", f"-I{cuda_toolkit()}/include"


def cuda_libraries(variant: str) -> Path:
    """A folder with a stub driver, today's (`new`) or another, and a stub runtime."""
    folder = BUILD / f"cuda-{variant}"
    source, includes = STUBS / "cuda", cuda_includes()
    library(folder, "libcuda.so.1", source / "driver.c", *includes, *_CUDA[variant])
    library(folder, "libcudart.so.12", source / "runtime.c", *includes)
    return folder


def _cuda(way: str, variant: str) -> Command:
    folder = cuda_libraries(variant or "new")
    app, includes = STUBS / "cuda" / "app.c", cuda_includes()
    variables = {"LD_LIBRARY_PATH": str(folder)}
    if way.endswith("runtime"):
        static = way == "static runtime"
        sources = [app, *([app.with_name("runtime.c")] if static else [])]
        flags = (*FLAGS, *includes, "-DRUNTIME", *(("-DSTATIC_RUNTIME",) if static else ()))
        libs = () if static else (str(folder / "libcudart.so.12"),)
        built = compile_program(
            sources, flags, name=f"cuda-{way.replace(' ', '-')}", libs=libs,
        )  # fmt: skip
        return (built,), variables
    built_way = "lookup" if way == "per thread" else way
    argv = _command(app, includes, (str(folder / "libcuda.so.1"),), ("libcuda.so.1",), built_way)
    flag = {"lookup": ("0",), "per thread": ("2",)}
    return (*argv, *flag.get(way, ())), variables


def _hip(way: str, variant: str) -> Command:
    folder, source = BUILD / f"hip{variant}", STUBS / "hip"
    library(folder, "libhsa-runtime64.so.1", source / "hsa.c")
    versions = f"-Wl,--version-script={source / 'hip.map'}"
    below = ("-l:libhsa-runtime64.so.1",)
    library(folder, "libamdhip64.so.6", source / "hip.c", versions, libs=below)
    names = ("libhsa-runtime64.so.1", "libamdhip64.so.6")
    libs = (f"-L{folder}", *(f"-l:{name}" for name in names))
    return _command(source / "app.c", (), libs, names, way), {"LD_LIBRARY_PATH": str(folder)}


def _ze(way: str, variant: str) -> Command:
    source = STUBS / "ze"
    driver = library(BUILD / f"ze{variant}", "libze_stub.so.1", source / "driver.c",
                     "-fvisibility=hidden")  # fmt: skip
    argv = _command(source / "app.c", (), ("-lze_loader",), ("libze_loader.so.1",), way)
    return argv, {"ZE_ENABLE_ALT_DRIVERS": str(driver)}


@dataclass(frozen=True)
class Driver:
    """A stub driver. `device` is the backend's name; `command` takes a way and a variant of it."""

    device: str
    ways: tuple[str, ...]
    command: Callable[[str, str], Command]
    needs: Path | None = None
    hides_refusals: bool = False
    """The layers above try again where the driver refuses: its ledger has more refusals."""

    @property
    def present(self) -> bool:
        """Whether the headers are installed that its stub is built against."""
        return self.needs is None or self.needs.exists()

    def start(
        self,
        folder: Path,
        way: str = "",
        variant: str = "",
        variables: Variables | None = None,
        **settings: str,
    ) -> App:
        """Start its program with the sampler in it, captured from the start."""
        argv, needed = self.command(way or self.ways[0], variant)
        settings = {"device": self.device} | settings
        return App(argv, folder, variables=needed | (variables or {}), **settings)  # fmt: skip


DRIVERS = {
    driver.device: driver
    for driver in (
        Driver("hal", ("link", "local", "global", "default"), _hal, hides_refusals=True),
        Driver("cuda", ("link", "local", "lookup", "per thread"), _cuda,
               (cuda_toolkit() or Path("/absent")) / "include/cuda.h"),
        Driver("hip", ("link", "local"), _hip, Path("/usr/include/hip/hip_runtime_api.h")),
        Driver("ze", ("link", "local"), _ze, Path("/usr/include/level_zero/ze_api.h")),
    )
}  # fmt: skip


class Obeying(Target):
    """A program that obeys lines, with its ledger."""

    ledger_path: Path

    def do(self, *lines: str) -> list[int]:
        """Tell it lines; their results."""
        return [int(self.ask(line)) for line in lines]

    def ledger(self) -> Ledger:
        """What the drivers really did until now."""
        return Ledger.read(self.ledger_path)


class App(Obeying):
    """One that begins with the sampler."""

    def __init__(
        self,
        argv: tuple[str | Path, ...],
        folder: Path,
        *,
        rate: int | None = 1,
        variables: dict[str, str] | None = None,
        **settings: str,
    ) -> None:
        """Start it; `settings` are MEM_PROFILER_*, `variables` any other."""
        self.ledger_path = folder / "ledger"
        env = environment(folder, rate=rate, **settings)
        super().__init__(argv, env | {"STUB_LEDGER": str(self.ledger_path)} | (variables or {}))


class LateApp(Obeying, Attached):
    """One that the sampler comes to later, and its ledger from then on."""

    def __init__(self, argv: tuple[str | Path, ...], folder: Path, **variables: str) -> None:
        """Start it without the sampler."""
        self.ledger_path = folder / "ledger"
        Attached.__init__(self, folder, argv, STUB_LEDGER=str(self.ledger_path), **variables)

    def begin(self, options: str = "") -> Answer:
        """Attach, and forget what the drivers did until now."""
        self.ledger_path.write_text("")
        return super().begin(options)
