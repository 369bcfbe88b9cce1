"""The environment in which loaders of device drivers load the sampler as a layer.

Model: OpenCL and Vulkan can load a layer, code between a program and a driver, and find it by
environment variables. `environment` returns the variables to set, on top of those already set: a
user's own layers stay, and keep their places. OpenCL puts the last one named next to the program,
Vulkan the first one.

The loaders open a small library beside the sampler, which forwards to the preloaded sampler; in a
process without one the layer declines.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

VULKAN_LAYER = "VK_LAYER_MEM_PROFILER_memory"
MANIFEST_NAME = "VkLayer_mem_profiler.json"
LAYERS_NAME = "libmem_sampler_layers.so"
# Files that must be beside the sampler.
FILES = (LAYERS_NAME, MANIFEST_NAME)


def _extended(value: str, entry: str) -> str:
    """A list with colons, `entry` at its end unless it is there."""
    entries = [part for part in value.split(":") if part]
    return ":".join(entries if entry in entries else [*entries, entry])


def _opencl(layers: Path, present: Mapping[str, str]) -> dict[str, str]:
    return {"OPENCL_LAYERS": _extended(present.get("OPENCL_LAYERS", ""), str(layers))}


def _vulkan(layers: Path, present: Mapping[str, str]) -> dict[str, str]:
    folder = str(layers.parent)
    found = {
        "VK_INSTANCE_LAYERS": _extended(present.get("VK_INSTANCE_LAYERS", ""), VULKAN_LAYER),
        "VK_ADD_LAYER_PATH": _extended(present.get("VK_ADD_LAYER_PATH", ""), folder),
    }
    if present.get("VK_LAYER_PATH"):
        # The loader searches it instead of all other places, VK_ADD_LAYER_PATH among them.
        found["VK_LAYER_PATH"] = _extended(present["VK_LAYER_PATH"], folder)
    return found


def environment(
    backends: Collection[str], library: Path, present: Mapping[str, str]
) -> dict[str, str]:
    """Variables that the layers among `backends` need, to set on top of `present`.

    `library` is the sampler as LD_PRELOAD names it. A layer whose file is missing is left out. The
    path must not contain colons, which the loaders' lists cannot quote.
    """
    layers = library.with_name(LAYERS_NAME)
    found: dict[str, str] = {}
    if "opencl" in backends and layers.is_file():
        found |= _opencl(layers, present)
    if "vulkan" in backends and layers.is_file() and library.with_name(MANIFEST_NAME).is_file():
        found |= _vulkan(layers, present)
    return found
