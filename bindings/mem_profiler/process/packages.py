"""Libraries in the packages that a Python may import.

Model: no Python is asked, which would run code. A Python looks for packages below the folder that
its `bin` is in, as it is named (the link of a virtual environment is one), below the one its file
is in, in the user's folder, and in PYTHONPATH. The list may have too much in it, and misses folders
that .pth files name.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping

_PYTHON = re.compile(r"(python|pypy)[\d.]*t?")
_FOLDERS = (
    "lib/python3*/site-packages", "lib64/python3*/site-packages",
    "lib/python3*/dist-packages", "local/lib/python3*/dist-packages",
)  # fmt: skip
_NAMES = ("*.so*", "*/*.so*")
_FILES_MAX = 64


def libraries(folders: Iterable[str], least_bytes: int) -> list[str]:
    """Libraries of at least that size in packages in those folders."""
    found: dict[str, None] = {}
    for folder in dict.fromkeys(folders):
        for name in _NAMES:
            for path in glob.iglob(os.path.join(glob.escape(folder), name)):
                if len(found) < _FILES_MAX and is_large(path, least_bytes):
                    found[os.path.realpath(path)] = None
    return list(found)


def folders(places: Iterable[str], environment: Mapping[str, str]) -> Iterator[str]:
    """The folders of packages of the Pythons among `places`, paths of programs as they are named.
    None where no Python is named.
    """
    pythons = [place for place in places if _PYTHON.fullmatch(os.path.basename(place))]
    if not pythons:
        return
    yield from filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    roots = [os.path.join(os.path.expanduser("~"), ".local")]
    for place in pythons:
        paths = (os.path.abspath(place), os.path.realpath(place))
        roots += [os.path.dirname(os.path.dirname(path)) for path in paths]
    for root in dict.fromkeys(roots):
        for folder in _FOLDERS:
            yield from glob.iglob(os.path.join(glob.escape(root), folder))


def is_large(path: str, least_bytes: int) -> bool:
    """Whether a path is that of a file of at least that size."""
    try:
        return os.path.isfile(path) and os.path.getsize(path) >= least_bytes
    except OSError:
        return False
