"""The default form of `mem_profiler`: capture running processes for some seconds."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TYPE_CHECKING

from mem_cli.console import note
from mem_cli.errors import hint_of, say_error
from mem_cli.profiler import attaching, capture_view
from mem_cli.profiler.outcome import finish
from mem_cli.profiler.signals import Stop, on_signals
from mem_parser.errors import MemError
from mem_parser.heapfile.form import Form
from mem_profiler.capture import session
from mem_profiler.capture.saving import Result
from mem_profiler.capture.session import Rates

if TYPE_CHECKING:
    from mem_profiler.capture.device_choice import Choice


def _say_left_out(error: MemError) -> None:
    say_error(f"left out: {error}", hint_of(error))


def leave_out_of(pids: list[int]) -> Callable[[MemError], None] | None:
    """Return who hears of a process that cannot be captured; None where it is the only one."""
    return None if len(pids) == 1 else _say_left_out


def _capture_sessions(
    pids: list[int],
    seconds: float,
    rates: Rates,
    prefix: str,
    form: Form,
    *,
    stop: Stop,
    attached: attaching.Attached,
) -> tuple[list[Result], list[MemError]]:
    leave_out = leave_out_of(pids)
    sessions = session.open_all(pids, leave_out)
    try:
        for one in sessions:
            note(capture_view.target_line(one, rates.host_bytes), err=True)
        with capture_view.CaptureProgress(sessions, seconds) as progress:

            def on_tick(gone: float) -> None:
                progress.show(gone)
                attached.tick()

            end = session.run(sessions, rates, seconds, stop.asked, on_tick, leave_out=leave_out)
        for one in sessions:
            one.notes += attached.notes(one.pid)
    except BaseException:
        for one in sessions:
            one.abandon()
        raise
    return session.write_all(sessions, prefix, end, form)


def capture(
    pids: list[int],
    seconds: float,
    rates: Rates,
    prefix: str,
    form: Form,
    *,
    symbolize: bool,
    devices: Choice | None = None,
) -> int:
    """Capture processes for ``seconds`` and write their files. Raises `MemError`.

    Returns the exit code.
    """
    stop = Stop()
    on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stop)
    attached = attaching.Attached(devices)
    there = attached.where_needed(pids, stop.asked, leave_out_of(pids))
    try:
        results, errors = _capture_sessions(
            there, seconds, rates, prefix, form, stop=stop, attached=attached
        )
    finally:
        attached.detach()
    return finish(results, errors, form, symbolize=symbolize)
