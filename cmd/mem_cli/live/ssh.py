"""`mem_profiler live --ssh HOST`: the same command on another machine, in a terminal of ssh's.

Nothing is copied there: `mem_profiler` is installed on that machine too. Keys and sizes of the
window are ssh's business, and so is what the machine answers: it has the terminal until ssh ends.
Then the terminal is made as it was, whether the connection broke, or the machine left it in a mode
that writes for the user: what it has to say to a report or a mouse would be typed into the shell.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import termios
from collections.abc import Iterator, Sequence
from typing import NoReturn

from mem_parser.errors import MemError, UsageProblem
from mem_parser.escape import shell_join

OPTION = "--ssh"
_MODES = (2004, 1004, 1000, 1002, 1003, 1006, 1015, 2048, 1047)
"""Of pastes, focus, mouse, sizes, and the other screen: what a program may have switched on."""
RESET = "".join(f"\x1b[?{mode}l" for mode in _MODES) + "\x1b[<u\x1b[?7h\x1b[?25h\x1b(B\x1b[m"
_FORWARDED = (signal.SIGTERM, signal.SIGHUP)
_OF_THE_TERMINAL = (signal.SIGINT, signal.SIGQUIT)


def without_option(words: Sequence[str]) -> list[str]:
    """Return the words of a command line without `--ssh HOST` and `--ssh=HOST`; words after `--`
    are not options.
    """
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == "--":
            return [*kept, word, *rest]
        if word == OPTION:
            next(rest, None)
        elif not word.startswith(f"{OPTION}="):
            kept.append(word)
    return kept


def command(host: str, words: Sequence[str]) -> list[str]:
    """Return the command that runs `mem_profiler` with ``words`` on a machine. Raises UsageProblem
    for a host that ssh would take for an option.
    """
    if not host or host.startswith("-"):
        raise UsageProblem(f"{OPTION} {host}: not the name of a machine")
    # ssh hands a shell of that machine one text: quoted, the words stay words.
    # It needs neither the keys nor the windows of this machine.
    return ["ssh", "-t", "-a", "-x", "--", host, shell_join(["mem_profiler", *words])]


def become(host: str, words: Sequence[str]) -> NoReturn:
    """Run `mem_profiler` with the words of a command line, `--ssh` taken out, on a machine, and end
    as it does. Raises MemError.
    """
    line = command(host, without_option(words))
    path = shutil.which("ssh")
    if path is None:
        raise MemError("ssh is not installed", hint="apt-get install openssh-client")
    with _terminal_kept():
        code = _ended(path, line)
    sys.exit(code)


def _ended(path: str, line: list[str]) -> int:
    """Run ssh, which stops and ends with this process; returns its exit code. Raises MemError."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else nobody could wait for it
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (*_FORWARDED, *_OF_THE_TERMINAL))
    try:
        child = os.posix_spawn(path, line, os.environ, setsigmask=before)
        _lead_signals_to(child)
    except OSError as error:
        raise MemError(f"{path}: {error.strerror}") from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        os.kill(os.getpid(), signal.SIGSTOP)
        os.kill(child, signal.SIGCONT)


def _lead_signals_to(child: int) -> None:
    def forward(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    for number in _OF_THE_TERMINAL:  # it has these too, and decides
        signal.signal(number, lambda *_: None)


@contextlib.contextmanager
def _terminal_kept() -> Iterator[None]:
    """Restore the terminal, and discard unread input."""
    terminal = sys.stdin.fileno()
    if not (os.isatty(terminal) and sys.stdout.isatty()):
        yield
        return
    before = termios.tcgetattr(terminal)
    try:
        yield
    finally:
        with contextlib.suppress(OSError, termios.error):  # it may be gone
            os.write(sys.stdout.fileno(), RESET.encode())
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
