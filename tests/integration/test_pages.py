"""Every command of the documents is typed as it stands, page by page, in a folder of its own.

What a page names is there under that name: programs, files, a service. What cannot run here has a
stand-in, and what is shortened a replacement; both are tables below, each row with its reason. A
block of a page is typed, or in a table.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import golden_inputs
import page_commands
from c_build import ROOT, compile_program
from controller_tools import command_environment
from helper_server import helper_server
from mem_cli import demo
from memscope_run import dumps
from page_commands import Command, Shell, program, search_path
from parser_run import names_folder
from stub_driver import Ascend
from tmux import Terminal

BIN = Path(sys.executable).parent
ENGLISH = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
CHINESE = {"README.zh-CN.md": "README.md"} | {
    f"docs/zh-CN/{path.name}": f"docs/{path.name}" for path in (ROOT / "docs/zh-CN").glob("*.md")
}
"""Pages in Chinese: where they tell what the English page tells, it is typed once."""
OTHERS = ["CONTRIBUTING.md", "examples/ci/README.md"]
LANGUAGES = {"python", "toml", "sql", "text"}
CORPUS = ROOT / "tests" / "fuzz" / "corpus"

NOT_TYPED = {
    "p = 1 - exp": "a formula",
    "countdown -= size;": "C",
    "#include <mem_profiler.h>": "C",
    "lower = ": "a formula",
    "P(X >= x)": "a formula",
    "/test/test.py     line:6": "what the Python code above it prints",
    "Direct Host memory leak of": "what a collection prints",
    "====== ERROR: Detected memory leaks": "what an analysis prints",
    "Direct Pytorch Caching memory pool": "what a collection prints",
    "memscopeDumpResults/\n": "a tree of folders",
    ",,,Base,Compare": "a file",
    "# Grafana Alloy": "another program's configuration",
    "scrape_configs:": "another program's configuration",
    "%load_ext mem_profiler": "cells of a notebook",
    "mem_parser REPORT FILE": "the form of all commands",
}
"""Beginnings of indented blocks that nobody types, and what they are."""

SSH = """
"$SSH" -F none -G "$@" >/dev/null || exit
while [ $# -gt 0 ]; do
    case $1 in -L) exit ;; -*) shift ;; *) shift; exec sh -c "$*" ;; esac
done
"""
SYSTEMCTL = """
for unit; do :; done
test -f "$SYSTEM/etc/systemd/system/${unit%.service}.service"
"""
MAKE = f"""
[ "$1" != demo ] || mkdir demo
exec {shutil.which("make")} -C {ROOT} -n "$@" >/dev/null
"""
STAND_INS = {
    "sudo": ('exec "$@"', "the test may be root, and no test asks for a password"),
    "ssh": (SSH, "another machine: the real ssh reads its options, the command runs here"),
    "systemctl": (SYSTEMCTL, "the units would be this machine's; test_serve_unit.py has ours"),
    "make": (
        MAKE,
        "minutes: rules are looked up; test_redis.py has the demo, test_clone.py a build",
    ),
    "python3.11": (f'exec {sys.executable} "$@"', "the Python that has mem_profiler"),
    "python3.9": (f'exec {sys.executable} "$@"', "an older one, which a machine may lack"),
}
"""Programs in front of PATH: what they do instead, and why."""

REPLACED = [
    (r"-s (60|600|5)\b", "-s 1", "a second is enough to capture"),
    (r"seconds=30\b", "seconds=1", "same"),
    (
        r"(?<![\w.])/(usr/local/lib/|etc/)",
        r"$SYSTEM/\1",
        "the machine's own folders stay as they are",
    ),
    (r"(?<![\w.])/data/", r"$PWD/data/", "same"),
    (r" && \. \.venv/bin/activate", "", "the commands are in PATH"),
    (r"\.venv/bin/", f"cd {ROOT} && {BIN}/", "the environment of this tree"),
    (r"bin/pytest ", "bin/pytest --collect-only -q ", "these tests run anyway"),
    (r"/tmp/try/bin/", f"{BIN}/", "same"),
    (r"-o /tmp/ls -- /bin/ls -lR /usr$", "-o $PWD/ls -- /bin/ls -lR /usr/lib/python3", "seconds"),
    (r"/tmp/ls", "$PWD/ls", "the machine's own folders stay as they are"),
    (r"^python3 -m venv .*_aarch64\.whl$", "true", "another machine's wheel; test_packaging.py"),
    (r'"\$MEM_PROFILER"', "'mem-profiler'", "it is installed"),
    (r"^pip install", "PIP_NO_INDEX=1 pip install", "all extras are installed: nothing is fetched"),
]
"""Patterns in commands, what is typed instead, and why."""

UNTIL_STOPPED = {"mem_profiler serve": r"http://|serve\.sock"}
"""Commands that run until Ctrl-C, and what they print when they are ready."""
SCREENS = {"mem_profiler live": "own", "mem_profiler run --live": "own"}
"""Commands that need a terminal, and what it shows."""


def typed(page: str) -> list[Command]:
    """The commands of a page; those that its English page has too are left out."""
    known = {command.text for command in typed(CHINESE[page])} if page in CHINESE else set()
    found = []
    for block in page_commands.blocks((ROOT / page).read_text(encoding="utf-8")):
        if block.is_indented and any(block.text.startswith(begin) for begin in NOT_TYPED):
            continue
        found += [
            command
            for command in page_commands.commands(block)
            if re.sub(r" *#.*", "", command.text) not in {re.sub(r" *#.*", "", k) for k in known}
        ]
    return found


TRAIN = """
import ctypes, os
acl = ctypes.CDLL(os.environ["ACL"])
acl.aclrtSetDevice(0)
#window import mem_profiler.memscope as msmemscope
#window msmemscope.start()
for step in range(12):
    block = ctypes.c_void_p()
    acl.aclrtMalloc(ctypes.byref(block), ctypes.c_size_t(4096), 0)
    if step % 3:
        acl.aclrtFree(block)
    #window msmemscope.step()
