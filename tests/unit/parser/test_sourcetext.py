"""The text of source lines in a page: of the lines that matter, bounded, and of no file that
`mem_parser list` would not show.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from heapfiles import HeapFile, Record
from mem_cli.parser.group import cli
from mem_parser.model import Profile
from mem_parser.reports.listing import CONTEXT
from mem_parser.reports.sourcefiles import Sources
from mem_parser.symbols.elf import ElfImage
from mem_parser.symbols.table import Function, Symbols
from mem_parser.web import flamegraph, report, sourcetext
from mem_parser.web.sourcetext import source_block
from web_profiles import Site, blocks_of, make_profile

SECRET = "the text of the secret"
TRUSTED = Sources(trusted=True)
HERE = {"host": os.uname().nodename, "uid": os.geteuid()}


def placed(*places: tuple[Path, int, int]) -> tuple[Profile, Symbols]:
    """A profile of bytes at (file, line, bytes), each in a function of its own below `main`."""
    functions = {
        f"f{k}": Function(f"f{k}", f"f{k}", "/opt/app", str(file))
        for k, (file, _, _) in enumerate(places)
    }
    sites = [Site(f"main f{k}", 1, size) for k, (_, _, size) in enumerate(places)]
    profile, symbols = make_profile(sites, functions=functions)
    for k, location in enumerate(symbols.locations):
        name = symbols.functions[location.function].name
        if name in functions:
            symbols.locations[k] = dataclasses.replace(location, line=places[int(name[1:])][1])
    return profile, symbols


def numbered(path: Path, lines: int = 100, width: int = 0) -> Path:
    path.write_text("\n".join(f"line {k}".ljust(width, ".") for k in range(1, lines + 1)))
    return path


def lines_of(block: dict[str, Any], file: Path) -> dict[int, str]:
    parts = block["files"].get(str(file), [])
    return {first + k: text for first, texts in parts for k, text in enumerate(texts)}


def test_lines_that_matter_are_there_with_their_neighbours(tmp_path: Path) -> None:
    file = numbered(tmp_path / "x.c")
    block = source_block(*placed((file, 50, 1000), (file, 52, 500), (file, 90, 4)), TRUSTED)

    known = lines_of(block, file)
    assert sorted(known) == list(range(50 - CONTEXT, 52 + CONTEXT + 1))
    assert known[50] == "line 50"
    assert str(file) not in block["refused"]


def test_the_ends_of_a_file_have_fewer_neighbours(tmp_path: Path) -> None:
    file = numbered(tmp_path / "x.c", lines=4)
    block = source_block(*placed((file, 1, 10), (file, 4, 10), (file, 400, 10)), TRUSTED)
    assert sorted(lines_of(block, file)) == [1, 2, 3, 4]


def test_the_size_of_all_texts_is_bounded_and_the_heaviest_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sourcetext, "MOST_BYTES", 2000)
    file = numbered(tmp_path / "x.c", lines=400, width=1000)
    block = source_block(*placed(*((file, 10 * k, 100 + k) for k in range(1, 40))), TRUSTED)

    known = lines_of(block, file)
    assert sorted(known) == list(range(390 - CONTEXT, 390 + CONTEXT + 1))
    assert sum(map(len, known.values())) <= 2000
    assert all(len(text) == 200 and text.endswith("…") for text in known.values())


@pytest.mark.parametrize(
    "name", ["id_rsa", "shadow", ".bashrc", "notes.txt", "key.pem", "x.c.key", "history", "a.json"]
)
def test_only_files_of_programming_languages_are_read(tmp_path: Path, name: str) -> None:
    secret = tmp_path / name
    secret.write_text(f"1\n{SECRET}\n3\n")
    link = tmp_path / "link.c"
    link.symlink_to(secret)
    for file in (secret, link):
        assert source_block(*placed((file, 2, 10)), TRUSTED)["files"] == {}
        assert (
            source_block(*placed((file, 2, 10)), Sources((str(tmp_path),), trusted=True))["files"]
            == {}
        )
    secret.rename(tmp_path / "x.c")
    assert SECRET in json.dumps(source_block(*placed((tmp_path / "x.c", 2, 10)), TRUSTED))


def test_links_between_source_files_are_followed(tmp_path: Path) -> None:
    (tmp_path / "alias.h").symlink_to(numbered(tmp_path / "real.hpp"))
    block = source_block(*placed((tmp_path / "alias.h", 5, 10)), TRUSTED)
    assert lines_of(block, tmp_path / "alias.h")[5] == "line 5"


def test_nothing_but_plain_files_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.c")
    (tmp_path / "folder.c").mkdir()
    (tmp_path / "binary.c").write_bytes(b"a\n\0\n")
    names = ("pipe.c", "folder.c", "binary.c", "missing.c")
    block = source_block(*placed(*((tmp_path / name, 1, 10) for name in names)), TRUSTED)
    assert block["files"] == {}


def test_a_profile_that_is_not_our_own_gives_no_text_and_says_why(tmp_path: Path) -> None:
    file = numbered(tmp_path / "x.c")
    block = source_block(*placed((file, 5, 10)), Sources(distrusted="it came from another host"))
    assert block["files"] == {}
    assert block["refused"][str(file)] == (
        "source not shown: it came from another host; --trust-sources shows it"
    )


@pytest.mark.parametrize("render", [flamegraph.render, report.render])
def test_a_page_takes_sources_only_if_it_is_told_where(
    tmp_path: Path, render: Callable[..., str]
) -> None:
    file = tmp_path / "x.c"
    file.write_text("</script><script>alert(1)</script>\u202e<!--")
    made = placed((file, 1, 10))
    assert "source" not in blocks_of(render(*made))
    assert "source" not in blocks_of(render(*made, sources=TRUSTED, confidential=True))
    page = render(*made, sources=TRUSTED)
    assert "alert(1)" not in page
    [text] = lines_of(blocks_of(page)["source"], file).values()
    assert text == "</script><script>alert(1)</script>\\u202e<!--"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose debug information says that `grab` is in line 2 of the file `secret.c`."""
    folder = tmp_path_factory.mktemp("program")
    (folder / "secret.c").write_text(f"first\n{SECRET}\nthird\n")
    (folder / "x.c").write_text(
        f'#line 2 "{folder}/secret.c"\nint grab(int x) {{ return x * 3; }}\n'
        "int main(void) { return grab(1); }\n"
    )
    subprocess.run(
        ["gcc", "-g", "-O0", "-no-pie", "-Wl,--build-id", "-o", folder / "x", folder / "x.c"],
        check=True, timeout=60,
    )  # fmt: skip
    return folder / "x"


