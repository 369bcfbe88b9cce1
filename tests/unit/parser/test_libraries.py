"""Which functions are libraries', and what their blocks are charged to instead."""

from __future__ import annotations

import dataclasses
import os
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.charge import charged_from
from mem_parser.diff import diff_profiles
from mem_parser.errors import UsageProblem
from mem_parser.filters import Filters
from mem_parser.frames import find_places
from mem_parser.libraries import projectfile
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.libraries.shape import LEAST_CALLERS
from mem_parser.libraries.table import LIBRARIES
from mem_parser.model import Count, Profile, Unit
from mem_parser.names import FrameRule, is_allocator
from mem_parser.reports.aggregate import rows_of, sum_stacks
from mem_parser.reports.table import folded_lines
from mem_parser.reports.view import make_view
from mem_parser.symbols.table import Function, Location, Role, Symbols
from reportview import named

P, L, W, S, R = Role.PROGRAM, Role.LIBRARY, Role.WRAPPER, Role.START, Role.RUNTIME
ROLES = [
    ("zmalloc_usable", "", W),
    ("ztrymalloc_usable_internal", "", W),
    ("xstrdup", "", W),
    ("my_calloc", "", W),
    ("g_malloc0", "", W),
    ("mosquitto__malloc", "", W),
    ("my_app__strdup", "", W),
    ("palloc0", "", W),
    ("ngx_pcalloc", "", W),
    ("PyDataMem_UserNEW", "", W),
    ("default_malloc", "", W),
    ("gentype_alloc", "", W),
    ("c10::alloc_cpu", "c10::alloc_cpu(unsigned long)", W),
    ("c10::DefaultCPUAllocator::allocate", "c10::DefaultCPUAllocator::allocate(unsigned long)", W),
    ("at::detail::empty_cpu", "at::detail::empty_cpu(c10::ArrayRef<long>)", W),
    (
        "at::(anonymous namespace)::structured_mm_out_cpu_functional::set_output_strided",
        "at::(anonymous namespace)::structured_mm_out_cpu_functional::set_output_strided(long)",
        W,
    ),
    ("mkl_serv_allocate", "", W),
    ("mm_internal_malloc", "", W),
    (
        "c10::impl::wrap_kernel_functor_unboxed_::call",
        "c10::impl::wrap_kernel_functor_unboxed_<F>::call(c10::OperatorKernel*)",
        L,
    ),
    ("_PyObject_GC_New", "", W),
    ("CRYPTO_zalloc", "", W),
    ("g_hash_table_insert", "", L),
    ("sdsnewlen", "", L),
    ("std::vector::emplace_back", "void std::vector<int>::emplace_back<int>(int&&)", L),
    ("__gnu_cxx::hash_map::insert", "__gnu_cxx::hash_map<int>::insert(int)", L),
    ("absl::flat_hash_map::resize", "absl::flat_hash_map<int>::resize(unsigned long)", L),
    ("alloc::raw_vec::RawVec<T>::grow_one", "", L),
    ("<alloc::vec::Vec<T> as core::clone::Clone>::clone", "", L),
    ("<T as alloc::slice::hack::ConvertVec>::to_vec", "", L),
    ("<alloc::raw_vec::RawVecInner>::grow_amortized", "", L),
    ("runtime.mallocgc", "", L),
    ("runtime.asmcgocall.abi0", "", L),
    ("runtime.(*mheap).alloc", "", L),
    ("_cgo_228573a25862_Cfunc__Cmalloc", "", L),
    ("main._cgo_cmalloc.abi0", "", L),
    ("example.com/a/b._Cfunc_CString", "", L),
    ("__libc_start_call_main", "", S),
    ("clone3", "", S),
    ("AllocateHeap", "AllocateHeap(unsigned long, MEMFLAGS)", W),
    ("v8::internal::AllocWithRetry", "v8::internal::AllocWithRetry(unsigned long)", W),
    ("v8::internal::Heap::SetUp", "v8::internal::Heap::SetUp()", R),
    ("Builtins_CEntry", "", R),
    # What only looks like one of them.
    ("main", "", P),
    ("core::Engine::load", "core::Engine::load(int)", P),
    ("alloc::Pool::get", "alloc::Pool::get() const", P),
    ("<alloc::vec::Vec<T> as shop::Basket>::add", "", P),
    ("<shop::Order as core::clone::Clone>::clone", "", P),
    ("zmalloc_get_rss", "", P),
    ("realloc_table", "", P),
    ("run_malloc", "", P),
    ("cache__malloc_stats", "", P),
    ("PyObject_Call", "", P),
    ("array_zeros", "", P),
    ("at::native::mm", "at::native::mm(at::Tensor const&)", P),
    ("mkl_blas_sgemm", "", P),
    ("shop::structured_cart::set_output", "shop::structured_cart::set_output(int)", P),
    ("stdlib::load", "stdlib::load()", P),
    ("k8s.io/apimachinery/pkg/runtime.Encode", "", P),
    ("absl_demo", "", P),
]


