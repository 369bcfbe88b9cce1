"""Large libraries in the packages of Pythons that a command names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mem_profiler.entries import planning
from mem_profiler.process import packages


def environment_at(root: Path, size: int) -> Path:
    """A virtual environment with one library; its Python."""
    folder = root / "lib" / "python3.12" / "site-packages" / "led"
    folder.mkdir(parents=True)
    (folder / "libled.so.9").write_bytes(bytes(size))
    (root / "bin").mkdir()
    (root / "bin" / "python3").symlink_to("/bin/true")
    return folder / "libled.so.9"


@pytest.mark.parametrize("program", ["python3", "sh"])
def test_those_below_a_named_python_are_found(tmp_path: Path, program: str) -> None:
    large = environment_at(tmp_path / "large", 100)
    environment_at(tmp_path / "small", 99)
    places = [str(tmp_path / name / "bin" / program) for name in ("large", "small")]
    found = packages.libraries(packages.folders(places, {}), 100)
    assert ([p for p in found if str(tmp_path) in p] == [str(large)]) == (program == "python3")


def test_what_a_library_brings_is_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [str(tmp_path / name) for name in ("with", "without")]
    for path in paths:
        Path(path).write_bytes(b"\x7fELF")
    monkeypatch.setattr(planning, "of_libraries", lambda _: {paths[0]: b"plan"})
    assert planning.of_own_libraries(paths) == [b"plan"]
    monkeypatch.setattr(planning, "of_libraries", None)
    assert planning.of_own_libraries(paths) == [b"plan"]
    Path(paths[0]).write_bytes(b"another")
    with pytest.raises(TypeError):
        planning.of_own_libraries(paths)
