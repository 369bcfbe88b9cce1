"""The documented unit under a real systemd, which runs as the first process of namespaces."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import ROOT, TIMEOUT_S, command_environment, wait_until
from sampler_run import SAMPLER, build

UNIT = ROOT / "examples" / "systemd" / "mem_profiler-serve.service"
SYSTEMD = next(
    (path for path in ("/lib/systemd/systemd", "/usr/lib/systemd/systemd") if os.path.exists(path)),
    None,
)
NAME = UNIT.stem
BEGIN = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/cache
umount -l /sys/fs/cgroup 2> /dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/system
cp "$1" /run/systemd/system
export container=other
exec "$2" --system --log-target=null --show-status=no --unit="$3.service"
"""
pytestmark = [
    # The first process of a machine sets a few of its limits, also where it is in namespaces.
    pytest.mark.soak,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a systemd of its own"),
    pytest.mark.skipif(SYSTEMD is None, reason="systemd is not installed"),
]


class Inside:
    """The namespaces of a systemd."""

    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", "-t", str(pid), "-m", "-p", "-u", "-i", "-C"]

    def run(self, *words: str) -> str:
        """The output of a program; that of one that fails, too."""
        return subprocess.run(
            [*self._enter, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        ).stdout

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        """A program that goes on."""
        return subprocess.Popen(
            [*self._enter, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | variables,
        )  # fmt: skip

    def shows(self, name: str) -> str:
        """What systemd says of the unit."""
        return self.run("systemctl", "show", "-p", name, "--value", NAME).strip()

    def get(self, path: str) -> str:
        """What the server answers."""
        socket = f"/run/{NAME}/serve.sock"
        return self.run("curl", "-s", "--unix-socket", socket, f"http://localhost{path}")


def python_of(user: str) -> tuple[str, str]:
    """A Python that a user may start, and where it finds this tree. Skips where there is none."""
    packages = os.pathsep.join(
        [command_environment()["PYTHONPATH"], sysconfig.get_paths()["platlib"]]
    )
    for program in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with contextlib.suppress(OSError, subprocess.SubprocessError):
            subprocess.run(
                [program, "-c", "import mem_cli.serve.server, numpy"], user=user, check=True,
                cwd="/", env=os.environ | {"PYTHONPATH": packages}, timeout=TIMEOUT_S,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            return program, packages
    pytest.skip(f"{user} may start no Python that has this tree's packages")


@pytest.fixture
def user() -> str:
    found = re.search(r"^User=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE)
    assert found is not None
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(found[1]).pw_name
    pytest.skip(f"there is no user {found[1]}")


@pytest.fixture
def inside(user: str, tmp_path: Path) -> Iterator[Inside]:
    """A systemd that has started the unit, with another path of the program alone."""
    if not all(map(shutil.which, ("unshare", "nsenter", "curl", "setpriv"))):
        pytest.skip("unshare, nsenter, setpriv or curl is missing")
    program, packages = python_of(user)
    text = UNIT.read_text("utf-8").replace(
        "/usr/local/bin/mem_profiler", f"{program} -m mem_cli.profiler.group"
    )
    text = text.replace("[Unit]", "[Unit]\nDefaultDependencies=no")
    text = text.replace("[Service]", f"[Service]\nEnvironment=PYTHONPATH={packages}")
    (tmp_path / UNIT.name).write_text(text)
    words = ["unshare", *["-m", "-p", "-f", "-u", "-i", "-C", "--mount-proc", "--kill-child"]]
    words += ["sh", "-c", BEGIN, "sh", str(tmp_path / UNIT.name), str(SYSTEMD), NAME]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as outer:  # fmt: skip
        try:
            yield Inside(first_of(outer))
        finally:
            outer.kill()


def first_of(outer: subprocess.Popen[bytes]) -> int:
    """The systemd, once it runs. Skips where it cannot."""
    found: list[int] = []

    def begun() -> bool:
        if outer.poll() is not None:
            pytest.skip("no systemd can run here")
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        for pid in map(int, children.read_text().split()):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                    found.append(pid)
        return bool(found)

    wait_until(begun, "systemd runs")
    return found[0]


def test_the_unit_runs_and_ends_under_systemd(inside: Inside, user: str, segment_dir: Path) -> None:
    segment_dir.chmod(0o1777)
    wait_until(lambda: '"rows"' in inside.get("/processes"), "the server answers")
    assert inside.shows("ActiveState") == "active"
    program = Path(f"/tmp/mem_profiler-test-{os.getpid()}-made")
    program.write_bytes(build("made_code.c").read_bytes())
    program.chmod(0o755)
    become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
    preload = {
        "LD_PRELOAD": str(SAMPLER),
        "MEM_PROFILER_START": "1",
        "MEM_PROFILER_DIR": str(segment_dir),
    }
    lists: list[Path] = []
    with inside.start(*become, str(program), **preload) as target:
        try:
            assert target.stdin is not None
            assert target.stdout is not None
            address = target.stdout.readline().split()[0]
            target.stdin.write("0 100 5000\n")
            target.stdin.flush()
            assert target.stdout.readline() == "ok\n"
            pid = inside.run("pgrep", "-f", f"^{program}$").strip()
            lists.append(Path(f"/tmp/perf-{pid}.map"))
            lists[0].write_text(f"{address} 1000 handle_request\n")
            shutil.chown(lists[0], user)
            lists[0].chmod(0o600)
            live = inside.get(f"/p/{pid}/live")
            assert '"state":"captured"' in live, live[:300]
            assert '"warnings":[]' in live
            row = f'comm="{program.name[:15]}",function="handle_request",pid="{pid}"'
            # The list of processes may be some seconds old.
            wait_until(lambda: row in inside.get("/metrics"), "the metrics have it")
        finally:
            target.kill()
            program.unlink()
            for path in lists:
                path.unlink(missing_ok=True)
    status = inside.run("cat", f"/proc/{inside.shows('MainPID')}/status")
    words = dict(line.split(":", 1) for line in status.splitlines())
    assert words["Uid"].split() == [str(pwd.getpwnam(user).pw_uid)] * 4
    assert words["CapBnd"].strip().strip("0") == ""
    assert [words[name].strip() for name in ("Umask", "NoNewPrivs", "Seccomp")] == [
        "0077",
        "1",
        "2",
    ]
    kept = inside.run("find", f"/var/cache/{NAME}", "-type", "f", "-perm", "/077")
    assert kept == ""
    inside.run("systemctl", "stop", NAME)
    assert inside.shows("ActiveState") == "inactive"
    assert inside.shows("Result") == "success"
    assert inside.shows("ExecMainStatus") == str(signal.SIG_DFL.value)
    assert inside.run("ls", "-A", f"/run/{NAME}") == ""
