"""Files whose names somebody else chose are opened only if they are regular, without waiting."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mem_parser.plainfile import NotPlainError, open_plain


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
