"""Frames that start a program or a thread: which are folded, and that no byte moves by it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.filters import Filters
from mem_parser.libraries.mark import mark_libraries
from mem_parser.libraries.rules import Libraries
from mem_parser.libraries.shape import with_role
from mem_parser.model import Count, Profile, Unit
from mem_parser.reports.aggregate import rows_of
from mem_parser.reports.view import make_view
from mem_parser.startframes import START_FUNCTIONS, fold_starts
from mem_parser.symbols.table import LABEL_MODULE, Function, Role, Symbols
from web_profiles import Site, make_profile

STANDARD = "/usr/lib/python3.11"
PACKAGES = f"{STANDARD}/site-packages"
CELL = "/tmp/ipykernel_17/99.py"


def python(name: str, file: str) -> Function:
    return Function(f"{name} ({file})", name, file, file, python=True)


MADE = {
    "std": Function("libstdc++.so.6+0xd4490", "", "/lib/libstdc++.so.6", known=False),
    "omp": Function("libgomp.so.1+0x1d", "", "/lib/libgomp.so.1", known=False),
    "__invoke": Function("__invoke", "__invoke", "/a", "/usr/include/c++/12/bits/invoke.h"),
    "app+0x10": Function("app+0x10", "", "/app", known=False),
    "app+0x20": Function("app+0x20", "", "/app", known=False),
    "clone": Function("clone", "clone", "/lib/libc.so.6"),
    "jvm": Function("JavaThread::run", "JavaThread::run", "/jdk/lib/libjvm.so"),
    "node": Function("node::Start", "node::Start", "/usr/bin/node"),
    "v8": Function("v8::Function::Call", "v8::Function::Call", "/usr/bin/node"),
    "load": Function("Module._load", "JS:~Module._load node:internal:1:2", ""),
    "runpy": python("_run_code", "<frozen runpy>"),
    "string": python("<module>", "<string>"),
    "spawn": python("spawn_main", f"{STANDARD}/multiprocessing/spawn.py"),
    "bootstrap": python("Thread._bootstrap", f"{STANDARD}/threading.py"),
    "run": python("Thread.run", f"{STANDARD}/threading.py"),
    "own.run": python("Thread.run", "/srv/threading.py"),
    "pool": python("_worker", f"{STANDARD}/concurrent/futures/thread.py"),
    "process": python("BaseProcess._bootstrap", f"{STANDARD}/multiprocessing/process.py"),
    "worker": python("worker", f"{STANDARD}/multiprocessing/pool.py"),
    "loop": python("BaseEventLoop.run_forever", f"{STANDARD}/asyncio/base_events.py"),
    "step": Function("task_step", "task_step", f"{STANDARD}/lib-dynload/_asyncio.cpython-311.so"),
    "kernel": python("Kernel.execute_request", f"{PACKAGES}/ipykernel/kernelbase.py"),
    "shell": python("InteractiveShell.run_code", f"{PACKAGES}/IPython/core/interactiveshell.py"),
    "pytest": python("<module>", "/venv/bin/pytest"),
    "call": python("pytest_pyfunc_call", f"{PACKAGES}/_pytest/python.py"),
    "pluggy": python("_multicall", f"{PACKAGES}/pluggy/_callers.py"),
    "case": python("TestCase.run", f"{STANDARD}/unittest/case.py"),
    "test": python("test_a", "/srv/test_a.py"),
    "cell": python("<module>", CELL),
    "cell.f": python("f", CELL),
    "script": python("<module>", "/srv/app.py"),
    "[cut]": Function("[cut]", "[cut]", ""),
    "label": Function("thread io", "thread io", LABEL_MODULE),
}


def made(stacks: Sequence[str]) -> tuple[Profile, Symbols]:
    profile, symbols = make_profile(
        [Site(stack, 2, 10 << k) for k, stack in enumerate(stacks)], functions=MADE
    )
    symbols = mark_libraries(profile, symbols, Libraries())
    labels = [k for k, f in enumerate(symbols.functions) if f.module == LABEL_MODULE]
    return profile, with_role(symbols, labels, Role.START)


def spelled(symbols: Symbols) -> list[list[str]]:
    words = {f.name: word for word, f in MADE.items()}
    parts = np.split(symbols.locations_of_stack, symbols.offsets[1:-1])
    names = [
        [symbols.functions[symbols.locations[k].function].name for k in part] for part in parts
    ]
    return [[words.get(n, n) for n in reversed(part) if n != "malloc"] for part in names]


@pytest.mark.parametrize(
    ("stack", "folded"),
    [
        ("_start __libc_start_main __libc_start_call_main main f", "[program start] main f"),
        ("clone3 start_thread std std::thread::_State_impl::_M_run __invoke work std::sort f",
         "[thread start] work std::sort f"),
        ("clone3 start_thread omp main._omp_fn.0", "[thread start] main._omp_fn.0"),
        ("clone start_thread jvm work", "[thread start] work"),
        ("_start __libc_start_main node v8 load v8 work", "[program start] work"),
        ("_dl_start_user _dl_init call_init f", "[library start] f"),
        ("_start __libc_start_main call_init f", "[library start] f"),
        # `main` is the program's, unless a runtime's own function follows.
        ("_start main std::rt::lang_start_internal std::panic::x std::rt::lang_start app",
         "[program start] app"),
        ("clone f", "[thread start] f"),
        ("clone std::async __gthread_once std::call_once f", "[thread start] f"),
        ("app+0x10 __libc_start_main app+0x20 f", "[program start] app+0x20 f"),
        ("app+0x10 __libc_start_main app+0x20 Py_BytesMain script", "[program start] script"),
        ("app+0x10 app+0x20", "app+0x10 app+0x20"),
        ("_start main Py_BytesMain pymain_main run_mod script", "[program start] script"),
        ("_start main run_mod f", "[program start] main run_mod f"),
        ("_start main std::__invoke f", "[program start] main std::__invoke f"),
        ("_start main start_thread f", "[program start] main start_thread f"),
        ("runtime.goexit runtime.main main.main", "[program start] main.main"),
        ("runpy script clone3", "[program start] script clone3"),
        ("string spawn f", "[program start] f"),
        ("string f", "string f"),
        ("bootstrap run own.run", "[thread start] own.run"),
        ("own.run f", "own.run f"),
        ("bootstrap run pool f", "[thread start] f"),
        # A pool's loop is run by its processes' main threads, or by threads.
        ("_start main Py_BytesMain string spawn process worker f", "[program start] f"),
        ("script process worker f", "script process worker f"),
        ("bootstrap run worker f", "[thread start] f"),
        ("bootstrap run loop step f", "[event loop] f"),
        ("script loop step f", "script [event loop] f"),
        ("runpy kernel loop step kernel shell cell cell.f", "[notebook] cell cell.f"),
        ("runpy kernel shell cell shell cell cell.f", "[notebook] cell cell.f"),
        ("script loop step f runpy loop g", "script [event loop] f runpy [event loop] g"),
        ("_start main context_run f", "[program start] main context_run f"),
        # Whoever ran it stays outermost.
        ("label bootstrap run f", "label [thread start] f"),
        ("[cut] bootstrap run f", "[cut] [thread start] f"),
        ("[cut] start_thread f", "[cut] start_thread f"),
        ("[cut] _PyEval_EvalFrameDefault cell", "[cut] _PyEval_EvalFrameDefault cell"),
        # The frame that is charged stays: of a stack of nothing else the innermost.
        ("_start __libc_start_main", "[program start] __libc_start_main"),
        ("_start", "_start"),
        ("bootstrap run", "[thread start] run"),
        ("runpy kernel shell cell shell", "[notebook] cell shell"),
        ("runpy call pluggy call test cell.f", "[test runner] test cell.f"),
        ("_start __libc_start_main main Py_BytesMain pytest call pluggy case case test",
         "[test runner] test"),
        ("runpy script call pluggy test", "[program start] script call pluggy test"),
        ("runpy call pluggy test call", "[test runner] test call"),
    ],
)  # fmt: skip
def test_only_what_starts_the_program_is_folded(stack: str, folded: str) -> None:
    assert [" ".join(names) for names in spelled(fold_starts(made([stack])[1]))] == [folded]


NAMES = {f.name for f in START_FUNCTIONS}
WORDS = st.sampled_from(
    [*sorted(MADE.keys() - {"label"}), "_start", "__libc_start_main", "main", "clone3",
     "call_init", "Py_RunMain", "f", "g", "std::sort", "zmalloc"]
)  # fmt: skip
STACKS = st.lists(
    st.tuples(st.sampled_from(["", "label "]), st.lists(WORDS, min_size=1, max_size=7)),
    min_size=1, max_size=6,
).map(lambda stacks: [label + " ".join(words) for label, words in stacks])  # fmt: skip


@given(STACKS, st.sampled_from(Unit))
def test_no_byte_moves_by_the_fold(stacks: list[str], unit: Unit) -> None:
    profile, symbols = made(stacks)
    whole, folded = (
        make_view(profile, symbols, Filters(unit=unit, start_frames=not folds))
        for folds in (False, True)
    )
    assert folded.total == whole.total == profile.total(Count.INUSE, unit)
    before, after = ({r.name: r for r in rows_of(view.sums())} for view in (whole, folded))
    assert {n: r.flat for n, r in after.items() if r.flat.value} == {
        n: r.flat for n, r in before.items() if r.flat.value
    }
    for name, row in after.items():
        assert name in NAMES or row.cum.value <= before[name].cum.value
    for old, new in zip(spelled(whole.symbols), spelled(folded.symbols), strict=True):
        assert len(new) <= len(old)
        before, after = (
            [w for w in words if w not in ("loop", "step", "[event loop]")] for words in (old, new)
        )
        label = after[:1] == ["label"]
        label += after[label : label + 1] == ["[cut]"]
        starts = 1 if after[label : label + 1] and after[label] in NAMES else 0
        inner = after[label + starts :]
        assert before[:label] == after[:label]
        assert before[len(before) - len(inner) :] == inner
        assert NAMES & set(new) or old == new
        assert not NAMES & set(inner)
