"""Hostile names through every command of `mem_parser`: the bytes of each output hold only text."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import pytest

import hostile
from json_outputs import check_format, checked_json
from mem_cli.errors import run_command
from mem_cli.parser.group import cli
from mem_cli.profiler.capture_view import CaptureProgress
from mem_parser.profileproto import message_class

Parse = Callable[..., tuple[int, bytes]]
BUDGET = """
[budget]
peak = "1 KiB"
inuse = "1 KiB"
leaks = "0"
alloc_rate = "1 GiB/s"

[[budget.site]]
match = "module:error"
inuse = "1 KiB"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder and files whose own names are hostile too."""
    base = tmp_path_factory.mktemp("hostile")
    made = base / "f\n::error::folder\x1b[31m##[x]"
    made.mkdir()
    (made / "::error::x\n##[group].heap").write_bytes(hostile.heap())
    (made / "::older::\u202e.heap").write_bytes(hostile.heap(hostile.NAMES[3:]))
    (made / "device.heap").write_bytes(hostile.heap(domain="::debug::\x1b[1m"))
    (made / "budget.toml").write_text(BUDGET)
    return made


@pytest.fixture
def parse(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Parse:
    """Run a command in the folder: its exit code and what it printed. What went to standard error
    holds nothing but lines.
    """
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MEM_PROFILER_CACHE", "")

    def run(*arguments: str) -> tuple[int, bytes]:
        capfdbinary.readouterr()
        code = run_command(cli, "mem_parser", arguments)
        said = capfdbinary.readouterr()
        assert hostile.spoilt(said.err) == []
        assert b"unexpected" not in said.err
        return code, said.out

    return run


HEAP = "::error::x\n##[group].heap"
OLDER = "::older::\u202e.heap"
FUNCTION = "."
TEXTS = [
    ["-f", HEAP, "-t", "-n", "0"],
    ["-f", HEAP, "-t", "-n", "0", "--lines", "--bytes"],
    ["-f", HEAP, "-f", "device.heap", "-t", "-n", "0"],
    ["-f", HEAP, "-f", "device.heap", "--by", "domain"],
    ["top", HEAP, "-n", "0"],
    ["top", HEAP, "-n", "0", "--lines"],
    ["summary", HEAP, "-n", "0"],
    ["tree", HEAP, "-n", "0", "--min-share", "0"],
    ["tree", HEAP, "--invert"],
    ["stats", HEAP, "-n", "0"],
    ["peek", HEAP, FUNCTION],
    ["peek", HEAP, "##"],
    ["list", HEAP, FUNCTION],
    ["list", HEAP, "##"],
    ["diff", OLDER, HEAP],
    ["diff", "--by", "line", OLDER, HEAP],
    ["diff", "--by", "stack", OLDER, HEAP],
    ["leaks", HEAP],
    ["rss", HEAP],
    ["waste", HEAP, "-n", "0"],
    ["budget", "budget.toml", HEAP],
    ["convert", HEAP, "-o", "-", "--to", "collapsed"],
    ["convert", HEAP, "-o", "-", "--to", "heap"],
    ["symbolize", HEAP, "-o", "-"],
    ["merge", HEAP, OLDER, "-o", "-"],
]


@pytest.mark.parametrize("command", TEXTS, ids=" ".join)
def test_a_text_is_lines_that_nothing_acts_on(parse: Parse, command: list[str]) -> None:
    code, out = parse(*command)
    assert code in (0, 6)
    assert out
    assert hostile.spoilt(out, raw=b"%mem_profiler" in out) == []


@pytest.mark.parametrize("command", [
    *(["top", HEAP, "-n", "0", "--json", *more] for more in ([], ["--lines"])),
    ["summary", HEAP, "--json"],
    ["tree", HEAP, "--json"],
    ["stats", HEAP, "--json"],
    ["peek", HEAP, FUNCTION, "--json"],
    ["list", HEAP, FUNCTION, "--json"],
    ["diff", OLDER, HEAP, "--json"],
    ["leaks", HEAP, "--json"],
    ["rss", HEAP, "--json"],
    ["waste", HEAP, "-n", "0", "--json"],
    ["budget", "budget.toml", HEAP, "--json", "-"],
    ["budget", "budget.toml", HEAP, "--sarif", "-"],
    ["convert", HEAP, "-o", "-", "--to", "json"],
    ["convert", HEAP, "-o", "-", "--to", "speedscope"],
], ids=" ".join)  # fmt: skip
def test_json_parses_and_holds_no_raw_control_character(parse: Parse, command: list[str]) -> None:
    code, out = parse(*command)
    assert code in (0, 6)
    assert hostile.spoilt(out) == []
    found = json.loads(out)
    for text in strings(found):
        text.encode()  # no lone surrogate
    if "--sarif" in command or "speedscope" in command:
        check_format("speedscope" if "speedscope" in command else "sarif-2.1.0", found)
    else:
        checked_json(command[0], out.decode())


def strings(data: object) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, dict):
        yield from (text for item in data.items() for part in item for text in strings(part))
    elif isinstance(data, list):
        yield from (text for part in data for text in strings(part))


@pytest.mark.parametrize("command", [
    ["top", HEAP, "-n", "0", "--csv"], ["top", HEAP, "-n", "0", "--csv", "--lines"],
    ["summary", HEAP, "-n", "0", "--csv"], ["convert", HEAP, "-o", "-", "--to", "csv"],
], ids=" ".join)  # fmt: skip
def test_csv_reads_back_and_no_cell_is_a_formula(parse: Parse, command: list[str]) -> None:
    code, out = parse(*command)
    assert code == 0
    assert hostile.spoilt(out) == []
    head, *rows = csv.reader(io.StringIO(out.decode()), strict=True)
    assert len(rows) >= len(hostile.NAMES) - 2
    assert {len(row) for row in rows} == {len(head)}
    for row in rows:
        for cell in row:
            assert not re.match(r"[=+@|%]|-(?![\d.])", cell), cell


class Elements(HTMLParser):
    """The elements of a page with their attributes, and what stands in its data blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found[tag] = self.found.get(tag, 0) + 1
        self.handlers += [name for name, _ in attrs if name.startswith("on")]


