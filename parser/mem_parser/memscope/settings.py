"""Options of a collection, for the command and `config()`: values and defaults.

All values are texts, as both have them. Lists divide at commas, half-width and full-width ones.
Old spellings are taken: `data_format`, `output`, levels 0 and 1.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mem_parser.errors import UsageProblem

OUTPUT = "memscopeDumpResults"
SETTINGS_FILE = "collection.json"
"""Beside the log of a collection."""
PATH_MAX_CHARS = 4096
STEPS_MAX = 5
DEVICE_MAX = 31
DEPTH, DEPTH_MAX = 50, 1000
OOM_BLOCKS, OOM_BLOCKS_MAX = 10, 1000
ALL_DEVICES = "npu"
HOST_DEVICE = "cpu"
LEVELS = ("op", "kernel")
EVENTS = ("alloc", "free", "launch", "access", "traceback")
ANALYSES = ("leaks", "decompose", "inefficient", "oom")
LOG_LEVELS = ("debug", "info", "warning", "error")
_IMPLIED = {"alloc": {"free"}, "free": {"alloc"}, "access": {"alloc", "free"}}
_NEEDED = {
    "leaks": {"alloc", "free"},
    "decompose": {"alloc", "free"},
    "inefficient": {"alloc", "free", "access", "launch"},
    "oom": {"alloc", "free"},
}
_COMMA = re.compile("[,\N{FULLWIDTH COMMA}]")
_DEVICE = re.compile(r"npu:([0-9]{1,4})")
_STACK = re.compile(r"(c|python(?:-all)?)(?::([0-9]{1,6}))?")
_OOM = re.compile(r"oom(?::([0-9]{1,6}))?")
_OUTPUT_ID = re.compile(r"(.*):(?:out)?([0-9]{1,6})")
FULL_CONTENT = "full-content"


@dataclass(frozen=True)
class Watch:
    """Which blocks are watched: the outputs of operator ``start`` (all, or the one with number
    ``output``) from its end to the operator ``end``.
    """

    end: str
    start: str = ""
    output: int | None = None
    full_content: bool = False


@dataclass(frozen=True)
class Settings:
    """The values, checked. Depths of stacks are in frames, 0: no stacks."""

    devices: tuple[str, ...] = (ALL_DEVICES,)
    """`npu`, numbers as texts, `cpu`."""
    levels: tuple[str, ...] = ("op",)
    """`op`, `kernel` or both, in this order."""
    events: frozenset[str] = frozenset(("alloc", "free", "launch"))
    steps: tuple[int, ...] = ()
    c_depth: int = 0
    python_depth: int = 0
    python_all: bool = False
    """Whether Python's stacks have the inner frames of frameworks too."""
    deferred: bool = False
    analysis: frozenset[str] = frozenset(("leaks",))
    oom_blocks: int = OOM_BLOCKS
    form: str = "csv"
    watch: Watch | None = None
    output: str = OUTPUT

    def wants(self, device: str) -> bool:
        """Whether memory of a device, `cpu` or a number, is collected."""
        if device == HOST_DEVICE:
            return HOST_DEVICE in self.devices
        return ALL_DEVICES in self.devices or device in self.devices

    @property
    def host(self) -> bool:
        """Whether memory of the host is collected."""
        return HOST_DEVICE in self.devices

    @property
    def blocks(self) -> bool:
        """Whether allocations and frees are written."""
        return "alloc" in self.all_events

    @property
    def all_events(self) -> frozenset[str]:
        """The events, with those that events and analyses need."""
        found = set(self.events)
        for name in self.events:
            found |= _IMPLIED.get(name, set())
        for name in self.analyses:
            found |= _NEEDED[name]
        return frozenset(found)

    @property
    def analyses(self) -> frozenset[str]:
        """The analyses that run: none where single steps are collected."""
        return frozenset() if self.steps else self.analysis

    def as_json(self) -> str:
        """The same as `of_json` takes it."""
        return json.dumps(self.as_dict(), sort_keys=True)

    def as_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        told = dataclasses.asdict(self)
        return told | {"events": sorted(self.events), "analysis": sorted(self.analysis)}


def of_dict(told: Mapping[str, Any]) -> Settings:
    """Return what `Settings.as_dict` gave. Raises UsageProblem for something else."""
    names = {field.name for field in dataclasses.fields(Settings)}
    try:
        values = {name: value for name, value in told.items() if name in names}
        watch = values.get("watch")
        return Settings(**{
            **values,
            "devices": tuple(map(str, values.get("devices", (ALL_DEVICES,)))),
            "levels": tuple(name for name in LEVELS if name in values.get("levels", LEVELS[:1])),
            "events": frozenset(map(str, values.get("events", ()))),
            "analysis": frozenset(set(map(str, values.get("analysis", ()))) & set(ANALYSES)),
            "steps": tuple(map(int, values.get("steps", ()))),
            "watch": Watch(**watch) if watch else None,
            "c_depth": int(values.get("c_depth", 0)),
            "python_depth": int(values.get("python_depth", 0)),
            "python_all": bool(values.get("python_all", False)),
            "oom_blocks": int(values.get("oom_blocks", OOM_BLOCKS)),
        })  # fmt: skip
    except (TypeError, ValueError, AttributeError):
        raise UsageProblem("the settings of the collection make no sense") from None


def changed(settings: Settings, given: Mapping[str, object], spell: Spell = str) -> Settings:
    """Return settings with other values, given as texts by the names of options (`call_stack`).

    ``spell`` makes of a name what a user has typed. Raises UsageProblem that names option, value
    and what is allowed.
    """
    for name, value in given.items():
        if name not in _READ:
            raise UsageProblem(
                f"there is no option {spell(name)}", hint=f"there are: {', '.join(sorted(_READ))}"
            )
        if not isinstance(value, str):
            raise UsageProblem(f"{spell(name)}: its value is a text (str), not {value!r}")
        try:
            settings = dataclasses.replace(settings, **_READ[name](value))
        except ValueError as error:
            raise UsageProblem(f"{spell(name)}: {value!r}: {error}") from None
    return settings


