/*
 * vulkan.h - the Vulkan layer: what its files share.
 *
 * Model: the Vulkan loader finds the layer by its manifest, negotiates (companion/layers.c), and then
 * sends vkCreateInstance and vkCreateDevice through us. For each such instance and device, a row holds
 * the functions of the layer below; its key is the dispatch key, the first word of every handle
 * (vulkan_chain.c). Programs that fetch pointers with vkGetDeviceProcAddr get ours.
 *
 * A block is a VkDeviceMemory; its device ends it if the program did not. Imported memory belongs to
 * others and does not count.
 *
 * Threads: look-ups of rows take no lock. The creation and destruction of instances and devices may
 * allocate pages.
 */
#ifndef MP_VULKAN_H
#define MP_VULKAN_H

#include "device/device.h"
#include "vulkan_abi.h"

struct mp_vk_instance {
    uint64_t key; /* dispatch key; 0: free, 1: being filled */
    void *handle;
    mp_vk_get_proc_addr next;
    mp_vkDestroyInstance_fn destroy_instance;
    mp_vkEnumeratePhysicalDevices_fn enumerate_physical_devices;
    mp_vkEnumerateDeviceExtensionProperties_fn enumerate_extensions;
    mp_vkGetPhysicalDeviceMemoryProperties_fn memory_properties;
    mp_vkGetPhysicalDeviceMemoryProperties2_fn memory_properties_2; /* NULL: may not be called */
};

struct mp_vk_device {
    uint64_t key;
    void *handle;
    mp_vk_get_proc_addr next;
    mp_vkDestroyDevice_fn destroy_device;
    mp_vkAllocateMemory_fn allocate_memory;
    mp_vkFreeMemory_fn free_memory;
    void *physical;
    mp_vkGetPhysicalDeviceMemoryProperties2_fn budget; /* NULL: the driver tells no usage */
    uint64_t container; /* never 0, never used again */
    int number; /* of the physical device in the instance's list; -1: not found */
    uint32_t device_local_types; /* bit mask of memory types */
    uint32_t device_local_heaps;
};

static inline uint64_t mp_vk_key(const void *handle) {
    return (uint64_t)*(const uintptr_t *)handle;
}

/* HOOK. The row of a device; NULL: it was not made through us. */
struct mp_vk_device *mp_vk_device_of(void *device);

int32_t mp_vk_allocate(struct mp_vk_device *row, const struct mp_vk_memory_allocate_info *info,
                       const void *allocator, uint64_t *memory, const struct mp_frame *caller,
                       uintptr_t api_pc);
void mp_vk_free(struct mp_vk_device *row, uint64_t memory, const void *allocator);

/* The device is about to be destroyed. */
void mp_vk_drop(struct mp_vk_device *row);

#endif
