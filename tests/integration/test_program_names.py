"""Programs under other names than their files', and a stripped one, on real processes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from controller_tools import Stepper, build_stepper, run_command
from parser_run import parse

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(120)]
SOURCE = """
#include <stdlib.h>
#define PLACE __attribute__((noinline, noclone))
static void *volatile lost;
PLACE void first(void) { lost = malloc(1000); __asm__ volatile(""); }
PLACE void second(void) { lost = malloc(300); first(); __asm__ volatile(""); }
PLACE void third(void) { lost = malloc(70); second(); __asm__ volatile(""); }
int main(void) {
    for (int i = 0; i < 100; i++)
        third();
    return 0;
}
"""


@pytest.fixture(scope="module")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.mark.parametrize(
    ("way", "name"),
    [
        ("link", "a-link-with-a-long-name"),
        ("exec", "web-server"),
        ("exec", "web-server: worker 3"),
        ("exec", "web\x1b[2J\nserver"),
        ("exec", ""),
    ],
)
def test_a_process_has_the_name_it_was_started_by(
    stepper: Path, tmp_path: Path, way: str, name: str
) -> None:
    program, prefix = stepper, ("bash", "-c", f"exec -a '{name}' \"$0\"")
    if way == "link":
        program, prefix = tmp_path / name, ()
        program.symlink_to(stepper)
    shown = {"web-server: worker 3": "web-server", "": "stepper"}.get(name)
    shown = shown or name.replace("\x1b", "\\x1b").replace("\n", "\\n")
    with_file = shown if not name else f"{shown} (file: stepper)"
    with Stepper(program, prefix=prefix) as target:
        assert run_command("start", target.pid, "-c", "1").returncode == 0
        target.tell("a 7 100")
        assert f"  {shown}  " in run_command("ps", variables={"COLUMNS": "200"}).stdout
        assert f" {with_file}, 1 thread\n" in run_command("doctor", target.pid).stdout
        done = run_command("stop", target.pid, "-o", tmp_path / "p")
        assert done.returncode == 0, done.stderr
        done = run_command("-s", "0.1", "-c", "1", target.pid, "-o", tmp_path / "q")
        facts = f"pid {target.pid}, file: stepper, " if name else f"pid {target.pid}, "
        assert done.stderr.startswith(f"{shown} ({facts}"), done.stderr
    [heap] = tmp_path.glob("p*.heap")
    for words in ([heap], ["-f", heap, "-t"]):
        lines = parse(*words).stdout.splitlines()
        assert [line for line in lines if line.startswith("Program: ")] == (
            [f"Program: {with_file}"] if name else []
        )
    assert parse("flamegraph", heap, "-o", tmp_path / "x.html").returncode == 0
    page = (tmp_path / "x.html").read_text()
    assert json.dumps(f"{shown} (pid {target.pid})")[1:-1] in page


def test_a_stripped_program_has_one_row_with_the_bytes_of_its_functions(tmp_path: Path) -> None:
    (tmp_path / "p.c").write_text(SOURCE)
    subprocess.run(["cc", "-O1", "-g", "-o", "plain", "p.c"], check=True, timeout=60, cwd=tmp_path)
    subprocess.run(["strip", "-s", "-o", "file", "plain"], check=True, timeout=60, cwd=tmp_path)
    (tmp_path / "service").symlink_to("file")
    for name in ("plain", "service"):
        done = run_command("run", "-c", "1", "-o", tmp_path / f"{name}.heap", "--", tmp_path / name)
        assert done.returncode == 0, done.stderr
    assert done.stderr.endswith(" -s -o service.svg\n")
    record = json.loads(parse("summary", tmp_path / "plain.heap", "--json").stdout)
    own = {row["function"]: row["own"] for row in record["rows"] if row["own"]}
    assert own == {"first": 100_000, "second": 30_000, "third": 7000}

    heap = tmp_path / "service.heap"
    row = "unnamed functions of service"
    table = parse("-f", heap, "-t", "--bytes").stdout
    assert f"{137_000:>10}  100.0%  100.0% {137_000:>10}  100.0%  {row}\n" in table
    for words in ([heap], ["top", heap], ["tree", heap], ["graph", heap]):
        text = parse(*words).stdout
        assert row in text
        assert "file+0x" not in text
    hint = parse("summary", heap).stdout.partition("Functions without a name: service (")[2]
    assert hint.splitlines()[1:] == [
        "  symbols of service: -p UNSTRIPPED, the same build with symbols",
        "1 caller without own memory hidden. Use -n 0 to show all.",
    ]
    # What scripts read has the addresses, and so has who asks for them.
    raw = json.loads(parse("summary", heap, "--json").stdout)["rows"]
    assert sorted(r["own"] for r in raw if r["own"]) == sorted(own.values())
    for words in (["top", heap, "--csv"], ["-f", heap, "-t", "--start-frames"], ["leaks", heap]):
        assert "file+0x" in parse(*words).stdout
    shutil.copy(tmp_path / "plain", tmp_path / "named")
    assert row not in parse("-p", tmp_path / "named", heap).stdout
