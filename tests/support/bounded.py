"""Work on a forged file in a process that may take so much memory and no more."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
SLACK_BYTES = 64 * MIB
"""For what the interpreter takes beside: pools of small objects, pieces that are not full."""
_TIMEOUT_S = 120
_CHILD = """
import resource, sys
from mem_parser.errors import InputFileError
{imports}
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + int(sys.argv[2]),) * 2)
path = sys.argv[1]
try:
    print("read:", {reads})
except InputFileError as error:
    print(f"refused: {{error}}")
    print(f"hint: {{error.hint}}")
"""


def read_within(path: Path, limit_bytes: int, imports: str, reads: str, **environment: str) -> str:
    """Return what the expression ``reads`` says of ``path`` ("read: ...", "refused: ...")."""
    done = subprocess.run(
        [sys.executable, "-c", _CHILD.format(imports=imports, reads=reads),
         str(path), str(limit_bytes)],
        capture_output=True, text=True, timeout=_TIMEOUT_S,
        env=os.environ | {"PYTHONPATH": str(ROOT / "parser")} | environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-800:]
    return done.stdout
