"""The documented unit of systemd: systemd understands it, and what it starts works as it says.

Beside a systemd in namespaces, the program is started as the unit says by other means: its user, no
capabilities, no new privileges, its umask and variables, and a file system of which it may write
only the folders that the unit names.
"""

import contextlib
import os
import pwd
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller_tools import (
    ROOT,
    TIMEOUT_S,
    Stepper,
    build_stepper,
    command,
    command_environment,
    wait_until,
)
from made_program import Made
from mem_parser.readers import read_bytes
from mem_parser.symbols.symbolizer import symbolize
from other_users import UID, become, home_of, need_users
from sampler_run import SAMPLER, build
from serving import Answered, Server, below, read_all, readers_below

UNIT = ROOT / "examples" / "systemd" / "mem_profiler-serve.service"
HIGHEST_EXPOSURE = 33
"""In tenths, of systemd-analyze's hundred."""
NEEDS_ANALYZE = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
RATE = {"MEM_PROFILER_START": "1"}


def settings() -> dict[str, list[str]]:
    """What the unit says, by name; comments are left out."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        name, equal, value = line.partition("=")
        if equal and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def analyze(folder: Path, *words: str, unit: str) -> subprocess.CompletedProcess[str]:
    copy = folder / UNIT.name
    copy.write_text(unit, encoding="utf-8")
    return subprocess.run(
        ["systemd-analyze", *words, str(copy)], capture_output=True, text=True,
        timeout=TIMEOUT_S * 2, check=False, env=os.environ | {"LC_ALL": "C.UTF-8"},
    )  # fmt: skip


def installed(folder: Path) -> str:
    """The unit, as if the command was installed where it says."""
    program = folder / "mem_profiler"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    return UNIT.read_text(encoding="utf-8").replace("/usr/local/bin/mem_profiler", str(program))


@NEEDS_ANALYZE
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    done = analyze(tmp_path, "verify", "--man=no", unit=installed(tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    wrong = installed(tmp_path).replace("UMask=0077", "UMask=often")
    assert analyze(tmp_path, "verify", "--man=no", unit=wrong).stderr


@NEEDS_ANALYZE
def test_the_unit_is_confined(tmp_path: Path) -> None:
    words = ("security", "--offline=true", f"--threshold={HIGHEST_EXPOSURE}", "--no-pager")
    done = analyze(tmp_path, *words, unit=installed(tmp_path))
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    open_one = "\n".join(
        line for line in installed(tmp_path).splitlines() if "Capability" not in line
    )
    assert analyze(tmp_path, *words, unit=open_one).returncode != 0


def test_comments_of_the_unit_are_settings_too(tmp_path: Path) -> None:
    """What the comments propose begins with options that there are."""
    text = UNIT.read_text(encoding="utf-8")
    proposed = re.findall(r"^#\s+(ExecStart|CapabilityBoundingSet)=(.*)$", text, re.MULTILINE)
    assert [name for name, _ in proposed] == ["ExecStart", "CapabilityBoundingSet"]
    token = tmp_path / "token"
    token.write_text("x" * 32)
    token.chmod(0o600)
    words = shlex.split(proposed[0][1].replace("/etc/mem_profiler.token", str(token)))
    address = words.index("127.0.0.1:8080")
    words[address] = "127.0.0.1:0"
    with subprocess.Popen(
        command(*words[1:]), env=command_environment(), stdout=subprocess.PIPE, text=True
    ) as served:
        assert served.stdout.readline().startswith("serving at http://127.0.0.1:")
        served.terminate()
        assert served.wait(TIMEOUT_S) == 0


SANDBOX = """
set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/cache
mkdir -m $RUNTIME_MODE $RUNTIME $CACHE
chown $OWNER $RUNTIME $CACHE
mount --bind $WRITABLE $WRITABLE
mount -o remount,bind,ro /
cd /
umask $UMASK
exec setpriv --reuid=$OWNER --regid=$OWNER --init-groups --bounding-set=-all --inh-caps=-all \
    --no-new-privs "$@"
