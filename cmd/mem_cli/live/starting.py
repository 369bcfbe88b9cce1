"""`mem_profiler run --live`: a program on the screen from its start to its end.

Model: the run is an ordinary one, which writes its file at the end; the view follows it.
The program must not write on the screen, nor read the keys: its output goes to a file, of which a
key shows the end, and its input is empty.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from mem_cli.console import say
from mem_cli.live import needs
from mem_cli.live.choices import DEFAULTS, filters_of, naming_of
from mem_cli.live.distant import readers
from mem_cli.live.viewing import Choice, show
from mem_parser.errors import MemError, NoSampler, ProcessGone
from mem_parser.escape import one_line
from mem_parser.output_path import open_folder
from mem_parser.plainfile import open_plain
from mem_parser.sizes import short_size
from mem_profiler.capture import launch
from mem_profiler.capture.output import ExactFile
from mem_profiler.capture.session import Rates
from mem_profiler.live.watched import State, Watched
from mem_profiler.process import procfs
from mem_sandbox.forkserver import Forkserver

_NAMES_TRIED = 10_000
_TAIL_BYTES = 1 << 18
_POLL_S = 0.02


@dataclass
class Output:
    """The file that a program writes its output to."""

    path: str
    fd: int

    def tail(self) -> list[str]:
        """Return the last lines; empty if the file cannot be read."""
        try:
            fd = open_plain(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                size = os.fstat(fd).st_size
                first = max(size - _TAIL_BYTES, 0)
                text = os.pread(fd, _TAIL_BYTES, first).decode("utf-8", "replace")
            finally:
                os.close(fd)
        except (OSError, ValueError) as error:
            return [f"{self.path}: {getattr(error, 'strerror', None) or error}"]
        lines = text.split("\n")
        return lines[1:] if first else lines

    def close(self) -> None:
        """Report where the output is; remove an empty file."""
        size = os.fstat(self.fd).st_size
        os.close(self.fd)
        if size:
            say(f"the program's output: {self.path}, {short_size(size)}", err=True)
        else:
            os.unlink(self.path)


def output_file(options: launch.Options) -> Output:
    """Make the file for the output of a program, beside the one of its capture. Raises MemError."""
    prefix = options.prefix
    stem = os.path.splitext(prefix.path)[0] if isinstance(prefix, ExactFile) else prefix
    folder, name = os.path.split(stem)
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open_folder(folder or ".") as opened:
            for number in range(1, _NAMES_TRIED):
                final = f"{name}.{number}.output.txt"
                try:
                    fd = os.open(final, flags, 0o600, dir_fd=opened)
                except FileExistsError:
                    continue
                return Output(os.path.join(folder, final), fd)
    except OSError as error:
        raise MemError(f"cannot write {stem}.*.output.txt: {error.strerror}") from error
    raise MemError(f"all names {stem}.<n>.output.txt exist already", hint="-o PREFIX")


def view(one: launch.Run, options: launch.Options, output: Output) -> None:
    """Show a program until it has ended and the viewer leaves, or only the latter. Raises what
    ended the view, if that was an error.
    """
    needs.agree_on_colour()
    prefix = options.prefix
    choice = Choice(
        rates=Rates(options.rate_bytes, options.device_rate_bytes),
        prefix=os.path.splitext(prefix.path)[0] if isinstance(prefix, ExactFile) else prefix,
        interval_s=1.0,
        form=options.form,
        naming=naming_of(DEFAULTS),
        filters=filters_of(DEFAULTS),
    )
    with readers(choice.naming, choice.filters) as forkserver:
        if not _view(one, choice, forkserver, output):
            return
    if not one.over:
        name = one_line(procfs.program_name(one.pid)) or "the program"
        say(f"{name} (pid {one.pid}) goes on; its file is written when it ends", err=True)


def _view(one: launch.Run, choice: Choice, forkserver: Forkserver, output: Output) -> bool:
    """Show a program, and those that it becomes; False: it ended before it could be seen."""
    following: int | None = one.pid
    while following is not None:
        watched = _opened(one)
        if watched is None:
            return False
        try:
            following = show(
                watched,
                choice,
                forkserver,
                output=output.tail,
                beside=(one.tick,),
                forward=one.forward,
                again=lambda: [] if one.over else [one.program_pid() or one.pid],
                at_once=True,
            )
        finally:
            watched.close()
    return True


def _opened(one: launch.Run) -> Watched | None:
    """Wait for the sampler of the program; None: the program ended before it could be seen."""
    while not one.over:
        one.tick()
        pid = one.program_pid()
        try:
            watched = None if pid is None else Watched(pid)
        except (NoSampler, ProcessGone):
            watched = None
        if watched is None:
            one.watch.ended(_POLL_S)
            continue
        if watched.state is State.CAPTURED:
            return watched
        watched.close()
        one.watch.ended(_POLL_S)
    return None
