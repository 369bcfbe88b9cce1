"""Distinct labels of modules, for addresses without a name.

A module is the same as another if both have one build-id, or, without build-ids, one absolute path
and different parts of the file. Everything else is another module: files of one name in different
folders, two builds at one path, a file that is mapped twice, mappings without a name.
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
    return _numbered([(m.path or UNNAMED, m.build_id) for m in modules])


def module_labels(modules: Sequence[Module]) -> list[str]:
    """Return for each module a short name that no other module has: the file's own; with folders
    where files of one name differ in these; the whole path where that is relative.
    """
    paths = list(dict.fromkeys(m.path for m in modules))
    short = _distinct_ends(paths)
    return _numbered([(short[m.path], m.build_id) for m in modules])


def _numbered(named: Sequence[tuple[str, str]]) -> list[str]:
    """Number the further ones of one name; those with one build-id are the same."""
    known: dict[tuple[str, str], str] = {}
    used: dict[str, int] = {}
    result = []
    for name, build_id in named:
        key = name, build_id
        if not build_id or key not in known:
            used[name] = used.get(name, 0) + 1
            known[key] = name if used[name] == 1 else f"{name}#{used[name]}"
        result.append(known[key])
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
