"""Real training loops: each byte of PyTorch's tensors has a class, and the right one."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from torch_training import TRANSFORMER, Training, trained

pytestmark = [
    pytest.mark.usefixtures("sampler", "segment_dir", "quick_helper"),
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("torch") is None,
        reason="torch is not installed: pip install .[torch]",
    ),
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
