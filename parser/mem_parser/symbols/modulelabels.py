"""Distinct labels of modules, for addresses without a name.

A module is the same as another if both have one build-id, wherever the copies of the file are (a
program may copy a plugin before each load): it goes by the first one's path. Without build-ids,
those are the same that have one absolute path and different parts of the file. Everything else is
another module: files of one name in different folders, two builds at one path, a file that is
mapped twice, mappings without a name.
"""

from __future__ import annotations

from collections.abc import Sequence

from mem_parser.model import Module

UNNAMED = "[unnamed]"
_MOST_PARTS = 8


def is_relative(path: str) -> bool:
    """Tell whether ``path`` is that of a file, from a folder that nothing says."""
    return bool(path) and not path.startswith(("/", "[", "//anon", "memfd:", "anon_inode:"))


def module_keys(modules: Sequence[Module]) -> list[str]:
    """Return for each module its path, with `#2`, `#3`... where that is another module's too."""
    return _numbered(modules, [m.path or UNNAMED for m in modules])


def module_labels(modules: Sequence[Module]) -> list[str]:
    """Return for each module a short name that no other module has: the file's own; with folders
    where files of one name differ in these; the whole path where that is relative.
    """
    named = {paths[0]: None for paths in paths_of_builds(modules).values()}
    named |= {m.path: None for m in modules if not m.build_id}
    short = _distinct_ends(list(named))
    return _numbered(modules, [short.get(m.path, "") for m in modules])


def paths_of_builds(modules: Sequence[Module]) -> dict[str, tuple[str, ...]]:
    """Return the paths of each build-id, the first one first."""
    found: dict[str, dict[str, None]] = {}
    for module in modules:
        if module.build_id:
            found.setdefault(module.build_id, {})[module.path] = None
    return {build_id: tuple(paths) for build_id, paths in found.items()}


def _numbered(modules: Sequence[Module], names: Sequence[str]) -> list[str]:
    """Number the further ones of one name; those with one build-id have the first one's name."""
    known: dict[str, str] = {}
    used: dict[str, int] = {}
    result = []
    for module, name in zip(modules, names, strict=True):
        label = known.get(module.build_id)
        if label is None:
            used[name] = used.get(name, 0) + 1
            label = name if used[name] == 1 else f"{name}#{used[name]}"
        if module.build_id:
            known[module.build_id] = label
        result.append(label)
    return result


def _distinct_ends(paths: Sequence[str]) -> dict[str, str]:
    """Return for each path its last parts, as many as it takes to differ from the others; the whole
    path if that are many.
    """
    result: dict[str, str] = {}
    by_name: dict[str, list[str]] = {}
    for path in paths:
        if not path or is_relative(path):
            result[path] = path or UNNAMED
        else:
            by_name.setdefault(_end(path, 1), []).append(path)
    for same in by_name.values():
        for parts in range(1, _MOST_PARTS):
            ends = {path: _end(path, parts) for path in same}
            if len(set(ends.values())) == len(same):
                result |= ends
                break
        else:
            result |= {path: path for path in same}
    return result


def _end(path: str, parts: int) -> str:
    return "/".join(path.rsplit("/", parts)[-parts:]) or path
