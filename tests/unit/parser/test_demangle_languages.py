"""Names of Rust, Go, D and Swift, and the tails that compilers give to parts of functions."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from heapfiles import map_line
from mem_parser.readers import read_bytes
from mem_parser.symbols import foreign
from mem_parser.symbols.cache import SymbolCache
from mem_parser.symbols.demangle import demangled, full_name, short_name
from mem_parser.symbols.symbolizer import symbolize

WAIT_S = 120
D_NAMES = {
    "_D3app4grabFNbiAxaZPv": ("app.grab", "app.grab(int, const(char)[])"),
    "_D3app6Holder4holdMxFiZv": ("app.Holder.hold", "app.Holder.hold(int) const"),
    "_D4core6memory2GC6mallocFNaNbmkxC8TypeInfoZPv": (
        "core.memory.GC.malloc", "core.memory.GC.malloc(ulong, uint, const(TypeInfo))",
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "_known", {})


@pytest.mark.parametrize(("symbol", "short", "full"), [
    ("grow.isra.0", "grow", "grow.isra.0"),
    ("grow.part.3.constprop.1", "grow", "grow.part.3.constprop.1"),
    ("grow.constprop.0.cold", "grow", "grow.constprop.0.cold"),
    ("grow.cold.7", "grow", "grow.cold.7"),
    ("grow.llvm.1234567890", "grow", "grow.llvm.1234567890"),
    ("grow.lto_priv.0.lto_priv.1", "grow", "grow.lto_priv.0.lto_priv.1"),
    ("grow._omp_fn.0", "grow._omp_fn.0", "grow._omp_fn.0"),
    ("_Z3fooi.constprop.0", "foo", "foo(int) (.constprop.0)"),
    ("_ZN12_GLOBAL__N_13fooEv.part.0", "(anonymous namespace)::foo",
     "(anonymous namespace)::foo() (.part.0)"),
    ("_RNvCs1234_7mycrate3foo.llvm.99", "mycrate::foo", "mycrate::foo (.llvm.99)"),
    ("_ZN7mycrate3foo17h0123456789abcdefE.llvm.99", "mycrate::foo", "mycrate::foo (.llvm.99)"),
])  # fmt: skip
def test_tails_are_in_full_names_only(symbol: str, short: str, full: str) -> None:
    assert (short_name(symbol), full_name(symbol)) == (short, full)


@pytest.mark.parametrize(("symbol", "name"), [
    ("_ZN33_$LT$u32$u20$as$u20$app..Grow$GT$4grow17hab15ed9ae0f01c71E", "<u32 as app::Grow>::grow"),
    ("_ZN3std2rt10lang_start28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE",
     "std::rt::lang_start::{{closure}}"),
    ("_ZN3app14Cache$LT$T$GT$4load17hd36dfcddc502070bE", "app::Cache::load"),
    ("_RNvXs_NtCs1234_7mycrate3fooNtB4_3BarNtNtCs_4core3fmt7Display3fmt",
     "<mycrate::foo::Bar as core::fmt::Display>::fmt"),
    ("_RINvNtC7mycrate3mod3fooNtB2_3BarE", "mycrate::mod::foo::<mycrate::mod::Bar>"),
])  # fmt: skip
def test_rusts_two_manglings_are_read(symbol: str, name: str) -> None:
    assert short_name(symbol) == name


@pytest.mark.parametrize("name", [
    "main.(*Store).Load", "main.Store.Load", "main.F[...]", "main.(*Stack[...]).Push",
    "main.(*Stack[go.shape.int_0]).Push", "main.Map[go.shape.struct { a int }].Get",
    "github.com/a/b/v2.(*Client).do.func1.2", "type..eq.[2]interface {}",
    "type:.eq.struct { a int }", "net/http.(*conn).serve", "main.main.func1",
])  # fmt: skip
def test_names_of_go_are_kept_whole(name: str) -> None:
    assert (short_name(name), full_name(name)) == (name, name)


@pytest.mark.skipif(shutil.which("c++filt") is None, reason="no c++filt")
def test_names_of_d_are_those_of_the_binutils() -> None:
    tailed = {f"{s}.part.0": (short, f"{full} (.part.0)") for s, (short, full) in D_NAMES.items()}
    broken = {"_D3app4grabFNbiAxaZP": None, "_D9": None, "_Data": None}
    found = demangled([*D_NAMES, *tailed, *broken])
    assert found == D_NAMES | tailed | {s: (s, s) for s in broken}


def test_short_names_of_d_keep_template_arguments_and_drop_parameters() -> None:
    short = {
        "app.A!(int, app.B!(char)).A.push(ulong)": "app.A!(int, app.B!(char)).A.push",
        "app.main().inner(int)": "app.main.inner",
        "app.S.get() const shared": "app.S.get",
        "app.f(void delegate(int))": "app.f",
        "D main": "D main",
        "app.odd(": "app.odd",
    }
    assert {full: foreign.short(full, foreign.D) for full in short} == short


def tool(folder: Path, name: str, body: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{body}\n")
    (folder / name).chmod(0o755)


def test_names_of_swift_come_from_its_tool_where_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["$s3app5CacheC4load5countySi_tF", "_$s3app4mainyyF", "$HOME", "_T0main"]
    monkeypatch.setenv("PATH", str(tmp_path))
    assert demangled(names) == {n: (n, n) for n in names}
    tool(tmp_path, "swift-demangle", 'while read -r x; do echo "Cache.load(count:) of $x"; done')
    found = demangled(names)
    assert found["$s3app5CacheC4load5countySi_tF"] == (
        "Cache.load(count:) of $s3app5CacheC4load5countySi_tF",
    ) * 2  # fmt: skip
    assert found["$HOME"] == ("$HOME", "$HOME")


@pytest.mark.parametrize("body", ["exit 1", "echo one", "kill -9 $$", "printf '\\033[2J\\n\\n'"])
def test_a_tool_that_fails_leaves_names_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    tool(tmp_path, "c++filt", body)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(foreign, "_TOOLS", {foreign.D: (("c++filt",),), foreign.SWIFT: ()})
    found = demangled(["_D3app4grabFNbiAxaZPv", "_D3app4grabFNbiAxaZPw", "_Z3foov"])
    assert found.pop("_Z3foov") == ("foo", "foo()")
    for name, (short, full) in found.items():
        assert short.isprintable()
        assert full in {name, r"\x1b[2J"}


@pytest.mark.skipif(shutil.which("gdc") is None, reason="no D compiler")
@pytest.mark.parametrize("debug", ["-g", "-g0"])
def test_a_program_in_d_has_names(tmp_path: Path, debug: str) -> None:
    (tmp_path / "app.d").write_text(
        "module app;\nstruct Stack(T) { T[] kept; void push(size_t n) { kept.length = n; } }\n"
        "void main() { Stack!int s; s.push(100); }\n"
    )
    program = tmp_path / "app"
    subprocess.run(
        ["gdc", debug, "-O0", "-no-pie", "-Wl,--build-id=none", "-o", program, tmp_path / "app.d"],
        check=True, timeout=WAIT_S,
    )  # fmt: skip
    listed = subprocess.run(
        ["nm", program], capture_output=True, text=True, check=True, timeout=WAIT_S
    ).stdout.splitlines()
    push = next(int(x.split()[0], 16) for x in listed if "4push" in x and x.split()[1] in "TtWw")
    offset = (push - 0x400000) // 4096 * 4096
    mapped = map_line(0x400000 + offset, push + 0x40, offset, str(program))
    text = (
        "heap profile: 1: 9 [1: 9] @ heapprofile\n"
        f"     1:    9 [     1:    9] @ 0x1000 0x{push + 5:x}\n\nMAPPED_LIBRARIES:\n"
        f"{mapped}\n"
    )
    symbols = symbolize(read_bytes(text.encode(), "x"), cache=SymbolCache(None))
    assert symbols.functions[-1].name == "app.Stack!(int).Stack.push"
    assert symbols.functions[-1].full_name == "app.Stack!(int).Stack.push(ulong)"


@pytest.mark.skipif(shutil.which("rustc") is None, reason="no Rust compiler")
@pytest.mark.parametrize("mangling", ["legacy", "v0"])
def test_a_program_in_rust_has_names(tmp_path: Path, mangling: str) -> None:
    (tmp_path / "app.rs").write_text(
        "trait Grow { fn grow(&self) -> Vec<u8>; }\n"
        "impl Grow for u32 {\n"
        "#[inline(never)] fn grow(&self) -> Vec<u8> { vec![1; *self as usize] } }\n"
        'fn main() { println!("{}", std::hint::black_box(9u32).grow().len()); }\n'
    )
    program = tmp_path / "app"
    done = subprocess.run(
        ["rustc", "-g", "-O", "-Z", "unstable-options", "-C", f"symbol-mangling-version={mangling}",
         "-o", program, tmp_path / "app.rs"],
        env=os.environ | {"RUSTC_BOOTSTRAP": "1"},
        capture_output=True, text=True, timeout=WAIT_S,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"rustc: {done.stderr[:200]}")
    listed = subprocess.run(
        ["nm", program], capture_output=True, text=True, check=True, timeout=WAIT_S
    ).stdout.splitlines()
    names = [x.split()[-1] for x in listed if x.split()[-1].startswith(("_ZN", "_RNv"))]
    found = {short for short, _ in demangled(names).values()}
    assert "<u32 as app::Grow>::grow" in found
    assert not [n for n in found if "$" in n or "17h" in n or n.startswith(("_ZN", "_R"))]
