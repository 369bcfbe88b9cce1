"""`mem_profiler run`, `recover`, `clean` and `ps` on real programs with the real sampler."""

import json
import mmap
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from c_build import ROOT, compile_program
from controller_tools import (
    LIBRARY,
    TIMEOUT_S,
    HeapFile,
    Stepper,
    command,
    command_environment,
    command_ok,
    refused,
    run_command,
    small_disk,
    start_command,
    wait_until,
)
from mem_parser.model import Count, Unit
from mem_parser.readers import read_profile
from mem_profiler.capture.launched import FILES_MAX
from parser_run import parse, told
from sampler_run import build, run, run_ok

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]


def heaps(folder: Path) -> list[HeapFile]:
    return [HeapFile(path) for path in sorted(folder.glob("*.heap"))]


def nothing_left(segment_dir: Path) -> bool:
    return not [name for _, _, names in os.walk(segment_dir) for name in names]


def test_a_thread_that_has_ended_keeps_its_id_and_name(tmp_path: Path) -> None:
    program = compile_program(ROOT / "tests" / "targets" / "threads.c", libs=("-lpthread",))
    command_ok("run", "-c", "1", "-o", tmp_path / "p", "--", program, "churn", "3")
    [heap] = heaps(tmp_path)
    owners = {row["tid"]: row["name"] for row in heap.lists["%thread"]}
    assert len(owners) > 3, owners
    assert 0 not in owners
    assert set(owners.values()) == {program.name[:15]}


