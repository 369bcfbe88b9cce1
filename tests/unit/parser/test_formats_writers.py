"""Files we write in the field's formats: read back by us, by jeprof and google-pprof, and by the
official protobuf runtime from a description of its own.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from hypothesis import given

import strategies
from heapfiles import HOOK, HeapFile, Record, module_of
from json_outputs import check_format
from mem_parser.errors import InputFileError, TruncatedProfile
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule, is_allocator
from mem_parser.readers import read_bytes
from mem_parser.reports.header import header_lines
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.embed import embedded_names
from mem_parser.symbols.symbolizer import AddressNames, name_addresses
from mem_parser.writers.pprof import write_pprof
from mem_parser.writers.rows import write_csv, write_json
from mem_parser.writers.speedscope import write_speedscope

BASE = 0x5500_0000_0000
SOURCE = """
#include <stdlib.h>
__attribute__((noinline))
void *alpha(int n) { void *p = malloc(n); __asm__ volatile("" ::: "memory"); return p; }
__attribute__((noinline))
void *beta(int n) { void *p = alpha(n + 1); __asm__ volatile("" ::: "memory"); return p; }
int main(void) { return beta(3) == 0; }
"""
# Written from proto/profile.proto once more, so that a wrong number in the program's table shows.
TEXT = """
ValueType 1 type i 2 unit i
Sample 1 location_id U 2 value I 3 label Label
Label 1 key i 2 str i 3 num i 4 num_unit i
Mapping 1 id u 2 memory_start u 3 memory_limit u 4 file_offset u 5 filename i 6 build_id i 7 has_functions b
Location 1 id u 2 mapping_id u 3 address u 4 line Line
Line 1 function_id u 2 line i
Function 1 id u 2 name i 3 system_name i 4 filename i
Profile 1 sample_type ValueType 2 sample Sample 3 mapping Mapping 4 location Location 5 function Function 6 string_table S 7 drop_frames i 9 time_nanos i 10 duration_nanos i 11 period_type =ValueType 12 period i 14 default_sample_type i
"""  # noqa: E501


def official() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name="oracle.proto", syntax="proto3")
    kinds = {"i": 3, "I": 3, "u": 4, "U": 4, "b": 8, "S": 9}
    for line in TEXT.split("\n")[1:-1]:
        name, *words = line.split()
        message = file.message_type.add(name=name)
        for number, field, kind in zip(words[::3], words[1::3], words[2::3], strict=True):
            plain = len(kind) > 1
            entry = message.field.add(name=field, number=int(number))
            entry.label = 3 if kind in "IUS" or (plain and kind[0] != "=") else 1
            if plain:
                entry.type, entry.type_name = 11, "." + kind.lstrip("=")
            else:
                entry.type = kinds[kind]
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("Profile"))


def symbols_of(profile: Profile, **options: Any) -> AddressNames:
    return name_addresses(profile, cache=SymbolCache(None), debug_dirs=(), **options)


def module(path: str | Path, build_id: str = "", **changes: Any) -> dict[str, Any]:
    return module_of(path, BASE, BASE + 0x100000, build_id=build_id, **changes)


def sample_file(rate: int = 4096) -> HeapFile:
    return HeapFile(
        [
            Record((HOOK, BASE + 0x101, BASE + 0x201), 7, 7 * 100, 2, 200),
            Record((HOOK, BASE + 0x101, BASE + 0x201), 3, 3 * 9000),
            Record((HOOK, BASE + 0x301), 5, 5 * 64, 5, 5 * 64),
            Record((1,), 1, 50, lost_cause=2),
        ],
        rate=rate,
        modules=[module("/opt/app/server", "ab" * 20)],
        header={"exe": "/opt/app/server", "started": 1.7e9, "duration_s": 12.5},
    )


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "p.c").write_text(SOURCE)
    subprocess.run(
        ["gcc", "-g", "-O1", "-no-pie", "-Wl,--build-id", "-o", folder / "p", folder / "p.c"],
        check=True, timeout=60,
    )  # fmt: skip
    return folder / "p"


def addresses(program: Path) -> dict[str, int]:
    out = subprocess.check_output(["nm", program], text=True, timeout=60)
    return {w[2]: int(w[0], 16) for w in map(str.split, out.splitlines()) if len(w) == 3}


def named_file(program: Path) -> HeapFile:
    from mem_parser.symbols.elf import ElfImage

    at = addresses(program)
    start = min(s.vaddr & ~0xFFF for s in ElfImage.open(str(program)).segments if s.executable)
    frames = (HOOK, at["alpha"] + 6, at["beta"] + 8, at["main"] + 10)
    exe = module(
        program, ElfImage.open(str(program)).build_id, start=start, end=start + 0x1000, bias=0
    ) | {"exec": [[start, start + 0x1000, start - 0x400000]]}
    sampler = module("/usr/lib/libmem_sampler.so", start=HOOK, end=HOOK + 0x1000, bias=HOOK) | {
        "exec": [[HOOK, HOOK + 0x1000, 0]]}  # fmt: skip
    maps = [f"{start:08x}-{start + 0x1000:08x} r-xp {start - 0x400000:08x} 08:01 7   {program}"]
    return HeapFile(
        [Record(frames, 100, 100 * 700, 10, 7000), Record(frames[:1] + frames[2:], 4, 4 * 100_000)],
        rate=8192, maps=maps, modules=[exe, sampler], header={"exe": str(program)},
    )  # fmt: skip


# profile.proto


def test_the_official_runtime_reads_the_values_and_tables_we_wrote() -> None:
    profile = read_bytes(sample_file().data, "x")
    packed = write_pprof(profile, symbols_of(profile))
    message = official().FromString(gzip.decompress(packed))
    text = message.string_table
    assert text[0] == ""
    types = [(text[t.type], text[t.unit]) for t in message.sample_type]
    assert types == [("alloc_objects", "count"), ("alloc_space", "bytes"),
                     ("inuse_objects", "count"), ("inuse_space", "bytes")]  # fmt: skip
    assert text[message.default_sample_type] == "inuse_space"
    assert (text[message.period_type.type], text[message.period_type.unit]) == ("space", "bytes")
    assert message.period == 4096
    assert message.duration_nanos == 12_500_000_000
    assert (text[message.mapping[0].filename], text[message.mapping[0].build_id]) == (
        "/opt/app/server", "ab" * 20)  # fmt: skip
    first_mapping = message.mapping[0]
    assert (first_mapping.memory_start, first_mapping.memory_limit) == (BASE, BASE + 0x100000)
    p = 1 - np.exp(-100 / 4096)
    first = message.sample[0]
    assert list(first.value) == [round(7 / p), round(700 / p), round(5 / p), round(500 / p)]
    assert (text[first.label[0].key], first.label[0].num) == ("bytes", 100)
    where = {x.id: x for x in message.location}
    assert [where[k].address for k in first.location_id] == [HOOK, BASE + 0x100, BASE + 0x200]
    assert all(1 <= x.mapping_id <= len(message.mapping) for x in message.location)
    re.compile(text[message.drop_frames])
    assert re.fullmatch(text[message.drop_frames], "operator new[]")


def test_functions_and_lines_are_in_the_file(program: Path) -> None:
    profile = read_bytes(named_file(program).data, "x")
    message = official().FromString(gzip.decompress(write_pprof(profile, symbols_of(profile))))
    text = message.string_table
    names = {f.id: text[f.name] for f in message.function}
    location = {x.id: x for x in message.location}
    stack = [location[k] for k in message.sample[0].location_id]
    assert [names[x.line[0].function_id] for x in stack[1:]] == ["alpha", "beta", "main"]
    assert all(x.line[0].line > 0 for x in stack[1:])
    assert text[message.function[0].filename].endswith("p.c")


@pytest.mark.skipif(shutil.which("go") is None, reason="Go is not installed")
def test_unnamed_frames_of_an_allocator_are_dropped_by_viewers_and_by_us() -> None:
    inner = module("/usr/lib/libjemalloc.so.2", exec=[[BASE, BASE + 0x1000, 0]])
    own = module("/opt/app", exec=[[BASE + 0x1000, BASE + 0x2000, 0]])
    record = Record((BASE + 0x10, BASE + 0x1010), 1, 64)
    data = HeapFile([record], header={"rate_bytes": 1}, modules=[inner, own]).data
    first = read_bytes(data, "x")
    packed = write_pprof(first, symbols_of(first))
    message = official()()
    message.ParseFromString(gzip.decompress(packed))
    names = {message.string_table[f.name] for f in message.function}
    assert names == {"[libjemalloc.so.2]"}
    dropped = message.string_table[message.drop_frames]
    assert re.fullmatch(dropped, "[libjemalloc.so.2]")
    back = read_bytes(packed, "y.pb.gz")
    own_of = {f.name for f in symbols_of(back).builder.functions if is_allocator(f, FrameRule.OWN)}
    assert own_of == names


def test_go_reads_what_we_wrote_and_we_what_go_writes(program: Path, tmp_path: Path) -> None:
    profile = read_bytes(named_file(program).data, "x")
    (tmp_path / "x.pb.gz").write_bytes(write_pprof(profile, symbols_of(profile)))
    pprof = ["go", "tool", "pprof"]
    own = {**os.environ, "HOME": str(tmp_path), "PPROF_TMPDIR": str(tmp_path)}
    text = subprocess.run(
        [*pprof, "-top", "-unit=b", tmp_path / "x.pb.gz"],
        capture_output=True, text=True, timeout=60, env=own, check=True,
    ).stdout  # fmt: skip
    total = profile.total(Count.INUSE, Unit.SPACE)
    assert float(re.search(r"of (\d+)B total", text)[1]) == pytest.approx(total.value, abs=9)  # type: ignore[index]
    subprocess.run(
        [*pprof, "-proto", f"-output={tmp_path / 'y.pb.gz'}", tmp_path / "x.pb.gz"],
        capture_output=True, timeout=60, env=own, check=True,
    )  # fmt: skip
    back = read_bytes((tmp_path / "y.pb.gz").read_bytes(), "y").total(Count.INUSE, Unit.SPACE)
    assert (back.value, back.std_error) == pytest.approx((total.value, total.std_error), abs=9)


def test_the_same_profile_gives_the_same_bytes() -> None:
    one, two = (read_bytes(sample_file().data, "x") for _ in range(2))
    assert write_pprof(one, symbols_of(one)) == write_pprof(two, symbols_of(two))


@pytest.mark.parametrize("rate", [1, 512, 4096, 524288])
def test_what_went_into_a_pprof_file_comes_out_with_its_error_bars(rate: int) -> None:
    profile = read_bytes(sample_file(rate).data, "x")
    back = read_bytes(write_pprof(profile, symbols_of(profile)), "x.pb.gz")
    for count in (Count.INUSE, Count.ALLOC):
        for unit in Unit:
            ours, theirs = profile.total(count, unit), back.total(count, unit)
            assert theirs.value == pytest.approx(ours.value, rel=0.01, abs=1)
            if rate > 1:
                assert theirs.samples == ours.samples
                assert theirs.std_error == pytest.approx(ours.std_error, rel=0.01)
    names = [f.name for f in symbols_of(back).spell().functions]
    assert "[stack lost: table full]" in names
    frames = set(profile.stacks.frames.tolist()) - {1}
    assert frames <= set(back.stacks.frames.tolist())
    assert [m.path for m in back.modules] == [m.path for m in profile.modules]
    assert back.modules[0].build_id == profile.modules[0].build_id


def test_a_flood_of_empty_entries_is_refused_before_it_costs_memory() -> None:
    flood = gzip.compress(b"\x0a\x04\x08\x01\x10\x02" + b"\x12\x00" * 300_000)
    with pytest.raises(InputFileError, match="not a heap profile"):
        read_bytes(flood, "x.pb.gz")


def test_a_cut_profile_proto_says_so() -> None:
    profile = read_bytes(sample_file().data, "x")
    whole = gzip.decompress(write_pprof(profile, symbols_of(profile)))
    with pytest.raises(TruncatedProfile, match="it ends within a message"):
        read_bytes(whole[: whole.index(b"inuse_space") + 3], "x.pb")


def test_values_that_were_never_sampled_get_no_error_bars() -> None:
    message = official()()
    message.string_table.extend(["", "inuse_space", "bytes", "main"])
    message.sample_type.add(type=1, unit=2)
    message.function.add(id=1, name=3)
    message.location.add(id=9).line.add(function_id=1, line=3)
    message.sample.add(location_id=[9], value=[4096])
    profile = read_bytes(message.SerializeToString(), "x.pb")
    total = profile.total(Count.INUSE, Unit.SPACE)
    assert (total.value, np.isnan(total.std_error)) == (4096, True)
    assert [f.name for f in symbols_of(profile).spell().functions] == ["main"]


def test_a_cpu_profile_is_refused_by_the_names_of_its_values() -> None:
    message = official()()
    message.string_table.extend(["", "cpu", "nanoseconds"])
    message.sample_type.add(type=1, unit=2)
    with pytest.raises(InputFileError, match="not a heap profile; its values are: cpu"):
        read_bytes(message.SerializeToString(), "x.pb")


# .heap


@pytest.mark.parametrize("tool", ["jeprof", "google-pprof"])
def test_the_tools_of_the_field_agree_on_a_heap_file_we_convert(
    tool: str, program: Path, tmp_path: Path
) -> None:
    if not shutil.which(tool):
        pytest.skip(f"{tool} is not installed")
    first = read_bytes(named_file(program).data, "x")
    profile = read_bytes(write_pprof(first, symbols_of(first)), "x.pb.gz")
    path = tmp_path / "y.heap"
    path.write_bytes(write_heap(profile))
    done = subprocess.run(
        [tool, "--text", "--show_bytes", "--alloc_space", program, path],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    total = first.total(Count.ALLOC, Unit.SPACE).value
    found = re.search(r"^Total: (\d+) B", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    assert int(found[1]) == pytest.approx(total, rel=0.001)
    assert re.search(r"\bbeta$", done.stdout, re.MULTILINE), done.stdout


def test_embedded_names_serve_where_the_binary_is_gone(program: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copy(program, copy)
    profile = read_bytes(named_file(copy).data, "x")
    profile.embedded = embedded_names(symbols_of(profile))
    nameless = read_bytes(named_file(copy).data, "z")
    data = write_heap(profile)
    copy.unlink()
    back = read_bytes(data, "y")
    names = symbols_of(back)
    symbols = names.spell()
    assert {"alpha", "beta", "main"} <= {f.name for f in symbols.functions}
    assert all(x.line for x in symbols.locations if symbols.functions[x.function].known)
    assert names.problems == []
    assert symbols_of(nameless).problems


# Stacks of names


def test_collapsed_stacks_claim_no_bytes_in_use_since_the_start() -> None:
    profile = read_bytes(b"main;load 3\nmain;store 4\n", "x.collapsed")
    total = profile.total(Count.INUSE, Unit.SPACE)
    _, counts, *_ = header_lines(profile, total, Count.INUSE, Unit.SPACE)
    assert "heaptrack_print --flamegraph-cost-type peak" in counts and not profile.since_start


def test_speedscope_weights_add_up_to_the_total(program: Path) -> None:
    profile = read_bytes(named_file(program).data, "x")
    document = json.loads(write_speedscope(profile, symbols_of(profile).spell(), "x.heap"))
    check_format("speedscope", document)
    frames = [f["name"] for f in document["shared"]["frames"]]
    first = document["profiles"][0]
    assert (first["type"], first["unit"]) == ("sampled", "bytes")
    total = profile.total(Count.INUSE, Unit.SPACE).value
    assert sum(first["weights"]) == first["endValue"] == pytest.approx(total, abs=2)
    assert [frames[k] for k in first["samples"][0]] == ["main", "beta", "alpha"]


def test_rows_hold_estimates_and_errors(program: Path) -> None:
    profile = read_bytes(named_file(program).data, "x")
    symbols = symbols_of(profile).spell()
    stacks = json.loads(write_json(profile, symbols))["stacks"]
    lines = write_csv(profile, symbols).splitlines()
    assert stacks[0]["stack"] == ["main", "beta", "alpha"]
    assert stacks[0]["inuse_space_std_error"] > 0
    columns = [f"inuse_space{part}" for part in ("", "_std_error", "_lower95", "_upper95")]
    assert lines[0].startswith(",".join([*columns, "inuse_space_samples,"]))
    for row in stacks:
        assert 0 < row["inuse_space_lower95"] < row["inuse_space"] < row["inuse_space_upper95"]
        # A few samples say nothing of how many small blocks there are beside them.
        assert row["inuse_objects_lower95"] >= row["inuse_objects_samples"]
        assert row["inuse_objects_upper95"] is None
    assert lines[1].endswith(",main;beta;alpha")
    assert len(lines) == 1 + len(stacks)


# Any bytes


@given(strategies.heap_files)
def test_any_heap_file_survives_every_format(file: HeapFile) -> None:
    profile = read_bytes(file.data, "x")
    names = symbols_of(profile)
    total = profile.total(Count.ALLOC, Unit.SPACE).value
    tolerance = len(profile.sites) + 1
    for data in (write_heap(profile), write_pprof(profile, names)):
        back = read_bytes(data, "y")
        assert back.total(Count.ALLOC, Unit.SPACE).value == pytest.approx(
            total, rel=0.01, abs=tolerance
        )
        symbols_of(back).spell()
