"""The environment of the layers of OpenCL and Vulkan."""

from __future__ import annotations

import json
from pathlib import Path

from c_build import ROOT
from mem_profiler.capture import device_choice, device_layers

LIBRARY = ROOT / "bindings" / "mem_profiler" / "libmem_sampler.so"
LAYERS = LIBRARY.with_name("libmem_sampler_layers.so")


def test_nothing_is_set_for_other_backends() -> None:
    assert device_layers.environment(["hal", "cuda"], LIBRARY, {"OPENCL_LAYERS": "/x.so"}) == {}


def test_what_each_loader_needs_names_the_library_of_layers() -> None:
    found = device_layers.environment(["opencl", "vulkan"], LIBRARY, {})

    assert found == {
        "OPENCL_LAYERS": str(LAYERS),
        "VK_INSTANCE_LAYERS": "VK_LAYER_MEM_PROFILER_memory",
        "VK_ADD_LAYER_PATH": str(LIBRARY.parent),
    }


def test_a_users_own_layers_stay_in_their_places() -> None:
    own = {
        "OPENCL_LAYERS": "/a.so:/b.so",
        "VK_INSTANCE_LAYERS": "VK_LAYER_X",
        "VK_LAYER_PATH": "/layers",
    }

    found = device_layers.environment(("opencl", "vulkan"), LIBRARY, own)

    assert found["OPENCL_LAYERS"] == f"/a.so:/b.so:{LAYERS}"
    assert found["VK_INSTANCE_LAYERS"] == "VK_LAYER_X:VK_LAYER_MEM_PROFILER_memory"
    assert found["VK_LAYER_PATH"] == f"/layers:{LIBRARY.parent}"
    assert found["VK_ADD_LAYER_PATH"] == str(LIBRARY.parent)


def test_a_second_run_inside_the_first_adds_nothing() -> None:
    once = device_layers.environment(("opencl", "vulkan"), LIBRARY, {})

    assert device_layers.environment(("opencl", "vulkan"), LIBRARY, once) == once


def test_files_that_are_not_there_are_not_named_and_links_to_them_are(tmp_path: Path) -> None:
    link = tmp_path / LIBRARY.name
    link.symlink_to(LIBRARY)
    assert device_layers.environment(("opencl", "vulkan"), link, {}) == {}

    device_choice.link_companions(link, LIBRARY)

    found = device_layers.environment(("opencl", "vulkan"), link, {})
    assert found["VK_ADD_LAYER_PATH"] == str(tmp_path)
    assert found["OPENCL_LAYERS"] == str(tmp_path / LAYERS.name)


def test_the_manifest_names_the_library_beside_it() -> None:
    manifest = LIBRARY.with_name(device_layers.MANIFEST_NAME)
    layer = json.loads(manifest.read_text())["layer"]

    assert layer["name"] == device_layers.VULKAN_LAYER
    assert layer["library_path"] == f"./{LAYERS.name}"
    assert layer["enable_environment"]
    assert layer["disable_environment"], "an implicit layer needs a way to switch it off"