def test_run_captures_from_start_to_exit_and_passes_the_status_on(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    done = command_ok(
        "run", "-c", "1", "-o", tmp_path / "p", "--", stepper, input="a 100 50\nc 7 60\n"
    )
    assert done.stdout == "ok\nok\nok\n"
    assert "succeeded in collecting memory data!" in done.stderr
    [heap] = heaps(tmp_path)
    assert (heap.total("alloc_blocks"), heap.total("freed_blocks")) == (107, 7)
    assert heap.header["end"] == "exited"
    assert heap.maps
    assert nothing_left(segment_dir)
    refused(7, "run", "-o", tmp_path / "p", "--", "sh", "-c", "exit 7")
    killed = run_command("run", "-o", tmp_path / "p", "--", "sh", "-c", "kill -9 $$")
    assert killed.returncode == -9
    assert "target ended by signal 9 (SIGKILL)" in killed.stderr


def test_a_plugin_that_was_opened_by_a_relative_path_keeps_its_names(tmp_path: Path) -> None:
    flags = ("-shared", "-fPIC", "-Wl,--build-id", "-DNAME=a", "-DSIZE=1000")
    shutil.copy(build("plugin.c", *flags, out="plugin_relative"), tmp_path / "plugin.so")
    words = [build("dlloop.c"), "loop", "3", "./plugin.so"]
    command_ok("run", "-c", "1", "-o", tmp_path / "p.heap", "--", *words, cwd=tmp_path)
    paths = {module.path for module in read_profile(tmp_path / "p.heap").modules}
    assert str(tmp_path / "plugin.so") in paths, paths


@pytest.mark.parametrize(
    "command",
    [
        ["timeout", "60", "STEPPER"],
        ["sh", "-c", "ls / >/dev/null; STEPPER; true"],
        ["sh", "-c", "timeout 60 env A=1 STEPPER & wait"],
        ["make", "-s", "--eval", "all:; @STEPPER"],
    ],
    ids=["timeout", "script", "several launchers", "make"],
)
def test_the_file_of_a_launcher_is_that_of_the_program_that_it_starts(
    command: list[str], stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    program = f"{stepper} < {tmp_path / 'orders'}"
    (tmp_path / "orders").write_text("a 900 50000\n")
    words = [word.replace("STEPPER", program if " " in word else str(stepper)) for word in command]
    orders = "a 900 50000\n"
    done = command_ok("run", "-c", "1", "-o", tmp_path / "x.heap", "--", *words, input=orders)
    [heap] = heaps(tmp_path)
    assert (heap.header["comm"], heap.total("alloc_blocks")) == ("stepper", 900)
    assert f"note: the profile is of stepper, which {command[0]} started" in done.stderr
    assert "-s -o stepper.svg" in done.stderr
    assert nothing_left(segment_dir)


def test_the_log_of_a_launcher_is_that_of_the_program_that_it_starts(
    stepper: Path, tmp_path: Path
) -> None:
    words = ["sh", "-c", f"ls / > /dev/null; {stepper}; true"]
    orders = "a 900 50000\n"
    command_ok("run", "--events", "-c", "1", "-o", tmp_path / "p", "--", *words, input=orders)
    [heap] = heaps(tmp_path)
    [log] = tmp_path.glob("*.memlog")
    assert log.name.startswith(f"p.{heap.header['pid']}.")


def test_a_launcher_of_nothing_says_so(tmp_path: Path) -> None:
    done = run_command("run", "-o", tmp_path / "p", "--", "sh", "-c", "true")
    assert ": sh started no program that took a sample" in done.stderr
    assert [heap.header["comm"] for heap in heaps(tmp_path)] == ["sh"]


def test_forked_workers_of_a_server_have_their_files(stepper: Path, tmp_path: Path) -> None:
    server = tmp_path / "gunicorn"
    server.symlink_to(stepper)
    done = command_ok(
        "run", "-c", "1", "-o", tmp_path / "p", "--", server, input="a 5 50\nk\nc 3 50\n"
    )
    assert len(heaps(tmp_path)) == 2
    assert "note: the profiles are of gunicorn and its worker processes" in done.stderr


def test_an_executed_child_without_a_sample_makes_no_segment(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    """The one that takes a sample has a file, and so has the program, which takes none."""
    large = f"echo 'a 300 100000000' | {stepper}"
    script = f"for i in 1 2 3; do /bin/true; done; {large}; ls /dev/null; true"
    command_ok("run", "-c", "1G", "--children", "-o", tmp_path / "p", "--", "sh", "-c", script)
    assert sorted(heap.header["comm"] for heap in heaps(tmp_path)) == ["sh", "stepper"]
    assert nothing_left(segment_dir)


def test_a_followed_fork_child_names_its_parent(stepper: Path, tmp_path: Path) -> None:
    words = ("run", "-c", "1", "--children", "-o", tmp_path / "p", "--", stepper)
    command_ok(*words, input="a 5 50\nk\nc 3 50\n")
    files = {heap.header["pid"]: heap for heap in heaps(tmp_path)}
    assert len(files) == 2
    [child] = [heap for heap in files.values() if heap.header["parent_pid"]]
    parent = files[child.header["parent_pid"]]
    assert parent.total("alloc_blocks") == 5
    assert child.total("alloc_blocks") == 3
    note = f"note: blocks from before the fork count for its parent, pid {parent.header['pid']}\n"
    for heap in files.values():
        shown = told("top", tmp_path / f"p.{heap.header['pid']}.1.heap")
        assert (note in shown) is (heap is child)


def test_a_child_s_file_says_how_it_ended_where_that_is_known(tmp_path: Path) -> None:
    (tmp_path / "ends.py").write_text(
        "import os, signal\n"
        "for how in (lambda: os.kill(os.getpid(), signal.SIGKILL), lambda: exit(3)):\n"
        "    if (pid := os.fork()) == 0:\n"
        "        kept = bytearray(1 << 20)\n"
        "        how()\n"
        "    os.waitpid(pid, 0)\n"
    )
    words = ("--children", "-o", tmp_path / "p", "--", sys.executable, tmp_path / "ends.py")
    done = command_ok("run", *words)
    *exited, killed = sorted(heap.header["end"] for heap in heaps(tmp_path))
    assert exited == ["exited", "exited"]
    assert killed in {"signal 9 SIGKILL", "target ended"}  # it may be gone before it is seen
    assert ("ended by SIGKILL" in done.stderr) is killed.startswith("signal")


@pytest.mark.parametrize("more", [(), ("--children",)])
def test_children_that_do_the_work_are_said_to_be_in_no_file(
    tmp_path: Path, more: tuple[str, ...]
) -> None:
    script = tmp_path / "work.py"
    script.write_text(
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.5: pass\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    done = command_ok("run", "-o", tmp_path / "p", *more, "--", sys.executable, script)
    assert ("and are in no file; --children captures them too" in done.stderr) is (not more)


def test_a_build_tool_s_files_are_of_what_it_runs_and_not_of_compilers(tmp_path: Path) -> None:
    source, target = tmp_path / "main.c", tmp_path / "tested"
    source.write_text("#include <stdlib.h>\nint main(void) { return malloc(900000) == NULL; }\n")
    (tmp_path / "Makefile").write_text(f"test:\n\tcc -o {target} {source}\n\t{target}\n")
    done = command_ok("run", "-c", "1", "-o", tmp_path / "p", "--", "make", "-C", tmp_path, "test")
    assert {heap.header["comm"] for heap in heaps(tmp_path)} == {"tested"}
    assert "the profile is of tested, which make started" in done.stderr


def test_a_shell_script_of_many_short_processes_leaves_no_files(
    segment_dir: Path, tmp_path: Path
) -> None:
    count = FILES_MAX + 7
    script = f"for i in $(seq {count}); do ls / > /dev/null; (true); done"
    done = command_ok("run", "-o", tmp_path / "p", "--", "sh", "-c", script)
    assert {heap.header["comm"] for heap in heaps(tmp_path)} == {"ls"}
    assert len(heaps(tmp_path)) == FILES_MAX
    assert f"also started ls ({count - FILES_MAX} processes)" in done.stderr
    assert nothing_left(segment_dir)
    environment = {**os.environ, "LD_PRELOAD": str(LIBRARY)}
    subprocess.run(["sh", "-c", script], env=environment, check=True, timeout=60)
    run_command("ps")  # dash ends by _exit, where no destructor runs: ps sweeps
    assert nothing_left(segment_dir)


def test_small_objects_of_python_are_seen_unless_told_otherwise(tmp_path: Path) -> None:
    code = "import os; print(os.environ.get('PYTHONMALLOC')); kept = [str(n) for n in range(20000)]"
    program = os.path.realpath(sys.executable)

    def capture(name: str, *options: str) -> tuple[str, str]:
        output = tmp_path / name
        words = ("--", program, "-S", "-c", code)
        done = run_command("run", *options, "-c", "1", "-o", output, *words)
        return done.stdout, done.stderr

    plain = capture("a")
    without = capture("b", "--no-pymalloc")
    kept = capture("c", "--keep-pymalloc")
    assert [printed for printed, _ in (plain, without, kept)] == ["None\n", "malloc\n", "None\n"]
    assert ["pymalloc" in errors for _, errors in (plain, without, kept)] == [False, False, True]
    assert "run it without --keep-pymalloc" in kept[1] and "PYTHONMALLOC" not in kept[1]
    opening = "small objects of Python are not in the numbers; without --keep-pymalloc they are"
    [path] = tmp_path.glob("c*.heap")
    assert parse(path).stdout.startswith(opening)
    files = heaps(tmp_path)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert [h.header["python"] for h in files] == [version] * 3
    assert [h.header["pymalloc"] for h in files] == [False, False, True]
    seen, all_of_malloc, few = (h.total("alloc_blocks") for h in files)
    assert abs(seen - all_of_malloc) < 0.01 * all_of_malloc
    assert few < 0.5 * seen
    both = refused(2, "run", "--no-pymalloc", "--keep-pymalloc", "--", program, "-c", code)
    assert "exclude each other" in both


def test_a_library_path_with_spaces_is_preloaded_all_the_same(
    stepper: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "my libraries"
    folder.mkdir()
    shutil.copy(LIBRARY, folder)
    code = (
        "import mem_profiler, sys, pathlib\n"
        f"mem_profiler.library_path = lambda: pathlib.Path({str(folder / LIBRARY.name)!r})\n"
        "from mem_cli.profiler.group import main\n"
        f"sys.argv[1:] = ['run', '-c', '1', '-o', {str(tmp_path / 'p')!r}, {str(stepper)!r}]\n"
        "main()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run_ok([sys.executable, "-c", code], environment, input="a 4 50\n")
    assert heaps(tmp_path)[0].total("alloc_blocks") == 4


def test_programs_that_the_sampler_cannot_enter_are_refused_before_they_start(
    tmp_path: Path,
) -> None:
    source = tmp_path / "s.c"
    source.write_text("int main(void) { return 0; }\n")
    static = tmp_path / "static"
    subprocess.run(["cc", "-static", str(source), "-o", str(static)], check=True, timeout=60)
    done = refused(4, "run", "-o", tmp_path / "p", "--", static)
    assert "statically linked" in done
    assert run_command("run", "-o", tmp_path / "p", "--", tmp_path / "none").returncode == 2
    missing = refused(2, "run", "-o", tmp_path / "no" / "p", "--", "true")
    assert "there is no folder" in missing


def test_a_dead_process_is_listed_recovered_and_cleaned(
    stepper: Path, segment_dir: Path, tmp_path: Path
) -> None:
    with Stepper(stepper, MEM_PROFILER_START="1") as target:
        target.tell("a 30 100")
        pid = target.pid
        assert run_command("recover", pid, "-o", tmp_path / "p").returncode == 4
    listed = run_command("ps", "--all").stdout
    assert f"mem_profiler recover {pid}" in listed
    [segment] = segment_dir.glob("mem_profiler.*/*-*-*")
    copy = tmp_path / "copy"
    shutil.copy(segment, copy)
    kept = command_ok("clean")
    assert "kept unsaved profile" in kept.stdout
    command_ok("recover", pid, "-o", tmp_path / "p")
    [heap] = heaps(tmp_path)
    assert heap.header["kind"] == "recovered"
    assert heap.total("alloc_blocks") == 30
    assert any(str(stepper) in line for line in heap.maps)
    assert nothing_left(segment_dir)
    command_ok("recover", copy, "-o", tmp_path / "q")
    assert HeapFile(next(tmp_path.glob("q.*"))).record_lines == heap.record_lines
    assert copy.exists()
    assert run_command("recover", pid, "-o", tmp_path / "p").returncode == 4
    assert run_command("recover", "--all", "-o", tmp_path / "p").stdout == "nothing to recover\n"


@pytest.mark.usefixtures("segment_dir")
def test_who_asks_for_a_service_that_was_restarted_is_told_its_new_pid(
    stepper: Path, tmp_path: Path
) -> None:
    service = Path(shutil.copy(stepper, tmp_path / f"shop{os.getpid()}"))
    with Stepper(service, MEM_PROFILER_START="1") as old:
        old.tell("a 30 100")
    with Stepper(service, MEM_PROFILER_START="1") as new:
        for words in (("snapshot", old.pid), ("-s", "1", "-p", old.pid)):
            asked = run_command(*words).stderr
            assert f"error: there is no process {old.pid}\n" in asked
            assert (
                f"  {service.name} runs as pid {new.pid} now; mem_profiler recover {old.pid} "
                in asked
            )
        assert f"{service.name} runs as pid {new.pid} now" in run_command("doctor", old.pid).stdout


def test_clean_all_removes_what_was_never_written(stepper: Path, tmp_path: Path) -> None:
    with Stepper(stepper, MEM_PROFILER_START="1") as living:
        with Stepper(stepper, MEM_PROFILER_START="1"):
            pass
        assert "removed 0 segments" in run_command("clean").stdout
        assert "removed 1 segment," in run_command("clean", "--all").stdout
        assert f"{living.pid} " in run_command("ps").stdout


@pytest.mark.parametrize("name", ["p", "p.heap"])
def test_a_killed_run_is_listed_with_the_place_of_its_files_and_written_when_asked(
    stepper: Path, segment_dir: Path, tmp_path: Path, name: str
) -> None:
    child = start_command(
        "run", "-c", "1", "-o", tmp_path / name, "--", stepper, stdin=subprocess.PIPE
    )
    assert child.stdout is not None
    child.stdin.write("a 40 100\n")
    child.stdin.flush()
    assert [child.stdout.readline() for _ in range(2)] == ["ok\n", "ok\n"]
    child.kill()
    child.communicate(timeout=TIMEOUT_S)  # closes the stepper's input too: it ends
    wait_until(lambda: "not written" in run_command("ps", "--all").stdout, "the program has ended")
    listed = run_command("recover").stdout.splitlines()
    assert listed[-1] == "unsaved: 1; mem_profiler recover --all writes all of them here"
    command = listed[1].partition("dead, not written: mem_profiler ")[2].split()
    assert command[0] == "recover" and command[2:] == ["-o", str(tmp_path / name)]
    assert os.listdir(tmp_path) == []
    command_ok(*command)
    assert heaps(tmp_path)[0].total("alloc_blocks") == 40
    assert (tmp_path / name).exists() is (name == "p.heap")
    run_command("clean")
    assert os.listdir(segment_dir) == []


def test_a_full_disk_leaves_nothing_half_written_and_the_capture_recoverable(
    stepper: Path, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "small", "4k") as small:
        (small / "filler").write_bytes(bytes(4096))
        done = refused(
            8, "run", "-c", "1", "-o", small / "p", "--", stepper, input="a 10 50\na 20 9000\n"
        )
        assert "No space left on device" in done
        assert os.listdir(small) == ["filler"]
        command_ok("recover", "--all", "-o", tmp_path / "p")
        assert heaps(tmp_path)[0].total("alloc_blocks") == 30


@pytest.mark.parametrize("size", ["64k", "256k"])
def test_no_room_for_the_capture_is_said_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: str
) -> None:
    with small_disk(tmp_path / "small", size) as small:
        monkeypatch.setenv("MEM_PROFILER_DIR", str(small))
        done = run_command("run", "-o", tmp_path / "p", "--", "/bin/echo", "still runs")
        assert (done.returncode, done.stdout) == (4, "still runs\n")
        assert f"hint:  {small} is full: make room" in done.stderr
        assert heaps(tmp_path) == []


def test_the_sampler_is_preloaded_before_what_the_user_preloads(tmp_path: Path) -> None:
    code = "import json, os; print(json.dumps(os.environ['LD_PRELOAD']))"
    theirs = str(tmp_path / "theirs.so")
    source = tmp_path / "t.c"
    source.write_text("int theirs(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", str(source), "-o", theirs], check=True, timeout=60)
    os.environ["LD_PRELOAD"] = theirs
    try:
        done = run_command("run", "-o", tmp_path / "p", "--", sys.executable, "-c", code)
    finally:
        del os.environ["LD_PRELOAD"]
    assert json.loads(done.stdout) == f"{LIBRARY}:{theirs}"


def test_sigterm_reaches_the_program_and_the_file_is_written(stepper: Path, tmp_path: Path) -> None:
    child = start_command(
        "run", "-c", "1", "-o", tmp_path / "p", "--", stepper, stdin=subprocess.PIPE
    )
    assert child.stdout.readline() == "ok\n"
    child.send_signal(signal.SIGTERM)
    child.wait(TIMEOUT_S)  # while the program's input is still open
    _, err = child.communicate(timeout=TIMEOUT_S)
    assert child.returncode == -signal.SIGTERM, err
    assert "signal 15 (SIGTERM)" in err
    assert len(heaps(tmp_path)) == 1


def test_an_environment_that_opts_out_is_said_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEM_PROFILER_DISABLE", "1")
    done = run_command("run", "-o", tmp_path / "x", "--", "/bin/echo", "it ran")
    assert (done.returncode, done.stdout) == (2, "")
    assert "MEM_PROFILER_DISABLE is set" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_child_that_cannot_be_sampled_is_a_note(segment_dir: Path, tmp_path: Path) -> None:
    script = tmp_path / "several.sh"
    script.write_text('for i in 1 2 3; do echo | "$PROGRAM" > "$PROGRAM.out" || exit 9; done\n')
    program = shutil.copy(build("own_malloc.c", "-rdynamic"), tmp_path / "own")
    done = command_ok(
        "run", "--children", "-o", tmp_path / "p", "--", "sh", script,
        variables={"PROGRAM": str(program)},
    )  # fmt: skip
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: own ended")]
    assert len(notes) == 1
    assert "error:" not in done.stderr
    assert nothing_left(segment_dir)


def test_the_peak_of_a_program_is_not_that_of_its_child(tmp_path: Path) -> None:
    text = (
        "import subprocess, sys\n"
        "subprocess.run([sys.executable, '-c', 'bytearray(300_000_000)'], check=True)"
    )
    command_ok("run", "-o", tmp_path / "p", "--", sys.executable, "-c", text)
    [heap] = heaps(tmp_path)
    assert heap.header["memory"]["peak_rss_bytes"] < 200_000_000


def test_the_peak_of_a_short_program_is_its_own_or_unknown(tmp_path: Path) -> None:
    """The kernel also counts what its process was before: a copy of the command."""
    command_ok("run", "-c", "1", "-o", tmp_path / "p", "--", build("answer.c"))
    [heap] = heaps(tmp_path)
    assert (heap.header["memory"]["peak_rss_bytes"] or 0) < 16 << 20
    text = "import os; x = b'x' * 200_000_000; os._exit(0)"
    words = command("run", "-o", tmp_path / "q", "--", sys.executable, "-c", text)
    # The mark of who starts the command says nothing of the program.
    with mmap.mmap(-1, 300_000_000, flags=mmap.MAP_PRIVATE | mmap.MAP_POPULATE):
        started = run(words, command_environment())
    assert started.returncode == 0, started.stderr
    [heap] = heaps(tmp_path)[1:]
    assert heap.header["memory"]["peak_rss_bytes"] > 200_000_000


def test_children_that_are_killed_show_their_peak(tmp_path: Path) -> None:
    text = (
        "import os, signal, time\n"
        "pid = os.fork()\n"
        "if not pid:\n"
        "    kept = bytearray(3 << 20)\n"
        "    del kept\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "os.waitpid(pid, 0)\n"
    )
    command_ok(
        "run", "-c", "1024", "--children", "-o", tmp_path / "p", "--", sys.executable, "-c", text
    )
    profiles = [read_profile(str(path)) for path in tmp_path.glob("*.heap")]
    [child] = [one for one in profiles if one.capture.parent_pid]
    assert child.default_count is Count.PEAK
    assert child.total(Count.PEAK, Unit.SPACE).value > 3 << 20
