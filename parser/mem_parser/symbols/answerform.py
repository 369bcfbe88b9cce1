"""The answer of the reader of one module's files, and its form between processes.

The form is JSON: every distinct frame once, and for each address the frames there. It is untrusted:
`read` makes texts printable again, and raises for anything that does not fit.
"""

from __future__ import annotations

from dataclasses import dataclass

from mem_parser.symbols.demangle import printable
from mem_parser.symbols.embedded import EmbeddedFrame, Frames
from mem_parser.symbols.isolation import Json
from mem_parser.symbols.table import SymbolProblem
from mem_sandbox.child import whole_number

_HIGHEST_ADDRESS = (1 << 64) - 1
_HIGHEST_LINE = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class Answer:
    """For each address of a question the file's own address and the frames there; ``starts`` is the
    first address of its function where no frame names it and the file tells, else the address.
    """

    virtual: list[int]
    frames: list[Frames]
    problem: SymbolProblem | None
    starts: list[int]


def written(answer: Answer) -> Json:
    """Return the form of ``answer``."""
    index: dict[tuple[str, str, str, int], int] = {}
    at = [
        [index.setdefault((f.name, f.full_name, f.file, f.line), len(index)) for f in frames]
        for frames in answer.frames
    ]
    problem = answer.problem
    return {
        "virtual": answer.virtual,
        "starts": answer.starts,
        "frames": list(index),
        "at": at,
        "problem": problem and [problem.module, problem.text, problem.hint],
    }


def read(form: Json) -> Answer:
    """Return the answer of that ``form``. Raises ValueError, TypeError or LookupError."""
    known = [
        EmbeddedFrame(_text(name), _text(full), _text(file), whole_number(line, _HIGHEST_LINE))
        for name, full, file, line in form["frames"]
    ]
    virtual = [whole_number(address, _HIGHEST_ADDRESS) for address in form["virtual"]]
    starts = [whole_number(address, _HIGHEST_ADDRESS) for address in form["starts"]]
    if len(starts) != len(virtual) or any(s > a for s, a in zip(starts, virtual, strict=True)):
        raise ValueError
    frames = [tuple([known[whole_number(k, len(known))] for k in row]) for row in form["at"]]
    problem = form["problem"]
    if problem is not None:
        module, text, hint = problem
        problem = SymbolProblem(str(module), str(text), None if hint is None else str(hint))
    return Answer(virtual, frames, problem, starts)


def _text(value: Json) -> str:
    if not isinstance(value, str):
        raise TypeError
    return printable(value)
