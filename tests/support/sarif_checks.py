"""SARIF files against the standard."""

from __future__ import annotations

import functools
import json
import lzma
import re
from pathlib import Path
from typing import Any

import jsonschema

_SCHEMA = Path(__file__).resolve().parents[1] / "data" / "sarif-2.1.0.json.xz"


@functools.cache
def _validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(lzma.decompress(_SCHEMA.read_bytes()))
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


def check_results(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of the only run of a document, which keeps to the standard's schema and to
    what that cannot say.
    """
    wrong = [f"{one.json_path}: {one.message[:300]}" for one in _validator().iter_errors(document)]
    assert not wrong, wrong[:3]
    for uri in re.findall(r'"uri": "([^"]*)"', json.dumps(document)):
        assert re.fullmatch(r"[A-Za-z0-9_.~/:%-]+", uri)
    [run] = document["runs"]
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    for result in run["results"]:
        assert rules[result["ruleIndex"]] == result["ruleId"]
        # A level other than none is for results of kind fail only (3.27.10), which is the default.
        assert (result.get("kind", "fail"), result["level"]) in {
            ("fail", "error"), ("fail", "note"), ("open", "none"),
        }  # fmt: skip
        assert result["locations"], "code hosts refuse it"
    found: list[dict[str, Any]] = run["results"]
    return found
