"""`mem_parser` that root runs: what a file may make its reader do."""

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from landlock import NEEDS_LANDLOCK, NEEDS_SCOPES
from sampler_run import run

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")
pytestmark = [NEEDS_ROOT, NEEDS_LANDLOCK]

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
