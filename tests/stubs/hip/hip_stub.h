/*
 * hip_stub.h - AMD's headers, and what those of ROCm 5.2 do not have yet.
 */
#ifndef HIP_STUB_H
#define HIP_STUB_H

#define __HIP_PLATFORM_AMD__
#include <hip/hip_runtime_api.h>
#include <hsa/hsa.h>
#include <hsa/hsa_ext_amd.h>

typedef struct {
    uint64_t handle;
} hsa_amd_vmem_alloc_handle_t;
typedef int hsa_amd_memory_type_t;

hsa_status_t hsa_amd_vmem_handle_create(hsa_amd_memory_pool_t pool, size_t size,
                                        hsa_amd_memory_type_t type, uint64_t flags,
                                        hsa_amd_vmem_alloc_handle_t *handle);
hsa_status_t hsa_amd_vmem_handle_release(hsa_amd_vmem_alloc_handle_t handle);
hsa_status_t hsa_amd_vmem_retain_alloc_handle(hsa_amd_vmem_alloc_handle_t *handle, void *address);
hsa_status_t hsa_amd_vmem_map(void *address, size_t size, size_t offset,
                              hsa_amd_vmem_alloc_handle_t handle, uint64_t flags);
hsa_status_t hsa_amd_vmem_unmap(void *address, size_t size);

#endif
