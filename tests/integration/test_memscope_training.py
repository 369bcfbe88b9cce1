"""Collections of real training loops: of the host's blocks tensors alone, each byte with the right
class, and a window with its trace and its watched blocks.
"""

import csv
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from c_build import compile_program
from controller_tools import command_environment, command_ok
from mem_cli.parser.group import cli
from mem_parser.memlog.events import Events
from mem_parser.memscope.logtail import LogTail
from memscope_run import collect, dumps
from torch_training import TRANSFORMER, Training, collected, trained

NEEDS_TORCH = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install .[torch]"
)
pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(300),
]
MOST_UNKNOWN = 0.02
CONVOLUTIONS = """
model = nn.Sequential(
    nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
    nn.Linear(16 * 7 * 7, 10),
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for number in range(4):
    optimizer.zero_grad()
    for part in range(2):
        x, y = torch.randn(8, 3, 16, 16), torch.randint(0, 10, (8,))
        nn.functional.cross_entropy(model(x), y).backward()
    optimizer.step()
    step(number + 1, model, optimizer)
"""
MIXED = """
model = nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.LayerNorm(256), nn.Linear(256, 8))
optimizer = torch.optim.AdamW(model.parameters())
loss_of = nn.MSELoss()
for number in range(4):
    optimizer.zero_grad()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model(torch.randn(32, 64)).float(), torch.zeros(32, 8))
    loss.backward()
    optimizer.step()
    step(number + 1, model, optimizer)
"""
RANKS = """
import torch.distributed as dist
dist.init_process_group(
    "gloo", init_method=f"file://{folder}/../meeting", rank=int(sys.argv[2]), world_size=2
)
model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 8))
WRAP
optimizer = torch.optim.Adam(model.parameters())
for number in range(3):
    optimizer.zero_grad()
    model(torch.randn(16, 64)).square().mean().backward()
    optimizer.step()
    step(number + 1, model, optimizer)
dist.destroy_process_group()
"""
DATA_PARALLEL = "model = nn.parallel.DistributedDataParallel(model)"
# FullyShardedDataParallel, the older one, refuses to run without an accelerator.
FULLY_SHARDED = """
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

def held(tensors):
    shards = [getattr(t, "_local_tensor", t) for t in tensors]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in shards}
    return sum(size for address, size in storages.items() if address)

mesh = init_device_mesh("cpu", (2,))
for part in (model[0], model[2], model):
    fully_shard(part, mesh=mesh)
"""


def share_unknown(training: Training) -> float:
    sums = training.sums()
    unknown = sums.names.index("unknown")
    moments = [sums.peak, *(s.end for s in sums.steps), *(s.peak for s in sums.steps)]
    return max(int(m.bytes[unknown]) / m.total for m in moments)


def is_whole(training: Training) -> None:
    """The classes of each moment add up to the pool, to the byte."""
    blocks, sums = training.blocks, training.sums()
    steps = [row.time_ns for row in training.rows if row.type == "STEP"]
    for step, end_ns in zip(sums.steps, steps, strict=True):
        for moment in (step.end, step.peak):
            at_ns = end_ns if moment is step.end else moment.at
            live = (blocks.born_ns <= at_ns) & (blocks.died_ns > at_ns)
            assert int(moment.bytes.sum()) == moment.total == int(blocks.size[live].sum())


def by_class(training: Training) -> list[dict[str, int]]:
    sums = training.sums()
    return [
        dict(zip(sums.names, step.end.bytes.tolist(), strict=True)) | {"all": step.end.total}
        for step in sums.steps
    ]


