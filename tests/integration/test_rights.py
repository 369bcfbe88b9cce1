"""What is read of a foreign program is read without rights: as whom, and what that leaves."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from attach_run import Unprepared
from mem_parser.errors import MemError
from mem_parser.symbols.cache import CACHE_VARIABLE
from mem_profiler import doctor
from mem_profiler.doctor import examine
from mem_profiler.entries import plan, planning
from mem_sandbox import confine
from sampler_run import build

NOBODY = 65534
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives up the rights of root")


def tell_rights(*_: object, **__: object) -> None:
    """Fail with who and what reads here."""
    words = dict(
        line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines()
    )
    nobody = os.getuid() in confine._UNUSED_UIDS
    raise MemError(f"as nobody {nobody} privs {words['NoNewPrivs']} seccomp {words['Seccomp']}")


def test_a_plan_is_made_without_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "")
    monkeypatch.setattr(plan, "find", tell_rights)
    with pytest.raises(MemError, match=r"as nobody True privs 1 seccomp 2"):
        planning.of_file("/bin/true", 0, "true")


def test_a_process_is_judged_without_rights(
    segment_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = build("storm.c")
    with Unprepared([program, "handler"], segment_dir, user=NOBODY, group=NOBODY) as target:
        assert target.line() == "ready"
        monkeypatch.setattr(examine, "_judge", tell_rights)
        [*_, finding] = doctor.examine_process(target.pid)
    assert finding.text == "as nobody True privs 1 seccomp 2"


def test_a_program_that_only_root_may_read_is_examined_all_the_same(tmp_path: Path) -> None:
    program = tmp_path / "program"
    shutil.copy(build("own_malloc.c"), program)
    program.chmod(0o700)
    findings = doctor.examine_program((str(program),))
    assert not [f for f in findings if f.status == "warning" and "cannot be read" in f.text]
    assert [f for f in findings if f.text == "x86_64, dynamic"]
