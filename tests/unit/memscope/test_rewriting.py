"""Labels that are written into rows: all other bytes stay as they are."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mem_parser.memscope import csvfile, rewriting
from mem_parser.memscope.attributes import with_labels
from mem_parser.memscope.rewriting import add_labels, rewritten, row_ends
from memscope_dumps import HEADER, Story, line, text_file

LABEL = "late_deallocation"


@pytest.mark.parametrize("chunk_bytes", [1, 100, 1 << 20])
def test_rows_beside_each_other_and_far_from_each_other_get_their_labels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int
) -> None:
    monkeypatch.setattr(rewriting, "CHUNK_BYTES", chunk_bytes)
    story = Story()
    for number in range(1, 41):
        story.malloc(4096 * number, 64, "PTA", number, python_stack='a "b"\nc')
    for wanted in ({1, 2, 40}, {5, 11, 12, 39}, {40}, set(range(1, 41))):
        path = story.csv(tmp_path)
        before = Path(path).read_text().replace("\n9,MALLOC", "\n\n9,MALLOC")
        Path(path).write_text(before)
        assert add_labels(path, {place: [LABEL] for place in wanted}) == len(wanted)
        after = Path(path).read_text()
        assert after.replace(f",inefficient_type:{LABEL}", "") == before
        rows = after.split("MALLOC")[1:]
        assert [k for k, text in enumerate(rows, 1) if LABEL in text] == sorted(wanted)


def test_a_label_changes_no_other_field_and_no_line_end(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    odd = line(id="3", name='say ""hi', c='"a\r\nb"')
    lines = [HEADER, line(name='"x"', c='"a\nb"'), "", line(id="2", ptr='"0x1"'), odd]
    path.write_bytes("\r\n".join(lines).encode())
    before = path.read_bytes()
    assert add_labels(str(path), {1: [LABEL], 2: [LABEL], 3: [LABEL]}) == 3
    after = path.read_bytes()
    assert after.count(LABEL.encode()) == 3
    assert after.replace(f",inefficient_type:{LABEL}".encode(), b"") == before


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('{"size":"8"}', '{"size":"8","inefficient_type":"late_deallocation"}'),
        ('{size:8,owner:a"b}', '{size:8,owner:a"b,inefficient_type:late_deallocation}'),
    ],
)
def test_an_attr_with_quotes_gets_a_label_in_its_own_form(
    tmp_path: Path, old: str, new: str
) -> None:
    path = text_file(tmp_path / "x.csv", line(attr=csvfile.quoted(old)))
    assert add_labels(path, {1: [LABEL]}) == 1
    [chunk] = csvfile.chunks(path)
    assert chunk.columns[9] == (new,)


def test_a_row_whose_text_stays_keeps_its_spelling(tmp_path: Path) -> None:
    attribute = "{allocation_id:1}"
    path = text_file(tmp_path / "x.csv", line(attr=attribute), line(id="2"))
    same = b"".join(rewritten(path, {1, 2}, lambda _, old: old))
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


@example('0"\n"a""\n,"\n', 9)
@given(st.text(st.sampled_from('01,"""\n\n\r,'), max_size=60), st.integers(1, 60))
def test_rows_end_where_the_library_ends_them(text: str, seen: int) -> None:
    data = text.encode()
    ends = row_ends(data, is_all=True).tolist()
    parts = [data[low:high].decode() for low, high in zip([0, *ends], ends, strict=False)]
    assert "".join(parts) == text
    rows = [row for part in parts for row in csv.reader(io.StringIO(part, newline=""))]
    assert rows == list(csv.reader(io.StringIO(text, newline="")))
    assert len(parts) == len(rows)
    # Bytes that are still to come change no end that is known.
    known = row_ends(data[:seen], is_all=False).tolist()
    assert known == ends[: len(known)]
