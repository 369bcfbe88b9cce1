"""numpy record types of the segment, derived from the C structures themselves.

Model: cffi knows every field's offset from the compiled header; this module turns a C structure
into the numpy dtype with the same offsets, so that a table from a segment file is one array
view. Names are those of segment.h. `offset_of` gives byte offsets in the control page.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from mem_profiler._core import ffi, lib

_PRIMITIVES = {
    "uint8_t": "<u1",
    "uint16_t": "<u2",
    "uint32_t": "<u4",
    "uint64_t": "<u8",
    "int32_t": "<i4",
    "int64_t": "<i8",
}


def _dtype_of(ctype: Any) -> Any:
    """A dtype, or (dtype, shape) for arrays, of a cffi type."""
    if ctype.kind == "primitive":
        return _PRIMITIVES[ctype.cname]
    if ctype.kind == "array":
        if ctype.item.cname == "char":
            return f"S{ctype.length}"
        return (_dtype_of(ctype.item), (ctype.length,))
    fields = ctype.fields
    return np.dtype(
        {
            "names": [name for name, _ in fields],
            "formats": [_dtype_of(field.type) for _, field in fields],
            "offsets": [field.offset for _, field in fields],
            "itemsize": ffi.sizeof(ctype),
        }
    )


@functools.cache
def dtype(struct: str) -> np.dtype[np.void]:
    """The record dtype of `struct`, given as for example "mp_site_row"."""
    result: np.dtype[np.void] = np.dtype(_dtype_of(ffi.typeof(f"struct {struct}")))
    return result


# Rows of these tables begin with their key; in the others the rows follow all keys of the level.
KEY_IN_ROW = frozenset({"mp_live_row"})


def payload_bytes(struct: str | None) -> int:
    """Bytes of a row without its key; `struct` as for dtype(), None: nothing."""
    if struct is None:
        return 0
    return dtype(struct).itemsize - (8 if struct in KEY_IN_ROW else 0)


@functools.cache
def offset_of(*path: str | int) -> int:
    """Byte offset in struct mp_control of a field path such as ("capture", 1, "stop_ns")."""
    return int(ffi.offsetof("struct mp_control", *path))


CONTROL = dtype("mp_control")
SITE_ROW = dtype("mp_site_row")
LIVE_ROW = dtype("mp_live_row")
STACK = dtype("mp_stack")
PYTHON_FRAME = dtype("mp_python_frame")
PYTHON_CODE = dtype("mp_python_code")
PYTHON_LABEL = dtype("mp_python_label")
DEVICE_SITE_ROW = dtype("mp_device_site_row")
DEVICE_LIVE_ROW = dtype("mp_device_live_row")
DOMAIN = dtype("mp_domain")
MARK = dtype("mp_mark")
THREAD = dtype("mp_thread")
MODULE = dtype("mp_module_row")
EVENT = dtype("mp_event")
RING = dtype("mp_ring")
ROOM = dtype("mp_room")

CONTROL_BYTES: int = lib.MP_CONTROL_BYTES
MAGIC: int = lib.MP_SEGMENT_MAGIC
ROOM_MAGIC: int = lib.MP_ROOM_MAGIC
VERSION: int = lib.MP_SEGMENT_VERSION
GATE_SHIFT: int = lib.MP_GATE_SHIFT
GATE_OFF = -(1 << 63)
CAPTURE_MAX: int = lib.MP_CAPTURE_MAX
BUCKETS: int = lib.MP_BUCKETS
PART_BITS: int = lib.MP_PART_BITS
PEAK_STEP_BITS: int = lib.MP_PEAK_STEP_BITS
PEAK = dtype("mp_peak")
DEPTH_MAX: int = lib.MP_DEPTH_MAX
STACK_LOST_MAX: int = lib.MP_STACK_LOST_MAX
THREAD_ROWS: int = lib.MP_THREAD_ROWS
MODULE_ROWS: int = lib.MP_MODULE_ROWS
DOMAIN_ROWS: int = lib.MP_DOMAIN_ROWS
MARK_ROWS_MAX: int = lib.MP_MARK_ROWS_MAX
RING_ROWS: int = lib.MP_RING_ROWS
RING_EVENTS_MIN: int = lib.MP_RING_EVENTS_MIN
RING_HEADS_BYTES: int = lib.MP_RING_HEADS_BYTES
RATE_MAX_BYTES: int = lib.MP_RATE_MAX_BYTES
BIRTH_UNIT_NS: int = lib.MP_BIRTH_UNIT_NS
SCALE_SHIFT: int = lib.MP_SCALE_SHIFT
SCALE_MAX: int = lib.MP_SCALE_MAX
LIMIT_DEFAULT_BYTES: int = lib.MP_LIMIT_DEFAULT_BYTES
LIMIT_MIN_BYTES: int = lib.MP_LIMIT_MIN_BYTES
LIMIT_WHOLE_BYTES: int = lib.MP_LIMIT_WHOLE_BYTES
LIMIT_GROUP_SHARE: int = lib.MP_LIMIT_GROUP_SHARE
LIMIT_GROUP_ASKED_SHARE: int = lib.MP_LIMIT_GROUP_ASKED_SHARE
PYTHON_LINES_BYTES: int = lib.MP_PYTHON_LINES_BYTES
LABEL_KINDS = (lib.MP_LABEL_THREAD, lib.MP_LABEL_TASK)
LEVELS: int = lib.MP_LEVELS
U64_MAX = (1 << 64) - 1
U32_MAX = (1 << 32) - 1

# enum mp_stack_kind
STACK_NATIVE: int = lib.MP_STACK_NATIVE
STACK_PAIR: int = lib.MP_STACK_PAIR
STACK_RUN: int = lib.MP_STACK_RUN
STACK_JOINED: int = lib.MP_STACK_JOINED
STACK_RUNS_MAX: int = lib.MP_STACK_RUNS_MAX
STACK_PYTHON_FRAME: int = lib.MP_STACK_PYTHON_FRAME
STACK_PYTHON_CODE: int = lib.MP_STACK_PYTHON_CODE
STACK_PYTHON_LINES: int = lib.MP_STACK_PYTHON_LINES
STACK_PYTHON_LABEL: int = lib.MP_STACK_PYTHON_LABEL
STACK_TEXT: int = lib.MP_STACK_TEXT
STACK_TENSOR: int = lib.MP_STACK_TENSOR

# Kinds of arrays, which are their rows in the directory.
STACKS: int = lib.MP_ARRAY_STACKS
THREADS: int = lib.MP_ARRAY_THREADS
MODULES: int = lib.MP_ARRAY_MODULES
DOMAINS: int = lib.MP_ARRAY_DOMAINS
MARKS: int = lib.MP_ARRAY_MARKS
EVENTS: int = lib.MP_ARRAY_EVENTS

# enum mp_event_kind
EVENT_BIRTH: int = lib.MP_EVENT_BIRTH
EVENT_DEATH: int = lib.MP_EVENT_DEATH
EVENT_MOVED: int = lib.MP_EVENT_MOVED
EVENT_BACK: int = lib.MP_EVENT_BACK
EVENT_MARK: int = lib.MP_EVENT_MARK
EVENT_LAUNCH: int = lib.MP_EVENT_LAUNCH
EVENT_KIND_BITS: int = lib.MP_EVENT_KIND_BITS

# enum mp_launch_want, by the words of MEM_PROFILER_LAUNCHES
LAUNCH_WANTS = {
    "operators": lib.MP_LAUNCH_OPERATORS,
    "kernels": lib.MP_LAUNCH_KERNELS,
    "accesses": lib.MP_LAUNCH_ACCESSES,
    "facts": lib.MP_LAUNCH_FACTS,
    "tensors": lib.MP_LAUNCH_TENSORS,
}
LAUNCH_KINDS: int = lib.MP_LAUNCH_KINDS
LAUNCH_KIND_SHIFT: int = lib.MP_LAUNCH_KIND_SHIFT
LAUNCH_TEXT_BYTES: int = lib.MP_LAUNCH_TEXT_BYTES
LAUNCH_DIMENSIONS: int = lib.MP_LAUNCH_DIMENSIONS

STACK_BITS: int = lib.MP_KEY_STACK_BITS
DOMAIN_SHIFT: int = lib.MP_KEY_DOMAIN_SHIFT
DOMAIN_MASK: int = (1 << lib.MP_KEY_DOMAIN_BITS) - 1
CAPTURE_SHIFT: int = lib.MP_KEY_CAPTURE_SHIFT
CAPTURE_MASK: int = (1 << lib.MP_KEY_CAPTURE_BITS) - 1
# Stack id, class and domain: the identity of a site inside one capture, without the writer's shard.
SITE_MASK: int = (1 << lib.MP_KEY_SHARD_SHIFT) - 1
KEY_RECYCLING: int = lib.MP_KEY_RECYCLING

# Index in control.lost -> name in the .heap file (docs/heap-format.md).
LOST_NAMES = {
    lib.MP_LOST_REENTRY: "reentry",
    lib.MP_LOST_LIVE_FULL: "live_full",
    lib.MP_LOST_SITE_FULL: "site_full",
    lib.MP_LOST_RESERVE: "reserve",
    lib.MP_LOST_MODULE_FULL: "module_full",
    lib.MP_LOST_THREAD_FULL: "thread_full",
    lib.MP_LOST_UNWIND_NO_MODULE: "unwind_no_module",
    lib.MP_LOST_UNWIND_NO_RULE: "unwind_no_rule",
    lib.MP_LOST_UNWIND_BAD_RULE: "unwind_bad_rule",
    lib.MP_LOST_UNWIND_RANGE: "unwind_range",
    lib.MP_LOST_TRUNCATED: "truncated",
    lib.MP_LOST_DOMAIN_FULL: "domain_full",
    lib.MP_LOST_STACK_ROOM: "stack_room",
    lib.MP_LOST_PYTHON: "python",
    lib.MP_LOST_LABEL: "label",
    lib.MP_LOST_LAUNCH: "launch",
}

# Reserved stack id -> name of the loss. 15 is the reader's own: an invalid stack record.
STACK_UNREADABLE = STACK_LOST_MAX - 1
# Of sites whose samples have no stack because a table was full.
STACKS_WITHOUT_ROOM = (lib.MP_STACK_LOST_TABLE_FULL, lib.MP_STACK_LOST_SITES_FULL)
STACK_LOST_NAMES = {
    lib.MP_STACK_LOST_EMPTY: "stack_empty",
    lib.MP_STACK_LOST_TABLE_FULL: "stack_table_full",
    lib.MP_STACK_LOST_SITES_FULL: "stack_sites_full",
    lib.MP_STACK_LOST_BUSY: "stack_busy",
    STACK_UNREADABLE: "stack_unreadable",
}

# enum mp_backend -> names that users and domains have, as sampler/abi/backends.h lists them.
BACKENDS: dict[int, str] = dict(enumerate(ffi.string(lib.mp_backend_words()).decode().split()))

# enum mp_memory_kind and enum mp_mark_kind -> names in the .heap file.
MEMORY_KINDS = {
    lib.MP_MEMORY_DEVICE: "device",
    lib.MP_MEMORY_PINNED: "pinned",
    lib.MP_MEMORY_MANAGED: "managed",
    lib.MP_MEMORY_POOL: "pool",
    lib.MP_MEMORY_MAPPED: "mapped",
    lib.MP_MEMORY_MAPPED_SHARED: "mapped-shared",
    lib.MP_MEMORY_MAPPED_FILE: "mapped-file",
    lib.MP_MEMORY_MAPPED_RESERVED: "mapped-reserved",
    lib.MP_MEMORY_MAPPED_STACK: "mapped-stack",
    lib.MP_MEMORY_HEAP: "heap",
    lib.MP_MEMORY_HEAP_EXACT: "heap",
    lib.MP_MEMORY_HEAP_OWN: "heap-own",
    lib.MP_MEMORY_HEAP_OWN_EXACT: "heap-own",
}
# As mp_domain_rate() says: kinds sampled at the host's rate; and of which each block is a sample.
SAMPLED_AS_HOST = (lib.MP_MEMORY_HEAP, lib.MP_MEMORY_HEAP_OWN)
ALL_SAMPLED = (
    *range(lib.MP_MEMORY_MAPPED, lib.MP_MEMORY_MAPPED_STACK + 1),
    lib.MP_MEMORY_HEAP_EXACT,
    lib.MP_MEMORY_HEAP_OWN_EXACT,
)
MARK_KINDS = {lib.MP_MARK_POINT: "point", lib.MP_MARK_BEGIN: "begin", lib.MP_MARK_END: "end"}

LIVE_SIZE_BITS: int = lib.MP_LIVE_SIZE_BITS
LIVE_BIRTH_SHIFT: int = lib.MP_LIVE_BIRTH_SHIFT

STATE_STARTING: int = lib.MP_STATE_STARTING
STATE_READY: int = lib.MP_STATE_READY
STATE_SHADOWED: int = lib.MP_STATE_SHADOWED
STATE_REFUSED: int = lib.MP_STATE_REFUSED
STATE_EXITED: int = lib.MP_STATE_EXITED
FLAG_SECCOMP: int = lib.MP_FLAG_SECCOMP
STARTUP_ATTACHED: int = lib.MP_STARTUP_ATTACHED
STARTUP_LATE: int = lib.MP_STARTUP_LATE
STARTUP_ENTRIES: int = lib.MP_STARTUP_ENTRIES
STARTUP_NO_EVENTS: int = lib.MP_STARTUP_NO_EVENTS


def text(raw: bytes) -> str:
    """A C string field as text; bytes that are not UTF-8 survive as surrogates."""
    return bytes(raw).split(b"\0", 1)[0].decode("utf-8", "surrogateescape")
