"""Output of the capturing commands: results, next steps, progress.

Model: functions from results to lines of text, and one progress bar. Nothing here knows segments.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Self

from mem_cli.console import is_quiet, plain_console
from mem_cli.rerun_hint import next_command, next_lines
from mem_parser.errors import InputFileError
from mem_parser.escape import file_part, one_line, shell_path, shell_paths
from mem_parser.programname import names_of_siblings, other_file, program_name
from mem_parser.sizes import short_size
from mem_parser.units import counted, format_rate
from mem_profiler.system import clock_time

if TYPE_CHECKING:
    from rich.progress import Progress

    from mem_profiler.capture.saving import Result
    from mem_profiler.capture.session import Session
    from mem_profiler.events.collector import Log
    from mem_profiler.segment.room import Room

SUCCESS = "succeeded in collecting memory data!"
_ROWS_MAX, _NOTES_MAX = 40, 5
"""Processes of a run that have a row of their own, and notes on all of them that are shown."""
_OF_MULTIPROCESSING = (
    ("spawn", "worker", "child of a worker"),
    ("forkserver", "server of forks", "worker"),
    ("resource_tracker", "tracker of resources", "tracker of resources"),
)
"""What `-c` of a helper imports, and what the process is that runs it, and a fork of that."""
_CHILDREN = 3
_CHILDREN_MAX = 100


def _ended(result: Result, *, awaited: bool) -> str | None:
    if result.kind == "recovered":
        name = one_line(program_name(result.comm, result.exe, result.command)) or "?"
        return f"{name} (pid {result.pid}) had ended; everything sampled up to then is in the file"
    words = result.end.split()
    after = f"after {result.duration_s:.1f} s; everything sampled up to then is in the file"
    if words[0] == "signal":
        return f"target ended by signal {words[1]} ({words[2]}) {after}"
    if result.end in ("exited", "target ended") and not awaited:
        return f"target ended {after}"
    if result.end == "interrupted":
        return f"interrupted {after}"
    return None


def binary(result: Result) -> str:
    """The program by the name used to start it, if that is still the same file."""
    import shutil

    called = shutil.which(result.command.split(" ", 1)[0])
    if called and os.path.realpath(called) == os.path.realpath(result.exe):
        return os.path.abspath(called)
    return result.exe


def _roles(results: Sequence[Result], program_pid: int) -> list[str]:
    """Say which process of a run each file is of."""
    names = [program_name(one.comm, one.exe, one.command) for one in results]
    commands = [one.command for one in results]
    roles = names_of_siblings(list(zip(names, commands, strict=True)))
    for i, result in enumerate(results):
        for module, started, forked in _OF_MULTIPROCESSING:
            if f"from multiprocessing.{module} import" in result.command:
                roles[i] = f"{forked if result.forked else started} of multiprocessing"
        if result.pid == program_pid:
            roles[i] += " (the program itself)"
        if result.end.startswith("signal "):
            roles[i] += f", ended by {result.end.split()[-1]}"
        elif not program_pid and result.end in ("exited", "target ended"):
            roles[i] += ", ended"
    return roles


def _file_lines(result: Result) -> Iterator[str]:
    facts = [counted(result.samples, "sample"), f"{result.lost:,} lost"]
    if result.failed:
        facts.append(f"{counted(result.failed, 'allocation')} refused")
    stored = f"{short_size(result.size_bytes)}{' (gzip)' if result.packed else ''}"
    yield f"  {one_line(result.path)}   {stored}   {', '.join(facts)}"
    if result.cut:
        from mem_parser.reports.header import cut_line  # not at each start

        yield f"  {cut_line(result.cut, result.depth_limit)}"


def _log_lines(log: Log) -> Iterator[str]:
    """The lines about the log of a capture's events."""
    facts = [counted(log.told.get("events", 0), "event"), f"{log.told.get('lost', 0)} lost"]
    if log.dropped_files:
        facts.append(f"{counted(log.dropped_files, 'older file')} removed")
    for path in log.paths[:-1]:
        yield f"  {one_line(path)}"
    for path in log.paths[-1:]:
        yield f"  {one_line(path)}   {', '.join(facts)}"
    if log.problem:
        yield f"note: {one_line(log.problem)}"


