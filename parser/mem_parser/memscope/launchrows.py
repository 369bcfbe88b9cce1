"""Rows of launches: kernels, operators of ATB, and the tensors that these use."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mem_parser.memlog.launches import NO_DEVICE, STREAM, TASK, LaunchKind, tensor_of
from mem_parser.memscope.form import ATB
from mem_parser.memscope.siderows import SideRow

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mem_parser.memlog.launches import Launches
    from mem_parser.memscope.settings import Settings

_KERNEL, _OPERATOR, _ACCESS = "KERNEL_LAUNCH", "OP_LAUNCH", "ACCESS"
_WORDS = {
    LaunchKind.KERNEL: (_KERNEL, "KERNEL_LAUNCH"),
    LaunchKind.KERNEL_BEGIN: (_KERNEL, "KERNEL_START"),
    LaunchKind.KERNEL_END: (_KERNEL, "KERNEL_END"),
    LaunchKind.OPERATOR_BEGIN: (_OPERATOR, "ATB_START"),
    LaunchKind.OPERATOR_END: (_OPERATOR, "ATB_END"),
    LaunchKind.READ: (_ACCESS, "READ"),
    LaunchKind.WRITE: (_ACCESS, "WRITE"),
    LaunchKind.ACCESS: (_ACCESS, "UNKNOWN"),
}
_TYPES = {
    0: "FLOAT", 1: "FLOAT16", 2: "INT8", 3: "INT32", 4: "UINT8", 6: "INT16", 7: "UINT16",
    8: "UINT32", 9: "INT64", 10: "UINT64", 11: "DOUBLE", 12: "BOOL", 13: "STRING",
    16: "COMPLEX64", 17: "COMPLEX128", 27: "BF16", 29: "INT4", 30: "UINT1", 33: "COMPLEX32",
    34: "HIFLOAT8", 35: "FLOAT8_E5M2", 36: "FLOAT8_E4M3FN", 37: "FLOAT8_E8M0",
    38: "FLOAT6_E3M2", 39: "FLOAT6_E2M3", 40: "FLOAT4_E2M1", 41: "FLOAT4_E1M2",
}  # fmt: skip
"""aclDataType of ACL."""
_FORMATS = {
    0: "NCHW", 1: "NHWC", 2: "ND", 3: "NC1HWC0", 4: "FRACTAL_Z", 12: "NC1HWC0_C04", 16: "HWCN",
    27: "NDHWC", 29: "FRACTAL_NZ", 30: "NCDHW", 32: "NDC1HWC0", 33: "FRACTAL_Z_3D", 35: "NC",
    47: "NCL",
}  # fmt: skip
"""aclFormat of ACL."""


_KINDS = (
    ("kernels", "kernel", "launch"),
    ("operators", "op", "launch"),
    ("accesses", "op", "access"),
)
"""Launches in the words of the sampler, and the level and the event that ask for them."""
FACTS = "facts"
"""What rows of blocks say of pages, pools and devices (`blockfacts`)."""
TENSORS = "tensors"
"""Of the blocks of the host, those of PyTorch's tensors alone."""


class LaunchRow(SideRow):
    """A row of a launch: from the log, not from the program."""

    __slots__ = ()


def launches_wanted(settings: Settings) -> tuple[str, ...]:
    """Return which launches a capture is asked for, in the words of the sampler."""
    wanted = (
        name
        for name, level, event in _KINDS
        if level in settings.levels and event in settings.all_events
    )
    return (*wanted, FACTS, TENSORS) if settings.host else (*wanted, FACTS)


def is_wanted(row: SideRow, settings: Settings) -> bool:
    """Whether a row is written under these settings: of what a program tells itself, all are."""
    if not isinstance(row, LaunchRow):
        return True
    kinds = {_KERNEL: "kernels", _OPERATOR: "operators", _ACCESS: "accesses"}
    return kinds[row.event] in launches_wanted(settings)


@lru_cache(maxsize=4096)
def text_of(text: bytes) -> str:
    """Return a text that a program made, on one line: what is no UTF-8, or cannot be shown, as
    hexadecimal digits behind a backslash and an x.
    """
    shown = text.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in shown)


@lru_cache(maxsize=4096)
def _tensor(text: bytes) -> tuple[tuple[str, str], ...]:
    found = tensor_of(text)
    if found is None:
        return ()
    dtype, layout, dimensions = found
    return (
        ("dtype", f"ACL_{_TYPES.get(dtype, 'DT_UNDEFINED')}"),
        ("format", f"ACL_FORMAT_{_FORMATS.get(layout, 'UNDEFINED')}"),
        ("shape", f"[{','.join(map(str, dimensions))}]"),
    )


def rows_of(
    launches: Launches, texts: list[bytes], tids: npt.NDArray[np.int64], pid: int
) -> list[SideRow]:
    """Return the rows of launches, whose times are those of the clock; ``texts`` are those of
    their file, ``tids`` the thread ids by row.
    """
    known = len(tids)
    columns = (getattr(launches, name).tolist() for name in _COLUMNS)
    rows: list[SideRow] = []
    for time_ns, kind, address, size, thread, device, name, detail in zip(*columns, strict=True):
        event, word = _WORDS[kind]
        attributes = _ATTRIBUTES[event](kind, address, size, texts[detail - 1] if detail else b"")
        rows.append(
            LaunchRow(
                time_ns,
                int(tids[thread]) if thread < known else pid,
                None if device == NO_DEVICE else str(device),
                event,
                word,
                text_of(texts[name - 1]) if name else "",
                address if event == _ACCESS else None,
                attributes,
                None,
            )
        )
    return rows


_COLUMNS = ("time_ns", "kind", "address", "size_bytes", "thread", "device", "name", "detail")
_Make = Callable[[int, int, int, bytes], dict[str, Any]]


def _of_kernel(kind: int, address: int, size: int, detail: bytes) -> dict[str, Any]:
    if kind != LaunchKind.KERNEL:
        return {"path": text_of(detail)} if detail else {}
    attributes = {}
    if size & STREAM:
        stream = address >> 32
        attributes["streamId"] = stream if stream < 1 << 31 else stream - (1 << 32)
    if size & TASK:
        attributes["taskId"] = address & 0xFFFFFFFF
    return attributes


def _of_operator(kind: int, address: int, size: int, detail: bytes) -> dict[str, Any]:  # noqa: ARG001 - as the others
    path = {"path": text_of(detail)} if detail else {}
    return path | {"workspace_ptr": hex(address), "workspace_size": size}


def _of_access(kind: int, address: int, size: int, detail: bytes) -> dict[str, Any]:  # noqa: ARG001 - as the others
    return {"size": size, "type": ATB, **dict(_tensor(detail))}


_ATTRIBUTES: dict[str, _Make] = {
    _KERNEL: _of_kernel,
    _OPERATOR: _of_operator,
    _ACCESS: _of_access,
}
