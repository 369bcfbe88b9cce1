"""Complete the dumps of collections whose command was killed: from the log, what the rings of the
segment still have, and the rows that the program told.

The rest of the rings becomes a log of its own beside the first one, so nothing is lost if this is
killed, too. A child without rights makes the dumps anew beside the old ones, which they replace
once they are complete; where the begin of the log is gone, the old ones stay.
"""

from __future__ import annotations

import glob
import os
import shutil
import sqlite3
import time
from pathlib import Path
from typing import Any, NamedTuple

from mem_parser.errors import InputFileError, MemError
from mem_parser.memscope.collecting import Collecting
from mem_parser.memscope.dumps import Dumps
from mem_parser.memscope.form import folders_of_run, stamp_of
from mem_parser.memscope.logtail import ResumedTail, in_order, number_of
from mem_parser.memscope.siderows import SideFile, path_in
from mem_parser.output_path import own_ids
from mem_profiler.capture import recover
from mem_profiler.capture.output import ExactFile
from mem_profiler.memscope.follower import END_LIMIT_S, MEMORY_BYTES, enter
from mem_profiler.memscope.mark import Mark, Unfinished, marks_in
from mem_profiler.memscope.tree import EVENTS_FOLDER
from mem_profiler.segment import folders, leftovers
from mem_profiler.segment.leftovers import Found
from mem_sandbox.child import Child, Wish

OUTPUT_LINK = "memscope-output"
"""In the folder of a run: a link to the folder of its dumps."""
_REST = "rest"
_MADE = "recovered"


class Recovered(NamedTuple):
    """What became of one collection: lines for the user, and what went wrong."""

    lines: list[str]
    errors: list[MemError]


def outputs_of_runs() -> list[str]:
    """Return the folders of the dumps of our runs whose segments are still there."""
    found = []
    for folder in folders.everywhere():
        if folder.uid not in own_ids():
            continue
        try:
            found.append(os.readlink(folder.path.parent / OUTPUT_LINK))
        except OSError:
            continue
    return list(dict.fromkeys(found))


def complete_all(output: str) -> Recovered:
    """Complete all collections below an output that nobody writes any more."""
    lines: list[str] = []
    errors: list[MemError] = []
    for path in marks_in(output):
        try:
            mark = Mark.take(path)
            if mark is None:
                continue
            with mark:
                lines += _complete(mark)
        except MemError as error:
            errors.append(error)
        except OSError as error:
            errors.append(MemError(f"{path}: {error.strerror}"))
    return Recovered(lines, errors)


def _complete(mark: Mark) -> list[str]:
    told = mark.read()
    segment = _segment_of(told)
    if segment is not None and segment.alive:
        text = (
            "still runs, and the command that collected from it was killed: its dump is completed"
        )
        return [f"pid {told.pid} {text} by recover once it has ended"]
    if segment is not None:
        _write_rest(told, segment)
    logged = in_order(glob.glob(f"{glob.escape(told.stem)}-*.memlog"))
    rests = sorted(glob.glob(f"{glob.escape(told.stem)}{_REST}*.memlog"))
    lines = []
    if logged or rests:
        with Child(
            lambda asked: _rebuild(told, (logged, rests), asked),
            f"pid {told.pid}",
            enter=lambda: enter(told.places),
            memory_bytes=MEMORY_BYTES,
        ) as child:
            made = child.result(END_LIMIT_S)
        until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(made["last_s"])))
        lines = [
            f"{os.path.relpath(str(path))}: {int(count)} rows, to {until} (it was cut off)"
            for path, count in made["rows"]
        ]
        lines += [f"warning: pid {told.pid}: {text}" for text in made["warnings"]]
    if segment is not None:
        recover.forget(segment)
    mark.end()
    return lines


def _segment_of(told: Unfinished) -> Found | None:
    """Return the segment of the collection, if it is there and is that process's."""
    for found in leftovers.in_folders(most=None):
        if found.path == told.segment and found.control.number("pid") == told.pid:
            return found
    return None


def _write_rest(told: Unfinished, found: Found) -> None:
    """Write events that are in the rings and in no log to a separate log. Raises MemError,
    OSError.
    """
    stem = next(
        name
        for name in (f"{told.stem}{_REST}{k}" for k in range(1, 1 << 16))
        if not os.path.lexists(f"{name}-0.memlog")
    )
    recover.write_rest(found, ExactFile(f"{stem}.heap"))


def _rebuild(
    told: Unfinished, logs_of: tuple[list[str], list[str]], _asked: Wish
) -> dict[str, Any]:
    """Make the dumps from the log and the rests of the rings. Runs in the child."""
    logged, rests = logs_of
    events = os.path.join(told.places.run, EVENTS_FOLDER)
    new = folders_of_run(os.path.join(events, f"{_MADE}.{os.getpid()}"), told.places.stamp)
    tail = ResumedTail([*logged, *rests])
    dumps = Dumps(told.settings.form, new)
    side = SideFile(path_in(events, told.pid))
    collecting = Collecting(told.settings, tail, side, dumps, told.pid)
    collecting.scribe.run_folder = told.places.run
    try:
        collecting.finish()
        collecting.close()
        form = told.settings.form
        is_whole = bool(logged) and number_of(logged[0]) == 0
        before = [d for d in dumps.sinks if os.path.lexists(told.places.dump(d, form))]
        keeps = bool(before) and not is_whole
        places = told.places._replace(stamp=stamp_of()) if keeps else told.places
        rows = []
        for device, sink in dumps.sinks.items():
            path = places.dump(device, form)
            _put(sink.path, path)
            rows.append((path, sink.count))
    except sqlite3.Error as error:
        raise InputFileError(f"{told.places.run}: {error}") from None
    finally:
        shutil.rmtree(new.run, ignore_errors=True)
    last_s = (collecting.scribe.last_ns + tail.real_offset_ns) // 1_000_000_000
    warnings = collecting.warnings
    if keeps:
        warnings.append("the begin of the log is gone: what was written before it is in a dump of"
                        " its own")  # fmt: skip
    return {"rows": rows, "last_s": last_s, "warnings": warnings}


def _put(made: str, path: str) -> None:
    """Replace a dump, with SQLite's files next to it."""
    Path(path).parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    for suffix in ("-wal", "-shm"):
        Path(path + suffix).unlink(missing_ok=True)
    os.replace(made, path)
