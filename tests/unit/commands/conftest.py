"""`mem_parser` in the process of a test, and tests that are coroutines."""

from __future__ import annotations

import asyncio
import inspect

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


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test of the live view to its end."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True
