"""What the sampler costs, and what others cost: `make bench`.

    bench.py [--quick] [--json FILE] [--record] [--only SECTION]... [--no-install] [--sampler LIB]
    bench.py --render

Builds what it needs, installs the peers where it may, runs ours and theirs in turns, prints tables
and writes every single measurement as JSON (build/bench/result.json, or FILE). --record also puts
tables and measurements into docs/performance.md and docs/performance.json. --quick takes less than
two minutes and leaves out depths, the long redis pairs and the largest snapshot. --only with
--record renews these sections and keeps the others of the document; --render measures nothing and
makes tables and bars again from docs/performance.json.

Reading order: rounds (how things are compared), tools (what is run), churn, unwinders, redis_load,
serving_viewers, live_refresh, interpreter, programs, pyfiles, events, holding, parsing (what is
measured), bars, report and pyreport (what comes out).
"""

from __future__ import annotations

import argparse
import datetime as dt
import itertools
import json
import os
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import bars  # noqa: E402
import churn  # noqa: E402
import events  # noqa: E402
import holding  # noqa: E402
import interpreter  # noqa: E402
import live_refresh  # noqa: E402
import parsing  # noqa: E402
import programs  # noqa: E402
import pyfiles  # noqa: E402
import redis_load  # noqa: E402
import report  # noqa: E402
import serving_viewers  # noqa: E402
import tools  # noqa: E402
import unwinders  # noqa: E402

SECTIONS = {
    "churn": churn.measure,
    "unwind": unwinders.measure,
    "redis": redis_load.measure,
    "serve": serving_viewers.measure,
    "live": live_refresh.measure,
    "python": interpreter.measure,
    "programs": programs.measure,
    "pyfiles": pyfiles.measure,
    "events": events.measure,
    "memory": holding.memory,
    "snapshot": holding.snapshots,
    "parse": parsing.measure,
}
DOCUMENT = tools.ROOT / "docs" / "performance.md"
Tables = Callable[[dict[str, Any], list[bars.Bar]], list[str]]
BEGIN, END = "<!-- last run: begin -->", "<!-- last run: end -->"


