"""JSON that commands print, against the schema that they ship."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema

from mem_parser.schemas import schema


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    return jsonschema.Draft202012Validator(schema(name))


def checked_json(name: str, text: str) -> dict[str, Any]:
    """Return what a command printed; ``name`` is that of its schema."""
    found: dict[str, Any] = json.loads(text)
    wrong = [f"{one.json_path}: {one.message[:300]}" for one in _validator(name).iter_errors(found)]
    assert not wrong, f"{name}: {wrong[:3]}"
    return found
