"""What the doctor says of real processes and programs, and that it touches none of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from c_build import ROOT, compile_program, run_program
from controller_tools import LIBRARY, command_ok, run_command, wait_until
from json_outputs import checked_json
from mem_profiler.doctor import examine_process, examine_program, first_blocker, neighbours
from mem_profiler.doctor.findings import Finding
from mem_profiler.doctor.images import on_disk
from mem_profiler.process import procfs
from sampler_run import build

TARGETS = ROOT / "tests" / "targets"
CAT = "/bin/cat"


@contextmanager
def living(*arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A process that reads its standard input until the test is over."""
    process = subprocess.Popen(
        [str(a) for a in arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, **options
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=30)


def state_of(pid: int) -> str:
    return (procfs.stat_fields(pid) or ["-"])[0]


def asleep(pid: int, name: str) -> None:
    wait_until(lambda: procfs.comm(pid) == name and state_of(pid) == "S", f"{name} waits")


def of(findings: list[Finding], check: str) -> Finding:
    return next(finding for finding in findings if finding.check == check)


def source(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_json_and_exit_codes() -> None:
    with living(CAT) as process:
        asleep(process.pid, "cat")
        done = run_command("doctor", "--json", process.pid)
    answer = checked_json("doctor", done.stdout)
    assert (done.returncode, answer["ok"]) == (0, True)
    assert {"check", "status", "text", "cure"} == set(answer["findings"][0])
    done = run_command("doctor", "--json", process.pid)
    assert (done.returncode, json.loads(done.stdout)["ok"]) == (4, False)


def test_the_screen_fits_eighty_columns() -> None:
    done = command_ok("doctor", "--", sys.executable)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert done.stdout.splitlines()[-1].startswith("  mem_profiler run -c 1024 -- /")


def test_a_program_of_another_architecture_is_refused(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    image = bytearray(Path(CAT).read_bytes())
    image[18:20] = (243).to_bytes(2, "little")  # EM_RISCV
    foreign.write_bytes(image)
    foreign.chmod(0o755)
    blocker = first_blocker(examine_program((str(foreign),)))
    assert "another architecture" in blocker.text


def test_allocators_are_named_where_they_are(tmp_path: Path) -> None:
    with living(CAT) as process:
        asleep(process.pid, "cat")
        found = of(examine_process(process.pid), "allocator")
    assert (found.status, found.text) == ("ok", "allocator: libc.so.6 (glibc)")
    # A process maps the file that the name of the library links to.
    file, jemalloc = tmp_path / "libjemalloc.so.2.9.1", tmp_path / "libjemalloc.so.2"
    shutil.copy(next(Path("/usr/lib").glob("*/libjemalloc.so.2")), file)
    jemalloc.symlink_to(file)
    with living(CAT, env={**os.environ, "LD_PRELOAD": str(jemalloc)}) as process:
        asleep(process.pid, "cat")
        found = of(examine_process(process.pid), "allocator")
    assert (found.status, found.text) == ("ok", "allocator: libjemalloc.so.2 (jemalloc)")
    static = build("blocks.c", libs=("-l:libjemalloc.a", "-lstdc++", "-lm"), out="doctor_jemalloc")
    found = of(examine_program((str(static),)), "inside")
    assert found.status == "ok"
    assert "jemalloc" in found.text
    assert found.text.endswith(" functions")
    found = of(examine_program((str(build("own_malloc.c", "-rdynamic")),)), "inside")
    assert found.status == "blocker"
    assert "the sampler cannot redirect safely" in found.text


def test_an_allocator_that_a_library_brings_along_is_named_with_its_cure() -> None:
    library = build("brought.c", "-shared", "-fPIC", out="libarrow.so.9")
    program = build("brought.c", "-DPROGRAM", libs=(str(library),), out="bringing")
    found = of(examine_program((str(program),)), "hidden_allocator")
    assert found.text == f"mimalloc is linked into {library.name} under its own names"
    assert found.cure.endswith("; ARROW_DEFAULT_MEMORY_POOL=system makes it use malloc")


def test_children_that_may_do_the_work_are_named() -> None:
    with subprocess.Popen(["sh", "-c", "sleep 60 & read x"], stdin=subprocess.PIPE) as process:
        while not (found := procfs.children(process.pid)):
            assert process.poll() is None
        try:
            text = of(examine_process(process.pid), "children").text
        finally:
            os.kill(found[0], signal.SIGKILL)
            process.communicate(timeout=30)
    assert text.endswith(f"(pid {found[0]}): a capture is of this process alone")


def test_python_says_where_its_small_objects_are() -> None:
    program = "/usr/bin/python3" if Path("/usr/bin/python3").exists() else sys.executable
    preload = {"LD_PRELOAD": str(LIBRARY)}
    for variables, status, text in (
        ({"PYTHONMALLOC": "default"}, "ok", "as soon as its main thread runs Python code"),
        ({"PYTHONMALLOC": "malloc"}, "ok", "small objects come from malloc"),
        (preload, "ok", "the sampler sees small objects by hooks of its allocators"),
        (preload | {"MEM_PROFILER_PYMEM": "0"}, "warning", "does not see objects up to 512 bytes"),
    ):
        with living(program, "-c", "input()", env=os.environ | variables) as process:
            wait_until(lambda pid=process.pid: state_of(pid) == "S", "it waits")  # type: ignore[misc]
            found = of(examine_process(process.pid), "python")
            assert (found.status, text in found.text) == (status, True), found


@pytest.mark.parametrize(("link", "hides"), [("-Wl,--no-export-dynamic", True), ("-Wl,-E", False)])
def test_a_program_that_hides_its_python_has_no_python_frames(
    link: str, hides: bool, tmp_path: Path
) -> None:
    text = (
        "#include <unistd.h>\n"
        "int _PyEval_EvalFrameDefault(void) { char c; return (int)read(0, &c, 1); }\n"
        "int main(void) { return _PyEval_EvalFrameDefault(); }\n"
    )
    program = compile_program(source(tmp_path, "embeds.c", text), ("-O0", link), name="embeds")
    with living(program) as process:
        asleep(process.pid, program.name[:15])
        found = [f for f in examine_process(process.pid) if f.check == "python_frames"]
    assert [f.status for f in found] == ["warning"] * hides
    assert all("does not export its Python" in f.text for f in found)


@pytest.mark.parametrize("make", [lambda name: name, lambda name: f"{name} -u", lambda _: ""])
def test_a_script_is_judged_by_what_runs_it(tmp_path: Path, make: Callable[[str], str]) -> None:
    named = make("cat")
    script = source(tmp_path, "script", f"#!/usr/bin/env {named}\n")
    script.chmod(0o755)
    runs = shutil.which("cat") if named else "/usr/bin/env"
    assert of(examine_program((str(script),)), "script").text == f"a script of {runs}"


def test_the_doctor_of_nothing_is_a_usage_error() -> None:
    assert run_command("doctor", "--", "no-such-program").returncode == 2
    assert run_command("doctor").returncode == 2


def test_targets_survive_the_examination() -> None:
    program = compile_program(TARGETS / "mix.c", ("-O1", "-g", "-pthread"))
    before = run_program(program).returncode
    process = subprocess.Popen([str(program)], stdout=subprocess.DEVNULL)
    while process.poll() is None:
        examine_process(process.pid)
    assert process.returncode == before


def test_a_stripped_program_needs_its_own_build_with_symbols_or_its_package(tmp_path: Path) -> None:
    program = tmp_path / "own"
    subprocess.run(["strip", "-o", program, build("stepper.c")], check=True, timeout=30)
    assert of(examine_program([str(program)]), "symbols").cure == (
        "pass mem_parser -p the same build with symbols"
    )
    # A debug file where reports find it has the names, and one of another build has not.
    debug = tmp_path / "own.debug"
    for command in (
        ["objcopy", "--only-keep-debug", build("stepper.c"), debug],
        ["objcopy", f"--add-gnu-debuglink={debug}", program],
    ):
        subprocess.run(command, check=True, timeout=30)
    with living(program) as process:
        asleep(process.pid, program.name)
        for found in (examine_program([str(program)]), examine_process(process.pid)):
            known = of(found, "symbols")
            assert (known.status, known.cure) == ("ok", "")
            assert known.text == f"own: functions and lines, by its debug file {debug}"
    shutil.copy(LIBRARY, debug)
    assert f"; {debug}: its build-id differs" in of(examine_program([str(program)]), "symbols").text
    debug.unlink()
    lost = of(examine_program([str(program)]), "symbols")
    assert lost.text.endswith("; own.debug is not where reports look for it")
    if shutil.which("dpkg-query"):
        with living(CAT) as process:
            asleep(process.pid, "cat")
            cure = of(examine_process(process.pid), "symbols").cure
        assert cure == of(examine_program([CAT]), "symbols").cure
        assert cure.startswith("apt install coreutils-dbgsym  # archive d")


@pytest.mark.parametrize(
    ("path", "name"),
    [("/usr/lib/libruby-3.1.so.3.1.2", "Ruby"), ("/bin/php-fpm8.2", "PHP"), ("/x/rubyist", "")],
)
def test_what_shows_no_functions_of_its_language_is_named(path: str, name: str) -> None:
    found = neighbours.other_frames([on_disk("/lib/libc.so.6"), on_disk(path)])
    assert [one.text.split(":")[0] for one in found] == [name] * bool(name)
