"""Run pytest in a folder of tests, bounded, with the plugin."""

import os
import subprocess
import sys
from pathlib import Path


def run(folder: Path, *arguments: str, code: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run pytest in the folder, bounded, with no plugins but those that a test is about."""
    plugins = [
        "mem_cli.pytest_plugin",
        "no:cacheprovider",
        *(["xdist"] if "-n" in arguments else []),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *(f"-p{name}" for name in plugins), *arguments],
        env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=folder, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert code is None or done.returncode == code, done.stdout + done.stderr
    return done
