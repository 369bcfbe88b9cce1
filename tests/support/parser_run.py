"""`mem_parser` as most tests run it: in a fork of this process, which has imported it already.

A fork has streams, rights and an exit code of its own, as a program that is started has. What only
a new interpreter shows is tested with one: imports, terminals, signals, pipes that break.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import NoReturn

from mem_cli.parser import group

TIMEOUT_S = 60.0


def parse(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `mem_parser` to its end, without a cache of symbols, with more variables."""
    words = list(map(str, arguments))
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        pid = os.fork()
        if pid == 0:
            _become(words, environment, (out.fileno(), err.fileno()))
        code = os.waitstatus_to_exitcode(_waited(pid))
        texts = [os.pread(fd, os.fstat(fd).st_size, 0) for fd in (out.fileno(), err.fileno())]
    return subprocess.CompletedProcess(words, code, *(text.decode() for text in texts))


def _waited(pid: int) -> int:
    """The wait status of a child, which is killed if it takes too long."""
    ended = os.pidfd_open(pid)
    try:
        late = not select.select([ended], [], [], TIMEOUT_S)[0]
        if late:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(ended)
    assert not late, f"mem_parser took more than {TIMEOUT_S:.0f} s"
    return status


def _become(words: list[str], environment: dict[str, str], streams: tuple[int, int]) -> NoReturn:
    code: object = 1
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, fd in enumerate(streams, start=1):
            os.dup2(fd, number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(  # noqa: SIM115
            2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
        )
        sys.argv = [str(Path(group.__file__)), *words]
        os.environ.update({"MEM_PROFILER_CACHE": ""} | environment)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        warnings.resetwarnings()  # the test's are errors
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        group.main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
