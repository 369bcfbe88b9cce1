"""A program under `mem_profiler run` gets what an exec gives, Python programs as `python` runs
them, and so does who started it.
"""

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import (
    HeapFile,
    Stepper,
    build_stepper,
    command,
    command_environment,
    command_ok,
    refused,
    run_command,
)
from mem_cli import errors
from mem_cli.profiler.group import cli
from mem_cli.profiler.started import interpreter
from mem_parser.readers import read_profile
from mem_parser.sizes import parse_amount
from parser_run import parse
from sampler_run import build

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]
FACTS = """
import os, sys
import beside
print(sys.argv, sys.path[0], __name__, globals().get("__file__"), globals().get("__package__"))
print(beside.__file__, sys.flags.isolated, "MEM" in os.environ)
"""
MODES = {
    "exit": "import sys; sys.exit(3)",
    "text": "import sys; sys.exit('some text')",
    "hard": "import os; os._exit(5)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "raised": "1 / 0",
    "deep": "def f(n): return f(n + 1)\ntry: f(0)\nexcept RecursionError: exit(7)",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Scripts, a module and a package, and a folder where files go."""
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "facts.py").write_text(FACTS)
    for name, text in MODES.items():
        (tmp_path / f"{name}.py").write_text(text)
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(FACTS)
    (tmp_path / "out").mkdir()
    return tmp_path


def as_python(folder: Path, *words: str, **options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=command_environment(),
        capture_output=True, text=True, timeout=60, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    "words",
    [
        ("facts.py",),
        ("facts.py", "-m", "-o", "x", "--", "-c", "2"),
        ("./facts.py", "a b"),
        ("-m", "facts", "--children"),
        ("-mpackage", "-q"),
        ("-c", FACTS, "-x", "y"),
        ("-m", "nothing"),
        *((f"{name}.py",) for name in MODES if name != "killed"),
    ],
)
def test_a_program_runs_as_python_runs_it(folder: Path, words: tuple[str, ...]) -> None:
    plain = as_python(folder, *words)
    done = run_command("run", "-q", "-o", "out/p", *words, cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (
        plain.returncode, plain.stdout, plain.stderr,
    )  # fmt: skip
    assert len(list((folder / "out").iterdir())) == 1


@pytest.mark.parametrize("words", [("facts.py", "a"), ("-mfacts",), ("-c", FACTS)])
def test_two_dashes_before_a_program_change_nothing(folder: Path, words: tuple[str, ...]) -> None:
    done = run_command("run", "-q", "-c", "1024", "-o", "out/p", "--", *words, cwd=folder)
    assert (done.returncode, done.stdout) == (0, as_python(folder, *words).stdout), done.stderr


def test_a_program_that_is_killed_has_its_file_and_status(folder: Path) -> None:
    done = run_command("run", "-q", "-o", "out/p", "killed.py", cwd=folder)
    assert done.returncode == -9
    assert "target ended by signal 9 (SIGKILL)" in done.stderr
    assert len(list((folder / "out").iterdir())) == 1


def test_a_program_on_standard_input_is_python_too(folder: Path) -> None:
    done = command_ok("run", "-q", "-o", "out/p", "-", "a", cwd=folder, input=FACTS)
    assert done.stdout == as_python(folder, "-", "a", input=FACTS).stdout


def test_a_python_of_ones_own_and_other_programs_start_as_before(folder: Path) -> None:
    done = run_command("run", "-q", "-o", "out/p", sys.executable, "-B", "exit.py", cwd=folder)
    assert (done.returncode, done.stderr) == (3, "")
    done = run_command("run", "-q", "-o", "out/p", "sh", "-c", "exit 4", cwd=folder)
    assert (done.returncode, done.stderr) == (4, "")


def test_the_commands_are_modules_too(folder: Path) -> None:
    done = as_python(folder, "-m", "mem_profiler", "run", "-q", "-o", "a.heap", "exit.py")
    assert (done.returncode, done.stderr) == (3, "")
    shown = as_python(folder, "-m", "mem_parser", "summary", "a.heap")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "\nTotal: " in shown.stdout


def test_a_name_with_the_suffix_of_a_file_is_that_file(folder: Path) -> None:
    first = run_command("run", "-q", "-o", "a.heap", "exit.py", cwd=folder)
    assert (first.returncode, first.stderr) == (3, "")
    before = (folder / "a.heap").read_bytes()
    assert read_profile(str(folder / "a.heap")).capture.from_start
    again = refused(2, "run", "-o", "a.heap", "exit.py", cwd=folder)
    assert again.splitlines() == [
        "error: -o a.heap: the file exists already",
        "hint:  -f replaces it; or give another name",
    ]
    assert (folder / "a.heap").read_bytes() == before
    command_ok("run", "-q", "-f", "-o", "a.heap", "-m", "facts", cwd=folder)
    assert (folder / "a.heap").read_bytes() != before
    other = run_command("run", "-q", "--output", "b.bin", "exit.py", cwd=folder)
    assert (other.returncode, (folder / "b.bin").exists()) == (3, True)


def test_children_have_files_beside_that_of_the_program(folder: Path) -> None:
    (folder / "fork.py").write_text(
        "import os\npid = os.fork()\nif pid:\n    os.waitpid(pid, 0)\n    print(pid)\n"
    )
    on_anyway = ("--native", "--aggregate", "--trace-python-allocators")  # options of memray
    words = ("run", "-q", *on_anyway, "--follow-fork", "-o", "a.heap", "fork.py")
    done = command_ok(*words, cwd=folder)
    names = sorted(name for name in os.listdir(folder) if name.endswith(".heap"))
    assert names == [f"a.{done.stdout.strip()}.heap", "a.heap"]


PROCESSES = """
import multiprocessing, subprocess, sys
def work(n):
    return len([bytes(1000) for _ in range(n)])
if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(1) as pool:
        pool.map(work, [1000])
    subprocess.run([sys.executable, "-c", "x = bytearray(1 << 20)"], check=True)
"""


def test_files_of_several_processes_say_which_they_are_of(folder: Path) -> None:
    (folder / "several.py").write_text(PROCESSES)
    done = run_command("run", "-o", "out/p", "several.py", cwd=folder)
    assert "its workers, which a server of multiprocessing forks, are in no" in done.stderr
    assert len(re.findall("(?m)^pid ", done.stderr)) == 0
    done = run_command("run", "--children", "-o", "out/q", "several.py", cwd=folder)
    name = os.path.basename(interpreter())
    row = r"(?m)^ *(\d+)  +(\S+(?: [KM]iB)?)  +(\S+ [KM]iB)  +[\d,]+  +0  (.*\S)  +out/q\.\1\."
    rows = re.findall(row, done.stderr)
    held = [
        max(parse_amount(size.replace(" ", "").replace("-", "0")) for size in row[1:3])
        for row in rows
    ]
    assert held == sorted(held, reverse=True) and len(rows) == 5
    assert sorted(role for *_, role in rows) == [
        f"{name} -c x = bytearray(1 << 20)",
        f"{name} several.py (the program itself)",
        "server of forks of multiprocessing",
        "tracker of resources of multiprocessing",
        "worker of multiprocessing",
    ]


@pytest.mark.parametrize(
    ("words", "again"),
    [
        (("facts.py", "a b"), "python facts.py 'a b'"),
        (("-m", "nothing"), "python -m nothing"),
        (("--", "python", "facts.py"), "python facts.py"),
        (("./manage", "serve"), "python ./manage serve"),
        (("--", "python", "good.py"), None),
        (("--", sys.executable, "facts.py"), None),
        (("exit.py",), None),
    ],
)
def test_a_module_that_is_not_found_names_the_python_and_how_to_choose_one(
    folder: Path, words: tuple[str, ...], again: str | None
) -> None:
    (folder / "beside.py").unlink()
    (folder / "good.py").write_text("")
    (folder / "manage").write_text("#!/usr/bin/env python\nimport nothing_of_that_name\n")
    (folder / "manage").chmod(0o755)
    own = os.path.dirname(sys.executable)
    variables = {"PATH": f"{own}:{os.environ['PATH']}", "VIRTUAL_ENV": os.path.dirname(own)}
    done = run_command("run", "-o", "out/p", *words, cwd=folder, variables=variables)
    told = [line for line in done.stderr.splitlines() if "mem_profiler's own Python" in line]
    if again is None:
        assert told == []
        return
    with_own = f"note: this ran with mem_profiler's own Python, {own}/python"
    assert told == [f"{with_own}; with another: mem_profiler run -- /path/to/venv/bin/{again}"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("nope.py",), "error: the program nope.py was not found"),
        (("--live", "exit.py"), "the live view needs a terminal"),
        (("--live-remote", "exit.py"), "any program that runs can be watched"),
        (("--trace-python-allocators", "--keep-pymalloc", "exit.py"), "exclude each other"),
        (("-m",), "-m needs the name of a module"),
        (("--budget", "x.toml", "-o", "a.heap", "exit.py"), "names one file"),
        (("-z", "exit.py"), "No such option '-z'"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    folder: Path,
    words: tuple[str, ...],
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert errors.run_command(cli, "mem_profiler", ["run", *words]) == 2
    said = capfd.readouterr()
    assert said.out == ""
    assert text in said.err.splitlines()[0]
    assert not list(folder.glob("*.heap"))


OURS = ("OPENCL_LAYERS", "VK_INSTANCE_LAYERS", "VK_ADD_LAYER_PATH", "NVTX_INJECTION64_PATH")
"""Variables that lead drivers to the sampler (docs/devices.md)."""
STATES = {
    "nothing": "exec",
    "signals ignored": "trap '' HUP INT QUIT TERM CHLD USR1 ALRM TSTP; exec",
    # Python ignores these two from its start on: that they were ignored before, the parent shows.
    "PIPE ignored": "trap '' PIPE; ",
    "XFSZ ignored": "trap '' XFSZ; ",
    "nohup": "exec nohup",
    "blocked signals": "exec env --block-signal=USR1,TERM",
    "settings": (
        "umask 077; ulimit -c 0; ulimit -S -n 300; ulimit -s 4096; exec 5</dev/null 7>/dev/zero; "
        "export LANG=xyz PYTHONHOME= PYTHONSTARTUP=no LC_ALL=; cd /; exec nice -n 7"
    ),
    "no limit of descriptors": "ulimit -S -n $(ulimit -H -n); exec",
    "no descriptors": "exec 0<&- 1>&- 2>&-; exec",
    "no input": "exec 0<&-; exec",
}


def ended(state: str, words: list[str], *, terminal: bool = False) -> int:
    line = f'{state} "$@"; exit $?'
    env = command_environment()
    with open(os.devnull, "r+b") as null:
        stdin: int = null.fileno()
        keeper, side = pty.openpty() if terminal else (-1, -1)
        try:
            return subprocess.run(
                ["setsid", "-c", "-w", "bash", "-c", line, "bash", *words] if terminal
                else ["bash", "-c", line, "bash", *words],
                stdin=side if terminal else stdin, stdout=null, stderr=null, env=env,
                timeout=60, check=False,
            ).returncode  # fmt: skip
        finally:
            if terminal:
                os.close(keeper)
                os.close(side)


def told(
    state: str, words: list[str], out: Path, *, terminal: bool = False
) -> tuple[int, list[str]]:
    status = ended(state, words, terminal=terminal)
    text = out.read_text().replace(out.name, "OUT")
    ours = tuple(f"variable {name}=" for name in OURS)
    return status, [line for line in text.splitlines() if not line.startswith(ours)]


@pytest.mark.parametrize("state", STATES)
def test_a_program_is_given_what_an_exec_gives(state: str, tmp_path: Path) -> None:
    program = str(build("inherits.c"))
    plain, run = tmp_path / "plain.out", tmp_path / "run.out"
    expected = told(STATES[state], [program, str(plain)], plain)
    words = command("run", "-o", str(tmp_path / "x.heap"), "--", program)
    found = told(STATES[state], [*map(str, words), str(run)], run)
    assert found == expected, set(found[1]) ^ set(expected[1])


@pytest.mark.parametrize("setting", ["unset", "export"])
def test_what_the_command_sets_for_itself_is_none_of_the_programs(
    setting: str, tmp_path: Path
) -> None:
    program = str(build("inherits.c"))
    plain, run = tmp_path / "plain.out", tmp_path / "run.out"
    state = f"export OPENBLAS_NUM_THREADS=3; {setting} OPENBLAS_NUM_THREADS; exec"
    expected = told(state, [program, str(plain)], plain)
    entry = "from mem_cli.entry import mem_profiler; mem_profiler()"
    words = [sys.executable, "-c", entry, "run", "-o", str(tmp_path / "x.heap"), "--", program]
    assert told(state, [*words, str(run)], run) == expected


@pytest.mark.parametrize("way", ["children", "events", "budget", "memscope"])
def test_other_ways_to_run_give_what_an_exec_gives(way: str, tmp_path: Path) -> None:
    """All states at once: these start programs as a plain `run` does."""
    state = f"trap '' HUP INT QUIT TERM CHLD; {STATES['settings']}"
    program = str(build("inherits.c"))
    plain, run = tmp_path / "plain.out", tmp_path / "run.out"
    limits = tmp_path / "check.toml"
    limits.write_text('[budget]\npeak = "1 GiB"\n')
    expected = told(state, [program, str(plain)], plain)
    heap = ("run", "-o", tmp_path / "x")
    words = {
        "children": command(*heap, "--children", "--", program),
        "events": command(*heap, "--events", "--", program),
        "budget": command(*heap, "--budget", limits, "--", program),
        "memscope": command("memscope", "--output", tmp_path / "dumps", "--", program),
    }[way]
    status, found = told(state, [*map(str, words), str(run)], run)
    # A program in Python is told where the collection begins (docs/memscope-torch.md).
    found = [re.sub(r"PYTHONPATH=[^:]*/atstart:?", "PYTHONPATH=", line) for line in found]
    assert (status, found) == expected, set(found) ^ set(expected[1])


def test_a_program_has_the_terminal_of_its_starter(tmp_path: Path) -> None:
    program = str(build("inherits.c"))
    plain, run = tmp_path / "plain.out", tmp_path / "run.out"
    expected = told("", [program, str(plain)], plain, terminal=True)
    assert "terminal 1" in expected[1]
    words = command("run", "-o", str(tmp_path / "x.heap"), "--", program)
    found = told("", [*map(str, words), str(run)], run, terminal=True)
    assert found == expected, set(found[1]) ^ set(expected[1])


@pytest.mark.parametrize(
    "status",
    [
        "3",
        "s9",
        "s13",
        "s40",
        *(pytest.param(s, marks=pytest.mark.soak) for s in ("s2", "s11", "s25")),
    ],
)
def test_the_end_is_that_of_the_program(status: str, tmp_path: Path) -> None:
    """Of a signal too, which a parent tells from an exit code (PIPE and XFSZ: Python ignores)."""
    program = str(build("inherits.c"))
    heap = tmp_path / "x.heap"
    words = command("run", "-o", heap, "--", program, tmp_path / "out", status)
    plain = ended("exec", [program, str(tmp_path / "out"), status])
    assert plain == (-int(status[1:]) if status[0] == "s" else int(status))
    assert ended("exec", words) == plain
    assert HeapFile(heap).header["end"].split()[:2] == (
        ["signal", str(-plain)] if plain < 0 else ["exited"]
    )


def test_a_signal_ends_the_command_whatever_its_starter_set(tmp_path: Path) -> None:
    """It is ignored and blocked as both begin; no second core dump takes the program's place."""
    program = (
        "import os, resource, signal\n"
        "resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
        "signal.signal(signal.SIGQUIT, signal.SIG_DFL)\n"
        "signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGQUIT])\n"
        "os.kill(os.getpid(), signal.SIGQUIT)\n"
    )
    state = "trap '' QUIT; ulimit -c $(ulimit -H -c); exec env --block-signal=QUIT \"$@\""
    words = command("run", "-o", "x.heap", "--", sys.executable, "-c", program)
    with subprocess.Popen(
        ["bash", "-c", state, "bash", *words], cwd=tmp_path, env=command_environment()
    ) as child:
        watched = os.pidfd_open(child.pid)
        try:
            assert select.select([watched], [], [], 60)[0]
            end = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        finally:
            os.close(watched)
            child.kill()
    assert (end.si_code, end.si_status) == (os.CLD_KILLED, signal.SIGQUIT)
    assert [path.name for path in tmp_path.iterdir()] == ["x.heap"]


def test_a_command_under_nohup_outlives_the_terminal(tmp_path: Path) -> None:
    """HUP ends neither the program nor the command, and the file is written."""
    text = (
        "import os, signal\n"
        "kept = bytearray(300_000)\n"
        "os.kill(os.getppid(), signal.SIGHUP)\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
    )
    words = command("run", "-o", str(tmp_path / "x.heap"), "--", sys.executable, "-c", text)
    assert ended("exec nohup", [*map(str, words)]) == 0
    assert (tmp_path / "x.heap").exists()


@pytest.mark.parametrize("module", ["mem_cli.profiler.group", "mem_cli.parser.group"])
def test_commands_work_where_statuses_of_children_are_dropped(module: str, tmp_path: Path) -> None:
    """SIGCHLD is ignored: `doctor` and a report start children, and wait for them."""
    heap = tmp_path / "x.heap"
    words = [*map(str, command("run", "-o", str(heap), "--", sys.executable, "-c", "pass"))]
    assert ended("exec", words) == 0
    with subprocess.Popen(["sleep", "60"]) as target:
        told = ["doctor", str(target.pid)] if "profiler" in module else ["-t", "-f", str(heap)]
        done = subprocess.run(
            [sys.executable, "-m", module, *told],
            env=command_environment(), capture_output=True, text=True, timeout=60,
            preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN),
        )  # fmt: skip
        target.kill()
    assert "No child processes" not in done.stderr
    assert done.stdout
    assert "parser" not in module or done.returncode == 0


