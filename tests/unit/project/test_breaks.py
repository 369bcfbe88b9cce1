"""The tool that makes deliberate breaks."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def _tool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "breaks"))


@pytest.mark.parametrize(
    ("file", "kind", "line", "broken"),
    [
        ("x.py", "compare", "if a < b:", "if a <= b:"),
        ("x.py", "compare", "if a not in b:", "if a in b:"),
        ("x.py", "constant", "é = [f(1), 2]", "é = [f(1), 3]"),
        ("x.py", "drop", "self.end()", "pass"),
        ("x.py", "drop", "raise ValueError", "pass"),
        ("x.py", "negate", "if ready:", "if not (ready):"),
        ("x.py", "swap", "c = a and b", "c = a or b"),
        ("x.py", "swap", "c = a + b", "c = a - b"),
        ("x.c", "compare", "if (a >= b)", "if (a > b)"),
        ("x.c", "constant", 'f("7", 8);', 'f("7", 9);'),
        ("x.c", "drop", "p->end = 0;", ";"),
        ("x.c", "negate", "if (f(a) == 1) {", "if (!(f(a) == 1)) {"),
        ("x.c", "swap", "return a && b;", "return a || b;"),
    ],
)
def test_a_break_changes_one_line(file: str, kind: str, line: str, broken: str) -> None:
    from mutate import breaks_of

    body = "        pass\n" if line.endswith(":") else ""
    text = (
        f"class X:\n    {line}\n{body}" if file == "x.py" else f"int f(void)\n{{\n    {line}\n}}\n"
    )
    found = [one for one in breaks_of(file, text) if (one.kind, one.broken) == (kind, broken)]

    assert [one.apply(text) for one in found] == [text.replace(line, broken)]


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("x.c", "int total = 0;"),
        ("x.c", "/* a < b */"),
        ("x.c", "return f();"),
        ("x.py", "x: A[1]"),
    ],
)
def test_what_would_say_nothing_is_not_broken(file: str, line: str) -> None:
    from mutate import breaks_of

    found = breaks_of(file, f"    {line}\n" if file == "x.c" else line)

    assert [one for one in found if one.kind in {"drop", "compare"} or file == "x.py"] == []


def test_a_break_finds_its_line_elsewhere_and_says_when_it_is_gone() -> None:
    from mutate import Break

    one = Break("x.py", "swap", 2, "a = b + c", "a = b - c")

    assert Break.of(one.key) == one
    assert one.apply("a = b + c\nx\n  a = b + c\n") == "a = b + c\nx\n  a = b - c\n"
    assert one.apply("a = b + c\nx\n") is None


def test_a_break_follows_its_line_into_another_file(tmp_path: Path) -> None:
    from mutate import Break

    one = Break("sampler/old/x.c", "drop", 1, "f();", ";")
    (tmp_path / "sampler" / "new").mkdir(parents=True)
    (tmp_path / "sampler" / "new" / "y.c").write_text("  f();\n")

    assert one.place(tmp_path) == "sampler/new/y.c"
    (tmp_path / "sampler" / "new" / "z.c").write_text("  f();\n")
    assert one.place(tmp_path) is None


def test_the_tests_of_a_module_come_first() -> None:
    from breaks_tests import Choice

    choice = Choice()

    assert choice.tests_of("parser/mem_parser/units.py")[0] == "tests/unit/parser/test_units.py"
    assert "tests/golden" in choice.tests_of("cmd/mem_cli/parser/top.py")
    cuda = choice.tests_of("sampler/drivers/cuda/cuda.c")
    assert cuda[0] == "tests/integration/test_device_drivers.py"
