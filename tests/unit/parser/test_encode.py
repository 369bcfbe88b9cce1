"""Lines of our own section: within their bound, and read back as they were."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.heapfile.encode import LINE_CHARS, column_lines, json_lines

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
)


def joined(lines: list[bytes]) -> str:
    first, *more = (line.decode("ascii").removesuffix("\n") for line in lines)
    assert all(line.startswith("%+ ") for line in more)
    return first.partition(" ")[2] + "".join(line[3:] for line in more)


@given(VALUES)
def test_any_object_is_read_back_from_its_lines(value: Any) -> None:
    lines = list(json_lines("%header", value))
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert not any(b"=" in line for line in lines)
    assert json.loads(joined(lines)) == value


def test_a_long_object_is_cut_into_lines_that_old_readers_bear() -> None:
    value = {"command": "x=\u2028" * 5000}
    lines = list(json_lines("%header", value))
    assert len(lines) > 2
    assert max(map(len, lines)) <= LINE_CHARS + len("%header \n") < 4096
    assert json.loads(joined(lines)) == value


@given(st.lists(st.integers(0, 2**64 - 1), max_size=4000))
def test_any_column_is_read_back_from_its_lines(values: list[int]) -> None:
    head, *lines = column_lines("stack_frames", "<u8", np.array(values, np.uint64))
    name, dtype, count, number = head.decode().split()[1:]
    assert (name, dtype, int(count), int(number)) == (
        "stack_frames", "<u8", len(values), len(lines),
    )  # fmt: skip
    assert all(line.startswith(b"%| ") and len(line) < 4096 and b"=" not in line for line in lines)
    text = b"".join(line[3:-1] for line in lines)
    data = zlib.decompress(base64.b64decode(text + b"=" * (-len(text) % 4)))
    assert np.frombuffer(data, "<u8").tolist() == values
