"""`mem_profiler run --device`: what it sets, what it says of a backend that was never seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from controller_tools import LIBRARY, HeapFile, run_command
from mem_parser.errors import UsageProblem
from mem_profiler.capture import device_choice
from sampler_run import Target
from stub_driver import DRIVERS, Ascend

LINES = "set 0\nmalloc 0 1000\nmalloc 1 3000\nfree 0\n"


PYTHON = """
import ctypes, sys
acl = ctypes.CDLL(sys.argv[1])
block = ctypes.c_void_p()
assert acl.aclrtSetDevice(0) == 0
assert acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(123456), 0) == 0
"""


def test_a_python_program_that_opens_the_driver(segment_dir: Path, tmp_path: Path) -> None:
    done = run_command("run", "-o", tmp_path / "p", "--", "/usr/bin/python3", "-c", PYTHON,
                       Ascend.build().acl)  # fmt: skip

    assert done.returncode == 0, done.stderr
    [heap] = [HeapFile(path) for path in tmp_path.glob("p.*.hal-0.heap")]
    assert (heap.total("alloc_blocks"), heap.total("alloc_bytes")) == (1, (123456 + 63) // 32 * 32)


@pytest.mark.parametrize("asked", ["cuda", "hal,cuda"])
def test_a_backend_of_which_nothing_was_seen_is_told_with_reasons(
    segment_dir: Path, tmp_path: Path, asked: str
) -> None:
    program = Ascend.build().program(linked=True)

    done = run_command("run", "--device", asked, "-o", tmp_path / "p", "--", program, "link",
                       input=LINES)  # fmt: skip

    assert done.returncode == 0, done.stderr
    [note] = [line for line in done.stderr.splitlines() if line.startswith("note: device")]
    assert note.startswith(
        "note: device cuda: you asked for it, and the sampler saw 0 calls of it; "
    )
    assert "links the runtime and driver statically" in note


def test_a_library_that_is_loaded_and_never_called_is_told_so(
    segment_dir: Path, tmp_path: Path
) -> None:
    ascend = Ascend.build()
    program = ascend.program(linked=False)
    done = run_command("run", "--device", "hal", "-o", tmp_path / "p", "--", program, "open",
                       "local", *ascend.libraries(), input="")  # fmt: skip
    assert done.returncode == 0, done.stderr
    [note] = [line for line in done.stderr.splitlines() if line.startswith("note: device")]
    assert "the program loaded its library" in note
    assert "RTLD_DEEPBIND" in note


def test_auto_says_nothing_of_what_is_not_there(segment_dir: Path, tmp_path: Path) -> None:
    done = run_command("run", "-o", tmp_path / "p", "--", "true")
    assert done.returncode == 0, done.stderr
    assert "note: device" not in done.stderr


def test_an_unknown_backend_is_refused_with_those_there_are(tmp_path: Path) -> None:
    done = run_command("run", "--device", "gpu", "-o", tmp_path / "p", "--", "true")
    assert done.returncode == UsageProblem("").exit_code
    assert "there is no backend 'gpu'" in done.stderr
    assert "hal, cuda, hip, opencl, vulkan, ze" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_each_choice_sets_what_it_needs() -> None:
    preload = {"LD_PRELOAD": f"{LIBRARY}:/other.so /third.so"}
    hal = device_choice.environment(device_choice.parse("hal"), LIBRARY, preload)
    gate = LIBRARY.with_name(device_choice.GATE_NAME)
    assert hal == {
        "MEM_PROFILER_DEVICE": "hal",
        "LD_PRELOAD": f"{LIBRARY}:/other.so:/third.so:{gate}",
        "NVTX_INJECTION64_PATH": str(LIBRARY),
    }
    assert os.path.realpath(gate).endswith("libascend_kernel_hook.so")
    cuda = device_choice.environment(device_choice.parse("cuda"), LIBRARY, preload)
    assert cuda == {"MEM_PROFILER_DEVICE": "cuda", "NVTX_INJECTION64_PATH": str(LIBRARY)}
    taken = device_choice.environment(
        device_choice.parse("cuda"), LIBRARY, {"NVTX_INJECTION64_PATH": "/nsys.so"}
    )
    assert taken == {"MEM_PROFILER_DEVICE": "cuda"}
    none = device_choice.environment(device_choice.parse("none"), LIBRARY, preload)
    assert none == {"MEM_PROFILER_DEVICE": "none"}
    auto = device_choice.environment(device_choice.AUTO, LIBRARY, preload)
    assert auto["MEM_PROFILER_DEVICE"] == "auto"
    assert "LD_PRELOAD" not in auto
    assert auto["OPENCL_LAYERS"] == str(LIBRARY.with_name("libmem_sampler_layers.so"))
    on_ascend = preload | {"ASCEND_HOME_PATH": "/usr/local/Ascend"}
    auto = device_choice.environment(device_choice.AUTO, LIBRARY, on_ascend)
    assert auto["LD_PRELOAD"].endswith(device_choice.GATE_NAME)


SAW_CALLS = "note: device cuda: calls that the sampler saw: %d, new blocks: 0; the program took"


@pytest.mark.parametrize(
    ("asked", "way", "line", "said"),
    [
        ("cuda", "local", "alloc 1 4096", "saw 0 calls of it; the program took no memory of it"),
        ("cuda", "shared runtime", "cudafree 2", SAW_CALLS % 1),
        ("auto", "local", "alloc 1 4096", SAW_CALLS % 0),
        ("hal", "local", "alloc 1 4096", "saw 0 calls of it; the sampler did not see its library"),
        ("auto", "shared runtime", "malloc 1 4096", ""),
    ],
)
@pytest.mark.usefixtures("segment_dir")
def test_after_an_attach_a_device_without_blocks_is_told_with_the_reason(
    tmp_path: Path, asked: str, way: str, line: str, said: str
) -> None:
    """The program has the addresses of the driver's functions before."""
    driver = DRIVERS["cuda"]
    if not driver.present:
        pytest.skip(f"{driver.needs} is absent")
    argv, variables = driver.command(way, "")
    before = "malloc 2 64" if way == "shared runtime" else "context 0 0"
    with Target(argv, os.environ | variables) as app:
        assert app.ask(before) == "0"
        begun = run_command("attach", app.pid, "--device", asked, "-c", "1")
        assert begun.returncode == 0, begun.stderr
        assert app.ask(line) == "0"
        done = run_command("stop", app.pid, "-o", tmp_path / "p")
        assert done.returncode == 0, done.stderr
    notes = [note for note in done.stdout.splitlines() if note.startswith("note: device")]
    assert len(notes) == (said != ""), done.stdout
    assert all(said in note for note in notes), notes
