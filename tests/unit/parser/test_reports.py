"""The table and the graph, against sums done by hand."""

from __future__ import annotations

import dataclasses
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from heapfiles import HeapFile
from mem_parser.estimate import Estimate, unseen_objects
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule, is_allocator
from mem_parser.processfacts import AttachStops
from mem_parser.readers import read_bytes
from mem_parser.reports.aggregate import Row, StackSums, rows_of, sum_stacks
from mem_parser.reports.graph import build_graph, total_line
from mem_parser.reports.header import other_lines
from mem_parser.reports.svg import dot_source, draw_svg
from mem_parser.reports.table import TableOptions, format_table
from mem_parser.symbols.embedded import NO_MODULE, EmbeddedFrame, EmbeddedNames
from mem_parser.symbols.table import Function, Symbols
from mem_parser.units import format_estimate
from reportview import named


def sums(*stacks: tuple[str, int], rule: FrameRule = FrameRule.OWN) -> StackSums:
    profile, symbols = named(stacks)
    return sum_stacks(profile, symbols, rule=rule)


def values(found: StackSums) -> dict[str, tuple[float, float]]:
    return {r.name: (r.flat.value, r.cum.value) for r in rows_of(found)}


def test_flat_goes_to_the_caller_of_the_allocator_and_cum_to_all_above() -> None:
    found = values(sums(("malloc b a", 10), ("malloc a", 5), ("malloc c a", 1)))
    assert found == {"a": (5, 16), "b": (10, 10), "c": (1, 1)}


@pytest.mark.parametrize(("name", "rules"), [
    ("malloc", "oj"), ("operator new[]", "oj"), ("tcmalloc::allocate_full", "oj"),
    ("std::__new_allocator::allocate", "o"), ("__gnu_cxx::new_allocator::allocate", "o"),
    ("std::allocator_traits::allocate", "o"), ("std::_Vector_base::_M_allocate", "o"),
    ("__rust_alloc", "o"), ("PyObject_Malloc", "o"), ("zmalloc", ""),
    ("std::vector::push_back", ""),
])  # fmt: skip
def test_which_functions_are_allocators(name: str, rules: str) -> None:
    function = Function(name, name, "/bin/x")
    assert is_allocator(function, FrameRule.OWN) == ("o" in rules)
    assert is_allocator(function, FrameRule.JEPROF) == ("j" in rules)
    assert not is_allocator(function, FrameRule.NONE)


def test_records_are_weighed_before_they_are_added() -> None:
    profile, symbols = named((("malloc a", 16), ("malloc a", 1 << 20)), rate=65536)
    found = rows_of(sum_stacks(profile, symbols))[0].flat
    assert found.value == pytest.approx(16 / -np.expm1(-16 / 65536) + (1 << 20), rel=1e-6)
    assert found.samples == 2


def table(profile: Profile, symbols: Symbols, **options: object) -> list[str]:
    chosen = TableOptions(**options)  # type: ignore[arg-type]
    return list(format_table(profile, symbols, sum_stacks(profile, symbols), chosen))


def test_cum_order_and_the_number_of_rows_are_chosen() -> None:
    profile, symbols = named((("malloc b a", 3 << 20), ("malloc a", 1 << 20)))
    assert table(profile, symbols, by_cum=True)[3].endswith("  a")
    assert table(profile, symbols, rows=1)[-1].startswith("1 smaller row hidden (1.000 MiB)")


def test_the_header_says_losses_rss_and_incompleteness() -> None:
    profile, symbols = named((("malloc a", 10),))
    profile.capture.lost = {"reentry": 2, "truncated": 3, "live_full": 0, "stack_room": 5}
    profile.capture.memory = dataclasses.replace(profile.capture.memory, rss_bytes=1 << 20)
    profile.incomplete = "it ends within line 7"
    text = "\n".join(table(profile, symbols))
    assert "7 lost   RSS 1.000 MiB" in text
    assert "5 samples are lost: a thread had too little stack left" in text
    remedy = ". Capture at a coarser rate, or with a larger MEM_PROFILER_MAX_MEMORY."
    assert remedy not in text
    profile.capture.lost = {"stack_table_full": 9}
    full = f"9 samples are without a stack: the table of stacks was full{remedy}"
    assert full in other_lines(profile)
    profile.capture.lost = {"stack_table_full": 9, "reserve": 1}
    refused = other_lines(profile)[0]
    assert refused.endswith(
        "system. Give the segment more room: MEM_PROFILER_DIR names its folder."
    )
    assert "3 stacks are longer than" in text
    assert "INCOMPLETE: it ends within line 7" in text


