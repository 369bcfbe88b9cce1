"""OpenCL on a CPU (PoCL) and Vulkan on a CPU (Mesa's lavapipe), counted through layers: the profile
says what the program's own ledger says, byte for byte.

Model: a `Layered` is one of both, with its program (tests/targets) and a stub that stands between
our layer and the driver (tests/stubs). The program waits after each "end" of its ledger.
"""

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from c_build import WARNINGS, compile_program
from controller_tools import command_ok
from device_run import DeviceCounted, Tally, device_counted, only_device_counted, read_ledger
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_profiler.capture import device_layers
from sampler_run import SAMPLER, Controller, Target, build, environment, run_ok, segments
from stub_driver import STUBS

VULKAN_DRIVER = Path("/usr/share/vulkan/icd.d/lvp_icd.x86_64.json")
OWN_BYTES = 1 << 20  # what the stub's driver has in use for itself
Variables = dict[str, str]


def stub(name: str) -> Path:
    """A layer that gives a driver what it lacks, and lets it fail."""
    flags = ("-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", *WARNINGS, "-shared", "-fPIC")
    source = STUBS / f"{name}_layer.c"
    return compile_program(source, flags, name=f"{name}-layer.so")


def opencl(folder: Path, *, stubbed: bool) -> Variables:
    present = {"OPENCL_LAYERS": str(stub("opencl")) if stubbed else ""}
    found = device_layers.environment(["opencl"], SAMPLER, present)
    return found | {"POCL_CACHE_DIR": str(folder / "pocl")}


def vulkan(folder: Path, *, stubbed: bool) -> Variables:
    found = device_layers.environment(["vulkan"], SAMPLER, {})
    found |= {"VK_ICD_FILENAMES": str(VULKAN_DRIVER), "XDG_RUNTIME_DIR": str(folder)}
    if not stubbed:
        return found
    layer = {
        "name": "VK_LAYER_TEST_stub", "type": "GLOBAL", "library_path": str(stub("vulkan")),
        "api_version": "1.3.0", "implementation_version": "1", "description": "a stub",
    }  # fmt: skip
    (folder / "stub.json").write_text(json.dumps({"file_format_version": "1.1.2", "layer": layer}))
    return found | {
        "VK_ADD_LAYER_PATH": f"{SAMPLER.parent}:{folder}",
        "VK_INSTANCE_LAYERS": f"{device_layers.VULKAN_LAYER}:VK_LAYER_TEST_stub",
    }


@dataclass(frozen=True)
class Layered:
    """A driver below a loader with layers, and the program that uses it."""

    name: str
    libs: tuple[str, ...]
    settings: Callable[..., Variables]
    needs: tuple[str, ...]

    def program(self) -> Path:
        """The program, or a skipped test."""
        missing = [path for path in self.needs if not Path(path).exists()]
        if missing:
            pytest.skip(f"{missing} not installed")
        return build(f"{self.name}_blocks.c", libs=(*self.libs, "-lpthread", "-ldl"))

    def start(
        self,
        folder: Path,
        *words: str | Path,
        rate: int | None = 1,
        stubbed: bool = False,
        **more: str,
    ) -> Target:
        """Start it with the sampler and its layer; `more` are any variables, "" takes one away."""
        program = self.program()
        env = environment(folder, rate=rate) | self.settings(folder, stubbed=stubbed) | more
        env = {name: value for name, value in env.items() if value}
        return Target([program, *words], env)  # fmt: skip


LAYERED = {
    one.name: one
    for one in (
        Layered("opencl", ("-lOpenCL",), opencl,
                ("/usr/include/CL/cl_layer.h", "/etc/OpenCL/vendors/pocl.icd")),
        Layered("vulkan", ("-lvulkan",), vulkan,
                ("/usr/include/vulkan/vk_layer.h", str(VULKAN_DRIVER))),
    )
}  # fmt: skip
OPENCL, VULKAN = LAYERED["opencl"], LAYERED["vulkan"]


@pytest.fixture(params=LAYERED)
def layered(request: pytest.FixtureRequest) -> Layered:
    return LAYERED[request.param]


def agree(target: Target) -> DeviceCounted:
    """The profile, which must agree with the ledger now; then the target goes on."""
    ledger = read_ledger(target)
    counted = device_counted(target)
    assert counted.callers() == ledger
    assert counted.lost == {}
    target.tell("on")
    return counted


@dataclass(frozen=True)
class Case:
    """A part of a program: live bytes after each step (-1: any); APIs and domains of the first."""

    layer: str
    part: str
    live: tuple[int, ...]
    apis: set[str] | None = None
    kinds: dict[str, str] = field(default_factory=dict)
    stub: Variables | None = None


