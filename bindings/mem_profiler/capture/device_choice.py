"""Device drivers that the sampler can follow, and their requirements at start.

Model: a choice is the value of `--device`: `auto`, `none`, or a list of backends. It becomes
variables of the program's environment: MEM_PROFILER_DEVICE for the sampler, and variables that
drivers and their libraries read (layers of OpenCL and Vulkan, the injection of NVTX, the library
name by which torch_npu recognises a tool). A variable that names another tool stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mem_parser.errors import UsageProblem
from mem_profiler.capture import device_layers
from mem_profiler.segment import layout

BACKENDS = tuple(layout.BACKENDS.values())
# A library whose name makes torch_npu report its pool; it does nothing itself.
GATE_NAME = "libmem_sampler_libascend_kernel_hook.so"
COMPANIONS = (GATE_NAME, *device_layers.FILES)


@dataclass(frozen=True)
class Choice:
    """Backends that are on; `by_name` when the user named each of them."""

    backends: tuple[str, ...]
    by_name: bool

    @property
    def value(self) -> str:
        """The value of MEM_PROFILER_DEVICE."""
        if self.by_name:
            return ",".join(self.backends)
        return "auto" if self.backends else "none"


MAPPINGS = "mmap"
"""Not of a device, and followed where it is named."""
AUTO = Choice(tuple(name for name in BACKENDS if name != MAPPINGS), by_name=False)


def link_companions(link: Path, library: Path) -> None:
    """Link the sampler's companions beside `link`, a link to the sampler. Raises OSError."""
    for name in COMPANIONS:
        if (file := library.with_name(name)).is_file():
            link.with_name(name).symlink_to(file)


def parse(text: str) -> Choice:
    """Read `auto`, `none` or a list such as `hal,cuda`. Raises UsageProblem."""
    if text == "auto":
        return AUTO
    if text == "none":
        return Choice((), by_name=False)
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in BACKENDS:
            raise UsageProblem(
                f"--device {text}: there is no backend {name!r}",
                hint=f"auto, none, or of {', '.join(BACKENDS)}",
            )
    return Choice(tuple(name for name in BACKENDS if name in names), by_name=True)


def _wants_gate(choice: Choice, present: Mapping[str, str]) -> bool:
    # torch_npu also looks for mstx below ASCEND_HOME_PATH; without it, it reports to no tool.
    return "hal" in choice.backends and (choice.by_name or "ASCEND_HOME_PATH" in present)


def environment(choice: Choice, library: Path, present: Mapping[str, str]) -> dict[str, str]:
    """Variables to set on top of `present`, whose LD_PRELOAD begins with `library` already.

    Uses those COMPANIONS that are beside `library`, and leaves out the others.
    """
    found = {"MEM_PROFILER_DEVICE": choice.value}
    found |= device_layers.environment(choice.backends, library, present)
    if choice.backends and not present.get("NVTX_INJECTION64_PATH"):
        found["NVTX_INJECTION64_PATH"] = str(library)
    gate = library.with_name(GATE_NAME)
    if _wants_gate(choice, present) and gate.is_file():
        # After the sampler, with colons: torch_npu accepts no other separator.
        entries = present.get("LD_PRELOAD", "").replace(" ", ":").split(":")
        found["LD_PRELOAD"] = ":".join([*filter(None, entries), str(gate)])
    return found