PYTHON = [
    ("/srv/me/shop/app.py", P),
    ("/usr/lib/python3.11/json/decoder.py", L),
    ("/opt/conda/lib/python3.13t/threading.py", L),
    ("/srv/me/.venv/lib/python3.12/site-packages/pandas/core/frame.py", L),
    ("/usr/lib/python3/dist-packages/apt/cache.py", L),
    ("<frozen importlib._bootstrap>", L),
    ("<__array_function__ internals>", L),
    ("<attrs generated init shop.Cart>", L),
    ("<eval_with_key>.3", L),
    ("<stdin>", P),
    ("<ipython-input-3-0ab>", P),
    ("<string>", P),
    ("/srv/me/python3/app.py", P),
    ("", P),
]


@pytest.mark.parametrize(("file", "role"), PYTHON, ids=[r[0] or "none" for r in PYTHON])
@pytest.mark.parametrize("name", ["load", "malloc", "std::vector::push", "_start", "runtime.go"])
def test_a_python_function_has_its_role_by_its_file_alone(name: str, file: str, role: Role) -> None:
    function = Function(f"{name} (x.py)", name, file, file, python=True)
    assert Libraries().roles([function]) == [role]
    function = dataclasses.replace(function, name=name)
    assert Libraries().roles([function]) == [role]
    assert not any(is_allocator(function, rule) for rule in FrameRule)


def test_a_python_function_of_another_tools_file_has_the_same_role() -> None:
    package = "/usr/lib/python3.11/site-packages/shop/cart.py"
    functions = [Function("malloc", "malloc", "", f) for f in (package, "/src/util.py")]
    assert Libraries().roles(functions) == [L, P]


def test_the_user_says_whose_a_python_function_is() -> None:
    package = "/usr/lib/python3.11/site-packages/shop/cart.py"
    functions = [Function("f (x)", "f", f, f, python=True) for f in (package, "/src/util.py")]
    rules = Libraries((re.compile("util"),), (re.compile("site-packages/shop/"),))
    assert rules.roles(functions) == [P, L]


def test_extension_modules_are_libraries_beside_python_frames_alone() -> None:
    folder = "/usr/lib/python3.11"
    paths = [f"{folder}/lib-dynload/_json.so", f"{folder}/site-packages/numpy.libs/libx.so",
             "/usr/lib/libtorch_cpu.so.1.13", "/usr/lib/openblas/libopenblasp-r0.3.21.so",
             "/src/fast.so", "/src/libtorchard.so"]  # fmt: skip
    functions = [Function("take", "take", path) for path in paths]
    assert Libraries().roles(functions) == [P] * 6
    assert Libraries().roles(functions, beside_python=True) == [L, L, L, L, P, P]


@pytest.mark.parametrize(("name", "full", "role"), ROLES, ids=[r[0] for r in ROLES])
def test_a_function_has_its_role_by_name(name: str, full: str, role: Role) -> None:
    assert Libraries().roles([Function(name, full or name, "/opt/shop")]) == [role]


