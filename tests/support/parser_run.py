"""Commands as most tests run them: in a fork of this process, which has imported them already.

A fork has streams, rights and an exit code of its own, as a program that is started has. What only
a new interpreter shows is tested with one: imports, signals, pipes that break.
"""

import contextlib
import functools
import importlib
import json
import os
import pkgutil
import re
import select
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import mem_cli
import mem_parser
import mem_profiler
from mem_cli.parser import group

TIMEOUT_S = 200.0
_OF_TARGETS = re.compile(
    r"__main__|\.libmem_|pytest_plugin|mem_profiler\.(inprocess|memray_api|memscope|notebook|tracking)"
)
"""Modules that no command imports, and the sampler, whose name ends as an extension module's."""
Run = Callable[..., tuple[int, str, str]]
"""A command line to its exit code and what it printed."""


def parse(
    *arguments: object, cwd: str | Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run `mem_parser` to its end, with more variables."""
    return run_forked(group.main, *arguments, cwd=cwd, environment=environment)


def run_forked(
    main: Callable[[], object],
    *arguments: object,
    cwd: str | Path | None = None,
    given: str = "",
    environment: dict[str, str],
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in a fork, with this text as its input."""
    words = list(map(str, arguments))
    files = tempfile.TemporaryFile
    with files() as text, files() as out, files() as err:
        text.write(given.encode())
        text.seek(0)
        streams = (text.fileno(), out.fileno(), err.fileno())
        code = ended(fork(main, words, streams, cwd=cwd, environment=environment))
        texts = [os.pread(fd, os.fstat(fd).st_size, 0) for fd in streams[1:]]
    return subprocess.CompletedProcess(words, code, *(text.decode() for text in texts))


def told(*arguments: object, cwd: str | Path | None = None, **environment: str) -> str:
    """What `mem_parser` prints that succeeds."""
    done = parse(*arguments, cwd=cwd, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def report(*arguments: object, cwd: str | Path | None = None, **environment: str) -> dict[str, Any]:
    """The report of a command in JSON."""
    found: dict[str, Any] = json.loads(told(*arguments, "--json", cwd=cwd, **environment))
    return found


def fork(
    main: Callable[[], object],
    words: list[str],
    streams: tuple[int, int, int],
    *,
    cwd: str | Path | None,
    environment: dict[str, str],
) -> int:
    """Start a command in a fork, and return its pid."""
    import_packages()
    names_folder()
    pid = os.fork()
    if pid == 0:
        _become(main, words, streams, cwd, environment)
    return pid


class Forked(subprocess.Popen[str]):
    """A command that goes on in a fork, as `subprocess.Popen` has one that is started; `args` are
    its `main` and its words.
    """

    def _execute_child(  # type: ignore[override]
        self, args: Any, _executable: object, _preexec: object, _close: object, _pass: object,
        cwd: str | None, env: dict[str, str], _info: object, _flags: object, _shell: object,
        *pipes: Any,
    ) -> None:  # fmt: skip
        read, ours_in, ours_out, out, ours_err, err = pipes[:6]
        command, *words = args

        @functools.wraps(command)
        def main() -> None:
            for fd in (ours_in, ours_out, ours_err):
                if fd >= 0:
                    os.close(fd)
            command()

        streams = tuple(k if fd < 0 else fd for k, fd in enumerate((read, out, err)))
        self.pid = fork(main, words, streams, cwd=cwd, environment=env)
        self._child_created = True
        for fd in (read, out, err):
            if fd >= 0:
                os.close(fd)


@functools.cache
def names_folder() -> tempfile.TemporaryDirectory[str]:
    """The cache of names of a test session."""
    return tempfile.TemporaryDirectory(prefix="mem_profiler-names-")


@functools.cache
def import_packages() -> None:
    """Import once what each fork would import again."""
    for package in (mem_cli, mem_parser, mem_profiler):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not _OF_TARGETS.search(module.name):
                with contextlib.suppress(ImportError):  # of an extra that is not installed
                    importlib.import_module(module.name)


def ended(pid: int) -> int:
    """The exit code of a child, which is killed if it takes too long."""
    handle = os.pidfd_open(pid)
    try:
        late = not select.select([handle], [], [], TIMEOUT_S)[0]
        if late:
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(handle)
    assert not late, f"the command took more than {TIMEOUT_S:.0f} s"
    return os.waitstatus_to_exitcode(status)


def _become(
    main: Callable[[], object],
    words: list[str],
    streams: tuple[int, int, int],
    cwd: str | Path | None,
    environment: dict[str, str],
) -> NoReturn:
    code: object = 1
    try:
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(  # noqa: SIM115
            2, "w", encoding="utf-8", errors="backslashreplace", closefd=False
        )
        sys.argv = [str(sys.modules[main.__module__].__file__), *words]
        os.environ.update(environment)
        os.environ.setdefault("MEM_PROFILER_CACHE", names_folder().name)
        if cwd is not None:
            os.chdir(cwd)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        warnings.resetwarnings()  # the test's are errors
        for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
            warnings.simplefilter("ignore", kind)
        main()
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
