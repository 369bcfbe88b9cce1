"""Collect what an issue needs to know, and nothing private.

Model: facts are numbers, versions, and words of ours; a text that may hold names of others (of the
doctor, of an error, of a command) keeps only the words that our own sources hold, since these tell
nothing about a user. Last, the home folder and the names of the host and of users are replaced
wherever they still stand. With names, texts but commands stay whole but for that.
"""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import re
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import mem_parser
import mem_profiler
import mem_sandbox
from mem_parser.errors import MemError, one_line
from mem_parser.model import Profile
from mem_parser.version import __version__
from mem_profiler.doctor.examine import examine_process
from mem_profiler.process import cgroup, procfs, tracing
from mem_profiler.segment import discovery, folders, layout

HIDDEN = "…"
_VARIABLES = (
    "GLIBC_TUNABLES", "LD_LIBRARY_PATH", "LD_PRELOAD", "MALLOC_CONF", "MEM_PROFILER_CACHE",
    "MEM_PROFILER_DEBUG", "MEM_PROFILER_DIR", "MEM_PROFILER_DISABLE", "MEM_PROFILER_MAX_MEMORY",
    "MEM_PROFILER_MAX_TOTAL", "MEM_PROFILER_ONLY", "PYTHONMALLOC", "TMPDIR",
)  # fmt: skip
_STATES = {
    layout.STATE_STARTING: "starting",
    layout.STATE_READY: "ready",
    layout.STATE_SHADOWED: "shadowed",
    layout.STATE_REFUSED: "refused",
    layout.STATE_EXITED: "exited",
}
_SECCOMP = {"0": "none", "1": "strict", "2": "a filter"}
_SIGNS = {"/.dockerenv": "docker", "/run/.containerenv": "podman"}
_VERSION = re.compile(r"\d+(?:\.\d+){0,3}")
_WORD = re.compile(r"\w+")
_NUMBER = re.compile(r"\d+[A-Za-z]{0,3}|0x[0-9a-f]+")
_SHORTEST_NAME = 2
_PROGRAMS = ("mem_profiler", "mem_parser")
_STARTERS = {"run", "doctor"}
"""Commands that a program's own command line may follow."""

Rows = list[tuple[str, str]]


@dataclass
class Hiding:
    """What may be said. ``more``: folders of sources whose words may be said, too."""

    with_names: bool = False
    more: Sequence[Path] = ()
    _known: frozenset[str] = field(default=frozenset(), repr=False)

    def text(self, text: str) -> str:
        """Return a text without words that are not ours, unless names may be said."""
        text = one_line(text)
        return text if self.with_names else self._ours(text)

    def command(self, text: str) -> str:
        """Return one of our commands as far as the program that it starts, in our words."""
        words = one_line(text).split()
        first = next((k for k, w in enumerate(words) if os.path.basename(w) in _PROGRAMS), None)
        if first is None:
            return HIDDEN
        kept: list[str] = []
        for word in [os.path.basename(words[first]), *words[first + 1 :]]:
            is_option = word.startswith("-") and word != "--"
            if _STARTERS.intersection(kept) and not (is_option or _NUMBER.fullmatch(word)):
                return " ".join([*kept, HIDDEN])
            kept.append(self._ours(word))
        return " ".join(kept)

    def _ours(self, text: str) -> str:
        if not self._known:
            self._known = frozenset(_own_words(self.more))
        return _WORD.sub(self._word, text)

    def _word(self, found: re.Match[str]) -> str:
        word = found[0]
        is_ours = _NUMBER.fullmatch(word) if word[0].isdigit() else word in self._known
        return word if is_ours else HIDDEN


def _own_words(more: Sequence[Path]) -> Iterator[str]:
    packages = (mem_parser, mem_profiler, mem_sandbox)
    for folder in [*(Path(str(one.__file__)).parent for one in packages), *more]:
        for path in folder.rglob("*.py"):
            with contextlib.suppress(OSError):
                yield from _WORD.findall(path.read_text(encoding="utf-8", errors="replace"))


