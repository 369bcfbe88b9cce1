"""The host's memory in a collection: of all its blocks, PyTorch's tensors alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from c_build import compile_program
from mem_cli.parser.group import cli
from mem_parser.memlog.events import Events
from mem_parser.memscope.logtail import LogTail
from memscope_run import Collecting, dumps
from torch_training import collected

pytestmark = [pytest.mark.usefixtures("segment_dir"), pytest.mark.timeout(240)]
LIBRARY = """
#include <stdlib.h>
void *_ZN3c109alloc_cpuEm(size_t bytes) {
    void *block = NULL;
    return posix_memalign(&block, 64, bytes) == 0 ? block : NULL;
}
"""
PROGRAM = """
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
static void *(*tensor)(size_t);
static void *blocks[16];
int main(int argc, char **argv) {
    char word[16];
    unsigned slot, bytes;
    while (scanf("%15s %u %u", word, &slot, &bytes) == 3) {
        if (strcmp(word, "open") == 0)
            tensor = (void *(*)(size_t))dlsym(dlopen(argv[argc - 1], RTLD_NOW),
                                              "_ZN3c109alloc_cpuEm");
        else if (strcmp(word, "tensor") == 0)
            blocks[slot] = tensor(bytes);
        else if (strcmp(word, "block") == 0)
            blocks[slot] = malloc(bytes);
        else if (strcmp(word, "aligned") == 0)
            blocks[slot] = aligned_alloc(64, bytes);
        else if (strcmp(word, "grown") == 0)
            blocks[slot] = realloc(blocks[slot], bytes);
        else if (strcmp(word, "free") == 0)
            free(blocks[slot]);
        else if (strcmp(word, "child") == 0 && fork() == 0) {
            free(tensor(bytes));
            free(malloc(bytes + 1));
            _exit(0);
        }
        if (strcmp(word, "child") == 0)
            wait(NULL);
        printf("0\\n");
        fflush(stdout);
    }
    return 0;
}
"""
WORK = ("block 0 1000", "open 0 0", "tensor 1 5000", "block 2 5000", "aligned 3 6400", "free 0 0",
        "tensor 4 700", "free 1 0", "grown 4 900", "free 2 0", "child 0 3000", "tensor 5 64",
        "free 5 0")  # fmt: skip
STORY = [("MALLOC", 5000), ("MALLOC", 700), ("FREE", 5000), ("FREE", 700), ("MALLOC", 64),
         ("FREE", 64)]  # fmt: skip


@pytest.fixture(name="program")
def _program(tmp_path: Path) -> tuple[Path, Path]:
    """A program, and what it opens as PyTorch's library."""
    for name, text in (("c10.c", LIBRARY), ("tensors.c", PROGRAM)):
        (tmp_path / name).write_text(text)
    built = compile_program(tmp_path / "c10.c", ("-O2", "-shared", "-fPIC"))
    library = tmp_path / "libc10.so"
    library.symlink_to(built)
    return compile_program(tmp_path / "tensors.c", ("-O1",), libs=("-ldl",)), library


def logged_sizes(output: Path) -> set[int]:
    """Sizes of all blocks in the logs of a collection."""
    logs = sorted(map(str, output.glob("*/events/*.memlog")))
    pieces = [piece for _, piece in LogTail(paths=logs).take(final=True)]
    return {int(n) for p in pieces if isinstance(p, Events) for n in p.size_bytes}


def test_of_the_hosts_blocks_tensors_alone_are_collected(
    tmp_path: Path, program: tuple[Path, Path]
) -> None:
    with Collecting(tmp_path, "--device", "cpu", program=program) as run:
        assert set(run.do(*WORK)) == {0}
        assert run.end() == 0, run.stderr
    stories = [[(event, size) for event, _, size in d.story()] for d in dumps(run.output, "cpu")]
    assert sorted(stories, key=len) == [[("MALLOC", 3000), ("FREE", 3000)], STORY]
    # The others were not even in the rings, whose room is for tensors.
    assert logged_sizes(run.output) <= {5000, 700, 64, 3000, 0}


def test_a_program_without_pytorch_has_no_rows_of_the_host(tmp_path: Path) -> None:
    with Collecting(tmp_path, "--device", "cpu,npu") as run:
        assert set(run.do("set 0", "malloc 0 1000", "free 0")) == {0}
        assert run.end() == 0, run.stderr
    assert dumps(run.output, "cpu") == []
    [driver] = dumps(run.output, "0")
    assert [event for event, _, _ in driver.story()] == ["MALLOC", "FREE"]


@pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install .[torch]"
)
@pytest.mark.parametrize(
    ("form", "options"),
    [
        *(
            pytest.param(form, options, marks=pytest.mark.soak)
            for form, options in (("csv", ()), ("csv", ("--call-stack", "python,c")), ("db", ()))
        ),
        ("db", ("--call-stack", "python,c")),
    ],
)  # fmt: skip
def test_a_training_is_collected_from_its_first_import(
    tmp_path: Path, form: str, options: tuple[str, ...]
) -> None:
    run = collected(tmp_path, "--format", form, *options)
    assert "warning" not in run.stderr, run.stderr
    [dump] = dumps(tmp_path / "out", "cpu", form)
    shown = CliRunner().invoke(cli, ["memscope", "--json", str(dump.path)])
    assert shown.exit_code == 0, shown.output
    [file] = json.loads(shown.stdout)["files"]
    [pool] = file["pools"]
    assert (pool["device"], pool["pool"]) == ("cpu", "HOST")
    for step, tensors in zip(pool["steps"], run.said, strict=True):
        found = step["end"]["bytes"] | {"all": step["end"]["total_bytes"]}
        assert {name: found.get(name, 0) for name in tensors} == tensors
    assert pool["peak"]["bytes"].get("unknown", 0) < 0.02 * pool["peak"]["total_bytes"]
    # What the program keeps from step to step, and frees when it ends.
    leaks = [line for line in run.stderr.splitlines() if line.startswith("Direct Host memory leak")]
    assert [line.rpartition(" at ")[2] for line in leaks] == ["step 2.", "step 3."]
    assert any("train.py" in row["Call Stack(Python)"] for row in dump.rows) == bool(options)
