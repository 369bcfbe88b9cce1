"""Goldens: what the commands said and wrote of fixed inputs, kept so that a change of it is seen.

NAME.txt has a line for each command: a hash of all that it gave, its exit code and its words.
NAME.json.xz has the texts themselves, which a failing test shows the difference to.
"""

import base64
import difflib
import gzip
import hashlib
import json
import lzma
import re
import shlex
import sqlite3
import sys
import sysconfig
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from mem_cli.errors import run_command
from mem_parser.memlog.blocks import BLOCK_MARK, HEAD_BYTES, parse_head, unpack
from mem_parser.version import __version__
from web_profiles import blocks_of

Texts = dict[str, str]


def outcome(cli: click.Group, program: str, words: list[str], folder: Path) -> str:
    """Run a command in ``folder``, the current one; return its exit code, lines and new files.

    The new files are removed.
    """
    before = set(folder.rglob("*"))
    argv, sys.argv = sys.argv, [program, *words]
    try:
        with CliRunner().isolation() as (out, err, _):
            code = run_command(cli, program, words)
            sys.stdout.flush()
            sys.stderr.flush()
            parts = [f"exit {code}", _text(out.getvalue()), "-- stderr", _text(err.getvalue())]
    finally:
        sys.argv = argv
    made = sorted(set(folder.rglob("*")) - before)
    for path in made:
        if path.is_file():
            parts += [f"-- file {path.relative_to(folder)}", file_text(path)]
    for path in reversed(made):
        path.rmdir() if path.is_dir() else path.unlink()
    return normal("\n".join(parts), folder)


def normal(text: str, folder: Path) -> str:
    """Replace what another machine, folder or version would say otherwise."""
    text = re.sub(r"^(wrote .*), [\d.]+ [KM]?i?B", r"\1, SIZE", text, flags=re.MULTILINE)
    for place, word in (
        (str(folder), "FOLDER"), (sysconfig.get_path("scripts"), "BIN"), (__version__, "VERSION"),
    ):  # fmt: skip
        text = text.replace(place, word)
    return text


def file_text(path: Path) -> str:
    """Return what a file says, without what its compressor or a drawing program chose."""
    data = path.read_bytes()
    if data.startswith(b"\x1f\x8b"):
        data = gzip.decompress(data)
    if path.suffix == ".html":
        return _page(data.decode())
    if path.suffix == ".svg":
        return "\n".join(re.findall(r"<(?:title|text)[^>]*>(.*?)</", data.decode(), re.DOTALL))
    if path.suffix == ".parquet":
        return _rows(path)
    if data.startswith(b"SQLite format 3\0"):
        with sqlite3.connect(path) as connection:
            return "\n".join(connection.iterdump())
    return _text(data)


def _text(data: bytes) -> str:
    """Return UTF-8 as it is and other bytes escaped; columns of a .heap file unpacked."""

    def unpacked(match: re.Match[bytes]) -> bytes:
        packed = match[2].replace(b"\n%| ", b"").removeprefix(b"%| ")
        return match[1] + zlib.decompress(base64.b64decode(packed + b"==")).hex().encode()

    if data.startswith(b"\x89MEMLOG"):
        return "\n".join(_blocks(data))
    if b"%mem_profiler " in data:
        data = re.sub(rb"(%column [^\n]+\n)(%\| [^\n]*(?:\n%\| [^\n]*)*)", unpacked, data)
    return data.decode("utf-8", "backslashreplace")


def _blocks(data: bytes) -> Iterator[str]:
    """Yield the blocks of a log, unpacked."""
    at = data.find(BLOCK_MARK)
    while at >= 0:
        head = parse_head(data[at : at + HEAD_BYTES])
        if head is not None:
            begin = at + HEAD_BYTES
            stored = data[begin : begin + head.stored_bytes]
            raw = unpack(head, stored).hex()
            yield f"{head.kind} {head.flags} {head.rows} {head.first} {head.last} {raw}"
        at = data.find(BLOCK_MARK, at + 1)


def _page(page: str) -> str:
    def plain(value: object) -> object:
        return value.tolist() if hasattr(value, "tolist") else repr(value)

    return "\n".join(
        f"{name}: {json.dumps(block, default=plain, indent=0, ensure_ascii=False)}"
        for name, block in sorted(blocks_of(page).items())
    )


def _rows(path: Path) -> str:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(path)
    return "\n".join([*(f"{f.name} {f.type}" for f in table.schema), *map(repr, table.to_pylist())])


def run_all(lines: Iterable[str], groups: dict[str, click.Group], folder: Path) -> Texts:
    """Return what the files in ``folder`` hold, and what command lines make of them.

    A line that begins with a command and a colon is one of mem_profiler.
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    found = {f"file {path.relative_to(folder)}": file_text(path) for path in files}
    for line in lines:
        words = shlex.split(line)
        program = "mem_parser"
        if words[0].endswith(":"):
            words[0], program = words[0][:-1], "mem_profiler"
        found[line] = outcome(groups[program], program, words, folder)
    return found


class Kept:
    def __init__(self, folder: Path, name: str) -> None:
        self.index, self.archive = folder / f"{name}.txt", folder / f"{name}.json.xz"

    def update(self, found: Texts) -> None:
        """Keep ``found`` from now on; files that say the same already stay as they are."""
        if not self.archive.exists() or self.texts() != found:
            text = json.dumps(found, ensure_ascii=False).encode()
            self.archive.write_bytes(lzma.compress(text, preset=9 | lzma.PRESET_EXTREME))
        self.index.write_text(index_of(found), encoding="utf-8")

    def difference(self, found: Texts) -> str:
        """Return what changed: the commands, and the first of them in full; empty if nothing."""
        if not self.archive.exists():
            return f"{self.archive.name} is missing"
        kept = self.texts()
        changed = [key for key in kept | found if kept.get(key) != found.get(key)]
        if not changed:
            index = self.index.read_text(encoding="utf-8")
            return "" if index == index_of(kept) else f"{self.index.name} is not of its archive"
        texts = [side.get(changed[0], "(no such command)").splitlines() for side in (kept, found)]
        diff = list(difflib.unified_diff(*texts, "golden", "now", lineterm="", n=1))
        return "\n".join([f"{len(changed)} of {len(found)} changed:", *changed, *diff[:60]])

    def texts(self) -> Texts:
        texts: Texts = json.loads(lzma.decompress(self.archive.read_bytes()))
        return texts


def index_of(texts: Texts) -> str:
    """Return a line for each command."""
    rows = []
    for line, text in texts.items():
        digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
        code = text.split(maxsplit=2)[1] if text.startswith("exit ") else "-"
        rows.append(f"{digest} {code} {line}\n")
    return "".join(rows)
