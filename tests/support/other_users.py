"""Programs of users without rights, where root runs the tests."""

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from controller_tools import TIMEOUT_S, command_environment

UID, OTHER_UID = 12_345, 12_346
"""Users that are no more than a number."""


def become(uid: int) -> list[str]:
    """The beginning of a command line that runs as a user."""
    return ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"]


def need_users(uid: int = UID) -> None:
    """Skip where a program cannot run as another user, or that one may not read this tree."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing")
    words = [*become(uid), sys.executable, "-c", "import mem_cli.serve.server, numpy"]
    done = subprocess.run(
        words, env=command_environment(), cwd="/", capture_output=True, timeout=TIMEOUT_S,
        check=False,
    )  # fmt: skip
    if done.returncode != 0:
        pytest.skip("another user may not read this Python or these sources")


@contextlib.contextmanager
def home_of(uid: int, programs: Sequence[Path]) -> Iterator[Path]:
    """A folder that this user alone can enter, with copies of programs."""
    home = Path(f"/tmp/mem_profiler-test-{os.getpid()}-{uid}")
    home.mkdir(mode=0o700)
    try:
        for program in programs:
            copy = home / program.name
            copy.write_bytes(program.read_bytes())
            copy.chmod(0o700)
            os.chown(copy, uid, uid)
        os.chown(home, uid, uid)
        yield home
    finally:
        shutil.rmtree(home)
