"""One reading of the process's counters as an object of JSON, in `.heap` files and logs."""

from __future__ import annotations

import dataclasses
from typing import Any

from mem_parser.heapfile.fields import Fields
from mem_parser.model import Reading

_OPTIONAL = ("anon_bytes", "file_bytes", "shmem_bytes", "group_bytes", "mapped_bytes")
_HOST = ("t_s", "estimate_bytes", "std_error_bytes", "samples", "rss_bytes")


def read_reading(fields: Fields) -> Reading:
    """Return the reading; absent fields are 0 or None."""
    return Reading(
        t_s=fields.real("t_s"),
        estimate_bytes=fields.real("estimate_bytes"),
        std_error_bytes=fields.real("std_error_bytes"),
        samples=fields.integer("samples"),
        rss_bytes=fields.optional_int("rss_bytes"),
        **{name: fields.optional_int(name) for name in _OPTIONAL},
        taken_bytes=fields.optional_float("taken_bytes"),
        failed=fields.optional_int("failed"),
        actual_used_bytes=fields.optional_int("actual_used_bytes"),
        actual_total_bytes=fields.optional_int("actual_total_bytes"),
        reserved_bytes=fields.optional_int("reserved_bytes"),
    )


def reading_object(reading: Reading) -> dict[str, Any]:
    """Return the object for `read_reading`, without the fields that its kind of memory lacks."""
    values = dataclasses.asdict(reading)
    is_device = reading.taken_bytes is not None
    return {
        name: value
        for name, value in values.items()
        if name in _HOST or (is_device and name not in _OPTIONAL) or value is not None
    }
