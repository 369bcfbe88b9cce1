"""What every test may ask for, and what every test is protected from."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would all programs that tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)


# The same few examples at every run; `make soak` searches (--hypothesis-profile=long). Machines
# differ in speed, and a folder for all examples of a test is meant.
_UNCHECKED = (HealthCheck.too_slow, HealthCheck.function_scoped_fixture)
settings.register_profile("long", deadline=None, suppress_health_check=_UNCHECKED, max_examples=500)
settings.register_profile("small", settings.get_profile("long"), max_examples=30, derandomize=True)
settings.load_profile("small")

# Tests start the commands some thousand times: only the first ones compile the packages. Nor does
# each run compile each test anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
# Nor does numpy start a thread for each processor at every import: half of its time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's own settings out: preloads, sampler options, colours, segment folder,
    who called by sudo, language.
    """
    for name in list(os.environ):
        if name.startswith(("MEM_PROFILER_", "LD_PRELOAD", "SUDO_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LANGUAGE", "en")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return ROOT


@pytest.fixture(scope="session")
def sampler() -> Path:
    """The sampler as the commands load it; `make build` puts it there."""
    library = ROOT / "bindings" / "mem_profiler" / "libmem_sampler.so"
    if not library.exists():
        pytest.fail(f"{library} is missing: run `make build`")
    return library


@pytest.fixture
def segment_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A segment folder for this test alone, set for this process and every one that it starts.

    It is on a tmpfs and open to targets of other users, as /dev/shm is.
    """
    path = Path(tempfile.mkdtemp(prefix="mem_profiler-test-", dir="/dev/shm"))
    path.chmod(0o777)
    monkeypatch.setenv("MEM_PROFILER_DIR", str(path))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def stepper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that allocates and frees as it is told."""
    from controller_tools import build_stepper

    return build_stepper(tmp_path_factory.mktemp("stepper"))


@pytest.fixture(scope="session")
def _helper_python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    from helper_server import helper_server

    with helper_server(tmp_path_factory.mktemp("helper"), "python") as folder:
        yield folder / "python"


@pytest.fixture
def quick_helper(_helper_python: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Helper processes begin at once; where a program gets an environment of its own, this is its
    MEM_PROFILER_PYTHON.
    """
    monkeypatch.setenv("MEM_PROFILER_PYTHON", str(_helper_python))
    return _helper_python


@pytest.fixture(scope="session")
def desktop() -> Iterator[Any]:
    """The driver of the one window of a browser in which all tests look at their pages."""
    from browser import browser

    with browser(1280, 900) as driver:
        yield driver


@pytest.fixture(scope="session")
def phone() -> Iterator[Any]:
    """The same of a telephone."""
    from browser import browser

    with browser(390, 844, phone=True) as driver:
        yield driver


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Thousands of tests stay until the end: no search for garbage among them, now or later."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


_LONGEST = ("test_pages.py", "test_packaging.py", "test_core.py", "test_aarch64.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with tests of ten seconds and more come first: begun last, one would keep the whole
    run waiting for a single worker.
    """
    items.sort(key=lambda item: item.path.name not in _LONGEST)