#window msmemscope.stop()
"""
# `parse_header` and `load_index` stand in the lines that docs/budgets.md shows.
SOURCES = {
    "header.c": "#include <stdlib.h>\n"
    + "\n" * 85
    + """void *parse_header(void) {
    void *volatile header = malloc(2048); return header;
}
""",
    "index.c": "extern void *parse_header(void); void *kept[20000];\n"
    + "\n" * 136
    + """static void load_index(int count) {
    while (count--) kept[count] = parse_header(); }
int main(int words, char **word) { (void)word; load_index(words > 1 ? 14000 : 5000); }
""",
}

SHOP = """
#include <stdlib.h>
#include <unistd.h>
static void *volatile kept;
static void copy_name(void) { kept = malloc(90); }
static void fill_cache(void) { for (int i = 0; i < 9; i++) kept = malloc(500); }
static void parse_order(void) { for (int i = 0; i < 30; i++) kept = malloc(60), copy_name(); }
#define RARE(name) static void name(void) { kept = malloc(500); }
RARE(a) RARE(b) RARE(c) RARE(d) RARE(e) RARE(f)
int main(void) {
    for (int i = 0;; i++) {
        usleep(1000), fill_cache(), parse_order();
        if (i % 64 == 0) a(), b(), c(), d(), e(), f();
    }
}
"""


class Stage:
    """What the pages name, in a folder: files, programs, services that run."""

    def __init__(self, folder: Path, held: ExitStack, segments: Path, commands: Path) -> None:
        self.folder, self.held = folder, held
        self.names: dict[str, str] = {}
        tools = folder / "tools"
        for name, (script, _reason) in STAND_INS.items():
            program(tools / name, f"#!/bin/sh\n{script}\n")
        system = folder / "system"
        for part in ("usr/local/lib", "etc/systemd/system", "etc/vulkan/implicit_layer.d"):
            (system / part).mkdir(parents=True)
        (folder / "runtime").mkdir(mode=0o700)
        (folder / "man").mkdir()
        (folder / "man" / "man1").symlink_to(ROOT / "release" / "man")
        ascend = Ascend.build()
        environment = command_environment() | {
            "PATH": search_path(tools, commands, BIN, folder), "HOME": str(folder),
            "SYSTEM": str(system),
            "XDG_RUNTIME_DIR": str(folder / "runtime"), "MEM_PROFILER_DIR": str(segments),
            "ACL": str(ascend.acl), "STUB_LEDGER": str(folder / "ledger"),
            "GITHUB_STEP_SUMMARY": str(folder / "github.md"), "TERM": "xterm-256color",
            "SSH": shutil.which("ssh") or "true", "MANPATH": str(folder / "man"),
            "MEM_PROFILER_CACHE": names_folder().name,
        }  # fmt: skip
        environment.pop("PYTHONPATH")
        self.shell = held.enter_context(Shell(folder, environment))
        self._programs(ascend)
        self._files()

    def _programs(self, ascend: Ascend) -> None:
        built = compile_program(
            ROOT / "tests/targets/budgeted.c", ("-std=gnu11", "-D_GNU_SOURCE", "-g")
        )
        for name in ("program", "my-service", "PROG"):
            program(self.folder / name, f"#!/bin/sh\nexec {built} hold 9000000 1\n")
        self._serving = built
        launching = ascend.launching_program()
        work = "set 0\\nmalloc 0 1000\\nfunction 1 6162\\nlaunch plain 1 0\\nfree 0\\n"
        program(self.folder / "infer", f"#!/bin/sh\nprintf '{work}' | {launching}\n")
        for name in ("bindings", "examples", "tests"):
            (self.folder / name).symlink_to(ROOT / name)
        for name in ("example.py", "script.py"):
            (self.folder / name).write_text("kept = [bytes(500) for _ in range(20_000)]\n")
        (self.folder / "pytest.ini").write_text("[pytest]\ntestpaths = test_budget.py\n")
        (self.folder / "test_budget.py").write_text(
            "import pytest\n@pytest.mark.mem_limit('24 MB')\ndef test_parse(): bytes(10_000)\n"
        )
        (self.folder / "train.py").write_text(TRAIN)
        (self.folder / "user.sh").write_text("python train.py\n")

    def _files(self) -> None:
        for name in ("FILE.heap", "OLD.heap", "out.heap", "shop.heap", "custom_prof.PID.1.heap"):
            self.golden("shop", "shop.heap", name)
        self.golden("shop", "more.heap", "NEW.heap")
        for part in ("0", "1"):
            for name in ("app", "custom_prof"):
                self.golden("log", f"x.1-{part}.memlog", f"{name}.4711.1-{part}.memlog")
        (self.folder / "CHECK.toml").write_text('[budget]\npeak = "64 MiB"\ninuse = "64 MiB"\n')

    def golden(self, kind: str, made: str, name: str) -> None:
        """An input of the golden tests under another name."""
        work = self.folder / "made" / kind
        if not work.exists():
            work.mkdir(parents=True)
            golden_inputs.INPUTS[kind][0](work)
        shutil.copy(work / made, self.folder / name)

    def start(self, *words: str | Path, preloaded: bool = True) -> subprocess.Popen[bytes]:
        """Start a program that runs until the test ends."""
        library = ROOT / "bindings/mem_profiler/libmem_sampler.so"
        environment = {"LD_PRELOAD": str(library)} if preloaded else {}
        return self.held.enter_context(demo.child([str(word) for word in words], environment))

    def service(self, *names: str) -> None:
        """A service that the page calls by these names; no other process has its own."""
        own = self.folder / f"svc{os.getpid()}"
        shutil.copy(self._serving, own)
        pid = self.start(own, "serve", "600000", "60000000").pid
        self.names |= {name: str(pid) if name.isupper() or name.isdigit() else own.name
                       for name in names}  # fmt: skip

    def redis(self, name: str, *, preloaded: bool) -> None:
        """A redis-server under the load of the demonstration, whose pid the page calls so."""
        port, log = demo.free_port(), self.folder / "redis.log"
        server = self.start(
            "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir",
            self.folder, "--logfile", log, "--maxmemory", demo.MAX_MEMORY, "--maxmemory-policy",
            "allkeys-lru", preloaded=preloaded,
        )  # fmt: skip
        demo.wait_for_server(server, port, log)
        ask = f"redis-benchmark -p {port} {demo.LOAD} -n 3000".replace(" -l ", " ")
        loop = f"while setpriv --pdeathsig KILL {ask}; do sleep 0.2; done"
        self.start("sh", "-c", loop, preloaded=False)
        self.names[name] = str(server.pid)

    def do(self, text: str) -> None:
        """Type a command of our own."""
        code, said = self.shell.type(text)
        assert code == 0, said

    def pair(self, host: str, device: str) -> None:
        """A capture of a program with a device: the host's file, and the device's."""
        self.do("mem_profiler run --device hal -o pair -- python train.py")
        [made] = self.folder.glob("pair.*.hal-0.heap")
        shutil.copy(made, self.folder / device)
        shutil.copy(str(made).replace(".hal-0", ""), self.folder / host)

    def collect(self, options: str) -> Path:
        """A collection of train.py; its dump."""
        (self.folder / "train.py").write_text(TRAIN.replace("#window ", ""))
        self.do(f"mem_profiler memscope {options} -- python train.py")
        [dump] = dumps(self.folder / "memscopeDumpResults")
        return dump.path

    def text(self, command: Command) -> str:
        """What is typed for a command, by the tables and the names of this page."""
        text = command.text
        for pattern, instead, _reason in REPLACED:
            text = re.sub(pattern, instead, text)
        for name, value in self.names.items():
            text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", value, text)
        return text


def _readme(stage: Stage) -> None:
    stage.redis("PID", preloaded=True)
    stage.names["10638"] = stage.names["PID"]
    stage.pair("HOST.heap", "DEVICE.heap")


def _attach(stage: Stage) -> None:
    stage.redis("4825", preloaded=False)


def _budgets(stage: Stage) -> None:
    for name, text in SOURCES.items():
        (stage.folder / "src").mkdir(exist_ok=True)
        (stage.folder / "src" / name).write_text(text)
    stage.do("gcc -g -O1 -fno-inline -o server src/*.c")
    (stage.folder / "CHECK.toml").write_text('[budget]\npeak = "64 MiB"\ninuse = "20 MiB"\n')
    stage.do("mem_profiler run -f -o FILE.heap -- ./program")
    stage.names["FILE.heap..."] = "FILE.heap"


def _devices(stage: Stage) -> None:
    stage.pair("custom_prof.4711.1.heap", "custom_prof.4711.1.hal-0.heap")
    stage.redis("PID", preloaded=False)


def _reports(stage: Stage) -> None:
    (stage.folder / "shop.c").write_text(SHOP)
    stage.do("gcc -g -O1 -fno-inline -o shop shop.c")
    pid = stage.start(stage.folder / "shop").pid
    stage.do(f"mem_profiler -s 1 -c 1024 -o shop -p {pid}; mv shop.{pid}.1.heap shop.heap")
    stage.pair("shop.4711.1.heap", "shop.4711.1.cuda-0.heap")


def _events(stage: Stage) -> None:
    stage.service("PID")


def _production(stage: Stage) -> None:
    stage.service("NAME")
    stage.names["FOLDER"] = "."


def _live(stage: Stage) -> None:
    stage.service("redis-server")
    (stage.folder / "script.py").write_text("kept = [bytes(500)] * 9\nimport time; time.sleep(6)\n")


def _leaks(stage: Stage) -> None:
    stage.service("PID")


def _driver_stats(stage: Stage) -> None:
    waits = "import time\nwhile True: kept = [bytes(300) for _ in range(200)]; time.sleep(0.01)\n"
    (stage.folder / "waits.py").write_text(waits)
    stage.names["PID"] = str(stage.start(BIN / "python", stage.folder / "waits.py").pid)
    stage.names["DIR"] = "."


def _memscope(stage: Stage) -> None:
    one = stage.collect("--analysis decompose")
    for name in ("data/base", "data/new"):
        (stage.folder / name).mkdir(parents=True)
        shutil.copy(one, stage.folder / name / one.name)
    shutil.copy(one, stage.folder / "data" / "run.csv")
    shutil.copy(one, stage.folder / "memscope_dump_1.csv")
    source = one.parents[2]
    kept = stage.folder / "out" / re.sub(r"_\d+_", "_4711_", source.name, count=1)
    shutil.copytree(source, kept)


def _memscope_torch(stage: Stage) -> None:
    one = stage.collect("--events alloc,free,traceback")
    shutil.copy(one, stage.folder / "memscope_dump_1.csv")
    [trace, *_] = stage.folder.rglob("python_trace_*.csv")
    shutil.copy(trace, stage.folder / "python_trace_77_1.csv")


def _python(stage: Stage) -> None:
    stage.redis("4711", preloaded=False)
    stage.pair("HOST.heap", "DEVICE.heap")


def _security(stage: Stage) -> None:
    stage.names |= {"NAME": "readers", "FILE": str(CORPUS / "readers" / "native")}


def _serve(stage: Stage) -> None:
    stage.service("4711")
    stage.do(f"mem_profiler start {stage.names['4711']}")
    stage.names["8080"] = str(demo.free_port())
    stage.names["PATH"] = str(stage.folder / "runtime/mem_profiler/serve.sock")


SETTINGS: dict[str, Callable[[Stage], None]] = {
    "README.md": _readme,
    "docs/attach.md": _attach,
    "docs/budgets.md": _budgets,
    "docs/devices.md": _devices,
    "docs/driver-stats.md": _driver_stats,
    "docs/events.md": _events,
    "docs/leaks.md": _leaks,
    "docs/live.md": _live,
    "docs/memscope.md": _memscope,
    "docs/memscope-torch.md": _memscope_torch,
    "docs/production.md": _production,
    "docs/python.md": _python,
    "docs/reports.md": _reports,
    "docs/security.md": _security,
    "docs/serve.md": _serve,
}
"""What runs and lies there for a page, beside what every page finds."""

PAGES = [page for page in (*ENGLISH, *CHINESE, *OTHERS) if typed(page)]


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of the commands, which begin at once."""
    with helper_server(tmp_path_factory.mktemp("commands"), "mem_parser", "mem_profiler") as folder:
        yield folder


