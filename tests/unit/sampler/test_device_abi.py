"""The sampler's own declarations of each driver's interface, held against the published headers.

Declarations are ABI: results and parameters must have the sizes, and the places of structures the
offsets, that the headers give them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from c_build import ROOT, compile_program, run_program
from stub_driver import DRIVERS, FLAGS, STUBS, cuda_includes

SAMPLER = ROOT / "sampler"
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
#define SAME(theirs, ours) static_assert(long(theirs) == long(ours), #theirs);
#define SIZE(theirs, ours) SAME(sizeof(theirs), sizeof(ours))
#define FIELD(theirs, field, ours, name) SAME(offsetof(theirs, field), offsetof(ours, name))
"""

OPENCL = r"""
#define CL_TARGET_OPENCL_VERSION 300
#define CL_USE_DEPRECATED_OPENCL_1_1_APIS
#include <CL/cl_icd.h>
#include <CL/cl_ext.h>
#include "drivers/opencl/opencl_abi.h"
#define SAME_ENTRY(name, index, result, parameters) \
    SAME(offsetof(cl_icd_dispatch, name), index * sizeof(void *)) \
    static_assert(same_shape<decltype(cl_icd_dispatch::name), mp_##name##_fn>() || \
                  std::is_same_v<decltype(cl_icd_dispatch::name), void *>, #name);
MP_CL_ENTRIES(SAME_ENTRY)
#define SAME_NAME(name, index, result, parameters) \
    static_assert(same_shape<name##_fn, mp_##name##_fn>(), #name);
MP_CL_EXTENSIONS(SAME_NAME)
#define IMAGE(theirs, ours) FIELD(cl_image_desc, theirs, mp_cl_image_desc, ours)
SIZE(cl_image_desc, mp_cl_image_desc) SIZE(cl_image_format, mp_cl_image_format)
IMAGE(image_type, type) IMAGE(image_width, width) IMAGE(image_height, height)
IMAGE(image_depth, depth) IMAGE(image_array_size, array_size) IMAGE(mem_object, memory)
#define V(name) SAME(CL_##name, MP_CL_##name)
V(SUCCESS) V(MEM_OBJECT_ALLOCATION_FAILURE) V(OUT_OF_RESOURCES) V(OUT_OF_HOST_MEMORY)
V(INVALID_VALUE) V(INVALID_IMAGE_SIZE) V(INVALID_BUFFER_SIZE) V(PLATFORM_VERSION)
V(DEVICE_PLATFORM) V(DEVICE_PARENT_DEVICE) V(CONTEXT_REFERENCE_COUNT) V(CONTEXT_DEVICES)
V(MEM_SIZE) V(MEM_REFERENCE_COUNT) V(DEVICE_TYPE_ALL) V(MEM_USE_HOST_PTR) V(MEM_ALLOC_HOST_PTR)
#define I(name) SAME(CL_MEM_OBJECT_IMAGE##name, MP_CL_IMAGE_##name)
I(2D) I(3D) I(2D_ARRAY) I(1D) I(1D_ARRAY)
SAME(CL_R, MP_CL_CHANNEL_ORDER_FIRST) SAME(CL_SNORM_INT8, MP_CL_CHANNEL_TYPE_FIRST)
static_assert(CL_EXTERNAL_MEMORY_HANDLE_OPAQUE_FD_KHR >= MP_CL_EXTERNAL_MEMORY_FIRST &&
              CL_EXTERNAL_MEMORY_HANDLE_DMA_BUF_KHR <= MP_CL_EXTERNAL_MEMORY_LAST, "");
"""

