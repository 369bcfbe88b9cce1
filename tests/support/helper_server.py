"""Helper processes as forks of one that has imported what they need: an interpreter for each would
take most of the time of a test.

Model: MEM_PROFILER_PYTHON names a script that hands its arguments, its environment and its streams
to a server, and ends as the helper's first process does. The server is a process of its own: a fork
of one that has read a table with Arrow cannot close its files and fork again.
"""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mem_profiler.helper.__main__ import main
from parser_run import import_packages

MESSAGE_MAX_BYTES = 1 << 17
STUB = """#!{python} -IS
import array, json, os, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
streams = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", (0, 1, 2)))]
told = json.dumps([sys.argv[4:], os.getcwd(), dict(os.environ)])
server.sendmsg([told.encode()], streams)
sys.exit(int(server.recv(9) or b"1"))
"""


@contextmanager
def helper_server(folder: Path) -> Iterator[Path]:
    """The script that stands for the Python of helpers, in a folder that everybody may read."""
    address, stub = str(folder / "server"), folder / "python"
    stub.write_text(STUB.format(python=sys.executable, address=address))
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
            yield stub
        finally:
            server.kill()


def serve(fd: int) -> None:
    """Answer what comes to a socket that listens, until somebody ends this process."""
    import_packages()
    listening = socket.socket(fileno=fd)
    while True:
        _answer(listening.accept()[0])


def _answer(client: socket.socket) -> None:
    size = array.array("i").itemsize
    told, streams, *_ = client.recvmsg(MESSAGE_MAX_BYTES, socket.CMSG_SPACE(3 * size))
    pid = os.fork()
    if pid == 0:
        try:
            _become(json.loads(told), array.array("i", streams[0][2]))
        finally:
            os._exit(1)
    for fd in array.array("i", streams[0][2]):
        os.close(fd)
    _, status = os.waitpid(pid, 0)
    client.send(str(os.waitstatus_to_exitcode(status)).encode())
    client.close()


def _become(told: tuple[list[str], str, dict[str, str]], streams: array.array[int]) -> None:
    words, folder, environment = told
    for number, fd in enumerate(streams):
        os.dup2(fd, number)
    os.closerange(3, 1 << 16)  # it ends where the pipe of commands does
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.setsid()
    main(*words)
