"""The same programs on a real CUDA driver: sizes are known from what the programs were told.

Skipped where no driver starts. `tests/device/cuda_real.sh` builds what is needed and runs this.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from c_build import compile_program
from controller_tools import run_command
from device_run import Tally, device_counted
from sampler_run import Target
from stub_driver import FLAGS, STUBS, App

MIB = 1 << 20


def _driver_starts() -> bool:
    try:
        return bool(ctypes.CDLL("libcuda.so.1").cuInit(0) == 0)
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not _driver_starts(), reason="no CUDA driver starts here")
nvidia = pytest.importorskip("nvidia", reason="the package nvidia-cuda-runtime-cu12 is absent")
TOOLKIT = Path(next(iter(nvidia.__path__))) / "cuda_runtime"
INCLUDES = (f"-I{STUBS / 'cuda'}", f"-I{TOOLKIT / 'include'}")


def program(way: str) -> tuple[str | Path, ...]:
    """The program of the stub tests, bound to whatever driver and runtime are installed."""
    sources, flags = STUBS / "cuda" / "app.c", (*FLAGS, *INCLUDES)
    name = f"cuda-real-{way.replace(' ', '-')}"
    library = TOOLKIT / "lib"
    if way == "lookup":
        return compile_program(sources, flags, name=name), "lookup", "0"
    libs = {
        "shared runtime": (str(library / "libcudart.so.12"), f"-Wl,-rpath,{library}"),
        "static runtime": (str(library / "libcudart_static.a"), "-ldl", "-lrt", "-lpthread"),
    }[way]
    return (compile_program(sources, (*flags, "-DRUNTIME"), name=name, libs=libs),)


def app(folder: Path, way: str) -> App:
    """It begins with the sampler."""
    return App(program(way), folder, device="cuda")


def test_driver_blocks(segment_dir: Path) -> None:
    with app(segment_dir, "lookup") as target:
        done = target.do("context 0 0", f"alloc 1 {3 * MIB}", "alloc 2 5000", "free 1",
                         "managed 3 70000", "host 4 3000", "async 5 9000 3", "freeasync 5 3",
                         "array 6 100 50", "alloc 7 4000000000000")  # fmt: skip
        assert done == [0] * 9 + [2]
        found = device_counted(target).by_domain()
        assert found["cuda-0"].live_bytes == 5000 + 100 * 50 * 2 * 4
        assert found["cuda-0"].failed_bytes == 4000000000000
        assert found["cuda-0-managed"].live_bytes == 70000
        assert found["cuda-pinned"].live_bytes == 3000
        actual = device_counted(target).domains["cuda-0"].actual
        assert actual is not None
        assert actual.used_bytes > 5000
        assert target.do("destroy 0") == [0]
        left = device_counted(target).total()
        assert left.live_bytes == 0


def test_physical_memory(segment_dir: Path) -> None:
    size = 2 * MIB
    with app(segment_dir, "lookup") as target:
        done = target.do("context 0 0", f"create 1 {size} 0", f"reserve 2 {4 * size}")
        done += target.do(f"map 2 {size} 1", "release 1", "retain 3 2", f"unmap 2 {size}")
        assert done == [0] * 7
        assert device_counted(target).total("cuda-0").live_bytes == size
        assert target.do("release 3") == [0]
        assert device_counted(target).total("cuda-0").live_bytes == 0


@pytest.mark.parametrize("way", ["shared runtime", "static runtime"])
def test_runtime_blocks(segment_dir: Path, way: str) -> None:
    with app(segment_dir, way) as target:
        done = target.do("malloc 1 4096", "malloc 2 5000", "cudafree 1", "mallochost 3 100",
                         "mallocasync 4 300 0")  # fmt: skip
        assert done == [0] * 5
        counted = device_counted(target)
        api = "cudaMalloc" if way == "shared runtime" else "cuMemAlloc_v2"
        assert counted.apis()[api].live_bytes == 5000
        assert counted.total("cuda-0").live_bytes == 5300
        assert counted.under("runtime_line") != Tally()
        assert target.do("devicereset") == [0]


def test_runtime_blocks_after_an_attach(segment_dir: Path) -> None:
    """The runtime has the driver's functions already: its own wrappers count."""
    env = {**os.environ, "MEM_PROFILER_DIR": str(segment_dir)}
    with Target(program("shared runtime"), env) as target:
        assert target.ask("malloc 1 4096") == "0"
        attached = run_command("attach", target.pid, "--device", "cuda", "-c", "1")
        assert attached.returncode == 0, attached.stderr
        lines = ("malloc 2 5000", "malloc 3 3000", "cudafree 3", "cudafree 1", "malloc 30 0",
                 "mallocmanaged 4 70000", "mallochost 5 100", "halloc 6 200", "cudafreehost 6",
                 "mallocpitch 7 1000 10", "mallocarray 8 100 50 0", "mallocasync 9 300 0",
                 "mallocasync 10 400 0", "cudafreeasync 10 0")  # fmt: skip
        assert [target.ask(line) for line in lines] == ["0"] * len(lines)
        assert target.ask("malloc 11 4000000000000") == "2"
        counted = device_counted(target)
        found, apis = counted.by_domain(), counted.apis()
        assert apis["cudaMalloc"].live_bytes == 5000
        assert apis["cudaMalloc"].failed_bytes == 4000000000000
        assert apis["cudaMallocPitch"].taken >= 1000 * 10
        assert found["cuda-0"].live_bytes == 5000 + 1000 * 10 + 100 * 50 * 2 * 4 + 300
        assert found["cuda-0-managed"].live_bytes == 70000
        assert found["cuda-pinned"].live_bytes == 100
        assert counted.domains["cuda-0"].actual is not None
        assert target.ask("cudafreearray 8") == "0"
        assert device_counted(target).total("cuda-0").live_bytes == 15300
        assert target.ask("devicereset") == "0"
        assert device_counted(target).total().live_bytes == 300  # a stream's: it outlives contexts
