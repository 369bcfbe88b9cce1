"""Build the source distribution and the wheels of a release, and have auditwheel check each wheel.

    make wheel                       # into dist/
    python release/wheels.py --out DIR --machine x86_64

Each wheel is made from the source distribution, in a folder of its own: what the archive lacks, the
wheel cannot have. Another machine's wheel is cross-compiled where Debian's compiler for it is
installed. The extensions keep to Python's stable ABI, so this Python's headers serve there too: all
that the limited API takes from pyconfig.h is the same on every 64-bit Linux.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# The oldest glibc whose users get a wheel: that of symbolic's own wheels.
OLDEST_GLIBC = (2, 28)
POLICY = "manylinux_{}_{}".format(*OLDEST_GLIBC)
MACHINES = ("x86_64", "aarch64")
ELF_MACHINE = {"x86_64": 62, "aarch64": 183}
SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


class ReleaseError(Exception):
    """One line for the person who makes the release."""


def run(arguments: list[str], folder: Path, **environment: str) -> str:
    """What the command writes; ReleaseError, after all that it wrote, if it fails."""
    done = subprocess.run(
        arguments,
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=900,
        check=False,
    )
    if done.returncode != 0:
        sys.stderr.write(done.stdout)
        raise ReleaseError(f"{' '.join(arguments[:4])} ... ended with {done.returncode}")
    return done.stdout


def compiler(machine: str) -> str:
    """The compiler that makes code for `machine`."""
    native = machine == platform.machine()
    return os.environ.get("CC", "gcc") if native else f"{machine}-linux-gnu-gcc"


def has_compiler(machine: str) -> bool:
    """Whether `machine`'s compiler and the headers of its C library are installed."""
    try:
        done = subprocess.run(
            [*compiler(machine).split(), "-E", "-include", "stdlib.h", "-x", "c", os.devnull],
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
    except OSError:
        return False
    return done.returncode == 0


def source_distribution(tree: Path, out: Path) -> Path:
    """The .tar.gz of `tree`, written to `out`."""
    for old in out.glob("*.tar.gz"):
        old.unlink()
    run([sys.executable, "-c", SDIST, str(out)], tree)
    (made,) = out.glob("*.tar.gz")
    return made


def wheel_of(archive: Path, machine: str, work: Path) -> Path:
    """The wheel that pip makes of the archive for `machine`, under the tag it shall have."""
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")
    tree = work / archive.name.removesuffix(".tar.gz")
    cc = compiler(machine)
    # No path of this machine in the wheel: neither this Python's library folder, which its own
    # linker flags name as RPATH, nor the build's and the headers' folders in debug information.
    headers = sysconfig.get_path("include")
    flags = f"-O2 -g -ffile-prefix-map={work}=. -ffile-prefix-map={headers}=python"
    run(
        [
            sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps",
            "--no-build-isolation", "-w", str(work), str(tree),
        ],
        work,
        CC=cc,
        LDSHARED=f"{cc} -shared",
        CFLAGS=flags,
        LDFLAGS="",
        # What sysconfig says this platform is, and so the wheel's tag; check() has it confirmed.
        _PYTHON_HOST_PLATFORM=f"{POLICY}_{machine}",
    )  # fmt: skip
    (made,) = work.glob("*.whl")
    return made


def check(wheel: Path, machine: str) -> str:
    """The lowest platform whose symbols the wheel keeps to; ReleaseError if the wheel is wrong."""
    if not wheel.name.endswith(f"-cp311-abi3-{POLICY}_{machine}.whl"):
        raise ReleaseError(f"{wheel.name}: not a wheel of cp311, abi3, {POLICY}_{machine}")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if not name.endswith(".so"):
                continue
            head = archive.read(name)[:20]
            if int.from_bytes(head[18:20], "little") != ELF_MACHINE[machine]:
                raise ReleaseError(f"{wheel.name}: {name} is not for {machine}")
    said = run([sys.executable, "-m", "auditwheel", "show", str(wheel)], wheel.parent)
    lowest = re.search(r'following platform tag:\s*"(\w+)"', said)
    if lowest is None:
        raise ReleaseError(f"auditwheel names no platform tag for {wheel.name}")
    version = re.fullmatch(rf"manylinux_(\d+)_(\d+)_{machine}", lowest[1])
    if version is None or (int(version[1]), int(version[2])) > OLDEST_GLIBC:
        sys.stderr.write(said)
        raise ReleaseError(f"{wheel.name}: auditwheel grants only {lowest[1]}")
    return lowest[1]


def build(tree: Path, out: Path, machines: list[str]) -> list[Path]:
    """The wheels for `machines` of the sources in `tree`, written to `out` with their archive."""
    out.mkdir(parents=True, exist_ok=True)
    archive = source_distribution(tree, out)
    print(archive)
    made = []
    for machine in machines:
        for old in out.glob(f"*_{machine}.whl"):
            old.unlink()
        with tempfile.TemporaryDirectory(prefix="mem-profiler-wheel-") as folder:
            wheel = wheel_of(archive, machine, Path(folder))
            lowest = check(wheel, machine)
            made.append(Path(shutil.move(wheel, out)))
        print(f"{made[-1]}   auditwheel: its symbols are those of {lowest}")
    return made


def main() -> None:
    """The command; each failure is one line, after the output of the tool that failed."""
    parser = argparse.ArgumentParser(description="Build and check the wheels of a release.")
    parser.add_argument("--tree", type=Path, default=ROOT, help="the sources (default: here)")
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="default: dist/")
    parser.add_argument(
        "--machine", action="append", choices=MACHINES,
        help="default: this one, and others whose cross compiler is installed",
    )  # fmt: skip
    options = parser.parse_args()
    machines = options.machine or [
        machine for machine in MACHINES
        if machine == platform.machine() or has_compiler(machine)
    ]  # fmt: skip
    try:
        for machine in machines:
            if not has_compiler(machine):
                raise ReleaseError(f"no compiler for {machine}: {compiler(machine)}")
        build(options.tree.resolve(), options.out.resolve(), machines)
    except ReleaseError as error:
        sys.exit(f"error: {error}")
    for machine in MACHINES:
        if machine not in machines:
            print(f"not built: {machine} ({compiler(machine)} is missing, or was not asked for)")


if __name__ == "__main__":
    main()
