"""Read files through another process, for one that may not open any.

A process that reads hostile data and has given up all rights cannot open the programs that its
profiles name, nor start readers for them. It calls `ask_by` once; from then on its questions of
files go to a process that may read them, where `answer` answers. Both are JSON, and neither side
believes the other: what comes back is checked as a reader's answer is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from mem_parser.errors import InputFileError
from mem_parser.model import Capture, ExecRange, Module
from mem_parser.plainfile import stored_bytes
from mem_parser.symbols import answerform
from mem_parser.symbols.answerform import Answer
from mem_parser.symbols.cache import SymbolCache, default_folder
from mem_parser.symbols.constant import ConstantText, returned_text
from mem_parser.symbols.files import Binary, ModuleFinder, is_file_of, open_binary
from mem_parser.symbols.isolation import Crash, Job, Json, in_child
from mem_parser.symbols.keptnames import KeptNames
from mem_parser.symbols.modulenames import ModuleNames
from mem_sandbox.child import whole_number

MOST_MODULES = 1 << 14
_HIGHEST = (1 << 64) - 1
_NO_ANSWER = (ValueError, TypeError, LookupError, AttributeError)

Addresses = npt.NDArray[np.uint64]
Asker = Callable[[Json], Json]
_Given = tuple[str, bool]
"""Build-id of a given file, and whether it can be that of the module asked of."""

_asker: Asker | None = None
_texts: dict[tuple[str, str, str], ConstantText | Crash | None] = {}
_files: dict[tuple[str, str], _Given] = {}


def ask_by(asker: Asker) -> None:
    """From now on ask by ``asker`` of files, for as long as this process lives."""
    global _asker  # noqa: PLW0603 - a process has these rights or has not
    _asker = asker
    _texts.clear()
    _files.clear()


def is_asked() -> bool:
    """Tell whether another process reads files for this one."""
    return _asker is not None


# The side that asks.


@dataclass(frozen=True, slots=True)
class Asked:
    """A query about one module: addresses, and which of them are foreign leaves."""

    module: Module
    addresses: Addresses
    foreign_leaf: npt.NDArray[np.bool_]


def names(asked: Sequence[Asked], debug_dirs: Sequence[str]) -> list[Answer | Crash]:
    """Return the names in each module's files for its addresses."""
    if not asked:
        return []
    told = _ask(
        {
            "kind": "names",
            "debug_dirs": list(debug_dirs),
            "asked": [
                {
                    "module": _written(one.module),
                    "addresses": one.addresses.tolist(),
                    "foreign": np.flatnonzero(one.foreign_leaf).tolist(),
                }
                for one in asked
            ],
        }
    )
    found: list[Answer | Crash] = []
    for k in range(len(asked)):
        try:
            found.append(_outcome(told[k], answerform.read))
        except _NO_ANSWER:
            found.append(Crash("made its reader give an invalid answer"))
    return found


def text_of(main: Module, function: str) -> ConstantText | Crash | None:
    """Return the text that a function of a program returns, as `constant.returned_text`; it is
    asked once.
    """
    key = (main.path, main.build_id, function)
    if key not in _texts:
        told = _ask({"kind": "text", "module": _written(main), "function": function})
        try:
            _texts[key] = _outcome(told, ConstantText.read)
        except _NO_ANSWER:
            _texts[key] = Crash("made its reader give an invalid answer")
    return _texts[key]


def open_given(path: str, cache: SymbolCache) -> Binary:
    """Open the program's file that the user gave. Raises `InputFileError`."""
    return Binary(path, cache) if _asker is None else _AskedBinary(path)


