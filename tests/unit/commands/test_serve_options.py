"""The options of `mem_profiler serve`, before anything listens."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from mem_cli.errors import run_command
from mem_cli.profiler.group import cli
from mem_parser.tables.extras import pip_line


def serve(*words: str) -> int:
    return run_command(cli, "mem_profiler", ["serve", *words])


@pytest.mark.parametrize(("words", "said"), [
    (["--listen", "127.0.0.1:1", "--socket", "x"], "exclude each other"),
    (["--public"], "are for --listen"),
    (["--token-file", "x"], "are for --listen"),
    (["--listen", "example.com:1"], "not an IP address and a port"),
    (["--listen", "192.0.2.1:1"], "can be reached from other machines"),
    (["--top", "51"], "0<=x<=50"),
    (["--socket", "/tmp/" + "x" * 120], "at most 107 bytes"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve(*words) == 2
    assert said in capsys.readouterr().err


def test_a_missing_library_is_one_line_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = importlib.util.find_spec

    def without(name: str, *more: Any) -> Any:
        return None if name == "uvicorn" else found(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    assert serve() == 1
    said = capsys.readouterr().err.splitlines()
    assert said == [
        "error: uvicorn: not installed",
        f"hint:  {pip_line('serve', 'prometheus-client', 'starlette', 'uvicorn')}",
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "mode", "said"), [
    ("too short", 0o600, "16 to 1024"),
    ("long enough, and two\nlines of it", 0o600, "16 to 1024"),
    ("x" * 2000, 0o600, "16 to 1024"),
    ("a token of \N{POUND SIGN}16 and more", 0o600, "16 to 1024"),
    ("a-token-of-16-and-more", 0o644, "others can read it"),
])  # fmt: skip
def test_a_token_file_that_is_none_is_refused(
    tmp_path: Path, text: str, mode: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "token"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    assert serve("--listen", "127.0.0.1:0", "--token-file", str(file)) == 2
    assert said in capsys.readouterr().err


def test_a_token_file_that_is_not_there_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert serve("--listen", ":0", "--token-file", str(tmp_path / "none")) == 2
    assert "No such file" in capsys.readouterr().err
    assert serve("--listen", ":0", "--token-file", str(tmp_path)) == 2
    assert "is a folder" in capsys.readouterr().err