@pytest.mark.parametrize("command", [
    ["flamegraph", HEAP, "-o", "-"],
    ["flamegraph", HEAP, "-o", "-", "--base", OLDER, "--confidential"],
    ["flamegraph", HEAP, "--with", "device.heap", "-o", "-"],
    ["report", HEAP, "-o", "-"],
    ["report", HEAP, "-o", "-", "--base", OLDER],
    ["budget", "budget.toml", HEAP, "--html", "-"],
], ids=" ".join)  # fmt: skip
def test_a_page_has_only_the_elements_that_it_has_for_plain_names(
    parse: Parse, folder: Path, command: list[str]
) -> None:
    for name, old in (("plain", HEAP), ("plainer", OLDER)):
        names = tuple(f"f{k}" for k in range(len(hostile.NAMES) - 3 * (old == OLDER)))
        (folder / f"{name}.heap").write_bytes(hostile.heap(names))
    (folder / "plain-device.heap").write_bytes(
        hostile.heap(tuple(f"f{k}" for k in range(len(hostile.NAMES))), domain="cuda-0")
    )
    _, out = parse(*command)
    swap = {HEAP: "plain.heap", OLDER: "plainer.heap", "device.heap": "plain-device.heap"}
    _, plain = parse(*(swap.get(word, word) for word in command))
    found, wanted = Elements(), Elements()
    found.feed(out.decode())
    wanted.feed(plain.decode())
    assert found.found == wanted.found
    assert found.handlers == []
    assert hostile.spoilt(out, "\t\xa0") == []


@pytest.mark.parametrize(
    "command", [["-f", HEAP, "-s"], ["graph", HEAP], ["graph", HEAP, "--base", OLDER]], ids=" ".join
)
def test_a_drawing_is_xml_of_known_elements(parse: Parse, command: list[str]) -> None:
    code, out = parse(*command)
    assert code == 0
    assert hostile.spoilt(out, "\t\xa0") == []
    root = ET.fromstring(out)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names <= {
        "svg", "g", "title", "polygon", "text", "path", "script", "style", "ellipse", "polyline",
    }  # fmt: skip
    assert sum(element.tag.endswith(("script", "style")) for element in root.iter()) == 2


