"""Programs by the names that people started them by."""

from __future__ import annotations

import pytest

from mem_parser.model import Capture
from mem_parser.programname import named_with_file, names_of_siblings, profile_name, program_name

PYTHON = "/usr/bin/python3.11"


@pytest.mark.parametrize(
    ("comm", "exe", "command", "shown"),
    [
        ("redis-server", "/usr/bin/redis-check-rdb", "redis-server *:6379",
         "redis-server (file: redis-check-rdb)"),
        ("ls", "/bin/busybox", "/bin/ls -l", "ls (file: busybox)"),
        ("python3", PYTHON, "python3 /srv/app.py", "python3 (file: python3.11)"),
        # A script's interpreter is the first word of its command line.
        ("tool.py", PYTHON, "/usr/bin/python3 -u ./tool.py a", "tool.py (file: python3.11)"),
        ("sleep", "/bin/sleep", "foo 100", "foo (file: sleep)"),
        ("bash", "/bin/bash", "-bash", "bash"),
        # The kernel cuts a process's name.
        ("a-name-which-is", "/b/p", "./a-name-which-is-long 3", "a-name-which-is-long (file: p)"),
        ("a-name-which-is", "/b/a-name-which-is-not-it", "x", "x (file: a-name-which-is-not-it)"),
        # Titles.
        ("nginx", "/usr/sbin/nginx", "nginx: worker process", "nginx"),
        ("python3", PYTHON, "myapp: worker 3", "myapp (file: python3.11)"),
        ("two words and m", "/bin/perl", "two words and more", "two words and more (file: perl)"),
        ("MainThread", "/usr/bin/node", "node app.js", "node"),
        ("run", "/opt/My App/run", "/opt/My App/run x", "run"),
        ("run", "/opt/run (deleted)", "./run", "run"),
        # Cut in the middle of a folder.
        ("prog", "/b/prog", "/" + "d/" * 127, "prog"),
        ("", "/opt/app", "", "app"),
        ("", "", "", "?"),
    ],
)  # fmt: skip
def test_a_program_is_named_as_it_was_called(comm: str, exe: str, command: str, shown: str) -> None:
    assert named_with_file(program_name(comm, exe, command), exe) == shown


@pytest.mark.parametrize("command", ["\x1b[2J\n\x07 x", "x" * 5000 + " y", "\x1b" * 5000 + " y"])
def test_no_name_acts_on_a_terminal_or_fills_it(command: str) -> None:
    shown = named_with_file(program_name("", "", command), "/bin/\x1b" + "f" * 5000)
    assert shown.isprintable()
    assert len(shown) < 500


def test_a_file_given_for_the_program_names_it() -> None:
    capture = Capture(comm="sleep", exe="/bin/sleep", command="web 100")
    assert profile_name(capture, "./build/redis-server", "x.heap") == "redis-server"
    assert profile_name(capture, None, "x.heap") == "web"
    assert profile_name(Capture(), None, "/tmp/x.heap") == "x.heap"


def test_processes_of_one_name_are_names_of_siblings_by_what_each_has_alone() -> None:
    compiler = "/usr/lib/cc1plus -quiet -I src -D BIG=40 {0}.cpp -dumpbase {0}.cpp -o /tmp/{0}.s"
    found = names_of_siblings(
        [
            *(("cc1plus", compiler.format(name)) for name in ("a", "b")),
            ("ld", "/usr/bin/ld -o app a.o b.o"),
            *[("nginx", "nginx: worker process")] * 2,
            ("", "\x1b[31m " + "x" * 100),
        ]
    )
    assert found[:5] == [
        "cc1plus a.cpp /tmp/a.s", "cc1plus b.cpp /tmp/b.s", "ld -o app a.o b.o", "nginx", "nginx",
    ]  # fmt: skip
    assert found[5].startswith("? xxx") and found[5].endswith("x…") and len(found[5]) <= 60
