"""OpenCL on a CPU (PoCL), its memory counted through the layer: the profile says what the program's
own ledger says, byte for byte, with Debian's loader and with the one that pyopencl brings along."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from c_build import ROOT, WARNINGS, compile_program
from controller_tools import run_command
from device_run import DeviceCounted, Tally, device_counted, only_device_counted, read_ledger
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_profiler.capture import device_layers
from sampler_run import SAMPLER, Controller, Target, build, environment, run, segments

pytestmark = pytest.mark.skipif(
    not Path("/usr/include/CL/cl_layer.h").exists()
    or not Path("/etc/OpenCL/vendors/pocl.icd").exists(),
    reason="opencl-headers, ocl-icd-opencl-dev or pocl-opencl-icd is not installed",
)
LAYERS = SAMPLER.with_name(device_layers.LAYERS_NAME)


def program() -> Path:
    return build("opencl_blocks.c", libs=("-lOpenCL", "-lpthread", "-ldl"))


def stub() -> Path:
    """A layer that lets the driver fail and gives it what it lacks, as OPENCL_LAYERS names it."""
    return compile_program(
        ROOT / "tests" / "stubs" / "opencl_layer.c",
        ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", *WARNINGS, "-shared", "-fPIC"),
        name="opencl-layer.so",
    )


def settings(folder: Path, *before: Path, rate: int | None = 1, **more: str) -> dict[str, str]:
    """The program's environment; layers `before` ours stand below it, next to the driver."""
    env = environment(folder, rate=rate)
    present = {"OPENCL_LAYERS": ":".join(map(str, before))}
    env |= device_layers.environment(["opencl"], SAMPLER, present)
    return env | {"POCL_CACHE_DIR": str(folder / "pocl")} | more


def agree(target: Target) -> DeviceCounted:
    """The profile, which must agree with the ledger now; then the target goes on."""
    ledger = read_ledger(target)
    counted = device_counted(target)
    assert counted.callers() == ledger
    assert counted.lost == {}
    target.tell("on")
    return counted


def test_every_kind_of_memory_is_counted_once_and_freed_when_it_is(segment_dir: Path) -> None:
    with Target([program(), "kinds"], settings(segment_dir)) as target:
        counted = agree(target)
        assert set(counted.apis()) == {
            "clCreateBuffer", "clCreateBufferWithProperties", "clCreateImage", "clCreateImage2D",
            "clCreateImage3D", "clCreateImageWithProperties", "clSVMAlloc",
        }  # fmt: skip
        kinds = {name: domain.kind for name, domain in counted.domains.items()}
        assert kinds == {
            "opencl-0": "device",
            "opencl-pinned": "pinned",
            "opencl-0-managed": "managed",
        }
        agree(target)
        agree(target)
        target.finish()


def test_a_buffer_lives_until_the_last_command_that_needs_it(segment_dir: Path) -> None:
    with Target([program(), "pending"], settings(segment_dir)) as target:
        assert agree(target).total().live_bytes == 1 << 20
        assert agree(target).total().live_bytes == 0
        target.finish()


def test_threads_free_each_others_blocks(segment_dir: Path) -> None:
    with Target([program(), "threads"], settings(segment_dir)) as target:
        agree(target)
        target.finish()


@pytest.mark.parametrize("callbacks", ["", "1"], ids=["callbacks", "no-callbacks"])
def test_pointers_of_the_extension_end_with_their_context(
    segment_dir: Path, callbacks: str
) -> None:
    more = {"STUB_NO_CALLBACKS": callbacks} if callbacks else {}
    with Target([program(), "usm"], settings(segment_dir, stub(), **more)) as target:
        counted = agree(target)
        assert set(counted.apis()) == {
            "clHostMemAllocINTEL", "clDeviceMemAllocINTEL", "clSharedMemAllocINTEL",
        }  # fmt: skip
        agree(target)
        assert agree(target).total().live_blocks == 0
        target.finish()


def test_a_driver_without_callbacks_is_followed_by_its_references(segment_dir: Path) -> None:
    env = settings(segment_dir, stub(), STUB_NO_CALLBACKS="1")
    with Target([program(), "references"], env) as target:
        agree(target)
        agree(target)
        target.finish()


def test_what_the_driver_refuses_is_counted_and_a_refused_release_is_none(
    segment_dir: Path,
) -> None:
    env = settings(
        segment_dir, stub(),
        STUB_FAIL="clCreateBuffer:2,clReleaseMemObject:1", STUB_NO_CALLBACKS="1",
    )  # fmt: skip
    with Target([program(), "failures"], env) as target:
        assert agree(target).domains["opencl-0"].failed_calls == 1
        agree(target)
        target.finish()


def test_what_a_killed_program_held_is_still_there(segment_dir: Path) -> None:
    with Target([program(), "leave"], settings(segment_dir)) as target:
        ledger = read_ledger(target)
        target.kill()
        assert device_counted(target).callers() == ledger


def test_a_program_that_never_frees_leaves_its_blocks_in_the_profile(segment_dir: Path) -> None:
    with Target([program(), "leave"], settings(segment_dir)) as target:
        ledger = read_ledger(target)
        target.tell("on")
        target.finish()
        assert device_counted(target).callers() == ledger
        assert device_counted(target).total("opencl-0").live_bytes == 1 << 20