def test_junit_and_markdown_and_annotations_hold_the_names_as_text(
    parse: Parse, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = folder / "summary.md"
    summary.unlink(missing_ok=True)
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, out = parse("budget", "budget.toml", HEAP, "--junit", "-")
    assert code == 6
    assert hostile.spoilt(out) == []
    assert {e.tag for e in ET.fromstring(out).iter()} <= {
        "testsuites", "testsuite", "testcase", "failure", "error", "system-out"
    }  # fmt: skip
    code, out = parse("budget", "budget.toml", HEAP, "--markdown", "-")
    assert hostile.spoilt(out) == []
    plain = re.sub(r"(`+)[^`].*?\1", "", out.decode())
    assert not re.search(r"<(?!!-- mem_parser|/?details|/?summary)", plain)
    assert not re.search(r"@\w|[^\\]\[click|://|www\.\w|(?<!&)#\d", plain)
    code, out = parse("budget", "budget.toml", HEAP, "--github")
    lines = out.decode().splitlines()
    commands = [line for line in lines if line.startswith("::")]
    assert len(commands) == len(re.findall(r"^(?:FAIL|\?) ", out.decode(), re.MULTILINE))
    for line in commands:
        assert re.fullmatch(r"::(?:error|warning) [^:]*::[^\r]*", line)
    rest = "\n".join(line for line in lines if not line.startswith("::"))
    assert hostile.spoilt(rest.encode()) == []
    assert hostile.spoilt(summary.read_bytes()) == []


def test_pprof_holds_names_that_a_terminal_can_print(parse: Parse) -> None:
    _, out = parse("convert", HEAP, "-o", "-", "--to", "pprof")
    message = message_class("Profile")()
    message.ParseFromString(gzip.decompress(out))
    assert [s for s in message.string_table if not s.isprintable()] == []


@pytest.mark.parametrize("name", hostile.FILE_NAMES)
def test_errors_about_a_file_or_an_option_are_lines(parse: Parse, name: str) -> None:
    for arguments in (
        ["top", name], ["-f", name, "-t"], ["-f", HEAP, "-t", "-o", f"{name}/x"],
        ["convert", HEAP, "-o", name], [name], ["top", f"--{name}"], ["peek", HEAP, f"{name}("],
        ["budget", name, HEAP], ["leaks", "--suppressions", name, HEAP], ["top", HEAP, "-n", name],
        ["top", HEAP, "--thread", name, "--domain", name], ["leaks", "--born", name, HEAP],
    ):  # fmt: skip
        code, out = parse(*arguments)
        assert code != 1
        assert hostile.spoilt(out, "\t\xa0") == []


def test_the_next_command_can_be_pasted(parse: Parse) -> None:
    import subprocess

    _, out = parse("leaks", HEAP)
    command = out.decode().partition("next:\n")[2]
    done = subprocess.run(
        ["bash", "-c", f"mem_parser() {{ printf '%s\\0' \"$@\"; }}\n{command}"],
        capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    words = done.stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]
    assert words[:2] == ["tree", HEAP]


@pytest.mark.parametrize("columns", ["80", "33"])
@pytest.mark.parametrize(
    "command", ["top", "stats", "tree", "list", "peek", "diff", "-t", "budget"]
)
def test_a_terminal_gets_colours_and_nothing_else(
    parse: Parse, command: str, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": columns, "NO_COLOR": "", "CI": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    arguments = {
        "list": ["list", HEAP, FUNCTION], "peek": ["peek", HEAP, FUNCTION],
        "-t": ["-f", HEAP, "-t"],
        "diff": ["diff", OLDER, HEAP], "budget": ["budget", "budget.toml", HEAP],
    }.get(command, [command, HEAP, "-n", "0"])  # fmt: skip
    code, out = parse(*arguments)
    assert code in (0, 6)
    plain = re.sub(rb"\x1b\[[\d;]*m", b"", out)
    assert hostile.spoilt(plain) == []
    assert (plain != out) is (command in {"top", "stats", "tree", "list", "peek", "budget"})


def test_the_progress_bar_shows_the_name_of_a_domain_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    name = "[link=http://evil.example]a[/link]\x1b]0;owned\x07\n::error::b"
    reading = SimpleNamespace(samples=1, estimate_bytes=512.0)
    recorder = SimpleNamespace(
        latest=reading,
        domains=[SimpleNamespace(number=1, name=name)],
        readings=SimpleNamespace(devices={1: SimpleNamespace(latest=reading)}),
    )
    session = SimpleNamespace(recording=SimpleNamespace(recorder=recorder))
    with CaptureProgress([session], 5.0) as progress:  # type: ignore[list-item]
        progress.show(1.0)
    said = capfdbinary.readouterr().err
    assert b"[link=http://evil.example]a[/link]\\x1b]0;owned\\x07\\n::error::b" in said
    assert b"\x1b]" not in said