OPENCL_KINDS = {"opencl-0": "device", "opencl-pinned": "pinned", "opencl-0-managed": "managed"}
USM = {"clHostMemAllocINTEL", "clDeviceMemAllocINTEL", "clSharedMemAllocINTEL"}
NO_CALLBACKS = {"STUB_NO_CALLBACKS": "1"}
CASES = {
    "every kind of memory is counted once and freed when it is": Case(
        "opencl", "kinds", (-1, -1, 0), kinds=OPENCL_KINDS,
        apis={"clCreateBuffer", "clCreateBufferWithProperties", "clCreateImage",
              "clCreateImage2D", "clCreateImage3D", "clCreateImageWithProperties", "clSVMAlloc"}),
    "a buffer lives until the last command that needs it": Case("opencl", "pending", (1 << 20, 0)),
    "threads free each other's buffers": Case("opencl", "threads", (-1,)),
    "pointers of the extension end with their context": Case(
        "opencl", "usm", (-1, -1, 0), USM, stub={}),
    "and without callbacks": Case("opencl", "usm", (-1, -1, 0), USM, stub=NO_CALLBACKS),
    "without callbacks references are counted": Case(
        "opencl", "references", (1 << 16, 0), stub=NO_CALLBACKS),
    "refusals are counted, and a refused release is none": Case(
        "opencl", "failures", (1 << 16, 0),
        stub=NO_CALLBACKS | {"STUB_FAIL": "clCreateBuffer:2,clReleaseMemObject:1"}),
    "every way of allocating is counted and imports are not": Case(
        "vulkan", "kinds", (-1, -1, 0), {"vkAllocateMemory"}, {"vulkan-0": "device"}),
    "blocks of many devices are told apart": Case("vulkan", "devices", (-1, -1, -1)),
    "and where their handles are equal": Case("vulkan", "devices", (-1, -1, -1), stub={}),
    "threads free each other's memory": Case("vulkan", "threads", (-1,)),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_profile_and_ledger_agree(segment_dir: Path, name: str) -> None:
    case = CASES[name]
    stubbed = case.stub is not None
    start = LAYERED[case.layer].start
    with start(segment_dir, case.part, stubbed=stubbed, **(case.stub or {})) as target:
        for k, live in enumerate(case.live):
            counted = agree(target)
            assert live in {-1, counted.total().live_bytes}
            if k == 0:
                assert case.apis in (None, set(counted.apis()))
                found = {name: domain.kind for name, domain in counted.domains.items()}
                assert found == (case.kinds or found)
        target.finish()


@pytest.mark.parametrize("end", ["kill", "finish"])
def test_what_a_program_held_at_its_end_is_still_there(
    segment_dir: Path, layered: Layered, end: str
) -> None:
    with layered.start(segment_dir, "leave") as target:
        ledger = read_ledger(target)
        if end == "kill":
            target.kill()
        else:
            target.tell("on")
            target.finish()
        assert device_counted(target).callers() == ledger
        assert device_counted(target).total(f"{layered.name}-0").live_bytes >= 1 << 20


def test_what_a_driver_frees_at_the_end_of_the_process_was_left_by_the_program(
    segment_dir: Path,
) -> None:
    with OPENCL.start(segment_dir, "atexit", stubbed=True, STUB_RELEASE_AT_EXIT="1") as target:
        ledger = read_ledger(target)
        target.tell("on")
        target.finish()
        assert device_counted(target).callers() == ledger


def test_blocks_of_before_a_capture_are_not_in_it_and_free_without_a_trace(
    segment_dir: Path, layered: Layered
) -> None:
    with layered.start(segment_dir, "kinds", rate=None) as target:
        read_ledger(target)
        with Controller(target) as controller:
            number = controller.start(1)
            target.tell("on")
            read_ledger(target)
            controller.stop(number)
        assert device_counted(target).callers() == {}


def test_a_process_without_the_sampler_runs_without_the_layer(
    segment_dir: Path, layered: Layered
) -> None:
    with layered.start(segment_dir, "leave", LD_PRELOAD="") as target:
        assert read_ledger(target)
        target.tell("on")
        target.finish()
    assert segments(segment_dir) == []


def test_switched_off_the_layer_declines(segment_dir: Path, layered: Layered) -> None:
    with layered.start(segment_dir, "leave", MEM_PROFILER_DEVICE="cuda") as target:
        read_ledger(target)
        assert device_counted(target).stacks == []


def test_named_twice_the_layer_counts_once(segment_dir: Path, tmp_path: Path) -> None:
    layers = SAMPLER.with_name(device_layers.LAYERS_NAME)
    again = shutil.copy(layers, tmp_path / "again.so")
    with OPENCL.start(segment_dir, "leave", OPENCL_LAYERS=f"{again}:{layers}") as target:
        agree(target)


def test_what_the_driver_says_is_in_use_stands_beside_what_is_tracked(segment_dir: Path) -> None:
    with VULKAN.start(segment_dir, "leave", stubbed=True) as target:
        counted = agree(target)
        assert counted.by("locked", "vulkan-pinned").live_bytes == 4321
        assert counted.domains["vulkan-pinned"].kind == "pinned"
        actual = counted.domains["vulkan-0"].actual
        # Asked at most every 100 ms: after the first block, and perhaps after the second.
        assert actual.used_bytes - OWN_BYTES in {1 << 20, (1 << 20) + (1 << 16)}
        assert actual.total_bytes > actual.used_bytes


# --- the command ---------------------------------------------------------------------------------


def test_run_needs_no_variables_and_writes_a_file_for_each_domain(
    segment_dir: Path, tmp_path: Path
) -> None:
    done = command_ok(
        "run", "-c", "1", "--device", "opencl", "-o", tmp_path / "p", "--", OPENCL.program(),
        "leave", input="on\n",
    )  # fmt: skip
    found = {path.name.split(".", 3)[3]: read_profile(path) for path in tmp_path.glob("p.*.heap")}
    in_use = {name: f.total(Count.INUSE, Unit.SPACE).value for name, f in found.items()}
    assert in_use.pop("heap") > 0
    assert in_use == {"opencl-0.heap": 1 << 20, "opencl-0-managed.heap": 1 << 16}
    assert "note: device" not in done.stderr


def test_run_finds_the_layer_beside_a_library_whose_path_has_spaces(
    segment_dir: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my libraries"
    folder.mkdir()
    for name in (SAMPLER.name, *device_layers.FILES):
        shutil.copy(SAMPLER.with_name(name), folder)
    code = (
        "import mem_profiler, sys, pathlib\n"
        f"mem_profiler.library_path = lambda: pathlib.Path({str(folder / SAMPLER.name)!r})\n"
        "from mem_cli.profiler.group import main\n"
        f"sys.argv[1:] = ['run', '-c', '1', '-o', {str(tmp_path / 'p')!r}, '--',"
        f" {str(VULKAN.program())!r}, 'leave']\n"
        "main()\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path),
           "VK_ICD_FILENAMES": str(VULKAN_DRIVER)}  # fmt: skip

    run_ok([sys.executable, "-c", code], env, input="on\n")
    assert len(list(tmp_path.glob("p.*.vulkan-0.heap"))) == 1
    assert list(segment_dir.iterdir()) == [], "the links are gone, too"


def test_as_an_implicit_layer_it_needs_no_name(segment_dir: Path) -> None:
    layers = segment_dir / "vulkan" / "implicit_layer.d"
    layers.mkdir(parents=True)
    for name in device_layers.FILES:
        shutil.copy(SAMPLER.with_name(name), layers)
    implicit = {"VK_INSTANCE_LAYERS": "", "VK_ADD_LAYER_PATH": "", "MEM_PROFILER_VULKAN": "1"}
    with VULKAN.start(segment_dir, "leave", XDG_DATA_HOME=str(segment_dir), **implicit) as target:
        agree(target)
        target.finish()


# --- programs of others --------------------------------------------------------------------------

PYOPENCL = importlib.util.find_spec("pyopencl")
needs_pyopencl = pytest.mark.skipif(PYOPENCL is None, reason="pyopencl is not installed")
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


@needs_pyopencl
def test_a_python_program_on_the_loader_it_brings_along(segment_dir: Path) -> None:
    OPENCL.program()
    more = {"PYOPENCL_NO_CACHE": "1", "XDG_CACHE_HOME": str(segment_dir)}
    env = environment(segment_dir, rate=1) | OPENCL.settings(segment_dir, stubbed=False) | more
    with Target.started([sys.executable, "-c", SCRIPT], env) as target:
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


@needs_pyopencl
def test_two_loaders_in_one_process(segment_dir: Path) -> None:
    assert PYOPENCL.origin is not None
    home = Path(PYOPENCL.origin).parent
    [other] = (home / ".libs").glob("libOpenCL*")
    with OPENCL.start(segment_dir, "kinds", other, PYOPENCL_HOME=str(home)) as target:
        assert agree(target).by("through_loader").blocks == 1


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("clpeak") is None, reason="clpeak is not installed")
def test_a_benchmark_of_others_is_counted_and_unharmed(segment_dir: Path) -> None:
    more = {"MEM_PROFILER_ONLY": "clpeak", "HOME": str(segment_dir)}
    env = environment(segment_dir, rate=1) | OPENCL.settings(segment_dir, stubbed=False) | more
    run_ok(["clpeak", "--kernel-latency"], env)
    counted = only_device_counted(segment_dir)
    total = counted.total("opencl-0")
    assert total.blocks > 0
    assert total.live_blocks == 0, "clpeak releases what it made"
    assert set(counted.apis()) == {"clCreateBuffer"}


@pytest.mark.skipif(shutil.which("vulkaninfo") is None, reason="vulkan-tools is not installed")
def test_a_program_of_others_lists_the_layer_and_is_unharmed(segment_dir: Path) -> None:
    VULKAN.program()
    env = environment(segment_dir, rate=1) | VULKAN.settings(segment_dir, stubbed=False)
    done = run_ok(["vulkaninfo", "--summary"], env | {"MEM_PROFILER_ONLY": "vulkaninfo"})
    assert device_layers.VULKAN_LAYER in done.stdout
    assert "llvmpipe" in done.stdout
