"""`live --ssh HOST` runs ssh, which runs the same command there."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller_tools import command_environment
from mem_cli.live import ssh
from mem_parser.errors import MemError, UsageProblem

BECOME = "import sys; from mem_cli.live import ssh; ssh.become(sys.argv[1], sys.argv[2:])"


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["live", "--ssh", "web1", "4711"], ["live", "4711"]),
        (["live", "--ssh=web1", "redis-server", "-c", "64K"],
         ["live", "redis-server", "-c", "64K"]),
        (["live", "4711", "--ssh"], ["live", "4711"]),
        (["live", "--", "--ssh", "x"], ["live", "--", "--ssh", "x"]),
    ],
)  # fmt: skip
def test_the_option_stays_here(words: list[str], kept: list[str]) -> None:
    assert ssh.without_option(words) == kept


@pytest.mark.parametrize("host", ["", "-oProxyCommand=touch x", "--"])
def test_a_host_is_never_an_option_of_ssh(host: str) -> None:
    with pytest.raises(UsageProblem):
        ssh.command(host, ["live"])


def fake_ssh(folder: Path, code: int = 0) -> dict[str, str]:
    """An environment with an ssh that runs the text in a shell here, as the real one does there."""
    folder.mkdir(exist_ok=True)
    program = folder / "ssh"
    program.write_text(f'#!/bin/sh\necho "$#:$1:$2:$3:$4:$5"\nsh -c "$6"\nexit {code}\n')
    program.chmod(0o755)
    there = folder / "mem_profiler"
    there.write_text('#!/bin/sh\nfor word in "$@"; do echo "[$word]"; done\n')
    there.chmod(0o755)
    return command_environment() | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}


def run(folder: Path, env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BECOME, *words],
        env=env, cwd=folder, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def test_the_words_arrive_as_they_were_and_the_exit_code_comes_back(tmp_path: Path) -> None:
    hostile = "a b;touch pwned $(touch pwned) 'x' \"y\" *"
    env = fake_ssh(tmp_path / "bin", 7)
    done = run(tmp_path, env, "user@web1", "live", "--ssh", "user@web1", hostile)
    assert done.returncode == 7, done.stderr
    assert done.stdout == f"6:-t:-a:-x:--:user@web1\n[live]\n[{hostile}]\n"
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize("end", ["exit 0", "exit 255", "kill -9 $$"])
def test_a_machine_that_leaves_the_terminal_in_any_state_types_nothing_into_the_shell(
    tmp_path: Path, end: str
) -> None:
    env = fake_ssh(tmp_path / "bin")
    (tmp_path / "bin" / "ssh").write_text(
        "#!/bin/sh\nstty raw -echo\n"
        "printf '\\033[?1049h\\033[?1003h\\033[?25l\\033[6nlies'\n"
        f"read -r answer < {tmp_path}/answered\n{end}\n"
    )
    os.mkfifo(tmp_path / "answered")
    ours, terminal = os.openpty()
    before = termios.tcgetattr(terminal)
    with subprocess.Popen(
        [sys.executable, "-c", BECOME, "web1", "live"],
        env=env, cwd=tmp_path, stdin=terminal, stdout=terminal, stderr=terminal,
    ) as running:  # fmt: skip
        shown = b""
        while not shown.endswith(b"lies"):
            shown += os.read(ours, 1000)
        os.write(ours, b"\x1b[1;1Rtouch pwned\r")
        assert select.select([terminal], [], [], 30)[0]  # it is there before ssh ends
        (tmp_path / "answered").write_text("yes\n")
        running.wait(60)
    os.set_blocking(terminal, False)
    with pytest.raises(BlockingIOError):
        os.read(terminal, 1000)
    assert termios.tcgetattr(terminal) == before
    shown = os.read(ours, 1000)
    assert shown.decode().endswith(ssh.RESET)
    assert {"exit 0": 0, "exit 255": 255, "kill -9 $$": 137}[end] == running.returncode
    os.close(ours)
    os.close(terminal)


def test_a_command_that_is_ended_ends_ssh(tmp_path: Path) -> None:
    env = fake_ssh(tmp_path / "bin")
    (tmp_path / "bin" / "ssh").write_text("#!/bin/sh\necho began\nexec sleep 60\n")
    with subprocess.Popen(
        [sys.executable, "-c", BECOME, "web1", "live"],
        env=env, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    ) as running:  # fmt: skip
        assert running.stdout is not None and running.stdout.readline()
        running.send_signal(signal.SIGTERM)
        assert running.wait(40) == 128 + signal.SIGTERM


def test_without_ssh_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MemError, match="ssh is not installed"):
        ssh.become("web1", ["live"])


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)))
def test_a_shell_reads_the_same_words(words: list[str]) -> None:
    import shlex

    text = ssh.command("web1", words)[-1]
    if text.isascii() and "$'" not in text:
        assert shlex.split(text) == ["mem_profiler", *words]