VULKAN = r"""
#include <vulkan/vulkan.h>
#include <vulkan/vk_layer.h>
#include "drivers/vulkan/vulkan_abi.h"
#define FUNCTION(name) static_assert(same_shape<PFN_##name, mp_##name##_fn>(), #name);
FUNCTION(vkCreateInstance) FUNCTION(vkDestroyInstance) FUNCTION(vkEnumeratePhysicalDevices)
FUNCTION(vkEnumerateDeviceExtensionProperties) FUNCTION(vkGetPhysicalDeviceMemoryProperties)
FUNCTION(vkGetPhysicalDeviceMemoryProperties2) FUNCTION(vkCreateDevice)
FUNCTION(vkDestroyDevice) FUNCTION(vkAllocateMemory) FUNCTION(vkFreeMemory)
static_assert(same_shape<PFN_vkGetInstanceProcAddr, mp_vk_get_proc_addr>(), "");
static_assert(same_shape<PFN_vkGetDeviceProcAddr, mp_vk_get_proc_addr>(), "");
SIZE(VkApplicationInfo, mp_vk_application_info)
FIELD(VkApplicationInfo, apiVersion, mp_vk_application_info, api_version)
SIZE(VkInstanceCreateInfo, mp_vk_instance_create_info)
FIELD(VkInstanceCreateInfo, pNext, mp_vk_instance_create_info, next)
FIELD(VkInstanceCreateInfo, pApplicationInfo, mp_vk_instance_create_info, application)
FIELD(VkInstanceCreateInfo, enabledExtensionCount, mp_vk_instance_create_info, extension_count)
FIELD(VkInstanceCreateInfo, ppEnabledExtensionNames, mp_vk_instance_create_info, extensions)
FIELD(VkDeviceCreateInfo, pNext, mp_vk_link, next)
SIZE(VkMemoryAllocateInfo, mp_vk_memory_allocate_info)
FIELD(VkMemoryAllocateInfo, pNext, mp_vk_memory_allocate_info, next)
FIELD(VkMemoryAllocateInfo, allocationSize, mp_vk_memory_allocate_info, bytes)
FIELD(VkMemoryAllocateInfo, memoryTypeIndex, mp_vk_memory_allocate_info, memory_type)
FIELD(VkImportMemoryFdInfoKHR, handleType, mp_vk_import_info, handle_type)
FIELD(VkImportMemoryHostPointerInfoEXT, handleType, mp_vk_import_info, handle_type)
SIZE(VkPhysicalDeviceMemoryProperties, mp_vk_memory_properties)
FIELD(VkPhysicalDeviceMemoryProperties, memoryTypes, mp_vk_memory_properties, types)
FIELD(VkPhysicalDeviceMemoryProperties, memoryHeaps, mp_vk_memory_properties, heaps)
FIELD(VkMemoryType, propertyFlags, mp_vk_memory_type, flags)
FIELD(VkMemoryHeap, flags, mp_vk_memory_heap, flags)
SIZE(VkPhysicalDeviceMemoryProperties2, mp_vk_memory_properties_2)
FIELD(VkPhysicalDeviceMemoryProperties2, memoryProperties, mp_vk_memory_properties_2, properties)
SIZE(VkPhysicalDeviceMemoryBudgetPropertiesEXT, mp_vk_memory_budget)
FIELD(VkPhysicalDeviceMemoryBudgetPropertiesEXT, heapUsage, mp_vk_memory_budget, usage_bytes)
SIZE(VkExtensionProperties, mp_vk_extension)
SIZE(VkLayerInstanceLink, mp_vk_instance_link)
FIELD(VkLayerInstanceLink, pfnNextGetInstanceProcAddr, mp_vk_instance_link, instance_proc_addr)
SIZE(VkLayerDeviceLink, mp_vk_device_link)
FIELD(VkLayerDeviceLink, pfnNextGetDeviceProcAddr, mp_vk_device_link, device_proc_addr)
FIELD(VkLayerInstanceCreateInfo, function, mp_vk_layer_create_info, function)
FIELD(VkLayerInstanceCreateInfo, u, mp_vk_layer_create_info, chain)
FIELD(VkLayerDeviceCreateInfo, u, mp_vk_layer_create_info, chain)
SIZE(VkNegotiateLayerInterface, mp_vk_negotiate)
FIELD(VkNegotiateLayerInterface, pfnGetDeviceProcAddr, mp_vk_negotiate, device_proc_addr)
#define V(name) SAME(VK_##name, MP_VK_##name)
#define T(name) SAME(VK_STRUCTURE_TYPE_##name, MP_VK_##name)
V(ERROR_OUT_OF_HOST_MEMORY) V(ERROR_OUT_OF_DEVICE_MEMORY) V(ERROR_INITIALIZATION_FAILED)
V(INCOMPLETE) V(API_VERSION_1_1) V(LAYER_LINK_INFO) T(LOADER_INSTANCE_CREATE_INFO)
T(LOADER_DEVICE_CREATE_INFO) T(PHYSICAL_DEVICE_MEMORY_PROPERTIES_2)
T(IMPORT_MEMORY_FD_INFO_KHR) T(IMPORT_MEMORY_HOST_POINTER_INFO_EXT)
T(PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT)
SAME(VK_MAX_MEMORY_TYPES, MP_VK_MEMORY_TYPES) SAME(VK_MAX_MEMORY_HEAPS, MP_VK_MEMORY_HEAPS)
SAME(VK_MEMORY_HEAP_DEVICE_LOCAL_BIT, MP_VK_HEAP_DEVICE_LOCAL)
SAME(VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, MP_VK_TYPE_DEVICE_LOCAL)
SAME(VK_MAX_EXTENSION_NAME_SIZE, MP_VK_NAME_BYTES)
SAME(LAYER_NEGOTIATE_INTERFACE_STRUCT, MP_VK_NEGOTIATE_INTERFACE)
SAME(CURRENT_LOADER_LAYER_INTERFACE_VERSION, MP_VK_LAYER_INTERFACE_VERSION)
"""

