"""The column Attr in both forms."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope.attributes import as_csv, as_json, labels_of, parse, safe, with_labels

words = st.from_regex(r"[a-z_]{1,9}", fullmatch=True)
values = st.text(max_size=20)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{allocation_id:1,addr:0x7f,size:512}",
         {"allocation_id": "1", "addr": "0x7f", "size": "512"}),
        ("{size:8,dtype:torch.float32,shape:[2, 3, 4],format:ND}",
         {"size": "8", "dtype": "torch.float32", "shape": "[2, 3, 4]", "format": "ND"}),
        ("{size:8,shape:2,3,4}", {"size": "8", "shape": "2,3,4"}),
        ("{size:8,inefficient_type:early_allocation,late_deallocation,owner:PTA@ops}",
         {"size": "8", "inefficient_type": "early_allocation,late_deallocation",
          "owner": "PTA@ops"}),
        ("{path:/a,workspace ptr:0,workspace size:9}",
         {"path": "/a", "workspace ptr": "0", "workspace size": "9"}),
        ('{"addr":"0x7f","size":"512","n":3}', {"addr": "0x7f", "size": "512", "n": "3"}),
        ("{size:8,owner:x,size:9}", {"size": "8", "owner": "x"}),
        ("{}", {}), ("", {}), ("{", {}), ("N/A", {}),
    ],
)  # fmt: skip
def test_a_comma_begins_a_key_only_where_a_word_and_a_colon_follow(
    text: str, found: dict[str, str]
) -> None:
    assert parse(text) == found


@given(st.dictionaries(words, values, max_size=5))
def test_json_reads_back_as_it_was(held: dict[str, str]) -> None:
    assert json.loads(as_json(held)) == held
    assert parse(as_json(held)) == held


@given(st.dictionaries(words, values, max_size=5))
def test_what_is_written_for_csv_has_the_same_keys_whatever_the_values_hold(
    held: dict[str, str],
) -> None:
    read = parse(as_csv(held))
    assert list(read) == list(held)
    if not any('"' in value for value in held.values()):
        assert read == {key: safe(value) for key, value in held.items()}


@given(st.text(max_size=40))
def test_any_text_is_read_without_an_error(text: str) -> None:
    assert isinstance(parse(text), dict)
    assert isinstance(parse("{" + text + "}"), dict)


@pytest.mark.parametrize("text", ["{size:8}", '{"size":"8"}', "{}", ""])
def test_labels_are_added_once_and_those_that_are_there_stay(text: str) -> None:
    once = with_labels(text, ["late_deallocation"])
    both = with_labels(once, ["early_allocation", "late_deallocation"])
    assert labels_of(parse(both)) == ["late_deallocation", "early_allocation"]
    assert with_labels(both, ["early_allocation"]) == both
    assert parse(both).get("size") == parse(text).get("size")
    assert (both[:2] == '{"') is (text[:2] == '{"')


def test_the_manuals_name_of_the_labels_is_kept() -> None:
    assert with_labels("{inefficient:a}", ["b"]) == "{inefficient:a,b}"
