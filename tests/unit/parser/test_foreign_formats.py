"""Text and protobuf profiles of other tools: Go, Java, gperftools' kinds, heaptrack's stacks."""

from __future__ import annotations

import gzip
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.errors import InputFileError, NotAProfile
from mem_parser.heapfile.writer import write_heap
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule
from mem_parser.profileproto import message_class
from mem_parser.readers import read_bytes
from mem_parser.readers.wire import field_at
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.reports.header import header_lines
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.symbolizer import name_addresses, symbolize
from mem_parser.writers.pprof import write_pprof

RATE = 512 * 1024
GO = b"""heap profile: 3: 6000 [5: 10000] @ heap/1048576
2: 4000 [4: 8000] @ 0x47d9b2 0x47d9e6 0x43ae92 0x46b121
#\t0x47d9b1\tmain.(*Store).Load+0x51\t\t/src/a b.go:12
#\t0x47d9e5\tmain.Fill[...]+0x24\t/src/main.go:20

1: 2000 [1: 2000] @ 0x47d9b2 0x47d9e6
#\t0x47d9b1\tmain.other+0x51\t/src/main.go:12
#\t0x47d9b1\tmain.around+0x51\t/src/main.go:13
#\t0x47d9e5

# runtime.MemStats
# Alloc = 1234
# PauseNs = [1 2 3]
# MaxRSS = 18604032
"""
JAVA = b"""--- heapz 1 ---
format = java
resolution = bytes
  8000 4 @ 0x00000003 0x00000004
  2097152  1 @ 0x00000005 0x00000004

  0x00000003 com.example.Cache.load (Cache.java:103)
  0x00000004 com.example.Main.main (Main.java)
  0x00000005 GC
"""


def read(data: bytes) -> Profile:
    return read_bytes(data, "x")


def rows(profile: Profile) -> dict[str, tuple[float, float]]:
    symbols = symbolize(profile, cache=SymbolCache(None))
    found = rows_of(sum_stacks(profile, symbols, rule=FrameRule.NONE))
    return {r.name: (round(r.flat.value), round(r.cum.value)) for r in found}


def first_line(profile: Profile) -> str:
    total = profile.total(Count.INUSE, Unit.SPACE)
    return header_lines(profile, total, Count.INUSE, Unit.SPACE)[0]


def weighed(blocks: int, size: int, rate: float = RATE) -> float:
    return size / (1 - math.exp(-size / blocks / rate))


def test_gos_text_is_weighed_at_half_the_number_in_its_header_and_names_its_frames() -> None:
    profile = read(GO)
    one, two = weighed(2, 4000), weighed(1, 2000)
    assert profile.total(Count.INUSE, Unit.SPACE).value == pytest.approx(one + two)
    assert profile.total(Count.ALLOC, Unit.OBJECTS).value == pytest.approx(
        weighed(4, 8000) / 2000 + two / 2000
    )
    assert profile.incomplete is None
    assert rows(profile) == {
        "main.(*Store).Load": (round(one), round(one)), "main.Fill[...]": (0, round(one)),
        "main.other": (round(two), round(two)), "main.around": (0, round(two)),
        "0x47d9e5": (0, round(two)),
    }  # fmt: skip
    symbols = symbolize(profile, cache=SymbolCache(None))
    load = next(x for x in symbols.locations if symbols.functions[x.function].name.endswith("Load"))
    assert (load.file, load.line) == ("/src/a b.go", 12)


def test_gos_text_says_that_its_numbers_are_estimates() -> None:
    assert first_line(read(GO)).endswith("3 samples, estimated by Go's sampler at 512 KiB")
    whole = GO.replace(b"heap/1048576", b"heap/2")
    assert first_line(read(whole)).endswith("3 samples, every block")
    assert read(whole).total(Count.INUSE, Unit.SPACE).value == 6000


def test_javas_text_is_weighed_at_its_fixed_rate_and_has_names() -> None:
    profile = read(JAVA)
    small, large = weighed(4, 8000), weighed(1, 2097152)
    assert profile.total(Count.INUSE, Unit.SPACE).value == pytest.approx(small + large)
    assert rows(profile) == {
        "com.example.Cache.load": (round(small), round(small)),
        "com.example.Main.main": (0, round(small + large)), "GC": (round(large), round(large)),
    }  # fmt: skip
    assert profile.incomplete is None
    assert first_line(profile).endswith("5 samples, estimated by Java's sampler at 512 KiB")


def test_javas_text_of_another_kind_says_so() -> None:
    assert read(JAVA[: JAVA.index(b"  0x0")]).incomplete is not None
    with pytest.raises(NotAProfile, match="line 2"):
        read(JAVA.replace(b"= java", b"= c"))
    with pytest.raises(InputFileError, match="line 4: bytes but no blocks"):
        read(JAVA.replace(b"8000 4", b"8000 0"))


@pytest.mark.parametrize("kind", ["growth", "growthz", "fragmentation", "fragmentationz"])
def test_kinds_that_count_everything_keep_their_totals(kind: str) -> None:
    profile = read(
        f"heap profile:      2:  3145728 [     2:  3145728] @ {kind}\n"
        "     1:  1048576 [     1:  1048576] @ 0x401010 0x402020\n"
        "     1:  2097152 [     1:  2097152] @ 0x401011\n\nMAPPED_LIBRARIES:\n".encode()
    )
    total = profile.total(Count.INUSE, Unit.SPACE)
    assert (total.value, total.std_error, profile.incomplete) == (3145728, 0, None)
    assert "every block" not in first_line(profile)


