"""Tables and columns that `convert` writes and `query` reads.

Raw counts are of sampled blocks. An estimate is weighed before any sum (`mem_parser.estimate`) and
stands beside its variance: sums of both are right for disjoint rows, and the standard error of a
sum is the root of the summed variance.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from mem_parser.counts import PARTS, Count


class Kind(enum.StrEnum):
    """The type of a column. A WORD is a text of which there are few."""

    WORD = "word"
    TEXT = "text"
    BOOL = "bool"
    INT8 = "int8"
    INT64 = "int64"
    UINT32 = "uint32"
    UINT64 = "uint64"
    FLOAT64 = "float64"

    @property
    def sql(self) -> str:
        """The type's name in SQL."""
        return _SQL[self]


_SQL = {
    Kind.WORD: "VARCHAR", Kind.TEXT: "VARCHAR", Kind.BOOL: "BOOLEAN", Kind.INT8: "TINYINT",
    Kind.INT64: "BIGINT", Kind.UINT32: "UINTEGER", Kind.UINT64: "UBIGINT", Kind.FLOAT64: "DOUBLE",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """A column. Its unit is part of its name, or in ``meaning``."""

    name: str
    kind: Kind
    meaning: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table; ``about`` says what a row is, ``logs_only`` that no `.heap` file has one."""

    name: str
    about: str
    fields: tuple[Field, ...]
    logs_only: bool = False


_W, _T, _B = Kind.WORD, Kind.TEXT, Kind.BOOL
_I, _U, _V, _F = Kind.INT64, Kind.UINT32, Kind.UINT64, Kind.FLOAT64
_FILE = Field("file", _W, "the file as it was named; of a log the first of its files")
_DOMAIN = Field("domain", _W, "which memory: host, or a device's")
_STACK = Field("stack", _U, "number of the stack of the birth: of stacks and frames")
_NANOSECONDS = "nanoseconds since the capture began"


def _estimates(prefix: str, of: str) -> tuple[Field, ...]:
    """Return the columns of estimates of objects and bytes, each with its variance."""
    return (
        Field(f"{prefix}objects", _F, f"estimate: {of}, blocks"),
        Field(f"{prefix}objects_variance", _F, "its variance"),
        Field(f"{prefix}bytes", _F, f"estimate: {of}, bytes"),
        Field(f"{prefix}bytes_variance", _F, "its variance"),
    )


def _counted(count: str, of: str) -> tuple[Field, ...]:
    return (
        Field(f"{count}_samples", _I, f"sampled blocks: {of}"),
        Field(f"{count}_sampled_bytes", _I, "their bytes"),
        *_estimates(f"{count}_", of),
    )


def _thread(prefix: str, who: str) -> tuple[Field, ...]:
    return (
        Field(f"{prefix}thread", _W, f"name of the thread that {who}; null: unknown"),
        Field(f"{prefix}tid", _I, "its number in the system, which may come again"),
        Field(f"{prefix}thread_row", _U, "its number in the capture, which does not"),
    )


_PARTS = {
    Count.RESIDENT: "in RAM of what is in use (--resident)",
    Count.HUGE: "in RAM on huge pages",
    Count.SWAPPED: "swapped of what is in use",
    Count.SLOP: "behind what was asked for, in RAM",
    Count.PAGES: "pages in RAM, charged to the blocks on them",
    Count.HELD: "free on these pages",
    Count.PINNED: "of this on pages with no other block",
}


def _part(part: Count) -> tuple[Field, ...]:
    return (
        Field(f"{part}_bytes", _F, f"estimate: {_PARTS[part]}; null: unknown"),
        Field(f"{part}_bytes_variance", _F, "its variance"),
    )


CAPTURES = Table(
    "captures",
    "a file and one memory of it",
    (
        _FILE,
        _DOMAIN,
        Field("format", _W, "whose format the file has"),
        Field("pid", _I, "process"),
        Field("host", _W, "machine"),
        Field("command", _T, "command line"),
        Field("started_s", _F, "when what is in the tables began, seconds since 1970"),
        Field("duration_s", _F, "how long it is"),
        Field("from_ns", _I, f"of a log: its first moment, {_NANOSECONDS}"),
        Field("to_ns", _I, "of a log: its last moment"),
        Field("rate_bytes", _F, "mean bytes between samples; 1: every block"),
        Field("errors_known", _B, "whether the variances tell the error of the estimates"),
        Field("peak_at_ns", _I, f"when most was live, {_NANOSECONDS}; null: unknown"),
    ),
)
EVENTS = Table(
    "events",
    "an event, by time",
    (
        _FILE,
        Field("time_ns", _I, _NANOSECONDS),
        Field("kind", _W, "birth, death, moved, back, refused or mark (events.md)"),
        Field("change", Kind.INT8, "1: a block more is live; -1: one less; 0"),
        Field("address", _V, "of the block; of a mark null"),
        Field("size_bytes", _V, "bytes that the program asked for; of a mark null"),
        *_estimates("", "what the block stands for; of a mark, or refused, null"),
        *_thread("", "made the event"),
        _DOMAIN,
        _STACK,
        Field("born_ns", _I, "birth of the block; but of a birth rounded down to 4.2 ms"),
        Field("mark", _U, "of a mark: its number in marks"),
    ),
    logs_only=True,
)
BLOCKS = Table(
    "blocks",
    "a block whose birth or death is in the log",
    (
        _FILE,
        _DOMAIN,
        _STACK,
        Field("address", _V, "where it was"),
        Field("size_bytes", _V, "bytes that the program asked for"),
        *_estimates("", "what the block stands for"),
        Field("fate", _W, "freed; live: at the end; lost: its end is missing in the log"),
        Field("born_ns", _I, f"birth, {_NANOSECONDS}"),
        Field("born_exactly", _B, "false: the birth is not in the log, born_ns is good to 4.2 ms"),
        Field("died_ns", _I, "death; null where not freed"),
        Field("lifetime_ns", _I, "from birth to death; null where not freed"),
        *_thread("born_", "allocated it"),
        *_thread("died_", "freed it"),
        Field("between", _I, "other sampled births of its thread in its life; null: unknown"),
    ),
    logs_only=True,
)
SITES = Table(
    "sites",
    "a stack and a class of sizes in one memory",
    (
        _FILE,
        _DOMAIN,
        _STACK,
        *_counted("inuse", "in use at the end"),
        *_counted("alloc", "allocated"),
        *_counted("peak", "live at the peak"),
        *(field for part in PARTS for field in _part(part)),
        Field("refused_blocks", _I, "blocks that the program did not get, as counted"),
        Field("refused_bytes", _I, "their bytes"),
    ),
)
STACKS = Table(
    "stacks",
    "a call stack",
    (
        _FILE,
        _STACK,
        Field("depth", _U, "frames, inlined ones too"),
        Field("is_cut", _B, "outer frames are missing"),
        Field("function", _W, "function that reports charge its blocks to"),
        Field("source", _W, "source file of that place; empty: unknown"),
        Field("line", _U, "line there; null: unknown"),
        Field("module", _W, "file of the program or library; of Python the source file"),
        Field("label", _W, "names of its Python thread and task; empty: none"),
        Field(
            "calls",
            _T,
            "functions, outermost first, between them `;`, without the allocator's own",
        ),
    ),
)
FRAMES = Table(
    "frames",
    "a frame of a stack",
    (
        _FILE,
        _STACK,
        Field("frame", _U, "position, 0 the innermost"),
        Field("function", _W, "name as reports show it"),
        Field("full_name", _W, "with parameters and template arguments"),
        Field("source", _W, "source file; empty: unknown"),
        Field("line", _U, "line; null: unknown"),
        Field("module", _W, "file of the program or library; of Python the source file"),
        Field("file_offset", _V, "byte in the module's file; null: unknown, or Python's"),
        Field("address", _V, "in the process; of a caller one less; null: Python's, or no frame"),
        Field("inlined", _B, "part of the next frame's function"),
        Field("python", _B, "a frame of Python's"),
    ),
)
READINGS = Table(
    "readings",
    "a reading of the process's counters",
    (
        _FILE,
        _DOMAIN,
        Field("time_ns", _I, _NANOSECONDS),
        Field("rss_bytes", _I, "resident memory; null: not read"),
        Field("live_bytes", _F, "estimate of live bytes; of a log null: events say it"),
        Field("live_bytes_variance", _F, "its variance"),
        Field("samples", _I, "sampled blocks that were live; of a log null"),
        Field("device_used_bytes", _I, "of a device: in use by all programs"),
        Field("device_total_bytes", _I, "of a device: that it has"),
        Field("reserved_bytes", _I, "of a pool: that it holds"),
    ),
)
MARKS = Table(
    "marks",
    "a mark of the program",
    (
        _FILE,
        Field("mark", _U, "number"),
        Field("time_ns", _I, _NANOSECONDS),
        Field("kind", _W, "point, begin or end"),
        Field("id", _I, "a range's begin and end share it"),
        Field("library", _W, "domain of the mark, as its program named it; empty: none"),
        Field("text", _W, "text"),
        *_thread("", "made it"),
    ),
)
HOLES = Table(
    "holes",
    "a time of which events are missing",
    (
        _FILE,
        Field("from_ns", _I, _NANOSECONDS),
        Field("to_ns", _I, "the same, its end"),
        Field("lost", _I, "how many events; null: unknown"),
        Field("ring", _I, "ring of the sampler; null: none"),
        Field("why", _W, "what happened"),
    ),
    logs_only=True,
)
TABLES = (EVENTS, BLOCKS, SITES, STACKS, FRAMES, READINGS, MARKS, HOLES, CAPTURES)


def rows() -> list[tuple[str, str, str, str]]:
    """Return table, column, type and meaning of every column."""
    return [(t.name, f.name, f.kind.sql, f.meaning) for t in TABLES for f in t.fields]
