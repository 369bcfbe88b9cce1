"""Build the cffi extension `mem_profiler._inject`: the ptrace engine of sampler/inject.

Model: as in `_build`, cffi gets the text between the cffi marks of the C headers unchanged. The
extension contains the engine's compiled sources, since the engine runs in the controller, which
copies only some of its bytes into a target. Those bytes must not refer to anything outside of
themselves; the compiler flags ensure this.

setup.py names `ffibuilder`; paths of sources are relative to the repository's root.
"""

from __future__ import annotations

import re
from pathlib import Path

from cffi import FFI

SAMPLER = Path(__file__).resolve().parent.parent.parent / "sampler"
HEADERS = ("abi/attach.h", "inject/payload.h", "inject/inject.h")
UNWIND = ("cfi", "cfi_expr", "cfi_row", "stack_range")
FLAGS = (
    "-O2",
    "-fno-builtin",
    "-fno-jump-tables",
    "-fno-stack-protector",
    "-fno-tree-loop-distribute-patterns",
    "-fcf-protection=none",
    "-fvisibility=hidden",
)

FUNCTIONS = """
const void *mp_inject_pad_code(void);
uint64_t mp_inject_pad_bytes(void);
int mp_inject_borrow(struct mp_inject_job *job, const struct mp_payload_frame *frame);
void mp_inject_close(struct mp_inject_job *job);
"""


def declarations(header: Path) -> str:
    """The text between the cffi marks of `header`; ValueError when the marks are missing."""
    text = header.read_text(encoding="utf-8")
    found = re.search(r"/\* cffi: begin \*/(.*?)/\* cffi: end \*/", text, re.DOTALL)
    if found is None:
        raise ValueError(f"{header} has no cffi marks")
    return found.group(1)


def flags() -> list[str]:
    """Compiler flags for the machine that is built for; -fcf-protection exists on x86 only."""
    import sysconfig

    x86 = sysconfig.get_platform().endswith("x86_64")
    return [flag for flag in FLAGS if x86 or "cf-protection" not in flag]


ffibuilder = FFI()
ffibuilder.cdef("".join(declarations(SAMPLER / name) for name in HEADERS) + FUNCTIONS)
ffibuilder.set_source(
    "mem_profiler._inject",
    '#include "inject/inject.h"\n',
    include_dirs=[str(SAMPLER)],
    sources=[
        *(f"sampler/inject/{path.name}" for path in sorted((SAMPLER / "inject").glob("*.c"))),
        *(f"sampler/unwind/{name}.c" for name in UNWIND),
    ],
    extra_compile_args=flags(),
    define_macros=[("_GNU_SOURCE", None)],
)
