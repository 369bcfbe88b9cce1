"""A Python program collects from itself: `import mem_profiler.memscope as msmemscope`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import LIBRARY, command_environment, run_command
from memscope_run import Dump, attribute, dumps, mstx_library, until
from stub_driver import Ascend

SEGMENT = pytest.mark.usefixtures("segment_dir", "quick_helper")
HEAD = """
import ctypes, os, sys, warnings
acl, out = ctypes.CDLL(sys.argv[1]), sys.argv[2]
import mem_profiler.memscope as msmemscope

def malloc(size):
    block = ctypes.c_void_p()
    assert acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(size), 0) == 0
    return block

def free(block):
    assert acl.aclrtFree(block) == 0

acl.aclrtSetDevice(0)
"""


def size_of(asked: int) -> int:
    """What the stub's ACL asks its driver for."""
    return (asked + 63) // 32 * 32


def run(
    tmp_path: Path, body: str, *, prefix: tuple[object, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    return run_script(tmp_path, HEAD + body, Ascend.build().acl, prefix=prefix, **variables)


def run_script(
    tmp_path: Path, text: str, *libraries: Path, prefix: tuple[object, ...] = (), **variables: str
) -> subprocess.CompletedProcess[str]:
    script = tmp_path / "script.py"
    script.write_text(text)
    words = [sys.executable, script, *libraries, tmp_path / "out"]
    if prefix:
        return run_command(*prefix, *words, cwd=tmp_path, variables=variables)
    return subprocess.run(
        [str(word) for word in words], env=command_environment() | variables, cwd=tmp_path,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def the_dump(tmp_path: Path, form: str = "csv") -> Dump:
    [dump] = dumps(tmp_path / "out", form=form)
    return dump


def words(dump: Dump) -> list[tuple[str, str, int | str]]:
    """Event, type, and size or name of each row."""
    return [
        (
            r["Event"],
            r["Event Type"],
            int(attribute(r, "size")) if attribute(r, "size") else r["Name"],
        )
        for r in dump.rows
    ]


WINDOWS = """
before = malloc(1000)
msmemscope.config(output_path=out, format="{form}", call_stack="python:2")
msmemscope.start()
first = malloc(2000)
msmemscope.step()
free(first)
msmemscope.stop()
between = malloc(3000)
gone = malloc(3500); free(gone)
msmemscope.start()
msmemscope.step()
last = malloc(4000)
msmemscope.stop()
after = malloc(5000)
print("end")
"""


KERNELS = """
def function(name):
    handle = ctypes.c_void_p()
    assert acl.aclrtBinaryGetFunction(None, name, ctypes.byref(handle)) == 0
    return handle

def launch(handle, stream):
    assert acl.aclrtLaunchKernel(handle, 8, None, ctypes.c_size_t(0), ctypes.c_void_p(stream)) == 0

early, block = function(b"early"), malloc(1000)
msmemscope.config(output_path=out, level="kernel")
launch(early, 1)
msmemscope.start()
launch(early, 1)
launch(function(b"late"), 2)
msmemscope.stop()
launch(early, 1)
"""


@SEGMENT
@pytest.mark.parametrize("way", ["alone", "preloaded"])
def test_kernels_of_a_window_have_the_names_that_they_had_before(tmp_path: Path, way: str) -> None:
    preload = {"LD_PRELOAD": str(LIBRARY)} if way == "preloaded" else {}
    done = run(tmp_path, KERNELS, **preload)
    assert done.returncode == 0, done.stderr
    rows = the_dump(tmp_path).of("KERNEL_LAUNCH")
    found = [(row["Name"], attribute(row, "streamId"), attribute(row, "taskId")) for row in rows]
    assert found == [("early", "1", "1"), ("late", "2", "0")]


@SEGMENT
@pytest.mark.parametrize(("form", "way"), [("csv", "alone"), ("db", "preloaded")])
def test_windows_and_steps_of_a_process_that_captures_itself(
    tmp_path: Path, form: str, way: str
) -> None:
    preload = {"LD_PRELOAD": str(LIBRARY)} if way == "preloaded" else {}
    done = run(tmp_path, WINDOWS.format(form=form), **preload)
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr

    dump = the_dump(tmp_path, form)
    a, b, c = size_of(2000), size_of(3000), size_of(4000)
    assert words(dump) == [
        ("SYSTEM", "START_TRACE", "N/A"), ("MALLOC", "HAL", a), ("SYSTEM", "STEP", "1"),
        ("FREE", "HAL", a), ("SYSTEM", "STOP_TRACE", "N/A"), ("SYSTEM", "START_TRACE", "N/A"),
        ("MALLOC", "HAL", b), ("SYSTEM", "STEP", "2"), ("MALLOC", "HAL", c),
        ("SYSTEM", "STOP_TRACE", "N/A"), ("FREE", "HAL", b), ("FREE", "HAL", c),
    ]  # fmt: skip
    shadows = [attribute(row, "shadow") for row in dump.of("MALLOC", "FREE")]
    assert shadows == ["", "", "true", "", "true", "true"]
    stack = dump.of("MALLOC")[0]["Call Stack(Python)"].split("\n")
    assert stack == [f"{tmp_path}/script.py(8): malloc", f"{tmp_path}/script.py(19): <module>"]
    [config] = (tmp_path / "out").glob("*/config.json")
    assert json.loads(config.read_text())["python_depth"] == 2


COMMANDED = """
first = malloc(2000)
msmemscope.start()
second = malloc(3000)
msmemscope.config(call_stack="python:1")
third = malloc(4000)
msmemscope.stop()
fourth = malloc(5000)
"""


@SEGMENT
@pytest.mark.parametrize("mode", ["deferred", "immediate"])
def test_windows_below_the_command(tmp_path: Path, mode: str) -> None:
    prefix = ("memscope", "-o", tmp_path / "out", "--collect-mode", mode, "--")
    done = run(tmp_path, COMMANDED, prefix=prefix)
    assert done.returncode == 0, done.stderr

    dump = the_dump(tmp_path)
    first, second, third = map(size_of, (2000, 3000, 4000))
    story = [("MALLOC", second), ("MALLOC", third)]
    shadows = [("MALLOC", first)]
    if mode == "immediate":
        story, shadows = [("MALLOC", first), *story], []
    assert [(event, size) for event, _, size in dump.story()] == story
    assert dump.shadows()[:1] == shadows or mode == "immediate"
    texts = [row["Call Stack(Python)"] for row in dump.of("MALLOC")]
    assert texts[:-1] == [""] * (len(texts) - 1)
    assert texts[-1].endswith("malloc")


OWNERS = """
from mem_profiler.memscope import describe
msmemscope.config(output_path=out, format="{form}")
with describe.describer(owner="early"):
    msmemscope.start()
    first = malloc(1000)
second = malloc(2000)
with describe.describer(owner="outer"), describe.describer(owner="inner"):
    third = malloc(3000)

@describe.describer(owner="of a function")
def work():
    return malloc(4000)

fourth = work()
describe.describer(second.value + 100, owner="late@,x:1")
describe.describer(third.value, owner="late")
describe.describer(third.value, owner="too many")
for wrong in (lambda: describe.describer(owner=3), lambda: describe.describer(owner=" "),
              lambda: describe.describer("text", owner="a")):
    try:
        wrong()
    except (TypeError, ValueError):
        continue
    raise AssertionError
with msmemscope.TakeSnapshot(3, "round"):
    msmemscope.take_snapshot(device_mask=[0, 1])
@msmemscope.TakeSnapshot(name="whole")
def snapped():
    return 7
assert snapped() == 7
"""


@SEGMENT
@pytest.mark.parametrize("form", ["csv", "db"])
def test_owners_and_snapshots(tmp_path: Path, form: str) -> None:
    done = run(tmp_path, OWNERS.format(form=form))
    assert done.returncode == 0, done.stderr

    dump = the_dump(tmp_path, form)
    owners = [attribute(row, "owner") for row in dump.of("MALLOC")]
    assert owners[0] == "CANN@early"
    assert owners[1].startswith("CANN@late ")
    assert owners[2:] == ["CANN@outer@inner@late", "CANN@of a function"]
    names = [row["Name"] for row in dump.of("SNAPSHOT")]
    assert names == ["Memory Snapshot", "whole Start", "whole End"]
    [first], [third] = (dumps(tmp_path / "out", device, form) for device in "13")
    assert [r["Name"] for r in first.of("SNAPSHOT")] == names
    assert [r["Name"] for r in third.of("SNAPSHOT")] == ["round Start", "round End", *names[1:]]


WRONG = """
import mem_parser.errors
def refused(error, text, call):
    try:
        call()
    except error as found:
        assert text in str(found), str(found)
        return
    raise AssertionError(text)

Problem = mem_parser.errors.UsageProblem
refused(Problem, "config() has no colour", lambda: msmemscope.config(colour="red"))
refused(Problem, "config() has no steps", lambda: msmemscope.config(steps="1"))
refused(Problem, "events: its value is a text", lambda: msmemscope.config(events=["alloc"]))
refused(Problem, "device: 'npu:99'", lambda: msmemscope.config(device="npu:99"))
refused(Exception, "no collection runs", msmemscope.step)
refused(TypeError, "device_mask", lambda: msmemscope.take_snapshot("0"))
refused(ValueError, "devices are 0 to 31", lambda: msmemscope.take_snapshot([40]))
msmemscope.stop()
assert msmemscope.config() is None
assert msmemscope.list_analyzers() == ["leaks", "inefficient"]
msmemscope.config(data_format="csv", output=out)
msmemscope.start()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    msmemscope.config(output=out + "2")
assert "stay as they were" in str(caught[0].message)
"""


@SEGMENT
def test_wrong_calls_are_refused_with_their_reason(tmp_path: Path) -> None:
    done = run(tmp_path, WRONG)
    assert done.returncode == 0, done.stderr


KILLED = """
msmemscope.config(output_path=out)
msmemscope.start()
first = malloc(1000)
second = malloc(2000)
free(first)
print(os.getpid(), flush=True)
os.kill(os.getpid(), 9)
"""


@SEGMENT
def test_sigkill_of_a_process_that_captures_itself_loses_no_row(tmp_path: Path) -> None:
    done = run(tmp_path, KILLED)
    assert done.returncode == -signal.SIGKILL

    def whole() -> Dump | None:
        found = dumps(tmp_path / "out")
        return found[0] if found and len(found[0].rows) == 5 else None

    dump = until(whole, "the dump is not completed")
    a, b = size_of(1000), size_of(2000)
    assert [(event, size) for event, _, size in dump.story()] == [
        ("MALLOC", a), ("MALLOC", b), ("FREE", a),
    ]  # fmt: skip


FORKED = """
msmemscope.config(output_path=out)
msmemscope.start()
first = malloc(1000)
child = os.fork()
second = malloc(2000 if child else 3000)
if not child:
    msmemscope.config(output_path=out + "/child")
    msmemscope.start()
    third = malloc(4000)
    msmemscope.stop()
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
"""


@SEGMENT
def test_the_collection_is_the_parents_and_a_fork_child_may_begin_its_own(tmp_path: Path) -> None:
    done = run(tmp_path, FORKED)
    assert done.returncode == 0, done.stderr

    assert [size for _, _, size in the_dump(tmp_path).story()] == [size_of(1000), size_of(2000)]
    [child] = dumps(tmp_path / "out" / "child")
    assert [size for _, _, size in child.story()] == [size_of(4000)]


def test_the_package_needs_no_numpy_in_the_program(tmp_path: Path) -> None:
    (tmp_path / "numpy.py").write_text("raise ImportError('none here')\n")
    code = "import mem_profiler.memscope as m; m.config; m.describe.describer"
    environment = command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


LATE = """
import ctypes, sys
import mem_profiler.memscope as msmemscope

def load():
    global acl, mstx
    acl, mstx = map(ctypes.CDLL, sys.argv[1:3])
    mstx.stub_range_start.restype = ctypes.c_uint32

if "{order}" == "before":
    load()
msmemscope.config(output_path=sys.argv[3])
msmemscope.start()
if "{order}" == "after":
    load()
block = ctypes.c_void_p()
for _ in range(2):
    one = mstx.stub_range_start(b"step start")
    mstx.stub_mark(b"begun")
    assert acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(1000), 0) == 0
    assert acl.aclrtFree(block) == 0
    mstx.stub_range_end(one)
msmemscope.stop()
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_process_that_captures_itself_has_marks_and_libraries_that_come_later(
    tmp_path: Path, order: str
) -> None:
    done = run_script(tmp_path, LATE.format(order=order), Ascend.build().acl, mstx_library())
    assert done.returncode == 0, done.stderr
    step = [
        ("MSTX", "Range_start", "step start"), ("MSTX", "Mark", "begun"),
        ("MALLOC", "HAL", size_of(1000)), ("FREE", "HAL", size_of(1000)),
        ("MSTX", "Range_end", "step start"),
    ]  # fmt: skip
    rows = words(the_dump(tmp_path))
    assert rows == [("SYSTEM", "START_TRACE", "N/A"), *step, *step, ("SYSTEM", "STOP_TRACE", "N/A")]


EMPTY = """
import ctypes, sys
import mem_profiler.memscope as msmemscope
{before}
msmemscope.config(output_path=sys.argv[2])
msmemscope.start()
{after}
"""
LOAD = "acl = ctypes.CDLL(sys.argv[1])"


@pytest.mark.parametrize(
    ("before", "after", "why"),
    [
        ("", "", "the process loaded no driver of a device"),
        (LOAD, "", "but the sampler saw no call of it"),
        (LOAD, "acl.aclrtSetDevice(0); acl.aclrtFree(None)", "took no memory of these devices"),
    ],
)
def test_a_capture_without_an_event_says_so_and_why(
    tmp_path: Path, before: str, after: str, why: str
) -> None:
    script = EMPTY.format(before=before, after=after)
    done = run_script(tmp_path, script, Ascend.build().acl)
    assert done.returncode == 0, done.stderr
    [line] = done.stdout.splitlines()
    assert line.startswith("warning: there is no dump: ")
    assert why in line