def recovered_lines(results: Sequence[Result], *, notes: bool) -> Iterator[str]:
    """The files of several ended processes, a row each, the largest in use first. ``notes``: these
    and the next step too.
    """
    results = sorted(results, key=lambda one: -one.inuse_bytes)
    rows = [("PID", "PROGRAM", "LAST SEEN", "SAMPLES", "LOST", "≈IN USE", "FILE")]
    for result in results:
        name = one_line(program_name(result.comm, result.exe, result.command)) or "?"
        seen = clock_time(result.until_s) if result.until_s else "-"
        rows += [
            (str(result.pid), told, seen, *_counts(one), short_size(one.inuse_bytes), _path(one))
            for told, one in _with_devices(result, name)
        ]
    yield from _table(rows, left=(1, 2, 6))
    yield from _after_table(results, notes=notes)


def family_lines(results: Sequence[Result], *, notes: bool) -> Iterator[str]:
    """The files of a process and all below it, in a table as of a run, which has one next step."""
    if early := [one.duration_s for one in results if one.end == "interrupted"]:
        after = f"after {max(early):.1f} s"
        yield f"interrupted {after}; everything sampled up to then is in the files"
    yield from run_lines(results, 0, notes=notes, of_family=True)


def run_lines(
    results: Sequence[Result], program_pid: int, *, notes: bool, of_family: bool = False
) -> Iterator[str]:
    """The files of the processes of a run, a row each, the one that took the most memory first;
    the smallest of many have one line. ``notes``: these and the next step too, which is for all
    ``of_family``.
    """
    roles = zip(results, _roles(results, program_pid), strict=True)
    found = sorted(roles, key=lambda one: -_most_bytes(one[0]))
    rows = [("PID", "≥PEAK RSS", "≈PEAK", "SAMPLES", "LOST", "PROCESS", "FILE")]
    for result, role in found[:_ROWS_MAX]:
        rss = short_size(result.peak_rss_bytes) if result.peak_rss_bytes else "-"
        rows += [
            (str(result.pid), rss, short_size(one.peak_bytes), *_counts(one), told, _path(one))
            for told, one in _with_devices(result, role)
        ]
    yield from _table(rows, left=(5, 6))
    if rest := [one for one, _ in found[_ROWS_MAX:]]:
        lost = sum(file.lost for one in rest for file in (one, *one.devices))
        most = short_size(_most_bytes(rest[0]))
        yield f"{len(rest):,} more: none above {most}, {lost:,} lost"
    for result, _ in found if notes else ():
        yield from _of_kill(result)
    yield from _after_table([one for one, _ in found], notes=notes, step_of_all=of_family)


def _of_kill(result: Result) -> Iterator[str]:
    if result.end.endswith("SIGKILL"):
        yield f"  out of memory? dmesg | grep 'Killed process {result.pid} '"


def _most_bytes(result: Result) -> int:
    """The most memory that a process is known to have taken: of a short one that of its blocks."""
    return max(result.peak_rss_bytes, result.peak_bytes)


def _with_devices(result: Result, name: str) -> Iterator[tuple[str, Result]]:
    yield name, result
    for one in result.devices:
        yield one_line(one.domain), one


def _counts(result: Result) -> tuple[str, str]:
    return f"{result.samples:,}", f"{result.lost:,}"


def _path(result: Result) -> str:
    return one_line(result.path)


