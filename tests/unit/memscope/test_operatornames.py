"""Names of operators, and the option that has them."""

from __future__ import annotations

import pytest

from mem_parser.memscope.settings import Settings, Watch, changed
from mem_profiler.memscope.watching import is_operator


@pytest.mark.parametrize(
    "wanted", ["aten.add.Tensor", "aten::add", "aten.add", "add", "add.Tensor"]
)
def test_an_operator_may_be_named_in_several_ways(wanted: str) -> None:
    assert is_operator(wanted, "aten.add.Tensor")
    assert not is_operator(wanted, "aten.addmm.default")
    assert not is_operator(wanted, "aten.radd.Tensor")


@pytest.mark.parametrize(
    ("text", "watch"),
    [
        ("op0:2,op1", Watch("op1", "op0", 2)),
        ("op0:out2,op1,full-content", Watch("op1", "op0", 2, full_content=True)),
        ("aten::add:1,aten::mul", Watch("aten::mul", "aten::add", 1)),
        ("aten::add,aten::mul", Watch("aten::mul", "aten::add")),
    ],
)
def test_the_output_of_a_start_may_be_a_number_or_out_and_a_number(text: str, watch: Watch) -> None:
    assert changed(Settings(), {"watch": text}).watch == watch
