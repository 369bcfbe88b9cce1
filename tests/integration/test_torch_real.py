"""Real programs of numpy and torch: their memory counts for the line that asked for it, and with
--nn-modules for the layer. What needs torch runs where it is installed (`pip install .[torch]`).
"""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from controller_tools import command_ok
from parser_run import told

pytestmark = [pytest.mark.usefixtures("sampler", "segment_dir"), pytest.mark.timeout(240)]
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="torch is not installed: pip install .[torch]"
)
MIB = 1 << 20
ARRAYS = """\
import numpy as np
kept = []
def make():
    kept.append(np.zeros(1 << 20))
    kept.append(kept[0] + 1)
    kept.append(np.concatenate([kept[0], kept[1]]))
    kept.append(kept[0].astype(np.float32))
    kept.append(np.sort(kept[0]))
make()
"""
ARRAYS_MIB = {4: 8, 5: 8, 6: 16, 7: 4, 8: 8}
TRAINING = """\
import torch
from torch import nn

class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.steps = nn.Sequential(nn.Linear(64, 4096), nn.GELU())
        self.image = nn.Conv2d(1, 16, 3, padding=1)

    def forward(self, x, y):
        return self.steps(x) + 1, self.image(y)

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()
        self.block.register_forward_hook(lambda *_: None)

    @torch.no_grad()
    def forward(self, x, y):
        return self.block(x, y)

def train():
    model, kept = Model(), []
    for _ in range(4):
        kept.append(model(torch.ones(256, 64), torch.ones(16, 1, 64, 64)))
    model.train()
    out, _ = model.block(torch.ones(256, 64), torch.ones(1, 1, 64, 64))
    kept.append(out)
    out.sum().backward()
    return kept

kept = train()
"""


def captured(text: str, folder: Path) -> Path:
    script = folder / "prog" / "app.py"
    script.parent.mkdir()
    script.write_text(text)
    heap = folder / "out.heap"
    command_ok("run", "-c", "64K", "-o", heap, "--", sys.executable, script)
    return heap


def rows(*words: object) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(told(*words, "--json", "-n", "0"))["rows"]
    return found


def test_arrays_count_for_the_line_that_makes_them(tmp_path: Path) -> None:
    heap = captured(ARRAYS, tmp_path)
    found = {r.get("line"): r for r in rows("top", heap, "--lines", "--alloc", "--focus", "^make$")}
    for line, mib in ARRAYS_MIB.items():
        row = found[line]
        assert row["function"] == "make (prog/app.py)"
        assert row["flat"] == pytest.approx(mib * MIB, rel=0.05)


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return captured(TRAINING, tmp_path_factory.mktemp("torch"))


@needs_torch
def test_tensors_count_for_the_layer_or_the_programs_own_forward(training: Path) -> None:
    def owned(*options: str) -> dict[str, float]:
        found = rows("top", training, "--alloc", "--focus", "^train$", *options)
        return {r["function"]: r["flat"] / MIB for r in found if r["flat"] >= MIB}

    plain, folded = owned(), owned("--nn-modules")
    # Five results of 256 x 4096 floats of each of Linear, GELU and the addition.
    assert plain["Block.forward (prog/app.py)"] > 60
    # Kernels take memory of their own for a while.
    for layer in ("Linear() (modules/linear.py)", "GELU() (modules/activation.py)"):
        assert 19 < folded[layer] < 30
    assert 19 < folded["Block() (prog/app.py)"] < 30
    assert folded["Conv2d() (modules/conv.py)"] >= 15
    assert not any("forward" in name for name in folded)


@needs_torch
def test_the_stack_of_a_model_reads_as_the_model(training: Path) -> None:
    text = told("tree", training, "--nn-modules", "--alloc", "--focus", r"^Linear\(\)$", "-n", 0)
    names = ("train (prog", "Model() (", "Block() (", "Sequential() (", "Linear() (")
    places = [text.index(name) for name in names]
    assert places == sorted(places)
    for name in ("_call_impl", "decorate_context", ".forward"):
        assert name not in text