SOURCE = """
#include <stdlib.h>
#define PLACE __attribute__((noinline, noclone))
static void *volatile lost;
PLACE void first(void) { lost = malloc(1000); __asm__ volatile(""); }
PLACE void second(void) { lost = malloc(300); first(); __asm__ volatile(""); }
PLACE void third(void) { lost = malloc(70); second(); __asm__ volatile(""); }
int main(void) {
    for (int i = 0; i < 100; i++)
        third();
    return 0;
}
"""


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.mark.parametrize(
    ("way", "name"),
    [
        ("link", "a-link-with-a-long-name"),
        ("exec", "web-server"),
        ("exec", "web-server: worker 3"),
        ("exec", "web\x1b[2J\nserver"),
        ("exec", ""),
    ],
)
def test_a_process_has_the_name_it_was_started_by(
    stepper: Path, tmp_path: Path, way: str, name: str
) -> None:
    program, prefix = stepper, ("bash", "-c", f"exec -a '{name}' \"$0\"")
    if way == "link":
        program, prefix = tmp_path / name, ()
        program.symlink_to(stepper)
    shown = {"web-server: worker 3": "web-server", "": "stepper"}.get(name)
    shown = shown or name.replace("\x1b", "\\x1b").replace("\n", "\\n")
    with_file = shown if not name else f"{shown} (file: stepper)"
    with Stepper(program, prefix=prefix) as target:
        assert run_command("start", target.pid, "-c", "1").returncode == 0
        target.tell("a 7 100")
        assert f"  {shown}  " in run_command("ps", variables={"COLUMNS": "200"}).stdout
        assert f" {with_file}, 1 thread\n" in run_command("doctor", target.pid).stdout
        done = command_ok("stop", target.pid, "-o", tmp_path / "p")
        done = run_command("-s", "0.1", "-c", "1", target.pid, "-o", tmp_path / "q")
        facts = f"pid {target.pid}, file: stepper, " if name else f"pid {target.pid}, "
        assert done.stderr.startswith(f"{shown} ({facts}"), done.stderr
    [heap] = tmp_path.glob("p*.heap")
    for words in ([heap], ["-f", heap, "-t"]):
        lines = parse(*words).stdout.splitlines()
        assert [line for line in lines if line.startswith("Program: ")] == (
            [f"Program: {with_file}"] if name else []
        )
    assert parse("flamegraph", heap, "-o", tmp_path / "x.html").returncode == 0
    page = (tmp_path / "x.html").read_text()
    assert json.dumps(f"{shown} (pid {target.pid})")[1:-1] in page


