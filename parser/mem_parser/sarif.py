"""SARIF 2.1.0 (OASIS): results on lines of source files, as editors and code hosts show them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from mem_parser.escape import json_text, visible
from mem_parser.frames import Frame, in_repository
from mem_parser.version import __version__

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)


def document(
    tool: str,
    rules: dict[str, str],
    results: Sequence[dict[str, Any]],
    notes: Sequence[str] = (),
) -> str:
    """Return the text of a file with the ``results`` of one tool; ``rules`` are their descriptions
    by their ids, in the order of `ruleIndex`. ``notes`` are about the run, and on no line.
    """
    # GitHub refuses a rule that lacks one of them.
    texts = ("shortDescription", "fullDescription", "help")
    listed = [{"id": id_} | {key: {"text": text} for key in texts} for id_, text in rules.items()]
    driver = {"name": tool, "version": __version__, "rules": listed}
    run: dict[str, Any] = {
        "tool": {"driver": driver},
        "columnKind": "unicodeCodePoints",
        "results": results,
    }
    if notes:
        told = [{"level": "note", "message": {"text": note}} for note in notes]
        run["invocations"] = [{"executionSuccessful": True, "toolExecutionNotifications": told}]
    whole = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json_text(visible(whole), indent=1) + "\n"


def location(frame: Frame) -> dict[str, Any]:
    """Return a function, and the line of its source where that is known: relative to the
    repository if it is in it.
    """
    found: dict[str, Any] = {"logicalLocations": [{"name": frame.function, "kind": "function"}]}
    return found | (line_of(frame.file, frame.line) if frame.file else {})


def line_of(file: str, line: int) -> dict[str, Any]:
    """Return a line of a file; 0: the file as a whole."""
    place: dict[str, Any] = {"artifactLocation": {"uri": _uri(in_repository(file))}}
    if line > 0:
        place["region"] = {"startLine": line}
    return {"physicalLocation": place}


def _uri(path: str) -> str:
    text = quote(path.encode("utf-8", "surrogateescape"))
    return f"file://{text}" if os.path.isabs(path) else text
