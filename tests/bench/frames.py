"""A program of data frames, for the size of its capture: read_csv, groupby and merge for 3 seconds.

python -m venv frames && frames/bin/pip install pandas
mem_profiler run -c 1024 --plain -- frames/bin/python tests/bench/frames.py
"""

from __future__ import annotations

import io
import time

import numpy as np
import pandas as pd  # type: ignore[import-not-found]

ROWS = 300_000
SECONDS = 3.0


def main() -> None:
    """Read, group and merge until the time is over."""
    rng = np.random.default_rng(1)
    frame = pd.DataFrame(
        {
            "key": rng.integers(0, 5000, ROWS),
            "name": rng.choice([f"name{i}" for i in range(2000)], ROWS),
            "x": rng.normal(size=ROWS),
            "y": rng.integers(0, 100, ROWS),
        }
    )
    text = frame.to_csv(index=False)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        read = pd.read_csv(io.StringIO(text))
        read.groupby("key").agg({"x": ["mean", "std"], "y": "sum"})
        span = read.groupby("name")["x"].apply(lambda x: x.max() - x.min())
        read.merge(span.rename("span").reset_index(), on="name").sort_values("span")


main()
