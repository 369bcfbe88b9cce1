"""Read a dump, CSV or database, into columns."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

import numpy as np

from mem_parser.memscope import csvfile, database, databaseblocks
from mem_parser.memscope.csvblocks import Block, blocks
from mem_parser.memscope.form import COLUMNS
from mem_parser.memscope.rowbytes import RowBytes
from mem_parser.memscope.rowcolumns import RowColumns
from mem_parser.memscope.rows import Rows


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Return a dump in columns, in the order of the file.

    Raises `DumpError` that names the file and the row for anything that is no dump.
    """
    name = os.fspath(path)
    if database.is_database(name):
        reader = RowBytes(name, by_row=True)
        for rows in databaseblocks.blocks(name):
            if isinstance(rows, databaseblocks.Joined):
                reader.add_block(rows.block, rows.places)
            else:
                reader.add_values(rows)
        return reader.rows()
    reader = RowBytes(name, by_row=False)
    with csvfile.plain(name) as file:
        done = 0
        for part in blocks(file):
            if isinstance(part, Block):
                reader.add_block(part, np.arange(done + 1, done + 1 + len(part)))
                done += len(part)
                continue
            for chunk in csvfile.chunks(name, part=csvfile.Part(*part, done)):
                reader.add(chunk)
                done += len(chunk.places)
    return reader.rows()


def read_texts(path: str) -> Rows:
    """Return the same, with all rows read as texts: slower, and what `read_rows` is tested by."""
    reader = RowColumns(path, by_row=database.is_database(path))
    for chunk in chunks_of(path):
        reader.add(chunk)
    return reader.rows()


def chunks_of(path: str) -> Iterator[csvfile.Chunk]:
    """Yield the rows of a dump as texts, in its order; those of a database have no stacks.

    Raises `DumpError`.
    """
    if database.is_database(path):
        yield from database.chunks(path)
    else:
        yield from csvfile.chunks(path)


def stacks_of(path: str, places: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Return the stacks (Python, C) of the rows with these places. Raises `DumpError`."""
    wanted = set(places)
    if not wanted:
        return {}
    found: dict[int, tuple[str, str]] = {}
    if database.is_database(path):
        held = database.stacks_of(path, wanted)
        return {place: (_shown(python), _shown(native)) for place, (python, native) in held.items()}
    for chunk in csvfile.chunks(path):
        here = [place for place in wanted if place in chunk.places]
        for place in here:
            k = place - chunk.places[0]
            found[place] = (chunk.columns[-2][k], chunk.columns[-1][k])
        wanted.difference_update(here)
        if not wanted:
            break
    return found


def address_text(path: str, place: int) -> str:
    """Return the address of one row as the file has it. Raises `DumpError`."""
    column = COLUMNS.index("Ptr")
    if database.is_database(path):
        return _shown(database.value_of(path, place, column))
    for chunk in csvfile.chunks(path):
        if place in chunk.places:
            return str(chunk.columns[column][place - chunk.places[0]])
    return ""


def _shown(value: object) -> str:
    return "" if value is None else str(value)
