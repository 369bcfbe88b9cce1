/*
 * vulkan_abi.h - the part of Vulkan's binary interface that the layer touches.
 *
 * The layer is built without Vulkan's headers, so that installing the sampler needs none; a test
 * compiles this file against them. Dispatchable handles (VkInstance, VkPhysicalDevice, VkDevice)
 * are void *, their first word is the dispatch key; VkDeviceMemory is a number.
 */
#ifndef MP_VULKAN_ABI_H
#define MP_VULKAN_ABI_H

#include <stddef.h>
#include <stdint.h>

enum {
    MP_VK_SUCCESS = 0,
    MP_VK_ERROR_OUT_OF_HOST_MEMORY = -1,
    MP_VK_ERROR_OUT_OF_DEVICE_MEMORY = -2,
    MP_VK_ERROR_INITIALIZATION_FAILED = -3,
    MP_VK_INCOMPLETE = 5,
};

enum {
    MP_VK_LOADER_INSTANCE_CREATE_INFO = 47,
    MP_VK_LOADER_DEVICE_CREATE_INFO = 48,
    MP_VK_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2 = 1000059006,
    MP_VK_IMPORT_MEMORY_FD_INFO_KHR = 1000074000,
    MP_VK_IMPORT_ANDROID_HARDWARE_BUFFER_INFO = 1000129003,
    MP_VK_IMPORT_MEMORY_HOST_POINTER_INFO_EXT = 1000178000,
    MP_VK_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT = 1000237000,
};

#define MP_VK_MEMORY_TYPES 32
#define MP_VK_MEMORY_HEAPS 16
#define MP_VK_HEAP_DEVICE_LOCAL 1u
#define MP_VK_TYPE_DEVICE_LOCAL 1u
#define MP_VK_API_VERSION_1_1 (1u << 22 | 1u << 12)
#define MP_VK_NAME_BYTES 256 /* of an extension */

/* The beginning of every structure that can be chained. */
struct mp_vk_link {
    uint32_t type;
    const void *next;
};

struct mp_vk_application_info {
    uint32_t type;
    const void *next;
    const char *application_name;
    uint32_t application_version;
    const char *engine_name;
    uint32_t engine_version;
    uint32_t api_version;
};

struct mp_vk_instance_create_info {
    uint32_t type;
    const void *next;
    uint32_t flags;
    const struct mp_vk_application_info *application;
    uint32_t layer_count;
    const char *const *layers;
    uint32_t extension_count;
    const char *const *extensions;
};

struct mp_vk_memory_allocate_info {
    uint32_t type;
    const void *next;
    uint64_t bytes;
    uint32_t memory_type;
};

/* VkImportMemoryFdInfoKHR, VkImportMemoryHostPointerInfoEXT: nothing is imported when the kind
 * is 0. */
struct mp_vk_import_info {
    uint32_t type;
    const void *next;
    uint32_t handle_type;
};

struct mp_vk_memory_type {
    uint32_t flags;
    uint32_t heap;
};

struct mp_vk_memory_heap {
    uint64_t bytes;
    uint32_t flags;
};

struct mp_vk_memory_properties {
    uint32_t type_count;
    struct mp_vk_memory_type types[MP_VK_MEMORY_TYPES];
    uint32_t heap_count;
    struct mp_vk_memory_heap heaps[MP_VK_MEMORY_HEAPS];
};

struct mp_vk_memory_properties_2 {
    uint32_t type;
    void *next;
    struct mp_vk_memory_properties properties;
};

struct mp_vk_memory_budget {
    uint32_t type;
    void *next;
    uint64_t budget_bytes[MP_VK_MEMORY_HEAPS];
    uint64_t usage_bytes[MP_VK_MEMORY_HEAPS];
};

struct mp_vk_extension {
    char name[MP_VK_NAME_BYTES];
    uint32_t version;
};

typedef void (*mp_vk_function)(void);
typedef mp_vk_function (*mp_vk_get_proc_addr)(void *object, const char *name);

typedef int32_t (*mp_vkCreateInstance_fn)(const struct mp_vk_instance_create_info *info,
                                          const void *allocator, void **instance);
typedef void (*mp_vkDestroyInstance_fn)(void *instance, const void *allocator);
typedef int32_t (*mp_vkEnumeratePhysicalDevices_fn)(void *instance, uint32_t *n, void **devices);
typedef int32_t (*mp_vkEnumerateDeviceExtensionProperties_fn)(void *physical, const char *layer,
                                                              uint32_t *n,
                                                              struct mp_vk_extension *extensions);
typedef void (*mp_vkGetPhysicalDeviceMemoryProperties_fn)(void *physical,
                                                          struct mp_vk_memory_properties *p);
typedef void (*mp_vkGetPhysicalDeviceMemoryProperties2_fn)(void *physical,
                                                           struct mp_vk_memory_properties_2 *p);
typedef int32_t (*mp_vkCreateDevice_fn)(void *physical, const struct mp_vk_link *info,
                                        const void *allocator, void **device);
typedef void (*mp_vkDestroyDevice_fn)(void *device, const void *allocator);
typedef int32_t (*mp_vkAllocateMemory_fn)(void *device,
                                          const struct mp_vk_memory_allocate_info *info,
                                          const void *allocator, uint64_t *memory);
typedef void (*mp_vkFreeMemory_fn)(void *device, uint64_t memory, const void *allocator);

/* --- between loader and layer --------------------------------------------------------------- */

#define MP_VK_LAYER_LINK_INFO 0
#define MP_VK_NEGOTIATE_INTERFACE 1
#define MP_VK_LAYER_INTERFACE_VERSION 2

/* In vkCreateInstance: how to reach the layer below. The loader's own copy: to be advanced by
 * one. */
struct mp_vk_instance_link {
    struct mp_vk_instance_link *next;
    mp_vk_get_proc_addr instance_proc_addr;
    mp_vk_get_proc_addr physical_device_proc_addr;
};

struct mp_vk_device_link {
    struct mp_vk_device_link *next;
    mp_vk_get_proc_addr instance_proc_addr;
    mp_vk_get_proc_addr device_proc_addr;
};

/* VkLayerInstanceCreateInfo, VkLayerDeviceCreateInfo: `chain` is a link when function is
 * LINK_INFO. */
struct mp_vk_layer_create_info {
    uint32_t type;
    const void *next;
    uint32_t function;
    void *chain;
};

struct mp_vk_negotiate {
    uint32_t type;
    void *next;
    uint32_t version;
    mp_vk_get_proc_addr instance_proc_addr;
    mp_vk_get_proc_addr device_proc_addr;
    mp_vk_get_proc_addr physical_device_proc_addr;
};

#endif