def _table(rows: Sequence[tuple[str, ...]], *, left: Collection[int]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [
            text.ljust(width) if i in left else text.rjust(width)
            for i, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def _after_table(
    results: Sequence[Result], *, notes: bool, step_of_all: bool = False
) -> Iterator[str]:
    """The logs, the notes and the next step; of files of which the first is the largest."""
    for result in results:
        if result.log is not None:
            yield from _log_lines(result.log)
    texts = Counter(text for one in results for text in one.notes) if notes else Counter[str]()
    for text, count in list(texts.items())[:_NOTES_MAX]:
        yield f"note: {one_line(text)}{f' ({count} processes)' if count > 1 else ''}"
    if len(texts) > _NOTES_MAX:
        yield f"  {len(texts) - _NOTES_MAX} more notes are in the files"
    if notes:
        paths = [one.path for one in (results if step_of_all else results[:1])]
        yield from next_lines([[next_command("mem_parser", reads=paths[0]), shell_paths(paths)]])


LEAKS_FROM_S = 10.0  # shorter captures show little growth


def result_lines(
    result: Result,
    *,
    awaited: bool = False,
    notes: bool = True,
    captured: Collection[int] | None = (),
    steps: bool = True,
) -> Iterator[str]:
    """The lines about one written file, with or without ``notes`` and the next ``steps``.
    `awaited`: the process's ordinary end is no news. ``captured``: the processes of the same
    capture; None: it took all below it.
    """
    ended = _ended(result, awaited=awaited)
    if ended:
        yield ended
    if notes:
        yield from _of_kill(result)
    for note in result.notes if notes else ():
        yield f"note: {one_line(note)}"
    yield SUCCESS
    for one in (result, *result.devices):
        yield from _file_lines(one)
    if result.log is not None:
        yield from _log_lines(result.log)
    if result.samples == 0:
        yield f"  0 samples: no allocation was sampled in these {result.duration_s:.1f} s"
    if notes and captured is not None:
        yield from _children_lines(result.pid, captured, every=result.samples == 0)
    if notes and steps:
        yield from next_lines(_next(result, awaited=awaited))


def step_of_all(results: Sequence[Result]) -> Iterator[str]:
    """The next step with the files of a process and all below it."""
    parser = next_command("mem_parser", reads=results[0].path)
    yield from next_lines([[parser, shell_paths([one.path for one in results])]])


def _children_lines(pid: int, captured: Collection[int], *, every: bool) -> Iterator[str]:
    """Yield the children that do the work of a server and have no capture, or ``every`` child of a
    process without samples: one of them may do the work. ``captured`` have a file beside this.
    """
    from mem_cli.profiler.target import WRITE
    from mem_profiler.process import procfs

    found = (procfs.children if every else procfs.workers)(pid)[:_CHILDREN_MAX]
    left = [one for one in found if one not in captured and not WRITE.fits(one)]
    if left:
        names = ", ".join(f"{one_line(procfs.comm(one))} (pid {one})" for one in left[:_CHILDREN])
        more = f" and {len(left) - _CHILDREN} more" if len(left) > _CHILDREN else ""
        which = "its child is" if len(left) == 1 else f"its {len(left)} children are"
        cure = f"mem_profiler -s 60 -p {pid} --children"
        yield f"  {which} not in this capture: {names}{more}; {cure} captures all"


def _next(result: Result, *, awaited: bool) -> Iterator[list[str]]:
    """Yield the commands that show the files, each in parts."""
    parser = next_command("mem_parser", reads=result.path)
    path = shell_path(result.path)
    file = f"-f {path}"
    name = file_part(program_name(result.comm, result.exe, result.command))
    picture = shell_path(f"{name.strip('_') or 'heap'}.svg")
    program = [] if knows_its_binary(result) else [f"-p {shell_path(binary(result) or 'BINARY')}"]
    if result.log is not None and result.log.paths:
        logs = _log_words(result.log.paths)
        yield [parser, f"timeline {logs}"]
        yield [parser, f"peaks {logs}"]
        yield [parser, f"report {logs}"]
    yield [parser, path, *program]
    if not result.samples and not result.devices and not awaited:
        yield [parser, f"rss {path}"]
        return
    yield [parser, *program, file, f"-s -o {picture}"]
    if result.packed:
        yield [parser, f"convert {path} -o plain.heap", "# for jeprof and google-pprof"]
    if result.duration_s >= LEAKS_FROM_S and not awaited:
        yield [parser, f"leaks {shell_path(result.path)}"]
    if result.devices:
        devices = (f"-f {shell_path(one.path)}" for one in result.devices)
        yield [parser, *program, file, *devices, "--by domain"]


def _log_words(paths: Sequence[str]) -> str:
    """Return the files of a log as an argument: one file, or a pattern for several."""
    if len(paths) == 1:
        return shell_path(paths[0])
    return f"{shell_path(paths[0].rpartition('-')[0])}-*.memlog"


def knows_its_binary(result: Result) -> bool:
    """Tell whether the names of a file are found without being told where the program is: they are
    in it, or there are none, or no stack is of the program, or it is still where it was.
    """
    if result.named or not result.samples or result.is_uncrossed:
        return True
    if not result.exe or result.exe_build_id is None:
        return False
    from mem_parser.symbols.files import open_binary

    try:
        return (open_binary(result.exe).build_id or "") == result.exe_build_id
    except InputFileError:
        return False


def target_line(session: Session, rate_bytes: int) -> str:
    """The processes about to be captured."""
    control = session.control
    allocator = os.path.basename(control.text("allocator")) or "unknown allocator"
    name = control.program_name
    file = other_file(name, control.text("exe"))
    facts = ", ".join(filter(None, (f"pid {session.pid}", file, one_line(allocator))))
    return f"{one_line(name) or '?'} ({facts})   1 sample / {format_rate(rate_bytes)}"


def room_line(room: Room) -> str:
    """Losses due to the bound of all segments of a folder."""
    from mem_profiler.process.tracing import user_name
    from mem_profiler.segment.room import VARIABLE

    costs = []
    if room.dropped_segments:
        what = counted(room.dropped_segments, "segment")
        were = "was" if room.dropped_segments == 1 else "were"
        held = short_size(room.dropped_bytes)
        costs.append(f"{what} of dead processes {were} dropped ({held}, in no file)")
    if room.refused_starts:
        costs.append(f"{counted(room.refused_starts, 'capture')} did not begin")
    if room.smaller_starts:
        costs.append(f"{counted(room.smaller_starts, 'capture')} began with a smaller segment")
    owner = one_line(user_name(room.uid))
    return (
        f"segments of {owner} in {one_line(room.path)} may take {short_size(room.bound_bytes)}"
        f" together ({VARIABLE}): {', '.join(costs)}"
    )


class CaptureProgress:
    """A bar on stderr while sessions capture; nothing if stderr is not a terminal."""

    def __init__(self, sessions: Sequence[Session], seconds: float) -> None:
        self._sessions = sessions
        self._seconds = seconds
        self._bar: Progress | None = None
        if sys.stderr.isatty() and not is_quiet():
            from rich.progress import BarColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("capturing"),
                BarColumn(bar_width=28),
                TextColumn("{task.description}", markup=False),
                console=plain_console(err=True),
                transient=True,
                auto_refresh=False,
            )
            self._task = self._bar.add_task("", total=seconds)

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def show(self, gone_s: float) -> None:
        """Draw the state after `gone_s` seconds."""
        if self._bar is None:
            return
        readings = [latest for one in self._sessions if (latest := one.recording.recorder.latest)]
        samples = sum(reading.samples for reading in readings)
        live = short_size(sum(reading.estimate_bytes for reading in readings))
        text = f"{gone_s:.0f} s of {self._seconds:g}   {samples:,} samples   in use ≈ {live}"
        text += "".join(
            f"   {one_line(name)} ≈ {short_size(held)}" for name, held in self._devices().items()
        )
        self._bar.update(self._task, completed=min(gone_s, self._seconds), description=text)
        self._bar.refresh()

    def _devices(self) -> dict[str, float]:
        """Live bytes of every domain of device memory, of all sessions together."""
        held: dict[str, float] = {}
        for one in self._sessions:
            recorder = one.recording.recorder
            names = {domain.number: domain.name for domain in recorder.domains}
            for number, track in recorder.readings.devices.items():
                if track.latest is not None and number in names:
                    name = names[number]
                    held[name] = held.get(name, 0.0) + track.latest.estimate_bytes
        return held
