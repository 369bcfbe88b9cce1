"""JSON that commands print against the schema that they ship, and files against other programs'."""

import functools
import json
import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema

from mem_parser.schemas import schema

_SCHEMAS = Path(__file__).resolve().parents[1] / "data" / "schemas"


@functools.cache
def _validator(name: str) -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(schema(name))
    return jsonschema.Draft202012Validator(schema(name))


def checked_json(name: str, text: str) -> dict[str, Any]:
    """Return what a command printed; ``name`` is that of its schema."""
    found: dict[str, Any] = json.loads(text)
    _refuse(_validator(name).iter_errors(found))
    return found


def check_format(name: str, document: Any) -> None:
    """Check a document of another program's format by its schema in `tests/data/schemas`."""
    schema = json.loads(lzma.decompress((_SCHEMAS / f"{name}.json.xz").read_bytes()))
    _refuse(jsonschema.validators.validator_for(schema)(schema).iter_errors(document))


def _refuse(errors: Iterable[jsonschema.ValidationError]) -> None:
    wrong = [f"{one.json_path}: {one.message[:300]}" for one in errors]
    assert not wrong, wrong[:3]
