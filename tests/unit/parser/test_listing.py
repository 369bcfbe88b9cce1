"""list: source lines with what they allocated."""

from __future__ import annotations

from pathlib import Path

import pytest

from mem_cli.terminal import plain_lines
from mem_parser.reports import listing
from mem_parser.reports.sourcefiles import SourceFiles, Sources
from mem_parser.symbols.table import Function
from reportview import view


def test_list_shows_the_lines_around_what_was_allocated(tmp_path: Path) -> None:
    (tmp_path / "serve.c").write_text("".join(f"\tline {k}\x1b[2J\n" for k in range(1, 20)))
    shown = view()
    found = listing.listing(shown, "serve", Sources([str(tmp_path)]))[0]
    text = list(plain_lines(listing.blocks(shown, [found])))
    assert (found.cum.value, found.flat.value) == (140, 0)
    number = found.lines[0].number
    allocating = next(line for line in text if f"line {number}\\x1b" in line)
    assert allocating.split()[:3] == ["140", "B", str(number)]
    assert "\x1b" not in "".join(text)


def test_list_without_the_source_says_where_it_looked() -> None:
    shown = view()
    text = "\n".join(plain_lines(listing.blocks(shown, listing.listing(shown, "serve", Sources()))))
    assert "source not found: serve.c" in text
    assert "140 B" in text


def read(path: str, *folders: str) -> tuple[list[str] | None, str]:
    return SourceFiles(Sources(folders, trusted=True)).read(Function("f", "f", "/opt/app"), path)


def test_only_plain_files_are_read_as_source(tmp_path: Path) -> None:
    assert read("/dev/zero")[0] is None
    assert read("/etc")[0] is None
    (tmp_path / "a.c").write_text("x")
    assert read("../../a.c", str(tmp_path))[0] == ["x"]


@pytest.mark.parametrize("name", ["shadow", "id_rsa", "secrets.json", "notes.txt", "link.c"])
def test_a_file_that_is_no_source_is_not_shown(name: str, tmp_path: Path) -> None:
    """`#line 1 "/etc/shadow"` in a program names it."""
    (tmp_path / "target").write_text("the secret\n")
    path = tmp_path / name
    path.symlink_to(tmp_path / "target") if name == "link.c" else path.write_text("the secret\n")
    for folders in ((), (str(tmp_path),)):
        text, why = read(str(path), *folders)
        assert text is None
        assert "the secret" not in why
    plain = tmp_path / "plain.c"
    plain.write_text("int x;\n")
    assert read(str(plain))[0] == ["int x;", ""]
