"""How hints and next steps call a command again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mem_cli import rerun_hint
from mem_cli.errors import hint_of
from mem_parser.errors import NoSampler, PermissionDenied


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command in a folder with a space, which is the running one."""
    folder = tmp_path / "my venv"
    folder.mkdir()
    for name in ("mem_profiler", "mem_parser"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(folder / "mem_profiler"), "-s", "60", "-o", "it's"])
    monkeypatch.setenv("PATH", "/usr/bin")
    return folder / "mem_profiler"


def as_sudo(monkeypatch: pytest.MonkeyPatch, uid: str = "1000") -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("SUDO_UID", uid)
    monkeypatch.setenv("SUDO_GID", uid)


def test_missing_rights_are_answered_by_the_same_command_with_its_full_path(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    hint = hint_of(PermissionDenied("no", hint="run mem_profiler as root or as that user"))
    assert hint == (
        f"run mem_profiler as root or as that user; as root: sudo '{script}' -s 60 -o 'it'\"'\"'s'"
    )


@pytest.mark.parametrize("error", [
    PermissionDenied("ptrace_scope is 3", hint="only a reboot can change that"),
    PermissionDenied("no hint"),
    NoSampler("not a matter of rights", hint="root"),
])  # fmt: skip
def test_where_root_cannot_help_nothing_is_added(
    script: Path, monkeypatch: pytest.MonkeyPatch, error: PermissionDenied | NoSampler
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert hint_of(error) == error.hint


def test_root_is_not_told_to_be_root(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert hint_of(PermissionDenied("no", hint="run as root")) == "run as root"


def test_the_next_command_is_a_name_where_the_users_shell_finds_the_same(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.heap"
    file.touch(mode=0o644)
    assert rerun_hint.next_command("mem_parser", reads=str(file)) == "mem_parser"
    as_sudo(monkeypatch)
    full = f"'{script.parent / 'mem_parser'}'"
    assert rerun_hint.next_command("mem_parser", reads=str(file)) == full
    assert rerun_hint.next_command("mem_profiler") == f"sudo '{script}'"
    monkeypatch.setenv("PATH", str(script.parent))
    assert rerun_hint.next_command("mem_parser", reads=str(file)) == "mem_parser"
    assert rerun_hint.next_command("mem_profiler") == "sudo mem_profiler"
    as_sudo(monkeypatch, "0")
    assert rerun_hint.next_command("mem_profiler") == "mem_profiler"


def test_a_file_that_the_user_may_not_read_takes_sudo(
    script: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.heap"
    file.touch(mode=0o600)
    as_sudo(monkeypatch, str(os.stat(file).st_uid + 1))
    assert rerun_hint.next_command("mem_parser", reads=str(file)).startswith("sudo ")
    as_sudo(monkeypatch, "1000")
    assert rerun_hint.next_command("mem_parser", reads=str(tmp_path / "none")).startswith("sudo ")
