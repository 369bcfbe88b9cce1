"""A program under `mem_profiler run` gets what an exec gives, and so does who started it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from controller_tools import HeapFile, command, command_environment
from sampler_run import build

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]

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
    assert end is not None
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
