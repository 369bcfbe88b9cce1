"""`mem_profiler serve`."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import socket
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mem_cli.commands import PATH
from mem_cli.console import say, warn
from mem_parser.errors import MemError, UsageProblem
from mem_parser.escape import one_line, shell_word
from mem_parser.plainfile import open_plain
from mem_parser.tables.extras import pip_line

if TYPE_CHECKING:
    from mem_cli.serve.guard import Access
    from mem_cli.serve.place import Address, Listening
    from mem_cli.serve.server import Beside

LIBRARIES = ("prometheus_client", "starlette", "uvicorn")
LEAST_TOKEN, MOST_TOKEN = 16, 1024
NOT_ENCRYPTED = (
    "what goes to other machines is not encrypted: whoever is in between can read it and the token"
)


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="An address, with a token; port 0: a free one.")
@click.option("--socket", "path", type=PATH, metavar="PATH", help="Another Unix socket.")
@click.option("--control", is_flag=True, help="Captures may be begun and ended too.")
@click.option("--public", is_flag=True, help="Allow an address that other machines reach.")
@click.option(
    "--host", "hosts", multiple=True, metavar="NAME", help="One more name of this server."
)
@click.option("--token-file", type=PATH, metavar="FILE", help="The token; default: a new one.")
@click.option(
    "--top", type=click.IntRange(0, 50), default=10, show_default=True, metavar="N",
    help="Functions of each process in /metrics.",
)  # fmt: skip
def serve(
    listen: str | None,
    path: str | None,
    *,
    control: bool,
    public: bool,
    hosts: tuple[str, ...],
    token_file: str | None,
    top: int,
) -> None:
    r"""Show captured processes in a browser, and give their profiles to other tools.

    Listens on a Unix socket that this user alone can open, and reads only. Needs
    pip install 'mem-profiler[serve]'.

    \b
    mem_profiler serve --listen 127.0.0.1:8080
    ssh -L 8080:/run/user/1000/mem_profiler/serve.sock HOST
    go tool pprof 'http://127.0.0.1:8080/p/4711/debug/pprof/heap?token=...'
    """
    _check_libraries()
    if listen is None and (public or token_file is not None):
        raise UsageProblem("--public and --token-file are for --listen")
    if listen is not None and path is not None:
        raise UsageProblem("--listen and --socket exclude each other")
    from mem_cli.profiler.watchdog import Watchdog
    from mem_cli.serve.answers import REHEARSAL, Answers
    from mem_cli.serve.server import Beside
    from mem_cli.watching.warmup import readers

    # Before this process has a token, a socket or a thread: its children have none of them.
    with contextlib.ExitStack() as held:
        watchdog = held.enter_context(Watchdog()) if control else None
        beside = Beside(held.enter_context(readers(Answers, REHEARSAL)), watchdog)
        _run(beside, listen, path, Words(control, public, hosts, token_file, top))


@dataclass(frozen=True)
class Words:
    """What the command line says beside where to listen."""

    control: bool
    public: bool
    hosts: tuple[str, ...]
    token_file: str | None
    top: int


def _run(beside: Beside, listen: str | None, path: str | None, words: Words) -> None:
    from mem_cli.serve.app import Choices
    from mem_cli.serve.place import default_socket, listen_at, listen_on, parse_address
    from mem_cli.serve.server import serve as run

    if listen is not None:
        address = parse_address(listen)
        _check_reach(address, public=words.public)
        file = words.token_file
        token = secrets.token_urlsafe(24) if file is None else _read_token(file)
        access = _access(words.hosts, address, token)
        listening = listen_at(address)
    else:
        access = _access(words.hosts, None, None)
        listening = listen_on(default_socket() if path is None else path)
    try:
        run(
            listening,
            access,
            Choices(words.control, words.top),
            beside,
            lambda: _say_where(listening, access, words.token_file),
        )
    finally:
        listening.close()


def _check_libraries() -> None:
    """Raises MemError where a library is missing that only this command needs."""
    missing = [name for name in LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise MemError(
            f"{', '.join(missing)}: not installed",
            hint=pip_line("serve", "prometheus-client", "starlette", "uvicorn"),
        )


def _check_reach(address: Address, *, public: bool) -> None:
    if address.is_loopback:
        return
    if not public:
        raise UsageProblem(
            f"{address.text} can be reached from other machines",
            hint="--listen 127.0.0.1:PORT and ssh -L; or --public, which is not encrypted",
        )
    warn(NOT_ENCRYPTED)


def _access(hosts: tuple[str, ...], address: Address | None, token: str | None) -> Access:
    from mem_cli.serve.guard import Access

    names = {"localhost", *(name.lower().rstrip(".") for name in hosts)}
    if address is not None and not address.is_loopback:
        names.add(socket.gethostname().lower())
    return Access(frozenset(names), token)


def _read_token(path: str) -> str:
    """Read a token. Raises UsageProblem."""
    shown = one_line(path)
    try:
        with open(open_plain(path), "rb") as file:
            if os.fstat(file.fileno()).st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise UsageProblem(
                    f"{shown}: others can read it", hint=f"chmod 600 {shell_word(path)}"
                )
            text = file.read(MOST_TOKEN + 2).decode("ascii", "replace").strip()
    except OSError as error:
        raise UsageProblem(f"{shown}: {error.strerror or error}") from None
    if not LEAST_TOKEN <= len(text) <= MOST_TOKEN or not text.isascii() or not text.isprintable():
        raise UsageProblem(
            f"{shown}: a token is a line of {LEAST_TOKEN} to {MOST_TOKEN} characters of ASCII",
            hint=f"openssl rand -hex 24 > {shell_word(path)}",
        )
    return text


def _say_where(listening: Listening, access: Access, token_file: str | None) -> None:
    address = listening.address
    if address is None:
        path = shell_word(listening.path or "")
        say(f"serving on {path}")
        say(f"  curl --unix-socket {path} http://localhost/metrics")
        say(f"  ssh -L 8080:{path} {socket.gethostname()}     then http://localhost:8080/")
        return
    host = address.text
    if address.is_any:
        host = f"{socket.gethostname()}:{address.port}"
    known = f"#token={access.token}" if token_file is None else ""
    say(f"serving at http://{host}/{known}")
