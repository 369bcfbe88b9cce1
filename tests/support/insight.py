"""What MindStudio Insight asks of a `memscope_dump_*.db`: its queries, in the order in which it
opens a file, and the lives of blocks that it makes of the answers.

The queries are those of its server (memscope/database and memscope/parser): columns by name and by
place, the table of rows by either name, a table of calls for each process, which gets a column.
"""

import json
import sqlite3
from pathlib import Path
from typing import Any, NamedTuple, Self

NOT_DEVICES = "('N/A', '', 'host')"
EVENT_COLUMNS = (
    ("ID", "id"), ("Event", "event"), ("`Event Type`", "eventType"), ("Name", "name"),
    ("`Timestamp(ns)`", "_timestamp"), ("`Process Id`", "processId"), ("`Thread Id`", "threadId"),
    ("`Device Id`", "deviceId"), ("Ptr", "ptr"), ("Attr", "attr"),
    ("`Call Stack(Python)`", "callStackPython"), ("`Call Stack(C)`", "callStackC"),
)  # fmt: skip


class InsightError(Exception):
    """A file that Insight would refuse, with its reason."""


class Block(NamedTuple):
    """A block as Insight shows it."""

    device: str
    kind: str
    address: str
    size: int
    start_ns: int
    end_ns: int
    owner: str


