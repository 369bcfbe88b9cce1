"""What `mem_profiler report-bug` says, and what it never says."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from controller_tools import wait_until
from hostile import profile as profile_of_names
from mem_cli.errors import run_command
from mem_cli.profiler import report_bug
from mem_cli.profiler.group import cli
from mem_parser.heapfile.writer import write_heap
from mem_profiler.doctor import bugreport
from mem_profiler.process import procfs

SECRETS = {
    name: f"zq{name}zq" for name in ("env", "argv", "path", "function", "host", "user", "program")
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, host and user with names that nobody else has, and a profile full of such."""
    folder = tmp_path / SECRETS["path"]
    folder.mkdir()
    (folder / "x.heap").write_bytes(write_heap(profile_of_names(tuple(SECRETS.values()))))
    for name in ("USER", "LOGNAME"):
        monkeypatch.setenv(name, SECRETS["user"])
    monkeypatch.setenv("HOME", f"/home/{SECRETS['user']}")
    monkeypatch.setenv("LD_LIBRARY_PATH", f"/{SECRETS['env']}")
    monkeypatch.setattr(platform, "node", lambda: f"{SECRETS['host']}.example.org")
    monkeypatch.chdir(folder)
    return folder


def report(*words: str) -> int:
    return run_command(cli, "mem_profiler", ["report-bug", *words])


def test_a_report_has_the_facts_and_no_name_of_the_user(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy("/bin/sh", place / SECRETS["program"])
    command = [f"./{SECRETS['program']}", "-c", "read x; true", f"--{SECRETS['argv']}"]
    environment = os.environ | {"TOKEN": SECRETS["env"], "LD_PRELOAD": f"/{SECRETS['env']}.so"}
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            wait_until(lambda: procfs.comm(process.pid) == SECRETS["program"], "it runs")
            ran = f"TOKEN=4 /{SECRETS['path']}/mem_profiler run -c 4K {shlex.join(command)}"
            said = f"error: {SECRETS['function']} of {place}: No such file"
            code = report("x.heap", "-p", str(process.pid), "--ran", ran, "--said", said, "-o", "-")
        finally:
            process.kill()
    told = capfd.readouterr().out

    assert code == 0
    assert [name for name, secret in SECRETS.items() if secret in told] == []
    for line in ("variables set", "ok libc", "warning symbols", "sites ", "rss_bytes 67108864"):
        assert line in told
    assert f"ran   mem_profiler run -c 4K {bugreport.HIDDEN}\n" in told
    assert "No such file\n" in told
    assert "NoSampler" in told


def test_with_names_it_has_names_but_of_no_host_user_or_argument(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said = f"error: {SECRETS['function']} on {SECRETS['host']} of ~{SECRETS['user']}"
    ran = f"mem_profiler run -- x {SECRETS['argv']}"
    assert report("--with-names", "--said", said, "--ran", ran, "-o", "-") == 0
    told = capfd.readouterr().out

    assert f"said  error: {SECRETS['function']} on HOST of ~USER\n" in told
    assert SECRETS["argv"] not in told


def test_nothing_is_written_before_a_yes_to_what_was_shown(
    place: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert report() == 0
    shown = capfd.readouterr()
    assert "-y writes it without a question" in shown.err
    monkeypatch.setattr(report_bug, "_may_ask", lambda: True)
    monkeypatch.setattr("click.confirm", lambda text, **_: text == "Is it so?")
    assert report() == 0
    assert not Path("mem_profiler-bug.txt").exists()
    monkeypatch.setattr("click.confirm", lambda *_, **__: True)
    assert report() == 0
    assert Path("mem_profiler-bug.txt").read_text() in capfd.readouterr().out
    assert report("-y", "-o", "y.txt") == 0
    assert "[machine]\nmem-profiler " in Path("y.txt").read_text()


def test_a_broken_file_is_a_line_of_the_report(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (place / "y.heap").write_bytes(b"hello\n")
    assert report("y.heap", "-o", "-") == 0
    assert "unreadable  y.heap: not a heap profile\n" in capfd.readouterr().out
