"""What reading source lines costs: time and memory for the call sites of one program.

    python tests/bench/lines.py PROGRAM DEBUG_FILE [--most N]

PROGRAM may be its own DEBUG_FILE. The reader is the child process that reports use.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "parser"), str(ROOT / "tests" / "support")]


def main() -> None:
    from line_oracle import call_sites
    from mem_parser.symbols.dwarf import read_lines
    from mem_parser.symbols.elf import ElfImage

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("debug_file", type=Path)
    parser.add_argument("--most", type=int, default=500, help="so many call sites, by chance")
    chosen = parser.parse_args()
    addresses = call_sites(chosen.program, chosen.most)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    lines = read_lines(ElfImage.open(str(chosen.debug_file)), addresses, [str(chosen.program)])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = len(lines.frames) if lines is not None else 0
    print(
        f"{chosen.debug_file.stat().st_size / 1e6:.0f} MB, {len(addresses)} addresses:"
        f" {found} with lines, {cpu_s:.1f} s CPU, {after.ru_maxrss / 1024:.0f} MiB"
    )


if __name__ == "__main__":
    main()
