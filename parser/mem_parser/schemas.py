"""JSON Schema (draft 2020-12) of what commands print with `--json`.

Model: every key of ours is named here and no other is allowed, so a test that validates a command's
output fails on a key that is added, renamed or dropped. Parts that several outputs share are
definitions; `schema` returns one output's schema with those that it needs. Names of keys say their
units (`_s`, `_bytes`); numbers without one are bytes or blocks by ``unit``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mem_parser.counts import PRESENCE, REPORTED

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
_ENDS = ("std_error", "margin95", "lower95", "upper95")


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}


def _or_null(kind: str) -> Schema:
    return {"type": [kind, "null"]}


def _list(of: Schema) -> Schema:
    return {"type": "array", "items": of}


def _one_of(*values: object) -> Schema:
    return {"enum": list(values)}


def _row(keys: Schema, *estimates: str, optional: Sequence[str] = ()) -> Schema:
    """Return an object of these keys, those of ``estimates`` (see `_estimate`), and no other."""
    return _closed(keys, [f"estimate_{name}" for name in estimates], optional)


def _closed(keys: Schema, parts: Sequence[str] = (), optional: Sequence[str] = ()) -> Schema:
    """Return an object of these keys, those of other definitions, and no other."""
    found: Schema = {"type": "object"}
    if parts:
        found["allOf"] = [_ref(part) for part in parts]
    found["required"] = [key for key in keys if key not in optional]
    found["properties"] = keys
    found["unevaluatedProperties" if parts else "additionalProperties"] = False
    return found


def _estimate(name: str, *, known: bool = True) -> Schema:
    """Return the keys of `mem_parser.reports.grid.numbers`."""
    ends = [f"{name}_{end}" for end in _ENDS]
    return {
        "required": [name, *ends],
        "properties": {name: _NUMBER if known else _ref("known"), **dict.fromkeys(ends, _KNOWN)},
    }


_STRING: Schema = {"type": "string"}
_NUMBER: Schema = {"type": "number"}
_INTEGER: Schema = {"type": "integer"}
_TRUTH: Schema = {"type": "boolean"}
_TEXT_OR_NULL, _INTEGER_OR_NULL = _or_null("string"), _or_null("integer")
_KNOWN, _COUNT, _NOTES, _STACK = _ref("known"), _ref("count"), _ref("notes"), _ref("stack")
_UNIT = _one_of("space", "objects")
_SPAN = {"from_s": _NUMBER, "to_s": _NUMBER}
_FUNCTION = {"function": _STRING, "file": _STRING, "module": _STRING}
_FRAME = {"function": _STRING, "file": _STRING, "line": _COUNT}
_INTERVAL = {"std_error": _KNOWN, "lower95": _KNOWN, "upper95": _KNOWN}
_LINE_REPORT = {"total_size": _COUNT, "mem_report": _list(_STRING)}


def _ends(*names: str) -> Schema:
    return {f"{name}_{end}": _KNOWN for name in names for end in ("lower95", "upper95")}


def _pair(what: str) -> Schema:
    return {f"{side}_{what}": _INTEGER_OR_NULL for side in ("base", "compare", "diff")}


_LIVES = {
    "blocks_per_s": _NUMBER, "bytes_per_s": _NUMBER, "median_s": _KNOWN, "p90_s": _KNOWN,
    "live_share": _KNOWN, "samples": _COUNT,
}  # fmt: skip
_COUNTED = f"(inuse|alloc|peak|{'|'.join(PRESENCE)})_(space|objects)"
_PROFILE = {
    "count": _one_of(*map(str, REPORTED)),
    "unit": _UNIT,
    "filters": _list(_STRING),
    "start_frames": _one_of("folded", "kept"),
    "rate_bytes": _NUMBER | {"description": "Mean bytes from one sample to the next."},
    "sampling": _TEXT_OR_NULL | {"description": "Null: by mem_profiler's rule."},
    "samples": _COUNT,
    "samples_missing": _COUNT,
    "incomplete": _TEXT_OR_NULL | {"description": "Why the file is cut; null: it is whole."},
}
_OF_DEVICE = {
    "domain": _STRING,
    "device": _closed({
        "family": _STRING, "index": _INTEGER_OR_NULL,
        "kind": _one_of(
            "device", "pinned", "managed", "pool",
            "mapped", "mapped-shared", "mapped-file", "mapped-reserved", "mapped-stack",
            "heap", "heap-own",
        ),
        "actual_used_bytes": _INTEGER_OR_NULL, "actual_total_bytes": _INTEGER_OR_NULL,
        "reserved_bytes": _INTEGER_OR_NULL,
    }),
    "total_taken": _KNOWN,
    "untracked_bytes": _KNOWN,
    "refused": _list(_closed({"blocks": _COUNT, "bytes": _COUNT, "stack": _list(_STRING)})),
}  # fmt: skip
_LIMIT = {
    "verdict": _ref("verdict"),
    "measure": _one_of(
        "peak", "rss", "inuse", "alloc", "allocs", "alloc_rate", "leaks", "growth", "alloc_growth",
        "allocs_growth",
    ),
    "name": _STRING, "site": _TEXT_OR_NULL, "limit": _KNOWN, "limit_text": _STRING,
    "where": _STRING, "value": _KNOWN, **_INTERVAL, "samples": _INTEGER_OR_NULL, "lower": _KNOWN,
    "upper": _KNOWN, "excess": _NUMBER, "reason": _STRING, "headline": _STRING, "notes": _NOTES,
    "attempt": _COUNT,
    "culprits": _list(_closed({
        "bytes": _NUMBER, **_INTERVAL, "delta": _KNOWN, "delta_error": _KNOWN, **_ends("delta"),
        "samples": _INTEGER_OR_NULL, "text": _STRING,
        "stack": _list(_closed(_FRAME | {"module": _STRING})),
    })),
}  # fmt: skip

_MAY_BE_UNKNOWN = ("absent", "cached", "held", "max_bytes", "pinned")
DEFINITIONS: dict[str, Schema] = {
    "known": _or_null("number") | {
        "description": "Null: unknown. A null upper end with a lower one: at least."
    },
    "count": _INTEGER | {"minimum": 0},
    "notes": _list(_STRING),
    "frame": _closed(_FRAME) | {"description": "Empty and 0: unknown."},
    "stack": _list(_ref("frame")) | {"description": "The charged frame, then its callers."},
    **{
        f"estimate_{name}": _estimate(name, known=name not in _MAY_BE_UNKNOWN)
        for name in (
            "about", "alive", "blocks", "bytes", "count", "cum", "flat", "freed", "live_bytes",
            "own", "saved", "size", "slop", "total", "total_blocks", "unended", *_MAY_BE_UNKNOWN,
        )
    },
    "profile": {
        "allOf": [_ref("estimate_total")],
        "required": list(_PROFILE),
        "properties": _PROFILE | _OF_DEVICE,
        "dependentRequired": {"device": list(_OF_DEVICE)},
    },
    "groups": _list(_row({"name": _STRING, "samples": _COUNT}, "bytes", "blocks")),
    "neighbours": _list(_row({"function": _STRING, "samples": _COUNT}, "cum")),
    "lives": {
        "allOf": [_ref(f"estimate_{name}") for name in ("blocks", "bytes", "freed")],
        "required": list(_LIVES),
        "properties": _LIVES,
    },
    "parts": _list(_closed({
        "key": _STRING, "label": _STRING, "bytes": _NUMBER, "margin95": _NUMBER,
        "lower95": _KNOWN, "upper95": _KNOWN,
    })),
    "verdict": _one_of("pass", "fail", "inconclusive"),
    "limit": _closed(_LIMIT),
    "moment": _closed({
        "row": _INTEGER_OR_NULL, "bytes": {"type": "object", "additionalProperties": _INTEGER},
        "total_bytes": _INTEGER,
    }),
    "pair": _closed(_pair("bytes")),
}  # fmt: skip


def _report(row: Schema | None, *, left_out: bool = True, **more: Schema) -> Schema:
    """Return a report of a view, as `mem_parser.reports.view.View.record` makes it. The processes
    are those of a service, if it is of one.
    """
    rows = {} if row is None else {"rows": _list(row)}
    keys = rows | ({"left_out": _COUNT} if left_out else {}) | more
    return _closed(keys, ["profile"], ("processes",))


def _waste() -> Schema:
    row = {"function": _STRING, "reason": _STRING, "cure": _STRING, "noise": _TRUTH}
    found = _report(_row(row, "saved", "held", "pinned", "slop", "absent"))
    found["allOf"] += [_ref("estimate_saved"), _ref("estimate_cached")]
    return found


_TOP = _report(_row(
    _FUNCTION | {
        "line": _COUNT, "flat_taken": _NUMBER, "flat_samples": _COUNT, "cum_samples": _COUNT,
        "noise": _TRUTH,
    },
    "flat", "cum", optional=("line", "flat_taken"),
))  # fmt: skip

OUTPUTS: dict[str, Schema] = {
    "at": _TOP,
    "budget": _closed({
        "rows": _list(_closed({
            "rows": _list(_ref("limit")), "file": _STRING, "program": _STRING,
            "verdict": _ref("verdict"), "rate_bytes": _NUMBER, "samples": _COUNT, "notes": _NOTES,
        })),
        "verdict": _ref("verdict"), "exit_code": _one_of(0, 6, 7), "error": _NUMBER,
        "program_code": _INTEGER,
        "tries": _COUNT, "attempt": _COUNT,
    }),
    "convert": _closed({
        "format": _STRING, "rate_bytes": _NUMBER, "sampling": _TEXT_OR_NULL,
        "host": _TEXT_OR_NULL, "pid": _INTEGER_OR_NULL, "command": _TEXT_OR_NULL,
        "duration_s": _KNOWN, "exact_samples": _TRUTH, "incomplete": _TEXT_OR_NULL,
        "stacks": _list({
            "type": "object",
            "required": ["stack"],
            "properties": {"stack": _list(_STRING)},
            "patternProperties": {
                f"^{_COUNTED}(_samples)?$": _INTEGER,
                f"^{_COUNTED}_(std_error|lower95|upper95)$": _KNOWN,
            },
            "additionalProperties": False,
        }),
    }),
    "diff": _closed({
        "rows": _list(_closed(
            {"verdict": _one_of("new", "gone", "grown", "turnover", "shrunk", "noise"),
             **_FRAME, "base": _NUMBER, "new": _NUMBER, "delta": _NUMBER, "delta_error": _KNOWN,
             **_ends("base", "new", "delta"), "stack": _STACK},
            optional=("stack",),
        )),
        "unit": _UNIT, "total": _NUMBER, "total_error": _KNOWN, **_ends("total"),
        "errors_known": _TRUTH, "paired": _TRUTH, "base_name": _STRING, "notes": _NOTES,
    }),
    "doctor": _closed({
        "target": _STRING, "ok": _TRUTH,
        "findings": _list(_closed({
            "check": _STRING, "status": _one_of("ok", "warning", "blocker"), "text": _STRING,
            "cure": _STRING,
        })),
    }),
    "driver-stats at": _closed({"ms": _NUMBER, **_LINE_REPORT, "sure": _TRUTH}),
    "driver-stats log": _closed(
        {"files": _list(_STRING), "duration_ms": _COUNT, "started": _NUMBER}
    ),
    "driver-stats report": _closed({"pid": _COUNT, **_LINE_REPORT, "missing": _COUNT}),
    "driver-stats sizes": _closed(
        {"sizes": _list(_list(_COUNT) | {"minItems": 2, "maxItems": 2})}
    ),
    "leaks": _closed({
        "rows": _list(_closed({
            "verdict": _one_of("leak", "held-to-end", "inconclusive", "cache-like", "young"),
            "bytes": _NUMBER, **_INTERVAL, "growth": _STRING, "bytes_per_hour": _KNOWN,
            "bytes_per_hour_error": _KNOWN, **_ends("bytes_per_hour"), "samples": _COUNT,
            "stacks": _COUNT, "evidence": _STRING, "stack": _STACK,
            "folded": _list(_ref("frame")),
        })),
        "headline": _STRING, "leaks": _COUNT, "suppressed": _COUNT, "notes": _NOTES,
    }),
    "lifetimes": _closed(
        {"rows": _list(_closed({"function": _STRING}, ["lives"])), "left_out": _COUNT,
         "total": _ref("lives") | {"unevaluatedProperties": False},
         "histogram": _list(_row(_SPAN | {"live_after": _NUMBER}, "blocks")),
         "seconds": _NUMBER, "notes": _NOTES},
        ["estimate_alive", "estimate_unended", "estimate_about"],
    ),
    "list": _report(
        _row(
            _FUNCTION | {
                "lines": _list(_row(
                    {"line": _INTEGER_OR_NULL, "text": _TEXT_OR_NULL, "samples": _COUNT},
                    "flat", "cum",
                )),
                "problem": _TEXT_OR_NULL | {"description": "Why its lines have no text."},
            },
            "flat", "cum",
        ),
        left_out=False,
    ),
    "memscope": _closed({
        "files": _list(_closed({
            "file": _STRING,
            "pools": _list(_closed({
                "device": _STRING, "pool": _STRING, "peak": _ref("moment"),
                "steps": _list(_closed(
                    {"step": _STRING, "end": _ref("moment"), "peak": _ref("moment")}
                )),
            })),
        })),
    }),
    "memscope compare": _closed({
        "base": _STRING, "compare": _STRING, "level": _STRING,
        "steps": _or_null("array") | {"items": _STRING},
        "devices": _list(_closed({
            "device": _STRING,
            "peaks": _list(_closed({"type": _STRING, **_pair("bytes")})),
            "modules": _list(_closed({
                "type": _STRING, "owner": _STRING, "at_peak": _ref("pair"),
                "allocated": _ref("pair"),
            })),
            "names": _list(_closed({"name": _STRING, **_pair("calls"), **_pair("bytes")})),
            "operators": _list(_closed({"event": _STRING, "name": _STRING, **_pair("bytes")})),
        })),
    }),
    "peaks": _closed({
        "rows": _list(_row(
            {"peak": _COUNT, "at_s": _NUMBER, "prominence_bytes": _NUMBER, "sure": _TRUTH,
             "peaks_within_error": _COUNT, "first_within_error_s": _KNOWN,
             "last_within_error_s": _KNOWN,
             "functions": _list(_row({"function": _STRING, "share": _NUMBER}, "flat"))},
            "live_bytes",
        )),
        "notes": _NOTES,
    }),
    "peek": _report(
        _row(
            {"function": _STRING, "callers": _ref("neighbours"), "callees": _ref("neighbours")},
            "flat", "cum",
        ),
        left_out=False,
    ),
    "ps": _closed({
        "processes": _list(_closed({
            "pid": _COUNT, "user": _STRING, "command": _STRING, "state": _STRING,
            "rate_bytes": _INTEGER_OR_NULL, "samples": _INTEGER_OR_NULL, "live_bytes": _KNOWN,
            "lost": _INTEGER_OR_NULL, "dead": _TRUTH, "place": _TEXT_OR_NULL, "age_s": _KNOWN,
            "rss_bytes": _INTEGER_OR_NULL, "notes": _NOTES,
        })),
        "more_ended": _COUNT,
    }),
    "query": {
        "oneOf": [
            _closed({"columns": _list(_STRING), "rows": _list({"type": "object"}), "more": _TRUTH}),
            _closed({"rows": _list(_closed(
                dict.fromkeys(("table", "column", "type", "meaning"), _STRING)
            ))}),
        ],
    },
    "rss": _closed({
        "rows": _ref("parts"), "in_use": _ref("parts"), "places": _ref("parts"),
        "rss_bytes": _INTEGER_OR_NULL, "peak_rss_bytes": _INTEGER_OR_NULL,
        "at_s": _NUMBER, "limit_bytes": _INTEGER_OR_NULL, "group_bytes": _INTEGER_OR_NULL,
        "arena_slack_bytes": _KNOWN, **_ends("arena_slack"),
        "heap_bytes_per_hour": _KNOWN, **_ends("heap_bytes_per_hour"),
        **{f"{kind}_bytes_per_hour": _KNOWN for kind in ("rss", "anon", "file", "shmem", "group")},
        "grown": _ref("parts"),
        "notes": _NOTES,
    }, optional=("at_s",)),
    "stats": _report(
        None, left_out=False,
        **dict.fromkeys(
            ("totals", "sizes", "functions", "calls", "modules", "threads", "domains"),
            _ref("groups"),
        ),
        marks=_list(_closed({
            "domain": _STRING, "text": _STRING, "count": _COUNT, "ranges": _COUNT,
            "range_s": _NUMBER, "first_s": _NUMBER, "last_s": _NUMBER,
        })),
        marks_lost=_COUNT, peak_bytes=_KNOWN, peak_at_s=_KNOWN,
        peak_source=_one_of("sampler", "total", "reading", None),
    ),
    "summary": _report(
        _row(_FUNCTION | {"noise": _TRUTH}, "total", "own", "count"),
        verdicts=_list(_closed({"kind": _STRING, "text": _STRING, "command": _STRING})),
        processes=_list(_row(
            {"file": _STRING, "pid": _INTEGER, "program": _STRING, "added": _TRUTH,
             "peak_rss_bytes": _INTEGER_OR_NULL, "leaks": _INTEGER_OR_NULL,
             "growth": _TEXT_OR_NULL},
            "bytes",
        )),
    ),
    "table": _report(_row(
        {"thread": _STRING, "tid": _COUNT, "allocator": _STRING, **_FRAME, "noise": _TRUTH},
        "size", "count",
    )),
    "temporary": _closed(
        {"rows": _list(_row(
            {"function": _STRING, "share": _KNOWN, "bytes_per_s": _NUMBER,
             "blocks_per_s": _NUMBER, "samples": _COUNT, "noise": _TRUTH},
            "bytes", "blocks",
         )),
         "left_out": _COUNT, "rule": _STRING, "at_most": _TRUTH, "seconds": _NUMBER,
         "notes": _NOTES},
        ["estimate_total", "estimate_total_blocks"],
    ),
    "timeline": _closed({
        "rows": _list(_row(
            {"domain": _STRING, **_SPAN, "at_s": _KNOWN, "min_bytes": _KNOWN, "sure": _TRUTH,
             "births": _COUNT, "born_bytes": _NUMBER, "deaths": _COUNT, "freed_bytes": _NUMBER,
             "rss_bytes": _INTEGER_OR_NULL},
            "max_bytes",
        )),
        **_SPAN,
        "domains": _list(_closed(
            {"domain": _STRING, "rate_bytes": _NUMBER, "interval_s": _NUMBER}
        )),
        "readings": _list(_closed({"t_s": _NUMBER, "rss_bytes": _COUNT})),
        "marks": _list(_closed({
            "time_s": _NUMBER, "kind": _one_of("point", "begin", "end"), "id": _INTEGER,
            "domain": _STRING, "text": _STRING,
        })),
        "holes": _list(_closed(_SPAN | {"lost": _INTEGER_OR_NULL, "why": _STRING})),
        "not_sure": _list(_closed(_SPAN)),
        "notes": _NOTES,
    }),
    "top": _TOP,
    "tree": _report(_row(
        {"depth": _COUNT, "function": _STRING, "samples": _COUNT}, "total", "own"
    )),
    "waste": _waste(),
}  # fmt: skip
"""By the words of a command. `convert` is of `convert -o x.json`; `budget` is of `mem_profiler run
--budget`, too.
"""


def schema(name: str) -> Schema:
    """Return the schema of an output of `OUTPUTS`, with the definitions that it needs."""
    needed: dict[str, Schema] = {}
    waiting: list[Any] = [OUTPUTS[name]]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            known = str(part.get("$ref", "")).rpartition("/")[2]
            if known and known not in needed:
                needed[known] = DEFINITIONS[known]
                waiting.append(needed[known])
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return {
        "$schema": DIALECT,
        "title": name,
        **OUTPUTS[name],
        "$defs": dict(sorted(needed.items())),
    }
