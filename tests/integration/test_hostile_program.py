"""Programs and files that are enemies: each name through the commands, and what a reader may do."""

import errno
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import controller_tools
import hostile
from controller_tools import LIBRARY, ROOT, TIMEOUT_S
from landlock import NEEDS_LANDLOCK, NEEDS_SCOPES
from mem_cli.errors import run_command
from mem_cli.profiler.group import cli
from sampler_run import run

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]
NAMES = (
    ("::error::x\n##[a]", "  ::warning::y\x1b[31m", "f\n::debug::\u202e"),
    ("-rf $'\\\udcff\x9b'; $(x) `y`", "[b]##vso[a]b\r", "##teamcity[a]\t \x1b]0;\x07"),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("built") / "hostile"
    source = ROOT / "tests" / "targets" / "hostile.c"
    subprocess.run(
        ["cc", "-O1", "-g", "-Wall", "-Wextra", "-Werror", source, "-o", program, "-pthread"],
        check=True, timeout=60,
    )  # fmt: skip
    return program


@pytest.fixture(params=NAMES, ids=("commands", "bytes"))
def target(
    request: pytest.FixtureRequest, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[str]:
    """The command line of a hostile program, in a hostile working folder."""
    name, comm, folder = request.param
    place = tmp_path / folder
    place.mkdir()
    shutil.copy(built, place / name)
    monkeypatch.chdir(place)
    return [str(place / name), comm, name]


@pytest.fixture
def running(target: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    environment = {**os.environ, "LD_PRELOAD": str(LIBRARY)}
    with subprocess.Popen(
        target, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as child:
        assert child.stdout.readline() == b"ok\n"
        try:
            yield child
        finally:
            child.kill()


def say(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run mem_profiler; what it says is only text."""
    done = controller_tools.run_command(*arguments)
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    for text in (done.stdout.removeprefix("ok\n"), done.stderr):
        assert hostile.spoilt(text.encode()) == []
    return done


def pasted(line: str) -> list[str]:
    """The words that a shell makes of a line that is pasted into it."""
    programs = 'mem_parser() { printf \'%s\\0\' "$@"; }; mem_profiler() { mem_parser "$@"; }; '
    done = subprocess.run(
        ["bash", "-c", programs + line], capture_output=True, timeout=60, check=True
    )
    return os.fsdecode(done.stdout).split("\0")[:-1]


def test_run_and_its_next_steps(target: list[str]) -> None:
    done = say("run", "-o", "-p\n::error::", "--", *target)
    assert done.returncode == 0, done.stderr
    _, _, steps = done.stderr.partition("next:\n")
    [heap] = [name for name in os.listdir() if name.endswith(".heap")]
    words = [pasted(line) for line in steps.replace(" \\\n", " ").splitlines()]
    assert words[0] == [f"./{heap}" if heap.startswith("-") else heap]
    assert words[1][-1].count("/") == words[1][-1].startswith("./")


def test_a_capture_of_a_running_process(running: subprocess.Popen[bytes]) -> None:
    assert running.stdin is not None
    done = say("-s", "0.3", "-c", "1", "-p", running.pid)
    assert done.returncode == 0, done.stderr
    for arguments in (["start", running.pid], ["snapshot", running.pid], ["stop", running.pid]):
        assert say(*arguments).returncode == 0


def test_ps_and_doctor(running: subprocess.Popen[bytes], target: list[str]) -> None:
    listed = say("ps").stdout
    assert sum(line.split()[0] == str(running.pid) for line in listed.splitlines()) == 1
    say("doctor", running.pid)
    asked = json.loads(say("doctor", "--json", "--", *target).stdout)
    assert asked["target"]
    said = say("doctor", "--", *target).stdout
    assert pasted(said.partition("next:\n")[2])[4:] == target


def test_what_a_dead_process_left(running: subprocess.Popen[bytes]) -> None:
    assert say("start", running.pid).returncode == 0
    running.kill()
    running.wait(TIMEOUT_S)
    assert "recover" in say("ps", "--all").stdout
    say("clean")
    assert say("recover", running.pid).returncode == 0
    say("clean", "--all")


@pytest.mark.parametrize("name", hostile.FILE_NAMES)
def test_errors_about_names_are_lines(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    for arguments in (
        ["-s", name], ["-s", "1", "-o", f"{name}/x"], ["-s", "1", "-o", f"{name}/"], [name],
        ["recover", name], ["run", "--device", name, "--", "true"],
        ["run", "--budget", name, "--", "true"], ["run", "--budget", ".", "--", name],
    ):  # fmt: skip
        assert run_command(cli, "mem_profiler", arguments) not in (0, 1)
        said = capfdbinary.readouterr()
        assert hostile.spoilt(said.err + said.out) == []


def test_a_program_that_is_missing_is_a_line(tmp_path: Path) -> None:
    for name in ("::error::x", "a\n::error::x", "\x1b[31m"):
        assert say("run", "--", str(tmp_path / name)).returncode == 2
        assert say("doctor", "--", str(tmp_path / name)).returncode != 0


NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")

HOSTILE = """
import json, os, socket, subprocess, sys
from pathlib import Path
from mem_cli import entry

OTHER, OPENED = Path(os.environ["OTHER"]), os.environ["OPENED"]
loaded = entry.importlib.import_module

def attempts(confine, syscalls):
    column = os.uname().machine != "x86_64"
    return {
        "make": lambda: (OTHER / "made").write_text("x"),
        "change": lambda: (OTHER / "own").write_text("x"),
        "remove": lambda: (OTHER / "own").unlink(),
        "cut": lambda: os.truncate(OTHER / "own", 0),
        "mode": lambda: os.chmod(OTHER / "own", 0o4755),
        "mode of a file opened to read": lambda: os.fchmod(opened, 0o666),
        "owner": lambda: os.chown(OTHER / "own", 1, 1),
        "helper": lambda: subprocess.run(
            ["/bin/sh", "-c", 'echo x > "$OTHER/made"'], check=True, stderr=subprocess.DEVNULL
        ),
        "trace": lambda: syscalls.call(confine._REFUSED["ptrace"][column]),
        "mount": lambda: syscalls.call(confine._REFUSED["mount"][column]),
        "connect": lambda: socket.socket().connect(("127.0.0.1", 9)),
        "signal": lambda: os.kill(os.getppid(), 0),
        "user": lambda: os.setresuid(1, 1, 1),
    }

def tried(attempt):
    try:
        attempt()
    except OSError as error:
        return error.errno
    except subprocess.CalledProcessError:
        return "failed"
    return None

def hostile(name):
    from mem_sandbox import confine, syscalls
    found = {name: tried(work) for name, work in attempts(confine, syscalls).items()}
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/status")]
    found["rights"] = [
        line.split()[1] for text in threads for line in text.splitlines()
        if line.startswith(("CapEff", "NoNewPrivs"))
    ]
    os.write(int(OPENED), json.dumps(found).encode())
    return honest(name)

def load(name):
    global honest
    module = loaded(name)
    if name == "mem_cli.parser.group":
        from mem_parser import readers
        honest, readers._open = readers._open, hostile
    return module

opened = os.open(OTHER / "own", os.O_RDONLY)
entry.importlib.import_module = load
sys.argv[0] = "mem_parser"
entry.mem_parser()
"""
REFUSED = (
    "make", "change", "remove", "cut", "mode", "mode of a file opened to read", "owner", "helper",
    "user", "trace", "mount", "connect",
)  # fmt: skip


@NEEDS_ROOT
@NEEDS_LANDLOCK
@pytest.mark.parametrize(
    "words",
    [("-t", "-f"), ("-t",), (), ("top",)],
    ids=["everyday", "everyday-words", "file", "command"],
)
def test_a_file_that_takes_its_reader_over_gains_the_output_alone(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    found, error = told_by_hostile(tmp_path, words)
    outcome = {name: found[name] for name in REFUSED}
    assert all(code in {errno.EACCES, errno.EPERM, "failed"} for code in outcome.values()), outcome
    assert [(p.name, p.read_text()) for p in (tmp_path / "other").iterdir()] == [("own", "text")]
    # Of every thread: a second one could be made to do what the first may not.
    assert found["rights"] == [f"{0xF:016x}", "1"]
    assert not error
    assert "4.883 KiB" in (tmp_path / "out" / "out.txt").read_text()


@NEEDS_ROOT
@NEEDS_LANDLOCK
@NEEDS_SCOPES
def test_a_file_that_takes_its_reader_over_reaches_no_process(tmp_path: Path) -> None:
    found, _ = told_by_hostile(tmp_path, ("top",))
    assert found["signal"] in {errno.EACCES, errno.EPERM}


def told_by_hostile(tmp_path: Path, words: tuple[str, ...]) -> tuple[dict[str, object], str]:
    """What each attempt was refused with (None: it was not), and the error of the command."""
    other, out = tmp_path / "other", tmp_path / "out"
    other.mkdir()
    out.mkdir()
    (other / "own").write_text("text")
    profile = tmp_path / "x.folded"
    profile.write_text("main;f 5000\n")
    told, tell = os.pipe()
    try:
        done = run(
            [sys.executable, "-c", HOSTILE, *words, str(profile), "-o", str(out / "out.txt")],
            {**os.environ, "OTHER": str(other), "OPENED": str(tell)}, pass_fds=(tell,),
        )  # fmt: skip
    finally:
        os.close(tell)
    with open(told, "rb") as file:
        found: dict[str, object] = json.loads(file.read() or b"{}")
    return found, done.stderr if done.returncode else ""