class Insight:
    """One file, opened as Insight does. Use as a context manager."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path)
        self.table = self._table()
        self.with_stacks = self._stack_columns()
        for table in self.trace_tables():
            self._add_depth(table)
        self.first_ns, self.last_ns = self._times()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        self._db.close()

    def _rows(self, sql: str, *bound: object) -> list[tuple[Any, ...]]:
        return self._db.execute(sql, bound).fetchall()

    def _table(self) -> str:
        for name in ("memscope_dump", "leaks_dump"):
            if self._rows("SELECT 1 FROM sqlite_master WHERE type='table' AND name=?", name):
                return name
        raise InsightError("there is no table of rows")

    def _stack_columns(self) -> bool:
        sql = f"SELECT DISTINCT name FROM pragma_table_info('{self.table}') WHERE name LIKE ?"
        return {name for (name,) in self._rows(sql, "Call Stack%")} == {
            "Call Stack(C)",
            "Call Stack(Python)",
        }

    def trace_tables(self) -> list[str]:
        sql = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE ?"
        return [name for (name,) in self._rows(sql, "python_trace_%")]

    def _add_depth(self, table: str) -> None:
        names = {name for (name,) in self._rows(f"SELECT name FROM pragma_table_info('{table}')")}
        if "Depth" not in names:
            self._db.execute(f"ALTER TABLE {table} ADD COLUMN Depth INTEGER DEFAULT -1;")

    def _times(self) -> tuple[int, int]:
        column = "`Timestamp(ns)`"
        asked = [f"SELECT MIN({column}), MAX({column}) FROM {self.table} WHERE {column} != 'N/A';"]
        start, end = "`StartTime(ns)`", "`EndTime(ns)`"
        asked += [
            f"SELECT MIN({start}), MAX({end}) FROM {table} WHERE {start} != 'N/A' AND {end} !="
            " 'N/A';"
            for table in self.trace_tables()
        ]
        found = [(int(low or 0), int(high or 0)) for [(low, high)] in map(self._rows, asked)]
        if any(low <= 0 or high <= 0 for low, high in found):
            raise InsightError(f"times that make no sense: {found}")
        first, last = min(low for low, _ in found), max(high for _, high in found)
        if not 0 < first < last < 1 << 63:
            raise InsightError("the file has no span of time")
        return first, last

    def devices(self) -> set[str]:
        sql = (
            f"SELECT DISTINCT(`Device Id`) FROM {self.table} WHERE `Device Id` NOT IN {NOT_DEVICES}"
        )
        return {device for (device,) in self._rows(sql)}

    def types(self) -> dict[str, set[str]]:
        """The types of memory of each device."""
        sql = (
            f"SELECT DISTINCT `Device Id`, `Event Type` FROM {self.table} WHERE Event in"
            f" ('MALLOC', 'FREE') AND `Device Id` NOT IN {NOT_DEVICES}"
        )
        found: dict[str, set[str]] = {}
        for device, kind in self._rows(sql):
            found.setdefault(device, set()).add(kind)
        return found

    def device_times(self) -> dict[str, tuple[int, int]]:
        """First and last time of each device."""
        sql = (
            f"SELECT `Device Id`,MIN(`Timestamp(ns)`),MAX(`Timestamp(ns)`) FROM {self.table} WHERE"
            " `Device Id` NOT IN ('N/A','host') GROUP BY `Device Id`"
        )
        return {device: (low, high) for device, low, high in self._rows(sql)}

    def _columns(self) -> str:
        shown = [
            f"{name} - {self.first_ns} AS {key}" if key == "_timestamp" else f"{name} AS {key}"
            for name, key in EVENT_COLUMNS
        ]
        return ", ".join(["COUNT(*) OVER()", *shown])

    def events(
        self, device: str, page: int, size: int, **filters: str
    ) -> tuple[int, list[tuple[Any, ...]]]:
        """A page of the table of events: how many there are in all, and the rows."""
        names = {key: name for name, key in EVENT_COLUMNS}
        where = "".join(f" AND {names[key]} LIKE ? " for key in filters)
        sql = (
            f"select {self._columns()} from {self.table}  where `Device Id` = ? {where}"
            " ORDER BY ID ASC  LIMIT ? OFFSET ? "
        )
        bound = [f"%{text}%" for text in filters.values()]
        rows = self._rows(sql, device, *bound, size, (page - 1) * size)
        return (rows[0][0] if rows else 0), [row[1:] for row in rows]

    def group(self, allocation: int) -> list[tuple[Any, ...]]:
        """The events of one block, by what stands in Attr."""
        sql = (
            f"SELECT {self._columns()} FROM {self.table} WHERE Attr like ? ORDER BY `Timestamp(ns)`"
        )
        return [row[1:] for row in self._rows(sql, f'%"allocation_id":"{allocation}"%')]

    def blocks(self) -> list[Block]:
        """The lives of blocks: of one address and type, from a MALLOC to the next FREE."""
        sql = (
            f"select * from {self.table} where `Device Id` not in {NOT_DEVICES} order by"
            " `Timestamp(ns)`;"
        )
        live: dict[tuple[str, str], tuple[int, dict[str, str]]] = {}
        found = []
        for _, event, kind, _, time_ns, _, _, device, address, attributes, *_ in self._rows(sql):
            if event not in {"MALLOC", "FREE"}:
                continue
            told = json.loads(attributes)
            assert all(isinstance(value, str) for value in told.values())
            if not int(told["size"]):
                continue
            key = device, address + kind
            if event == "MALLOC":
                if key in live:
                    raise InsightError(f"{address} is allocated twice")
                live[key] = time_ns, told
            elif key not in live:
                raise InsightError(f"{address} is freed without an allocation")
            else:
                start_ns, born = live.pop(key)
                found.append(
                    Block(device, kind, address, int(born["size"]), start_ns, time_ns,
                          born.get("owner", ""))
                )  # fmt: skip
        for (device, key_text), (start_ns, born) in live.items():
            address, kind = key_text[:18], key_text[18:]
            found.append(
                Block(device, kind, address, int(born["size"]), start_ns, self.last_ns,
                      born.get("owner", ""))
            )  # fmt: skip
        return found

    def threads(self) -> set[int]:
        return {
            thread
            for table in self.trace_tables()
            for (thread,) in self._rows(f"SELECT DISTINCT `Thread Id` FROM {table}")
        }

    def calls(self, thread: int) -> list[tuple[Any, ...]]:
        """The calls of a thread: number, function, begin and end since the first time, thread,
        process, depth.
        """
        for table in self.trace_tables():
            sql = (
                "SELECT ROWID, FuncInfo, (`StartTime(ns)` - ?) AS START, (`EndTime(ns)` - ?) AS"
                f" END, `Thread Id`, `Process Id`, Depth FROM {table} WHERE NOT (0) AND"
                " `Thread Id` == ? AND END > START ORDER BY `StartTime(ns)`"
            )
            found = self._rows(sql, self.first_ns, self.first_ns, thread)
            if found:
                for number, *_ in found:
                    self._db.execute(f"UPDATE {table} SET Depth = ? WHERE ROWID = ?", (0, number))
                return found
        return []
