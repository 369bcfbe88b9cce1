/*
 * vulkan_memory.c - VkDeviceMemory, from the layer into the segment; the use that the driver reports.
 */
#include "core/local.h"
#include "drivers/backend.h"
#include "vulkan.h"

#include <errno.h>

/*
 * A handle is unique in its device only. Handles of the first device stay as they are; a one-to-one
 * mapping moves those of others to values of their own.
 */
static uint64_t address_of(const struct mp_vk_device *row, uint64_t memory) {
    if (row->container == 1)
        return memory;
    return memory ^ (row->container * 0x9e3779b97f4a7c15ULL & ~(uint64_t)0xf);
}

static bool is_import(const void *chain) {
    for (const struct mp_vk_link *at = chain; at != NULL; at = at->next) {
        const struct mp_vk_import_info *info = (const struct mp_vk_import_info *)at;
        if ((at->type == MP_VK_IMPORT_MEMORY_FD_INFO_KHR ||
             at->type == MP_VK_IMPORT_MEMORY_HOST_POINTER_INFO_EXT) &&
            info->handle_type != 0)
            return true;
        if (at->type == MP_VK_IMPORT_ANDROID_HARDWARE_BUFFER_INFO)
            return true;
    }
    return false;
}

/* Memory of a heap that is not the device's is host memory that the driver has locked. */
static uint32_t domain_of(const struct mp_vk_device *row, bool device_local) {
    return device_local ? mp_domain_intern("vulkan", row->number, MP_MEMORY_DEVICE)
                        : mp_domain_intern("vulkan", -1, MP_MEMORY_PINNED);
}

/* Store the driver's numbers, for the device's own heaps together. */
static void tell_actual(const struct mp_vk_device *row, uint32_t domain) {
    if (row->budget == NULL || !mp_device_actual_due(domain))
        return;
    struct mp_vk_memory_budget budget = {.type =
                                             MP_VK_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    struct mp_vk_memory_properties_2 memory = {.type = MP_VK_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                               .next = &budget};
    row->budget(row->physical, &memory);
    uint64_t used = 0, total = 0;
    for (uint32_t i = 0; i < memory.properties.heap_count && i < MP_VK_MEMORY_HEAPS; i++) {
        if (!(row->device_local_heaps >> i & 1))
            continue;
        used += budget.usage_bytes[i];
        total += memory.properties.heaps[i].bytes;
    }
    mp_device_actual(domain, used, total);
}

int32_t mp_vk_allocate(struct mp_vk_device *row, const struct mp_vk_memory_allocate_info *info,
                       const void *allocator, uint64_t *memory, const struct mp_frame *caller,
                       uintptr_t api_pc) {
    if (row == NULL)
        return MP_VK_ERROR_INITIALIZATION_FAILED; /* a handle that no loader gave out */
    int32_t rc = row->allocate_memory(row->handle, info, allocator, memory);
    mp_device_backend_call(MP_BACKEND_VULKAN);
    bool shortage = rc == MP_VK_ERROR_OUT_OF_DEVICE_MEMORY || rc == MP_VK_ERROR_OUT_OF_HOST_MEMORY;
    if ((rc != MP_VK_SUCCESS && !shortage) || mp_gate() == MP_GATE_OFF || is_import(info->next))
        return rc;
    int saved_errno = errno;
    bool device_local = info->memory_type < MP_VK_MEMORY_TYPES &&
                        (row->device_local_types >> info->memory_type & 1);
    struct mp_device_block block = {.domain = domain_of(row, device_local),
                                    .space = MP_SPACE_VULKAN_MEMORY,
                                    .container = row->container,
                                    .asked_bytes = info->bytes,
                                    .api_pc = api_pc,
                                    .caller = *caller};
    if (shortage) {
        mp_device_fail(&block);
    } else {
        block.address = address_of(row, *memory);
        mp_device_alloc(&block);
    }
    if (device_local)
        tell_actual(row, block.domain);
    errno = saved_errno;
    return rc;
}

void mp_vk_free(struct mp_vk_device *row, uint64_t memory, const void *allocator) {
    struct mp_device_taken taken;
    if (row == NULL)
        return;
    if (memory != 0)
        mp_device_take(MP_SPACE_VULKAN_MEMORY, address_of(row, memory), &taken);
    row->free_memory(row->handle, memory, allocator);
}

void mp_vk_drop(struct mp_vk_device *row) {
    mp_device_drop_container(MP_SPACE_VULKAN_MEMORY, row->container);
}