ZE = r"""
#include <level_zero/ze_api.h>
#include "drivers/ze/ze_abi.h"
SIZE(ze_result_t, mp_ze_result)
SAME(ZE_RESULT_SUCCESS, MP_ZE_SUCCESS)
#define V(name) SAME(ZE_RESULT_ERROR_##name, MP_ZE_##name)
V(OUT_OF_HOST_MEMORY) V(OUT_OF_DEVICE_MEMORY) V(UNSUPPORTED_SIZE)
SAME(ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_FD, MP_ZE_IMPORT_FD)
SAME(ZE_STRUCTURE_TYPE_EXTERNAL_MEMORY_IMPORT_WIN32, MP_ZE_IMPORT_WIN32)
SIZE(ze_physical_mem_desc_t, mp_ze_physical_desc)
FIELD(ze_physical_mem_desc_t, size, mp_ze_physical_desc, bytes)
FIELD(ze_device_mem_alloc_desc_t, pNext, mp_ze_desc, next)
FIELD(ze_host_mem_alloc_desc_t, pNext, mp_ze_desc, next)
#define IMAGE(theirs, ours) FIELD(ze_image_desc_t, theirs, mp_ze_image_desc, ours)
SIZE(ze_image_desc_t, mp_ze_image_desc)
IMAGE(type, shape) IMAGE(format.layout, layout) IMAGE(width, width) IMAGE(height, height)
IMAGE(depth, depth) IMAGE(arraylevels, layers)
#define I(theirs, ours) SAME(ZE_IMAGE_TYPE_##theirs, MP_ZE_IMAGE_##ours)
I(1DARRAY, 1D_ARRAY) I(2D, 2D) I(2DARRAY, 2D_ARRAY) I(3D, 3D) I(BUFFER, BUFFER)
"""


