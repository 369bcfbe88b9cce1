"""Kernels and operators of ATB in the dumps of `mem_profiler memscope`, held against what the stubs
of Ascend's runtime, ACL and ATB launched.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from hostile import NAMES
from mem_parser.memlog.launches import Launches, LaunchKind
from mem_parser.memscope.launchrows import text_of
from mem_parser.memscope.logtail import LogTail
from memscope_run import Collecting, Dump, attribute, dumps, until
from parser_run import told
from stub_driver import Ascend

pytestmark = pytest.mark.usefixtures("segment_dir")

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


MEMORY = ("set 0", "malloc 0 1000", "malloc 1 2000", "malloc 2 4096")
KERNELS = (
    f"function 3 {hexadecimal('MatMulV3_fp16')}", f"entry 4 {hexadecimal('by_entry')}",
    f"stub 5 {hexadecimal('te_add')}", "launch plain 3 5", "launch v2 4 1", "launch config 3 5",
    "launch host 4 0", "launch rt 3 2", "launch rtv3 3 2", "launch stub 5 0", "launch flag 5 7",
    f"aicpu {hexadecimal('Cast')} 3", "launch plain 3 5",
)  # fmt: skip
OPERATORS = (
    f"operator {hexadecimal('LinearOperation')} 4096 {hexadecimal('MatMulKernel', 'AddKernel')}",
    f"graph {hexadecimal('DecoderLayer', 'SelfAttention', 'RmsNorm')}",
    f"operator {hexadecimal('LinearOperation')} 64 {hexadecimal('MatMulKernel')}",
)


def collecting(
    folder: Path, *options: object, level: str = "kernel", old_strings: bool = False
) -> Collecting:
    program = Ascend.build().launching_program(old_strings=old_strings)
    return Collecting(folder, "--level", level, *options, program=(program,))


def only(found: list[Dump]) -> Dump:
    [one] = found
    return one


def convert(run: Collecting, target: Path) -> Dump:
    logs = sorted(run.output.glob("*/events/*.memlog"))
    told("convert", *logs, "--to", "memscope", "-o", target)
    return Dump(target)


def test_each_launch_of_the_ledger_is_a_row_and_converted_it_is_the_same(tmp_path: Path) -> None:
    with collecting(tmp_path) as run:
        assert set(run.do(*MEMORY, *KERNELS)) == {0}
        assert run.end() == 0, run.stderr

    launched = read_launches(run.ledger)
    dump = only(dumps(run.output))
    assert kernels_found(dump.rows) == kernels_expected(launched)
    assert dump.of("OP_LAUNCH", "ACCESS") == []
    assert len(launched) == 10
    for row, kernel in zip(dump.of("KERNEL_LAUNCH"), launched, strict=True):
        assert int(row["Timestamp(ns)"]) >= kernel.end_ns
    times = [int(row["Timestamp(ns)"]) for row in dump.rows]
    assert times == sorted(times)
    again = convert(run, tmp_path / "again.csv")
    assert again.path.read_bytes() == dump.path.read_bytes()


def test_a_launch_that_fails_or_has_no_name_is_told_as_it_is(tmp_path: Path) -> None:
    with collecting(tmp_path) as run:
        assert run.do(*MEMORY, "launch plain 9 0", "launch stub 9 0", "whole 4") == [
            0, 0, 0, 0, 107000, 107000, 0,
        ]  # fmt: skip
        assert run.end() == 0, run.stderr
    [row] = only(dumps(run.output)).of("KERNEL_LAUNCH")
    assert (row["Name"], attribute(row, "streamId")) == ("N/A", "4")


@pytest.mark.parametrize("old_strings", [False, True])
def test_operators_of_atb_their_tensors_and_kernels_begin_and_end_and_nothing_is_saved(
    tmp_path: Path, old_strings: bool
) -> None:
    with collecting(tmp_path, "--events", "launch,access", level="op,kernel",
                    old_strings=old_strings) as run:  # fmt: skip
        assert set(run.do(*MEMORY, *OPERATORS)) == {0}
        assert run.end() == 0, run.stderr

    launched = read_launches(run.ledger)
    dump = only(dumps(run.output))
    found = operators_found(dump.rows)
    assert found == operators_expected(launched)
    assert Counter(row[0] for row in found) == {
        "ATB_START": 5, "ATB_END": 5, "UNKNOWN": 2, "WRITE": 2,
    }  # fmt: skip
    kernels = inner_kernels_found(dump.rows)
    assert kernels == inner_kernels_expected(launched)
    assert Counter(row[0] for row in kernels)["KERNEL_START"] == 5
    blocks = {row["Ptr"]: row for row in dump.of("MALLOC")}
    for row in dump.of("ACCESS"):
        assert attribute(row, "allocation_id") == attribute(blocks[row["Ptr"]], "allocation_id")
        assert (attribute(row, "type"), attribute(row, "dtype")) == ("ATB", "ACL_FLOAT16")
        assert attribute(row, "format") == "ACL_FORMAT_ND"
    assert not [line for line in launched if line.what == "saved"]


@pytest.mark.parametrize(
    ("events", "level", "wanted"),
    [
        ("alloc", "kernel", set()),
        ("access", "op", {"ACCESS"}),
        ("launch", "op", {"OP_LAUNCH"}),
        ("launch,access", "0,1", {"KERNEL_LAUNCH", "OP_LAUNCH", "ACCESS"}),
    ],
)
def test_only_what_is_asked_for_is_written(
    tmp_path: Path, events: str, level: str, wanted: set[str]
) -> None:
    with collecting(tmp_path, "--events", events, level=level) as run:
        assert set(run.do(*MEMORY, *OPERATORS, *KERNELS)) == {0}
        assert run.end() == 0, run.stderr
    rows = only(dumps(run.output)).rows
    assert {row["Event"] for row in rows} - {"MALLOC", "FREE"} == wanted
    logs = sorted(map(str, run.output.glob("*/events/*.memlog")))
    pieces = [piece for _, piece in LogTail(paths=logs).take(final=True)]
    launches = [piece.kind for piece in pieces if isinstance(piece, Launches)]
    in_log = sum(int((kind < LaunchKind.BLOCK).sum()) for kind in launches)
    assert in_log == sum(row["Event"] in wanted for row in rows)  # the program wrote no others


@pytest.mark.parametrize("form", ["csv", "db"])
def test_names_may_be_long_binary_or_hold_any_mark(tmp_path: Path, form: str) -> None:
    texts = [n.encode("utf-8", "surrogatepass").replace(b"\0", b"") for n in NAMES]
    names = [*texts, b"n" * 5000, bytes(range(1, 256)), b"a,b\"c'{d:e}", b"\xff\xfe,\n"]
    lines = [line for name in names
             for line in (f"function 3 {hexadecimal(name)}", "launch plain 3 0")]  # fmt: skip
    with collecting(tmp_path, "--format", form) as run:
        assert set(run.do(*MEMORY, *lines)) == {0}
        run.do(f"operator {hexadecimal('op')} 1 {hexadecimal(b'k,{x:1}')}")
        assert run.end() == 0, run.stderr

    launched = read_launches(run.ledger)
    dump = only(dumps(run.output, form=form))
    assert kernels_found(dump.rows) == kernels_expected(launched)
    assert len(dump.of("KERNEL_LAUNCH")) == len(names) + 3
    assert len({row["Name"] for row in dump.of("KERNEL_LAUNCH")}) == len(set(names)) + 2


def test_a_program_that_is_killed_keeps_all_launches_up_to_that_moment(tmp_path: Path) -> None:
    with collecting(tmp_path, "--events", "alloc,free,launch") as run:
        run.do(*MEMORY, "function 3 61")
        found = until(lambda: dumps(run.output), "no rows yet")
        assert found
        run.do(*["launch plain 3 1"] * 500)
        run.kill()
        assert run.end() == -9
    launched = read_launches(run.ledger)
    assert len(launched) == 500
    assert kernels_found(only(dumps(run.output)).rows) == kernels_expected(launched)


def test_launches_of_threads_and_of_a_forked_child_have_their_own_numbers(tmp_path: Path) -> None:
    with collecting(tmp_path) as run:
        run.do(*MEMORY, "set 1", "malloc 6 10", "function 3 61", "threads 4 200 3")
        run.child.stdin.write("fork\n")
        run.do("malloc 7 100", f"function 8 {hexadecimal('child')}", "launch plain 8 0")
        assert run.end() == 0, run.stderr

    launched = kernels_expected(read_launches(run.ledger))
    rows = [row for device in ("0", "1") for dump in dumps(run.output, device)
            for row in dump.rows]  # fmt: skip
    found = kernels_found(rows)
    assert len(found) == 801
    assert sorted(found) == sorted(launched)
    assert len({row["Process Id"] for row in rows if row["Name"] == "child"}) == 1
    assert {row["Device Id"] for row in rows} == {"0", "1"}


def test_lists_of_tensors_may_be_long_and_one_that_makes_no_sense_is_counted(
    tmp_path: Path,
) -> None:
    with collecting(tmp_path, "--events", "access", level="op") as run:
        lines = (f"many {hexadecimal('long')} 65", f"many {hexadecimal('full')} 200",
                 f"broken {hexadecimal('broken')}")  # fmt: skip
        assert run.do(*MEMORY, *lines) == [0] * 7
        assert run.end() == 0
    counts = Counter(row["Name"] for row in only(dumps(run.output)).of("ACCESS"))
    assert counts == {"long": 65, "full": 200}
    assert "1 kernels, operators or accesses have no name" in run.stderr


def test_blocks_and_launches_stay_in_order_when_there_are_many(tmp_path: Path) -> None:
    with collecting(tmp_path) as run:
        run.do(*MEMORY, "function 3 61")
        for number in range(8):
            run.do("malloc 9 64", f"threads 2 300 {3}", "free 9")
            if number % 7 == 0:
                run.do("malloc 10 9")
        assert run.end() == 0, run.stderr
    dump = only(dumps(run.output))
    times = [int(row["Timestamp(ns)"]) for row in dump.rows]
    assert times == sorted(times)
    launched = read_launches(run.ledger)
    assert len(launched) == 4800
    rows = [row for device in ("0", "1") for found in dumps(run.output, device)
            for row in found.rows]  # fmt: skip
    assert sorted(kernels_found(rows)) == sorted(kernels_expected(launched))
