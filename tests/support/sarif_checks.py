"""SARIF files against the standard."""

from __future__ import annotations

import re
from typing import Any

# What the standard says of the objects that are used: all keys it knows, and those it demands
# (OASIS SARIF 2.1.0, sections 3.13 to 3.52).
OBJECTS: dict[str, tuple[set[str], set[str]]] = {
    "document": ({"$schema", "version", "runs"}, {"version", "runs"}),
    "run": ({"tool", "results", "columnKind"}, {"tool"}),
    "driver": ({"name", "version", "rules", "informationUri"}, {"name"}),
    "rule": ({"id", "shortDescription"}, {"id"}),
    "result": (
        {"ruleId", "ruleIndex", "kind", "level", "message", "locations", "stacks",
         "partialFingerprints", "properties"},
        {"message"},
    ),
    "location": ({"physicalLocation", "logicalLocations"}, set()),
    "physical": ({"artifactLocation", "region"}, {"artifactLocation"}),
    "stack": ({"message", "frames"}, {"frames"}),
    "frame": ({"location"}, set()),
}  # fmt: skip


def check_object(kind: str, found: dict[str, Any]) -> dict[str, Any]:
    """The object, if it has the keys of its kind."""
    known, needed = OBJECTS[kind]
    assert set(found) <= known, kind
    assert needed <= set(found), kind
    return found


def check_location(found: dict[str, Any]) -> None:
    """A place of a result."""
    check_object("location", found)
    if "physicalLocation" in found:
        place = check_object("physical", found["physicalLocation"])
        assert re.fullmatch(r"[A-Za-z0-9_.~/:%-]+", place["artifactLocation"]["uri"])
        assert place.get("region", {"startLine": 1})["startLine"] >= 1


def check_results(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The results of the only run of a document, which keeps to the standard."""
    assert check_object("document", document)["version"] == "2.1.0"
    [run] = document["runs"]
    driver = check_object("driver", check_object("run", run)["tool"]["driver"])
    rules = [check_object("rule", r)["id"] for r in driver["rules"]]
    for result in run["results"]:
        check_object("result", result)
        assert rules[result["ruleIndex"]] == result["ruleId"]
        # A level other than none is for results of kind fail only (3.27.10), which is the default.
        assert (result.get("kind", "fail"), result["level"]) in {
            ("fail", "error"), ("fail", "note"), ("open", "none"),
        }  # fmt: skip
        for location in result["locations"]:
            check_location(location)
        for stack in result.get("stacks", ()):
            for frame in check_object("stack", stack)["frames"]:
                check_location(check_object("frame", frame)["location"])
    found: list[dict[str, Any]] = run["results"]
    return found
