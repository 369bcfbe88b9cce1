"""Analyse a dump and print the findings: the functions and classes that programs call.

Options are checked when a configuration is made. Wrong values are the errors that Python has for
them, each with one line: ValueError, TypeError, FileNotFoundError, PermissionError.
"""

from __future__ import annotations

import inspect
import os
import stat
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from mem_parser.errors import one_line
from mem_parser.escape import log_line
from mem_parser.memscope import leaks as leaks_of
from mem_parser.memscope.database import is_database, table_name
from mem_parser.memscope.form import HAL, POOL_TITLES
from mem_parser.memscope.inefficient import (
    IDLE_OPERATORS,
    TYPES,
    DevicePeak,
    Found,
    costs,
    find_inefficient,
    labels_by_row,
    over_time,
    peaks,
)
from mem_parser.memscope.reading import address_text, read_rows, stacks_of
from mem_parser.memscope.rewriting import add_labels
from mem_parser.memscope.rows import FloatArray, Rows
from mem_parser.sizes import short_size

FILE_MAX_BYTES = 8 << 30
PATH_MAX_CHARS = 4096


def say(line: str) -> None:
    """Print a line; nothing in it acts on a terminal."""
    print(log_line(one_line(line)), flush=True)


class AnalysisConfig:
    """The file of an analysis, a `.csv` or `.db`. `input_path` is absolute, and that of the file
    itself where a link was given.
    """

    endings: tuple[str, ...] = (".csv", ".db")

    def __init__(self, input_path: str) -> None:
        self.input_path = _checked_path(input_path, self.endings)
        if os.geteuid() == 0:
            _warn_root(self.input_path)


class LeaksConfig(AnalysisConfig):
    """A search for leaks between marks."""

    def __init__(
        self,
        input_path: str,
        mstx_info: str,
        start_index: int,
        *,
        pools: bool = False,
        stacks: bool = False,
    ) -> None:
        """Check what is asked for.

        Args:
            input_path: the path of a dump.
            mstx_info: the message of the marks.
            start_index: the first of the three marks, from 0 on.
            pools: blocks of pools, too.
            stacks: show the stacks of the blocks, where the dump has them.
        """
        super().__init__(input_path)
        if not isinstance(mstx_info, str):
            raise TypeError(f"mstx_info must be a string, not {type(mstx_info).__name__}")
        if not mstx_info.strip():
            raise ValueError("mstx_info must not be empty or blank")
        self.mstx_info = mstx_info
        self.start_index = _whole("start_index", start_index, 0)
        self.pools = bool(pools)
        self.stacks = bool(stacks)


class InefficientConfig(AnalysisConfig):
    """A search for inefficient blocks, whose labels are written into the file."""

    def __init__(
        self,
        input_path: str,
        mem_size: int = 0,
        inefficient_type: str | Sequence[str] | None = None,
        idle_threshold: int = IDLE_OPERATORS,
        *,
        top: int = 0,
        stacks: bool = False,
        chart: bool = False,
        write: bool = True,
    ) -> None:
        """Check what is asked for.

        Args:
            input_path: the path of a dump; it must be writable where ``write`` is True.
            mem_size: smaller blocks get no label, in bytes.
            inefficient_type: which labels; None: all three.
            idle_threshold: operators between two accesses beyond which a block was idle.
            top: show so many blocks, by bytes x time, and the peak without the waste.
            stacks: show the stacks of these blocks.
            chart: draw bytes in use over time, as they were and without the waste.
            write: False: the file stays as it is.
        """
        super().__init__(input_path)
        if write and not os.access(self.input_path, os.W_OK):
            raise PermissionError(f"cannot write {one_line(self.input_path)}")
        self.mem_size = _whole("mem_size", mem_size, 0)
        self.inefficient_type = _types(inefficient_type)
        self.idle_threshold = _whole("idle_threshold", idle_threshold, 1)
        self.top = _whole("top", top, 0)
        self.stacks = bool(stacks)
        self.chart = bool(chart)
        self.write = bool(write)


