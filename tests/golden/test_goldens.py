"""Nothing that a user or a script sees of fixed inputs changes unseen.

A change that is meant: `pytest tests/golden --update-goldens`, and git shows which commands it
changed.
"""

from __future__ import annotations

import locale
import os
import time
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from golden_inputs import INPUTS, lines
from goldens import Kept, Texts, run_all
from mem_cli.parser import group as parser_group
from mem_cli.profiler import group as profiler_group

HERE = Path(__file__).resolve().parent
GROUPS: dict[str, click.Group] = {
    "mem_parser": parser_group.cli,
    "mem_profiler": profiler_group.cli,
}


@pytest.fixture
def folder(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, segment_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:  # fmt: skip
    """The current folder, in a place and time that are the same on every machine."""
    monkeypatch.chdir(tmp_path)
    cache = str(tmp_path_factory.mktemp("cache"))
    for name, value in {"TZ": "UTC", "LC_ALL": "C.UTF-8", "MEM_PROFILER_CACHE": cache}.items():
        monkeypatch.setenv(name, value)
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "CI", "DEBUGINFOD_URLS", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("mem_parser.reports.svg._LAYOUT_S", 60.0)  # on a busy machine, too
    time.tzset()
    kept = locale.setlocale(locale.LC_ALL)
    locale.setlocale(locale.LC_ALL, "C.UTF-8")
    yield tmp_path
    locale.setlocale(locale.LC_ALL, kept)
    monkeypatch.undo()
    time.tzset()


def hold(name: str, found: Texts, request: pytest.FixtureRequest) -> None:
    kept, folder = Kept(HERE, name), os.environ["MEM_PROFILER_DIR"]
    found = {command: text.replace(folder, "SEGMENTS") for command, text in found.items()}
    if request.config.getoption("--update-goldens", default=False):
        kept.update(found)
    changed = kept.difference(found)
    assert not changed, changed


@pytest.mark.parametrize("name", INPUTS)
def test_the_commands_say_and_write_the_same_of(
    name: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    INPUTS[name][0](folder)

    hold(name, run_all(lines(name), GROUPS, folder), request)


def test_help_is_the_same(folder: Path, request: pytest.FixtureRequest) -> None:
    texts = []
    for program, group in GROUPS.items():
        colon = ":" if program == "mem_profiler" else ""
        listing = click.Context(group)
        for name in ["", *group.list_commands(listing)]:
            command = group.get_command(listing, name) if name else group
            texts.append(f"{name}{colon} --help".strip())
            parts = command.commands if name and isinstance(command, click.Group) else ()
            texts += [f"{name}{colon} {part} --help" for part in parts]

    hold("help", run_all(texts, GROUPS, folder), request)


def test_every_golden_is_of_an_input() -> None:
    names = {f"{name}{end}" for name in [*INPUTS, "help"] for end in (".txt", ".json.xz")}

    assert names == {p.name for p in HERE.iterdir() if p.suffix in {".txt", ".xz"}}
