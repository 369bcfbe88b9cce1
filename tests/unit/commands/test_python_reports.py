"""Python's frames in every report, export and file of `mem_parser`."""

from __future__ import annotations

import dataclasses
import gzip
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mem_cli.parser.group import cli
from mem_parser.budget import Budget, Limit, Measure, Subject, check, open_subject
from mem_parser.budget.outputs.text import lines
from mem_parser.errors import UsageProblem
from mem_parser.heapfile.writer import write_heap
from mem_parser.leaks.suppressions import Suppressions
from mem_parser.model import Profile
from mem_parser.profileproto import message_class
from mem_parser.readers import read_profile
from mem_parser.reports import table
from python_profiles import LOOP, Stack, profile_of

END = f"python!{LOOP} python!Py_RunMain libc!__libc_start_main python!_start"
SITE = "/usr/lib/python3.11/site-packages"


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program's source, in the folder of the user."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "shop" / "app.py"
    path.parent.mkdir()
    path.write_text("".join(f"line {k} of the shop\n" for k in range(1, 40)))
    return path


@pytest.fixture
def stacks(source: Path) -> list[Stack]:
    """What the program allocates: itself, by numpy, by its own extension, before Python runs."""
    own = f"python!list_resize {END}"
    return [
        Stack(
            f"sampler!malloc python!PyObject_Malloc {own}",
            f"Cart.add:7@{source} main:20@{source} *<module>:30@{source}",
            blocks=30,
        ),
        Stack(
            f"sampler!malloc numpy!array_zeros python!cfunction_call {END}",
            f"zeros:3@{SITE}/numpy/core/numeric.py main:21@{source} *<module>:30@{source}",
            blocks=20,
        ),
        Stack(
            f"sampler!malloc ext!fast_join python!cfunction_call {END}",
            f"main:22@{source} *<module>:30@{source}", blocks=10,
        ),
        Stack("sampler!malloc python!Py_InitializeFromConfig python!_start", blocks=1),
    ]  # fmt: skip


@pytest.fixture
def heap(stacks: list[Stack], tmp_path: Path) -> Path:
    """The file of a capture of our own."""
    return write(
        profile_of(stacks, host=os.uname().nodename, uid=os.geteuid()), tmp_path / "x.heap"
    )


def write(profile: Profile, path: Path) -> Path:
    path.write_bytes(write_heap(profile))
    return path


def run(*arguments: str | Path) -> str:
    done = CliRunner().invoke(cli, list(map(str, arguments)), env={"MEM_PROFILER_CACHE": ""})
    assert done.exit_code == 0, done.output
    return done.output


def rows(*arguments: str | Path) -> list[dict[str, Any]]:
    found = json.loads(run(*arguments, "--json"))["rows"]
    assert isinstance(found, list)
    return found


def flat(*arguments: str | Path) -> dict[str, int]:
    """What each function of `top` owns, in units of one block."""
    found = rows("top", *arguments, "-n", "0")
    return {r["function"]: round(r["flat"] / 1000) for r in found if r["flat"]}


def test_blocks_count_for_the_programs_own_python_functions(heap: Path) -> None:
    assert flat(heap) == {
        "Cart.add (shop/app.py)": 30, "main (shop/app.py)": 20, "fast_join": 10,
        "Py_InitializeFromConfig": 1,
    }  # fmt: skip
    assert flat(heap, "--all-frames") == {"malloc": 61}


def test_native_view_charges_native_functions(heap: Path) -> None:
    assert flat(heap, "--native") == {
        "list_resize": 30, "array_zeros": 20, "fast_join": 10, "Py_InitializeFromConfig": 1
    }  # fmt: skip


def test_python_view_shows_python_alone(heap: Path) -> None:
    assert flat(heap, "--python") == {
        "Cart.add (shop/app.py)": 30, "main (shop/app.py)": 30, "[no Python frame]": 1
    }  # fmt: skip


