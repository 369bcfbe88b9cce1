"""A folder of Parquet files, one for each table, written by Arrow in bounded memory.

The folder is made under a temporary name and renamed, so it is complete or absent.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from mem_parser import sudo
from mem_parser.errors import UsageProblem
from mem_parser.output_path import open_folder, others_can_write
from mem_parser.tables import arrow
from mem_parser.tables.extras import pyarrow
from mem_parser.tables.schema import TABLES, Kind, Table
from mem_parser.tables.source import TableSource
from mem_parser.version import __version__

GROUP_ROWS = 1 << 19
"""A row group has about so many rows: what is in memory at once."""
_FILES = frozenset(f"{table.name}.parquet" for table in TABLES)
_LEVEL = 1
_STEADY = {"time_ns", "born_ns", "died_ns"}
"""Columns that grow from row to row."""
_SCATTERED = {"address", "calls", *_STEADY}
"""Columns in which hardly a value comes again: a dictionary of them only costs time."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def write_folder(sources: Sequence[TableSource], path: str) -> int:
    """Write all tables of ``sources`` into the folder ``path``. Returns its size in bytes.

    A folder of that name is replaced if it has nothing but such tables. Raises UsageProblem,
    MissingLibrary, OSError and what reading raises.
    """
    pyarrow("pyarrow.parquet")
    with _made_beside(path) as folder:
        return sum(_write_table(folder, table, sources) for table in TABLES)


def check_folder(path: str) -> None:
    """Refuse a place where the folder cannot be, before any work. Raises UsageProblem, OSError."""
    above, name = _split(path)
    with open_folder(above) as folder:
        _check_there(folder, name, path)


def _write_table(folder: int, table: Table, sources: Sequence[TableSource]) -> int:
    parquet = pyarrow("pyarrow.parquet")
    flags = os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_WRONLY | os.O_CLOEXEC
    handle = os.open(f"{table.name}.parquet", flags, 0o666, dir_fd=folder)
    with os.fdopen(handle, "wb") as file:
        about = {"mem_profiler": __version__, "table": table.name, "a row is": table.about}
        whole = arrow.schema(table).with_metadata(about)
        with parquet.ParquetWriter(file, whole, **_options(table)) as writer:
            parts = (part for source in sources for part in source.parts(table.name))
            for group in _groups(arrow.batches(table, parts)):
                writer.write_table(group.replace_schema_metadata(about))
        file.flush()
        sudo.give(file.fileno(), folder)
        return file.tell()


def _options(table: Table) -> dict[str, Any]:
    names = [f.name for f in table.fields]
    steady = [n for n in names if n in _STEADY]
    return {
        "compression": "zstd",
        "compression_level": _LEVEL,
        "use_dictionary": [
            f.name for f in table.fields if f.name not in _SCATTERED and f.kind is not Kind.BOOL
        ],
        "column_encoding": dict.fromkeys(steady, "DELTA_BINARY_PACKED") or None,
    }


def _groups(parts: Iterable[Any]) -> Iterator[Any]:
    """Yield batches joined to tables of about `GROUP_ROWS` rows."""
    waiting: list[Any] = []
    rows = 0
    for batch in parts:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= GROUP_ROWS:
            yield pyarrow().Table.from_batches(waiting)
            waiting, rows = [], 0
    if waiting:
        yield pyarrow().Table.from_batches(waiting)


# -- the folder ------------------------------------------------------------------------------------


@contextmanager
def _made_beside(path: str) -> Iterator[int]:
    """Make a folder beside ``path``; behind the block it has that name, if nothing was raised."""
    above, name = _split(path)
    with open_folder(above) as folder:
        _check_there(folder, name, path)
        temporary = f".mem_parser.{secrets.token_hex(8)}.tmp"
        os.mkdir(temporary, dir_fd=folder)
        try:
            made = os.open(temporary, _FOLDER, dir_fd=folder)
            try:
                sudo.give(made, folder)
                yield made
            finally:
                os.close(made)
            _put(folder, temporary, name, path)
        except BaseException:
            _remove(folder, temporary)
            raise


def _put(folder: int, made: str, name: str, path: str) -> None:
    """Give a folder its name; one that has the name already is moved away first, then removed."""
    if not _check_there(folder, name, path):
        os.rename(made, name, src_dir_fd=folder, dst_dir_fd=folder)
        return
    old = f".mem_parser.{secrets.token_hex(8)}.old"
    os.rename(name, old, src_dir_fd=folder, dst_dir_fd=folder)
    try:
        os.rename(made, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.rename(old, name, src_dir_fd=folder, dst_dir_fd=folder)
        raise
    _remove(folder, old)


def _check_there(folder: int, name: str, path: str) -> bool:
    """Tell whether the folder ``name`` exists; refuse anything that must not be replaced."""
    try:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if not stat.S_ISDIR(status.st_mode):
        raise UsageProblem(
            f"cannot write {path}: tables are a folder, and that is none", hint="name a new folder"
        )
    if others_can_write(os.fstat(folder)) and status.st_uid != os.geteuid():
        raise UsageProblem(f"cannot write {path}: it is another user's", hint="name a new folder")
    opened = os.open(name, _FOLDER, dir_fd=folder)
    try:
        listed = set(os.listdir(opened))
    finally:
        os.close(opened)
    if listed - _FILES:
        raise UsageProblem(
            f"cannot write {path}: the folder has other files too", hint="name a new folder"
        )
    return True


def _split(path: str) -> tuple[str, str]:
    above, name = os.path.split(path.rstrip("/"))
    if name in ("", ".", ".."):
        raise OSError(errno.EINVAL, "is no name of a new folder", path)
    return above or ".", name


def _remove(folder: int, name: str) -> None:
    """Remove a folder of tables, as far as that goes."""
    with contextlib.suppress(OSError):
        opened = os.open(name, _FOLDER, dir_fd=folder)
        try:
            for file in _FILES & set(os.listdir(opened)):
                os.unlink(file, dir_fd=opened)
        finally:
            os.close(opened)
        os.rmdir(name, dir_fd=folder)
