"""Small objects of an interpreter that already runs: its own main thread puts the hooks in."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from attach_run import Unprepared
from controller_tools import HeapFile, command_ok, wait_until
from mem_profiler import attach as attaching
from mem_profiler.capture import gate
from mem_profiler.process import procfs
from pythons import any_interpreter, blocks_library, interpreter, of_versions, system_interpreter
from sampler_run import Controller, Counts

pytestmark = pytest.mark.usefixtures("sampler")

# Runs a line of code for each line it gets; between lines its main thread waits in read(2).
LOOP = """
import ctypes, sys, time
library = ctypes.PyDLL(sys.argv[1])
library.leads_to.restype = ctypes.c_void_p
def call(name, *numbers):
    function = getattr(library, name)
    function.restype = None
    function(*map(ctypes.c_size_t, numbers))
print('ready', flush=True)
for line in sys.stdin:
    print(eval(line), flush=True)
"""
WAIT_S = 60.0
NO_CODE = "CPython's allocators still call the sampler, which forwards"


@contextmanager
def running(python: Path, folder: Path) -> Iterator[Unprepared]:
    with Unprepared.started([python, "-S", "-u", "-c", LOOP, blocks_library()], folder) as target:
        yield target


def leads_to_sampler(target: Unprepared, domain: int) -> bool:
    """Whether a table of the target leads into the sampler. The target runs code meanwhile."""
    address = int(target.ask(f"library.leads_to({domain})"))
    [path] = [m.path for m in procfs.maps(target.pid) if m.start <= address < m.end]
    return "mem_sampler" in path


def await_hooked(controller: Controller) -> None:
    control = controller.segment.control
    wait_until(lambda: control().number("pymem_ns") != 0, "the hooks are there")


def await_unhooked(target: Unprepared, *domains: int) -> None:
    wait_until(lambda: not any(leads_to_sampler(target, d) for d in domains), "the hooks are gone")


def run_code_until_hooked(target: Unprepared, controller: Controller) -> None:
    give_up = time.monotonic() + WAIT_S
    while controller.segment.control().number("pymem_ns") == 0:
        assert time.monotonic() < give_up
        target.ask("sum(range(1000))")


@pytest.mark.parametrize("version", of_versions(ends=True))
def test_a_running_interpreter_gets_the_hooks_and_loses_them(
    version: str, segment_dir: Path
) -> None:
    with running(interpreter(version), segment_dir) as target:
        target.ask("call('object_malloc_blocks', 500, 64, 500)")
        for _ in range(2):
            attaching.attach(target.pid)
            with Controller(target) as controller:
                run_code_until_hooked(target, controller)
                assert [leads_to_sampler(target, domain) for domain in range(3)] == [
                    False, True, True,
                ]  # fmt: skip
                number = controller.start(1)
                target.ask("call('drop_all')")
                for domain in ("raw", "mem", "object"):
                    target.ask(f"call('{domain}_malloc_blocks', 10, 100, 3)")
                    target.ask(f"call('{domain}_calloc_blocks', 10, 600, 2)")
                target.ask("call('object_growing_blocks', 50)")
                counted = controller.stop(number)
                gate.mark_written(controller.segment, number)
            for domain in ("raw", "mem", "object"):
                assert counted.under(f"{domain}_malloc_blocks") == Counts(10, 1000, 3, 300), domain
                assert counted.under(f"{domain}_calloc_blocks") == Counts(10, 6000, 2, 1200), domain
            assert counted.under("object_growing_blocks") == Counts(150, 50 * 2150, 0, 0)
            answer = attaching.detach(target.pid)
            assert answer.text == "" or NO_CODE in answer.text
            await_unhooked(target, 1, 2)
            target.ask("call('object_malloc_blocks', 500, 64, 500)")
        target.finish()


def test_a_main_thread_that_waits_gets_no_hooks_and_nobody_waits_for_it(segment_dir: Path) -> None:
    with running(any_interpreter(), segment_dir) as target:
        attaching.attach(target.pid)
        with Controller(target) as controller:
            number = controller.start(1)
            assert controller.stop(number).control.number("pymem_ns") == 0
        # The interpreter is asked to take away what never came, and finds nothing to do.
        assert attaching.detach(target.pid).text == ""
        assert target.ask("1 + 1") == "2"
        assert [leads_to_sampler(target, domain) for domain in range(3)] == [False] * 3
        target.finish()


def test_a_detach_that_finds_the_main_thread_waiting_says_that_hooks_stay(
    segment_dir: Path,
) -> None:
    with running(any_interpreter(), segment_dir) as target:
        attaching.attach(target.pid)
        with Controller(target) as controller:
            run_code_until_hooked(target, controller)
        began = time.monotonic()
        answer = attaching.detach(target.pid)
        assert time.monotonic() - began < WAIT_S
        assert NO_CODE in answer.text
        # They forward, and go when it next runs code; another attach before that keeps them.
        attaching.attach(target.pid)
        target.ask("call('object_malloc_blocks', 10, 100, 10)")
        assert leads_to_sampler(target, 2)
        with Controller(target) as controller:
            number = controller.start(1)
            target.ask("call('drop_all')")
            target.ask("call('object_malloc_blocks', 10, 100, 4)")
            counted = controller.stop(number)
            gate.mark_written(controller.segment, number)
        assert counted.under("object_malloc_blocks") == Counts(10, 1000, 4, 400)
        attaching.detach(target.pid)
        await_unhooked(target, 2)
        target.ask("call('drop_all')")
        target.finish()


@pytest.mark.parametrize(
    ("version", "module"), [("3.12", "_xxsubinterpreters"), ("3.13", "_interpreters")]
)
def test_interpreters_with_locks_of_their_own_are_left_alone(
    version: str, module: str, segment_dir: Path
) -> None:
    with running(interpreter(version), segment_dir) as target:
        target.ask(f"globals().update(kept=__import__('{module}').create())")
        attaching.attach(target.pid)
        for _ in range(100):
            target.ask("sum(range(1000))")
        assert not leads_to_sampler(target, 2)
        with Controller(target) as controller:
            assert controller.segment.control().number("pymem_ns") == 0
        attaching.detach(target.pid)
        target.finish()


def test_the_option_leaves_a_running_interpreter_alone(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_PYMEM", "0")
    with running(any_interpreter(), segment_dir) as target:
        attaching.attach(target.pid)
        for _ in range(100):
            target.ask("sum(range(1000))")
        assert not leads_to_sampler(target, 2)
        attaching.detach(target.pid)
        target.finish()


def test_tracemalloc_that_began_before_stays_behind_the_hooks(segment_dir: Path) -> None:
    with running(any_interpreter(), segment_dir) as target:
        target.ask("__import__('tracemalloc').start()")
        attaching.attach(target.pid)
        with Controller(target) as controller:
            run_code_until_hooked(target, controller)
            number = controller.start(1)
            target.ask("call('object_malloc_blocks', 10, 77, 4)")
            counted = controller.stop(number)
        blocks = [s.counts for s in counted.stacks if s.names[0] == "PyObject_Malloc"
                  and "object_malloc_blocks" in s.names]  # fmt: skip
        assert sum(c.blocks for c in blocks) == 10
        attaching.detach(target.pid)
        target.ask("__import__('tracemalloc').stop()")
        target.ask("call('drop_all')")
        target.finish()


BUSY = """
import sys, threading
stop = threading.Event()
rounds = []
def work():
    while not stop.is_set():
        kept = [str(n) * (n % 40) for n in range(300)]
        kept += [bytes(n * 7) for n in range(200)]
        assert sum(map(len, kept)) == 154455
        rounds.append(1)
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
print('ready', flush=True)
def wait():
    sys.stdin.readline()
    stop.set()