def machine() -> Rows:
    """Versions, limits and restrictions of this machine and this process."""
    status = procfs.status_words("self")
    named = folders.segment_dir()
    return [
        ("mem-profiler", __version__),
        ("Python", f"{platform.python_implementation()} {platform.python_version()}"),
        ("C library", _version((os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc "))),
        ("kernel", f"{_version(platform.release())} {platform.machine()}"),
        ("distribution", _distribution()),
        ("processors", str(len(os.sched_getaffinity(0)))),
        ("user", "root" if os.geteuid() == 0 else "not root"),
        ("CAP_SYS_PTRACE", "yes" if tracing.may_trace_all() else "no"),
        ("ptrace_scope", str(tracing.ptrace_scope())),
        ("seccomp", _SECCOMP.get(status.get("Seccomp", ""), "unknown")),
        ("no_new_privs", status.get("NoNewPrivs", "unknown")),
        ("container", _container()),
        ("memory limit", _limit("self")),
        (folders.DEFAULT_DIR, _room(Path(folders.DEFAULT_DIR))),
        *([("MEM_PROFILER_DIR", _room(named))] if named != Path(folders.DEFAULT_DIR) else ()),
        ("variables set", " ".join(name for name in _VARIABLES if name in os.environ) or "none"),
    ]


def _limit(pid: int | str) -> str:
    limit = cgroup.limit_bytes(pid)
    return "none" if limit is None else f"{limit} bytes"


def _version(text: str) -> str:
    found = _VERSION.match(text)
    return found[0] if found else "unknown"


def _distribution() -> str:
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        return "unknown"
    words = (release.get("ID", ""), release.get("VERSION_ID", ""))
    return " ".join(word for word in words if re.fullmatch(r"[a-z0-9._-]{1,32}", word))


def _container() -> str:
    for path, name in _SIGNS.items():
        if os.path.exists(path):
            return name
    if "KUBERNETES_SERVICE_HOST" in os.environ:
        return "kubernetes"
    with contextlib.suppress(OSError):
        groups = Path("/proc/self/cgroup").read_text(encoding="utf-8", errors="replace")
        return next((name for name in ("kubepods", "docker", "lxc") if name in groups), "no sign")
    return "unknown"


def _room(folder: Path) -> str:
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return error.strerror or "cannot be read"
    return f"{found.f_bavail * found.f_frsize} of {found.f_blocks * found.f_frsize} bytes free"


def process(pid: int, hiding: Hiding) -> Rows:
    """The memory limit of a process, and the doctor's findings on it."""
    rows = [("memory limit", _limit(pid))]
    for one in examine_process(pid):
        said = "; ".join(filter(None, (one.text, one.cure)))
        rows.append((f"{one.status} {one.check}", hiding.text(said)))
    return rows


def sampler(pid: int) -> Rows:
    """The sampler's counters in a process."""
    try:
        with discovery.open_process(pid, writable=False) as segment:
            control, used_bytes = segment.control(), segment.used_bytes()
    except MemError as error:
        return [("sampler", f"none ({type(error).__name__})")]
    lost = {name: int(control["lost"][k]) for k, name in layout.LOST_NAMES.items()}
    number = control.number("capture_number")
    return [
        ("sampler", _STATES.get(control.number("state"), "unknown")),
        ("segment", f"version {control.number('version')}, {used_bytes} bytes used"),
        ("captures", f"{number}, {control.number('written_capture')} written"),
        *([("rate", f"{int(control.capture['rate_bytes'])} bytes")] if number else ()),
        ("lost", _counts(lost)),
    ]


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items() if count) or "0"


def profile(found: Profile, hiding: Hiding) -> Rows:
    """The header of a profile, and how much it holds."""
    capture = found.capture
    texts = {
        name: getattr(capture, name)
        for name in ("writer", "arch", "allocator", "unwinder", "sampler", "kind", "end", "python")
    }
    numbers = {
        name: getattr(capture, name)
        for name in (
            "capture", "depth_limit", "duration_s", "from_start", "pymalloc", "pymem", "complete",
            "samples", "marks_lost", "peak_at_s", "peak_bytes",
        )
    }  # fmt: skip
    known = set(layout.LOST_NAMES.values()) | set(layout.STACK_LOST_NAMES.values())
    parts = {
        "lost": {name: count for name, count in capture.lost.items() if name in known},
        "memory": asdict(capture.memory),
        "controller": asdict(capture.controller) if capture.controller else {},
        "attach": asdict(capture.attach) if capture.attach else {},
    }
    modules = sorted({os.path.basename(module.path) for module in found.modules})
    return [
        ("format", hiding.text(found.format)),
        ("rate", f"{found.rate_bytes:g} bytes"),
        *((name, hiding.text(os.path.basename(text))) for name, text in texts.items() if text),
        *((name, f"{number}") for name, number in numbers.items() if number is not None),
        *((name, _counts(values)) for name, values in parts.items()),
        ("domains", str(len(capture.domains) or len(found.domains))),
        ("sites", str(len(found.sites.stack))),
        ("stacks", str(len(found.stacks))),
        ("modules", f"{len(found.modules)}"),
        ("threads", str(len(found.threads))),
        *([("incomplete", hiding.text(found.incomplete))] if found.incomplete else ()),
        *(("note", hiding.text(note)) for note in [*capture.notes, *found.warnings]),
        *([("module names", " ".join(map(one_line, modules)))] if hiding.with_names else ()),
    ]


def render(sections: Iterable[tuple[str, Rows]], pid: int | None = None) -> list[str]:
    """Return the lines of the report; ``pid``: a process whose owner is not named either."""
    lines = []
    for title, rows in sections:
        width = max((len(name) for name, _ in rows), default=0)
        lines += ["", f"[{title}]", *(f"{name:<{width}}  {text}" for name, text in rows)]
    text = "\n".join(lines[1:])
    for secret, word in _secrets(pid):
        text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", word, text, flags=re.IGNORECASE)
    return text.split("\n")


def _secrets(pid: int | None) -> list[tuple[str, str]]:
    """What is replaced, by what; the longest first."""
    found: dict[str, str] = {}
    uids = {os.getuid(), os.geteuid()}
    uids |= {int(uid) for uid in (os.environ.get("SUDO_UID", ""),) if uid.isdecimal()}
    facts = None if pid is None else procfs.status(pid)
    uids |= set(facts.uids) if facts else set()
    homes = {os.environ.get("HOME", "")}
    users = {os.environ.get(name, "") for name in ("USER", "LOGNAME", "SUDO_USER")}
    for uid in uids:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwuid(uid)
            homes.add(entry.pw_dir)
            users.add(entry.pw_name)
    host = {platform.node(), socket.gethostname(), os.environ.get("HOSTNAME", "")}
    found |= dict.fromkeys(users - {"root"}, "USER")
    found |= dict.fromkeys(host | {name.partition(".")[0] for name in host}, "HOST")
    found |= dict.fromkeys((home.rstrip("/") for home in homes), "~")
    rows = [(secret, word) for secret, word in found.items() if len(secret) >= _SHORTEST_NAME]
    return sorted(rows, key=lambda row: -len(row[0]))
