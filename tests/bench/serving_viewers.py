"""What viewers of `mem_profiler serve` cost the process that they watch: a redis-server under load.

Model: all cases have a capture at 1024 and the server. In one of them five clients ask it again and
again for the page's data, as five browsers do. Server and clients share the processor of the load:
redis has its own. A load that gets less of its processor sends smaller parts at a time, and each
request then costs redis more, whoever took the processor: so a third case has a program beside that
only computes, as long as server and clients do. A case is compared with another one of its round.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from redis_load import measure_once
from rounds import Case, Numbers, Series, interleave
from tools import Tools, child_environment

VIEWERS = 5
WAIT_S = 60.0
ROUNDS = 12
VIEWED, AS_MUCH = "five viewers", "as much work beside"


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
    """`serving_viewers.py PORT TOKEN PID`: five viewers, a line for each page that one gets;
    `serving_viewers.py SHARE`: compute for that share of the time.
    """
    if len(sys.argv) == 2:
        _compute(float(sys.argv[1]))
    port, token, pid = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    frames: list[int] = []
    threads = [
        threading.Thread(target=_view, args=(port, token, pid, frames)) for _ in range(VIEWERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _compute(share: float) -> None:
    """Use so much of a processor until killed."""
    while True:
        began_s, used_s = time.monotonic(), time.process_time()
        while time.process_time() - used_s < 0.05 * share:
            sum(range(1000))
        time.sleep(max(0.05 - (time.monotonic() - began_s), 0))


class _Beside:
    """The server on the processor of the load, and beside it the viewers, nothing (None), or a
    program that uses a share of it. ``share`` is what all of them used in the end.
    """

    def __init__(self, tools: Tools, beside: str | float | None) -> None:
        self.tools, self.beside, self.frames, self.share = tools, beside, 0, 0.0

    @contextlib.contextmanager
    def __call__(self, pid: int, cpu: int) -> Iterator[None]:
        pinned = ["taskset", "-c", str(cpu), sys.executable]
        began_s = time.monotonic()
        with self._server(pinned) as server, self._next_to_it(pinned, server, pid):
            yield
            of_load_s = _of_ended_s()
        self.share = (_of_ended_s() - of_load_s) / (time.monotonic() - began_s)

    @contextlib.contextmanager
    def _server(self, pinned: list[str]) -> Iterator[subprocess.Popen[str]]:
        variables = child_environment({"MEM_PROFILER_DIR": str(self.tools.scratch / "segments")})
        command = [*pinned, "-m", "mem_cli.profiler.group", "serve", "--listen", "127.0.0.1:0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=variables) as server:
            try:
                yield server
            finally:
                server.terminate()

    @contextlib.contextmanager
    def _next_to_it(
        self, pinned: list[str], server: subprocess.Popen[str], pid: int
    ) -> Iterator[None]:
        assert server.stdout is not None
        found = re.search(r":(\d+)/#token=(\S+)", server.stdout.readline())
        if found is None:
            raise RuntimeError("mem_profiler serve did not begin")
        words = [found[1], found[2], str(pid)] if self.beside == "viewers" else [str(self.beside)]
        if self.beside is None:
            yield
            return
        script = str(Path(__file__).resolve())
        with subprocess.Popen(
            [*pinned, script, *words], stdout=subprocess.PIPE, text=True, env=child_environment({})
        ) as other:
            assert other.stdout is not None
            for _ in range(VIEWERS if self.beside == "viewers" else 0):
                other.stdout.readline()
            try:
                yield
            finally:
                server.terminate()
                if self.beside != "viewers":
                    other.kill()
                self.frames = VIEWERS + len(other.communicate(timeout=WAIT_S)[0].splitlines())


def _of_ended_s() -> float:
    """Seconds of the processor of the children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _run(tools: Tools, requests: int, beside: str | float | None) -> Numbers:
    server = _Beside(tools, beside)
    numbers = measure_once(tools, tools.sampled("1024"), requests, server)
    if beside == "viewers" and server.frames <= VIEWERS:
        raise RuntimeError("the viewers saw nothing new under load")
    return {**numbers, "frames": float(server.frames), "share": server.share}


def measure(tools: Tools, *, quick: bool) -> dict[str, Series]:
    """Rounds of a server that nobody watches, one with five viewers, and one with as much work
    beside.
    """
    if not tools.redis:
        return {}
    # Some seconds of each command: pages are made once a second.
    requests = 500_000 if quick else 1_500_000
    share = _run(tools, requests, "viewers")["share"] - _run(tools, requests, None)["share"]
    cases = [
        Case("not watched", lambda: _run(tools, requests, None)),
        Case(VIEWED, lambda: _run(tools, requests, "viewers")),
        Case(AS_MUCH, lambda: _run(tools, requests, share)),
    ]
    return {"serve": interleave(cases, 3 if quick else ROUNDS, "redis, five viewers")}


if __name__ == "__main__":
    main()