def _warn_root(path: str) -> None:
    """Print what users of msMemScope know."""
    say("WARN: Running as root user: Some permission checks may be bypassed.")
    owner = os.stat(path).st_uid
    if owner != 0:
        say(f"WARN: File {path} is not owned by root (current owner UID {owner})")


def _types(given: str | Sequence[str] | None) -> list[str]:
    if given is None:
        return list(TYPES)
    listed = [given] if isinstance(given, str) else given
    if not isinstance(listed, (list, tuple)) or not listed:
        raise ValueError("inefficient_type must be a non-empty list or one of its strings")
    for one in listed:
        if one not in TYPES:
            raise ValueError(
                f"inefficient_type: {one_line(repr(one))} is none of {', '.join(TYPES)}"
            )
    return list(dict.fromkeys(listed))


def _whole(name: str, value: int, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        what = "non-negative" if least == 0 else "positive"
        raise ValueError(f"{name} must be a {what} integer, not {one_line(repr(value))}")
    return value


def _checked_path(given: str, endings: tuple[str, ...]) -> str:
    if not isinstance(given, (str, os.PathLike)):
        raise TypeError(f"input_path must be a string, not {type(given).__name__}")
    path = os.fspath(given)
    shown = one_line(path)
    if len(path) > PATH_MAX_CHARS:
        raise ValueError(f"input_path has more than {PATH_MAX_CHARS} characters")
    ending = os.path.splitext(path)[1].lower()
    if ending not in endings:
        raise ValueError(f"input_path must end with {' or '.join(endings)}: {shown}")
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except OSError as error:
        raise FileNotFoundError(f"no such file: {shown}") from error
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(f"not a regular file: {shown}")
    if not os.access(path, os.R_OK):
        raise PermissionError(f"cannot read {shown}")
    if status.st_size > FILE_MAX_BYTES:
        raise ValueError(f"input_path has more than {FILE_MAX_BYTES >> 30} GB: {shown}")
    return path


_MIB = 1 << 20
_DIGITS = 16
_CHART_COLUMNS, _CHART_LINES = 64, 8


class BaseAnalyzer(ABC):
    """An analysis of a dump."""

    @abstractmethod
    def analyze(self, config: Any) -> None:
        """Analyse, and print what is found. Raises DumpError for a broken file."""


class LeaksAnalyzer(BaseAnalyzer):
    """Finds HAL's blocks of a range that are not freed in time."""

    def __init__(self) -> None:
        self.leaks: list[str] = []
        """The lines of the results of all analyses."""

    def analyze(self, config: LeaksConfig) -> None:
        """Print the leaks of each device."""
        rows = read_rows(config.input_path)
        found = leaks_of.find_leaks(rows, config.mstx_info, config.start_index, pools=config.pools)
        shown: list[str] = []
        for device in found:
            say(f"INFO: Starting to analyze data for device {device.device}...")
            if device.range is not None:
                shown += _leak_lines(rows, device, config)
            elif device.marks < leaks_of.MARKS:
                say(
                    f"ERROR: Device {device.device} has fewer than 3 data points."
                    " Please re-collect the data points."
                )
                say(f"INFO: {device.marks} of 3 marks with this message.")
            else:
                say(
                    f"INFO: Start index {config.start_index} is out of bounds. Device"
                    f" {device.device} has a total of {device.marks} MSTX events."
                )
        if shown:
            say("")
            say("Leak Analysis Results for the Custom Range:")
        for line in shown:
            say(line)
        self.leaks += shown


def _leak_lines(rows: Rows, found: leaks_of.DeviceLeaks, config: LeaksConfig) -> Iterable[str]:
    what = "memory" if config.pools else "hal memory"
    if not len(found.blocks):
        return [f"No {what} leaks detected on device {found.device}."]
    lines = [f"====== ERROR: Detected memory leaks on device {found.device} ======"]
    stacks = _stacks(config, rows, found.blocks.tolist())
    # As the file has its addresses: some releases fill them up with zeros.
    like = address_text(config.input_path, int(rows.place[found.blocks[0]]))
    digits = _DIGITS if len(like) == len("0x") + _DIGITS else 0
    for row in found.blocks.tolist():
        kind = rows.words.types[rows.type[row]]
        title = "Hal memory" if kind == HAL else POOL_TITLES[kind]
        lines.append(
            f"Direct {title} leak of {rows.size[row] / _MIB} Mb(s)"
            f" at 0x{int(rows.address[row]):0{digits}x} in Index {rows.id[row]}."
        )
        lines += stacks.get(row, [])
    if config.pools:
        total = int(rows.size[found.blocks].sum())
        lines.append(
            f"====== SUMMARY: {total / _MIB} Mb(s) leaked in {len(found.blocks)} allocation(s)"
            " ======"
        )
    return lines


def _stacks(
    config: LeaksConfig | InefficientConfig, rows: Rows, wanted: Sequence[int]
) -> dict[int, list[str]]:
    """Return the lines of the stacks of some rows; none where they are not asked for."""
    if not config.stacks:
        return {}
    places = {row: int(rows.place[row]) for row in wanted}
    texts = stacks_of(config.input_path, places.values())
    found = {}
    for row, place in places.items():
        both = [text for text in texts.get(place, ()) if text not in {"", "NA"}]
        frames = [frame for text in both for frame in text.splitlines()]
        found[row] = [f"    {frame.strip()}" for frame in frames if frame.strip()]
    return found


class InefficientAnalyzer(BaseAnalyzer):
    """Finds inefficient blocks and writes their labels into the dump."""

    def __init__(self) -> None:
        self.inefficient_results: dict[str, list[str]] = {}
        """The labels of each block, of all analyses, by `ROW_PID_ID`: the line of its allocation in
        a CSV file, or its rowid, the process and the row's ID.
        """

    def analyze(self, config: InefficientConfig) -> None:
        """Print how it goes, and write. A failure leaves the file as it was."""
        name = os.path.basename(config.input_path)
        by_row = is_database(config.input_path)
        table = f"{name} (table: {table_name(config.input_path)})" if by_row else "CSV file"
        say(f"INFO: Connected to {table}")
        rows = read_rows(config.input_path)
        say(f"INFO: {'DB' if by_row else 'CSV'} file read successfully")
        found = find_inefficient(
            rows, config.mem_size, tuple(config.inefficient_type), config.idle_threshold
        )
        labels = labels_by_row(found)
        for row, kinds in labels.items():
            place = int(rows.place[row]) + (not by_row)  # the header is a CSV file's first line
            self.inefficient_results[f"{place}_{rows.pid[row]}_{rows.id[row]}"] = kinds
        if config.write:
            where = f"{'database' if by_row else 'csv'} {name}"
            say(f"INFO: Connecting to {where} to write results")
            add_labels(config.input_path, {int(rows.place[row]): labels[row] for row in labels})
            say(f"INFO: All results have been successfully written to {where}")
        if config.top:
            self._rank(config, rows, found)
        if config.top or config.chart:
            self._peaks(config, rows, found)

    def _rank(self, config: InefficientConfig, rows: Rows, found: list[Found]) -> None:
        ranked = costs(rows, found)
        total = sum(cost.byte_seconds for cost in ranked)
        say("")
        say(
            f"Inefficient memory: {len(ranked)} block(s),"
            f" {total / _MIB:.6g} MiB x s held for nothing"
        )
        shown = ranked[: config.top]
        stacks = _stacks(config, rows, [cost.row for cost in shown])
        for cost in shown:
            row = cost.row
            owner = int(rows.owner[row])
            who = f" {rows.words.owners[owner]}" if owner >= 0 else ""
            say(
                f"{cost.byte_seconds / _MIB:>12.6g} MiB x s  {short_size(cost.size_bytes)} for"
                f" {cost.idle_ns / 1e6:.6g} ms  Index {rows.id[row]}"
                f" device {rows.words.device_text(rows.device[row])}"
                f" 0x{int(rows.address[row]):x}{who}  {','.join(cost.labels)}"
            )
            for line in stacks.get(row, []):
                say(line)
        if len(ranked) > len(shown):
            say(f"{len(ranked) - len(shown)} more")

    def _peaks(self, config: InefficientConfig, rows: Rows, found: list[Found]) -> None:
        for peak in peaks(rows, found):
            saved = peak.peak_bytes - peak.better_peak_bytes
            part = 100 * saved / peak.peak_bytes if peak.peak_bytes else 0.0
            say(
                f"Device {peak.device}: peak {short_size(peak.peak_bytes)},"
                f" {short_size(peak.better_peak_bytes)} without them"
                f" ({short_size(saved)} less, {part:.1f}%)"
            )
            if config.chart:
                for line in _chart(peak):
                    print(log_line(line))


def _chart(peak: DevicePeak) -> Iterable[str]:
    """Return bytes in use over time in lines: an area, and a dot where it would have been without
    the
    """
    used, better = over_time(peak, _CHART_COLUMNS)
    seconds = (int(peak.time_ns[-1]) - int(peak.time_ns[0])) / 1e9
    return chart(used, better, seconds, _CHART_LINES)


_ANALYZERS: dict[str, tuple[type[BaseAnalyzer], type[AnalysisConfig]]] = {
    "leaks": (LeaksAnalyzer, LeaksConfig),
    "inefficient": (InefficientAnalyzer, InefficientConfig),
}


def list_analyzers() -> list[str]:
    """Return the kinds of analysis."""
    return list(_ANALYZERS)


def get_analyzer_config(analyzer_type: str) -> dict[str, Any]:
    """Return what an analysis takes: the name of its class, its parameters, and further options
    with their defaults. Raises ValueError for a kind that there is not.
    """
    config = _known(analyzer_type)[1]
    signature = list(inspect.signature(config).parameters.values())
    return {
        "config_class": config.__name__,
        "parameters": [p.name for p in signature if p.kind is not p.KEYWORD_ONLY],
        "options": {p.name: p.default for p in signature if p.kind is p.KEYWORD_ONLY},
    }


def analyze(analyzer_type: str, **kwargs: Any) -> None:
    """Run an analysis with the parameters of its kind, and print what is found.

    Raises ValueError for a kind that there is not, and what the configuration and the file raise.
    """
    analyzer, config = _known(analyzer_type)
    analyzer().analyze(config(**kwargs))


def check_leaks(input_path: str, mstx_info: str, start_index: int, **options: Any) -> None:
    """Print which blocks of a range are not freed in time; see `LeaksConfig`."""
    LeaksAnalyzer().analyze(LeaksConfig(input_path, mstx_info, start_index, **options))


def check_inefficient(
    input_path: str,
    mem_size: int = 0,
    inefficient_type: str | Sequence[str] | None = None,
    idle_threshold: int = IDLE_OPERATORS,
    **options: Any,
) -> None:
    """Find inefficient blocks and write their labels into the file; see `InefficientConfig`."""
    config = InefficientConfig(input_path, mem_size, inefficient_type, idle_threshold, **options)
    InefficientAnalyzer().analyze(config)


def _known(analyzer_type: str) -> tuple[type[BaseAnalyzer], type[AnalysisConfig]]:
    if analyzer_type not in _ANALYZERS:
        raise ValueError(
            f"unknown analyzer type: {one_line(str(analyzer_type))};"
            f" available types are {list(_ANALYZERS)}"
        )
    return _ANALYZERS[analyzer_type]


def chart(values: FloatArray, dots: FloatArray, seconds: float, lines: int) -> Iterable[str]:
    """Yield the lines of an area, of its second series as dots, and of the axis of time.

    Characters that standard output cannot write are drawn with others. Raises ValueError before
    Python 3.11, which the drawing needs.
    """
    if sys.version_info < (3, 11):  # noqa: UP036 - no command: a program of any version
        raise ValueError(f"a chart needs Python 3.11, and this is {sys.version.split()[0]}")
    from mem_parser.reports.chart import area, axis

    plain = not _draws_blocks()
    yield from area(values, dots, height=lines, ascii_only=plain)
    yield from axis(len(values), 0.0, seconds, ascii_only=plain)


def _draws_blocks() -> bool:
    try:
        "█·│└─".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
