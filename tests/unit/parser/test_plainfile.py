"""Files whose names somebody else chose are opened only if they are regular, without waiting."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mem_parser.budget import baseline
from mem_parser.budget.file import load
from mem_parser.errors import BaselineError, BudgetFileError, InputFileError
from mem_parser.leaks.suppressions import read_suppressions
from mem_parser.plainfile import NotPlainError, PlainFile, open_plain, read_plain, stored_bytes


def test_a_regular_file_is_opened(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    fd = open_plain(tmp_path / "file")
    assert os.read(fd, 10) == b"text"
    os.close(fd)


def test_a_pipe_without_a_writer_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotPlainError, match="is a pipe"):
        open_plain(tmp_path / "pipe")


@pytest.mark.parametrize(("path", "what"), [("/dev/null", "is a device"), ("/", "is a folder")])
def test_devices_and_folders_are_refused(path: str, what: str) -> None:
    with pytest.raises(NotPlainError, match=what):
        open_plain(path)


def test_a_link_is_followed_or_refused_as_asked(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    os.close(open_plain(tmp_path / "link"))
    with pytest.raises(NotPlainError, match="is a link"):
        open_plain(tmp_path / "link", follow=False)


def test_another_file_than_the_expected_one_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    status = (tmp_path / "file").stat()
    os.close(open_plain(tmp_path / "file", identity=(status.st_dev, status.st_ino)))
    with pytest.raises(NotPlainError) as refused:
        open_plain(tmp_path / "file", identity=(status.st_dev, status.st_ino + 1))
    assert refused.value.errno == errno.ESTALE


def test_a_file_is_read_by_place_and_no_further_than_it_goes(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    with PlainFile(tmp_path / "file") as file:
        assert (file.read(2, 3), file.read(8, 99), file.read(99, 1)) == (b"234", b"89", b"")
        assert (file.read(-1, 3), file.read(1 << 63, 3), file.read(3, -1)) == (b"", b"", b"")
        os.truncate(tmp_path / "file", 4)
        assert file.read(2, 8) == b"23"


def test_a_name_in_a_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    folder = os.open(tmp_path, os.O_RDONLY)
    with PlainFile("file", dir_fd=folder) as file:
        assert file.read(0, 9) == b"text"
    with pytest.raises(NotPlainError, match="is a link"):
        PlainFile("link", dir_fd=folder)
    os.close(folder)


def test_what_is_stored_of_a_sparse_file_is_little(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    path.write_bytes(b"text")
    os.truncate(path, 1 << 30)
    with PlainFile(path) as file:
        assert file.size_bytes == 1 << 30
        assert file.stored_bytes < 1 << 20
    assert stored_bytes(str(path), "/nowhere") < 1 << 20
    assert read_plain(path, 4) == b"text"


def test_files_that_other_files_name_are_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "b.toml").write_text('include = ["pipe"]\n[budget]\npeak = "1 MiB"\n')
    with pytest.raises(BudgetFileError, match="is a pipe"):
        load(tmp_path / "b.toml")
    with pytest.raises(BaselineError, match="is a pipe"):
        baseline.read(str(tmp_path / "pipe"))
    with pytest.raises(InputFileError, match="is a pipe"):
        read_suppressions(str(tmp_path / "pipe"), chosen_by_user=False)
