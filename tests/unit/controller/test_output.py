"""Names of result files: each file gets its name whole or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mem_parser.errors import MemError, UsageProblem
from mem_profiler.capture import output


def _write(prefix: str, data: bytes, *domains: str) -> list[str]:
    return output.write_files(
        prefix, 5, {name: lambda out: out.write(data) and None for name in ("", *domains)}
    )


def test_files_never_replace_each_other_and_failures_leave_nothing(tmp_path: Path) -> None:
    prefix = str(tmp_path / "p")
    names = [_write(prefix, b"x")[0] for _ in range(3)]
    assert names == [f"{prefix}.5.{n}.heap" for n in (1, 2, 3)]
    assert os.stat(names[0]).st_mode & 0o777 == 0o600

    def fail(_out: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(MemError, match="No space left on device"):
        output.write_files(prefix, 5, {"": lambda out: None, "cuda-0": fail})
    assert len(os.listdir(tmp_path)) == 3


def test_a_file_system_without_links_gets_its_files_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object, **_options: object) -> None:
        raise OSError(errno.EPERM, "not here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "p.5.1.heap").write_bytes(b"old")
    name, other = _write(str(tmp_path / "p"), b"new", "cuda-0")
    assert Path(name).read_bytes() == Path(other).read_bytes() == b"new"
    assert sorted(os.listdir(tmp_path)) == ["p.5.1.heap", "p.5.2.cuda-0.heap", "p.5.2.heap"]


def test_files_of_one_capture_share_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = str(tmp_path / "p")
    (tmp_path / "p.5.1.cuda-0.heap").touch()
    assert _write(prefix, b"a", "cuda-0") == [f"{prefix}.5.2.heap", f"{prefix}.5.2.cuda-0.heap"]
    assert _write(prefix, b"b") == [f"{prefix}.5.1.heap"]

    # Another writer takes a name between the look and the link.
    real = os.link

    def link(source: str, final: str, **options: bool) -> None:
        if final.endswith(".3.cuda-0.heap"):
            raise FileExistsError(errno.EEXIST, "taken", final)
        real(source, final, **options)

    monkeypatch.setattr(os, "link", link)
    assert _write(prefix, b"c", "cuda-0") == [f"{prefix}.5.4.heap", f"{prefix}.5.4.cuda-0.heap"]
    assert not (tmp_path / "p.5.3.heap").exists()


def test_a_prefix_check_leaves_nothing_behind(tmp_path: Path) -> None:
    output.check_prefix(str(tmp_path / "p"))
    assert os.listdir(tmp_path) == []
    with pytest.raises(UsageProblem):
        output.check_prefix(f"{tmp_path}/")


def test_an_exact_name_is_taken_once_unless_it_may_be_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "out.heap")
    names = output.write_files(
        output.ExactFile(path),
        5,
        dict.fromkeys(("", "cuda-0"), lambda out: out.write(b"1") and None),
    )
    assert names == [path, str(tmp_path / "out.cuda-0.heap")]
    with pytest.raises(MemError, match=r"out\.heap: the file exists already"):
        output.write_files(output.ExactFile(path), 5, {"": lambda _out: None})
    replacing = output.ExactFile(path, replace=True)
    output.write_files(replacing, 5, {"": lambda out: out.write(b"2") and None})
    assert Path(path).read_bytes() == b"2"
    assert sorted(os.listdir(tmp_path)) == ["out.cuda-0.heap", "out.heap"]
    assert replacing.of_process(7) == output.ExactFile(str(tmp_path / "out.7.heap"), replace=True)


def test_what_a_name_means_is_told_by_its_suffix(tmp_path: Path) -> None:
    plain, exact = str(tmp_path / "out"), str(tmp_path / "out.bin")
    assert output.where(plain) == plain
    assert output.where(exact) == output.ExactFile(exact)
    Path(exact).touch()
    with pytest.raises(UsageProblem, match="exists already"):
        output.where(exact)
    assert output.where(exact, replace=True) == output.ExactFile(exact, replace=True)
    with pytest.raises(UsageProblem, match="there is no folder"):
        output.where(str(tmp_path / "none" / "out.heap"))
