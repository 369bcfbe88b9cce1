"""Answers of a reader survive the way back, and nothing forged does."""

from __future__ import annotations

import json

import pytest

from mem_parser.symbols import answerform
from mem_parser.symbols.answerform import Answer
from mem_parser.symbols.embedded import EmbeddedFrame
from mem_parser.symbols.table import SymbolProblem


def test_answers_come_back_as_they_were_and_fit_to_be_printed() -> None:
    frame = EmbeddedFrame("f", "f(int)", "a.c", 7)
    answer = Answer(
        [1, (1 << 64) - 1], [(frame, frame), ()], SymbolProblem("m", "text", "hint"),
        [1, 5],
    )  # fmt: skip
    form = json.loads(json.dumps(answerform.written(answer)))
    assert answerform.read(form) == answer
    form["frames"][0][0] = "\x1b[2J"
    assert answerform.read(form).frames[0][0].name == "\\x1b[2J"
    for bad in ([[-1]], [[1]], [["x"]], [[0, 1]]):
        with pytest.raises((ValueError, TypeError, LookupError)):
            answerform.read(form | {"at": bad})
