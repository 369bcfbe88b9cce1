"""Which files the commands of `mem_parser` keep the right to change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mem_cli.commands import Output, _Path
from mem_cli.output import changed_by
from mem_cli.parser.group import cli

INPUTS = {
    "base", "binary", "budget", "debug_dir", "file", "files", "heap", "new", "parts", "source_dir",
    "suppressions", "with_files",
}  # fmt: skip
WRITTEN = {"output", "json", "junit", "sarif", "markdown", "html"}


def test_every_file_of_a_command_is_an_input_or_an_output() -> None:
    for command in (cli, *cli.every_command().values()):
        for param in command.params:
            name = param.name or ""
            if isinstance(param.type, Output):
                assert name in WRITTEN, (command.name, name)
                assert param.nargs == 1
                assert not param.multiple
            elif isinstance(param.type, _Path):
                assert name in INPUTS, (command.name, name)
            else:
                # A file of another type would be neither.
                assert name not in {*WRITTEN, *INPUTS}, (command.name, name)
                assert "FILE" not in (param.metavar or ""), (command.name, name)


def test_an_output_is_its_folder(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    os.symlink(tmp_path / "elsewhere" / "end", tmp_path / "link")
    os.mkfifo(tmp_path / "pipe")
    own = str(tmp_path)
    assert changed_by(str(tmp_path / "new")) == [own]
    assert changed_by(str(tmp_path / "there")) == [own]
    assert changed_by(str(tmp_path / "link")) == [own, str(tmp_path / "elsewhere")]
    assert changed_by(str(tmp_path / "pipe")) == [str(tmp_path / "pipe")]
    assert changed_by(str(tmp_path / "no" / "folder" / "new")) == []
    assert changed_by(str(tmp_path / "no" / "folder" / "new"), makes_folders=True) == [own]
    assert changed_by("/dev/null") == ["/dev/null"]


@pytest.mark.parametrize("path", ["-", "/dev/stdout", "/dev/fd/3", "/proc/self/fd/3"])
def test_what_is_open_already_needs_no_right(path: str) -> None:
    assert changed_by(path) == []
