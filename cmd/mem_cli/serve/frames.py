"""Data of one process's page: the state of its capture and of a report."""

from __future__ import annotations

from mem_cli.serve.past import WINDOW_WORDS, Snapshot
from mem_parser.escape import json_text, visible
from mem_parser.live.keptverdicts import KeptVerdicts, judged_in_view
from mem_parser.web.live import View, live_data
from mem_parser.words import phrase, shown
from mem_profiler.live.watched import State


def frame(snapshot: Snapshot, since: str, kept: KeptVerdicts, *, control: bool) -> bytes:
    """Return JSON: ``since`` is a window or a mark to compare with, empty: nothing; ``kept`` are
    the verdicts on leaks.

    ``data`` are the blocks of a report, null where the process has had no capture; ``base`` is what
    they are compared with. ``waits_for`` is a window that reaches further back than the process is
    watched. ``how`` is a command that begins a capture, or saves that of a process which ended.
    """
    had, base = snapshot.had, snapshot.base(since)
    data = None
    if had is not None:
        compared = None
        if base is not None:
            other = base.had.domains if had.domains is not None else base.had.profile
            compared = (other or base.had.profile, base.had.symbols)
        view = View(had.profile, had.symbols, had.domains, compared, base.label if base else "")
        of = snapshot.number, snapshot.state
        data = live_data(
            view,
            snapshot.name,
            lambda *named: kept.at(snapshot.at_s, of, lambda: judged_in_view(*named)),
        )
    waits = since in WINDOW_WORDS and base is None and had is not None
    words = {
        "seq": snapshot.seq,
        "name": snapshot.name,
        "state": str(snapshot.state),
        "number": snapshot.number,
        "t_s": snapshot.t_s,
        "own": snapshot.own,
        "peak_bytes": had.profile.capture.peak_bytes if had is not None else None,
        "why": _why(snapshot),
        "how": _how(snapshot, control=control),
        "marks": [{"id": mark.id, "label": mark.label} for mark in snapshot.marks],
        "base": None if base is None else {"id": base.id, "label": base.label},
        "base_gone": bool(since) and base is None and not waits,
    }
    if waits:
        words |= {"waits_for": since, "waits_for_label": WINDOW_WORDS[since]}
    return json_text(visible(shown(words)) | {"data": data}).encode()


def _why(snapshot: Snapshot) -> str:
    if snapshot.state is State.ENDED:
        if snapshot.why and snapshot.own:
            return phrase(
                "the process ended: {why}; its capture is kept until it is saved", why=snapshot.why
            )
        if snapshot.why:
            return phrase("the process ended: {why}", why=snapshot.why)
        return phrase("the process ended")
    if snapshot.state is State.IDLE and snapshot.number:
        return phrase("the capture has ended; shown is what is still in use of its blocks")
    if snapshot.state is State.IDLE:
        return phrase("no capture runs in this process")
    return ""


def _how(snapshot: Snapshot, *, control: bool) -> str:
    if snapshot.state is State.ENDED and snapshot.own:
        return f"mem_profiler recover {snapshot.pid}"
    if snapshot.state is State.IDLE and not control:
        return f"mem_profiler start {snapshot.pid}"
    return ""
