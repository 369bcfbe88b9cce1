"""Processes as forks of one that has imported what they need, where a program or a shell starts
them by name: an interpreter for each would take most of the time of a test.

Model: a script hands its arguments, its environment and its streams to a server, and ends as the
process does that the server forks. MEM_PROFILER_PYTHON names one that stands for the Python of
helpers, PATH ones that stand for the commands. The server is a process of its own: a fork of one
that has read a table with Arrow cannot close its files and fork again.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mem_cli.parser import group as parser
from mem_cli.profiler import group as profiler
from mem_profiler.helper import __main__ as helper_main
from parser_run import import_packages

MESSAGE_MAX_BYTES = 1 << 17
STUB = """#!{python} -IS
import array, json, os, socket, sys
if {real!r} and not {{"serve", "live", "--live"}}.isdisjoint(sys.argv):
    os.execv({real!r}, sys.argv)  # it has a terminal, or Ctrl-C is for it
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (0, 1, 2)))]
told = json.dumps([{name!r}, sys.argv[1:], os.getcwd(), dict(os.environ)])
server.sendmsg([told.encode()], streams)
sys.exit(int(server.recv(9) or b"1"))
"""


_MAINS: dict[str, Callable[[list[str]], object]] = {
    "python": lambda words: helper_main.main(*words[3:]),  # -P -m mem_profiler.helper
    "mem_parser": lambda _: parser.main(),
    "mem_profiler": lambda _: profiler.main(),
}


@contextmanager
def helper_server(folder: Path, *names: str) -> Iterator[Path]:
    """The folder of scripts that stand for programs, which everybody may read."""
    address = str(folder / "server")
    for name in names:
        stub, real = folder / name, Path(sys.executable).with_name(name)
        stub.write_text(
            STUB.format(
                python=sys.executable, address=address, name=name,
                real="" if name == "python" else str(real),
            )
        )  # fmt: skip
        stub.chmod(0o755)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(address)
    listening.listen()
    code = f"import helper_server; helper_server.serve({listening.fileno()})"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        pass_fds=[listening.fileno()],
        start_new_session=True,
    ) as server:
        listening.close()
        try:
            yield folder
        finally:
            server.kill()


def serve(fd: int) -> None:
    """Answer what comes to a socket that listens, until somebody ends this process."""
    import_packages()
    listening = socket.socket(fileno=fd)
    while True:
        client = listening.accept()[0]
        if os.fork() == 0:
            try:
                _answer(client)
            finally:
                os._exit(0)
        client.close()
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def _answer(client: socket.socket) -> None:
    size = array.array("i").itemsize
    told, streams, *_ = client.recvmsg(MESSAGE_MAX_BYTES, socket.CMSG_SPACE(3 * size))
    handles = array.array("i", streams[0][2])
    pid = os.fork()
    if pid == 0:
        _become(json.loads(told), handles)
    for fd in handles:
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    client.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(told: tuple[str, list[str], str, dict[str, str]], streams: array.array[int]) -> None:
    name, words, folder, environment = told
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    os.closerange(3, 1 << 16)  # it ends where the pipe of commands does
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.setsid()
    sys.argv = [name, *words]
    code: object = 1
    try:
        _MAINS[name](words)
        code = 0
    except SystemExit as end:
        code = end.code or 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