def test_no_samples_are_said_plainly() -> None:
    profile = read_bytes(HeapFile([]).data, "x")
    symbols = Symbols([], [], profile.stacks.offsets, np.zeros(0, np.int32))
    assert table(profile, symbols)[-1].startswith("0 samples")
    assert "0 samples" in draw_svg(
        build_graph(profile, sum_stacks(profile, symbols), Count.INUSE, Unit.SPACE, "x")
    )


def test_an_estimate_has_its_error_or_its_least_number() -> None:
    some = Estimate(1000.0, 30, 900, unseen_objects(4096))
    assert format_estimate(some, Unit.OBJECTS) == "1,000 (≥ 951)"
    assert format_estimate(some - some, Unit.OBJECTS) == "0 ± ?"
    assert format_estimate(Estimate(1 << 20, 0.0, 1), Unit.SPACE) == "1.000 MiB"


def graph_of(*stacks: tuple[str, int]):
    profile, symbols = named(stacks)
    return build_graph(profile, sum_stacks(profile, symbols), Count.INUSE, Unit.SPACE, "x")


def test_at_most_eighty_nodes_are_drawn_and_gaps_are_dashed() -> None:
    chain = " ".join(f"f{k}" for k in range(100))
    graph = graph_of((f"malloc {chain}", 100), *((f"malloc g{k} f99 f0", 200) for k in range(3)))
    assert len(graph.nodes) == 80
    assert any(e.indirect for e in graph.edges)
    assert any("beyond the heaviest 80" in line for line in graph.legend)


def test_the_corner_shows_the_total_in_megabytes() -> None:
    assert total_line(25.7 * 2**20, Unit.SPACE) == "Total MB: 25.7"
    assert graph_of(("malloc a", 1)).legend[0].startswith("Total MB: ")


HOSTILE = [
    "<script>alert(1)</script>", "<B>", 'a"];b[label="', "back\\nslash\\", "&lt;&amp;]]>", "\\N\\G",
    "x" * 5000,
]  # fmt: skip


def test_hostile_names_are_drawn_as_they_are_and_nothing_more() -> None:
    rows = [Row(n, Estimate(10), Estimate(10)) for n in HOSTILE]
    graph = dataclasses.replace(graph_of(("malloc a", 10)), nodes=rows, total=10.0, legend=HOSTILE)
    root = ET.fromstring(draw_svg(graph))
    texts = ["".join(t.itertext()) for t in root.iter("{http://www.w3.org/2000/svg}text")]
    for name in HOSTILE[:-1]:
        assert any(name in t.replace("\xa0", " ") for t in texts), name
    assert len(list(root.iter("{http://www.w3.org/2000/svg}script"))) == 1
    assert len([g for g in root.iter() if g.get("class") == "node"]) == len(HOSTILE)
    assert "http" not in dot_source(graph)


def test_the_drawing_asks_nothing_of_the_network() -> None:
    text = draw_svg(graph_of(("malloc a", 1)))
    assert "<!DOCTYPE" not in text
    assert 'href="http' not in text
    assert "src=" not in text


@pytest.mark.parametrize(("longest_s", "is_said"), [(0.003, False), (0.01, True)])
def test_only_a_stop_that_a_user_may_feel_is_said(longest_s: float, is_said: bool) -> None:
    profile, _ = named((("malloc f main", 100),))
    profile.capture.attach = AttachStops(3, 0.02, longest_s)
    assert any(line.startswith("attached ") for line in other_lines(profile)) is is_said


@pytest.mark.parametrize(("exe", "word"), [
    ("/usr/bin/node", "--perf-basic-prof"), ("/jdk/bin/java", "Compiler.perfmap"), ("/a/b", None),
])  # fmt: skip
def test_jit_code_without_names_has_its_cure(exe: str, word: str | None) -> None:
    profile, _ = named((("malloc f main", 100),))
    profile.capture.exe = exe
    assert any(word in line for line in other_lines(profile)) if word else not other_lines(profile)
    profile.embedded = EmbeddedNames({(NO_MODULE, 0x99): (EmbeddedFrame("f", "f()"),)})
    assert not other_lines(profile)
