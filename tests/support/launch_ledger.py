"""What the stubs of Ascend really launched, and what a dump must have of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mem_parser.memscope.launchrows import text_of
from memscope_run import attribute

TEXT_BYTES = 1024
Story = list[tuple[str, ...]]


@dataclass(frozen=True)
class Launched:
    what: str
    start_ns: int
    end_ns: int
    tid: int
    device: int
    a: int
    b: int
    name: bytes
    detail: bytes


def hexadecimal(*names: str | bytes) -> str:
    """Names as the lines of the program have them."""
    return " ".join((n.encode() if isinstance(n, str) else n).hex() for n in names)


def read_launches(ledger: Path) -> list[Launched]:
    """All that was launched, in the order of the file."""
    found = []
    path = ledger.with_name(f"{ledger.name}.launches")
    for line in path.read_text().splitlines() if path.exists() else ():
        what, *numbers, name, detail = line.split()
        start, end, tid, device, a, b = map(int, numbers)
        texts = (b"" if text == "-" else bytes.fromhex(text) for text in (name, detail))
        found.append(Launched(what, start, end, tid, device, a, b, *texts))
    return found


def _shown(name: bytes) -> str:
    return text_of(name[:TEXT_BYTES]) or "N/A"


def kernels_expected(launched: Sequence[Launched]) -> Story:
    """Type, name, thread, device, and stream and task of each kernel that the runtime launched."""
    return [
        ("KERNEL_LAUNCH", _shown(k.name), str(k.tid), str(k.device), str(k.a), str(k.b))
        for k in launched
        if k.what == "kernel"
    ]


def kernels_found(rows: Sequence[dict[str, str]]) -> Story:
    return [
        (
            row["Event Type"], row["Name"], row["Thread Id"], row["Device Id"],
            attribute(row, "streamId"), attribute(row, "taskId"),
        )
        for row in rows
        if row["Event Type"] == "KERNEL_LAUNCH"
    ]  # fmt: skip


_OPERATORS = {"begin": "ATB_START", "end": "ATB_END", "in": "UNKNOWN", "out": "WRITE"}
_KERNELS = {"kernelbegin": ("KERNEL_START", "before"), "kernelend": ("KERNEL_END", "after")}


def operators_expected(launched: Sequence[Launched]) -> Story:
    """Type, name, thread, device, address; path and workspace, or the tensor's shape."""
    story = []
    for row in launched:
        word = _OPERATORS.get(row.what)
        if word is None:
            continue
        head = (word, _shown(row.name), str(row.tid), str(row.device), hex(row.a))
        if row.what in {"begin", "end"}:
            story.append((*head, str(row.b), text_of(row.detail[:TEXT_BYTES])))
        else:
            story.append((*head, row.detail.decode().split(" ", 2)[2].replace(" ", ";")))
    return story


def operators_found(rows: Sequence[dict[str, str]]) -> Story:
    story: Story = []
    for row in rows:
        if row["Event"] not in {"OP_LAUNCH", "ACCESS"}:
            continue
        head = (row["Event Type"], row["Name"], row["Thread Id"], row["Device Id"])
        if row["Event"] == "OP_LAUNCH":
            place = attribute(row, "workspace_ptr"), attribute(row, "workspace_size")
            story.append((*head, *place, attribute(row, "path")))
        else:
            shape = row["Attr"].partition("shape")[2].strip(':"}').partition("]")[0].strip("[")
            story.append((*head, hex(int(row["Ptr"], 16)), shape.replace(",", ";")))
    return story


def inner_kernels_expected(launched: Sequence[Launched]) -> Story:
    """Type, name, thread, device and path of kernels in operators; of the others as above."""
    story: Story = []
    for row in launched:
        if row.what == "kernel":
            story += kernels_expected([row])
        elif row.what in _KERNELS:
            word, when = _KERNELS[row.what]
            path = text_of(row.detail)
            name = path.rpartition("/")[2]
            story.append((word, name, str(row.tid), str(row.device), f"{path}/{when}"))
    return story


def inner_kernels_found(rows: Sequence[dict[str, str]]) -> Story:
    story: Story = []
    for row in rows:
        if row["Event Type"] == "KERNEL_LAUNCH":
            story += kernels_found([row])
        elif row["Event Type"] in {"KERNEL_START", "KERNEL_END"}:
            head = (row["Event Type"], row["Name"], row["Thread Id"], row["Device Id"])
            story.append((*head, attribute(row, "path")))
    return story
