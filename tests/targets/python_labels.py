"""Allocates in threads and tasks with and without names, and writes down who ran, as it knows it.

    python_labels.py OUT.json [TASKS]

Blocks of BLOCK_BYTES are allocated with the GIL, those of BARE_BYTES without it. OUT gets, for each
of the two sizes, how often each pair of thread and task allocated: [[thread, task], count]; task is
null outside of tasks. With TASKS, so many tasks have a name of their own, and allocate once each.
Runs on any Python from 3.9, with its standard library alone.
"""

import asyncio
import collections
import concurrent.futures
import ctypes
import json
import sys
import threading

BLOCK_BYTES = 3000001
BARE_BYTES = 3100001
held, bare = ctypes.PyDLL(None), ctypes.CDLL(None)
for library in (held, bare):
    library.malloc.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
noted = {BLOCK_BYTES: collections.Counter(), BARE_BYTES: collections.Counter()}
lock = threading.Lock()


def running_task():
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    return None if task is None else task.get_name()


def grab(size=BLOCK_BYTES):
    library = held if size == BLOCK_BYTES else bare
    who = threading.current_thread().name, running_task()
    with lock:
        noted[size][who] += 1
    held.free(library.malloc(size))


def down(depth):
    if depth:
        down(depth - 1)
    grab()


def work():
    for _ in range(5):
        grab()
        grab(BARE_BYTES)


class Named(threading.Thread):
    """A thread with attributes before and behind its name."""

    def __init__(self, name):
        self.before = [name]
        super().__init__(name=name)
        self.behind = name

    def run(self):
        work()


def renamed():
    for name in ("first", "second", "first", "third with a longer name"):
        threading.current_thread().name = name
        for _ in range(3):
            grab()


def deep():
    down(10)
    down(600)  # more frames than are kept


def run(*threads):
    for thread in threads:
        thread.start()
        thread.join()


def threads():
    spread = threading.Thread(target=work, name="spread")
    spread.__dict__.update({f"attribute_{k}": k for k in range(40)})
    run(
        threading.Thread(target=work, name="worker-1"),
        threading.Thread(target=work, name="worker-2"),
        threading.Thread(target=work, name="\u00fcn\u00efcode \u540d\u524d \U0001f600"),
        threading.Thread(target=work, name="long " + "n" * 300),
        threading.Thread(target=renamed, name="zeroth"),
        threading.Thread(target=deep, name="deep"),
        Named("made by a class"),
        spread,
        *(threading.Thread(target=work) for _ in range(3)),
    )
    for _ in range(2):
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: work(), range(4)))
        with concurrent.futures.ThreadPoolExecutor(2, thread_name_prefix="pool") as pool:
            list(pool.map(lambda _: work(), range(4)))


async def steps(count):
    for _ in range(count):
        work()
        await asyncio.sleep(0)
        work()
        await asyncio.sleep(0.001)  # a timer wakes it


async def renaming():
    for name in ("draft", "final", "draft"):
        asyncio.current_task().set_name(name)
        work()
        await asyncio.sleep(0)
        work()


async def tasks():
    loop = asyncio.get_running_loop()
    made = [
        asyncio.create_task(steps(2), name="fetch"),
        asyncio.create_task(steps(2), name="store"),
        asyncio.create_task(steps(2)),
        asyncio.create_task(steps(2), name="\u4efb\u52a1"),
        asyncio.create_task(renaming()),
    ]
    loop.call_soon(work)
    loop.call_later(0.001, work)
    made[0].add_done_callback(lambda _: work())
    await asyncio.gather(*made)
    await loop.run_in_executor(None, work)
    work()


async def one():
    await asyncio.sleep(0)
    grab()


async def many(count):
    await asyncio.gather(*(asyncio.create_task(one(), name=f"request-{k}") for k in range(count)))


def main():
    if len(sys.argv) > 2:
        asyncio.run(many(int(sys.argv[2])))
    else:
        threads()
        asyncio.run(tasks())
        run(threading.Thread(target=lambda: asyncio.run(tasks()), name="io"))
    with open(sys.argv[1], "w") as file:
        json.dump([list(noted[size].items()) for size in (BLOCK_BYTES, BARE_BYTES)], file)


main()
