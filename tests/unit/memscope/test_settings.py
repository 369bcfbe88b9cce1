"""The options of a collection: values, old spellings, what they imply."""

from __future__ import annotations

import json

import pytest

from mem_parser.errors import UsageProblem
from mem_parser.memscope.settings import Settings, Watch, changed, of_dict

PLAIN = Settings()


@pytest.mark.parametrize(
    ("name", "value", "field", "expected"),
    [
        ("device", "npu:2，npu:07,npu:2", "devices", ("2", "7")),
        ("device", "cpu , npu", "devices", ("cpu", "npu")),
        ("level", "1", "levels", ("kernel",)),
        ("level", "op", "levels", ("op",)),
        ("level", "1,0", "levels", ("op", "kernel")),
        ("level", "op，kernel,op", "levels", ("op", "kernel")),
        ("events", "", "events", frozenset()),
        ("events", "none", "events", frozenset()),
        ("events", "access，traceback", "events", frozenset(("access", "traceback"))),
        ("steps", "3,1，3", "steps", (3, 1)),
        ("call_stack", "c:20,python", "c_depth", 20),
        ("call_stack", "python:0", "python_depth", 0),
        ("call_stack", "c", "c_depth", 50),
        ("call_stack", "python:7", "python_all", False),
        ("call_stack", "python-all:7", "python_all", True),
        ("call_stack", "c:3,python-all:7", "python_depth", 7),
        ("analysis", "", "analysis", frozenset()),
        ("analysis", "oom:7,leaks", "oom_blocks", 7),
        ("data_format", "db", "form", "db"),
        ("watch", "op0,op1,full-content", "watch", Watch("op1", "op0", None, True)),
        ("watch", "a::op:out3,end", "watch", Watch("end", "a::op", 3)),
        ("watch", "a::op:3,end", "watch", Watch("end", "a::op", 3)),
        ("watch", "aten::add,end", "watch", Watch("end", "aten::add")),
        ("watch", "end", "watch", Watch("end")),
        ("output", "/x", "output", "/x"),
    ],
)
def test_a_value_is_read_in_all_its_spellings(
    name: str, value: str, field: str, expected: object
) -> None:
    assert getattr(changed(PLAIN, {name: value}), field) == expected


def test_events_and_analyses_imply_what_they_need() -> None:
    for events, expected in (("alloc", "alloc free"), ("access", "access alloc free")):
        found = changed(PLAIN, {"events": events, "analysis": "none"}).all_events
        assert found == set(expected.split())
    of_inefficient = changed(PLAIN, {"events": "none", "analysis": "inefficient"})
    assert of_inefficient.all_events == {"alloc", "free", "access", "launch"}
    stepped = changed(of_inefficient, {"steps": "1"})
    assert (stepped.analyses, stepped.blocks) == (frozenset(), False)


def test_all_devices_beat_single_ones_and_the_host_is_none_of_them() -> None:
    some = changed(PLAIN, {"device": "npu:3"})
    assert [some.wants(name) for name in ("3", "0", "cpu")] == [True, False, False]
    every = changed(PLAIN, {"device": "npu:3,npu"})
    assert [every.wants(name) for name in ("3", "0", "cpu")] == [True, True, False]


def test_settings_survive_json_and_nonsense_is_refused() -> None:
    settings = changed(
        PLAIN, {"watch": "a:1,b", "device": "cpu", "analysis": "oom:3", "steps": "2"}
    )
    assert of_dict(json.loads(settings.as_json())) == settings
    for told in ({"steps": 3}, {"watch": {"x": 1}}, {"c_depth": "deep"}):
        with pytest.raises(UsageProblem):
            of_dict(told)


def test_a_value_that_is_no_text_or_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageProblem, match="its value is a text"):
        changed(PLAIN, {"events": ["alloc"]})
    with pytest.raises(UsageProblem, match="there is no option colour"):
        changed(PLAIN, {"colour": "red"})
