"""Labels as the outermost frames of stacks, and stacks that differ by their labels alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mem_cli.parser.group import cli
from mem_parser.growth import StackIndex
from mem_parser.heapfile.writer import write_heap
from mem_parser.merge import Merger
from mem_parser.model import Profile
from mem_parser.profileproto import message_class
from mem_parser.python.labelframes import shown_labels, with_labels, without_labels
from mem_parser.python.labels import Labels
from mem_parser.symbols.symbolizer import name_addresses
from mem_parser.symbols.table import Symbols
from mem_parser.writers.pprof import write_pprof
from python_profiles import LOOP, Stack, label_tables, profile_of

NATIVE = f"sampler!malloc python!{LOOP} python!_start"
IO_FETCH = Labels(np.array([0, 1], np.uint32), np.array([1, 2], np.uint8), ["io", "fetch"])


def labelled(labels: Labels, *numbers: int) -> Profile:
    """One stack for each number, all of the same frames."""
    profile = profile_of([Stack(NATIVE, "*f:1") for _ in numbers])
    profile.labels = labels
    profile.stacks.label = np.array(numbers, np.uint32)
    return profile


def spelled(symbols: Symbols, stack: int) -> list[str]:
    rows = symbols.locations_of_stack[symbols.offsets[stack] : symbols.offsets[stack + 1]]
    return [symbols.functions[symbols.locations[k].function].name for k in rows.tolist()]


def test_labels_are_the_outermost_frames() -> None:
    profile = labelled(IO_FETCH, 0, 1, 2)
    plain = name_addresses(profile).spell()
    symbols = with_labels(profile, plain)
    frames = spelled(plain, 0)
    assert [spelled(symbols, k)[len(frames) :] for k in range(3)] == [
        [], ["thread io"], ["task fetch", "thread io"],
    ]  # fmt: skip
    assert all(spelled(symbols, k)[: len(frames)] == frames for k in range(3))
    assert shown_labels(profile, plain) is None
    assert shown_labels(profile, symbols) is IO_FETCH


@given(label_tables(6), st.data())
def test_what_was_added_comes_off_again(labels: Labels, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, len(labels)), min_size=1, max_size=6))
    profile = labelled(labels, *numbers)
    plain = name_addresses(profile).spell()
    back = without_labels(with_labels(profile, plain))
    assert back.offsets.tolist() == plain.offsets.tolist()
    assert [spelled(back, k) for k in range(len(numbers))] == [
        spelled(plain, k) for k in range(len(numbers))
    ]


def test_stacks_of_two_labels_are_two_in_a_merge_and_between_snapshots() -> None:
    merger = Merger()
    for number in (1, 2):
        merger.add(labelled(IO_FETCH, number), str(number))
    total = merger.result()
    assert total.labels is not None
    assert [total.labels.path(k) for k in total.stacks.label_numbers.tolist()] == [
        "thread io", "thread io, task fetch",
    ]  # fmt: skip
    assert StackIndex(labelled(IO_FETCH, 1, 2)).match(labelled(IO_FETCH, 2, 0)).tolist() == [1, -1]


def test_pprof_has_labels_of_samples_and_frames_only_if_asked() -> None:
    profile = labelled(IO_FETCH, 2)
    names = name_addresses(profile)
    for asked in (False, True):
        message = message_class("Profile")()
        import gzip

        message.ParseFromString(gzip.decompress(write_pprof(profile, names, labels=asked)))
        text = list(message.string_table)
        [sample] = message.sample
        said = {text[label.key]: text[label.str] for label in sample.label if label.str}
        assert said == {"thread": "io", "task": "fetch"}
        functions = {f.id: text[f.name] for f in message.function}
        lines = {x.id: [functions[line.function_id] for line in x.line] for x in message.location}
        outer = [lines[k] for k in sample.location_id][-2:]
        assert (outer == [["task fetch"], ["thread io"]]) == asked


def test_the_same_function_under_two_labels_is_one_unless_they_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "x.heap"
    path.write_bytes(write_heap(labelled(IO_FETCH, 1, 2, 0)))

    def rows(*arguments: str) -> str:
        done = CliRunner().invoke(cli, [*arguments, str(path)])
        assert done.exit_code == 0, done.output
        return done.output

    collapsed = ("convert", "--to", "collapsed", "-o", "-")
    assert len(rows(*collapsed).splitlines()) == 1
    assert len(rows(*collapsed, "--labels").splitlines()) == 3
    assert rows("leaks", "--json").count('"stack"') == 1
    assert rows("leaks", "--json", "--labels").count('"stack"') == 3
    assert "all" in rows("table") and "thread io" not in rows("table")
    assert "thread io, task fetch" in rows("table", "--labels")
