"""Debug information is read by a bounded process, from the file that was opened."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
import tempfile
import zlib
from pathlib import Path

import pytest

from elf_files import COMPRESSED, Part, elf
from mem_parser.symbols import dwarf
from mem_parser.symbols.dwarf import LinesFailed, read_lines
from mem_parser.symbols.elf import ElfImage

GIB = 1 << 30


def test_debug_information_that_unpacks_to_gigabytes_is_refused(tmp_path: Path) -> None:
    size = 3 * GIB // 2
    engine = zlib.compressobj(1)
    block = bytes(1 << 24)
    data = b"".join(engine.compress(block) for _ in range(0, size, len(block))) + engine.flush()
    head = (1).to_bytes(8, "little") + size.to_bytes(8, "little") + (1).to_bytes(8, "little")
    path = tmp_path / "forged.so"
    path.write_bytes(
        elf(Part(".debug_info", head + data, flags=COMPRESSED),
            Part(".debug_line", head + data, flags=COMPRESSED),
            Part(".debug_abbrev", bytes(64)))
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    try:
        read_lines(ElfImage.open(str(path)), [1])
    except LinesFailed as failed:
        assert "read" in str(failed)  # noqa: PT017 - either way is fine; memory is what counts
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert after <= max(before, (GIB + (256 << 20)) >> 10)


def test_the_reader_of_lines_reads_the_file_that_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = tmp_path / "reader.py"
    reader.write_text("import os, sys; os.write(int(sys.argv[3]), os.read(int(sys.argv[1]), 4))")
    monkeypatch.setattr(dwarf, "_READER", str(reader))
    path = tmp_path / "x.so"
    path.write_bytes(elf(Part(".debug_info", bytes(64))))
    image = ElfImage.open(str(path))
    path.unlink()
    os.mkfifo(path)
    assert dwarf._asked(image.file, b"{}") == b"\x7fELF"  # type: ignore[arg-type]


def test_without_memory_files_and_without_a_folder_it_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a process that is confined, and in a service that may write nowhere."""

    def refused(*_: object) -> int:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    path = tmp_path / "x.so"
    path.write_bytes(elf(Part(".debug_info", bytes(64))))
    file = ElfImage.open(str(path)).file
    reader = tmp_path / "reader.py"
    reader.write_text("import os, sys; os.write(int(sys.argv[3]), b'answer')")
    monkeypatch.setattr(dwarf, "_READER", str(reader))
    assert dwarf._asked(file, b"{}") == b"answer"  # type: ignore[arg-type]
    monkeypatch.setattr(os, "memfd_create", refused)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert dwarf._asked(file, b"{}") == b"answer"  # type: ignore[arg-type]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(LinesFailed, match=r"no room for an answer \(No such file"):
        dwarf._asked(file, b"{}")  # type: ignore[arg-type]


def test_a_python_that_a_process_without_rights_cannot_run_is_named_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.so"
    path.write_bytes(elf(Part(".debug_info", bytes(64))))
    python = tmp_path / "python3"
    python.write_bytes(b"")  # no right to run it, for root too
    monkeypatch.setattr(sys, "executable", str(python))
    cure = f"every user must be able to run {python}, and to enter its folders"
    with pytest.raises(LinesFailed, match=rf"\(Permission denied: {re.escape(cure)}\)$"):
        dwarf._asked(ElfImage.open(str(path)).file, b"{}")  # type: ignore[arg-type]
