"""What commands print with `--json` keeps to the schema that `mem_parser schema` prints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from golden_inputs import INPUTS
from goldens import Kept
from json_outputs import checked_json
from mem_cli.errors import run_command
from mem_cli.parser.group import cli as mem_parser
from mem_cli.profiler.group import cli as mem_profiler
from mem_parser.schemas import DIALECT, OUTPUTS, schema

GOLDENS = Path(__file__).resolve().parents[2] / "golden"
# What runs anew in tests of its own, which validate it: there are no fixed inputs for it.
ELSEWGOLDENS = {
    "budget", "doctor", "driver-stats at", "driver-stats log", "driver-stats report",
    "driver-stats sizes", "memscope compare", "ps",
}  # fmt: skip


def kept() -> Iterator[tuple[str, str, str]]:
    """Yield the golden, the command line and the JSON of each golden that has some."""
    for archive in sorted(GOLDENS.glob("*.json.xz")):
        golden = archive.name.removesuffix(".json.xz")
        for line, text in Kept(GOLDENS, golden).texts().items():
            code, _, rest = text.partition("\n")
            printed, _, files = rest.partition("\n-- stderr")
            if "--json" in line.split() and code in {"exit 0", "exit 6", "exit 7"}:
                yield golden, line, printed
            elif "\n-- file y.json\n" in files:
                yield golden, line, files.partition("\n-- file y.json\n")[2]


def test_every_golden_keeps_to_its_schema() -> None:
    met = set()
    for golden, line, text in kept():
        name = line.split(maxsplit=1)[0]
        try:
            checked_json(name, text)
        except AssertionError as error:
            pytest.fail(f"{golden}: {line}: {error}")
        met.add(name)
    assert met | ELSEWGOLDENS == set(OUTPUTS)


def commands(group: click.Group, *words: str) -> Iterator[str]:
    """Yield the words of every command with `--json`."""
    listing = click.Context(group)
    for name in group.list_commands(listing):
        command = group.get_command(listing, name)
        if isinstance(command, click.Group):
            yield from commands(command, *words, name)
        elif command is not None and any("--json" in param.opts for param in command.params):
            yield " ".join((*words, name))


def test_every_command_with_json_has_a_schema() -> None:
    other_names = {"memscope": "memscope compare", "run": "budget"}
    profiler = {other_names.get(name, name) for name in commands(mem_profiler)}
    assert {*commands(mem_parser), *profiler, "convert"} == set(OUTPUTS)


def test_the_command_prints_a_schema_that_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(mem_parser, "mem_parser", ["schema", "driver-stats", "at"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == schema("driver-stats at")
    assert json.loads(printed)["$schema"] == DIALECT
    assert run_command(mem_parser, "mem_parser", ["schema"]) == 0
    assert capsys.readouterr().out.splitlines() == sorted(OUTPUTS)
    assert run_command(mem_parser, "mem_parser", ["schema", "tops"]) == 2
    assert "did you mean top" in capsys.readouterr().err


@pytest.mark.parametrize("line", [
    "top shop.heap --lines", "top device.heap --alloc", "diff shop.heap x.heap --by line",
    "table shop.heap --split-threads", "query --tables", "leaks x.memlog", "stats x.memlog",
])  # fmt: skip
def test_other_forms_of_a_report_keep_to_its_schema(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("shop", "device", "log-small"):
        INPUTS[name][0](tmp_path)
    monkeypatch.chdir(tmp_path)
    assert run_command(mem_parser, "mem_parser", [*line.split(), "--json"]) == 0
    checked_json(line.split(maxsplit=1)[0], capsys.readouterr().out)
