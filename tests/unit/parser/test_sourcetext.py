"""The text of source lines in a page: of the lines that matter, bounded, and of no file that
`mem_parser list` would not show.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mem_parser.model import Profile
from mem_parser.reports.listing import CONTEXT
from mem_parser.reports.sourcefiles import Sources
from mem_parser.symbols.table import Function, Symbols
from mem_parser.web import flamegraph, report, sourcetext
from mem_parser.web.sourcetext import source_block
from web_profiles import Site, blocks_of, make_profile

SECRET = "the text of the secret"
TRUSTED = Sources(trusted=True)


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
