/*
 * hsa.c - a stub of AMD's runtime, libhsa-runtime64.so.1 (../memory.h): a processor and two GPUs, two pools on the first.
 */
#include "../memory.h"
#include "hip_stub.h"

#define PUBLIC __attribute__((visibility("default"))) hsa_status_t
#define DONE(call) ((call) ? HSA_STATUS_SUCCESS : HSA_STATUS_ERROR_INVALID_ARGUMENT)

static const struct {
    uint64_t handle;
    int device; /* -1: the processor's */
    bool region;
} pools[] = {
    {0x10, -1, false}, {0x20, 0, false}, {0x21, 0, false}, {0x30, 1, false}, {0x40, -1, true}};
#define POOLS (sizeof pools / sizeof pools[0])

PUBLIC hsa_iterate_agents(hsa_status_t (*callback)(hsa_agent_t, void *), void *data) {
    for (uint64_t i = 1; i <= 3; i++)
        callback((hsa_agent_t){i}, data);
    return HSA_STATUS_SUCCESS;
}

PUBLIC hsa_agent_get_info(hsa_agent_t agent, hsa_agent_info_t attribute, void *value) {
    if (attribute != HSA_AGENT_INFO_DEVICE)
        return HSA_STATUS_ERROR_INVALID_ARGUMENT;
    *(hsa_device_type_t *)value = agent.handle == 1 ? HSA_DEVICE_TYPE_CPU : HSA_DEVICE_TYPE_GPU;
    return HSA_STATUS_SUCCESS;
}

PUBLIC hsa_amd_agent_iterate_memory_pools(hsa_agent_t agent,
                                          hsa_status_t (*callback)(hsa_amd_memory_pool_t, void *),
                                          void *data) {
    for (size_t i = 0; i < POOLS; i++)
        if (!pools[i].region && pools[i].device == (int)agent.handle - 2)
            callback((hsa_amd_memory_pool_t){pools[i].handle}, data);
    return HSA_STATUS_SUCCESS;
}

PUBLIC hsa_agent_iterate_regions(hsa_agent_t agent, hsa_status_t (*callback)(hsa_region_t, void *),
                                 void *data) {
    for (size_t i = 0; i < POOLS; i++)
        if (pools[i].region && pools[i].device == (int)agent.handle - 2)
            callback((hsa_region_t){pools[i].handle}, data);
    return HSA_STATUS_SUCCESS;
}

/* False: there is no such pool. */
static bool place(struct stub_block *block, uint64_t pool) {
    for (size_t i = 0; i < POOLS; i++)
        if (pools[i].handle == pool) {
            stub_place(block, "hip", pools[i].device, "");
            return true;
        }
    return false;
}

static hsa_status_t give(uint64_t pool, const char *function, bool fails, size_t size, void **out) {
    struct stub_block block = {.kind = 1, .bytes = size};
    if (!place(&block, pool))
        return HSA_STATUS_ERROR_INVALID_ARGUMENT;
    return stub_give(&block, function, fails, size, out) ? HSA_STATUS_SUCCESS
                                                         : HSA_STATUS_ERROR_OUT_OF_RESOURCES;
}

PUBLIC hsa_memory_allocate(hsa_region_t region, size_t size, void **ptr) {
    return give(region.handle, "hsa_memory_allocate", STUB_FAILS("hsa_memory_allocate"), size, ptr);
}

PUBLIC hsa_amd_memory_pool_allocate(hsa_amd_memory_pool_t pool, size_t size, uint32_t flags,
                                    void **ptr) {
    return give(pool.handle, "hsa_amd_memory_pool_allocate",
                STUB_FAILS("hsa_amd_memory_pool_allocate"), size, ptr);
}

PUBLIC hsa_memory_free(void *ptr) {
    return ptr == NULL || stub_take(1, (uintptr_t)ptr, STUB_FAILS("hsa_memory_free"))
               ? HSA_STATUS_SUCCESS
               : HSA_STATUS_ERROR_INVALID_ALLOCATION;
}

/* As in the real one: the newer name ends in the older. */
PUBLIC hsa_amd_memory_pool_free(void *ptr) {
    return hsa_memory_free(ptr);
}

PUBLIC hsa_amd_vmem_handle_create(hsa_amd_memory_pool_t pool, size_t size,
                                  hsa_amd_memory_type_t type, uint64_t flags,
                                  hsa_amd_vmem_alloc_handle_t *handle) {
    struct stub_block block = {.kind = STUB_PHYSICAL, .bytes = size};
    if (!place(&block, pool.handle))
        return HSA_STATUS_ERROR_INVALID_ARGUMENT;
    return stub_create(&block, "hsa_amd_vmem_handle_create",
                       STUB_FAILS("hsa_amd_vmem_handle_create"), handle)
               ? HSA_STATUS_SUCCESS
               : HSA_STATUS_ERROR_OUT_OF_RESOURCES;
}

PUBLIC hsa_amd_vmem_handle_release(hsa_amd_vmem_alloc_handle_t handle) {
    return DONE(stub_release(handle.handle, STUB_FAILS("hsa_amd_vmem_handle_release")));
}

PUBLIC hsa_amd_vmem_retain_alloc_handle(hsa_amd_vmem_alloc_handle_t *handle, void *address) {
    return DONE(stub_retain((uintptr_t)address, handle));
}

PUBLIC hsa_amd_vmem_map(void *address, size_t size, size_t offset,
                        hsa_amd_vmem_alloc_handle_t handle, uint64_t flags) {
    return DONE(stub_map((uintptr_t)address, size, handle.handle));
}

PUBLIC hsa_amd_vmem_unmap(void *address, size_t size) {
    return DONE(stub_unmap((uintptr_t)address, size, STUB_FAILS("hsa_amd_vmem_unmap")));
}
