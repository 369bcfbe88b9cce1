"""Python's frames in native stacks: known stacks in the three views, and any stacks against a
definition that does one frame after the other.
"""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.model import STACK_CUT, Module, Profile
from mem_parser.names import FrameRule, is_allocator
from mem_parser.python import splice
from mem_parser.python.interpreter import is_interpreter
from mem_parser.python.splice import NO_PYTHON, spliced
from mem_parser.python.stacks import PythonCode, PythonStacks
from mem_parser.python.view import PythonView
from mem_parser.symbols.symbolizer import AddressNames
from python_profiles import LOOP, Stack, named, profile_of, python_trees, spelled

MIXED, NATIVE, PYTHON = PythonView
START = "python!_PyEval_Vector python!Py_RunMain python!main libc!__libc_start_main python!_start"
END = f"python!{LOOP} {START}"
HOOK = "sampler!malloc python!_PyMem_RawMalloc python!PyObject_Malloc python!list_resize"


def shown(*stacks: Stack, view: PythonView = MIXED) -> list[list[str]]:
    profile = profile_of(stacks)
    return spelled(spliced(profile, named(profile), view).spell())


def unplaced(*stacks: Stack, view: PythonView = MIXED) -> int:
    profile = profile_of(stacks)
    return spliced(profile, named(profile), view).unplaced


