"""Calls of torch's modules as one frame each: known stacks, and any stacks against a definition
that does one frame after the other.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.names import FrameRule
from mem_parser.python.nnmodules import ModuleCalls
from mem_parser.python.splice import spliced
from mem_parser.python.stacks import PythonCode
from mem_parser.python.view import PythonView
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.symbols.table import Symbols, SymbolTableBuilder
from python_profiles import LOOP, Stack, named, profile_of

SITE = "/usr/lib/python3.11/site-packages"
NN = f"{SITE}/torch/nn/modules"
MODULE = f"{NN}/module.py"
END = f"python!{LOOP} python!Py_RunMain libc!__libc_start_main python!_start"
CALL = f"Module._call_impl:1790@{MODULE} Module._wrapped_call_impl:1778@{MODULE}"
HOOKED = (
    f"Module._call_impl.<locals>.inner:1800@{MODULE} Module._call_impl:1850@{MODULE} "
    f"Module._wrapped_call_impl:1778@{MODULE}"
)
NATIVE = "sampler!malloc numpy!empty python!method_vectorcall"


def calls(*names: str) -> str:
    """The Python frames of modules that call each other, from the outermost."""
    return " ".join(f"{name} {CALL}" for name in reversed(names))


def symbols_of(*stacks: Stack, view: PythonView = PythonView.MIXED, on: bool = True) -> Symbols:
    profile = profile_of(stacks)
    return spliced(profile, named(profile), view, nn_modules=on).spell()


def shown(*stacks: Stack, view: PythonView = PythonView.MIXED) -> list[list[str]]:
    symbols = symbols_of(*stacks, view=view)
    names = [symbols.functions[x.function].name for x in symbols.locations]
    ends = symbols.offsets.tolist()
    rows = symbols.locations_of_stack.tolist()
    return [[names[x] for x in rows[a:b]] for a, b in itertools.pairwise(ends)]


TRAINING = Stack(
    f"{NATIVE} {END}",
    calls(
        "Model.forward:9@/src/shop/net.py", f"Sequential.forward:250@{NN}/container.py",
        f"Linear.forward:134@{NN}/linear.py",
    )
    + " train:20@/src/shop/net.py *<module>:30@/src/shop/net.py",
)  # fmt: skip


def test_calls_of_modules_are_their_classes() -> None:
    [stack] = shown(TRAINING)
    assert stack == [
        "malloc", "empty", "Linear() (modules/linear.py)", "Sequential() (modules/container.py)",
        "Model() (shop/net.py)", "train (shop/net.py)", "<module> (shop/net.py)",
    ]  # fmt: skip


def test_without_the_option_every_frame_stays() -> None:
    symbols = symbols_of(TRAINING, on=False)
    assert len(symbols.locations_of_stack) == 2 + 9 + 2
    assert not any(f.nn_module for f in symbols.functions)


def test_a_module_has_the_line_of_its_forward() -> None:
    symbols = symbols_of(TRAINING)
    places = {
        symbols.functions[x.function].full_name: (x.file, x.line)
        for x in symbols.locations
        if symbols.functions[x.function].nn_module
    }
    assert places["Model()"] == ("/src/shop/net.py", 9)
    assert places["Linear()"] == (f"{NN}/linear.py", 134)


def test_blocks_of_a_layer_count_for_it_though_torch_is_a_library() -> None:
    profile = profile_of([TRAINING])
    owners = {}
    for on in (False, True):
        symbols = spliced(profile, named(profile), nn_modules=on).spell()
        marked = mark_libraries(profile, symbols, Libraries())
        rows = rows_of(sum_stacks(profile, marked, rule=FrameRule.PROGRAM))
        owners[on] = [r.name for r in rows if r.flat.value]
    assert owners == {
        False: ["Model.forward (shop/net.py)"], True: ["Linear() (modules/linear.py)"]
    }  # fmt: skip


def test_hooks_of_torch_and_decorators_of_packages_go_with_the_call() -> None:
    between = f"no_grad.<locals>.decorate_context:124@{SITE}/torch/utils/_contextlib.py"
    [stack] = shown(Stack(f"{NATIVE} {END}", f"Net.forward:5 {between} {HOOKED} *<module>:1"))
    assert stack[2:4] == ["Net() (src/app.py)", "<module> (src/app.py)"]


def test_native_frames_between_go_in_the_native_view() -> None:
    native = f"{NATIVE} python!{LOOP} python!slot_tp_call {END}"
    python = f"*Net.forward:5 Module._call_impl:1790@{MODULE} *<module>:1"
    [stack] = shown(Stack(native, python), view=PythonView.NATIVE)
    assert stack[3:6] == ["Net() (src/app.py)", "<module> (src/app.py)", LOOP]


def test_a_module_is_not_the_body_of_its_class() -> None:
    body = Stack(f"{NATIVE} {END}", f"Linear:90@{NN}/linear.py *<module>:1@{NN}/linear.py")
    symbols = symbols_of(TRAINING, body)
    assert {f.name: f.nn_module for f in symbols.functions if f.name.startswith("Linear")} == {
        "Linear() (modules/linear.py)": True, "Linear (modules/linear.py)": False,
        "Linear.forward (modules/linear.py)": False,
    }  # fmt: skip


def test_without_qualified_names_the_place_of_forward_stands_for_the_class() -> None:
    frames = f"forward:35 _call_impl:1102@{MODULE} forward:12 _call_impl:1102@{MODULE} *<module>:1"
    profile = profile_of([Stack(f"{NATIVE} {END}", frames)])
    assert profile.python is not None
    first = {"forward": iter((31, 10))}
    # Two classes of one file: their code objects differ by the line of their definition alone.
    line = profile.python.line
    inner, outer = (int(np.flatnonzero(line == k)[0]) for k in (35, 12))
    forward = profile.python.codes[profile.python.code[inner]]
    codes = profile.python.codes
    for node in (inner, outer):
        profile.python.code[node] = len(codes)
        codes.append(dataclasses.replace(forward, first_line=next(first["forward"])))
    symbols = spliced(profile, named(profile), nn_modules=True).spell()
    names = [f.name for f in symbols.functions if f.nn_module]
    assert sorted(names) == ["forward() (src/app.py:10)", "forward() (src/app.py:31)"]


CODES = [
    PythonCode("main", "main", "/src/app.py", 1),
    PythonCode("_call_impl", "Module._call_impl", MODULE, 1),
    PythonCode("inner", "Module._call_impl.<locals>.inner", MODULE, 1),
    PythonCode("forward", "Net.forward", "/src/app.py", 9),
    PythonCode("forward", "Linear.forward", f"{NN}/linear.py", 9),
    PythonCode("wrapper", "wrapper", f"{SITE}/x.py", 1),
    PythonCode("register_hook", "Module.register_hook", MODULE, 1),
]


def folded_one_by_one(stack: list[int]) -> list[str]:
    """Fold one stack (innermost first; a native frame is the number after the codes)."""
    inner: list[str] = []
    solid: list[str] = []
    for k in stack:
        code = CODES[k] if k < len(CODES) else None
        call = code is not None and code.file == MODULE and code.name in ("_call_impl", "inner")
        between = not call and (
            code is None or ("site-packages" in code.file and code.name != "forward")
        )
        text = "native" if code is None else code.qualname
        if call and solid and (solid[-1].startswith("call ") or solid[-1].endswith(".forward")):
            kept = solid[-1].replace(".forward", "()")
            while inner[-1] != solid[-1]:
                inner.pop()
            inner[-1] = kept
            # What stands for the call now is called by whatever is further out.
            solid[-1] = kept if kept.startswith("call ") else f"call {kept}"
            inner[-1] = solid[-1]
            continue
        inner.append(f"call {text}" if call else text)
        if not between:
            solid.append(inner[-1])
    return [text.removeprefix("call ") for text in inner]


@given(st.lists(st.lists(st.integers(0, len(CODES)), max_size=9), max_size=6))
def test_any_stacks_are_folded_as_one_by_one(stacks: list[list[int]]) -> None:
    builder = SymbolTableBuilder()
    expansion = []
    for code in CODES:
        at = builder.function(code.qualname, code.qualname, code.file, code.file, python=True)
        expansion.append((builder.location_of(at, code.file, 5),))
    expansion.append((builder.location_of(builder.function("native", "native", "x.so")),))
    code_of = np.array([*range(len(CODES)), -1])
    calls = ModuleCalls(builder, expansion, code_of, CODES)
    rows = np.array([k for s in stacks for k in s], dtype=np.int32)
    lengths = np.array([len(s) for s in stacks], dtype=np.int64)
    result, left = calls.folded(rows, lengths)
    names = [builder.functions[builder.locations[e[0]].function].full_name for e in expansion]
    ends = np.concatenate(([0], np.cumsum(left))).tolist()
    found = [[names[r] for r in result[a:b].tolist()] for a, b in itertools.pairwise(ends)]
    assert found == [folded_one_by_one(s) for s in stacks]
