"""Small dumps of device memory: rows in few words, files in the tool's own layout."""

import contextlib
import io
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mem_parser.memscope.form import COLUMNS
from mem_parser.memscope.reading import read_rows
from mem_parser.memscope.rows import Rows
from mem_parser.memscope.writing import CsvSink, DatabaseSink, Sink

HEADER = ",".join(COLUMNS)
POOL_KEYS = ("allocation_id", "addr", "size", "used", "total")
ACCESS_KEYS = ("allocation_id", "addr", "size", "type", "dtype", "shape")


class Row(NamedTuple):
    """One event, in the order of `form.COLUMNS`."""

    id: int
    event: str
    type: str
    name: str
    time_ns: int
    pid: int
    tid: int | str
    device: str
    address: int | None
    attributes: tuple[Sequence[str], Sequence[object]]
    """Keys and values."""
    python_stack: str = ""
    c_stack: str = ""


def put(file: Sink, rows: Iterable[Row]) -> None:
    """Write rows into a file, in their order."""
    for row in rows:
        file.add(row.id, (*row[:9], *row[10:]), dict(zip(*row.attributes, strict=True)))
    file.flush()


class Story:
    """Rows that get the next ID and time each."""

    def __init__(self, device: str = "0", pid: int = 100) -> None:
        self.rows: list[Row] = []
        self.device, self.pid = device, pid
        self.used = 0

    def add(
        self,
        event: str,
        kind: str,
        name: str = "N/A",
        address: int | None = None,
        attributes: tuple[Sequence[str], Sequence[object]] = ((), ()),
        **other: Any,
    ) -> int:
        """Add a row; returns its ID."""
        number = len(self.rows) + 1
        row = Row(
            number, event, kind, name, 1000 * number, self.pid, 7, self.device, address, attributes
        )
        self.rows.append(row._replace(**other))
        return number

    def malloc(
        self, address: int, size: int, kind: str = "HAL", number: int = 1, **extra: object
    ) -> int:
        """Add an allocation; ``extra`` are more keys of Attr."""
        self.used += size
        stacks = {k: extra.pop(k) for k in ("python_stack", "c_stack") if k in extra}
        keys = (*POOL_KEYS, *extra)
        values = (number, hex(address), size, self.used, 2 * self.used, *extra.values())
        return self.add("MALLOC", kind, "N/A", address, (keys, values), **stacks)

    def free(self, address: int, size: int, kind: str = "HAL", number: int = 1) -> int:
        self.used -= size
        values = (number, hex(address), size, max(self.used, 0), 2 * max(self.used, 0))
        return self.add("FREE", kind, "N/A", address, (POOL_KEYS, values))

    def access(self, address: int, size: int, number: int = 1, pool: str = "PTA") -> int:
        """Add an access by an operator of a pool's framework."""
        values = (number, hex(address), size, pool, "torch.float32", "[2, 3]")
        return self.add("ACCESS", "READ", "op", address, (ACCESS_KEYS, values))

    def start(self, name: str = "op", family: str = "ATEN") -> int:
        return self.add("OP_LAUNCH", f"{family}_START", name)

    def end(self, name: str = "op", family: str = "ATEN") -> int:
        return self.add("OP_LAUNCH", f"{family}_END", name)

    def mark(self, message: str = "test") -> int:
        return self.add("MSTX", "Mark", message)

    def idle(self, operators: int) -> None:
        for _ in range(operators):
            self.start()
            self.end()

    def csv(self, folder: Path, name: str = "memscope_dump_1.csv") -> str:
        return self._written(folder / name, CsvSink)

    def db(self, folder: Path, name: str = "memscope_dump_1.db") -> str:
        return self._written(folder / name, DatabaseSink)

    def _written(self, path: Path, form: type[Sink]) -> str:
        path.unlink(missing_ok=True)
        with contextlib.closing(form(str(path))) as file:
            put(file, self.rows)
        return str(path)

    def read(self, folder: Path) -> Rows:
        return read_rows(self.csv(folder))


def printed(run: Callable[..., None], *arguments: Any, **options: Any) -> list[str]:
    """The lines that a call prints, without what it says to root alone."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        run(*arguments, **options)
    return [one for one in said.getvalue().splitlines() if not one.startswith("WARN: Running as")]


def line(**fields: str) -> str:
    """A line of CSV; what is not given is as in a row of the manual. Keys: lower-case words."""
    usual = {
        "id": "1", "event": "MALLOC", "type": "HAL", "name": "N/A", "time": "5", "pid": "10",
        "tid": "11", "device": "0", "ptr": "0x0000124080013000",
        "attr": '"{allocation_id:1,addr:0x124080013000,size:512,used:512}"', "python": "", "c": "",
    }  # fmt: skip
    return ",".join((usual | fields).values())


def text_file(path: Path, *lines: str) -> str:
    """A CSV file of these lines behind the header."""
    path.write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return str(path)
