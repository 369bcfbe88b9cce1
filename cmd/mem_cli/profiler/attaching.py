"""The commands `attach` and `detach`, and attaching for the time of one capture.

Model: `Attached` is what the default form uses: processes without a sampler get it before their
capture begins and lose it after their file is written, whatever happens in between. A user sees one
line for each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from mem_cli.console import is_quiet, note, say_sentence, waiting
from mem_cli.errors import hint_of, say_error
from mem_cli.rerun_hint import next_command, next_lines
from mem_parser.errors import MemError, NoSampler, ProcessGone, TargetBusy, one_line
from mem_parser.units import counted
from mem_profiler.capture import gate
from mem_profiler.process import procfs
from mem_profiler.segment import discovery
from mem_sandbox.child import Stopped

if TYPE_CHECKING:
    from mem_profiler.attach import Answer, Attachment
    from mem_profiler.capture.device_choice import Choice


def _name(pid: int) -> str:
    return f"{one_line(procfs.program_name(pid)) or '?'} (pid {pid})"


def attached_line(pid: int, answer: Answer) -> str:
    """The result of an attach."""
    hooks = f"{counted(answer.held, 'hook')} placed"
    hooks += f" in {counted(answer.modules, 'module')}" if answer.modules else ""
    if not (answer.held or answer.failed or answer.text):
        hooks = "its calls lead to the sampler already, no hook was needed"
    text = f"attached to {_name(pid)}: {hooks}, {answer.stops.text()}"
    return f"{text}; {one_line(answer.text)}" if answer.text else text


def detached_line(pid: int, answer: Answer) -> str:
    """The result of a detach."""
    removed = counted(answer.restored, "hook") if answer.restored else "no hook had to be"
    text = f"detached from {_name(pid)}: {removed} removed"
    if answer.kept:
        text += f", {answer.kept} left alone, because others have changed them since"
    return f"{text}; {one_line(answer.text)}" if answer.text else text


class Attached:
    """The processes of one command that were attached to for its time; ``devices``: of an attach,
    None: those of the environment.
    """

    def __init__(self, devices: Choice | None = None) -> None:
        self._devices = devices
        self.attachments: list[Attachment] = []

    def where_needed(
        self,
        pids: Sequence[int],
        asked_to_stop: Callable[[], bool],
        leave_out: Callable[[MemError], None] | None = None,
    ) -> list[int]:
        """Attach to those without a sampler, or one that misses their own malloc. Where it sees the
        C library's, a failure is printed, and the capture goes without.

        ``leave_out`` gets the error of each process that cannot have one, or has ended, and the
        others go on, if there are any. Returns these. Raises MemError, and KeyboardInterrupt where
        the user did not wait.
        """
        there: list[int] = []
        try:
            for pid in pids:
                try:
                    one = self.add(pid, asked_to_stop)
                except MemError as error:
                    if leave_out is None or (pid == pids[-1] and not there):
                        raise
                    leave_out(error)
                    continue
                there.append(pid)
                if one is not None and not is_quiet():
                    say_sentence(attached_line(pid, one.answer), err=True)
        except BaseException:
            self.detach()
            raise
        return there

    def add(self, pid: int, asked_to_stop: Callable[[], bool]) -> Attachment | None:
        """Attach to one more process, if that is needed. Raises MemError, KeyboardInterrupt."""
        one = _attach_if_needed(pid, self._devices, asked_to_stop)
        if one is not None and procfs.is_gone(pid):
            raise ProcessGone(f"pid {pid} has ended")
        if one is not None:
            self.attachments.append(one)
        return one

    def tick(self) -> None:
        """Redirect the modules that were opened meanwhile."""
        for one in self.attachments:
            one.tick()

    def notes(self, pid: int) -> list[str]:
        """Notes on the attach for the file of a process."""
        said = [one.note() for one in self.attachments if one.pid == pid]
        return [note for note in said if note is not None]

    def forget(self, pid: int) -> list[str]:
        """Return `notes` of a process that has lost the sampler, so that none is to be detached."""
        notes = self.notes(pid)
        self.attachments = [one for one in self.attachments if one.pid != pid]
        return notes

    def detach(self, but: Sequence[int] = ()) -> None:
        """Detach from all, ``but`` for some; a failure is printed, and the others are detached
        nevertheless.
        """
        leaving = [one for one in self.attachments if one.pid not in but]
        self.attachments = [one for one in self.attachments if one.pid in but]
        while leaving:
            one = leaving.pop()
            try:
                answer = one.detach()
            except MemError as error:
                say_error(str(error), hint_of(error))
                continue
            if answer is not None and not is_quiet():
                say_sentence(detached_line(one.pid, answer), err=True)


def has_sampler(pid: int) -> bool:
    """Tell whether a process runs with the sampler. Raises MemError."""
    try:
        discovery.open_process(pid, writable=False).close()
    except NoSampler:
        return False
    return True


def _attach_if_needed(
    pid: int, devices: Choice | None, asked_to_stop: Callable[[], bool]
) -> Attachment | None:
    """Raises MemError, KeyboardInterrupt."""
    from mem_profiler.attach import Need, need

    needed = need(pid)
    if devices is not None and needed is not Need.ALL:
        _check_follows(pid, devices)
    if needed is Need.NOTHING:
        return None
    try:
        return _attach(pid, devices, asked_to_stop)
    except MemError as error:
        if needed is Need.ALL:
            raise
        say_error(str(error), hint_of(error))
        return None


def _check_follows(pid: int, devices: Choice) -> None:
    """Raises TargetBusy where the sampler of a process was not told to follow these."""
    from mem_profiler.attach import is_attached
    from mem_profiler.segment.devices import asked

    with discovery.open_process(pid, writable=False) as segment:
        control = segment.control()
    if devices.by_name and asked(control).issuperset(devices.backends):
        return
    again = f"mem_profiler run --device {devices.value} -- PROG ARGS starts it so"
    raise TargetBusy(
        f"the sampler is in pid {pid} already, and --device is chosen when it comes",
        hint=f"mem_profiler detach {pid} takes it out" if is_attached(pid) else again,
    )


def _attach(pid: int, devices: Choice | None, asked_to_stop: Callable[[], bool]) -> Attachment:
    """Raises MemError, KeyboardInterrupt."""
    from mem_profiler.attach import attach

    try:
        with waiting(f"attaching to pid {pid}"):
            return attach(pid, asked_to_stop, None if devices is None else devices.value)
    except Stopped:
        raise KeyboardInterrupt from None


def attach_by_hand(
    pid: int, rate_bytes: int | None, devices: Choice | None, asked_to_stop: Callable[[], bool]
) -> None:
    """Attach and, with a rate, start a capture. Raises MemError, KeyboardInterrupt."""
    one = _attach(pid, devices, asked_to_stop)
    say_sentence(attached_line(pid, one.answer))
    profiler = next_command("mem_profiler")
    step = f"-s 60 -c 1024 -p {pid}"
    try:
        if rate_bytes is not None:
            from mem_profiler.capture import toggle

            toggle.start(pid, rate_bytes)
            step = f"stop {pid}"
    finally:
        for line in next_lines([[profiler, step], [profiler, f"detach {pid}"]]):
            note(line)


def detach_by_hand(pid: int) -> None:
    """Detach from a process that is not being captured. Raises MemError."""
    from mem_profiler.attach import detach

    with contextlib.ExitStack() as open_meanwhile:
        try:
            segment = open_meanwhile.enter_context(discovery.open_process(pid))
            # Whoever captures holds the lock, or left an open capture behind.
            gate.lock(segment, pid)
            gate.check_idle(segment, pid)
        except discovery.SegmentRemoved:
            pass  # none but a controller that has it open can read its captures
        except NoSampler:
            raise NoSampler(f"mem_profiler is not attached to {_name(pid)}") from None
        say_sentence(detached_line(pid, detach(pid)))