@NEEDS_TORCH
@pytest.mark.parametrize(
    ("loop", "access"),
    [
        (CONVOLUTIONS, True),
        (MIXED, False),
        *(
            pytest.param(loop, access, marks=pytest.mark.soak)
            for loop, access in ((CONVOLUTIONS, False), (MIXED, True))
        ),
        *(pytest.param(TRANSFORMER, access, marks=pytest.mark.soak) for access in (True, False)),
    ],
)
def test_classes_are_to_the_byte_what_pytorch_holds_at_each_step(
    loop: str, access: bool, tmp_path: Path
) -> None:
    [training] = trained(loop, tmp_path, access=access)
    found = by_class(training)
    assert len(found) == len(training.said) == 4
    for step, said in zip(found, training.said, strict=True):
        assert {name: step[name] for name in said} == said
    assert share_unknown(training) < MOST_UNKNOWN
    sums = training.sums()
    activation = sums.names.index("activation")
    # Live when backward begins, and gone when the step ends.
    assert all(s.peak.bytes[activation] >= s.end.bytes[activation] for s in sums.steps)


@NEEDS_TORCH
@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(DATA_PARALLEL, id="ddp"),
        pytest.param(FULLY_SHARDED, id="fsdp", marks=pytest.mark.soak),
    ],
)
def test_ranks_have_classes_each(wrap: str, tmp_path: Path) -> None:
    for training in trained(RANKS.replace("WRAP", wrap), tmp_path, ranks=2):
        found = by_class(training)
        assert len(found) == 3
        for step, said in zip(found, training.said, strict=True):
            for name in ("weight", "gradient", "optimizer_state"):
                assert step[name] == said[name] > 0
        is_whole(training)
        assert share_unknown(training) < MOST_UNKNOWN


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
    run = collect(tmp_path, "--device", "cpu", program=program, do=WORK)
    stories = [[(event, size) for event, _, size in d.story()] for d in dumps(run.output, "cpu")]
    assert sorted(stories, key=len) == [[("MALLOC", 3000), ("FREE", 3000)], STORY]
    # The others were not even in the rings, whose room is for tensors.
    assert logged_sizes(run.output) <= {5000, 700, 64, 3000, 0}


def test_a_program_without_pytorch_has_no_rows_of_the_host(tmp_path: Path) -> None:
    run = collect(tmp_path, "--device", "cpu,npu", do=("set 0", "malloc 0 1000", "free 0"))
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


