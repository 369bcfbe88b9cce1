"""Where the options of `run` end, and which words need a Python in front."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from mem_cli.profiler import started
from mem_cli.profiler.run import run
from mem_parser.errors import UsageProblem


@pytest.mark.parametrize(("own", "program"), [
    ("", "prog -c 1 -- -m x"),
    ("-c 1024", "prog"),
    ("-c1024", "prog"),
    ("--rate=512K --children", "s.py --children"),
    ("-q -f -o out.heap", "-m json.tool x.json -q"),
    ("-qfo out.heap", "-mjson.tool"),
    ("-c 1M", "-c import_os() arg"),
    ("--follow-fork", "-cprint(1) -c 2"),
    ("", "-c pass -o x"),
    ("-q", "- 7"),
    ("--compress", "./a.out"),
    ("--plain", "./a.out"),
])  # fmt: skip
def test_the_first_word_that_is_no_option_begins_the_program(own: str, program: str) -> None:
    expected = (own.split(), program.split())
    assert started.divided(run, [*expected[0], *expected[1]]) == expected
    assert started.divided(run, [*expected[0], "--", *expected[1]]) == expected


@pytest.mark.parametrize("words", ["-z prog", "--nothing prog", "-qz prog", "-c x", "-c 1024"])
def test_words_that_begin_no_program_stay_options(words: str) -> None:
    assert started.divided(run, words.split()) == (words.split(), [])


def test_a_wrong_rate_is_no_code() -> None:
    assert started.divided(run, ["-c", "x", "--", "true"]) == (["-c", "x"], ["true"])


def _file(path: Path, text: str, mode: int = 0o644) -> str:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return str(path)


def test_what_only_python_can_start_gets_one_in_front(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    folder = tmp_path / "app"
    folder.mkdir()
    _file(folder / "__main__.py", "")
    archive = tmp_path / "app.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("__main__.py", "")
    for words in (
        [_file(tmp_path / "s.py", "x = 1\n"), "-q"],
        [_file(tmp_path / "x.py", "x = 1\n", 0o755)],
        [_file(tmp_path / "tool", "#!/usr/bin/env python3\n"), "a"],
        [str(folder)],
        [str(archive)],
        ["-m", "module", "-c", "1"],
        ["-mmodule"],
        ["-c", "print(1)"],
        ["-"],
    ):
        assert started.command_line(words) == [sys.executable, *words], words


def test_what_starts_by_itself_starts_as_it_did(tmp_path: Path) -> None:
    for words in (
        [_file(tmp_path / "x.py", "#!/usr/bin/python3\n", 0o755), "a"],
        [_file(tmp_path / "tool", "#!/bin/sh\n", 0o755)],
        [_file(tmp_path / "text", "echo\n", 0o755)],
        [_file(tmp_path / "notes", "no program\n")],
        ["true", "-m"],
        [str(tmp_path / "nothing.py")],
    ):
        assert started.command_line(words) == words


@pytest.mark.parametrize("word", ["-m", "-c"])
def test_a_word_without_what_it_needs_is_one_line(word: str) -> None:
    with pytest.raises(UsageProblem, match=f"{word} needs"):
        started.command_line([word])


def test_an_activated_environment_has_the_python_of_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path))
    assert started.interpreter() == sys.executable  # it has none
    (tmp_path / "bin").mkdir()
    os.symlink(sys.executable, tmp_path / "bin" / "python")
    assert started.interpreter() == str(tmp_path / "bin" / "python")
    monkeypatch.setattr(sys, "orig_argv", [sys.executable, "-m", "mem_profiler", "run"])
    assert started.interpreter() == sys.executable
