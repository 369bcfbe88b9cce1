/*
 * hsa_rows.h - the functions of libhsa-runtime64.so.1, which count bytes. What the columns mean: wrap.h.
 *
 * HIP, OpenCL on ROCm and rocBLAS end here. HIP keeps a cache of its own above: not every hipMalloc
 * becomes a call here, and a chunk is named by the hipMalloc that made HIP ask for it.
 */
#ifndef MP_HSA_ROWS_H
#define MP_HSA_ROWS_H

/* clang-format off */
#define MP_HSA_ROWS(ROW) \
    ROW(allocate, hsa_status_t, hsa_memory_allocate, \
        (hsa_region_t region, size_t size, void **ptr), (region, size, ptr), \
        .domain = mp_hsa_domain(rc, region.handle), .asked_bytes = size, \
        .space = MP_SPACE_HIP_POINTER, .address = MP_OUT(ptr)) \
    ROW(free, hsa_status_t, hsa_memory_free, (void *ptr), (ptr), \
        .space = MP_SPACE_HIP_POINTER, .address = MP_ADDRESS(ptr)) \
    ROW(allocate, hsa_status_t, hsa_amd_memory_pool_allocate, \
        (hsa_amd_memory_pool_t memory_pool, size_t size, uint32_t flags, void **ptr), \
        (memory_pool, size, flags, ptr), \
        .domain = mp_hsa_domain(rc, memory_pool.handle), .asked_bytes = size, \
        .space = MP_SPACE_HIP_POINTER, .address = MP_OUT(ptr)) \
    ROW(free, hsa_status_t, hsa_amd_memory_pool_free, (void *ptr), (ptr), \
        .space = MP_SPACE_HIP_POINTER, .address = MP_ADDRESS(ptr))

/* Since ROCm 6. */
#define MP_HSA_PHYSICAL_ROWS(ROW) \
    ROW(create, hsa_status_t, hsa_amd_vmem_handle_create, \
        (hsa_amd_memory_pool_t pool, size_t size, hsa_amd_memory_type_t type, uint64_t flags, \
         hsa_amd_vmem_alloc_handle_t *handle), \
        (pool, size, type, flags, handle), \
        .domain = mp_hsa_domain(rc, pool.handle), .asked_bytes = size, \
        .space = MP_SPACE_HIP_HANDLE, .address = ok ? handle->handle : 0) \
    ROW(release, hsa_status_t, hsa_amd_vmem_handle_release, \
        (hsa_amd_vmem_alloc_handle_t handle), (handle), \
        .space = MP_SPACE_HIP_HANDLE, .address = handle.handle) \
    ROW(retain, hsa_status_t, hsa_amd_vmem_retain_alloc_handle, \
        (hsa_amd_vmem_alloc_handle_t *handle, void *addr), (handle, addr), \
        .space = MP_SPACE_HIP_HANDLE, .address = ok ? handle->handle : 0, \
        .container = MP_ADDRESS(addr)) \
    ROW(import, hsa_status_t, hsa_amd_vmem_import_shareable_handle, \
        (int dmabuf_fd, hsa_amd_vmem_alloc_handle_t *handle), (dmabuf_fd, handle), \
        .space = MP_SPACE_HIP_HANDLE, .address = ok ? handle->handle : 0) \
    ROW(map, hsa_status_t, hsa_amd_vmem_map, \
        (void *va, size_t size, size_t in_offset, hsa_amd_vmem_alloc_handle_t handle, \
         uint64_t flags), \
        (va, size, in_offset, handle, flags), \
        .space = MP_SPACE_HIP_HANDLE, .address = handle.handle, \
        .container = MP_ADDRESS(va), .asked_bytes = size) \
    ROW(unmap, hsa_status_t, hsa_amd_vmem_unmap, (void *va, size_t size), (va, size), \
        .space = MP_SPACE_HIP_HANDLE, .address = MP_ADDRESS(va), .asked_bytes = size)
/* clang-format on */

#endif
