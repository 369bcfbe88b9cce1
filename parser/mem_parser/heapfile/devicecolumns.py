"""Device memory in our own files: the header's `device`, and the columns of marks.

As everywhere in a file, we use only values that fit together.
"""

from __future__ import annotations

import numpy as np

from mem_parser.devices import MARK_KINDS, Device, Mark
from mem_parser.heapfile.columns import Columns
from mem_parser.heapfile.fields import Fields

MOST_MARKS = 1_000_000
MARK_COLUMNS = frozenset(
    ("mark_time_s", "mark_text", "mark_id", "mark_kind", "mark_thread", "mark_domain", "mark_name")
)
_MARK_BYTES, _TEXT_BYTES = 240, 64
_INDICES = ("mark_id", "mark_kind", "mark_thread", "mark_domain", "mark_name")


def read_device(fields: Fields) -> Device | None:
    """Return the `device` of a header; None in a file of ordinary memory."""
    value = fields.mapping("device")
    if not value:
        return None
    device = Fields(value)
    actual = Fields(device.mapping("actual"))
    return Device(
        family=device.text("family"),
        index=_size(device, "index"),
        kind=device.text("kind") or "device",
        alloc_calls=device.integer("alloc_calls"),
        failed_calls=device.integer("failed_calls"),
        freed_calls=device.integer("freed_calls"),
        actual_used_bytes=_size(actual, "used_bytes"),
        actual_total_bytes=_size(actual, "total_bytes"),
        actual_tracked_bytes=_size(actual, "tracked_bytes"),
        actual_at_s=actual.optional_float("at_s"),
        reserved_bytes=_size(device, "reserved_bytes"),
        reserved_peak_bytes=_size(device, "reserved_peak_bytes"),
    )


def _size(fields: Fields, name: str) -> int | None:
    value = fields.optional_int(name)
    return value if value is not None and value >= 0 else None


def read_marks(columns: Columns) -> list[Mark]:
    """Return the marks in ``columns``."""
    time = columns.pop("mark_time_s", None)
    if time is None:
        return []
    packed = columns.pop("mark_text", np.empty(0, np.uint8))
    found = [columns.pop(name, np.empty(0)) for name in _INDICES]
    fit = len(time) <= MOST_MARKS and all(len(column) == len(time) for column in found)
    if not fit or packed.dtype != np.uint8 or any(c.dtype.kind != "u" for c in found if len(c)):
        columns.fail("the columns of its marks do not agree")
    count = int(np.count_nonzero(packed == ord("\n"))) + 1
    columns.allowance.take(len(time) * _MARK_BYTES + 8 * len(packed) + count * _TEXT_BYTES)
    texts = packed.tobytes().decode("utf-8", "replace").split("\n")
    ids, kinds, threads, domains, names = (column.tolist() for column in found)
    if any(max(column, default=0) >= len(texts) for column in (domains, names)):
        columns.fail("a mark names a text that does not exist")
    return [
        Mark(
            time_s=float(at) if np.isfinite(at) else 0.0,
            id=ids[k],
            kind=MARK_KINDS[kinds[k]] if kinds[k] < len(MARK_KINDS) else MARK_KINDS[0],
            thread=threads[k],
            domain=texts[domains[k]],
            text=texts[names[k]],
        )
        for k, at in enumerate(time.tolist())
    ]