"""


@pytest.fixture
def unit_user() -> str:
    """The user of the unit, who may run this tree."""
    import pwd

    [user] = settings()["User"]
    try:
        need_users(pwd.getpwnam(user).pw_uid)
    except KeyError:
        pytest.skip(f"there is no user {user}")
    return user


@pytest.fixture
def served(unit_user: str, segment_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """What the unit starts, as it says."""
    said = settings()
    [words] = said["ExecStart"]
    assert words.startswith("/usr/local/bin/mem_profiler ")
    [umask], [runtime], [mode] = (
        said["UMask"],
        said["RuntimeDirectory"],
        said["RuntimeDirectoryMode"],
    )
    [cache], [writable] = said["CacheDirectory"], said["ReadWritePaths"]
    assert said["CapabilityBoundingSet"] == [""]
    variables = {
        "OWNER": unit_user, "UMASK": umask, "RUNTIME": f"/run/{runtime}", "RUNTIME_MODE": mode,
        "CACHE": f"/var/cache/{cache}", "WRITABLE": writable,
    }  # fmt: skip
    variables |= dict(text.split("=", 1) for text in said["Environment"])
    segment_dir.chmod(0o1777)
    with subprocess.Popen(
        ["unshare", "-m", "sh", "-c", SANDBOX, "sh", *command(*shlex.split(words)[1:])],
        env=command_environment() | variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as child:  # fmt: skip
        try:
            first = child.stdout.readline()
            if not first:
                _, errors = child.communicate(timeout=TIMEOUT_S)
                if "serve" not in errors and "mem_profiler" not in errors:
                    pytest.skip(f"no such sandbox here: {errors.strip()[:200]}")
                raise AssertionError(errors)
            assert first == f"serving on /run/{runtime}/serve.sock\n"
            yield child
        finally:
            child.kill()


def seen_by(served: subprocess.Popen[str]) -> Path:
    """The file system as a process has it."""
    return Path("/proc", str(served.pid), "root")


def ask(served: subprocess.Popen[str], path: str) -> Answered:
    """Ask on the socket, which is in the server's own view of the file system."""
    [runtime] = settings()["RuntimeDirectory"]
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT_S)
        client.connect(str(seen_by(served) / "run" / runtime / "serve.sock"))
        client.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
        )
        return Answered(read_all(client))


def test_what_the_unit_starts_shows_the_services_of_its_user(
    served: subprocess.Popen[str], unit_user: str, tmp_path: Path
) -> None:
    import pwd

    entry = pwd.getpwnam(unit_user)
    program = build_stepper(tmp_path)
    prefix = ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--init-groups")
    with home_of(entry.pw_uid, [program]) as home, Stepper(
        home / "stepper", prefix=prefix, **RATE
    ) as one:  # fmt: skip
        one.tell("a 100 1000")
        live = ask(served, f"/p/{one.pid}/live")
        assert live.status == 200, live.body
        assert "97.66 KiB" in live.json()["data"]["facts"]["headlines"]["inuse.space"]
        # Its user may be unable to start the Python of whoever runs the tests, which reads lines.
        warnings = " ".join(live.json()["data"]["facts"]["warnings"])
        assert "made its reader fail" not in warnings
        assert b'function="allocate"' in ask(served, "/metrics").body
        assert ask(served, f"/p/{one.pid}/profile.heap").status == 200
        [reader] = readers_below(served.pid)
        words = below(served.pid)[reader]
        assert (words["NoNewPrivs"], words["CapBnd"].strip("0")) == ("1", "")
        [cache] = settings()["CacheDirectory"]
        kept = list((seen_by(served) / "var" / "cache" / cache).rglob("*"))
        assert kept, "names are kept for the next time"
        assert not [path for path in kept if path.is_file() and path.stat().st_mode & 0o077]
    served.terminate()
    out, errors = served.communicate(timeout=TIMEOUT_S)
    assert (served.returncode, errors) == (0, ""), out


def test_root_needs_no_more_than_the_comment_says_to_show_the_services_of_others(
    segment_dir: Path, tmp_path: Path
) -> None:
    need_users()
    [rights] = re.findall(
        r"^#\s+CapabilityBoundingSet=(.*)$", UNIT.read_text("utf-8"), re.MULTILINE
    )
    kept = ",".join(f"+{word.removeprefix('CAP_').lower()}" for word in rights.split())
    limited = ["setpriv", f"--bounding-set=-all,{kept}", "--inh-caps=-all", "--no-new-privs"]
    segment_dir.chmod(0o1777)
    with (
        home_of(UID, [build("made_code.c")]) as home,
        Made(segment_dir, *become(UID), program=home / build("made_code.c").name) as one,
        Server(folder=tmp_path, prefix=limited) as server,
    ):
        one.allocate(0, 10, 5000)
        one.list_as("handle_request", uid=UID)
        one.map.chmod(0o600)
        live = server.ask(f"/p/{one.pid}/live")
        assert live.status == 200, live.body
        metrics = server.ask("/metrics").body.decode()
        mine = [line for line in metrics.splitlines() if f'pid="{one.pid}"' in line]
        assert any('function="handle_request"' in line for line in mine), mine
        text = server.ask(f"/p/{one.pid}/debug/pprof/heap?debug=1").body
        names = {each.name for each in symbolize(read_bytes(text, "served")).functions}
        assert {"handle_request", "main"} <= names
        assert server.end() == (0, "")


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


class Inside:
    def __init__(self, pid: int) -> None:
        self._enter = ["nsenter", "-t", str(pid), "-m", "-p", "-u", "-i", "-C"]

    def run(self, *words: str) -> str:
        """The output of a program; that of one that fails, too."""
        return subprocess.run(
            [*self._enter, *words], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        ).stdout

    def start(self, *words: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._enter, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | variables,
        )  # fmt: skip

    def shows(self, name: str) -> str:
        """What systemd says of the unit."""
        return self.run("systemctl", "show", "-p", name, "--value", NAME).strip()

    def get(self, path: str) -> str:
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


@pytest.mark.skipif(SYSTEMD is None, reason="systemd is not installed")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a systemd of its own")
@pytest.mark.soak
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