def test_stacks_that_end_with_a_semicolon_have_no_frame_behind_it() -> None:
    profile = read(b"main (a.cc);Cache::load(int) (a.cc);malloc; 300\n0x7f00; 0\nmain (a.cc); 12\n")
    assert profile.total(Count.INUSE, Unit.SPACE).value == 312
    assert rows(profile) == {
        "main (a.cc)": (12, 312), "Cache::load(int) (a.cc)": (0, 300), "malloc": (300, 300),
        "0x7f00": (0, 0),
    }  # fmt: skip


@pytest.mark.parametrize(("data", "words"), [
    (b"main;f 5000\n", "rate unknown"),
    (b"heap profile: 4: 64 [4: 64] @ heap/1024\n 4: 64 [4: 64] @ 0x1\n\nMAPPED_LIBRARIES:\n",
     "estimated at 1 KiB"),
    (b"heap profile: 4: 64 [8: 128]\n 4: 64 [8: 128] @ 0x1\n\nMAPPED_LIBRARIES:\n", "rate unknown"),
])  # fmt: skip
def test_estimates_of_others_are_never_called_every_block(data: bytes, words: str) -> None:
    profile = read(data)
    again = read(write_heap(profile))
    proto = read(write_pprof(profile, name_addresses(profile, cache=SymbolCache(None))))
    assert first_line(proto).endswith("   rate unknown")
    for found in (profile, again):
        assert first_line(found).endswith(f"   {words}")
        assert not found.errors_known


def go_proto(**more: int) -> Any:
    """What Go's runtime writes, in its order as far as a message has one."""
    message = message_class("Profile")()
    texts = ["", "space", "bytes", "alloc_objects", "count", "alloc_space", "inuse_objects",
             "inuse_space", "main.(*Store).Load", "/src/main.go", "/src/program"]  # fmt: skip
    message.string_table.extend(texts)
    message.period_type.type, message.period_type.unit = 1, 2
    message.period = more.get("period", RATE)
    for kind, unit in ((3, 4), (5, 2), (6, 4), (7, 2)):
        message.sample_type.add(type=kind, unit=unit)
    message.mapping.add(id=1, memory_start=0x400000, memory_limit=0x500000, filename=10)
    message.function.add(id=1, name=8, system_name=8, filename=9)
    message.location.add(id=1, mapping_id=1, address=0x401000).line.add(function_id=1, line=7)
    p = 1 - math.exp(-2000 / RATE)
    counts = (int(4 / p), int(8000 / p), int(2 / p), int(4000 / p))
    sample = message.sample.add(location_id=[1], value=counts)
    if more.get("label", True):
        sample.label.add(key=2, num=2000)
    return message


def fields_of(data: bytes) -> list[tuple[int, int, bytes, bytes]]:
    """Number, kind, head and content of every field."""
    found, at = [], 0
    while at < len(data):
        field = field_at(data, at)
        assert field is not None
        number, kind, begin, end = field
        found.append((number, kind, data[at:begin], data[begin:end]))
        at = end
    return found


def shuffled(data: bytes, draw: st.DataObject, inner: frozenset[int]) -> bytes:
    """The message with its fields in another order; those of one number keep theirs."""
    found = fields_of(data)
    numbers = draw.draw(st.permutations([f[0] for f in found]))
    queues: dict[int, list[bytes]] = {}
    for number, kind, head, content in found:
        within = frozenset({3, 4}) if number in {2, 4} else frozenset[int]()
        is_message = kind == 2 and number in inner
        inside = shuffled(content, draw, within) if is_message else content
        queues.setdefault(number, []).append(head + inside)
    return b"".join(queues[number].pop(0) for number in numbers)


@given(st.data())
def test_fields_of_a_protobuf_profile_may_be_in_any_order(draw: st.DataObject) -> None:
    data = shuffled(go_proto().SerializeToString(), draw, frozenset({1, 2, 3, 4, 5, 11}))
    for stored in (data, gzip.compress(data)):
        profile = read(stored)
        assert profile.counts(Count.ALLOC)[0].tolist() == [4]
        assert profile.counts(Count.INUSE)[1].tolist() == [4000]
        assert set(rows(profile)) == {"main.(*Store).Load"}
        assert first_line(profile).endswith("2 samples, estimated by Go's sampler at 512 KiB")


def test_a_protobuf_profile_that_begins_with_a_large_field_is_one() -> None:
    message = go_proto()
    message.string_table.append("x" * 200_000)
    data = message.SerializeToString()
    large = next(h + c for n, _, h, c in fields_of(data) if len(c) >= 200_000)
    found = read(data.replace(large, b"") + large)
    assert found.counts(Count.ALLOC)[0].tolist() == [4]


@pytest.mark.parametrize(("changes", "words"), [
    ({"period": 1}, "2 samples, every block"),
    ({"period": 0}, "rate unknown"),
    ({"label": False}, "estimated by Go's sampler at 512 KiB"),
    ({"label": False, "period": 1}, "rate unknown"),
])  # fmt: skip
def test_a_protobuf_profile_says_what_is_known_of_its_rate(
    changes: dict[str, int], words: str
) -> None:
    message = go_proto(**changes)
    if changes.get("period") == 1:
        message.sample[0].value[:] = [4, 8000, 2, 4000]
    profile = read(message.SerializeToString())
    assert first_line(profile).endswith(f"   {words}")
    assert profile.errors_known == ("samples" in words)


def test_names_of_go_keep_their_receivers_in_every_text(tmp_path: Any) -> None:
    profile = read(GO)
    again = read(write_heap(profile))
    assert set(rows(again)) == set(rows(profile))