class _AskedBinary(Binary):
    """The program's own file, of which another process tells the facts."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.build_id = _given(path, None)[0]

    def fits(self, module: Module) -> bool:
        return _given(self.path, module)[1]


def _given(path: str, module: Module | None) -> _Given:
    key = (path, "" if module is None else module.path)
    if key not in _files:
        form = None if module is None else _written(module)
        told = _ask({"kind": "given", "path": path, "module": form})
        try:
            found = _outcome(told, _given_read)
        except _NO_ANSWER:
            found = Crash("made its reader give an invalid answer")
        if isinstance(found, Crash):
            raise InputFileError(f"{path} {found.text}")
        build_id, fits, problem = found
        if problem:
            raise InputFileError(problem)
        _files[key] = (build_id, fits)
    return _files[key]


def _ask(question: Json) -> Json:
    assert _asker is not None
    return _asker(question)


def _outcome(told: Json, read: Callable[[Json], Any]) -> Any:
    if "crash" in told:
        return Crash(str(told["crash"])[:1000])
    return read(told["answer"])


def _given_read(answer: Json) -> tuple[str, bool, str]:
    build_id, fits, problem = answer
    return str(build_id)[:1000], bool(fits), str(problem)[:1000]


# The side that answers.


def answer(question: Json) -> Json:
    """Return the answer to a question of another process. Raises ValueError, TypeError,
    LookupError, AttributeError for an invalid question.
    """
    if question["kind"] == "text":
        return _text_answer(_read(question["module"]), str(question["function"]))
    if question["kind"] == "given":
        form = question["module"]
        return _given_answer(str(question["path"]), None if form is None else _read(form))
    asked = [
        Asked(
            _read(one["module"]),
            np.array([whole_number(a, _HIGHEST) for a in one["addresses"]], dtype=np.uint64),
            _marked(one["foreign"], len(one["addresses"])),
        )
        for one in question["asked"][:MOST_MODULES]
    ]
    debug_dirs = [str(folder) for folder in question["debug_dirs"]]
    return _names_answer(asked, debug_dirs)


@dataclass
class _Program:
    """As much of a profile as finding files needs."""

    modules: list[Module]
    capture: Capture = field(default_factory=Capture)


def _names_answer(asked: Sequence[Asked], debug_dirs: Sequence[str]) -> Json:
    cache = SymbolCache(default_folder())
    finder = ModuleFinder(_Program([one.module for one in asked]), None, debug_dirs, cache=cache)
    known = [_remembered(one, finder, cache) for one in asked]
    left = [one for one, found in zip(asked, known, strict=True) if found is None]
    read: dict[str, KeptNames] = {}
    job: Job[Asked, Json] = Job(
        lambda one: answerform.written(_found(one, finder, cache, read)),
        lambda form: answerform.written(answerform.read(form)),
        lambda one: finder.stored_bytes(one.module),
        **finder.rights(),
    )
    others = in_child(left, job)
    told = [next(others) if one is None else answerform.written(one) for one in known]
    next(others, None)  # ends the child
    return [_told(one) for one in told]


def _remembered(one: Asked, finder: ModuleFinder, cache: SymbolCache) -> Answer | None:
    module = ModuleNames(one.module, finder, cache)
    found = module.remembered(one.addresses, one.foreign_leaf)
    if found is None:
        return None
    return Answer(found[0].tolist(), found[1], module.problem, found[2].tolist())


def _found(
    one: Asked, finder: ModuleFinder, cache: SymbolCache, read: dict[str, KeptNames]
) -> Answer:
    module = ModuleNames(one.module, finder, cache, read)
    virtual, frames, starts = module.find(one.addresses, one.foreign_leaf)
    return Answer(virtual.tolist(), frames, module.problem, starts.tolist())


def _text_answer(main: Module, function: str) -> Json:
    finder = ModuleFinder(_Program([main]))

    def look(module: Module) -> Json:
        image = finder.files_of(module).image
        found = None if image is None else returned_text(image, function)
        return found and [found.text, found.problem]

    def understand(form: Json) -> Json:
        found = ConstantText.read(form)
        return found and [found.text, found.problem]

    (found,) = in_child([main], Job(look, understand, finder.stored_bytes, helpers=True))
    return _told(found)


def _given_answer(path: str, module: Module | None) -> Json:
    def look(file: str) -> Json:
        try:
            image = open_binary(file)
        except InputFileError as error:
            problem = str(error)
            if isinstance(error.__cause__, PermissionError):
                problem += " to the program's user: copy it to a folder that this user may enter"
            return ["", False, problem]
        return [image.build_id, module is not None and is_file_of(module, image), ""]

    job: Job[str, Json] = Job(look, lambda form: form, stored_bytes)
    (found,) = in_child([path], job)
    return _told(found)


def _told(found: Json | Crash) -> Json:
    return {"crash": found.text} if isinstance(found, Crash) else {"answer": found}


# Modules.


def _written(module: Module) -> Json:
    return {
        "path": module.path,
        "ranges": [[r.start, r.end, r.file_offset] for r in module.ranges],
        "build_id": module.build_id,
        "bias": module.bias,
        "deleted": module.deleted,
    }


def _read(form: Json) -> Module:
    bias = form["bias"]
    if bias is not None and not (isinstance(bias, int) and -_HIGHEST <= bias <= _HIGHEST):
        raise ValueError
    ranges = [
        ExecRange(*(whole_number(n, _HIGHEST) for n in (a, b, c))) for a, b, c in form["ranges"]
    ]
    path, build_id = str(form["path"]), str(form["build_id"])
    return Module(path, ranges, build_id, bias, deleted=bool(form["deleted"]))


def _marked(which: Json, count: int) -> npt.NDArray[np.bool_]:
    marked = np.zeros(count, dtype=np.bool_)
    marked[[k for k in which if 0 <= k < count]] = True
    return marked