reader = threading.Thread(target=wait)
reader.start()
while not stop.is_set(): stop.wait(0.001)
for thread in threads: thread.join()
print('rounds', len(rounds))
"""


@pytest.mark.parametrize("version", of_versions())
def test_many_times_in_and_out_of_an_interpreter_with_busy_threads(
    version: str, segment_dir: Path
) -> None:
    python = interpreter(version)
    with Unprepared.started([python, "-S", "-u", "-c", BUSY], segment_dir) as target:
        for _ in range(4):
            attaching.attach(target.pid)
            with Controller(target) as controller:
                number = controller.start(512)
                await_hooked(controller)
                controller.stop(number)
                gate.mark_written(controller.segment, number)
            attaching.detach(target.pid)
        target.tell("end")
        assert int(target.finish().split()[-1]) > 0


def test_a_file_says_whether_small_objects_are_in_it(segment_dir: Path, tmp_path: Path) -> None:
    def capture(name: str, pid: int) -> HeapFile:
        command_ok("-s", "0.5", "-c", "256", "-p", pid, "-o", tmp_path / name)
        return HeapFile(next(tmp_path.glob(f"{name}.*.heap")))

    python = system_interpreter().resolve()  # whose name says its version
    with running(python, segment_dir) as target:
        header = capture("waiting", target.pid).header
        assert header["pymalloc"] is True
        assert header["pymem"] is False
        assert any("its main thread ran no Python code since" in note for note in header["notes"])
        target.finish()
    with Unprepared.started([python, "-S", "-u", "-c", BUSY], segment_dir) as target:
        header = capture("busy", target.pid).header
        assert header["pymalloc"] is False
        assert header["pymem"] is True
        assert not any("no Python code since" in note for note in header["notes"])
        target.tell("end")
        target.finish()