@pytest.mark.parametrize(("words", "cure"), [
    *[([name, "HEAP", "--native", "--python"], "") for name in ("top", "flamegraph", "leaks")],
    (["convert", "HEAP", "-o", "OUT", "--native", "--hide", "x"], "leave --hide and --native out"),
    (["convert", "HEAP", "-o", "OUT", "--nn-modules"], "leave --nn-modules out"),
])  # fmt: skip
def test_views_exclude_each_other_and_no_heap_file_is_made_in_one(
    words: list[str], cure: str, heap: Path, tmp_path: Path
) -> None:
    places = {"HEAP": str(heap), "OUT": str(tmp_path / "y.heap")}
    problem = CliRunner().invoke(cli, [places.get(word, word) for word in words]).exception
    assert isinstance(problem, UsageProblem)
    assert problem.hint == cure if cure else str(problem).startswith("--native and --python excl")


def test_lines_and_source_text_are_pythons(heap: Path, source: Path) -> None:
    places = {(r["function"], r["file"], r.get("line")) for r in rows("top", heap, "--lines")}
    assert ("Cart.add (shop/app.py)", str(source), 7) in places
    assert f"Cart.add (shop/app.py) {source}:7" in run("top", heap, "--lines")
    text = run("list", heap, "Cart.add")
    assert "line 7 of the shop" in text
    assert "line 5 of the shop" in text
    assert "line 20 of the shop" not in text


