"""Mangled names as people write them, whatever they do to the demangler."""

from __future__ import annotations

import os
import signal

import pycxxfilt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mem_parser.readers import read_bytes
from mem_parser.symbols import demangle
from mem_parser.symbols.demangle import demangled, full_name, short_name


def test_a_short_symbol_that_doubles_itself_stays_as_it_is() -> None:
    # f(A<int>, B<A<int>, A<int>>, ...): each argument is two of the one before.
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    symbol = "_Z1f1AIiE1BIS0_S0_E" + "".join(f"S1_IS{d}_S{d}_E" for d in digits[2:21])
    assert demangled([symbol]) == {symbol: (symbol, symbol)}
    assert demangled(["_Z1f1AIiE"]) == {"_Z1f1AIiE": ("f", "f(A<int>)")}


@pytest.mark.parametrize(("symbol", "short"), [
    ("malloc", "malloc"),
    ("_Znwm", "operator new"),
    ("_Znam", "operator new[]"),
    ("_ZNSt6vectorIiSaIiEE9push_backERKi", "std::vector::push_back"),
    ("_ZN12_GLOBAL__N_13fooEv", "(anonymous namespace)::foo"),
    ("_ZNK3Foo3barEv", "Foo::bar"),
    ("_ZN3FooptEv", "Foo::operator->"),
    ("_ZNKSt4lessIiEclERKiS2_", "std::less::operator()"),
    ("_ZStlsISt11char_traitsIcEERSt13basic_ostreamIcT_ES5_PKc", "std::operator<<"),
    ("_RNvCs1234_7mycrate3foo", "mycrate::foo"),
    ("_ZN4core3fmt9Formatter3pad17h0123456789abcdefE", "core::fmt::Formatter::pad"),
    ("_Znot_a_name", "_Znot_a_name"),
])  # fmt: skip
def test_short_names_have_neither_parameters_nor_template_arguments(
    symbol: str, short: str
) -> None:
    assert short_name(symbol) == short


def test_names_cannot_move_the_cursor() -> None:
    assert full_name("evil\x1b[2Jname\r\n") == r"evil\x1b[2Jname\r\n"


@given(st.text(max_size=60).map(lambda t: "_Z" + t) | st.text(max_size=60))
def test_any_text_has_a_name(text: str) -> None:
    assert isinstance(short_name(text), str)
    assert full_name(text).isprintable()


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_name_that_kills_the_demangler_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pycxxfilt.demangle
    monkeypatch.setattr(
        pycxxfilt, "demangle", lambda name: killed() if name == "_Z3badv" else made(name)
    )
    monkeypatch.setattr(demangle, "_AT_A_TIME", 2)
    known = demangle.demangled(["_Z1av", "_Z1bv", "_Z3badv", "_Z1cv", "_Z1dv"])
    assert known["_Z1av"] == ("a", "a()")
    assert known["_Z3badv"] == ("_Z3badv", "_Z3badv")
    assert known["_Z1dv"] == ("d", "d()")
    embedded = read_bytes(b"main;_Z1av 5\nmain;_Z3badv 10\n_Z1bv;c 3\n", "x").embedded
    assert embedded is not None
    found = {f.name for frames in embedded.frames.values() for f in frames}
    assert found == {"main", "_Z1av", "_Z3badv", "b", "c"}


def test_a_template_function_whose_arguments_llvm_cannot_read_has_its_name() -> None:
    made = (
        "_ZSt11make_sharedI7SessionJRmRKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEEEE"
        "St10shared_ptrINSt9enable_ifIXntsrSt8is_arrayIT_E5valueESD_E4typeEEDpOT0_"
    )  # of g++ 12, for std::make_shared<Session>(unsigned long&, std::string const&)
    assert short_name(made) == "std::make_shared"
    assert " std::make_shared<Session, unsigned long&, " in full_name(made)
    for broken in ("_Z3fo", "_Z9", "_Z3fooE", "_Z3f-oI", "_ZSt"):
        assert short_name(broken) == broken
