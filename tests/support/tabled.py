"""Tables of logs and profiles for tests: sources without symbols, and their columns as lists."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mem_parser.memlog.part import WHOLE, Part
from mem_parser.memlog.run import read_log
from mem_parser.model import Profile
from mem_parser.python.splice import spliced
from mem_parser.symbols.symbolizer import name_addresses
from mem_parser.tables import arrow
from mem_parser.tables.frametables import Named
from mem_parser.tables.schema import TABLES
from mem_parser.tables.source import LogSource, TableSource


def names(_file: str, profile: Profile) -> Named:
    found = spliced(profile, name_addresses(profile))
    return Named(profile, found.names, found.spell())


@contextmanager
def log_tables(paths: Sequence[Path], part: Part = WHOLE, file: str = "x") -> Iterator[LogSource]:
    with read_log(paths) as run:
        yield LogSource(file, run, part, names)


def rows(source: TableSource, table: str) -> list[dict[str, Any]]:
    """The rows of a table, as Arrow has them."""
    chosen = next(one for one in TABLES if one.name == table)
    batches = arrow.batches(chosen, source.parts(table))
    return [row for batch in batches for row in batch.to_pylist()]