@pytest.mark.parametrize(("module", "role"), [
    ("/lib/x86_64-linux-gnu/libc.so.6", L),
    ("/lib/libc-2.31.so", L),
    ("/usr/lib/libstdc++.so.6.0.30", L),
    ("/lib64/ld-linux-x86-64.so.2", L),
    ("/usr/lib/libglib-2.0.so.0.7400.6", L),
    ("/usr/lib/libboost_system.so.1.74.0", L),
    ("/usr/lib/libc.so.6 (deleted)", L),
    ("/lib/x86_64-linux-gnu/libffi.so.8.1.2", L),
    ("/usr/lib/jvm/java-17/lib/server/libjvm.so", R),
    ("/opt/jdk-17/bin/../lib/libjli.so", R),
    ("/opt/java/openjdk/lib/libnio.so", R),
    ("/jre/lib/amd64/libnet.so", R),
    ("/usr/bin/node", R),
    ("/usr/bin/node (deleted)", R),
    ("/usr/lib/libnode.so.115", R),
    ("/srv/build/node", P),
    ("/srv/bin/node/libshop.so", P),
    ("/opt/java/shop/lib/libshop.so", P),
    ("/usr/lib/libzip.so", P),
    ("/usr/lib/libffitting.so.1", P),
    ("/usr/lib/libcrypto.so.3", P),
    ("/opt/libc_utils.so", P),
    ("/opt/libapricot.so", P),
    ("/opt/libm_extra.so", P),
    ("", P),
])  # fmt: skip
def test_all_functions_of_a_runtime_are_a_librarys(module: str, role: Role) -> None:
    functions = [
        Function("helper", "helper", module),
        Function("x+0x10", "x+0x10", module, known=False),
    ]
    assert Libraries().roles(functions) == [role, role]


@pytest.mark.parametrize(("full", "role"), [
    ("void java.nio.ByteBuffer.allocateDirect(int)", L),
    ("java.util.HashMap.put", L),
    ("void javassist.Shop.load(int)", P),
    ("int com.shop.java.Cart.add(java.lang.String)", P),
    ("Interpreter", L),
    ("StubRoutines (1)", L),
    ("new_instance Runtime1 stub", L),
    ("JS:~Module._load node:internal/modules/cjs/loader:922:24", L),
    ("JS:~ node:path:1208:10", L),
    ("JS:*parse file:///srv/shop/node_modules/csv/index.js:4:1", L),
    ("JS:~load /srv/shop/node:9/app.js:4:1", P),
    ("JS:~load /srv/shop/app.js:4:1", P),
    ("Interpreter::load", P),
])  # fmt: skip
def test_code_that_a_runtime_made_has_its_role_by_what_the_runtime_lists(
    full: str, role: Role
) -> None:
    assert Libraries().roles([Function(full, full, ""), Function(full, full, "/x")]) == [role, P]


def test_a_function_is_a_librarys_by_the_source_that_it_is_from() -> None:
    sources = {"/rustc/90b35a/library/alloc/src/vec/mod.rs": L, "/usr/include/c++/12/bits/x.h": L,
               "/rust/deps/hashbrown-0.16.1/src/raw/alloc.rs": L,
               "/usr/include/asio/read.hpp": L, "/usr/local/include/json.hpp": L,
               "/usr/src/include/x.h": P, "/src/include/cxx/x.h": P}  # fmt: skip
    functions = [Function("f", "f(int)", "/opt/shop", file) for file in sources]
    assert Libraries().roles(functions) == list(sources.values())


def test_every_row_of_the_table_has_a_reason_and_matches_in_time_by_the_length() -> None:
    assert all(row.reason and re.compile(row.pattern) for row in LIBRARIES)
    hostile = ["a" * 60_000, "a_" * 30_000, "a::" * 20_000, "<" * 60_000, "< as " * 12_000,
               "std" * 20_000, "g_" * 30_000 + "malloc" * 9, "ab_" * 20_000 + "_mallo"]  # fmt: skip
    functions = [Function(n, n, n, n) for n in hostile]
    assert len(Libraries().roles(functions)) == len(hostile)


