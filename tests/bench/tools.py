"""What the benchmark runs: its own programs, compiled on first use, and the peers.

Everything is built into build/bench/. Peers come from Debian (as root, or with a sudo that asks
nothing) and PyPI (into the environment this Python belongs to); each that cannot be had is None,
with the reason in `missing`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
BUILD = ROOT / "build" / "bench"
SAMPLER = ROOT / "sampler"
TIMEOUT_S = 120.0
LIBRARIES = (
    Path("/usr/lib/x86_64-linux-gnu"),
    Path("/usr/lib/aarch64-linux-gnu"),
    Path("/usr/lib64"),
)

# peer: its Debian package
DEBIAN = {
    "jemalloc": "libjemalloc2",
    "jeprof": "libjemalloc-dev",
    "tcmalloc": "libgoogle-perftools4",
    "heaptrack": "heaptrack",
    "libunwind": "libunwind-dev",
    "redis": "redis-server",
    "redis-benchmark": "redis-tools",
}


def child_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """Our environment without what would change how a target allocates."""
    ours = ("LD_PRELOAD", "MALLOC_", "MEM_PROFILER_", "TCMALLOC_", "HEAPPROFILE", "PYTHONMALLOC")
    plain = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return {**plain, **(extra or {})}


def run(
    command: list[str],
    extra: dict[str, str] | None = None,
    *,
    cwd: Path | None = None,
    timeout_s: float = TIMEOUT_S,
) -> str:
    """Run to the end and return what it printed. Raises RuntimeError with its last line."""
    done = subprocess.run(
        command,
        env=child_environment(extra),
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        errors="replace",
    )
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no message"]
        raise RuntimeError(
            f"{Path(command[0]).name} ended with {done.returncode}: {lines[-1][:160]}"
        )
    return done.stdout


def children_cpu_s() -> float:
    """CPU time so far of all children that ended, and of theirs that they waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compile_c(name: str, sources: list[Path], *flags: str, libs: tuple[str, ...] = ()) -> Path:
    """Compile into build/bench/NAME unless that is newer than its sources."""
    out = BUILD / name
    headers = list(SAMPLER.rglob("*.h"))
    newest = max(p.stat().st_mtime for p in [*sources, *headers])
    if not out.exists() or out.stat().st_mtime < newest:
        BUILD.mkdir(parents=True, exist_ok=True)
        run(
            [
                "gcc",
                "-O2",
                "-D_GNU_SOURCE",
                "-w",
                f"-I{SAMPLER}",
                *flags,
                "-o",
                str(out),
                *map(str, sources),
                *libs,
            ]
        )
    return out


