"""Rows that are almost as all others: the readers of bytes leave them to those of texts."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.memscope import attributebytes
from mem_parser.memscope.attributes import with_labels
from mem_parser.memscope.csvblocks import Block, Unread, blocks
from mem_parser.memscope.errors import DumpError
from mem_parser.memscope.fieldbytes import WORD_MAX_BYTES, FieldBytes, WordTable
from mem_parser.memscope.labels import add_labels
from mem_parser.memscope.reading import read_rows, read_texts
from mem_parser.memscope.rewriting import rewritten
from mem_parser.plainfile import PlainFile
from memscope_dumps import Story, line, text_file

LABEL = "late_deallocation"


def parts(path: str) -> list[Block | Unread]:
    with PlainFile(path) as file:
        return list(blocks(file))


def owners(path: str) -> list[str | None]:
    rows = read_rows(path)
    return [rows.words.owners[k] if k >= 0 else None for k in rows.owner.tolist()]


def columns(data: list[bytes]) -> tuple[FieldBytes, np.ndarray, np.ndarray]:
    end = np.cumsum([len(field) for field in data], dtype=np.int64)
    return FieldBytes(b"".join(data)), end - [len(field) for field in data], end


# -- where fields are ----------------------------------------------------------------------------


def test_text_behind_a_closing_quote_is_what_the_library_reads(tmp_path: Path) -> None:
    path = text_file(tmp_path / "x.csv", line(name='"ab"cd'), line(id="2"))
    assert read_rows(path).words.names == read_texts(path).words.names == ("abcd", "N/A")


def test_nothing_but_usual_lines_is_a_block(tmp_path: Path) -> None:
    usual = line(id="1"), line(id="2")
    assert [type(part) for part in parts(text_file(tmp_path / "a.csv", *usual))] == [Block]
    for odd in (
        line(name="a\0b"),
        line(name='"ab"cd'),
        line(attr='"{size:1,\nx:2}"'),
        line(ptr='"0x1"'),
    ):
        found = parts(text_file(tmp_path / "b.csv", *usual, odd))
        assert Unread in {type(part) for part in found}, odd


def test_a_word_that_is_too_long_for_a_table_is_read(tmp_path: Path) -> None:
    for name in ("n" * WORD_MAX_BYTES, "n" * (WORD_MAX_BYTES + 1)):
        path = text_file(tmp_path / "x.csv", line(name=name), line(id="2", name=name))
        assert [type(part) for part in parts(path)] == (
            [Block] if len(name) <= WORD_MAX_BYTES else [Unread]
        )
        assert read_rows(path).words.names == (name,)


# -- words and numbers ---------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=40), max_size=20), st.binary(min_size=1, max_size=32))
def test_what_is_at_a_place_is_compared_byte_by_byte(data: list[bytes], what: bytes) -> None:
    fields, begin, _ = columns([*data, what, what[:-1] + b"!", what + what])
    whole = fields.data.tobytes()
    expected = [whole[k : k + len(what)] == what for k in begin.tolist()]
    assert fields.have(begin, what).tolist() == expected


def test_words_have_one_number_each_however_many_and_however_alike() -> None:
    words = [f"aten::{'m' * (k % 40)}{k}".encode() for k in range(40_000)]
    known: dict[str, int] = {}
    table = WordTable(lambda word: known.setdefault(word, len(known)))
    for _ in range(2):
        for low in range(0, len(words), 10_000):
            some = words[low : low + 10_000]
            fields, begin, end = columns(some)
            numbers = table.numbers(fields, begin, end).tolist()
            assert numbers == [known[word.decode()] for word in some]
    assert len(known) == len(words)


@given(st.integers(0, 30), st.binary(min_size=1, max_size=40).filter(lambda b: b"\0" not in b))
def test_a_byte_more_or_another_byte_makes_another_word(at: int, word: bytes) -> None:
    at %= len(word)
    other = word[:at] + bytes([word[at] ^ 1]) + word[at + 1 :]
    fields, begin, end = columns([word, word + b"\0", other, word[:-1], word])
    keys = fields.keys(begin, end).tolist()
    assert keys[0] == keys[4]
    assert len(set(keys)) == 4


# -- Attr ----------------------------------------------------------------------------------------


def test_owners_are_right_after_tails_were_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attributebytes, "_TAILS_MAX", 3)
    monkeypatch.setattr("mem_parser.memscope.csvblocks.BLOCK_BYTES", 400)
    story = Story()
    told = [f"PTA@owner{k * 7 % 11}" for k in range(60)]
    for number, owner in enumerate(told):
        story.malloc(4096 * number, 64, "PTA", number, owner=owner)
    assert owners(story.csv(tmp_path)) == told


@pytest.mark.parametrize(
    "attribute",
    [
        '{"allocation_id":"1","addr":"0x10,"size":"3","used":"4"}',
        '{"allocation_id":"1","addr":"0x10","size":"3","used":"x"}',
        '{"allocation_id":"1","addr":"0x10","size":"3","used":"4,"total":"5"}',
        '{"allocation_id":"12,"addr":"0x10","size":"34","used":"5"}',
        '{"allocation_id":"12","addr":"0x10","size":"34,"used":"5"}',
        '{"streamId":"1","taskId":"2","owner":"PTA@weight"}',
        '{"streamId":"1","size":"7"}',
        '{"allocation_id":"1","addr":"0x10","size":"3","owner":"' + "o" * 5000 + '"}',
        '{"allocation_id":"99999999999999999999","addr":"0x10","size":"3"}',
        '{"allocation_id":"1","addr":"0x10","size":"3","used":"9223372036854775808"}',
    ],
)
def test_attributes_that_are_nearly_usual_are_read_as_texts(tmp_path: Path, attribute: str) -> None:
    story = Story()
    story.malloc(4096, 64, "PTA", 1)
    path = story.db(tmp_path)
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memscope_dump SET Attr = ?", (attribute,))
    connection.commit()
    connection.close()
    found = []
    for read in (read_rows, read_texts):
        try:
            rows = read(path)
            found.append((
                rows.allocation.tolist(), rows.size.tolist(), rows.used.tolist(),
                rows.total.tolist(), rows.words.owners,
            ))  # fmt: skip
        except DumpError as error:
            found.append(str(error))
    assert found[0] == found[1]


@pytest.mark.parametrize("gap", [False, True])
def test_a_text_that_looks_like_a_row_does_not_stand_for_one_that_is_none(
    tmp_path: Path, gap: bool
) -> None:
    story = Story()
    for number in range(1, 5):
        story.malloc(4096 * number, 64, "PTA", number)
    path = story.db(tmp_path)
    fake = ["x\x1f5\x1f100\x1f7\x1f0\x1fN/A\x1f{}" + "\x1f9" * gap]
    fake.append("7\x1fFREE\x1fPTA\x1fy")
    connection = sqlite3.connect(path)
    connection.execute("UPDATE memscope_dump SET ID = NULL WHERE rowid = 2")
    connection.execute("UPDATE memscope_dump SET Name = ? WHERE rowid = 3", ("\x1e".join(fake),))
    if gap:
        connection.execute("UPDATE memscope_dump SET rowid = 40 WHERE rowid = 4")
    connection.commit()
    connection.close()
    for read in (read_rows, read_texts):
        with pytest.raises(DumpError, match="row 2: ID is 'None'"):
            read(path)


# -- labels --------------------------------------------------------------------------------------


def test_the_last_row_of_a_block_and_the_first_of_the_next_get_their_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    story = Story()
    for number in range(1, 41):
        story.malloc(4096 * number, 64, "PTA", number, python_stack='a "b"\nc')
    for size in (300, 700, 1 << 20):
        monkeypatch.setattr("mem_parser.memscope.csvblocks.BLOCK_BYTES", size)
        path = story.csv(tmp_path)
        before = Path(path).read_text().splitlines(keepends=True)
        ends = np.cumsum([len(part) for part in parts(path) if isinstance(part, Block)])
        wanted = {int(k) for end in ends for k in (end, end + 1) if k <= 40}
        assert add_labels(path, {place: [LABEL] for place in wanted}) == len(wanted)
        after = Path(path).read_text()
        assert after.count(LABEL) == len(wanted)
        assert after.replace(f",inefficient_type:{LABEL}", "") == "".join(before)
        rows = after.split("MALLOC")[1:]
        assert [k for k, text in enumerate(rows, 1) if LABEL in text] == sorted(wanted)


def test_a_row_whose_text_stays_keeps_its_spelling(tmp_path: Path) -> None:
    attribute = "{allocation_id:1}"
    path = text_file(tmp_path / "x.csv", line(attr=attribute), line(id="2"))
    same = b"".join(rewritten(path, {1: lambda old: old, 2: lambda old: old}))
    assert same == Path(path).read_bytes()


@pytest.mark.parametrize("key", ["inefficient_type", "inefficient"])
@pytest.mark.parametrize(
    "form", ["{size:1,%s:early_allocation}", '{"size":"1","%s":"early_allocation"}']
)
def test_a_label_is_there_once_under_the_key_that_is_there(key: str, form: str) -> None:
    text = form % key
    assert with_labels(text, ["early_allocation"]) == text
    more = with_labels(text, [LABEL, LABEL, "early_allocation"])
    assert more == text.replace("early_allocation", f"early_allocation,{LABEL}")


def test_a_label_of_a_row_that_is_gone_is_an_error_of_both_forms(tmp_path: Path) -> None:
    story = Story()
    story.malloc(4096, 64)
    for path in (story.csv(tmp_path), story.db(tmp_path)):
        before = Path(path).read_bytes()
        with pytest.raises(DumpError, match="changed while it was read"):
            add_labels(path, {2: [LABEL]})
        assert Path(path).read_bytes() == before
