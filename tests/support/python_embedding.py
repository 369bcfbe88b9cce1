"""Programs that have an interpreter in them."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from sampler_run import TARGETS

FORMS = {
    "own types": ("-fPIC", "-pie"),
    "copied types": ("-fPIE", "-pie"),
    "copied types, fixed place": ("-fno-pic", "-no-pie"),
}
ASK = """
import sysconfig
get = sysconfig.get_config_var
print(sysconfig.get_path("include"), get("LIBDIR"), "python" + get("LDVERSION"), get("LDLIBRARY"))
"""


def build(python: str, folder: Path, form: str) -> Path:
    """The program against the shared library of an interpreter."""
    asked = subprocess.run(
        [python, "-c", ASK], capture_output=True, text=True, timeout=30, check=True
    )
    include, libraries, name, library = asked.stdout.split()
    if not (Path(libraries) / library).exists() or not (Path(include) / "Python.h").exists():
        pytest.skip(f"no shared library or headers of {python}")
    program = folder / "embedded"
    source = TARGETS / "python_embedded.c"
    line = f"cc -O1 -Wall -Werror -I{include} {source} -o {program} -L{libraries}"
    libs = (f"-l{name}", "-lpthread", f"-Wl,-rpath,{libraries}")
    subprocess.run([*shlex.split(line), *FORMS[form], *libs], check=True, timeout=60)
    return program
