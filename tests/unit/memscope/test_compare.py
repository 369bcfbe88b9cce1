"""Two runs side by side."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from json_outputs import checked_json
from mem_cli.errors import run_command
from mem_cli.profiler.memscope import memscope
from mem_parser.memscope.compare import Pair, compare_runs
from mem_parser.memscope.comparetext import compare_lines, lines
from mem_parser.memscope.form import COMPARE_LINES, DumpError, compare_file, folders
from memscope_dumps import Story, line, text_file
from web_profiles import blocks_of


def run_of(*operators: tuple[str, int], pool: str = "PTA", device: str = "0") -> Story:
    """Operators, each with what the pool does behind it: bytes, negative for a free."""
    story = Story(device)
    for number, (name, size) in enumerate(operators, 1):
        story.start(name)
        story.end(name)
        address = 0x1000 * number
        if size > 0:
            story.malloc(address, size, pool, number, owner=f"{pool}@{name}")
        elif size < 0:
            story.free(address, -size, pool, number)
    return story


def two(folder: Path, base: Story, other: Story) -> tuple[str, str]:
    return base.csv(folder, "base.csv"), other.db(folder, "other.db")


def test_operators_are_aligned_and_differences_have_their_sign(tmp_path: Path) -> None:
    base = run_of(("add", 512), ("mul", 1024), ("relu", 256))
    other = run_of(("add", 512), ("drop", 64), ("relu", 128), ("sum", -32))
    found = compare_runs(*two(tmp_path, base, other))
    assert list(found.rows()) == [
        ("OP_LAUNCH", "add", "0", 512, 512, 0),
        ("OP_LAUNCH", "mul", "0", 1024, "N/A", -1024),
        ("OP_LAUNCH", "drop", "0", "N/A", 64, 64),
        ("OP_LAUNCH", "relu", "0", 256, 128, -128),
        ("OP_LAUNCH", "sum", "0", "N/A", -32, -32),
    ]


def test_the_file_has_both_header_lines(tmp_path: Path) -> None:
    found = compare_runs(*two(tmp_path, run_of(("a,b", 8)), run_of(("a,b", 9))))
    assert list(compare_lines(found.rows())) == [
        ",,,Base,Compare\n",
        "Event,Name,Device Id,Allocated Memory(byte),Allocated Memory(byte),Diff Memory(byte)\n",
        'OP_LAUNCH,"a,b",0,8,9,1\n',
    ]
    assert len(COMPARE_LINES) == 2


def test_by_name_the_largest_change_comes_first(tmp_path: Path) -> None:
    base = run_of(("a", 1), ("b", 10), ("a", 2), ("c", 5))
    other = run_of(("a", 1), ("b", 110), ("d", 7))
    (device,) = compare_runs(*two(tmp_path, base, other)).devices
    assert [(one.name, one.counts, one.bytes) for one in device.by_name()] == [
        ("b", Pair(1, 1), Pair(10, 110)),
        ("d", Pair(0, 1), Pair(None, 7)),
        ("c", Pair(1, 0), Pair(5, None)),
        ("a", Pair(2, 1), Pair(3, 1)),
    ]


def test_modules_and_peaks(tmp_path: Path) -> None:
    base, other = Story(), Story()
    for story, size in ((base, 100), (other, 300)):
        story.malloc(0x1000, 50, "PTA", 1, owner="PTA@weight")
        story.malloc(0x2000, size, "PTA", 2, owner="PTA@ops")
        story.free(0x2000, size, "PTA", 2)
        story.malloc(0x3000, 20, "PTA", 3)
        story.malloc(0x4000, 4096, "HAL", 4, owner="CANN@APP")
    (device,) = compare_runs(*two(tmp_path, base, other)).devices
    assert {one.kind: one.bytes for one in device.peaks} == {
        "PTA": Pair(150, 350), "HAL": Pair(4096, 4096),
    }  # fmt: skip
    assert {
        (one.kind, one.owner): (one.allocated_bytes, one.at_peak_bytes) for one in device.modules
    } == {
        ("PTA", "PTA@weight"): (Pair(50, 50), Pair(50, 50)),
        ("PTA", "PTA@ops"): (Pair(100, 300), Pair(100, 300)),
        ("PTA", "PTA"): (Pair(20, 20), Pair(0, 0)),
        ("HAL", "CANN@APP"): (Pair(4096, 4096), Pair(4096, 4096)),
    }
    assert device.modules[0].owner == "PTA@ops"


def test_kernels_at_the_other_level(tmp_path: Path) -> None:
    base, other = Story(), Story()
    for story, size in ((base, 8), (other, 16)):
        story.add("KERNEL_LAUNCH", "KERNEL_LAUNCH", "MatMulV2")
        story.add("KERNEL_LAUNCH", "KERNEL_EXECUTE_START", "MatMulV2")
        story.malloc(1, size, "MINDSPORE")
    paths = two(tmp_path, base, other)
    assert list(compare_runs(*paths, "kernel").rows()) == [
        ("KERNEL_LAUNCH", "MatMulV2", "0", 8, 16, 8)
    ]
    with pytest.raises(DumpError, match="MindSpore has no operators"):
        compare_runs(*paths)


def test_a_device_of_one_run_alone_has_no_partners(tmp_path: Path) -> None:
    found = compare_runs(*two(tmp_path, run_of(("a", 8)), run_of(("a", 9), device="1")))
    assert list(found.rows()) == [
        ("OP_LAUNCH", "a", "0", 8, "N/A", -8), ("OP_LAUNCH", "a", "1", "N/A", 9, 9),
    ]  # fmt: skip


def test_folders_of_runs_are_read_with_all_their_devices(tmp_path: Path) -> None:
    for name in ("base", "other"):
        tree = folders(str(tmp_path / name), 42, "20250731000000001")
        for device in ("0", "1"):
            path = Path(tree.dump(device))
            path.parent.mkdir(parents=True)
            run_of(("a", 8), device=device).csv(path.parent, path.name)
    found = compare_runs(str(tmp_path / "base"), str(tmp_path / "other"))
    assert [one.device for one in found.devices] == ["0", "1"]
    with pytest.raises(DumpError, match="device 0 is in"):
        compare_runs(str(tmp_path), str(tmp_path / "base"))


def test_the_text_shows_what_changed_most(tmp_path: Path) -> None:
    base, other = run_of(("a", 8), ("b", 2048)), run_of(("a", 8), ("b", 4096), ("c", 1))
    text = "\n".join(lines(compare_runs(*two(tmp_path, base, other)), 1))
    assert "Device 0: 2 operators in both, 0 only in base, 1 only in compare" in text
    assert re.search(r"^PTA +2\.0 KiB +4\.0 KiB +\+2\.0 KiB$", text, re.MULTILINE)
    assert re.search(r"^b +1 +1 +2 KiB +4 KiB +\+2 KiB$", text, re.MULTILINE)
    assert text.count("2 more") == 2


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda d: text_file(d / "x.txt"), "neither a folder nor"),
        (str, "no memscope_dump_"),
        (lambda d: str(d / "none.csv"), "no such file"),
        (lambda d: text_file(d / "x.csv"), "no row of a device in either"),
        (lambda d: text_file(d / "x.csv", line(type="PTA"), line(type="MINDSPORE")), "in one run"),
    ],
)
def test_what_cannot_be_compared_is_one_line(tmp_path: Path, make: object, said: str) -> None:
    path = make(tmp_path)  # type: ignore[operator]
    with pytest.raises(DumpError, match=said):
        compare_runs(path, path)


def test_runs_of_two_frameworks_are_refused(tmp_path: Path) -> None:
    paths = two(tmp_path, run_of(("a", 8)), run_of(("a", 8), pool="MINDSPORE"))
    with pytest.raises(DumpError, match=r"memory of PTA, .* of MINDSPORE"):
        compare_runs(*paths, "kernel")


operators = st.lists(st.tuples(st.sampled_from("abc"), st.integers(-3, 3)), max_size=12)


@given(operators, operators)
def test_every_operator_is_there_once_and_the_differences_add_up(
    tmp_path_factory: pytest.TempPathFactory,
    base: list[tuple[str, int]],
    other: list[tuple[str, int]],
) -> None:
    folder = tmp_path_factory.mktemp("x")
    stories = (run_of(*base, ("z", 1)), run_of(*other, ("z", 1)))
    rows = list(compare_runs(*two(folder, *stories)).rows())
    assert [row[1] for row in rows if row[3] != "N/A"] == [name for name, _ in base] + ["z"]
    assert [row[1] for row in rows if row[4] != "N/A"] == [name for name, _ in other] + ["z"]
    for side, story in ((3, stories[0]), (4, stories[1])):
        following = []
        for k, row in enumerate(story.rows):
            if row.type == "ATEN_END":
                sizes = [
                    (1 if r.event == "MALLOC" else -1) * int(r.attributes[1][2])  # type: ignore[call-overload]
                    for r in story.rows[k:]
                    if r.type == "PTA"
                ]
                following.append(sizes[0] if sizes else 0)
        assert [row[side] for row in rows if row[side] != "N/A"] == following
    assert all(
        row[5] == (0 if row[4] == "N/A" else row[4]) - (0 if row[3] == "N/A" else row[3])  # type: ignore[operator]
        for row in rows
    )


def test_the_host_is_compared_where_no_run_has_another_device(tmp_path: Path) -> None:
    paths = two(tmp_path, *(run_of(("a", k), pool="HOST", device="cpu") for k in (8, 9)))
    assert list(compare_runs(*paths).rows()) == [("OP_LAUNCH", "a", "cpu", 8, 9, 1)]
    both = run_of(("a", 8))
    both.malloc(0x9000, 64, "HOST", 9)
    both.rows[-1] = both.rows[-1]._replace(device="cpu")
    mixed = both.csv(tmp_path, "mixed.csv")
    assert [one.device for one in compare_runs(mixed, mixed).devices] == ["0"]
    with pytest.raises(DumpError, match=r"memory of PTA, .* of HOST"):
        compare_runs(mixed, paths[0])


# --- steps --------------------------------------------------------------------------------------


moves = st.lists(
    st.tuples(st.sampled_from(("op", "malloc", "free", "step")), st.integers(0, 3)), max_size=30
).map(lambda found: [*found, ("step", 0), ("step", 0)])


@given(moves, st.data())
def test_of_a_step_is_what_happened_in_it(
    tmp_path: Path, told: list[tuple[str, int]], data: st.DataObject
) -> None:
    story, live = Story(), dict[int, tuple[str, int]]()
    # Of each step: operators, the pool's events behind them, what owners allocated, what lived.
    steps: list[dict[str, list[tuple[str, int]]]] = []
    now: dict[str, list[tuple[str, int]]] = {"events": [], "new": [], "used": [("", 0)]}
    for number, (what, k) in enumerate(told, 1):
        if what == "op":
            story.end(f"op{k}")
            now["events"].append((f"op{k}", 0))
        elif what == "malloc":
            story.malloc(0x1000 * number, 10 * number, "PTA", number, owner=f"PTA@o{k}")
            live[number] = (f"PTA@o{k}", 10 * number)
            now["events"].append(("", 10 * number))
            now["new"].append(live[number])
        elif what == "free" and live:
            gone = sorted(live)[k % len(live)]
            story.free(0x1000 * gone, live[gone][1], "PTA", gone)
            now["events"].append(("", -live.pop(gone)[1]))
        elif what == "step":
            story.add("SYSTEM", "STEP", str(len(steps) + 1), device="N/A")
            steps.append(now)
            now = {"events": [], "new": [], "used": []}
            now["used"] = [("", sum(size for _, size in live.values()))]
            continue
        now["used"].append(("", sum(size for _, size in live.values())))
    story.malloc(0x10, 1, "PTA", 999)
    path = story.csv(tmp_path)
    number = st.integers(0, len(steps) - 1)
    chosen = [data.draw(number), data.draw(number)]
    names = (str(chosen[0] + 1), str(chosen[1] + 1))
    found = compare_runs(path, path, steps=names)
    assert found.sides == (f"{path}, step {names[0]}", f"{path}, step {names[1]}")
    (device,) = found.devices
    for side, k in enumerate(chosen):
        events = steps[k]["events"]
        expected = [
            (name, next((size for other, size in events[at:] if not other), 0))
            for at, (name, _) in enumerate(events)
            if name
        ]
        pairs = [(one.name, one.bytes[side]) for one in device.operators]
        assert [pair for pair in pairs if pair[1] is not None] == expected
        (peak,) = device.peaks
        assert peak.bytes[side] == max(size for _, size in steps[k]["used"])
        allocated = {one.owner: one.allocated_bytes[side] for one in device.modules}
        sums: dict[str, int] = {}
        for owner, size in steps[k]["new"]:
            sums[owner] = sums.get(owner, 0) + size
        assert {owner: size for owner, size in allocated.items() if size} == sums
        assert sum(one.at_peak_bytes[side] or 0 for one in device.modules) == peak.bytes[side]


def test_a_step_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    story = run_of(("a", 8))
    none = story.csv(tmp_path, "none.csv")
    for k in range(1, 9):
        story.add("SYSTEM", "STEP", str(k), device="N/A")
    path = story.csv(tmp_path)
    with pytest.raises(DumpError, match="no step 9") as error:
        compare_runs(path, path, steps=("1", "9"))
    assert error.value.hint == "steps: 1, 2, 3, 4, 5 and 3 more"
    with pytest.raises(DumpError, match="no step 1") as error:
        compare_runs(none, path, steps=("1", "1"))
    assert error.value.hint == "it has no steps"


# --- the command -------------------------------------------------------------------------------


def called(*arguments: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = run_command(memscope, "mem_profiler memscope", arguments)
    out, err = capsys.readouterr()
    return code, out, err


def test_the_command_prints_and_writes_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, other = two(tmp_path, run_of(("a", 8)), run_of(("a", 16)))
    code, out, err = called(
        "--compare", "--input", f"{base}，{other}", "--output", str(tmp_path / "out"),
        "--level", "0", capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    assert "1 operators in both" in out
    (path,) = (tmp_path / "out" / "compare").iterdir()
    assert re.fullmatch(r"memory_compare_\d{17}\.csv", path.name)
    assert path.read_text().splitlines()[2] == "OP_LAUNCH,a,0,8,16,8"
    assert str(path) in err
    assert compare_file("out", "1") == "out/compare/memory_compare_1.csv"


@pytest.mark.parametrize("to_file", [False, True])
def test_json_has_all_of_the_comparison_and_the_file_of_operators_is_there_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, to_file: bool
) -> None:
    many = [(f"op{k}", 8) for k in range(30)]
    base, other = two(tmp_path, run_of(("a", 8), *many), run_of(("a", 16), ("b", 4), *many))
    output = tmp_path / ("x.json" if to_file else "out")
    code, out, err = called(
        "--compare", "--input", f"{base},{other}", "-o", str(output), "--json", capsys=capsys
    )
    assert code == 0, err
    found = checked_json("memscope compare", output.read_text() if to_file else out)
    assert (out == "") == to_file
    assert (found["base"], found["compare"], found["level"]) == (base, other, "op")
    assert found["steps"] is None
    [device] = found["devices"]
    assert device["device"] == "0"
    assert len(device["operators"]) == 32
    told = {one["name"]: one for one in device["operators"]}
    assert told["a"] == {
        "event": "OP_LAUNCH", "name": "a", "base_bytes": 8, "compare_bytes": 16, "diff_bytes": 8,
    }  # fmt: skip
    assert (told["b"]["base_bytes"], told["b"]["diff_bytes"]) == (None, 4)
    assert device["names"][0] == {
        "name": "a", "base_calls": 1, "compare_calls": 1, "diff_calls": 0,
        "base_bytes": 8, "compare_bytes": 16, "diff_bytes": 8,
    }  # fmt: skip
    [peak] = device["peaks"]
    assert peak["type"] == "PTA"
    assert peak["diff_bytes"] == peak["compare_bytes"] - peak["base_bytes"]
    owners = [one["at_peak"]["compare_bytes"] or 0 for one in device["modules"]]
    assert sum(owners) == peak["compare_bytes"]
    if to_file:
        assert not (tmp_path / "compare").exists()
    else:
        (path,) = (output / "compare").iterdir()
        lines = path.read_text().splitlines()[2:]
        assert [line.split(",")[1] for line in lines] == [o["name"] for o in device["operators"]]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--json", "--", "true"], 2, "--json is for --compare alone"),
        (["--compare", "--input", "a,b", "--json", "-o", "x.html"], 2, "x.html is a page"),
        (["--compare", "--input", "a,b", "--json", "-n", "3"], 2, "--json has all rows"),
        (["--compare", "--input", "a,b", "--json", "-o", "none/x.json"], 2, "no such folder"),
        (["--compare", "--input", "/none/a.csv,/none/b.csv", "--json"], 3, "no such file"),
        (["--level", "op"], 2, "the program to collect from is missing"),
        (["--compare"], 2, "--compare needs two dumps"),
        (["--compare", "--input", "a"], 2, "two paths with a comma"),
        (["--compare", "--input", "a,b,c"], 2, "two paths with a comma"),
        (["--compare", "--input", "a,"], 2, "two paths with a comma"),
        (["--compare", "--input", "a", "--steps", "3"], 2, "two paths with a comma"),
        (["--compare", "--input", "a,b", "--steps", "1,2,3"], 2, "one step of each"),
        (["--compare", "--input", "a,b", "-o", "none/x.html"], 2, "no such folder"),
        (["--compare", "--input", "x" * 5000 + ",b"], 2, "more than 4096"),
        (["--compare", "--input", "a,b", "--level", "2"], 2, "op, kernel or both"),
        (["--compare", "--input", "a,b", "--level", "0,1"], 2, "--level op, or --level kernel"),
        (["--compare", "--input", "a,b", "-n", "-1"], 2, "-1"),
        (["--compare", "--input", "/none/a.csv,/none/b.csv"], 3, "no such file"),
    ],
)
def test_a_wrong_value_is_one_line_and_nothing_is_written(
    tmp_path: Path,
    arguments: list[str],
    code: int,
    said: str,
    *,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    found, out, err = called(*arguments, capsys=capsys)
    assert (found, out) == (code, "")
    assert said in err.splitlines()[0]
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_a_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, other = two(tmp_path, run_of(("a", 8)), run_of(("a", 16)))
    code, out, err = called("--compare", "--input", f"{base},{other}", "-o", base, capsys=capsys)
    assert (code, out) == (2, "")
    assert "cannot make" in err
    assert len(err.splitlines()) == 1


def test_the_help_names_the_form_of_the_input() -> None:
    assert "--input A,B" in CliRunner().invoke(memscope, ["--help"]).output


def test_a_name_of_a_page_is_a_page_of_two_steps_of_one_dump(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    story = run_of(("a", 8))
    story.add("SYSTEM", "STEP", "1", device="N/A")
    story.end("a")
    story.malloc(0x9000, 64, "PTA", 9)
    story.add("SYSTEM", "STEP", "2", device="N/A")
    page = tmp_path / "x.html"
    code, out, err = called(
        "--compare", "--input", story.csv(tmp_path), "--steps", "1,2", "-o", str(page),
        capsys=capsys,
    )  # fmt: skip
    assert code == 0, err
    assert "step 2" in out
    assert "open it in a browser" in err
    [device] = blocks_of(page.read_text())["devices"]
    assert device["names"] == [["a", 1, 1, 8, 64]]
    assert not (tmp_path / "compare").exists()


def test_a_folder_with_the_name_of_a_page_is_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, other = two(tmp_path, run_of(("a", 8)), run_of(("a", 16)))
    folder = tmp_path / "x.html"
    folder.mkdir()
    code, _, err = called(
        "--compare", "--input", f"{base},{other}", "-o", str(folder), capsys=capsys
    )
    assert code == 0, err
    assert len(list((folder / "compare").iterdir())) == 1
