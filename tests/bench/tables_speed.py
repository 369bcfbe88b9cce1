"""Tables of a long log: `tables_speed.py [--events N]` prints times, sizes and memory as Markdown.

The log is that of `memlog_speed.py`. Each line is a command of its own; memory is its process's
most resident memory.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "parser"), str(ROOT / "tests" / "support")]

import memlog_speed  # noqa: E402

BY_STACK = (
    "SELECT stack, count(*), sum(bytes) AS bytes FROM {events} WHERE kind = 'birth'"
    " GROUP BY stack ORDER BY bytes DESC LIMIT 10"
)
SHORT = (
    "SELECT function, count(*), sum(bytes) AS bytes FROM blocks JOIN stacks USING (file, stack)"
    " WHERE lifetime_ns < 1000000 GROUP BY function ORDER BY bytes DESC LIMIT 10"
)
DUCKDB = "import duckdb, sys; print(duckdb.connect().execute(sys.argv[1]).fetchall())"


def measured(*words: str | Path) -> str:
    """Run python with these words: time, processor time and memory, as cells of a table."""
    begin = time.monotonic()
    environment = os.environ | {"PYTHONPATH": f"{ROOT / 'parser'}{os.pathsep}{ROOT / 'cmd'}"}
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    arguments = [sys.executable, *map(str, words)]
    child = os.posix_spawn(sys.executable, arguments, environment, file_actions=quiet)
    _, status, use = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{words} ended with {os.waitstatus_to_exitcode(status)}")
    used_s = use.ru_utime + use.ru_stime
    return f"{time.monotonic() - begin:.1f} s | {used_s:.1f} s | {use.ru_maxrss >> 10} MiB"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--only-write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    wanted = given.events
    if given.only_write:
        memlog_speed.write_log(
            given.only_write, memlog_speed.simulated(min(wanted, 2_000_000)), wanted
        )
        return
    mem_parser = ("-m", "mem_cli.parser.group")
    with tempfile.TemporaryDirectory() as folder:
        log, out = Path(folder) / "x.1-0.memlog", Path(folder) / "x.parquet"
        # In a process of its own: a child's memory begins with that of its parent.
        measured(__file__, "--events", str(wanted), "--only-write", log)
        print(f"{wanted} events, {os.stat(log).st_size >> 20} MiB\n")
        print("| | time | processor time | memory |\n|---|---|---|---|")
        print(f"| `convert -o x.parquet` | {measured(*mem_parser, 'convert', log, '-o', out)} |")
        for name, query in (
            ("events by stack", BY_STACK.format(events="events")),
            ("short lives", SHORT),
        ):
            print(f"| `query`, {name} | {measured(*mem_parser, 'query', query, log)} |")
        query = BY_STACK.format(events=f"'{out / 'events.parquet'}'")
        print(f"| DuckDB on `events.parquet`, the same | {measured('-c', DUCKDB, query)} |")
        trace = Path(folder) / "x.perfetto.json"
        cells = measured(*mem_parser, "convert", log, "-o", trace)
        print(f"| `convert -o x.perfetto.json` | {cells} |\n")
        for file in sorted(out.iterdir(), key=lambda f: -f.stat().st_size)[:3]:
            print(f"{file.name}: {file.stat().st_size >> 20} MiB")


if __name__ == "__main__":
    main()
