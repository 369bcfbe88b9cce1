"""The manual pages: up to date, complete, and read by man without a complaint."""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "release"))
manpages = importlib.import_module("manpages")


@pytest.mark.parametrize("name", ["mem_parser", "mem_profiler"])
def test_a_page_is_what_the_help_texts_make(name: str) -> None:
    kept = (ROOT / "release" / "man" / f"{name}.1").read_text(encoding="utf-8")
    # In a process of its own: click keeps the help option of a command that a test ran by itself.
    made = subprocess.run(
        [sys.executable, "-c",
         f"import manpages; print(manpages.page({name!r}, manpages.COMMANDS[{name!r}]), end='')"],
        cwd=ROOT / "release", capture_output=True, encoding="utf-8", timeout=60, check=True,
        env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    ).stdout  # fmt: skip
    assert kept == made, "make man"


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
@pytest.mark.parametrize("name", ["mem_parser", "mem_profiler"])
def test_a_page_shows_every_option_and_nothing_in_it_is_a_mistake(name: str) -> None:
    page = manpages.page(name, manpages.COMMANDS[name])
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-Kutf-8", "-rLL=100n", "-P-cbou"],
        input=page, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stderr == ""
    shown = done.stdout.replace("\u2010", "-")
    group = manpages.COMMANDS[name]
    for title, command in [("", group), *group.every_command().items()]:
        assert f"{name} {title}".strip() in shown
        for param in command.params:
            if isinstance(param, click.Option):
                assert (param.opts[-1] in shown) is not param.hidden or param.opts[-1] == "-s"


def test_no_text_is_taken_for_roff() -> None:
    assert manpages.roff(".TH x\n'y\n\\fB-a^~`") == "\\&.TH x\n\\(aqy\n\\efB\\-a\\(ha\\(ti\\(ga"
