"""The environment of the layers, and the layers' own declarations against the published headers."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from c_build import ROOT
from mem_profiler.capture import device_choice, device_layers

SAMPLER = ROOT / "sampler"
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

    found = device_layers.environment(device_layers.LAYERED, LIBRARY, own)

    assert found["OPENCL_LAYERS"] == f"/a.so:/b.so:{LAYERS}"
    assert found["VK_INSTANCE_LAYERS"] == "VK_LAYER_X:VK_LAYER_MEM_PROFILER_memory"
    assert found["VK_LAYER_PATH"] == f"/layers:{LIBRARY.parent}"
    assert found["VK_ADD_LAYER_PATH"] == str(LIBRARY.parent)


def test_a_second_run_inside_the_first_adds_nothing() -> None:
    once = device_layers.environment(device_layers.LAYERED, LIBRARY, {})

    assert device_layers.environment(device_layers.LAYERED, LIBRARY, once) == once


def test_files_that_are_not_there_are_not_named_and_links_to_them_are(tmp_path: Path) -> None:
    link = tmp_path / LIBRARY.name
    link.symlink_to(LIBRARY)
    assert device_layers.environment(device_layers.LAYERED, link, {}) == {}

    device_choice.link_companions(link, LIBRARY)

    found = device_layers.environment(device_layers.LAYERED, link, {})
    assert found["VK_ADD_LAYER_PATH"] == str(tmp_path)
    assert found["OPENCL_LAYERS"] == str(tmp_path / LAYERS.name)


def test_the_manifest_names_the_library_beside_it() -> None:
    manifest = LIBRARY.with_name(device_layers.MANIFEST_NAME)
    layer = json.loads(manifest.read_text())["layer"]

    assert layer["name"] == device_layers.VULKAN_LAYER
    assert layer["library_path"] == f"./{LAYERS.name}"
    assert layer["enable_environment"]
    assert layer["disable_environment"], "an implicit layer needs a way to switch it off"


# A layer's declarations are ABI: results and parameters must have the sizes, and the places of
# structures the offsets, that the published headers give them.
OPENCL_CHECK = r"""
#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#include <CL/cl_icd.h>
#include <CL/cl_ext.h>
#include <CL/cl_layer.h>
#include "drivers/opencl/opencl_abi.h"
#include "shapes.hh"

