"""Recover or remove the segments of dead processes.

Model: a segment outlives its process, so a file can still have everything sampled up to the end.
Once the file is on disk, recovery removes the segment. It reads a copy of a segment file, anywhere,
the same way and leaves it there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from pathlib import Path

from mem_parser.errors import InputFileError, MemError, NotAProfile, TargetBusy, TargetError
from mem_parser.escape import file_part, one_line
from mem_parser.heapfile.form import Form
from mem_profiler.capture import gate, saving, session
from mem_profiler.capture.output import ExactFile, Where
from mem_profiler.capture.recording import unseen_notes
from mem_profiler.capture.saving import Result
from mem_profiler.events import logs
from mem_profiler.process import procfs
from mem_profiler.profile.build import Ending, build
from mem_profiler.profile.target import Target
from mem_profiler.segment import folders, layout, leftovers, room
from mem_profiler.segment.file import Control, Segment
from mem_profiler.segment.leftovers import Found

LOCK_TRIES, LOCK_PAUSE_S = 10, 0.01


def _end_of(control: Control) -> str:
    slot = control.capture
    if int(slot["stop_ns"]):
        return gate.how_it_ended(control)
    return "exited" if control.number("state") == layout.STATE_EXITED else "target ended"


INSIDE_MAX = 5  # processes of containers that a hint names
_LIST_HINT = "mem_profiler ps --all lists the profiles that can be saved"
_BELOW_HINT = "mem_profiler recover FOLDER saves the segments among the files below it"
_FOLDER_HINT = (
    "mem_profiler ps --all lists what can be saved there; after MEM_PROFILER_DIR=FOLDER, or in a"
    " container, where the pid is another: mem_profiler recover FOLDER"
)


def _place_of(control: Control, place: Where) -> Where:
    """Where a program's files go. Every container has a pid 1: a program of another pid
    namespace also has its name and the time when its capture began there.
    """
    if control.number("pidns_inode") == (procfs.pidns_inode() or 0):
        return place
    began = ""
    with contextlib.suppress(OverflowError, ValueError, OSError):  # a number of the target's
        at = time.localtime(int(control.capture["start_realtime_ns"]) // 10**9)
        began = time.strftime("%Y%m%d-%H%M%S", at)
    part = file_part("-".join(filter(None, (control.program_name, began))))
    return place if isinstance(place, ExactFile) else f"{place}.{part}"


def _write(segment: Segment, place: Where, form: Form, *, lives: bool = False) -> Result:
    """``lives``: the process goes on, without this segment."""
    control = segment.control()
    place = _place_of(control, place)
    end = _end_of(control)
    notes = unseen_notes(control, 0)
    kind = "recovered"
    if lives:
        kind = "capture"
        notes += [session.EXEC_NOTE] if end == "target ended" else []
    ending = Ending(kind, end, notes=tuple(notes))
    make = functools.partial(build, segment, Target(None), ending)
    pid, number = control.number("pid"), control.number("capture_number")
    log = logs.write_last(logs.Followed(segment, Target(None), number, 0), pid, place, end)
    result = saving.save(place, pid, segment, make, form)
    result.log = log
    return result


def _locked(found: Found) -> Segment:
    """Return the segment, open, with the controllers' lock. Raises OSError, MemError.

    A starting program may be packing it (sampler/process/segment_pack.h): it holds the lock for a
    moment, and then another file has the name.
    """
    holder: int | None = None
    for _ in range(LOCK_TRIES):
        segment = leftovers.opened(found, writable=True)
        if segment.try_lock() and leftovers.is_named(found, segment):
            return segment
        holder = segment.lock_holder()
        segment.close()
        time.sleep(LOCK_PAUSE_S)
    who = f" (pid {holder})" if holder else ""
    raise TargetBusy(f"{found.path} is being written by another mem_profiler{who}")


def _recover_dead(found: Found, place: Where, form: Form) -> Result:
    with _locked(found) as segment:
        result = _write(segment, place, form, lives=found.left_by_living)
        gate.mark_written(segment, found.control.number("capture_number"))
        found = dataclasses.replace(found, inode=os.fstat(segment.fd).st_ino)
    leftovers.remove(found)
    return result


def write_rest(found: Found, where: ExactFile) -> None:
    """Write the events left in the rings of a dead process, and in no log, as a log. Raises
    MemError, OSError.
    """
    with _locked(found) as segment:
        control = segment.control()
        number, pid = control.number("capture_number"), control.number("pid")
        if not number:
            return
        followed = logs.Followed(segment, Target(None), number, 0)
        log = logs.write_last(followed, pid, where, _end_of(control))
    if log is not None and log.problem:
        raise MemError(f"pid {pid}: {log.problem}")


def forget(found: Found) -> None:
    """Remove a dead segment that has been saved completely. Raises MemError, OSError."""
    with _locked(found) as segment:
        gate.mark_written(segment, segment.control().number("capture_number"))
        found = dataclasses.replace(found, inode=os.fstat(segment.fd).st_ino)
    leftovers.remove(found)
    folders.remove_unused_runs()


def recover_all(
    prefix: str, form: Form = Form.AUTO, root: str | None = None, *, with_empty: bool = False
) -> tuple[list[Result], list[MemError]]:
    """Save every unsaved capture of a dead process; with `root`, of those below that folder. Of one
    that holds nothing a file stays only `with_empty`; else its result has no path.
    """
    wanted = [one for one in _found(root) if not one.alive and one.captured and not one.written]
    results, errors = _recover_each(wanted, prefix, form)
    for result in () if with_empty else filter(_holds_nothing, results):
        with contextlib.suppress(OSError):
            os.unlink(result.path)
        result.path = ""
    return results, errors


def _holds_nothing(result: Result) -> bool:
    told = result.samples or result.lost or result.failed
    return not (told or result.devices or result.log)


def _found(root: str | None) -> list[Found]:
    """The segments, with `root` those below that folder."""
    return leftovers.in_folders(most=None) if root is None else leftovers.below(Path(root))


def _recover_each(
    dead: list[Found], place: Where, form: Form
) -> tuple[list[Result], list[MemError]]:
    """Write each; a failure does not stop the others: the segment may be another user's."""
    results: list[Result] = []
    errors: list[MemError] = []
    for found in dead:
        try:
            results.append(_recover_dead(found, place, form))
        except MemError as error:
            errors.append(error)
        except OSError as error:
            errors.append(MemError(f"{found.path}: {error.strerror}"))
    if results:
        room.forget_needless()
    return results, errors