@pytest.mark.parametrize(
    ("header", "check"),
    [("CL/cl_layer.h", OPENCL), ("vulkan/vk_layer.h", VULKAN), ("level_zero/ze_api.h", ZE)],
    ids=["opencl", "vulkan", "ze"],
)
def test_types_are_those_of_the_headers(tmp_path: Path, header: str, check: str) -> None:
    if not Path("/usr/include", header).exists():
        pytest.skip(f"{header} is not installed")
    source = tmp_path / "check.cc"
    source.write_text(SHAPES + check)
    done = subprocess.run(
        ["g++", "-std=c++17", "-fsyntax-only", f"-I{SAMPLER}", str(source)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


ROWS = {
    "cuda": (
        "#define __CUDA_API_VERSION_INTERNAL\n#include <cuda.h>\n#include <cuda_runtime_api.h>\n",
        ["MP_CUDA_ROWS", "MP_CUDART_ROWS"],
    ),
    "hip": (
        '#pragma GCC diagnostic ignored "-Wdeprecated-declarations"\n#include "hip_stub.h"\n',
        ["MP_HSA_ROWS", "MP_HIP_ROWS", "MP_HIP_ASYNC_ROWS"],
    ),
}  # fmt: skip
CHECK_ROW = (
    "#define CHECK(...) CHECK_(__VA_ARGS__)\n#define CHECK_(role, result, name, params, args, ...) "
    "_Static_assert(__builtin_types_compatible_p(__typeof__(name), result params), #name);\n"
)


@pytest.mark.parametrize("driver", ROWS)
def test_signatures_of_rows_are_those_of_the_headers(tmp_path: Path, driver: str) -> None:
    if not DRIVERS[driver].present:
        pytest.skip(f"{DRIVERS[driver].needs} is absent")
    head, tables = ROWS[driver]
    source = tmp_path / "signatures.c"
    source.write_text(
        head + CHECK_ROW + f'#include "drivers/{driver}/{driver}_rows.h"\n'
        + "".join(f"{table}(CHECK)\n" for table in tables)
        + "int main(void) { return 0; }\n"
    )  # fmt: skip
    includes = cuda_includes() if driver == "cuda" else (f"-I{STUBS / 'hip'}",)
    compile_program(source, ("-std=gnu11", "-w", *includes))


CUDA_LAYOUT = (
    "sizeof(CUDA_ARRAY_DESCRIPTOR)", "offsetof(CUDA_ARRAY_DESCRIPTOR, NumChannels)",
    "sizeof(CUDA_ARRAY3D_DESCRIPTOR)", "offsetof(CUDA_ARRAY3D_DESCRIPTOR, Flags)",
    "sizeof(CUmemAllocationProp)", "offsetof(CUmemAllocationProp, location.id)",
    "offsetof(CUmemAllocationProp, allocFlags)", "sizeof(CUipcMemHandle)",
    "sizeof(CUmemAllocationHandleType)", "sizeof(CUdriverProcAddressQueryResult)",
    "sizeof(struct cudaExtent)", "sizeof(cudaIpcMemHandle_t)", "sizeof(struct cudaPitchedPtr)",
    "offsetof(struct cudaPitchedPtr, pitch)", "offsetof(struct cudaChannelFormatDesc, w)",
    "offsetof(struct cudaChannelFormatDesc, f)",
)  # fmt: skip


@pytest.mark.skipif(not DRIVERS["cuda"].present, reason="nvidia-cuda-runtime-cu12 is absent")
def test_structures_of_cuda_are_those_of_the_headers(tmp_path: Path) -> None:
    """They have the names of the originals: read once with our declarations, once with NVIDIA's."""
    shown = "".join(f'printf("{one} %zu\\n", {one});' for one in CUDA_LAYOUT)
    answers = []
    for name, include in (
        ("ours", '"drivers/cuda/cuda_abi.h"'),
        ("theirs", "<cuda_runtime_api.h>"),
    ):
        source = tmp_path / f"{name}.c"
        source.write_text(
            "#define __CUDA_API_VERSION_INTERNAL\n#include <stddef.h>\n#include <stdio.h>\n"
            + ("#include <cuda.h>\n" if name == "theirs" else "")
            + f"#include {include}\nint main(void) {{ {shown} return 0; }}\n"
        )
        answers.append(run_program(compile_program(source, (*FLAGS, *cuda_includes()))).stdout)
    assert answers[0] == answers[1]
    assert len(answers[0].splitlines()) == len(CUDA_LAYOUT)