def test_a_stripped_program_has_one_row_with_the_bytes_of_its_functions(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(SOURCE)
    subprocess.run(["cc", "-O1", "-g", "-o", "plain", "p.c"], check=True, timeout=60, cwd=tmp_path)
    subprocess.run(["strip", "-s", "-o", "file", "plain"], check=True, timeout=60, cwd=tmp_path)
    (tmp_path / "service").symlink_to("file")
    for name in ("plain", "service"):
        done = command_ok("run", "-c", "1", "-o", tmp_path / f"{name}.heap", "--", tmp_path / name)
    assert done.stderr.endswith(" -s -o service.svg\n")
    record = json.loads(parse("summary", tmp_path / "plain.heap", "--json").stdout)
    own = {row["function"]: row["own"] for row in record["rows"] if row["own"]}
    assert own == {"first": 100_000, "second": 30_000, "third": 7000}

    heap = tmp_path / "service.heap"
    row = "unnamed functions of service"
    table = parse("-f", heap, "-t", "--bytes").stdout
    assert f"{137_000:>10}  100.0%  100.0% {137_000:>10}  100.0%  {row}\n" in table
    for words in ([heap], ["top", heap], ["tree", heap], ["graph", heap]):
        text = parse(*words).stdout
        assert row in text
        assert "file+0x" not in text
    hint = parse("summary", heap).stdout.partition("Functions without a name: service (")[2]
    assert hint.splitlines()[1:] == [
        "  symbols of service: -p UNSTRIPPED, the same build with symbols",
        "1 caller without own memory hidden. Use -n 0 to show all.",
    ]
    # What scripts read has the addresses, and so has who asks for them.
    raw = json.loads(parse("summary", heap, "--json").stdout)["rows"]
    assert sorted(r["own"] for r in raw if r["own"]) == sorted(own.values())
    for words in (["top", heap, "--csv"], ["-f", heap, "-t", "--start-frames"], ["leaks", heap]):
        assert "file+0x" in parse(*words).stdout
    shutil.copy(tmp_path / "plain", tmp_path / "named")
    assert row not in parse("-p", tmp_path / "named", heap).stdout