Page = Callable[..., dict[str, Any]]


@pytest.fixture(params=["report", "flamegraph"])
def page(
    request: pytest.FixtureRequest, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Page:
    """The blocks of a page of a profile of the program with such a header."""
    monkeypatch.setenv("MEM_PROFILER_CACHE", "")
    names = subprocess.run(
        ["nm", program], capture_output=True, text=True, check=True, timeout=60
    ).stdout.split()
    address = int(names[names.index("grab") - 2], 16)
    module = {"path": str(program), "build_id": ElfImage.open(program).build_id,
              "start": 0x400000, "end": 0x500000, "bias": 0,
              "exec": [[0x401000, 0x402000, 0x1000]],
              "first_generation": 0, "last_generation": None}  # fmt: skip

    def run(header: dict[str, Any], *options: str, mode: int = 0o600) -> dict[str, Any]:
        heap = tmp_path / "x.heap"
        header = {"exe": str(program), **header}
        made = HeapFile([Record((address,), 9, 9999)], modules=[module], header=header)
        heap.write_bytes(made.data)
        heap.chmod(mode)
        target = tmp_path / "x.html"
        arguments = [request.param, str(heap), "-o", str(target), *options]
        done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return blocks_of(target.read_text(encoding="utf-8"))

    return run


def test_our_own_profile_brings_its_sources(page: Page, program: Path) -> None:
    assert SECRET in json.dumps(page(HERE)["source"])
    assert "source" not in page(HERE, "--no-source")
    assert "source" not in page(HERE, "--confidential")
    assert "source" not in page(HERE, "--confidential", "--trust-sources")


def test_a_profile_from_elsewhere_brings_none_but_on_the_users_word(
    page: Page, program: Path
) -> None:
    for header, mode in (
        ({}, 0o600), ({**HERE, "host": "another"}, 0o600),
        ({**HERE, "uid": os.geteuid() + 1}, 0o600), (HERE, 0o666),
    ):  # fmt: skip
        block = page(header, mode=mode)["source"]
        assert block["files"] == {}
        assert block["refused"][str(program.parent / "secret.c")].endswith(
            "; --trust-sources shows it"
        )
    assert SECRET in json.dumps(page({}, "--trust-sources")["source"])
    assert SECRET in json.dumps(page({}, "--source-dir", str(program.parent))["source"])
    assert SECRET not in json.dumps(page({}, "--source-dir", "/usr/share")["source"])