def _version(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if lines and done.returncode == 0 else None


def _package(name: str) -> str | None:
    found = _version(["dpkg-query", "-W", "-f", "${Version}", name])
    return f"{name} {found}" if found else None


def machine(installed: list[str]) -> dict[str, Any]:
    """What the numbers depend on; ``installed`` are packages that the bench has for itself."""
    info = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    models = [
        line.split(":", 1)[1].strip() for line in info.splitlines() if line.startswith("model name")
    ]
    packages = [_package(name) for name in (*tools.DEBIAN.values(), "libc6")]
    memray = _version([sys.executable, "-c", "import memray; print('memray', memray.__version__)"])
    return {
        "cpu": models[0] if models else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "kernel": platform.release(),
        "compiler": _version(["gcc", "--version"]),
        "python": platform.python_version(),
        "packages": [name for name in (*packages, memray, *installed) if name],
    }


def _describe_run(run: dict[str, Any]) -> str:
    before, after = run["load"]
    what = f"{run['when']}: {' '.join(run['sections'])}, {run['minutes']:.1f} min"
    return f"{what}{', quick' if run['quick'] else ''}; load {before:.1f} to {after:.1f}"


def _describe_machine(m: dict[str, Any]) -> list[str]:
    return [
        f"{m['cpu']}, {m['cpus']} CPUs, {m['memory_gib']} GiB, Linux {m['kernel']}",
        f"{m['compiler']}, Python {m['python']}",
    ]


def describe(result: dict[str, Any]) -> str:
    """The lines above the tables: machines below their runs, then the packages."""
    lines: list[str] = []
    for machine, runs in itertools.groupby(result["runs"], key=lambda run: run["machine"]):
        lines += ["", *(_describe_run(run) for run in runs), *_describe_machine(machine)]
    packages = dict.fromkeys(p for run in result["runs"] for p in run["machine"]["packages"])
    if packages:
        lines += ["", *textwrap.wrap(", ".join(packages), 78)]
    if result["missing"]:
        lines += ["", "Left out:", *(f"  {reason}" for reason in result["missing"])]
    return "\n".join(lines[1:])


def record(result: dict[str, Any]) -> None:
    """Put the run into the document between its two marks, and the JSON beside it."""
    text = render(result, report.of_page)
    document = DOCUMENT.read_text(encoding="utf-8")
    before, rest = document.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    DOCUMENT.write_text(f"{before}{BEGIN}\n```text\n{text}\n```\n{END}{after}", encoding="utf-8")
    write_json(DOCUMENT.with_suffix(".json"), result)


def _rounded(value: Any) -> Any:
    """Six significant digits: more is noise."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return value


def write_json(path: Path, result: dict[str, Any]) -> None:
    """Every measurement, one round a number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_rounded(result), indent=1)
    text = re.sub(r"\[[^][{}\"]*\]", lambda found: " ".join(found.group().split()), text)
    path.write_text(text + "\n", encoding="utf-8")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the sections asked for."""
    begin = dt.datetime.now(dt.UTC)
    load = os.getloadavg()[0]
    sections: bars.Sections = {}
    with tools.scratch_folder() as scratch:
        have = tools.prepare(scratch, sampler=options.sampler, install=not options.no_install)
        for name, run_section in SECTIONS.items():
            if options.only and name not in options.only:
                continue
            try:
                sections |= run_section(have, quick=options.quick)
            except Exception as error:
                have.missing.append(f"{name}: {error}")
    run = {
        "when": begin.strftime("%Y-%m-%d %H:%M UTC"),
        "minutes": (dt.datetime.now(dt.UTC) - begin).total_seconds() / 60,
        "quick": options.quick,
        "load": [load, os.getloadavg()[0]],
        "sections": options.only or list(SECTIONS),
        "machine": machine(have.versions),
    }
    return {
        "runs": [run],
        "missing": have.missing,
        "bars": [bar.as_json() for bar in bars.judge(sections)],
        "sections": sections,
    }


def recorded() -> dict[str, Any]:
    """What docs/performance.json holds."""
    loaded: dict[str, Any] = json.loads(DOCUMENT.with_suffix(".json").read_text(encoding="utf-8"))
    return loaded


def renewed(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The recorded result with the sections of `new` in place of its own."""
    done = set(new["runs"][0]["sections"])
    kept = [
        {**run, "sections": [s for s in run["sections"] if s not in done]} for run in old["runs"]
    ]
    sections = {**old["sections"], **new["sections"]}
    return {
        **new,
        "runs": [*(run for run in kept if run["sections"]), *new["runs"]],
        "bars": [bar.as_json() for bar in bars.judge(sections)],
        "sections": sections,
    }


def render(result: dict[str, Any], tables: Tables = report.tables) -> str:
    """A text: what was run on what, the tables, the bars."""
    judged = bars.judge(result["sections"])
    return "\n\n\n".join([describe(result), *tables(result["sections"], judged)])


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description="What the sampler costs, beside its peers.")
    parser.add_argument("--quick", action="store_true", help="less than two minutes")
    parser.add_argument("--json", type=Path, default=tools.BUILD / "result.json", metavar="FILE")
    parser.add_argument("--record", action="store_true", help="also into docs/performance.*")
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="this section; repeatable"
    )
    parser.add_argument("--no-install", action="store_true", help="install no peers")
    parser.add_argument(
        "--sampler", type=Path, help="measure this library instead of building ours"
    )
    parser.add_argument("--render", action="store_true", help="only tables from what is recorded")
    options = parser.parse_args()
    if options.render:
        result = recorded()
        result["bars"] = [bar.as_json() for bar in bars.judge(result["sections"])]
    else:
        result = measure(options)
        write_json(options.json, result)
        if options.only and options.record and DOCUMENT.with_suffix(".json").exists():
            result = renewed(recorded(), result)
    print(render(result))
    if not options.render:
        print(f"\nevery measurement: {options.json}")
    if options.record or options.render:
        record(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())
