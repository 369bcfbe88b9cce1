"""Which test files are likely to see a break in a source file."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "parser": ("mem_sandbox", "mem_parser"),
    "bindings": ("mem_profiler",),
    "cmd": ("mem_cli",),
}
IMPORT = re.compile(
    r"^[ \t]*(?:from ([\w.]+) import (\([^)]*\)|[^\n]+)|import ([\w.]+))", re.MULTILINE
)
WORD = re.compile(r"\w+")
GENERAL = {
    "parser": ["golden"],
    "cmd": ["golden"],
    "bindings": ["integration/test_controller_run.py"],
    "sampler": ["unit/sampler/test_core.py", "integration/test_sampler_exact.py"],
}
OF_FOLDERS = {
    "sampler/inject": ["unit/sampler/test_inject_payload.py", "integration/test_attach.py"],
    "sampler/python": ["integration/test_python_frames.py", "unit/sampler/test_tls.py"],
    "sampler/redirect": ["integration/test_preload_redirect.py"],
    "sampler/hooks": ["integration/test_preload_redirect.py"],
    "sampler/process": ["integration/test_segment_room.py", "integration/test_sampler_threads.py"],
    "sampler/pymem": ["integration/test_pymem.py"],
    "sampler/device": ["unit/sampler/test_device.py"],
    "sampler/drivers/opencl": ["integration/test_layered_devices.py"],
    "sampler/drivers/vulkan": ["integration/test_layered_devices.py"],
    "sampler/drivers": ["integration/test_device_drivers.py"],
    "sampler/companion": ["integration/test_layered_devices.py"],
    "bindings/mem_profiler/attach": ["integration/test_attach.py"],
}
"""Tests of sources that have no name in common with them."""
UNIT, INTEGRATION, DIRECT = 4, 1, 50
"""Most files of each kind beside these; a unit test of that score leaves the others out."""
WIDE_UNIT, WIDE_INTEGRATION = 20, 8
"""The same for a second look at what survived, where nothing is left out."""


class Choice:
    """Knows what every test imports, and what every module does."""

    def __init__(self, *, wide: bool = False) -> None:
        self._wide = wide
        self._tests = [
            path
            for folder in ("unit", "integration")
            for path in sorted((ROOT / "tests" / folder).rglob("test_*.py"))
            if "project" not in path.parts and "browser" not in path.stem
        ]
        support = {p.stem: _imports(p) for p in (ROOT / "tests" / "support").glob("*.py")}
        self._of_test: dict[Path, set[str]] = {}
        for path in self._tests:
            direct = _imports(path)
            helped = [support[name] for name in direct if name in support]
            self._of_test[path] = direct.union(*helped)
        self._users: dict[str, set[str]] = defaultdict(set)
        for package in PACKAGES:
            for path in (ROOT / package).rglob("*.py"):
                for name in _imports(path):
                    self._users[name].add(module_of(path))

    def tests_of(self, file: str) -> list[str]:
        """Return test files, those of the module itself first."""
        path = ROOT / file
        part, is_c = file.split("/", 1)[0], path.suffix == ".c"
        scores = {test: self._score(test, path, is_c=is_c) for test in self._tests}
        ranked = sorted((t for t in self._tests if scores[t]), key=lambda t: (-scores[t], t))
        most = (WIDE_UNIT, WIDE_INTEGRATION) if self._wide else (UNIT, INTEGRATION)
        unit = [t for t in ranked if "unit" in t.parts][: most[0]]
        if unit and scores[unit[0]] >= DIRECT and not self._wide:
            unit, ranked = [t for t in unit if scores[t] >= DIRECT], []
        least = 1 if self._wide else 10
        slow = [t for t in ranked if "integration" in t.parts and scores[t] >= least][: most[1]]
        named = [tests for folder, tests in OF_FOLDERS.items() if file.startswith(folder + "/")]
        first = [str(t.relative_to(ROOT)) for t in unit]
        last = [str(t.relative_to(ROOT)) for t in slow]
        beside = [f"tests/{test}" for tests in named for test in tests]
        general = [f"tests/{test}" for test in GENERAL[part]]
        found = [*first, *beside, *(last + general if is_c else general + last)]
        return list(dict.fromkeys(found))

    def _score(self, test: Path, path: Path, *, is_c: bool) -> int:
        score = 100 * (test.stem == f"test_{path.stem}")
        words = {path.stem, path.parent.name}
        score += sum(12 for word in words if len(word) > 3 and word in test.stem)
        score += 5 * (path.parent.name == test.parent.name)
        if is_c:
            return score * (test.parent.name == "sampler" or "integration" in test.parts)
        module, imported = module_of(path), self._of_test[test]
        score += 50 * (module in imported)
        return score + 8 * bool(self._users[module] & imported)


def module_of(path: Path) -> str:
    """Return the dotted name of a source file."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for module, names, alone in IMPORT.findall(path.read_text(encoding="utf-8")):
        found |= {alone} if alone else {module, *(f"{module}.{n}" for n in WORD.findall(names))}
    return found
