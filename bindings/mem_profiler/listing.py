"""Every process with a sampler, and what dead ones left: the rows of `mem_profiler ps`."""

from __future__ import annotations

import pwd
from dataclasses import dataclass

from mem_parser import estimate
from mem_profiler import capture, collect, discovery, layout
from mem_profiler.segment import Control, Segment


@dataclass(frozen=True)
class Row:
    """One process. `rate_bytes`, `samples` and `live_bytes` are None where nothing was captured.
    `dead` rows are segments whose process is gone and whose capture is in no file yet.
    """

    pid: int
    user: str
    command: str
    state: str
    rate_bytes: int | None
    samples: int | None
    live_bytes: float | None
    lost: int | None
    dead: bool = False


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _state(control: Control, now_ns: int) -> str:
    state = control.number("state")
    if state == layout.STATE_SHADOWED:
        return f"shadowed by {control.text('state_text')}"
    if state == layout.STATE_REFUSED:
        return f"refused: {control.text('state_text')}"
    if state == layout.STATE_STARTING:
        return "starting"
    if control.running(now_ns):
        return "capturing"
    if control.number("capture_number") > control.number("written_capture"):
        return "stopped, not written"
    return "idle"


def _row(pid: int, segment: Segment, uid: int, state: str, *, dead: bool) -> Row:
    control = segment.control()
    number = control.number("capture_number")
    captured = number > 0
    rate = samples = lost = live = None
    if captured:
        rate = int(control.capture["rate_bytes"])
        quick = collect.read_quick(segment, control, number)
        samples = quick.samples
        live = float(estimate.unsample(quick.blocks, quick.bytes, rate).bytes.sum())
        names = layout.LOST_NAMES.items()
        lost = sum(int(control["lost"][i]) for i, name in names if name in layout.LOST_SAMPLES)
    return Row(
        pid=pid,
        user=_user(uid),
        command=control.text("comm") or "?",
        state=state,
        rate_bytes=rate,
        samples=samples,
        live_bytes=live,
        lost=lost,
        dead=dead,
    )


def rows() -> list[Row]:
    """All rows, living processes first. Removes what dead processes left that nobody needs."""
    found = []
    for pid, segment in discovery.running():
        with segment:
            control = segment.control()
            state = _state(control, capture.target_now_ns(pid))
            found.append(_row(pid, segment, control.number("uid"), state, dead=False))
    for left in discovery.sweep(discovery.in_folders()):
        if left.alive or left.written:  # written and still there: another user's
            continue
        try:
            with Segment.open(left.path, writable=False) as segment:
                pid = left.control.number("pid")
                row = _row(pid, segment, left.uid, "dead, not written", dead=True)
                found.append(row)
        except OSError:
            continue
    return found
