"""SARIF files against the standard."""

import json
import re
from typing import Any

from json_outputs import check_format


def check_results(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the results of the only run of a document, which keeps to the standard's schema and to
    what that cannot say.
    """
    check_format("sarif-2.1.0", document)
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