def test_the_users_patterns_match_anywhere_and_program_wins() -> None:
    rules = Libraries((re.compile("pool_"),), (re.compile("^std::hash"), re.compile("keep")))
    functions = [
        Function(n, n, m)
        for n, m in (("pool_get", "x"), ("f", "/opt/pool_x.so"), ("std::hash::f", "x"),
                     ("pool_keep", "x"), ("std::map::f", "x"))
    ]  # fmt: skip
    assert rules.roles(functions) == [L, L, P, P, L]


# What is charged.

NAMES = ("malloc", "zmalloc", "std::vector::push_back", "load", "serve", "main", "_start")
filled = st.lists(
    st.lists(st.integers(0, len(NAMES) - 1), min_size=1, max_size=8), max_size=12, unique_by=tuple
)


def spelled(stacks: list[list[int]], names: tuple[str, ...] = NAMES) -> tuple[Profile, Symbols]:
    texts = tuple((" ".join(f"f{x}" for x in stack), 1 << k) for k, stack in enumerate(stacks))
    profile, symbols = named(texts)
    # The helper sorts its words, which keeps these in order.
    used = sorted({x for stack in stacks for x in stack})
    functions = [Function(names[x], names[x], "/opt/shop", "") for x in used]
    symbols.functions[:] = functions
    return profile, mark_libraries(profile, symbols, Libraries())


def charged(stack: list[int], names: tuple[str, ...] = NAMES) -> int:
    """The same, frame by frame."""
    roles = Libraries().roles([Function(n, n, "/opt/shop") for n in names])
    own = [is_allocator(Function(n, n, "/opt/shop"), FrameRule.OWN) for n in names]
    begin = max((k + 1 for k, x in enumerate(stack) if own[x]), default=0)
    begin = min(begin, len(stack) - 1)
    for wanted in (P, L):
        for k in range(begin, len(stack)):
            if roles[stack[k]] is wanted:
                return k
    return begin


@pytest.mark.parametrize(("stack", "charged"), [
    ("malloc std::v v8::New made loop", "made"),
    ("malloc std::v v8::New v8::Start main", "main"),
    ("malloc std::v v8::New v8::Start _start", "v8::New"),
    ("malloc std::v v8::New 0x1 loop", "v8::New"),
    ("malloc std::v 0x1 v8::New loop", "std::v"),
    ("malloc zmalloc 0x1 v8::New loop", "0x1"),
])  # fmt: skip
def test_a_runtimes_memory_counts_for_the_program_and_else_for_the_runtime(
    stack: str, charged: str
) -> None:
    profile, symbols = named(((stack, 8),))
    symbols.functions[:] = [
        dataclasses.replace(f, known=f.name != "0x1", module="") for f in symbols.functions
    ]
    symbols = mark_libraries(profile, symbols, Libraries())
    assert [r.name for r in rows_of(sum_stacks(profile, symbols)) if r.flat.value] == [charged]


@given(filled)
def test_blocks_count_for_the_first_frame_that_is_the_programs(stacks: list[list[int]]) -> None:
    if not stacks:
        return
    _, symbols = spelled(stacks)
    begin = charged_from(symbols, FrameRule.PROGRAM) - symbols.offsets[:-1]
    assert begin.tolist() == [charged(stack) for stack in stacks]


