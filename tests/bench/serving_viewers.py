"""What viewers of `mem_profiler serve` cost the process that they watch: a redis-server under load.

Model: both cases have a capture at 1024 and the server. In one of them five clients ask it again
and again for the page's data, as five browsers do. Server and clients share the processor of the
load: redis has its own. A case is compared with the other one of its round.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from redis_load import measure_once
from rounds import Case, Numbers, Series, interleave
from tools import Tools, child_environment

VIEWERS = 5
WAIT_S = 60.0
ROUNDS = 12


def _view(port: int, token: str, pid: int, frames: list[int]) -> None:
    """Ask for data until the server is gone."""
    seen = 0
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
        while True:
            client = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)
            path = f"/p/{pid}/live?after={seen}"
            client.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            answer = client.getresponse()
            body = answer.read()
            if answer.status == 200:
                seen = json.loads(body)["seq"]
                frames.append(seen)
                print(seen, flush=True)
            client.close()


def main() -> None:
    """`serving_viewers.py PORT TOKEN PID`: five viewers, a line for each page that one gets."""
    port, token, pid = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    frames: list[int] = []
    threads = [
        threading.Thread(target=_view, args=(port, token, pid, frames)) for _ in range(VIEWERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class _Beside:
    """The server, and the viewers if there are to be some, on the processor of the load."""

    def __init__(self, tools: Tools, *, viewers: bool) -> None:
        self.tools, self.viewers, self.frames = tools, viewers, 0

    @contextlib.contextmanager
    def __call__(self, pid: int, cpu: int) -> Iterator[None]:
        pinned = ["taskset", "-c", str(cpu), sys.executable]
        extra = {"MEM_PROFILER_DIR": str(self.tools.scratch / "segments")}
        options = {"stdout": subprocess.PIPE, "text": True, "env": child_environment(extra)}
        command = [*pinned, "-m", "mem_cli.profiler.group", "serve", "--listen", "127.0.0.1:0"]
        with subprocess.Popen(command, **options) as server:  # type: ignore[call-overload]
            try:
                found = re.search(r":(\d+)/\?token=(\S+)", server.stdout.readline())
                if found is None:
                    raise RuntimeError("mem_profiler serve did not begin")
                if not self.viewers:
                    yield
                    return
                script = str(Path(__file__).resolve())
                words = [*pinned, script, found[1], found[2], str(pid)]
                with subprocess.Popen(words, **options) as clients:  # type: ignore[call-overload]
                    for _ in range(VIEWERS):
                        clients.stdout.readline()
                    yield
                    server.terminate()
                    later = clients.communicate(timeout=WAIT_S)[0].splitlines()
                    self.frames = VIEWERS + len(later)
            finally:
                server.terminate()


def _run(tools: Tools, requests: int, *, viewers: bool) -> Numbers:
    beside = _Beside(tools, viewers=viewers)
    numbers = measure_once(tools, tools.sampled("1024"), requests, beside)
    if viewers and beside.frames <= VIEWERS:
        raise RuntimeError("the viewers saw nothing new under load")
    return {**numbers, "frames": float(beside.frames)}


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """Pairs of a server that nobody watches, and one with five viewers."""
    if not tools.redis:
        return {}
    # Some seconds of each command: pages are made once a second.
    requests = 500_000 if quick else 1_500_000
    cases = [
        Case("not watched", lambda: _run(tools, requests, viewers=False)),
        Case("five viewers", lambda: _run(tools, requests, viewers=True)),
    ]
    return {"serve": interleave(cases, 3 if quick else ROUNDS, "redis, five viewers")}


if __name__ == "__main__":
    main()