def _install_debian(packages: list[str]) -> str | None:
    """Install packages; the reason when that cannot be done."""
    if shutil.which("apt-get") is None:
        return "no apt-get here"
    command = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    if os.getuid() != 0:
        if subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode != 0:
            return "not allowed to install packages; run: sudo " + " ".join(command)
        command = ["sudo", *command]
    print("installing " + " ".join(packages), file=sys.stderr)
    done = subprocess.run(
        command,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    return None if done.returncode == 0 else "apt-get failed"


def _library(name: str) -> Path | None:
    found = [folder / name for folder in LIBRARIES if (folder / name).exists()]
    return found[0] if found else None


def _jemalloc_profiles(library: Path) -> bool:
    """Whether this jemalloc was built with its profiler."""
    extra = {"LD_PRELOAD": str(library), "MALLOC_CONF": "prof:true,abort_conf:true"}
    done = subprocess.run(["/bin/true"], env=child_environment(extra), capture_output=True)
    return done.returncode == 0


@dataclass
class Tools:
    """Paths of what there is; None for what there is not."""

    scratch: Path
    sampler: Path
    forward: Path
    churn: Path
    churn_library: Path
    jemalloc: Path | None = None
    jemalloc_profiles: bool = False
    tcmalloc: Path | None = None
    heaptrack: str | None = None
    memray: bool = False
    libunwind: bool = False
    redis: bool = False
    jeprof: str | None = None
    may_install: bool = False
    versions: list[str] = field(default_factory=list)
    """Of what the parts installed for themselves."""
    missing: list[str] = field(default_factory=list)

    def sampled(self, rate: str | None, *, preload: str = "") -> dict[str, str]:
        """Environment of a process with the sampler, capturing at `rate` or idle."""
        libraries = f"{self.sampler} {preload}".strip()
        extra = {"LD_PRELOAD": libraries, "MEM_PROFILER_DIR": str(self.segments())}
        return {**extra, "MEM_PROFILER_START": rate} if rate else extra

    def segments(self) -> Path:
        """A folder for segments, emptied: nothing of the last run takes up memory."""
        folder = self.scratch / "segments"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder


def build_sampler() -> Path:
    """The sampler as `make build` makes it, from the sources as they are now."""
    out = ROOT / "build" / "sampler"
    run(["make", "-s", "-C", str(ROOT / "sampler"), f"BUILD={out}"], timeout_s=300)
    return out / "libmem_sampler.so"


def _find_peers(tools: Tools) -> None:
    tools.jemalloc = _library("libjemalloc.so.2")
    if tools.jemalloc is not None:
        tools.jemalloc_profiles = _jemalloc_profiles(tools.jemalloc)
        if not tools.jemalloc_profiles:
            tools.missing.append("jemalloc's profiler: this libjemalloc.so.2 is built without it")
    tools.tcmalloc = _library("libtcmalloc.so.4")
    tools.heaptrack = shutil.which("heaptrack")
    tools.libunwind = Path("/usr/include/libunwind.h").exists() or bool(
        list(Path("/usr/include").glob("*/libunwind.h"))
    )
    tools.redis = bool(shutil.which("redis-server") and shutil.which("redis-benchmark"))
    tools.jeprof = shutil.which("jeprof")
    probe = [sys.executable, "-c", "import memray"]
    tools.memray = subprocess.run(probe, capture_output=True).returncode == 0


def _absent(tools: Tools) -> list[str]:
    have = {
        "jemalloc": tools.jemalloc,
        "jeprof": tools.jeprof,
        "tcmalloc": tools.tcmalloc,
        "heaptrack": tools.heaptrack,
        "libunwind": tools.libunwind,
        "redis": tools.redis,
    }
    return [name for name, there in have.items() if not there]


def prepare(scratch: Path, *, sampler: Path | None, install: bool) -> Tools:
    """Build our programs, find the peers, install what is absent if `install`.

    The library is copied, so that building another one meanwhile changes nothing.
    """
    churn = HERE / "churn.c"
    plain = ("-fomit-frame-pointer", "-pthread")
    tools = Tools(
        scratch=scratch,
        sampler=Path(shutil.copy(sampler or build_sampler(), scratch / "libmem_sampler.so")),
        forward=compile_c(
            "forward.so", [HERE / "forward.c"], "-fPIC", "-shared", "-fno-builtin", "-Wl,-z,now"
        ),
        churn=compile_c("churn", [churn], *plain),
        churn_library=compile_c(
            "libchurn.so", [churn], *plain, "-DCHURN_LIBRARY", "-fPIC", "-shared"
        ),
        may_install=install,
    )
    _find_peers(tools)
    absent = _absent(tools)
    reason: str | None = "--no-install"
    if install and absent:
        packages = [DEBIAN[name] for name in absent]
        packages += [DEBIAN["redis-benchmark"]] if "redis" in absent else []
        reason = _install_debian(packages)
    if install and not tools.memray:
        pip = [
            sys.executable,
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "memray",
        ]
        subprocess.run(pip, capture_output=True, timeout=300)
    if install:
        _find_peers(tools)
        absent = _absent(tools)
    tools.missing += [f"{name}: {reason or 'not found after installing it'}" for name in absent]
    if not tools.memray:
        tools.missing.append("memray: not installed")
    return tools


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder in memory, so that no disk is measured; removed at the end."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="mem-profiler-bench.", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def server(
    command: list[str], extra: dict[str, str], cwd: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs as long as the block and is ended after it."""
    child = subprocess.Popen(
        command,
        env=child_environment(extra),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