WINDOW = """\
import sys
import torch
from torch import nn
import mem_profiler.memscope as msmemscope

msmemscope.config(
    device="cpu", analysis="decompose", events="alloc,free,launch,access,traceback",
    watch="aten.addmm,aten.mean", output=sys.argv[1],
)

def train(model, optimizer):
    optimizer.zero_grad()
    model(torch.randn(32, 64)).square().mean().backward()
    optimizer.step()

# What PyTorch imports at the first step would be most of the log.
warm = nn.Linear(64, 1)
train(warm, torch.optim.Adam(warm.parameters()))
msmemscope.start()
model = nn.Linear(64, 128)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    with msmemscope.RecordFunction("round"):
        train(model, optimizer)
    msmemscope.step()
msmemscope.stop()
torch.ones(5)
"""
WEIGHT_BYTES = (64 * 128 + 128) * 4
CHILD = """\
import torch
torch.ones(1000).add(1)
"""


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of the run, and what the program said on standard error."""
    folder = tmp_path_factory.mktemp("window")
    script = folder / "train.py"
    script.write_text(WINDOW)
    done = subprocess.run(
        [sys.executable, script, folder / "out"], env=command_environment(), cwd=folder,
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    [run] = (folder / "out").glob("msmemscope_*_ascend")
    return run, done.stderr


def dump_of(run: Path) -> Path:
    [path] = (run / "device_cpu" / "dump").glob("memscope_dump_*.csv")
    return path


@NEEDS_TORCH
def test_the_classes_of_a_window_are_those_of_the_model(window: tuple[Path, str]) -> None:
    shown = CliRunner().invoke(cli, ["memscope", "--json", str(dump_of(window[0]))])
    assert shown.exit_code == 0, shown.output
    [pool] = json.loads(shown.stdout)["files"][0]["pools"]
    assert [step["step"] for step in pool["steps"]] == ["1", "2", "3"]
    for step in pool["steps"]:
        found = step["end"]["bytes"]
        assert found["weight"] == found["gradient"] == WEIGHT_BYTES
        # Two states of each weight, and a count of steps.
        assert found["optimizer_state"] == 2 * WEIGHT_BYTES + 2 * 4
        assert found["unknown"] < 0.02 * step["end"]["total_bytes"]
    owners = dump_of(window[0]).read_text().count("owner:HOST@activation@aten")
    # The result of the layer, and what the square needs again.
    assert owners >= 3 * 2


@NEEDS_TORCH
def test_accesses_name_the_block_that_was_accessed(window: tuple[Path, str]) -> None:
    with dump_of(window[0]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    blocks = {}
    for row in rows:
        if row["Event"] == "MALLOC":
            blocks[row["Attr"].split(",")[0].partition(":")[2]] = row["Ptr"]
    accesses = [
        row for row in rows if row["Event"] == "ACCESS" and row["Name"] == "aten.addmm.default"
    ]
    assert len(accesses) == 3 * 4
    inside = [a for a in accesses if "allocation_id" in a["Attr"]]
    assert len(inside) == len(accesses)
    for access in inside:
        number = access["Attr"].split(",")[0].partition(":")[2]
        assert blocks[number] == access["Ptr"]
    assert not [row for row in rows if row["Name"] == "aten.ones.default"]


@NEEDS_TORCH
def test_the_trace_has_functions_and_named_parts(window: tuple[Path, str], tmp_path: Path) -> None:
    [trace] = (window[0] / "device_cpu" / "dump").glob("python_trace_*.csv")
    with trace.open(newline="") as file:
        names = [row["FuncInfo"] for row in csv.DictReader(file)]
    assert names.count("round") == 3
    assert sum(name.endswith("): train") and "train.py(" in name for name in names) == 3
    out = tmp_path / "x.json"
    shown = CliRunner().invoke(
        cli, ["memscope", "--trace", "-o", str(out), str(dump_of(window[0])), str(trace)]
    )
    assert shown.exit_code == 0, shown.output
    events = json.loads(out.read_text())["traceEvents"]
    rounds = [e for e in events if e["name"] == "round"]
    steps = [e for e in events if e["name"] == "aten.addmm.default"]
    for part, step in zip(rounds, steps, strict=True):
        assert part["ts"] <= step["ts"] <= step["ts"] + step["dur"] <= part["ts"] + part["dur"]


@NEEDS_TORCH
def test_outputs_of_an_operator_were_watched(window: tuple[Path, str]) -> None:
    folder = window[0] / "device_cpu" / "watch_dump"
    [sums] = folder.glob("watch_dump_data_check_sum_*.csv")
    with sums.open(newline="") as file:
        names = [row["Tensor info"] for row in csv.DictReader(file)]
    assert any("aten.pow" in name and name.endswith("-aten.addmm_0_before") for name in names)
    assert names[-1].endswith("-aten.addmm_0_after")
    assert "aten.mean" in names[-1]
    assert "operators are not recorded" not in window[1]


@NEEDS_TORCH
def test_a_program_of_the_command_is_collected_without_a_word_of_it(tmp_path: Path) -> None:
    script, other = tmp_path / "app.py", tmp_path / "other"
    script.write_text(CHILD)
    other.mkdir()
    (other / "sitecustomize.py").write_text("import builtins\nbuiltins.other_was_here = True\n")
    script.write_text(CHILD + "assert other_was_here\n")
    command_ok(
        "memscope", "--device", "cpu", "-o", tmp_path / "out", "--", sys.executable, script,
        variables={"PYTHONPATH": os.fspath(other)}, cwd=tmp_path,
    )  # fmt: skip
    [run] = (tmp_path / "out").glob("msmemscope_*_ascend")
    text = dump_of(run).read_text()
    assert "OP_LAUNCH,ATEN_START,aten.ones.default" in text
    assert "OP_LAUNCH,ATEN_END,aten.add.Tensor" in text
