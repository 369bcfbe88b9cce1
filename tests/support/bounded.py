"""Work on a forged file in a process that may take so much memory and no more."""

import atexit
import functools
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIB = 1 << 20
SLACK_BYTES = 64 * MIB
"""For what the interpreter takes beside: pools of small objects, pieces that are not full."""
_TIMEOUT_S = 120
_SERVER = """
import json, os, resource, sys
from mem_parser.errors import InputFileError
{imports}
for request in sys.stdin:
    path, limit_bytes, reads = json.loads(request)
    if not os.fork():
        pages = int(open("/proc/self/statm").read().split()[0])
        limit_bytes += pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
        try:
            print("read:", eval(reads))
        except InputFileError as error:
            print(f"refused: {{error}}")
            print(f"hint: {{error.hint}}")
        sys.exit()
    print(f"\\f{{os.waitstatus_to_exitcode(os.wait()[1])}}", flush=True)
"""


class _Server:
    """An interpreter that has imported what it needs, and forks for each file."""

    def __init__(self, imports: str, environment: tuple[tuple[str, str], ...]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER.format(imports=imports)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT / "parser")} | dict(environment),
        )  # fmt: skip
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.communicate(timeout=_TIMEOUT_S)
        self._errors.close()

    def ask(self, path: Path, limit_bytes: int, reads: str) -> str:
        assert self._process.stdin and self._process.stdout
        late = threading.Timer(_TIMEOUT_S, self._process.kill)
        late.start()
        try:
            self._process.stdin.write(json.dumps([str(path), limit_bytes, reads]) + "\n")
            self._process.stdin.flush()
            said = ""
            for line in self._process.stdout:
                if line.startswith("\f"):
                    break
                said += line
            else:
                line = "\fno end"
        finally:
            late.cancel()
        self._errors.seek(0)
        assert line == "\f0\n", self._errors.read()[-800:].decode()
        return said


_server = functools.lru_cache(_Server)


def read_within(path: Path, limit_bytes: int, imports: str, reads: str, **environment: str) -> str:
    """Return what the expression ``reads`` says of ``path`` ("read: ...", "refused: ...")."""
    return _server(imports, tuple(sorted(environment.items()))).ask(path, limit_bytes, reads)