@given(filled)
def test_no_byte_vanishes_and_sums_stay_equal_whatever_is_folded(stacks: list[list[int]]) -> None:
    if not stacks:
        return
    profile, symbols = spelled(stacks)
    for unit in Unit:
        sums = {rule: sum_stacks(profile, symbols, unit=unit, rule=rule) for rule in FrameRule}
        flat = {r: sum(row.flat.value for row in rows_of(s)) for r, s in sums.items()}
        assert set(flat.values()) == {profile.total(Count.INUSE, unit).value}
        variances = {float(s.variances.sum()) for s in sums.values()}
        assert len(variances) == 1
    places = find_places(profile, symbols, FrameRule.OWN)
    folded = find_places(profile, symbols)
    for k in range(len(stacks)):
        whole = places.frames[int(places.place[k])]
        assert whole[int(places.owner[places.place[k]]) :] == folded.frames[int(folded.place[k])]


def test_places_end_at_jit_code_which_is_compiled_again_and_again() -> None:
    """One call of `insert`, interpreted and twice compiled, and another one below named code."""
    texts = ("insert Builtins_Entry main", "insert x1 main", "insert x2 main", "insert handle main")
    profile, symbols = named(tuple((text, 8) for text in texts))
    symbols.functions[:] = [
        Function("0x" + f.name, "", "", known=False) if f.name.startswith("x") else f
        for f in symbols.functions
    ]
    places = find_places(profile, symbols, FrameRule.OWN, to_jit=True)
    assert [[f.function for f in places.frames[int(k)]] for k in places.place] == [
        *[["insert"]] * 3, ["insert", "handle", "main"],
    ]  # fmt: skip
    assert places.owner.tolist() == [0, 0]
    assert len(find_places(profile, symbols, FrameRule.OWN)) == 4


def test_places_of_named_code_begin_at_it_however_it_was_run() -> None:
    texts = ("v8::New Builtins_Entry f v8::Call g", "v8::New f Builtins_Exit f", "v8::New f h")
    profile, symbols = named(tuple((text, 8) for text in texts))
    symbols = mark_libraries(profile, symbols, Libraries())
    places = find_places(profile, symbols, FrameRule.OWN, to_jit=True)
    assert [[f.function for f in places.frames[int(k)]] for k in places.place] == [
        ["f", "v8::Call", "g"], ["v8::New", "f"], ["v8::New", "f", "h"],
    ]  # fmt: skip


def test_the_script_of_a_command_is_nobody_s_own_code() -> None:
    def python(name: str, file: str) -> Function:
        return Function(name, name, file, file, python=True)

    start, own = python("<module>", "/venv/bin/uvicorn"), python("<module>", "/srv/bin/load.py")
    assert Libraries().roles([start, own, python("main", "/srv/bin/tool")]) == [L, P, P]


def test_a_library_further_out_stays_because_it_called_the_program() -> None:
    stacks = (("malloc std::vector::push_back load std::thread::run main", 8),)
    profile, symbols = named(stacks)
    symbols = mark_libraries(profile, symbols, Libraries())
    rows = {r.name: r.cum.value for r in rows_of(sum_stacks(profile, symbols))}
    assert rows == {"load": 8, "std::thread::run": 8, "main": 8}


def test_the_view_keeps_all_frames_where_that_is_asked() -> None:
    profile, symbols = named((("malloc zmalloc load main", 8),))
    symbols = mark_libraries(profile, symbols, Libraries())
    for rule, first in ((FrameRule.PROGRAM, "load"), (FrameRule.OWN, "zmalloc"),
                        (FrameRule.JEPROF, "zmalloc"), (FrameRule.NONE, "malloc")):  # fmt: skip
        sums = make_view(profile, symbols, Filters(rule=rule)).sums()
        assert [r.name for r in rows_of(sums) if r.flat.value] == [first]


# By shape.


def wrapped(
    callers: int, sizes: int, function: str = "get", *, also: tuple[tuple[str, int], ...] = ()
) -> tuple[Profile, Symbols]:
    stacks = [
        (f"malloc {function} user{k:02} main", 100 + 16 * (k % sizes)) for k in range(callers)
    ]
    return named((*stacks, *also))


def passing(
    profile: Profile, symbols: Symbols, libraries: Libraries | None = None
) -> tuple[str, ...]:
    return mark_libraries(profile, symbols, libraries or Libraries()).passing


