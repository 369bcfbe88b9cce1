"""`pytest tests/golden --update-goldens` keeps what the commands say now."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-goldens", action="store_true", help="Keep what commands say now.")
