"""`--compress` and `--plain`, and what the name of a file asks for."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from heapfiles import HeapFile, Record
from mem_cli.forms import form_of
from mem_parser.heapfile.form import Form
from mem_parser.readers import read_profile
from parser_run import parse

ROOT = Path(__file__).resolve().parents[3]
TEXT = b"heap profile: "
SMALL = HeapFile([Record((0x1000, 0x2000), 3, 300)], header={"exe": "/bin/true"})
LARGE = HeapFile([Record((0x1000, *([0x2000] * 500), k), 3, 300) for k in range(1500)])
FORMS = {"--compress": b"\x1f\x8b", "--plain": TEXT}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.heap"
    path.write_bytes(SMALL.data)
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.heap"
    path.write_bytes(gzip.compress(LARGE.data))
    return path


@pytest.mark.parametrize("command", ["merge", "symbolize"])
def test_files_that_a_command_makes_are_packed_where_they_are_large(
    command: str, small: Path, large: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.heap"
    for given, begin in ((small, TEXT), (large, b"\x1f\x8b")):
        assert parse(command, given, "-o", out).returncode == 0
        assert out.read_bytes().startswith(begin)
        assert len(read_profile(out).sites) == len(read_profile(given).sites)


@pytest.mark.parametrize("command", ["merge", "symbolize"])
@pytest.mark.parametrize("option", FORMS)
def test_the_option_decides_whatever_the_size(
    command: str, option: str, small: Path, large: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.heap"
    for given in (small, large):
        assert parse(command, given, "-o", out, option).returncode == 0
        assert out.read_bytes().startswith(FORMS[option])


def test_convert_makes_text_of_a_packed_file_and_packs_by_name(large: Path, tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.heap", tmp_path / "x.heap.gz"
    assert parse("convert", large, "-o", plain).returncode == 0
    assert parse("convert", plain, "-o", packed).returncode == 0
    assert plain.read_bytes().startswith(TEXT)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert form_of("x.HEAP.gz") is Form.GZIP
    assert form_of("x.heap", Form.PLAIN) is Form.PLAIN


def test_the_table_of_a_packed_file_says_so_and_is_else_the_same(
    small: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed.heap"
    packed.write_bytes(gzip.compress(SMALL.data))
    table = ("-t", "-p", "/bin/true", "-f")
    lines = parse(*table, packed).stdout.splitlines()
    told = [line for line in lines if "convert FILE -o plain.heap" in line]
    assert len(told) == 1
    lines.remove(told[0])
    assert lines == parse(*table, small).stdout.splitlines()
