"""What a program's file says about preloading, before the start."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from elf_files import elf, segment
from mem_parser.errors import TargetUnsupported, UsageProblem
from mem_profiler.process import program


def test_programs_are_judged_by_their_elf_header(tmp_path: Path) -> None:
    assert program.unsupported("/bin/sh") is None
    head = bytearray(Path("/bin/sh").read_bytes()[:4096])
    head[18] ^= 0xFF
    (tmp_path / "foreign").write_bytes(head)
    assert "architecture" in str(program.unsupported(str(tmp_path / "foreign")))
    (tmp_path / "text").write_text("hello")
    assert program.unsupported(str(tmp_path / "text")) is None


def executable(path: Path, first: str) -> str:
    path.write_text(f"{first}\n")
    path.chmod(0o755)
    return str(path)


def test_a_script_is_judged_by_its_interpreter(tmp_path: Path) -> None:
    one = executable(tmp_path / "one", "#!/bin/sh -e")
    two = executable(tmp_path / "two", f"#! {one}")
    assert program.judged_file(two) == "/bin/sh"
    assert program.judged_file("/bin/sh") == "/bin/sh"
    assert program.judged_file(str(tmp_path / "nowhere")) == str(tmp_path / "nowhere")


def test_env_leads_to_the_program_that_it_names(tmp_path: Path) -> None:
    found = shutil.which("sh")
    assert program.judged_file(executable(tmp_path / "a", "#!/usr/bin/env -S sh -e")) == found
    assert program.judged_file(executable(tmp_path / "b", "#!/usr/bin/env no-such-x")) == (
        "/usr/bin/env"
    )


def test_scripts_that_name_each_other_end(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    executable(one, f"#!{two}")
    executable(two, f"#!{one}")
    assert program.judged_file(str(one)) in {str(one), str(two)}


def test_a_pipe_in_place_of_a_program_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert program.unsupported(str(tmp_path / "pipe")) is None
    assert program.judged_file(str(tmp_path / "pipe")) == str(tmp_path / "pipe")


def test_a_static_program_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "static"
    path.write_bytes(elf(segments=segment(1, 0, 4096)))
    path.chmod(0o755)
    with pytest.raises(TargetUnsupported, match=r"static is statically linked") as refused:
        program.check(str(path))
    assert "link it dynamically" in (refused.value.hint or "")
    with pytest.raises(TargetUnsupported, match=r"static is statically linked"):
        program.check(executable(tmp_path / "script", f"#!{path}"))


def test_what_is_not_found_and_what_may_not_run_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(UsageProblem, match="was not found"):
        program.check(str(tmp_path / "nowhere"))
    with pytest.raises(UsageProblem, match="may not be executed"):
        program.check(str(tmp_path / "text"))
    assert program.check("sh") == shutil.which("sh")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a set-uid file of another user")
def test_another_users_set_uid_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "su"
    shutil.copy("/bin/true", path)
    os.chown(path, 65534, 65534)
    path.chmod(0o4755)
    with pytest.raises(TargetUnsupported, match="set-uid"):
        program.check(str(path))
    os.chown(path, 0, 0)
    path.chmod(0o4755)
    assert program.check(str(path)) == str(path)
