"""Names of code that a program made as it ran: perf maps and jitdumps, honest and hostile."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import bounded
from mem_parser.symbols import jit_symbols
from mem_parser.symbols.jit_symbols import MadeCode, frame_of

MAGIC = 0x4A695444


def names(data: bytes, *addresses: int) -> dict[int, str]:
    made = MadeCode(np.array(addresses, dtype=np.uint64))
    made.read(io.BytesIO(data))
    return {address: frame.full_name for address, frame in made.frames().items()}


def dump(*records: bytes) -> bytes:
    return struct.pack("IIIIIIQQ", MAGIC, 1, 40, 62, 0, 7, 0, 0) + b"".join(records)


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("IIQ", kind, 16 + len(body), 0) + body


def load(start: int, size: int, name: bytes, index: int = 1) -> bytes:
    head = struct.pack("IIQQQQ", 7, 7, start, start, size, index)
    return record(0, head + name + b"\0" + b"\xcc" * size)


def move(old: int, new: int, size: int, index: int) -> bytes:
    return record(1, struct.pack("IIQQQQQ", 7, 7, new, old, new, size, index))


def test_an_entry_names_the_addresses_from_its_start_to_before_its_end() -> None:
    found = names(b"1000 20 first\n0x2000 0x10 second one\n", 0xFFF, 0x1000, 0x101F, 0x1020, 0x2005)
    assert found == {0x1000: "first", 0x101F: "first", 0x2005: "second one"}


def test_memory_that_is_used_again_has_its_last_name() -> None:
    assert names(b"1000 20 old\n1010 20 new\n", 0x1005, 0x1015) == {0x1005: "old", 0x1015: "new"}
    found = names(dump(load(0x1000, 32, b"old"), load(0x1010, 32, b"new", 2)), 0x1005, 0x1015)
    assert found == {0x1005: "old", 0x1015: "new"}


def test_code_of_a_jitdump_keeps_its_name_when_it_is_moved() -> None:
    found = names(dump(load(0x1000, 16, b"f", 5), move(0x1000, 0x9000, 16, 5)), 0x1001, 0x9001)
    assert found == {0x1001: "f", 0x9001: "f"}


@pytest.mark.parametrize(
    "line",
    [b"1000 20", b"x 20 a", b"1000 y a", b"-1000 2000 a", b"1000 0 a", b"1000 -20 a", b"1000 20  ",
     b"1000 ffffffffffffffffff a", b"1000 20 " + b"x" * jit_symbols._LONGEST_LINE + b"1000 20 a"],
)  # fmt: skip
def test_lines_that_make_no_sense_name_nothing_and_the_next_one_counts(line: bytes) -> None:
    found = names(line + b"\n1008 8 good\n", 0x1001, 0x1009)
    assert found.get(0x1009) == "good"
    assert set(found) <= {0x1009} or found[0x1001].startswith("xxx")


@pytest.mark.parametrize("data", [
    dump()[:-1], dump(b"\0" * 16), dump(record(0, b"short")), dump(record(1, b"short")),
    dump(load(0x1000, 16, b"")), dump(move(0, 0x1000, 16, 3)), dump(load(0x1000, 16, b"f")[:20]),
])  # fmt: skip
def test_records_that_make_no_sense_name_nothing(data: bytes) -> None:
    assert names(data, 0x1001) == {}


def test_no_more_of_a_file_is_read_than_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit_symbols, "MOST_BYTES", 20)
    assert names(b"1000 20 first\n" * 2 + b"2000 20 late\n", 0x1001, 0x2001) == {0x1001: "first"}
    monkeypatch.setattr(jit_symbols, "MOST_BYTES", 60)
    assert names(dump(load(0x1000, 16, b"f"), load(0x2000, 16, b"g")), 0x1001, 0x2001) == {
        0x1001: "f"
    }


def test_entries_that_all_cover_all_addresses_end_at_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jit_symbols, "_MOST_ASSIGNED", 25)
    entries = b"".join(b"0 1000 name%d\n" % k for k in range(10))
    assert set(names(entries, *range(10)).values()) == {"name1"}


def test_names_that_later_ones_replace_cost_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "perf-1.map"
    with path.open("w", encoding="utf-8") as file:
        for k in range(40_000):
            file.write(f"{16 * (k % 100):x} 10 \U0001f600{k}{'x' * 990}\n")
    said = bounded.read_within(
        path,
        48 * bounded.MIB,
        "import numpy as np\nfrom mem_parser.symbols.jit_symbols import MadeCode\n"
        "made = MadeCode(np.arange(100, dtype=np.uint64) * 16)",
        "(made.read(open(path, 'rb')), len({one.name for one in made.frames().values()}))[1]",
    )
    assert said == "read: 100\n"


@pytest.mark.parametrize(("text", "name"), [
    ("JS:*handleRequest /srv/app.js:2:23", "handleRequest"),
    ("JS:~handleRequest /srv/my app.js:2:23", "handleRequest"),
    ("JS:^get value node:internal/url:12:3", "get value"),
    ("JS:~ /srv/app.js:1:1", "app.js:1:1"),
    ("JS:o*serve file:///srv/app.js:4:15", "serve"),
    ("JS:open /srv/app.js:4:15", "open"),
    ("JS:*serve file:///srv/app.js:4:15", "serve"),
    ("Builtin:InterpreterEntryTrampoline", "Builtin:InterpreterEntryTrampoline"),
    ("void Alloc.serve(int)", "Alloc.serve"),
    ("java.lang.Object jdk.misc.Unsafe.get(java.lang.Object, long)", "jdk.misc.Unsafe.get"),
    ("void java.lang.Object.<init>()", "java.lang.Object.<init>"),
    ("byte[] a.B$C.d(char[])", "a.B$C.d"),
    ("StubRoutines (1)", "StubRoutines (1)"),
    ("py::run:/srv/app.py", "py::run:/srv/app.py"),
])  # fmt: skip
def test_variants_of_a_functions_code_have_one_name(text: str, name: str) -> None:
    frame = frame_of(text)
    assert (frame.name, frame.full_name, frame.file, frame.line) == (name, text, "", 0)


def test_characters_that_a_terminal_acts_on_are_made_visible() -> None:
    [name] = names(b"1000 20 a\x1b[31mb\xff\n", 0x1001).values()
    assert "\x1b" not in name
    assert name.isprintable()


@given(
    st.binary(max_size=400)
    | st.binary(max_size=200).map(dump)
    | st.lists(st.tuples(st.integers(0, 1 << 64), st.integers(0, 1 << 40), st.binary(max_size=30)))
    .map(lambda rows: b"".join(b"%x %x %s\n" % row for row in rows))
)  # fmt: skip
def test_any_bytes_give_printable_names_to_asked_addresses_only(data: bytes) -> None:
    asked = (0, 1, 0x1000, 0x30303030, (1 << 64) - 1)
    found = names(data, *asked)
    assert set(found) <= set(asked)
    assert all(
        name.isprintable() and len(name) <= 8 * jit_symbols._LONGEST_NAME for name in found.values()
    )
