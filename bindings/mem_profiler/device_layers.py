"""The environment in which loaders of device drivers take the sampler in as a layer.

Model: OpenCL and Vulkan have a mechanism of their own for what stands between a program and a
driver, a layer, and find it by environment variables. `environment` returns what is to be set,
on top of what is set already: a user's own layers stay, and keep their places. OpenCL puts the
last one named next to the program, Vulkan the first one.

The loader opens the very file that LD_PRELOAD names, so that one sampler is in the process.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

VULKAN_LAYER = "VK_LAYER_MEM_PROFILER_memory"
MANIFEST_NAME = "VkLayer_mem_profiler.json"
LAYERED = ("opencl", "vulkan")


def manifest_path(library: Path) -> Path:
    """The manifest by which Vulkan's loader finds `library`; it lies beside it."""
    return library.parent / MANIFEST_NAME


def link_manifest(link: Path, library: Path) -> Path:
    """Put the manifest of `library` beside `link`, a link to it; returns where. OSError if not."""
    place = manifest_path(link)
    place.symlink_to(manifest_path(library))
    return place


def _extended(value: str, entry: str) -> str:
    """A list with colons, `entry` at its end unless it is there."""
    entries = [part for part in value.split(":") if part]
    return ":".join(entries if entry in entries else [*entries, entry])


def _opencl(library: Path, present: Mapping[str, str]) -> dict[str, str]:
    return {"OPENCL_LAYERS": _extended(present.get("OPENCL_LAYERS", ""), str(library))}


def _vulkan(library: Path, present: Mapping[str, str]) -> dict[str, str]:
    folder = str(library.parent)
    found = {
        "VK_INSTANCE_LAYERS": _extended(present.get("VK_INSTANCE_LAYERS", ""), VULKAN_LAYER),
        "VK_ADD_LAYER_PATH": _extended(present.get("VK_ADD_LAYER_PATH", ""), folder),
    }
    if present.get("VK_LAYER_PATH"):
        # It is searched instead of all other places, VK_ADD_LAYER_PATH among them.
        found["VK_LAYER_PATH"] = _extended(present["VK_LAYER_PATH"], folder)
    return found


def environment(
    backends: Collection[str], library: Path, present: Mapping[str, str]
) -> dict[str, str]:
    """Variables that the layers among `backends` need, to be laid over `present`.

    `library` is the sampler as LD_PRELOAD names it; without its manifest beside it Vulkan is left
    out (`link_manifest`). The path must be free of colons: the loaders' lists cannot quote one.
    """
    found: dict[str, str] = {}
    if "opencl" in backends:
        found |= _opencl(library, present)
    if "vulkan" in backends and manifest_path(library).is_file():
        found |= _vulkan(library, present)
    return found