Spell = Callable[[str], str]


def parts_of(value: str) -> list[str]:
    """Return the parts of a list, without blanks around them."""
    return [part.strip() for part in _COMMA.split(value)]


# -- the values: each raises ValueError that says what is allowed ----------------------------------


def _devices(value: str) -> dict[str, Any]:
    found: list[str] = []
    for part in parts_of(value):
        number = _DEVICE.fullmatch(part)
        if part in {ALL_DEVICES, HOST_DEVICE}:
            found.append(part)
        elif number is not None and int(number[1]) <= DEVICE_MAX:
            found.append(str(int(number[1])))
        else:
            raise ValueError(f"a list of npu, npu:0 to npu:{DEVICE_MAX}, and cpu")
    return {"devices": tuple(dict.fromkeys(found))}


def _levels(value: str) -> dict[str, Any]:
    words = {"op": "op", "kernel": "kernel", "0": "op", "1": "kernel"}
    parts = parts_of(value)
    if any(part not in words for part in parts):
        raise ValueError("op, kernel or both (in early releases 0 and 1)")
    found = {words[part] for part in parts}
    return {"levels": tuple(name for name in LEVELS if name in found)}


def _words(value: str, known: tuple[str, ...]) -> list[str]:
    """Return the words of a list that may be empty, or `none`."""
    parts = parts_of(value)
    if parts in ([""], ["none"]):
        return []
    if any(part not in known for part in parts):
        raise ValueError(f"a list of {', '.join(known)}; or none")
    return parts


def _events(value: str) -> dict[str, Any]:
    return {"events": frozenset(_words(value, EVENTS))}


def _steps(value: str) -> dict[str, Any]:
    parts = parts_of(value)
    if not all(part.isascii() and part.isdigit() and 0 < int(part) < 1 << 62 for part in parts):
        raise ValueError("a list of numbers of steps, from 1 on")
    steps = tuple(dict.fromkeys(map(int, parts)))
    if len(steps) > STEPS_MAX:
        raise ValueError(f"at most {STEPS_MAX} steps")
    return {"steps": steps}


def _call_stack(value: str) -> dict[str, Any]:
    depths = {"c": 0, "python": 0, "python-all": 0}
    for part in parts_of(value) if value.strip() else ():
        found = _STACK.fullmatch(part)
        if found is None or int(found[2] or 0) > DEPTH_MAX:
            raise ValueError(
                f"c and python (or python-all), each with a depth from 0 to {DEPTH_MAX}:"
                " c:20,python"
            )
        depths[found[1]] = DEPTH if found[2] is None else int(found[2])
    every = depths["python-all"]
    return {
        "c_depth": depths["c"],
        "python_depth": every or depths["python"],
        "python_all": every > 0,
    }


def _collect_mode(value: str) -> dict[str, Any]:
    if value not in {"immediate", "deferred"}:
        raise ValueError("immediate or deferred")
    return {"deferred": value == "deferred"}


def _analysis(value: str) -> dict[str, Any]:
    blocks, names = OOM_BLOCKS, []
    for part in parts_of(value):
        found = _OOM.fullmatch(part)
        if found is not None and found[1] is not None:
            blocks = int(found[1])
            if not 1 <= blocks <= OOM_BLOCKS_MAX:
                raise ValueError(f"oom:K, K from 1 to {OOM_BLOCKS_MAX}")
        names.append("oom" if found is not None else part)
    try:
        chosen = frozenset(_words(",".join(names), ANALYSES))
    except ValueError:
        raise ValueError(
            f"a list of leaks, decompose, inefficient, oom or oom:K (1 to {OOM_BLOCKS_MAX});"
            " or none"
        ) from None
    return {"analysis": chosen, "oom_blocks": blocks}


def _form(value: str) -> dict[str, Any]:
    if value not in {"csv", "db"}:
        raise ValueError("csv or db")
    return {"form": value}


def _watch(value: str) -> dict[str, Any]:
    if not value.strip():
        return {"watch": None}
    parts = parts_of(value)
    full = FULL_CONTENT in parts
    names = [part for part in parts if part != FULL_CONTENT]
    if not 1 <= len(names) <= 2 or not all(names) or parts.count(FULL_CONTENT) > 1:
        raise ValueError(f"[start[:output],]end[,{FULL_CONTENT}]; end is needed")
    if len(names) == 1:
        return {"watch": Watch(names[0], full_content=full)}
    found = _OUTPUT_ID.fullmatch(names[0])
    if found is not None and found[1] and not found[1].endswith(":"):
        return {"watch": Watch(names[1], found[1], int(found[2]), full)}
    return {"watch": Watch(names[1], names[0], None, full)}


def _output(value: str) -> dict[str, Any]:
    if not value or "\0" in value:
        raise ValueError("the path of a folder")
    if len(value) > PATH_MAX_CHARS:
        raise ValueError(f"at most {PATH_MAX_CHARS} characters")
    return {"output": value}


_READ: dict[str, Callable[[str], dict[str, Any]]] = {
    "device": _devices,
    "level": _levels,
    "events": _events,
    "steps": _steps,
    "call_stack": _call_stack,
    "collect_mode": _collect_mode,
    "analysis": _analysis,
    "format": _form,
    "data_format": _form,
    "watch": _watch,
    "output_path": _output,
    "output": _output,
}
API_OPTIONS = frozenset(_READ) - {"steps", "collect_mode"}
"""What `config()` takes."""
