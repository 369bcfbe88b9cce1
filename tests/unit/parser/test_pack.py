"""Data for the pages: unpacked as the page does it, it is what was packed."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.tree import BYTES, build_tree
from mem_parser.web import pack
from mem_parser.web.pack import LONGEST_NAME, pack_text, pack_tree
from web_profiles import SERVER, Site, make_profile


def unpacked(text: str) -> bytes:
    size, _, body = text.partition(":")
    data = zlib.decompress(base64.b64decode(body))
    assert len(data) == int(size)
    return data


def columns_of(planes: bytes, described: list[list[Any]]) -> dict[str, np.ndarray]:
    """The columns behind one another, put together from their planes of bytes."""
    found, at = {}, 0
    for name, kind, width, count in described:
        table = np.zeros((count, 4), np.uint8)
        for k in range(width):
            table[:, k] = np.frombuffer(planes, np.uint8, count, at)
            at += count
        found[name] = table.reshape(-1).view("<f4" if kind == "f" else "<u4")
    assert at == len(planes)
    return found


def tree_of(text: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    data = unpacked(text)
    [size] = struct.unpack_from("<I", data)
    head = json.loads(data[4 : 4 + size])
    return head, columns_of(data[4 + size :], head["columns"])


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_a_text_is_json_of_what_was_packed(data: Any) -> None:
    found = json.loads(unpacked(pack_text(data)))
    assert json.dumps(found).count("[") == json.dumps(data).count("[")
    assert found == json.loads(pack.json_text(data))


@given(st.lists(st.integers(-5, 1 << 40), max_size=30))
def test_whole_numbers_are_exact_within_32_bits(values: list[int]) -> None:
    columns = pack.Columns()
    columns.integers("x", np.array(values, np.int64))
    found = columns_of(b"".join(columns.planes), columns.list)["x"]
    assert found.tolist() == [min(max(v, 0), 0xFFFFFFFF) for v in values]
    [[_, _, width, _]] = columns.list
    assert width == max(1, (max([0, *found.tolist()]).bit_length() + 7) // 8)


@given(st.lists(st.floats(0, 1e30), max_size=20), st.sampled_from([7, 16]))
def test_fractions_are_right_to_the_bits_that_are_kept(values: list[float], bits: int) -> None:
    columns = pack.Columns()
    columns.numbers("x", np.array(values), bits)
    found = columns_of(b"".join(columns.planes), columns.list)["x"]
    assert found.tolist() == pytest.approx(values, rel=2.0 ** -(bits + 1) + 2.0**-23, abs=1e-37)


def test_what_is_no_number_is_none_the_page_would_stumble_over() -> None:
    columns = pack.Columns()
    columns.numbers("x", np.array([np.nan, np.inf]), 16)
    found = columns_of(b"".join(columns.planes), columns.list)["x"]
    assert found[0] == 0.0 and np.isfinite(found[1])


def test_nodes_come_parents_first_with_all_below_them_behind() -> None:
    tree = build_tree(*make_profile(SERVER))
    head, columns = tree_of(pack_tree(tree))
    depth = columns["depth"].astype(int)
    assert depth[0] == 0 and len(depth) == len(tree)
    assert (np.diff(depth) <= 1).all() and (depth[1:] > 0).all()
    paths, path = [], []
    for level, name in zip(depth.tolist(), columns["name"].tolist(), strict=True):
        path = [*path[:level], head["functions"][name]]
        paths.append(tuple(path))
    expected: list[tuple[str, ...]] = [("all",)]
    for node in range(1, len(tree)):
        above = expected[int(tree.parent[node])]
        expected.append((*above, tree.names[tree.name[node]].name))
    assert sorted(paths) == sorted(expected)


def test_rows_add_up_to_the_tree() -> None:
    tree = build_tree(*make_profile(SERVER))
    head, columns = tree_of(pack_tree(tree))
    for kind in head["kinds"]:
        whole = tree.rows.counts[kind][:, BYTES].sum()
        assert columns[f"row.{kind}.{BYTES}"].sum() == pytest.approx(whole, rel=1e-4)
    assert columns["row.step"].sum() < len(tree)


def test_a_name_of_any_length_costs_a_page_a_bounded_one() -> None:
    profile, symbols = make_profile([Site("main " + "x" * 5000, 1, 10)])
    head, _ = tree_of(pack_tree(build_tree(profile, symbols)))
    longest = max(head["functions"], key=len)
    assert len(longest) == LONGEST_NAME and longest.endswith("…")