PLAIN = Stack(f"{HOOK} python!{LOOP} {START}", "read:9 main:4 *<module>:1")
BETWEEN = Stack(
    f"{HOOK} python!{LOOP} python!PyObject_Call ext!visit ext!walk python!cfunction_call"
    f" python!{LOOP} {START}",
    "callback:3 *wrap:7 tree:5 *<module>:1",
)
INSIDE = f"blender!PyObject_Malloc blender!bpy_alloc blender!{LOOP} blender!PyRun_FileEx"
CALL_39 = f"python!_PyFunction_Vectorcall python!{LOOP}"
TAIL = f"python!_TAIL_CALL_CALL python!{LOOP}"
# What is shown of a stack, innermost first; how many stacks are not placed.
MIXES: dict[str, tuple[Stack, str, int]] = {
    "frames of the interpreter give way to those of Python": (
        PLAIN, "malloc read:9 main:4 <module>:1", 0,
    ),
    "an extension stays between the loops that it is between": (
        BETWEEN, "malloc callback:3 wrap:7 visit walk tree:5 <module>:1", 0,
    ),
    "every frame of Python 3.9 is an entry": (
        Stack(f"{HOOK} python!{LOOP} {CALL_39} ext!sort {CALL_39} {START}",
              "*key:2 *less:8 *main:4"),
        "malloc key:2 less:8 sort main:4", 0,
    ),
    "a generator is a loop of its own": (
        Stack(f"{HOOK} python!{LOOP} python!gen_iternext numpy!fromiter python!{LOOP} {START}",
              "*rows:2 *load:6"),
        "malloc rows:2 fromiter load:6", 0,
    ),
    "a handler and the loop that it runs in are one": (
        Stack(f"{HOOK} {TAIL} ext!call {TAIL} {START}", "a:1 *b:2 c:3 *d:4"),
        "malloc a:1 b:2 call c:3 d:4", 0,
    ),
    "a handler alone is a loop": (
        Stack(f"{HOOK} python!_TAIL_CALL_CALL ext!call {TAIL} {START}", "*a:1 *b:2"),
        "malloc a:1 call b:2", 0,
    ),
    "a part of the loop that the compiler moved is a loop": (
        Stack(f"{HOOK} python!{LOOP}.cold ext!call python!{LOOP} {START}", "*a:1 *b:2"),
        "malloc a:1 call b:2", 0,
    ),
    "one loop too few puts all inside of the innermost and is counted": (
        Stack(f"{HOOK} python!{LOOP} ext!walk {START}", "a:1 *b:2 *c:3"),
        "malloc a:1 b:2 c:3 walk", 1,
    ),
    "one loop too many puts all inside of the innermost and is counted": (
        Stack(f"ext!pool python!{LOOP} ext!walk python!{LOOP} {START}", "a:1 *b:2"),
        "pool a:1 b:2 walk", 1,
    ),
    "what is outside of the interpreter stays with all outside of it": (
        Stack(f"{HOOK} python!{LOOP} python!Py_RunMain blender!main libc!__libc_start_main"
              " blender!_start", "*a:1"),
        "malloc a:1 main __libc_start_main _start", 0,
    ),
    "the beginning of a thread goes": (
        Stack(f"{HOOK} python!{LOOP} python!thread_run libc!start_thread libc!clone3", "*a:1"),
        "malloc a:1", 0,
    ),
    "a program with Python in it keeps its own functions": (
        Stack(f"sampler!malloc {INSIDE} blender!run_script blender!main", "a:1 *b:2"),
        "malloc bpy_alloc a:1 b:2 run_script main", 0,
    ),
    "the allocation function stays where it is the interpreter's own": (
        Stack(f"python!PyObject_Malloc python!PyMem_Malloc python!{LOOP} {START}", "*a:1"),
        "PyObject_Malloc a:1", 0,
    ),
    "an extension that calls itself like Python stays": (
        Stack(f"sampler!malloc ext!PyInit_fast ext!PyFast_Make {END}", "*a:1"),
        "malloc PyInit_fast PyFast_Make a:1", 0,
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MIXES)
def test_python_and_native_frames_are_mixed(what: str) -> None:
    stack, expected, missing = MIXES[what]
    assert shown(stack) == [expected.split()]
    assert (unplaced(stack), unplaced(stack, PLAIN)) == (missing, missing)


def test_native_view_has_python_frames_inside_of_their_loop() -> None:
    [stack] = shown(PLAIN, view=NATIVE)
    assert stack == [
        "malloc", "_PyMem_RawMalloc", "PyObject_Malloc", "list_resize",
        "read:9", "main:4", "<module>:1", LOOP,
        "_PyEval_Vector", "Py_RunMain", "main", "__libc_start_main", "_start",
    ]  # fmt: skip


def test_only_frames_of_stacks_that_are_shown_have_names() -> None:
    profile = profile_of([PLAIN, Stack(PLAIN.native, "gone:5 main:4 *<module>:1")])
    profile.stacks.interpreter = np.array([profile.stacks.interpreters[0], 0], np.uint32)
    functions = spliced(profile, named(profile)).names.builder.functions
    assert [f.full_name for f in functions if f.python] == ["<module>", "main", "read"]


def test_our_own_frames_are_nowhere_and_keep_the_places_of_the_others() -> None:
    ours = "@<mem_profiler>/memscope/operators.py"
    native = f"{HOOK} python!{LOOP} ext!dispatch python!{LOOP} ext!call python!{LOOP} {START}"
    hooked = Stack(native, f"*op:3 *run:9{ours} step:2 *main:4")
    alone = Stack(f"{HOOK} python!{LOOP} {START}", f"run:9{ours} *begin:1{ours}")
    assert shown(hooked) == [["malloc", "op:3", "dispatch", "call", "step:2", "main:4"]]
    assert shown(alone, hooked, view=PYTHON) == [[NO_PYTHON], ["op:3", "step:2", "main:4"]]
    assert shown(alone) == [["malloc"]]
    assert unplaced(hooked, alone) == 0
    yours = Stack(native, "*op:3 *run:9@/app/mem_profiler/memscope/operators.py *main:4")
    assert "run:9" in shown(yours)[0]


def test_a_stripped_library_hides_as_a_whole_and_has_no_loops() -> None:
    stack = Stack(
        "sampler!malloc libpython!?1 libpython!?2 ext!walk libpython!?3 libc!__libc_start_main",
        "a:1 *b:2",
    )
    assert shown(stack) == [["malloc", "a:1", "b:2", "walk"]]
    assert unplaced(stack) == 1
    profile = profile_of([stack])
    assert spliced(profile, named(profile)).names.nameless == {}


@pytest.mark.parametrize(("path", "whole"), [
    ("/usr/bin/python3.11", True),
    ("/usr/bin/python3.13t", True),
    ("/usr/bin/python3-dbg", True),
    ("/opt/bin/python", True),
    ("memfd:python3.11 (deleted)", True),
    ("/usr/lib/libpython3.11.so.1.0", True),
    ("/usr/lib/libpython3.13td.so", True),
    ("/usr/lib/libpython3.so.0/x", False),
    ("/usr/bin/python-server", False),
    ("/usr/lib/libpythonic.so", False),
    ("/usr/lib/python3.11/lib-dynload/_json.cpython-311-x86_64-linux-gnu.so", False),
    ("", False),
])  # fmt: skip
def test_a_module_is_the_interpreters_by_its_name(path: str, whole: bool) -> None:
    assert is_interpreter(Module(path, [])) is whole


def test_functions_of_one_name_in_different_files_are_different() -> None:
    stack = Stack(f"sampler!malloc python!{LOOP}", "get:1@/a/x/y.py *get:1@/a/z/y.py")
    profile = profile_of([stack])
    symbols = spliced(profile, named(profile)).spell()
    found = [f for f in symbols.functions if f.python]
    assert {(f.name, f.full_name, f.module, f.file, f.known) for f in found} == {
        ("get (x/y.py)", "get", "/a/x/y.py", "/a/x/y.py", True),
        ("get (z/y.py)", "get", "/a/z/y.py", "/a/z/y.py", True),
    }


def test_lost_stacks_say_so_in_every_view() -> None:
    lost = Stack("", cause=2)
    for view in PythonView:
        assert shown(lost, PLAIN, view=view)[0] == ["[stack lost: table full]"]
    beside = Stack("", "a:1 *b:2")
    for view in PythonView:
        assert shown(beside, view=view) == [["a:1", "b:2"]]


def test_a_profile_without_python_stays_the_same_and_its_python_view_says_so() -> None:
    profile = profile_of([Stack("sampler!malloc ext!walk")])
    profile.python = None
    names = named(profile)
    assert spliced(profile, names).names is names
    found = spliced(profile, names, PYTHON)
    assert spelled(found.spell()) == [[NO_PYTHON]]
    assert found.notes == ["the file holds no Python frames"]


def test_the_note_counts_stacks_of_which_places_are_not_known() -> None:
    profile = profile_of([Stack("sampler!malloc ext!walk", "*a:1"), PLAIN])
    [note] = spliced(profile, named(profile)).notes
    assert note.startswith("in 1 of 2 stacks the order of Python and native frames is not known")
    assert spliced(profile, named(profile), PYTHON).notes == []


def chain(count: int) -> PythonStacks:
    numbers = np.arange(count, dtype=np.uint32)
    zeros = np.zeros(count, np.uint32)
    code = PythonCode("f", "f", "f.py", 1)
    return PythonStacks(numbers, zeros, zeros, np.zeros(count, np.bool_), [code])


def test_a_forged_tree_cannot_make_stacks_without_bounds() -> None:
    profile = profile_of([Stack(f"sampler!malloc python!{LOOP}", "*a:1")] * 64)
    count = 200_000
    profile.python = chain(count)
    profile.stacks.interpreter = np.full(64, count, np.uint32)
    with mock.patch.object(splice, "MOST_FRAMES", 64 * 1000):
        found = spliced(profile, named(profile))
    assert np.diff(found.names.stacks.offsets).tolist() == [1001] * 64
    assert found.cut == 64
    assert all(stack[-1] == "[cut]" for stack in spelled(found.spell()))
    assert "outer Python frames of 64 stacks are left out" in found.notes


def test_few_stacks_of_a_small_tree_are_bounded_too() -> None:
    profile = profile_of([Stack(f"sampler!malloc python!{LOOP}", "*a:1")] * 1000)
    profile.python = chain(20_000)
    profile.stacks.interpreter = np.full(1000, 20_000, np.uint32)
    found = spliced(profile, named(profile))
    assert len(found.names.distinct.of_frame) <= 256 * 21_000 + 1000
    assert found.cut == 1000


def test_a_line_beyond_any_file_is_unknown() -> None:
    profile = profile_of([Stack(f"sampler!malloc python!{LOOP}", f"*a:{2**32 - 1}")])
    assert spelled(spliced(profile, named(profile)).spell()) == [["malloc", "a:0"]]


def test_a_node_is_as_deep_as_it_has_callers() -> None:
    assert splice.depths(chain(1000)).tolist() == list(range(1, 1001))


# The definition, one frame after the other.


def slowly(profile: Profile, names: AddressNames, view: PythonView) -> list[list[str]]:
    texts = spelled(names.spell())
    python = profile.python
    assert python is not None
    result = []
    for k, number in enumerate(profile.stacks.interpreters.tolist()):
        nodes = python.outwards(number)
        cut = bool(profile.stacks.flags[k] & STACK_CUT)
        native = texts[k][: int(profile.stacks.depths[k])]
        if not number:
            result.append([NO_PYTHON] if view is PYTHON and native else texts[k])
            continue
        addresses = profile.stacks.offsets[k] + np.arange(len(native))
        modules = [
            profile.modules[names.module_of[names.distinct.of_frame[a]]].name for a in addresses
        ]
        runs = groups_of(python, nodes)
        begins, hidden, own = judged(native, modules)
        known = len(begins) == len(runs) or (cut and 0 < len(begins) <= len(runs))
        inside: dict[int, list[str]] = {}
        for number_of_run, run in enumerate(runs):
            place = len(native)
            if known:
                place = begins[number_of_run] if number_of_run < len(begins) else place
            elif begins:
                place = begins[0]
            elif own:
                place = own[0]
            inside.setdefault(place, []).extend(run)
        stack = []
        for at in range(len(native) + 1):
            stack += inside.get(at, [])
            if at < len(native) and view is not PYTHON and (view is NATIVE or at not in hidden):
                stack.append(native[at])
        below = cut and (view is NATIVE or (view is MIXED and profile.capture.lost))
        result.append(stack + (["[cut]"] if below else []))
    return result


def groups_of(python: PythonStacks, nodes: list[int]) -> list[list[str]]:
    runs: list[list[str]] = []
    begins = True
    for node in nodes:
        if begins:
            runs.append([])
        code = python.codes[int(python.code[node])]
        runs[-1].append(f"{code.qualname}:{python.line[node]}")
        begins = bool(python.entry[node])
    return runs


def judged(native: list[str], modules: list[str]) -> tuple[list[int], set[int], list[int]]:
    """Where loops begin, which frames are hidden, and which are the interpreter's."""
    parts = [n == LOOP or n.startswith("_TAIL_CALL_") for n in native]
    begins = [
        at for at in range(len(native))
        if parts[at] and not (at and native[at - 1].startswith("_TAIL_CALL_"))
    ]  # fmt: skip
    hidden = {
        at for at, module in enumerate(modules)
        if (module == "python3.11" and native[at] != "_start") or parts[at]
    }  # fmt: skip
    own = sorted(hidden)
    outside = len(native)
    while outside and native[outside - 1] in ("_start", "__libc_start_main", "start_thread"):
        outside -= 1
    if outside and outside - 1 in own:
        hidden.update(range(outside, len(native)))
    if native and native[0] in ("PyObject_Malloc", "malloc") and 0 in hidden:
        hidden.remove(0)
        own.remove(0)
    return begins, hidden, own


WORDS = st.sampled_from(
    [
        f"python!{LOOP}", f"python!{LOOP}", "python!_TAIL_CALL_CALL", "python!PyObject_Malloc",
        "python!list_append", "python!?x", "ext!walk", "ext!visit", "libc!qsort", "sampler!malloc",
        "libc!__libc_start_main", "python!_start", "libc!start_thread",
    ]
)  # fmt: skip


@st.composite
def any_profile(draw: st.DrawFn) -> Profile:
    stacks = [
        Stack(" ".join(draw(st.lists(WORDS, max_size=9))), cut=draw(st.booleans()))
        for _ in range(draw(st.integers(1, 5)))
    ]
    profile = profile_of(stacks)
    python = draw(python_trees())
    numbers = [draw(st.integers(0, len(python))) for _ in stacks]
    profile.python = python
    profile.capture.lost = draw(st.sampled_from([{}, {"python": 1}]))
    profile.stacks.interpreter = np.array(numbers, np.uint32)
    # A stack without any frame is not cut.
    profile.stacks.flags[profile.stacks.depths == 0] = 0
    return profile


@given(any_profile(), st.sampled_from(PythonView), st.integers(1, 40))
def test_columns_splice_as_the_definition_does(
    profile: Profile, view: PythonView, at_a_time: int
) -> None:
    names = named(profile)
    expected = slowly(profile, names, view)
    with mock.patch.object(splice, "_FRAMES_AT_A_TIME", at_a_time):
        found = spliced(profile, names, view)
    if profile.python is not None and len(profile.python):
        assert spelled(found.spell()) == expected


def test_the_definition_knows_the_same_allocators() -> None:
    profile = profile_of([Stack("python!PyObject_Malloc sampler!malloc python!list_append")])
    functions = named(profile).builder.functions
    assert [f.name for f in functions if is_allocator(f, FrameRule.OWN)] == [
        "malloc", "PyObject_Malloc",
    ]  # fmt: skip


@pytest.mark.parametrize("view", PythonView)
def test_the_same_names_can_be_spliced_again(view: PythonView) -> None:
    profile = profile_of([PLAIN, BETWEEN])
    names = named(profile)
    first = spelled(spliced(profile, names, view).spell())
    assert spelled(spliced(profile, names, view).spell()) == first
