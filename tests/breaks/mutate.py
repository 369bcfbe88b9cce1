"""Deliberate breaks: one line of C or Python changed so that it means something else.

A break names its line by the text, not by a number, so that a list of breaks outlives refactorings:
`python tests/breaks/mutate.py > tests/breaks/list.tsv` chooses one by a seed.
"""

from __future__ import annotations

import argparse
import ast
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
ROOTS = ("sampler", "parser", "bindings", "cmd")
KINDS = ("compare", "constant", "drop", "negate", "swap")
MOST_OF_A_FILE = 3
PYTHON_OPS = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is",
}  # fmt: skip
C_STATEMENT = re.compile(
    r"\s+(?!return\b|goto\b)(?:\w[\w.>\[\]-]*\(.*\)|[\w.>\[\]-]+ [-+|&]?= .*|continue|break);"
)
C_OPS = {"<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "=="}
SWAPS = {"&&": "||", "||": "&&", "+": "-", "-": "+"}


class Break(NamedTuple):
    """``line`` is the ``number``-th of its file with that text, without its indentation."""

    file: str
    kind: str
    number: int
    line: str
    broken: str

    @property
    def key(self) -> str:
        """The break as a row of a list."""
        return "\t".join(map(str, self))

    @classmethod
    def of(cls, row: str) -> Break:
        """Read a row of a list."""
        file, kind, number, line, broken = row.split("\t")[:5]
        return cls(file, kind, int(number), line, broken)

    def place(self, root: Path) -> str | None:
        """Return the file that has the line now: its own, or the only other of that kind."""
        own = root / self.file
        if own.exists() and self.apply(own.read_text(encoding="utf-8")) is not None:
            return self.file
        others = [path for path in sources(root) if path.suffix == own.suffix]
        found = [p for p in others if self.apply(p.read_text(encoding="utf-8")) is not None]
        found = [p for p in found if p.name == own.name] or found
        return str(found[0].relative_to(root)) if len(found) == 1 else None

    def apply(self, text: str) -> str | None:
        """Return the broken text; None where the line is there no longer."""
        lines, seen = text.split("\n"), 0
        for at, line in enumerate(lines):
            if line.strip() == self.line:
                seen += 1
                if seen == self.number:
                    lines[at] = line[: len(line) - len(line.lstrip())] + self.broken
                    return "\n".join(lines)
        return None


class _Edit(NamedTuple):
    kind: str
    at: int
    broken: str


def breaks_of(file: str, text: str) -> list[Break]:
    """Return every break that can be made in a file."""
    edits = _python(text) if file.endswith(".py") else _c(text)
    lines = text.split("\n")
    found = []
    for kind, at, broken in edits:
        line = lines[at].strip()
        same = [k for k, other in enumerate(lines[: at + 1]) if other.strip() == line]
        if "\t" not in line and broken.strip() != line:
            found.append(Break(file, kind, len(same), line, broken.strip()))
    return list(dict.fromkeys(found))


def _python(text: str) -> Iterator[_Edit]:
    lines = text.split("\n")
    tree = ast.parse(text)
    skipped = {id(part) for note in _unseen_at_run_time(tree) for part in ast.walk(note)}
    for node in ast.walk(tree):
        part = node.test if isinstance(node, ast.If | ast.While) else node
        if id(node) in skipped or not isinstance(part, ast.expr | ast.stmt):
            continue
        if part.lineno != part.end_lineno:
            continue
        for kind, begin, end, new in _python_edits(node):
            row = lines[part.lineno - 1].encode()
            broken = row[:begin] + new(row[begin:end].decode()).encode() + row[end:]
            yield _Edit(kind, part.lineno - 1, broken.decode())


def _unseen_at_run_time(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            note = getattr(node, name, None)
            if isinstance(note, ast.AST):
                yield note
        yield from getattr(node, "decorator_list", [])
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield node


def _python_edits(node: ast.AST) -> Iterator[tuple[str, int, int, Callable[[str], str]]]:
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        new = PYTHON_OPS[type(node.ops[0])]
        begin, end = node.left.end_col_offset or 0, node.comparators[0].col_offset
        yield (
            "compare",
            begin,
            end,
            lambda old: re.sub(r"[<>=!]+|not in|is not|in\b|is\b", new, old),
        )
    elif isinstance(node, ast.Constant) and type(node.value) is int:
        yield "constant", *_span(node), lambda _, value=node.value: str(value + 1)
    elif isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "constant", *_span(node), lambda _, value=node.value: str(not value)
    elif (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)) or (
        isinstance(node, ast.AugAssign | ast.Raise | ast.Continue | ast.Break)
        or (isinstance(node, ast.Assign) and not isinstance(node.targets[0], ast.Name))
    ):
        yield "drop", *_span(node), lambda _: "pass"
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "negate", *_span(node.test), lambda old: f"not ({old})"
    elif isinstance(node, ast.BoolOp):
        begin, end = node.values[0].end_col_offset or 0, node.values[1].col_offset
        old, new = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        yield "swap", begin, end, lambda text: text.replace(old, new, 1)
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
        begin, end = node.left.end_col_offset or 0, node.right.col_offset
        yield "swap", begin, end, lambda text: text.translate({43: "-", 45: "+"})


def _span(node: ast.expr | ast.stmt) -> tuple[int, int]:
    return node.col_offset, node.end_col_offset or 0


def _c(text: str) -> Iterator[_Edit]:
    inside_comment = continued = False
    before = ";"
    for at, line in enumerate(text.split("\n")):
        code = line.split("//")[0].rstrip()
        begins_comment = "/*" in code
        skipped = inside_comment or begins_comment or continued or line.lstrip().startswith("#")
        inside_comment = (inside_comment or begins_comment) and "*/" not in code
        continued = line.endswith("\\")
        if skipped or not line.startswith((" ", "\t")):
            continue
        begins = before.endswith((";", "{", "}", ":")) or before.lstrip().startswith("if (")
        for kind, broken in _c_edits(code, begins_statement=begins):
            yield _Edit(kind, at, broken)
        before = code or before


def _c_edits(code: str, *, begins_statement: bool) -> Iterator[tuple[str, str]]:
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', lambda m: " " * len(m[0]), code)
    for match in re.finditer(r" (<=?|>=?|==|!=) ", bare):
        begin, end = match.span(1)
        yield "compare", code[:begin] + C_OPS[match[1]] + code[end:]
    for match in re.finditer(r"(?<![\w.])\d+(?=u?\b)(?![\w.]*x)", bare):
        yield "constant", code[: match.start()] + str(int(match[0], 10) + 1) + code[match.end() :]
    for match in re.finditer(r"(?<=[\w)\]]) (&&|\|\||\+|-) (?=[\w(!*&])", bare):
        begin, end = match.span(1)
        yield "swap", code[:begin] + SWAPS[match[1]] + code[end:]
    condition = re.fullmatch(r"(\s*(?:\} else )?(?:if|while) )(\(.*\))( \{| .*;)?", code)
    if condition and bare.count("(") == bare.count(")") and _closes_last(condition[2]):
        yield "negate", f"{condition[1]}(!{condition[2]}){condition[3] or ''}"
    if begins_statement and C_STATEMENT.fullmatch(bare):
        yield "drop", ";"


def _closes_last(text: str) -> bool:
    depth = 0
    for at, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return at == len(text) - 1
    return False


def sources(root: Path = ROOT) -> Iterator[Path]:
    """Yield the files in which breaks are made."""
    for part in ROOTS:
        for path in sorted((root / part).rglob("*")):
            made = path.name in {"_core.c", "_inject.c"} or path.name.startswith("_build")
            if path.suffix in {".py", ".c"} and not made:
                yield path


def choose(count: int, seed: int) -> Sequence[Break]:
    """Choose breaks: as many of C as half of Python's, the kinds evenly, few of a file."""
    by_kind: dict[tuple[bool, str], list[Break]] = defaultdict(list)
    for path in sources():
        name = str(path.relative_to(ROOT))
        for one in breaks_of(name, path.read_text(encoding="utf-8")):
            by_kind[path.suffix == ".c", one.kind].append(one)
    dice, chosen, of_file = random.Random(seed), [], Counter[str]()
    for is_c, share in ((False, 2 / 3), (True, 1 / 3)):
        for kind in KINDS:
            pool, wanted = by_kind[is_c, kind], round(count * share / len(KINDS))
            dice.shuffle(pool)
            for one in pool:
                if wanted and of_file[one.file] < MOST_OF_A_FILE:
                    chosen.append(one)
                    of_file[one.file] += 1
                    wanted -= 1
    return sorted(chosen)


def main() -> None:
    """Print a list."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=390)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for one in choose(options.count, options.seed):
        sys.stdout.write(one.key + "\n")


if __name__ == "__main__":
    main()
