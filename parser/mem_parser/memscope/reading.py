"""Read a dump, CSV or database, into columns."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterable, Iterator

from mem_parser.memscope import csvfile, database
from mem_parser.memscope.form import COLUMNS
from mem_parser.memscope.rowcolumns import RowColumns
from mem_parser.memscope.rows import Rows
from mem_parser.tables.extras import pip_line

LARGE_BYTES = 64 << 20


def read_rows(path: str | os.PathLike[str]) -> Rows:
    """Return a dump in columns, in the order of the file.

    Raises `DumpError` that names the file and the row for anything that is not a dump.
    """
    name = os.fspath(path)
    try:
        from mem_parser.memscope.arrowcolumns import ArrowColumns, blocks
    except ImportError:
        _advise(name)
        return read_texts(name)
    is_database = database.is_database(name)
    reader = ArrowColumns(name, by_row=is_database)
    if is_database:
        for part in blocks(name):
            if isinstance(part, csvfile.Chunk):
                reader.add(part)
            else:
                reader.add_batch(part, part.columns[-1].to_numpy())
        return reader.rows()
    with csvfile.behind_header(name) as file:
        done, is_whole = (0, False) if file is None else reader.add_file(file)
    if not is_whole:
        for chunk in csvfile.chunks(name, done=done):
            reader.add(chunk)
    return reader.rows()


def _advise(path: str) -> None:
    """Say how a large dump is read faster."""
    with contextlib.suppress(OSError):
        if os.stat(path).st_size >= LARGE_BYTES:
            line = pip_line("memscope", "pyarrow")
            text = f"{path}: with pyarrow so large a dump is read three times as fast: {line}"
            warnings.warn(text, RuntimeWarning, stacklevel=3)


def read_texts(path: str) -> Rows:
    """Return the same without Arrow: slower, and what `read_rows` is tested by."""
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