def test_what_allocates_for_many_callers_in_sizes_that_they_choose_is_a_wrapper() -> None:
    profile, symbols = wrapped(8, 8)
    marked = mark_libraries(profile, symbols, Libraries())
    assert marked.passing == ("get",)
    flat = {r.name for r in rows_of(sum_stacks(profile, marked)) if r.flat.value}
    assert flat == {f"user{k:02}" for k in range(8)}


def test_a_wrapper_that_another_one_calls_is_found_with_it() -> None:
    through = tuple((f"malloc get get_zeroed other{k:02} main", 300 + 16 * k) for k in range(8))
    assert set(passing(*wrapped(8, 8, also=through))) == {"get", "get_zeroed"}


@pytest.mark.parametrize(("why", "profile"), [
    ("few callers", wrapped(LEAST_CALLERS - 1, 8)),
    ("a factory has one size", wrapped(8, 1)),
    ("one caller has most", wrapped(8, 8, also=(("malloc get user00 main", 100),) * 30)),
    ("it calls others that allocate", wrapped(8, 8, also=(("malloc load get main", 64),))),
])  # fmt: skip
def test_what_lacks_one_mark_of_a_wrapper_is_none(
    why: str, profile: tuple[Profile, Symbols]
) -> None:
    assert passing(*profile) == (), why


def test_the_project_can_keep_what_looks_like_a_wrapper() -> None:
    assert passing(*wrapped(8, 8), Libraries(program=(re.compile("^get$"),))) == ()


def test_a_profile_to_compare_with_is_charged_alike() -> None:
    new, old = wrapped(8, 8), wrapped(LEAST_CALLERS - 1, 8)
    marked = mark_libraries(*new, Libraries())
    like = mark_libraries(*old, Libraries(), passing=marked.passing)
    assert like.passing == ("get",)
    rows = diff_profiles((old[0], like), (new[0], marked)).rows
    assert "get" not in {r.frames[0].function for r in rows}


def test_a_nameless_function_below_a_named_allocator_of_its_file_is_one() -> None:
    profile, symbols = named((
        ("malloc app+0x1 palloc copyObject main", 100), ("malloc app+0x1 palloc plan main", 100),
        ("malloc app+0x2 app+0x1 MemoryContextAlloc app+0x3 main", 100),
        ("malloc app+0x1 app+0x4 main", 100), ("malloc app+0x4 main", 100),
    ))  # fmt: skip
    functions = [
        dataclasses.replace(f, known="+" not in f.name, module="/app") for f in symbols.functions
    ]
    symbols = dataclasses.replace(symbols, functions=functions)
    marked = mark_libraries(profile, symbols, Libraries())
    assert set(marked.passing) == {"app+0x1", "app+0x2"}
    flat = {r.name: r.flat.value for r in rows_of(sum_stacks(profile, marked)) if r.flat.value}
    assert flat == {"copyObject": 100, "plan": 100, "app+0x3": 100, "app+0x4": 200}


def test_every_line_of_a_wrapper_must_look_like_one() -> None:
    """A large function with a line for every size is no wrapper."""
    profile, symbols = wrapped(8, 8)
    get = next(k for k, f in enumerate(symbols.functions) if f.name == "get")
    lines = [Location(get, "get.c", 100 + k) for k in range(8)]
    at = np.flatnonzero(symbols.function_of_location[symbols.locations_of_stack] == get)
    symbols.locations_of_stack[at] = len(symbols.locations) + np.arange(8)
    symbols.locations += lines
    assert passing(profile, symbols) == ()