@pytest.fixture
def stage(tmp_path: Path, segment_dir: Path, commands: Path) -> Iterator[Stage]:
    with ExitStack() as held:
        yield Stage(tmp_path, held, segment_dir, commands)


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_does_what_the_page_says(page: str, stage: Stage) -> None:
    SETTINGS.get(CHINESE.get(page, page), lambda _: None)(stage)
    for command in typed(page):
        text = stage.text(command)
        place = f"{page}:{command.line}: {command.text}"
        if begin := next((k for k in UNTIL_STOPPED if text.startswith(k)), None):
            said = stage.shell.start(text, UNTIL_STOPPED[begin])
            stage.names["token=..."] = "".join(re.findall(r"token=[\w-]+", said))
            continue
        if begin := next((k for k in SCREENS if text.startswith(k)), None):
            _look(stage, text, SCREENS[begin])
            continue
        code, said = stage.shell.type(text)
        assert code == command.exit_code, f"{place}: exit code {code}\n{said}"
        assert "does not provide the extra" not in said, f"{place}\n{said}"
        unlike = page_commands.unlike(command.shown, said)
        assert not unlike, f"{place}\nshown, and not printed: {unlike}\n{said}"
    assert set(stage.shell.stop()) <= {0, 130}


def _look(stage: Stage, text: str, shows: str) -> None:
    """Type a command in a terminal, wait for its screen, and leave by its key."""
    words = ["bash", "-c", re.sub(r" *#.*", "", text)]
    with Terminal(words, stage.shell.environment, folder=str(stage.folder)) as terminal:
        terminal.shows(shows)
        terminal.press("q")
        assert terminal.code == 0, terminal.text()


def test_every_block_of_every_page_is_typed_or_told_why_not() -> None:
    unknown, unused = [], set(NOT_TYPED)
    for page in [*ENGLISH, *CHINESE, *OTHERS]:
        for block in page_commands.blocks((ROOT / page).read_text(encoding="utf-8")):
            begins = {begin for begin in NOT_TYPED if block.text.startswith(begin)}
            unused -= begins
            if begins or block.language in LANGUAGES or any(page_commands.commands(block)):
                continue
            # A fence without a language and without prompts is a picture.
            if block.is_indented or block.language:
                unknown.append(f"{page}:{block.line}")
    assert unknown == []
    assert unused == set()


def test_a_misspelt_command_or_a_line_that_is_not_printed_is_seen(stage: Stage) -> None:
    [wrong] = page_commands.commands(next(page_commands.blocks("    mem_parser tpo FILE.heap\n")))
    assert stage.shell.type(wrong.text)[0] == 2
    shown = ("Total: 9.4 MiB ± 0.15 in use", "...", "12 rows")
    assert page_commands.unlike(shown, "Total: 812 KiB ± 3 in use\nno rows\n") == ["12 rows"]
