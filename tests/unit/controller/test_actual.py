"""What devices hold as a whole, asked of management libraries: stubs of both, and the matching."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from c_build import ROOT, compile_program
from mem_profiler.capture import actual
from mem_profiler.capture.actual import Asker, Nvml, Seen
from mem_profiler.segment.devices import Actual, Domain

MIB = 1 << 20


def domain(device: int, told: Actual | None = None, kind: str = "device") -> Domain:
    return Domain(
        number=device + 1, name=f"cuda-{device}", family="cuda", device=device, kind=kind,
        last_capture=1, alloc_calls=0, failed_calls=0, freed_calls=0, actual=told,
        reserved_bytes=0, reserved_peak_bytes=0,
    )  # fmt: skip


@dataclass
class Fake:
    """A management library that says what it is told; None: it fails."""

    seen: list[Seen] | None
    asked: int = 0

    def devices(self, pid: int) -> list[Seen]:
        self.asked += 1
        if self.seen is None:
            raise OSError("gone")
        return self.seen


def ask(
    monkeypatch: pytest.MonkeyPatch, seen: list[Seen] | None, domains: list[Domain]
) -> dict[str, tuple[int, int] | None]:
    """Used and total bytes by domain after one update."""
    monkeypatch.setattr(actual, "LIBRARIES", {"cuda": lambda: Fake(seen)})
    asker = Asker(42)
    asker.update([(one, 3 * MIB) for one in domains])
    found = {one.name: asker.of(one) for one in domains}
    return {k: (v.used_bytes, v.total_bytes) if v else None for k, v in found.items()}


MINE, OTHER = Seen(5 * MIB, 100 * MIB, mine=True), Seen(90 * MIB, 100 * MIB, mine=False)


def test_a_device_is_known_by_the_process_that_runs_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ask(monkeypatch, [OTHER, MINE], [domain(0)]) == {"cuda-0": (5 * MIB, 100 * MIB)}
    assert ask(monkeypatch, [OTHER], [domain(0)]) == {"cuda-0": (90 * MIB, 100 * MIB)}


def test_what_does_not_fit_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Actual(7, 64 * MIB, 5, 1)
    assert ask(monkeypatch, [MINE], [domain(0, told)]) == {"cuda-0": (7, 64 * MIB)}
    assert ask(monkeypatch, [OTHER, OTHER], [domain(0)]) == {"cuda-0": None}
    assert ask(monkeypatch, [MINE, MINE], [domain(0)]) == {"cuda-0": None}
    assert ask(monkeypatch, None, [domain(0, told)]) == {"cuda-0": (7, 64 * MIB)}
    pinned = domain(1, kind="pinned")
    assert ask(monkeypatch, [MINE], [pinned])[pinned.name] is None


def test_it_is_asked_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Fake([MINE])
    monkeypatch.setattr(actual, "LIBRARIES", {"cuda": lambda: fake})
    asker = Asker(42)
    for _ in range(20):
        asker.update([(domain(0), 0)])
    assert fake.asked == 1
    asker.update([(domain(0), 7)], now=True)
    found = asker.of(domain(0))
    assert found is not None
    assert (fake.asked, found.tracked_bytes) == (2, 7)


def _pynvml(pids: list[list[int]]) -> types.ModuleType:
    """A module like nvidia-ml-py's, with a device for each list of processes."""

    class NVMLError(Exception):
        pass

    def memory(handle: int) -> Any:
        if pids[handle] == [13]:
            raise NVMLError("lost")
        return types.SimpleNamespace(used=handle * MIB, total=64 * MIB)

    module = types.ModuleType("pynvml")
    module.NVMLError = NVMLError  # type: ignore[attr-defined]
    module.nvmlInit = lambda: None  # type: ignore[attr-defined]
    module.nvmlDeviceGetCount = lambda: len(pids)  # type: ignore[attr-defined]
    module.nvmlDeviceGetHandleByIndex = lambda k: k  # type: ignore[attr-defined]
    module.nvmlDeviceGetMemoryInfo = memory  # type: ignore[attr-defined]
    module.nvmlDeviceGetComputeRunningProcesses = lambda k: [  # type: ignore[attr-defined]
        types.SimpleNamespace(pid=pid) for pid in pids[k]
    ]
    return module


def test_nvml_is_asked_through_its_own_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", _pynvml([[1], [42, 1]]))
    assert Nvml().devices(42) == [
        Seen(0, 64 * MIB, mine=False), Seen(MIB, 64 * MIB, mine=True),
    ]  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", _pynvml([[13]]))
    with pytest.raises(OSError, match="lost"):
        Nvml().devices(42)
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(OSError, match="not installed"):
        Nvml()


ASK_DCMI = "from mem_profiler.capture.actual import Dcmi; print(Dcmi().devices(42))"


@pytest.fixture(scope="module")
def dcmi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dcmi")
    library = compile_program(
        ROOT / "tests" / "stubs" / "dcmi.c", ("-std=gnu11", "-O1", "-fPIC", "-shared"), name="dcmi"
    )
    (folder / "libdcmi.so").symlink_to(library)
    return folder


def _ask_dcmi(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", ASK_DCMI], capture_output=True, text=True, timeout=60,
        env=os.environ | {"LD_LIBRARY_PATH": str(folder)} | variables,
    )  # fmt: skip


def test_dcmi_gives_its_devices_by_logic_id(dcmi: Path) -> None:
    done = _ask_dcmi(dcmi, STUB_DCMI_PID="42", STUB_DCMI_CHIPS="12")
    expected = [Seen((10 + k) * MIB, (100 + k) * MIB, mine=k > 0) for k in range(3)]
    assert done.stdout.strip() == repr(expected), done.stderr


def test_a_broken_dcmi_is_an_error_of_ours(dcmi: Path) -> None:
    done = _ask_dcmi(dcmi, STUB_DCMI_BROKEN="1")
    assert done.returncode == 1
    assert "OSError: dcmi_init: -8001" in done.stderr