def recover_pid(pid: int, place: Where, form: Form = Form.AUTO) -> list[Result]:
    """Write the captures of the dead process `pid`, its number here or inside its container.

    Raises TargetError if it left none, or still lives.
    """
    inside = _number_inside(pid)
    mine = [
        found
        for found in leftovers.in_folders(most=None)
        if found.control.number("pid") == pid
        or (found.control.number("pid"), found.control.number("pidns_inode")) == inside
    ]
    dead = [found for found in mine if not found.alive and found.captured and not found.written]
    results, errors = _recover_each(dead, place, form)
    if results:
        return results
    if errors:
        raise errors[0]
    if any(found.alive for found in mine):
        raise TargetError(
            f"pid {pid} is running", hint=f"mem_profiler snapshot {pid} writes what it has so far"
        )
    if any(not found.captured for found in mine) or not mine:
        gone = "" if procfs.stat_fields(pid) else " (it has ended)"
        where = folders.segment_dir()
        text = f"pid {pid}{gone} left nothing to recover in {where}"
        raise TargetError(text, hint=_container_hint() or _FOLDER_HINT)
    raise TargetError(f"all captures of pid {pid} are in files already")


def _number_inside(pid: int) -> tuple[int, int] | None:
    """The number of a process in its pid namespace, and the inode of that. None once somebody has
    waited for it, which the first process of a container often does for no child.
    """
    facts, inode = procfs.status(pid), procfs.pidns_inode(pid)
    return None if facts is None or inode is None else (facts.inner_pid, inode)


def _container_hint() -> str | None:
    """Return the unsaved profiles of ended containers, which have the numbers of the inside."""
    own = procfs.pidns_inode()
    found = [
        f"{one.control.number('pid')} ({one_line(one.control.program_name)})"
        for one in leftovers.in_folders()
        if one.control.number("pidns_inode") != own
        and not (one.alive or one.written or not one.captured)
    ]
    if not found:
        return None
    more = " and more" if len(found) > INSIDE_MAX else ""
    return (
        "a container's process is listed by its number inside, mem_profiler ps --all: "
        f"{', '.join(found[:INSIDE_MAX])}{more}; mem_profiler recover {found[0].split()[0]}"
    )


def save_left(pid: int, prefix: str, form: Form = Form.AUTO) -> Result | None:
    """Write the capture of a living process without the sampler, from before its detach or exec;
    None: all is in files. Raises MemError, OSError.
    """
    for found in leftovers.in_folders(most=None):
        if found.control.number("pid") == pid and found.left_by_living and not found.written:
            return _recover_dead(found, prefix, form)
    return None


def recover_file(path: str, place: Where, form: Form = Form.AUTO) -> Result:
    """Write the captures of a segment file, in its place or a copy. Raises MemError."""
    try:
        inode = os.stat(path).st_ino
    except OSError as error:
        text = f"{path} is no process number, segment or folder: {error.strerror}"
        raise InputFileError(text, hint=_LIST_HINT) from None
    real = os.path.realpath(path)
    for found in leftovers.in_folders(most=None):
        if os.path.realpath(found.path) != real or found.inode != inode:
            continue
        if found.alive:
            pid = found.pid or found.control.number("pid")
            raise TargetError(
                f"{path} belongs to pid {pid}, which is running",
                hint=f"mem_profiler snapshot {pid} writes what it has so far",
            )
        if found.captured:
            return _recover_dead(found, place, form)
    try:
        with Segment.open(real, writable=False) as segment:
            if segment.control().latest_capture == 0:
                raise InputFileError(f"{path}: this segment never had a capture")
            return _write(segment, place, form)
    except NotAProfile as error:
        raise NotAProfile(str(error), hint=_BELOW_HINT) from None
    except OSError as error:
        raise InputFileError(f"{path}: {error.strerror}") from None


def clean(*, everything: bool, root: str | None = None) -> tuple[int, int, list[Found]]:
    """Remove segments of dead processes: those without an unsaved capture, or all; with `root`,
    below that folder. Resets the counts of losses to the bound of all segments.

    Returns the number it removed, their bytes, and the unsaved ones it kept.
    """
    kept: list[Found] = []
    unwanted: list[Found] = []
    for found in _found(root):
        if not found.alive:
            keep = found.captured and not found.written and not everything
            (kept if keep else unwanted).append(found)
    gone = leftovers.remove_all(unwanted)
    for folder in folders.everywhere() if root is None else folders.below(Path(root)):
        room.forget(folder)
    folders.remove_unused_runs()
    return len(gone), sum(found.held_bytes for found in gone), kept