def test_what_is_left_out_for_its_name_alone_is_told_with_the_way_to_keep_it() -> None:
    stacks = (("malloc f_malloc g_malloc load main", 64), ("malloc palloc f_strdup main", 64))
    profile, symbols = named(stacks)
    symbols.functions[:] = [dataclasses.replace(f, module="/opt/shop") for f in symbols.functions]
    marked = mark_libraries(profile, symbols, Libraries())
    told = (
        "named like malloc, so counted for their callers: f_malloc, f_strdup; "
        'program = ["^f_malloc$"] in .mem_parser.toml keeps one'
    )
    assert list(folded_lines(marked, FrameRule.PROGRAM)) == [told]
    assert list(folded_lines(marked, FrameRule.OWN)) == []
    kept = mark_libraries(profile, symbols, Libraries(program=(re.compile("^f_"),)))
    assert list(folded_lines(kept, FrameRule.PROGRAM)) == []


def reporting(stack: str) -> tuple[Profile, Symbols]:
    """A stack whose innermost function is one of `mem_profiler.h`, inlined into the next."""
    profile, symbols = named((("mem_profiler_report_allocation " + stack, 100),))
    header = int(symbols.locations_of_stack[0])
    symbols.locations[header] = dataclasses.replace(symbols.locations[header], inlined=True)
    return profile, symbols


def test_what_reports_its_blocks_by_the_header_is_an_allocator() -> None:
    profile, symbols = reporting("Pool::get load main")
    own = sum_stacks(profile, symbols, rule=FrameRule.OWN)
    assert [r.name for r in rows_of(own) if r.flat.value] == ["Pool::get"]
    marked = mark_libraries(profile, symbols, Libraries())
    assert marked.passing == ("Pool::get",)
    assert [r.name for r in rows_of(sum_stacks(profile, marked)) if r.flat.value] == ["load"]


@pytest.mark.parametrize(
    ("stack", "libraries"),
    [("main _start", Libraries()), ("get main", Libraries(program=(re.compile("^get$"),)))],
)
def test_main_and_what_the_project_keeps_are_none_though_they_report(
    stack: str, libraries: Libraries
) -> None:
    assert passing(*reporting(stack), libraries) == ()


# The project's file.


def write(folder: Path, text: str, mode: int = 0o644) -> Path:
    path = folder / projectfile.NAME
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def test_the_nearest_project_file_holds_up_to_the_repository(tmp_path: Path) -> None:
    below = tmp_path / "a" / "b"
    below.mkdir(parents=True)
    write(tmp_path, 'library = ["^mine"]\nprogram = "^std::hash"')
    (tmp_path / ".git").mkdir()
    found = projectfile.of_folder(str(below))
    assert [p.pattern for p in found.library] == ["^mine"]
    assert [p.pattern for p in found.program] == ["^std::hash"]
    (tmp_path / "a" / ".git").mkdir()
    assert projectfile.of_folder(str(below)) == Libraries()


@pytest.mark.parametrize(("text", "problem"), [
    ("library = 3", "library is not a list"),
    ("libary = []", "unknown key 'libary'"),
    ("library = ['(']", "is not a regular expression"),
    ("library = [", "Invalid value"),
    ("a = \x00", "line 1"),
])  # fmt: skip
def test_a_broken_project_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UsageProblem, match=re.escape(problem)) as error:
        projectfile.load(str(path))
    assert str(path) in str(error.value)


def test_a_project_file_that_others_can_write_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "library = []", 0o666)
    with pytest.raises(UsageProblem, match="others can write it"):
        projectfile.load(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user")
def test_a_project_file_of_another_user_is_none_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a folder like /tmp anybody can put one above a folder of ours."""
    below = tmp_path / "a"
    below.mkdir()
    os.chown(write(tmp_path, "library = 3"), 65534, 65534)
    (tmp_path / ".git").mkdir()
    assert projectfile.of_folder(str(below)) == Libraries()
    monkeypatch.setenv("SUDO_UID", "65534")
    monkeypatch.setenv("SUDO_GID", "65534")
    with pytest.raises(UsageProblem, match="is not a list"):
        projectfile.of_folder(str(below))


def test_a_project_file_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / projectfile.NAME)
    with pytest.raises(UsageProblem, match="is a pipe"):
        projectfile.of_folder(str(tmp_path))
