"""Stub drivers: built once, run under the sampler, their ledger compared with the profile.

Model: a stub (tests/stubs/) has the true interface of a driver and writes one line for each block
that it really gave or took back. A `Ledger` adds them up by domain; `agrees` holds it against what
the sampler counted. `App` is a program on top of a stub, which obeys the lines it is told.
"""

from __future__ import annotations

import dataclasses
import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

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


def agrees(ledger: Ledger, counted: DeviceCounted) -> None:
    """Ledger and profile hold the same, byte for byte, and nothing was lost."""
    assert counted.lost == {}
    assert given(counted) == ledger.given()


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
        depends=tuple(STUBS.rglob("*.h")),
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
            depends=tuple(STUBS.rglob("*.h")),
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
            depends=tuple(STUBS.rglob("*.h")),
        )  # fmt: skip

    def libraries(self) -> tuple[Path, Path, Path]:
        """In an order in which each one finds those below it loaded."""
        return self.driver, self.runtime, self.acl


class App(Target):
    """A program that obeys lines, with its ledger."""

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

    def do(self, *lines: str) -> list[int]:
        """Tell it lines; their results."""
        return [int(self.ask(line)) for line in lines]

    def ledger(self) -> Ledger:
        """What the drivers really did until now."""
        return Ledger.read(self.ledger_path)