#define SAME_ENTRY(name, index, result, parameters) \
    static_assert(offsetof(cl_icd_dispatch, name) == index * sizeof(void *), #name); \
    static_assert(same_shape<decltype(cl_icd_dispatch::name), mp_##name##_fn>() || \
                  is_void_pointer<decltype(cl_icd_dispatch::name)>(), #name);
MP_CL_ENTRIES(SAME_ENTRY)
#define SAME_NAME(name, index, result, parameters) \
    static_assert(same_shape<name##_fn, mp_##name##_fn>(), #name);
MP_CL_EXTENSIONS(SAME_NAME)
static_assert(same_shape<decltype(&clGetExtensionFunctionAddressForPlatform),
                         mp_clGetExtensionFunctionAddressForPlatform_fn>(), "");

#define SAME(theirs, ours) static_assert(long(theirs) == long(ours), #theirs)
#define FIELD(theirs, ours) \
    SAME(offsetof(cl_image_desc, theirs), offsetof(struct mp_cl_image_desc, ours))
SAME(sizeof(cl_image_desc), sizeof(struct mp_cl_image_desc));
SAME(sizeof(cl_image_format), sizeof(struct mp_cl_image_format));
FIELD(image_type, type); FIELD(image_width, width); FIELD(image_height, height);
FIELD(image_depth, depth); FIELD(image_array_size, array_size); FIELD(mem_object, memory);
SAME(CL_SUCCESS, MP_CL_SUCCESS);
SAME(CL_MEM_OBJECT_ALLOCATION_FAILURE, MP_CL_MEM_OBJECT_ALLOCATION_FAILURE);
SAME(CL_OUT_OF_RESOURCES, MP_CL_OUT_OF_RESOURCES);
SAME(CL_OUT_OF_HOST_MEMORY, MP_CL_OUT_OF_HOST_MEMORY);
SAME(CL_INVALID_VALUE, MP_CL_INVALID_VALUE);
SAME(CL_INVALID_IMAGE_SIZE, MP_CL_INVALID_IMAGE_SIZE);
SAME(CL_INVALID_BUFFER_SIZE, MP_CL_INVALID_BUFFER_SIZE);
SAME(CL_PLATFORM_VERSION, MP_CL_PLATFORM_VERSION);
SAME(CL_DEVICE_PLATFORM, MP_CL_DEVICE_PLATFORM);
SAME(CL_DEVICE_PARENT_DEVICE, MP_CL_DEVICE_PARENT_DEVICE);
SAME(CL_CONTEXT_REFERENCE_COUNT, MP_CL_CONTEXT_REFERENCE_COUNT);
SAME(CL_CONTEXT_DEVICES, MP_CL_CONTEXT_DEVICES);
SAME(CL_MEM_SIZE, MP_CL_MEM_SIZE);
SAME(CL_MEM_REFERENCE_COUNT, MP_CL_MEM_REFERENCE_COUNT);
SAME(CL_DEVICE_TYPE_ALL, MP_CL_DEVICE_TYPE_ALL);
SAME(CL_MEM_USE_HOST_PTR, MP_CL_MEM_USE_HOST_PTR);
SAME(CL_MEM_ALLOC_HOST_PTR, MP_CL_MEM_ALLOC_HOST_PTR);
SAME(CL_MEM_OBJECT_IMAGE2D, MP_CL_IMAGE_2D);
SAME(CL_MEM_OBJECT_IMAGE3D, MP_CL_IMAGE_3D);
SAME(CL_MEM_OBJECT_IMAGE2D_ARRAY, MP_CL_IMAGE_2D_ARRAY);
SAME(CL_MEM_OBJECT_IMAGE1D, MP_CL_IMAGE_1D);
SAME(CL_MEM_OBJECT_IMAGE1D_ARRAY, MP_CL_IMAGE_1D_ARRAY);
SAME(CL_R, MP_CL_CHANNEL_ORDER_FIRST);
SAME(CL_SNORM_INT8, MP_CL_CHANNEL_TYPE_FIRST);
static_assert(CL_EXTERNAL_MEMORY_HANDLE_OPAQUE_FD_KHR >= MP_CL_EXTERNAL_MEMORY_FIRST &&
              CL_EXTERNAL_MEMORY_HANDLE_DMA_BUF_KHR <= MP_CL_EXTERNAL_MEMORY_LAST, "");
"""

VULKAN_CHECK = r"""
#include <vulkan/vulkan.h>
#include <vulkan/vk_layer.h>
#include "drivers/vulkan/vulkan_abi.h"
#include "shapes.hh"

#define SAME(theirs, ours) static_assert(long(theirs) == long(ours), #theirs)
#define FUNCTION(name) static_assert(same_shape<PFN_##name, mp_##name##_fn>(), #name)
FUNCTION(vkCreateInstance); FUNCTION(vkDestroyInstance); FUNCTION(vkEnumeratePhysicalDevices);
FUNCTION(vkEnumerateDeviceExtensionProperties); FUNCTION(vkGetPhysicalDeviceMemoryProperties);
FUNCTION(vkGetPhysicalDeviceMemoryProperties2); FUNCTION(vkCreateDevice);
FUNCTION(vkDestroyDevice); FUNCTION(vkAllocateMemory); FUNCTION(vkFreeMemory);
static_assert(same_shape<PFN_vkGetInstanceProcAddr, mp_vk_get_proc_addr>(), "");
static_assert(same_shape<PFN_vkGetDeviceProcAddr, mp_vk_get_proc_addr>(), "");

#define SIZE(theirs, ours) SAME(sizeof(theirs), sizeof(struct ours))
#define FIELD(theirs, field, ours, name) SAME(offsetof(theirs, field), offsetof(struct ours, name))
SIZE(VkApplicationInfo, mp_vk_application_info);
FIELD(VkApplicationInfo, apiVersion, mp_vk_application_info, api_version);
SIZE(VkInstanceCreateInfo, mp_vk_instance_create_info);
FIELD(VkInstanceCreateInfo, pNext, mp_vk_instance_create_info, next);
FIELD(VkInstanceCreateInfo, pApplicationInfo, mp_vk_instance_create_info, application);
FIELD(VkInstanceCreateInfo, enabledExtensionCount, mp_vk_instance_create_info, extension_count);
FIELD(VkInstanceCreateInfo, ppEnabledExtensionNames, mp_vk_instance_create_info, extensions);
FIELD(VkDeviceCreateInfo, pNext, mp_vk_link, next);
SIZE(VkMemoryAllocateInfo, mp_vk_memory_allocate_info);
FIELD(VkMemoryAllocateInfo, pNext, mp_vk_memory_allocate_info, next);
FIELD(VkMemoryAllocateInfo, allocationSize, mp_vk_memory_allocate_info, bytes);
FIELD(VkMemoryAllocateInfo, memoryTypeIndex, mp_vk_memory_allocate_info, memory_type);
FIELD(VkImportMemoryFdInfoKHR, handleType, mp_vk_import_info, handle_type);
FIELD(VkImportMemoryHostPointerInfoEXT, handleType, mp_vk_import_info, handle_type);
SIZE(VkPhysicalDeviceMemoryProperties, mp_vk_memory_properties);
FIELD(VkPhysicalDeviceMemoryProperties, memoryTypes, mp_vk_memory_properties, types);
FIELD(VkPhysicalDeviceMemoryProperties, memoryHeaps, mp_vk_memory_properties, heaps);
FIELD(VkMemoryType, propertyFlags, mp_vk_memory_type, flags);
FIELD(VkMemoryHeap, flags, mp_vk_memory_heap, flags);
SIZE(VkPhysicalDeviceMemoryProperties2, mp_vk_memory_properties_2);
FIELD(VkPhysicalDeviceMemoryProperties2, memoryProperties, mp_vk_memory_properties_2, properties);
SIZE(VkPhysicalDeviceMemoryBudgetPropertiesEXT, mp_vk_memory_budget);
FIELD(VkPhysicalDeviceMemoryBudgetPropertiesEXT, heapUsage, mp_vk_memory_budget, usage_bytes);
SIZE(VkExtensionProperties, mp_vk_extension);
SIZE(VkLayerInstanceLink, mp_vk_instance_link);
FIELD(VkLayerInstanceLink, pfnNextGetInstanceProcAddr, mp_vk_instance_link, instance_proc_addr);
SIZE(VkLayerDeviceLink, mp_vk_device_link);
FIELD(VkLayerDeviceLink, pfnNextGetDeviceProcAddr, mp_vk_device_link, device_proc_addr);
FIELD(VkLayerInstanceCreateInfo, function, mp_vk_layer_create_info, function);
FIELD(VkLayerInstanceCreateInfo, u, mp_vk_layer_create_info, chain);
FIELD(VkLayerDeviceCreateInfo, u, mp_vk_layer_create_info, chain);
SIZE(VkNegotiateLayerInterface, mp_vk_negotiate);
FIELD(VkNegotiateLayerInterface, pfnGetDeviceProcAddr, mp_vk_negotiate, device_proc_addr);
SAME(VK_ERROR_OUT_OF_HOST_MEMORY, MP_VK_ERROR_OUT_OF_HOST_MEMORY);
SAME(VK_ERROR_OUT_OF_DEVICE_MEMORY, MP_VK_ERROR_OUT_OF_DEVICE_MEMORY);
SAME(VK_ERROR_INITIALIZATION_FAILED, MP_VK_ERROR_INITIALIZATION_FAILED);
SAME(VK_INCOMPLETE, MP_VK_INCOMPLETE);
SAME(VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO, MP_VK_LOADER_INSTANCE_CREATE_INFO);
SAME(VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO, MP_VK_LOADER_DEVICE_CREATE_INFO);
SAME(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
     MP_VK_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2);
SAME(VK_STRUCTURE_TYPE_IMPORT_MEMORY_FD_INFO_KHR, MP_VK_IMPORT_MEMORY_FD_INFO_KHR);
SAME(VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
     MP_VK_IMPORT_MEMORY_HOST_POINTER_INFO_EXT);
SAME(VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT,
     MP_VK_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT);
SAME(VK_MAX_MEMORY_TYPES, MP_VK_MEMORY_TYPES); SAME(VK_MAX_MEMORY_HEAPS, MP_VK_MEMORY_HEAPS);
SAME(VK_MEMORY_HEAP_DEVICE_LOCAL_BIT, MP_VK_HEAP_DEVICE_LOCAL);
SAME(VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, MP_VK_TYPE_DEVICE_LOCAL);
SAME(VK_API_VERSION_1_1, MP_VK_API_VERSION_1_1);
SAME(VK_MAX_EXTENSION_NAME_SIZE, MP_VK_NAME_BYTES);
SAME(VK_LAYER_LINK_INFO, MP_VK_LAYER_LINK_INFO);
SAME(LAYER_NEGOTIATE_INTERFACE_STRUCT, MP_VK_NEGOTIATE_INTERFACE);
SAME(CURRENT_LOADER_LAYER_INTERFACE_VERSION, MP_VK_LAYER_INTERFACE_VERSION);
"""

SHAPES = r"""
#include <cstddef>
#include <type_traits>
template <class T> constexpr std::size_t bytes_of() {
    if constexpr (std::is_void_v<T>) return 0; else return sizeof(T);
}
template <class A, class B> struct shapes { static constexpr bool same = false; };
template <class R, class... A, class S, class... B> struct shapes<R (*)(A...), S (*)(B...)> {
    static constexpr bool same = [] {
        if constexpr (sizeof...(A) == sizeof...(B))
            return bytes_of<R>() == bytes_of<S>() && ((sizeof(A) == sizeof(B)) && ...);
        else
            return false;
    }();
};
template <class A, class B> constexpr bool same_shape() { return shapes<A, B>::same; }
template <class A> constexpr bool is_void_pointer() { return std::is_same_v<A, void *>; }
"""


@pytest.mark.parametrize(
    ("header", "check"),
    [("CL/cl_layer.h", OPENCL_CHECK), ("vulkan/vk_layer.h", VULKAN_CHECK)],
    ids=["opencl", "vulkan"],
)
def test_declarations_are_those_of_the_published_headers(
    header: str, check: str, tmp_path: Path
) -> None:
    if shutil.which("g++") is None or not Path("/usr/include", header).exists():
        pytest.skip(f"{header} is not installed")
    (tmp_path / "shapes.hh").write_text(SHAPES)
    source = tmp_path / "check.cc"
    source.write_text(check)

    done = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", f"-I{SAMPLER}", f"-I{tmp_path}", str(source)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