def test_what_a_driver_frees_at_the_end_of_the_process_was_left_by_the_program(
    segment_dir: Path,
) -> None:
    env = settings(segment_dir, stub(), STUB_RELEASE_AT_EXIT="1")
    with Target([program(), "atexit"], env) as target:
        ledger = read_ledger(target)
        target.tell("on")
        target.finish()
        assert device_counted(target).callers() == ledger


def test_blocks_of_before_a_capture_are_not_in_it_and_free_without_a_trace(
    segment_dir: Path,
) -> None:
    with Target([program(), "kinds"], settings(segment_dir, rate=None)) as target:
        read_ledger(target)
        with Controller(target) as controller:
            number = controller.start(1)
            target.tell("on")
            read_ledger(target)
            controller.stop(number)
        assert device_counted(target).callers() == {}
        target.tell("on")
        read_ledger(target)
        target.tell("on")
        target.finish()


def test_a_process_without_the_sampler_runs_without_the_layer(segment_dir: Path) -> None:
    env = settings(segment_dir)
    del env["LD_PRELOAD"]
    with Target([program(), "leave"], env) as target:
        assert read_ledger(target)
        target.tell("on")
        target.finish()
    assert segments(segment_dir) == []


def test_named_twice_the_layer_counts_once(segment_dir: Path, tmp_path: Path) -> None:
    copy = tmp_path / "again.so"
    shutil.copy(LAYERS, copy)
    with Target([program(), "leave"], settings(segment_dir, copy)) as target:
        agree(target)
        target.finish()


def test_switched_off_the_layer_hands_through(segment_dir: Path) -> None:
    with Target(
        [program(), "leave"], settings(segment_dir, MEM_PROFILER_DEVICE="vulkan")
    ) as target:
        read_ledger(target)
        assert device_counted(target).stacks == []
        target.tell("on")
        target.finish()


def test_run_needs_no_variables_and_writes_a_file_for_each_domain(
    segment_dir: Path, tmp_path: Path
) -> None:
    done = run_command(
        "run", "-c", "1", "--device", "opencl", "-o", tmp_path / "p", "--", program(), "leave",
        input="on\n",
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    found = {path.name.split(".", 3)[3]: read_profile(path) for path in tmp_path.glob("p.*.heap")}
    in_use = {name: f.total(Count.INUSE, Unit.SPACE).value for name, f in found.items()}
    assert in_use.pop("heap") > 0
    assert in_use == {"opencl-0.heap": 1 << 20, "opencl-0-managed.heap": 1 << 16}
    assert "note: device" not in done.stderr


# --- pyopencl -----------------------------------------------------------------------------------

PYOPENCL = importlib.util.find_spec("pyopencl")
SCRIPT = """
import numpy, pyopencl as cl
context = cl.Context(cl.get_platforms()[0].get_devices()[:1])
queue = cl.CommandQueue(context)
flags = cl.mem_flags
kept = [cl.Buffer(context, flags.READ_WRITE, 100_000 + i) for i in range(5)]
image = cl.Image(
    context, flags.READ_ONLY, cl.ImageFormat(cl.channel_order.RGBA, cl.channel_type.FLOAT), (50, 20)
)
host = numpy.arange(1000, dtype=numpy.float32)
values = cl.Buffer(context, flags.COPY_HOST_PTR, hostbuf=host)
cl.enqueue_fill_buffer(queue, values, numpy.float32(7), 0, host.nbytes)
cl.enqueue_copy(queue, host, values).wait()
assert (host == 7).all()
del kept[2:]
print("ready", flush=True)
input()
"""


@pytest.mark.skipif(PYOPENCL is None, reason="pyopencl is not installed")
def test_a_python_program_on_the_loader_it_brings_along(segment_dir: Path) -> None:
    env = settings(segment_dir, PYOPENCL_NO_CACHE="1", XDG_CACHE_HOME=str(segment_dir))
    with Target([sys.executable, "-c", SCRIPT], env) as target:
        assert target.line() == "ready"
        counted = device_counted(target)
        assert counted.apis() == {
            "clCreateBuffer": Tally(6, 504_010, 504_010, 3, 204_001),
            "clCreateImage": Tally(1, 16_000, 16_000, 1, 16_000),
        }
        maps = Path(f"/proc/{target.pid}/maps").read_text().split()
        loaders = {Path(word).parent.name for word in maps if "libOpenCL" in word}
        assert loaders == {".libs"}
        target.tell("on")
        target.finish()


@pytest.mark.skipif(PYOPENCL is None, reason="pyopencl is not installed")
def test_two_loaders_in_one_process(segment_dir: Path) -> None:
    assert PYOPENCL is not None
    assert PYOPENCL.origin is not None
    home = Path(PYOPENCL.origin).parent
    [other] = (home / ".libs").glob("libOpenCL*")
    with Target(
        [program(), "kinds", other], settings(segment_dir, PYOPENCL_HOME=str(home))
    ) as target:
        assert agree(target).by("through_loader").blocks == 1
        target.kill()


@pytest.mark.skipif(shutil.which("clpeak") is None, reason="clpeak is not installed")
def test_a_benchmark_of_others_is_counted_and_unharmed(segment_dir: Path) -> None:
    env = settings(segment_dir) | {"MEM_PROFILER_ONLY": "clpeak", "HOME": str(segment_dir)}
    done = run(["clpeak", "--kernel-latency"], env)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = only_device_counted(segment_dir)
    total = counted.total("opencl-0")
    assert total.blocks > 0
    assert total.live_blocks == 0, "clpeak releases what it made"
    assert set(counted.apis()) == {"clCreateBuffer"}