def test_source_of_a_python_function_is_read_from_python_files_alone(
    tmp_path: Path, source: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the text of the secret\n" * 9)
    stack = Stack(f"sampler!malloc {END}", f"*f:3@{secret} *g:2@{source}")
    profile = profile_of([stack], host=os.uname().nodename, uid=os.geteuid())
    text = run("list", write(profile, tmp_path / "x.heap"), "f")
    assert "secret does not end in .py or .pyw" in text
    assert "the text of the secret" not in text
    link = tmp_path / "link.py"
    link.symlink_to(secret)
    profile = profile_of(
        [dataclasses.replace(stack, python=f"*f:3@{link}")], host=os.uname().nodename,
        uid=os.geteuid(),
    )  # fmt: skip
    assert "the text of the secret" not in run("list", write(profile, tmp_path / "y.heap"), "f")


def test_source_of_a_profile_from_elsewhere_stays_closed(heap: Path, source: Path) -> None:
    profile = read_profile(str(heap))
    profile.capture.host = "elsewhere"
    write(profile, heap)
    text = run("list", heap, "Cart.add")
    assert "source not shown: the profile came from another host" in text
    assert "of the shop" not in text
    assert "line 7 of the shop" in run("list", heap, "Cart.add", "--trust-sources")


def test_nobody_is_told_to_find_the_lines_of_hidden_frames(
    stacks: list[Stack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(profile_of(stacks[:3]), tmp_path / "x.heap")
    asked: list[list[str]] = []
    monkeypatch.setattr(table, "why_without_lines", lambda paths: asked.append(paths) or [])
    for view in ((), ("--native",), ("--python",)):
        run("-f", file, "-t", "--lines", *view)
    mixed, native, python = map(set, asked)
    assert "/src/fast.so" in mixed
    assert "/usr/bin/python3.11" in native
    assert python == set()


def test_filters_see_python_names_and_files(heap: Path) -> None:
    assert flat(heap, "--focus", "^Cart.add$") == {"Cart.add (shop/app.py)": 30}
    assert flat(heap, "--focus", "numeric.py") == {"main (shop/app.py)": 20}
    assert "Cart.add (shop/app.py)" not in flat(heap, "--ignore", "Cart")
    assert flat(heap, "--hide", "Cart")["main (shop/app.py)"] == 50
    assert "fast_join" not in flat(heap, "--library", "^fast_join$")


def test_peek_knows_a_python_function_by_its_qualified_name(heap: Path) -> None:
    [found] = rows("peek", heap, "main")
    assert found["function"] == "main (shop/app.py)"
    assert {n["function"] for n in found["callees"]} == {
        "[its own]", "Cart.add (shop/app.py)", "fast_join"
    }  # fmt: skip


def test_the_header_says_that_places_are_not_known(tmp_path: Path) -> None:
    unknown = Stack("sampler!malloc libpython!?1 ext!walk", "*a:1")
    file = write(profile_of([unknown]), tmp_path / "x.heap")
    line = "note: in 1 of 1 stack the order of Python and native frames is not known; Python's"
    for command in ("top", "tree", "leaks", "stats"):
        assert line in run(command, file)
    assert line not in run("top", file, "--python")
    assert line in run("diff", file, file)


def test_a_few_stacks_of_unknown_order_are_no_news(tmp_path: Path) -> None:
    unknown = Stack("sampler!malloc libpython!?1 ext!walk", "*a:1")
    known = [Stack("sampler!malloc python!_PyEval_EvalFrameDefault", f"*f{k}:1") for k in range(99)]
    for number, told in ((98, True), (99, False)):
        file = write(profile_of([unknown, *known[:number]]), tmp_path / f"{number}.heap")
        assert ("order of Python and native frames" in run("top", file)) is told


def test_a_file_without_python_says_so(tmp_path: Path) -> None:
    profile = profile_of([Stack("sampler!malloc ext!walk")])
    profile.python = None
    file = write(profile, tmp_path / "x.heap")
    assert "note: the file holds no Python frames" in run("top", file, "--python")
    assert run("top", file, "--native") == run("top", file)


def test_stats_count_by_python_file_and_by_call(heap: Path, source: Path) -> None:
    found = json.loads(run("stats", heap, "--json"))
    modules = {g["name"]: round(g["bytes"] / 1000) for g in found["modules"]}
    assert modules[str(source)] == 50
    assert [g["name"] for g in found["calls"]] == ["malloc"]


# Differences, verdicts, budgets.


def grown(stacks: Sequence[Stack], by: int) -> list[Stack]:
    return [dataclasses.replace(s, blocks=s.blocks + by) if k == 0 else s
            for k, s in enumerate(stacks)]  # fmt: skip


def test_a_difference_matches_python_functions_though_folders_differ(
    heap: Path, stacks: list[Stack], tmp_path: Path
) -> None:
    moved = [
        dataclasses.replace(s, python=s.python.replace("/shop/app.py", "/shop-2/app.py"))
        for s in grown(stacks, 500)
    ]
    file = write(profile_of(moved), tmp_path / "new.heap")
    [row] = [r for r in rows("diff", heap, file) if r["verdict"] != "noise"]
    assert (row["verdict"], row["function"], row["line"]) == ("grown", "Cart.add", 7)
    assert round(row["delta"] / 1000) == 500


def test_snapshots_match_stacks_by_their_python_frames(stacks: list[Stack], tmp_path: Path) -> None:
    # One native stack with two Python ones, whose numbers differ in the files.
    native = f"sampler!malloc {END}"
    first = [Stack(native, "*a:1", blocks=5), Stack(native, "*b:2", blocks=7)]
    last = [Stack(native, "*c:3", blocks=1), *reversed(first)]
    when = {"started": 1e9, "host": "h", "capture": 1}
    files = [
        write(profile_of(s, duration_s=10.0 * k + 10, **when), tmp_path / f"{k}.heap")
        for k, s in enumerate([first, last])
    ]
    found = json.loads(run("diff", *files, "--json"))
    assert found["paired"] is True
    changed = {r["function"]: r["delta"] for r in found["rows"] if r["verdict"] != "noise"}
    assert changed == {"c": 1000}


def test_a_budget_names_the_python_line(heap: Path) -> None:
    subject = open_subject(str(heap))
    report = check([(subject, Budget((Limit(Measure.INUSE, 1000.0, text="1 KB"),)))])
    text = "\n".join(line for line, _ in lines(report))
    assert "Cart.add" in text
    assert "app.py:7" in text
    assert isinstance(subject, Subject)


def test_suppressions_match_python_functions_and_files(heap: Path) -> None:
    places = open_subject(str(heap)).places.frames
    found = [
        [Suppressions([pattern]).match(frames) for frames in places].count(True)
        for pattern in ("Cart.add", "^main$", "/numeric.py$", "<module>", "nothing")
    ]
    assert found == [1, 3, 0, 3, 0]


# Files and exports.


def stacks_of(profile: Profile) -> dict[tuple[str, ...], int]:
    """Blocks by Python stack, innermost first."""
    found: dict[tuple[str, ...], int] = {}
    python = profile.python
    assert python is not None
    for k, stack in enumerate(profile.sites.stack.tolist()):
        nodes = python.outwards(int(profile.stacks.interpreters[stack]))
        key = tuple(f"{python.codes[python.code[n]].qualname}:{python.line[n]}" for n in nodes)
        found[key] = found.get(key, 0) + int(profile.sites.alloc_blocks[k])
    return found


def test_merged_files_have_the_stacks_of_both(
    heap: Path, stacks: list[Stack], tmp_path: Path
) -> None:
    other = write(profile_of([*grown(stacks, 5)[:1], Stack("sampler!malloc", "*new:4")]),
                  tmp_path / "b.heap")  # fmt: skip
    run("merge", heap, other, "-o", tmp_path / "all.heap")
    merged = read_profile(str(tmp_path / "all.heap"))
    assert stacks_of(merged) == {
        ("Cart.add:7", "main:20", "<module>:30"): 65, ("zeros:3", "main:21", "<module>:30"): 20,
        ("main:22", "<module>:30"): 10, ("new:4",): 10, (): 1,
    }  # fmt: skip
    assert flat(tmp_path / "all.heap")["Cart.add (shop/app.py)"] == 65


def test_domains_of_one_capture_share_their_python_frames(
    heap: Path, stacks: list[Stack], tmp_path: Path
) -> None:
    host, device = read_profile(str(heap)), profile_of([*stacks[1::-1], Stack("ext!take", "*up:9")])
    for profile, domain in ((host, "host"), (device, "cuda-0")):
        profile.domains = [domain]
        profile.capture.started, profile.capture.capture = 1e9, 1
    files = [write(host, tmp_path / "h.heap"), write(device, tmp_path / "d.heap")]
    text = run("-f", files[0], "-f", files[1], "--by", "domain")
    assert "Cart.add (shop/app.py)" in text
    assert "up (src/app.py)" in text
    run("flamegraph", files[0], "--with", files[1], "-o", tmp_path / "page.html")


def exported(heap: Path, end: str, *options: str) -> bytes:
    out = heap.parent / f"out{end}"
    run("convert", heap, "-o", out, *options)
    return out.read_bytes()


def pprof_stacks(data: bytes) -> dict[tuple[str, ...], int]:
    message: Any = message_class("Profile")()
    message.ParseFromString(data)
    text = message.string_table
    names = {f.id: (text[f.name], text[f.filename]) for f in message.function}
    lines = {
        x.id: [f"{names[n.function_id][0]}:{n.line}" for n in x.line] for x in message.location
    }
    kind = [text[t.type] for t in message.sample_type].index("alloc_objects")
    assert {location.mapping_id for location in message.location} <= {m.id for m in message.mapping}
    return {
        tuple(n for at in s.location_id for n in lines[at]): s.value[kind] for s in message.sample
    }


def test_pprof_has_python_frames_between_native_ones(heap: Path) -> None:
    found = pprof_stacks(gzip.decompress(exported(heap, ".pb.gz")))
    outer = ("main (shop/app.py):22", "<module> (shop/app.py):30")
    assert found["malloc:0", "fast_join:0", *outer] == 10
    hidden = pprof_stacks(gzip.decompress(exported(heap, ".pb.gz", "--hide", "fast_join")))
    assert hidden["malloc:0", *outer] == 10
    alone = pprof_stacks(gzip.decompress(exported(heap, ".pb.gz", "--python")))
    assert alone[outer] == 10
    assert alone["[no Python frame]:0",] == 1


def test_a_page_says_that_places_are_not_known(tmp_path: Path) -> None:
    unknown = Stack("sampler!malloc libpython!?1 ext!walk", "*a:1")
    file = write(profile_of([unknown]), tmp_path / "x.heap")
    run("flamegraph", file, "-o", tmp_path / "x.html")
    assert "the order of Python and native frames is not known" in (tmp_path / "x.html").read_text()


def test_code_that_a_library_makes_is_the_librarys(source: Path, tmp_path: Path) -> None:
    native = f"sampler!malloc python!PyObject_Malloc {END}"
    library = "/usr/lib/python3.11/dataclasses.py"
    make = f"__create_fn__:2@<string> _process:9@{library}"
    stacks = [
        Stack(native, f"<module>:1@<string> {make} main:5@{source} *<module>:30@{source}"),
        Stack(native, "scale:3@<string> *<module>:5@<string>", blocks=20),
    ]
    heap = write(profile_of(stacks), tmp_path / "made.heap")
    assert flat(heap) == {"main (shop/app.py)": 10, "scale (<string>)": 20}
    every = {r["function"] for r in rows("top", heap, "-n", "0", "--all-frames")}
    made = {"<module> (<string> in dataclasses.py)", "__create_fn__ (<string> in dataclasses.py)"}
    assert made | {"<module> (<string>)"} <= every


TORCH = f"{SITE}/torch/nn/modules"


@pytest.fixture
def layers(source: Path, tmp_path: Path) -> Path:
    """The file of a program that calls a layer of torch's by a model of its own."""
    call = f"Module._call_impl:1790@{TORCH}/module.py Module._wrapped_call_impl:9@{TORCH}/module.py"
    stack = Stack(
        f"sampler!malloc numpy!empty python!cfunction_call {END}",
        f"Linear.forward:134@{TORCH}/linear.py {call} Net.forward:9@{source} {call} "
        f"*<module>:30@{source}",
    )
    profile = profile_of([stack], host=os.uname().nodename, uid=os.geteuid())
    return write(profile, tmp_path / "layers.heap")


def test_calls_of_torch_modules_are_their_classes_where_asked(layers: Path) -> None:
    assert flat(layers) == {"Net.forward (shop/app.py)": 10}
    assert flat(layers, "--nn-modules") == {"Linear() (modules/linear.py)": 10}
    assert flat(layers, "--nn-modules", "--library", "^Linear") == {"Net() (shop/app.py)": 10}
    folded = run("tree", layers, "--nn-modules")
    assert "_call_impl" in run("tree", layers)
    assert "_call_impl" not in folded
    assert folded.index("Net() (shop") < folded.index("Linear() (modules")


def test_exports_have_calls_of_torch_modules_by_their_classes(layers: Path) -> None:
    assert ";Module._call_impl (modules/module.py);" in exported(layers, ".folded").decode()
    end = "<module> (shop/app.py);Net() (shop/app.py);Linear() (modules/linear.py);empty 10000\n"
    assert exported(layers, ".folded", "--nn-modules").decode().endswith(end)
    [stack] = pprof_stacks(gzip.decompress(exported(layers, ".pb.gz", "--nn-modules")))
    assert stack[2:5] == (
        "Linear() (modules/linear.py):134", "Net() (shop/app.py):9", "<module> (shop/app.py):30"
    )  # fmt: skip


def test_a_layer_is_found_by_its_class_and_has_its_source(layers: Path) -> None:
    text = run("list", layers, "Net()", "--nn-modules")
    assert "line 9 of the shop" in text
    focus = rows("top", layers, "--nn-modules", "--focus", r"^Linear\(\)$", "-n", "0")
    assert any(r["function"] == "Linear() (modules/linear.py)" for r in focus)
