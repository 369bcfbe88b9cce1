"""A user calls mem_profiler by sudo from a virtual environment, captures, and goes on as that user.

A script stands in for sudo: it does what sudo does with the environment, and starts the command.
The virtual environment is one that another user can reach, with the packages of ours.
"""

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from c_build import ROOT
from controller_tools import TIMEOUT_S, Stepper, build_stepper, run_command
from sampler_run import run

USER = 65534
SECURE = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SUDO = f"""#!/bin/sh
# The variables that a default sudoers lets through, and those that sudo sets.
exec env -i PATH={SECURE} HOME=/root SUDO_UID={USER} SUDO_GID={USER} SUDO_USER=nobody "$@"
"""
AS_USER = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups")
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a stand-in for sudo works for root only")


def call_line(
    line: str, folder: Path, shell: dict[str, str], *before: str
) -> subprocess.CompletedProcess[str]:
    """Run a line as a shell does, bounded."""
    return subprocess.run(
        [*before, "sh", "-c", line],
        cwd=folder, env=shell, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip


def open_to_all(path: Path) -> Path:
    """Let everybody through the folders of pytest above a path."""
    for above in path.parents:
        if "pytest-" in str(above):
            above.chmod(above.stat().st_mode | stat.S_IXGRP | stat.S_IXOTH)
    return path


def usable_python() -> str:
    """A Python of our version that the user may run; skips where there is none."""
    script = "import sys; print(sys.version_info[:2])"
    for program in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        done = run([*AS_USER, "sh", "-c", f"{program} -c '{script}'"])
        if done.stdout.strip() == str(sys.version_info[:2]):
            return program
    pytest.skip("no Python of this version that another user may run")


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands in a virtual environment."""
    venv = open_to_all(tmp_path_factory.mktemp("sudo") / "venv")
    subprocess.run(
        [usable_python(), "-m", "venv", "--without-pip", venv], check=True, timeout=TIMEOUT_S
    )
    [packages] = venv.glob("lib/python*/site-packages")
    ours = sysconfig.get_path("purelib")
    (packages / "ours.pth").write_text(f"import site; site.addsitedir({ours!r})\n")
    for name in ("mem_profiler", "mem_parser"):
        script = venv / "bin" / name
        call = f"import sys\nfrom mem_cli.entry import {name}\nsys.exit({name}())\n"
        script.write_text(f"#!{venv}/bin/python\n{call}")
        script.chmod(0o755)
    done = call_line(f"{venv}/bin/mem_profiler --version", venv, {"PATH": SECURE}, *AS_USER)
    if done.returncode:
        pytest.skip(f"another user cannot reach the packages: {done.stderr[-200:]}")
    return venv / "bin"


@pytest.fixture
def shell(commands: Path, tmp_path: Path) -> dict[str, str]:
    """The variables of a shell in which the virtual environment is active."""
    if shutil.which("mem_profiler", path=SECURE):
        pytest.skip("mem_profiler is installed for everybody: sudo finds it by name")
    tools = open_to_all(tmp_path / "tools")
    tools.mkdir()
    (tools / "sudo").write_text(SUDO)
    (tools / "sudo").chmod(0o755)
    return {"PATH": f"{commands}:{tools}:{SECURE}", "HOME": "/nonexistent"}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder of the user, whom all folders above let through."""
    folder = tmp_path / "home"
    folder.mkdir()
    os.chown(folder, USER, USER)
    return open_to_all(folder)


def readme_lines() -> list[str]:
    """The lines by which the README captures a process with sudo."""
    lines = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.startswith("    sudo ")
            and "mem_profiler" in line and " -p PID" in line]  # fmt: skip


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that is captured, which everybody may read."""
    return open_to_all(build_stepper(tmp_path_factory.mktemp("stepper")))


@pytest.fixture
def target(stepper: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    monkeypatch.delenv("MEM_PROFILER_DIR", raising=False)
    with Stepper(stepper) as running:
        yield running


def next_steps(text: str) -> list[str]:
    """The commands that are printed as next steps, each in one line."""
    commands = re.sub(r" \\\n *", " ", text.partition("next:\n")[2])
    return [line.strip() for line in commands.splitlines()]


def test_the_readmes_line_works_and_its_next_steps_work_for_the_user(
    target: Stepper, shell: dict[str, str], commands: Path, home: Path
) -> None:
    [line, *_] = readme_lines()
    line = line.replace("-s 60", "-s 0.3").replace("PID", str(target.pid))
    done = call_line(line, home, shell)
    assert done.returncode == 0, done.stdout + done.stderr
    [heap] = home.glob("*.heap")
    assert (heap.stat().st_uid, heap.stat().st_gid) == (USER, USER)
    steps = next_steps(done.stdout)
    assert len(steps) == 2
    assert all(shlex.split(step)[0] == str(commands / "mem_parser") for step in steps)
    table = call_line(steps[0], home, {**shell, "PATH": SECURE}, *AS_USER)
    assert table.returncode == 0, table.stderr
    assert "\nTotal: " in table.stdout


def test_where_the_user_may_not_write_the_next_step_is_for_root(
    target: Stepper, shell: dict[str, str], commands: Path, tmp_path: Path
) -> None:
    roots = tmp_path / "roots"
    roots.mkdir(mode=0o755)
    done = call_line(f"sudo $(command -v mem_profiler) -s 0.3 -p {target.pid}", roots, shell)
    assert done.returncode == 0, done.stdout + done.stderr
    [heap] = roots.glob("*.heap")
    assert heap.stat().st_uid == 0
    step = next_steps(done.stdout)[0]
    assert step.startswith(f"sudo {commands / 'mem_parser'} ")
    assert call_line(step, roots, shell).returncode == 0


def test_steps_that_need_the_same_rights_are_printed_with_sudo(
    target: Stepper, shell: dict[str, str], commands: Path, home: Path
) -> None:
    profiler = "sudo $(command -v mem_profiler)"
    done = call_line(f"{profiler} start {target.pid}", home, shell)
    assert done.returncode == 0, done.stderr
    step = next_steps(done.stdout)[-1]
    assert step == f"sudo {commands / 'mem_profiler'} stop {target.pid}"
    assert call_line(step, home, shell).returncode == 0
    done = call_line(f"{profiler} doctor {target.pid}", home, shell)
    assert next_steps(done.stdout)[-1].startswith(f"sudo {commands / 'mem_profiler'} -s")


def test_without_rights_the_hint_is_a_command_that_sudo_finds(
    target: Stepper, shell: dict[str, str], commands: Path, home: Path
) -> None:
    line = f"mem_profiler -s 0.3 -o 'a b' -p {target.pid}"
    done = call_line(line, home, shell, *AS_USER)
    assert done.returncode == 4, done.stdout + done.stderr
    [error, hint] = done.stderr.splitlines()
    assert error.startswith(f"error: No permission to trace pid {target.pid} ")
    assert error.endswith("its owner is root")
    command = hint.partition("; as root: ")[2]
    assert command == f"sudo {commands / 'mem_profiler'} -s 0.3 -o 'a b' -p {target.pid}"
    assert call_line(command, home, shell).returncode == 0
    assert [path.stat().st_uid for path in home.glob("a b.*.heap")] == [USER]
    done = call_line(f"mem_profiler doctor {target.pid}", home, shell, *AS_USER)
    step = next_steps(done.stdout)[-1]
    assert step == f"sudo {commands / 'mem_profiler'} doctor {target.pid}"


def test_without_sudo_names_are_enough_and_root_gets_no_advice_to_be_root(
    target: Stepper, tmp_path: Path
) -> None:
    done = run_command("-s", "0.2", "-p", target.pid, "-o", tmp_path / "p")
    assert next_steps(done.stdout)[1].startswith("mem_parser ")
    assert "sudo " not in done.stdout + done.stderr
