"""The pages without a browser: one file, nothing outside it, nothing a name can turn into markup,
a bounded size.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from heapfiles import HeapFile, Record
from html_pages import Page, assert_closed, assert_one_script
from mem_cli.parser.group import cli
from mem_parser.escape import one_line, script_json
from mem_parser.model import Count, Unit
from mem_parser.symbols.table import Function, SymbolProblem
from mem_parser.web import flamegraph, live, report
from mem_parser.web.measures import measures
from mem_parser.web.page import SIZE_LIMIT
from web_profiles import BASE, SERVER, Site, blocks_of, make_profile, wide_profile

HOSTILE = "</script><script>alert(1)</script><img/src=x onerror=alert(1)>&lt;\u2028'\""
LEAKS = {
    "rows": [
        {
            "verdict": "leak", "bytes": 5e6, "std_error": 1e5, "bytes_per_hour": 4e6,
            "growth": "3.81 MiB/h",
            "evidence": "grew in 6 of 6 windows, see /var/log/grown.txt",
            "stack": [{"function": "new_node", "file": "/code/src/new_node.c", "line": 14}],
        }
    ],
    "notes": [],
}  # fmt: skip
RENDERERS = {"flamegraph": flamegraph.render, "report": report.render}


@pytest.fixture(params=sorted(RENDERERS))
def render(request: pytest.FixtureRequest) -> Any:
    return RENDERERS[request.param]


def test_a_page_has_no_address_outside_itself(render: Any) -> None:
    page = Page(render(*make_profile(SERVER), base=make_profile(BASE)))
    assert_closed(page)


def test_the_policy_admits_just_the_one_script(render: Any) -> None:
    assert_one_script(render(*make_profile(SERVER)))


def test_hostile_names_stay_text(render: Any) -> None:
    function = Function(HOSTILE, HOSTILE, HOSTILE, "https://evil.example/" + HOSTILE)
    profile, symbols = make_profile(SERVER, functions={"parse": function})
    profile.capture.comm = profile.capture.command = HOSTILE
    profile.domains[1] = HOSTILE
    profile.warnings = [HOSTILE]
    plain = Page(render(*make_profile(SERVER)))
    text = render(profile, symbols, name=HOSTILE)
    page = Page(text)
    assert [t for t, _ in page.tags] == [t for t, _ in plain.tags]
    assert page.attributes("src", "onerror") == []
    assert page.attributes("href") == ["data:,"]
    assert "<img" not in text
    for script in page.scripts[:-1]:
        assert "<" not in script
        json.loads(script)
    assert one_line(HOSTILE) in blocks_of(text)["tree"][0]["functions"]


def test_json_in_a_page_survives_every_end_of_a_script() -> None:
    for text in ("</script>", "<!--<script>", "\u2028\u2029", "]]>", "&amp;"):
        safe = script_json([text])
        assert not set("<>&\u2028\u2029") & set(safe)
        assert json.loads(safe) == [one_line(text)]


def test_the_packed_tree_holds_the_profile() -> None:
    profile, symbols = wide_profile(1500)
    head, columns = blocks_of(flamegraph.render(profile, symbols))["tree"]
    for unit, column in ((Unit.SPACE, 0), (Unit.OBJECTS, 2)):
        total = profile.total(Count.INUSE, unit)
        sums = columns[f"row.inuse.{column}"].astype(float).sum()
        variance = columns[f"row.inuse.{column + 1}"].astype(float).sum()
        assert sums == pytest.approx(total.value, rel=1e-4)
        assert variance == pytest.approx(total.std_error**2, rel=1e-2)
    assert columns["row.inuse.4"].sum() == profile.total(Count.INUSE, Unit.SPACE).samples
    assert head["threads"] == ["main", "worker"]
    depth = columns["depth"].astype(int)
    assert depth[0] == 0
    assert (np.diff(depth) <= 1).all()
    assert columns["row.step"].astype(int).sum() < len(depth)


@pytest.mark.timeout(120)
def test_a_large_profile_stays_below_the_limit_and_says_what_it_left_out() -> None:
    profile, symbols = wide_profile(60000)
    text = flamegraph.render(profile, symbols)
    assert len(text.encode()) < SIZE_LIMIT
    blocks = blocks_of(text)
    assert len(blocks["tree"][1]["depth"]) > 200_000
    assert any("narrower frames" in w for w in blocks["facts"]["warnings"])


@pytest.mark.parametrize("limit", [600_000, 650_000])
def test_a_smaller_limit_prunes_more(render: Any, limit: int) -> None:
    profile, symbols = wide_profile(12000)
    text = render(profile, symbols, size_limit=limit)
    assert len(text.encode()) < limit
    blocks = blocks_of(text)
    assert any("are drawn as" in w for w in blocks["facts"]["warnings"])
    assert blocks["tree"][1]["row.inuse.0"].astype(float).sum() == pytest.approx(
        profile.total(Count.INUSE, Unit.SPACE).value, rel=1e-4
    )


def everything_in(page: str) -> str:
    blocks = blocks_of(page)
    blocks["tree"] = blocks["tree"][0]
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    return json.dumps(blocks, ensure_ascii=False) + outside


def test_a_confidential_page_has_no_path_source_host_or_command(render: Any) -> None:
    profile, symbols = make_profile(SERVER)
    profile.warnings = ["cannot open /opt/app/lib/secret_name.so.debug"]
    symbols.problems.append(SymbolProblem("/opt/app/x.so", "/opt/app/x.so: no such file", "look"))
    more = {"leaks": LEAKS} if render is report.render else {}
    open_text = everything_in(render(profile, symbols, name="/tmp/in/x.heap", **more))
    text = everything_in(render(profile, symbols, name="/tmp/in/x.heap", confidential=True, **more))
    private = (
        "/opt/", "/code/", "/var/", "/tmp/", "/usr/", "/etc/", '.c"', "build-host-7", "--key",
        "4711",
    )  # fmt: skip
    assert [word for word in private if word in text] == []
    assert all(word in open_text for word in ("/opt/app/bin/server", "build-host-7", "--key"))
    assert "new_node" in text
    assert "server" in text


def test_every_count_has_its_tables() -> None:
    profile, symbols = make_profile(SERVER)
    profile.sites.peak_blocks = 2 * profile.sites.alloc_blocks
    profile.sites.peak_bytes = 2 * profile.sites.alloc_bytes
    text = report.render(profile, symbols)
    blocks = blocks_of(text)
    for name, count, unit in measures(profile):
        total = profile.total(count, unit).value
        assert blocks["tables"]["totals"][name][0] == pytest.approx(total)
        column = "bytes" if unit is Unit.SPACE else "objects"
        sizes = blocks["tables"]["sizes"][count]
        assert sum(row[column][0] for row in sizes) == pytest.approx(total), name
        assert blocks["facts"]["headlines"][name].startswith("Total: ")


def test_optional_blocks_are_there_only_when_given() -> None:
    plain = blocks_of(report.render(*make_profile(SERVER)))
    full = blocks_of(
        report.render(*make_profile(SERVER), leaks=LEAKS, diff={"inuse.space": {"rows": []}})
    )
    assert not {"leaks", "diff"} & set(plain)
    assert full["leaks"]["rows"][0]["verdict"] == "leak"
    assert full["diff"]["inuse.space"]["rows"] == []


def test_unknown_errors_are_not_made_up() -> None:
    profile, symbols = make_profile(SERVER, rate=4096.0)
    profile.exact_samples = False
    blocks = blocks_of(report.render(profile, symbols))
    assert blocks["facts"]["exact"] is False
    assert blocks["tables"]["totals"]["inuse.space"][1] is None
    assert blocks["account"]["rows"][0]["ends"] == [None, None]


@pytest.fixture
def heap(tmp_path: Path) -> Path:
    path = tmp_path / "x.heap"
    records = [Record((0x1000, 0x2000), 3, 300), Record((0x1000, 0x3000), 5, 640, 2, 256)]
    path.write_bytes(HeapFile(records).data)
    return path


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, [str(a) for a in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("command", ["flamegraph", "report"])
def test_the_commands_write_beside_the_profile(command: str, heap: Path) -> None:
    output = run(command, heap)
    page = heap.with_name(f"x.{command}.html")
    assert f"wrote {page}" in output
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_the_options_choose_what_opens_and_what_is_in_it(heap: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    run("flamegraph", heap, "-o", page, "--alloc", "--objects", "--all-frames", "--focus", "0x2fff")
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    assert blocks["facts"]["start"] == {
        "count": "alloc", "unit": "objects", "hideAllocators": False, "apart": False,
        "templates": False, "invert": False, "labels": False,
    }  # fmt: skip
    assert blocks["tree"][1]["row.inuse.4"].sum() == 3
    assert any("only --focus 0x2fff" in w for w in blocks["facts"]["warnings"])


@pytest.mark.parametrize("command", ["flamegraph", "report"])
def test_domains_of_one_capture_stay_apart_on_a_page(command: str, tmp_path: Path) -> None:
    same = {"pid": 7, "capture": 1, "started": 5.0}
    files = []
    for name, size in (("host", 300), ("cuda:0", 5000)):
        files.append(tmp_path / f"{name}.heap")
        heap = HeapFile([Record((0x1000, 0x2000), 1, size)], rate=1, header=same | {"domain": name})
        files[-1].write_bytes(heap.data)
    page = tmp_path / "page.html"
    run(command, files[0], "--with", files[1], "-o", page)
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    head, columns = blocks["tree"]
    assert head["domains"] == ["host", "cuda:0"]
    assert sorted(zip(columns["row.domain"], columns["row.inuse.0"], strict=True)) == [
        (0, pytest.approx(300, rel=0.3)), (1, pytest.approx(5000, rel=0.3)),
    ]  # fmt: skip
    assert blocks["facts"]["start"]["apart"] is True
    assert blocks["facts"]["headlines"]["inuse.space"].startswith("Total: 3")
    if command == "report":
        assert blocks["tables"]["totals"]["inuse.space"][0] < 500


def test_a_base_makes_the_diff_tab(heap: Path, tmp_path: Path) -> None:
    old, page = tmp_path / "old.heap", tmp_path / "page.html"
    old.write_bytes(HeapFile([Record((0x1000, 0x2000), 1, 100)]).data)
    heap.write_bytes(HeapFile([Record((0x1000, 0x2000), 30, 3000)]).data)
    run("report", heap, "--base", old, "-o", page)
    blocks = blocks_of(page.read_text(encoding="utf-8"))
    assert set(blocks["diff"]) == set(blocks["tables"]["totals"])
    assert blocks["diff"]["inuse.space"]["base_name"] == "old.heap"
    for diff in blocks["diff"].values():
        assert [row["verdict"] for row in diff["rows"]][:1] == (["grown"] if diff["rows"] else [])
    assert "base_inuse" in blocks["tree"][0]["kinds"]


def test_a_profile_without_blocks_still_makes_a_page(render: Any) -> None:
    profile, symbols = make_profile([Site("main", 2, 64, freed=2)])
    blocks = blocks_of(render(profile, symbols))
    assert blocks["tree"][1]["row.inuse.0"].sum() == 0


def test_pages_of_many_processes_hash_their_one_script_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = live.live_page("pid 1", {"pid": 1})
    monkeypatch.setattr("mem_parser.web.page.hashlib", None)
    other = live.live_page("pid 2", {"pid": 2})
    assert other.policy == known.policy
    assert other.html == known.html.replace("pid 1", "pid 2").replace('"pid":1', '"pid":2')
