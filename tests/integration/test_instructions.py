"""Instructions of the hot path, stepped one by one: the same numbers on a busy machine."""

import os
import platform
import subprocess
from pathlib import Path

import pytest

from sampler_run import SAMPLER, WAIT_S, build

pytestmark = [
    pytest.mark.usefixtures("sampler"),
    pytest.mark.skipif(platform.machine() != "x86_64", reason="bounds of x86-64"),
    pytest.mark.skipif("CFLAGS" in os.environ, reason="bounds of the default build"),
]
PAIRS = 25
SELDOM = 1 << 40

# Rate and frames -> most instructions of a malloc and its free in the sampler, and how many lock
# the bus. Some room is left for other builds of the compiler.
BOUNDS = {
    (None, 24): (34, 0),
    (SELDOM, 24): (34, 0),
    (1, 5): (1490, 10),
    (1, 24): (1610, 10),
    (1, 100): (2110, 10),
}


@pytest.mark.parametrize(("rate", "depth"), BOUNDS)
def test_a_pair_takes_no_more_instructions(rate: int | None, depth: int, tmp_path: Path) -> None:
    settings = {"STEPPED_PRELOAD": str(SAMPLER), "MEM_PROFILER_DIR": str(tmp_path)}
    if rate is not None:
        settings["MEM_PROFILER_START"] = str(rate)
    stepped = subprocess.run(
        [build("stepped.c"), str(depth), str(PAIRS)],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert stepped.returncode == 0, stepped.stdout
    rows = [[int(number) for number in line.split()] for line in stepped.stdout.splitlines()]
    assert len(rows) == PAIRS
    inside, atomic, _ = map(min, zip(*rows, strict=True))  # a later time bucket costs once
    most, most_atomic = BOUNDS[rate, depth]
    assert inside <= most
    assert atomic <= most_atomic
