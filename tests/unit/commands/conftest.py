"""`mem_parser` in the process of a test."""

from __future__ import annotations

import pytest

from mem_cli.errors import run_command
from mem_cli.parser.group import cli
from parser_run import Run


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line: its exit code, and what it printed."""

    def call(*words: object) -> tuple[int, str, str]:
        code = run_command(cli, "mem_parser", [str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
