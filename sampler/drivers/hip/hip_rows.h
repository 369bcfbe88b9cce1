/*
 * hip_rows.h - the functions of libamdhip64.so and of libhsa-runtime64.so.1 below it. What the columns mean: wrap.h.
 */
#ifndef MP_HIP_ROWS_H
#define MP_HIP_ROWS_H

#include "drivers/signature.h"

/* clang-format off */
/*
 * HSA counts bytes: HIP, OpenCL on ROCm and rocBLAS end here. HIP keeps a cache of its own above: not every hipMalloc
 * becomes a call here, and a chunk is named by the hipMalloc that made HIP ask for it.
 */
#define MP_HSA_ROWS(ROW) \
    ROW(allocate, hsa_status_t, hsa_memory_allocate, MP_ARG3(hsa_region_t, region, size_t, size, \
        void **, ptr), .domain = mp_hsa_domain(rc, region.handle), .asked_bytes = size, \
        MP_FROM(HIP_POINTER, ptr)) \
    ROW(free, hsa_status_t, hsa_memory_free, MP_ARG1(void *, ptr), MP_OF(HIP_POINTER, ptr)) \
    ROW(allocate, hsa_status_t, hsa_amd_memory_pool_allocate, \
        MP_ARG4(hsa_amd_memory_pool_t, memory_pool, size_t, size, uint32_t, flags, void **, ptr), \
        .domain = mp_hsa_domain(rc, memory_pool.handle), .asked_bytes = size, \
        .space = MP_SPACE_HIP_POINTER, .address = MP_OUT(ptr)) \
    ROW(free, hsa_status_t, hsa_amd_memory_pool_free, MP_ARG1(void *, ptr), \
        MP_OF(HIP_POINTER, ptr))

/* Since ROCm 6. */
#define MP_HSA_PHYSICAL_ROWS(ROW) \
    ROW(create, hsa_status_t, hsa_amd_vmem_handle_create, MP_ARG5(hsa_amd_memory_pool_t, pool, \
        size_t, size, hsa_amd_memory_type_t, type, uint64_t, flags, \
        hsa_amd_vmem_alloc_handle_t *, handle), .domain = mp_hsa_domain(rc, pool.handle), \
        .asked_bytes = size, .space = MP_SPACE_HIP_HANDLE, .address = ok ? handle->handle : 0) \
    ROW(release, hsa_status_t, hsa_amd_vmem_handle_release, \
        MP_ARG1(hsa_amd_vmem_alloc_handle_t, handle), .space = MP_SPACE_HIP_HANDLE, \
        .address = handle.handle) \
    ROW(retain, hsa_status_t, hsa_amd_vmem_retain_alloc_handle, \
        MP_ARG2(hsa_amd_vmem_alloc_handle_t *, handle, void *, addr), \
        .space = MP_SPACE_HIP_HANDLE, .address = ok ? handle->handle : 0, \
        .container = MP_ADDRESS(addr)) \
    ROW(import, hsa_status_t, hsa_amd_vmem_import_shareable_handle, MP_ARG2(int, dmabuf_fd, \
        hsa_amd_vmem_alloc_handle_t *, handle), .space = MP_SPACE_HIP_HANDLE, \
        .address = ok ? handle->handle : 0) \
    ROW(map, hsa_status_t, hsa_amd_vmem_map, MP_ARG5(void *, va, size_t, size, size_t, in_offset, \
        hsa_amd_vmem_alloc_handle_t, handle, uint64_t, flags), .space = MP_SPACE_HIP_HANDLE, \
        .address = handle.handle, .container = MP_ADDRESS(va), .asked_bytes = size) \
    ROW(unmap, hsa_status_t, hsa_amd_vmem_unmap, MP_ARG2(void *, va, size_t, size), \
        MP_OF(HIP_HANDLE, va), .asked_bytes = size)

/*
 * HIP gives names. Stream-ordered memory comes out of pools inside HIP, of which HSA sees the chunks: a domain of its
 * own counts the blocks in use of these pools.
 */
#define MP_HIP_LINEAR_ROWS(ROW) \
    ROW(name, hipError_t, hipMalloc, MP_ANY2(void **, size_t)) \
    ROW(name, hipError_t, hipExtMallocWithFlags, MP_ANY3(void **, size_t, unsigned int)) \
    ROW(name, hipError_t, hipMallocManaged, MP_ANY3(void **, size_t, unsigned int)) \
    ROW(name, hipError_t, hipMallocPitch, MP_ANY4(void **, size_t *, size_t, size_t)) \
    ROW(name, hipError_t, hipMemAllocPitch, MP_ANY5(hipDeviceptr_t *, size_t *, size_t, size_t, \
        unsigned int)) \
    ROW(name, hipError_t, hipMalloc3D, MP_ANY2(hipPitchedPtr *, hipExtent)) \
    ROW(name, hipError_t, hipFree, MP_ANY1(void *)) \
    ROW(name, hipError_t, hipDeviceReset, MP_ANY0()) \
    ROW(name, hipError_t, hipIpcOpenMemHandle, MP_ANY3(void **, hipIpcMemHandle_t, unsigned int)) \
    ROW(name, hipError_t, hipIpcCloseMemHandle, MP_ANY1(void *))

#define MP_HIP_HOST_ROWS(ROW) \
    ROW(name, hipError_t, hipHostMalloc, MP_ANY3(void **, size_t, unsigned int)) \
    ROW(name, hipError_t, hipHostAlloc, MP_ANY3(void **, size_t, unsigned int)) \
    ROW(name, hipError_t, hipMallocHost, MP_ANY2(void **, size_t)) \
    ROW(name, hipError_t, hipMemAllocHost, MP_ANY2(void **, size_t)) \
    ROW(name, hipError_t, hipHostFree, MP_ANY1(void *)) \
    ROW(name, hipError_t, hipFreeHost, MP_ANY1(void *)) \
    ROW(allocate, hipError_t, hipHostRegister, MP_ARG3(void *, hostPtr, size_t, sizeBytes, \
        unsigned int, flags), .domain = mp_hip_domain(rc, MP_MEMORY_PINNED), \
        .asked_bytes = sizeBytes, MP_OF(HIP_REGISTERED, hostPtr)) \
    ROW(free, hipError_t, hipHostUnregister, MP_ARG1(void *, hostPtr), \
        MP_OF(HIP_REGISTERED, hostPtr))

#define MP_HIP_ARRAY_ROWS(ROW) \
    ROW(name, hipError_t, hipMallocArray, MP_ANY5(hipArray **, const hipChannelFormatDesc *, \
        size_t, size_t, unsigned int)) \
    ROW(name, hipError_t, hipMalloc3DArray, MP_ANY4(hipArray **, \
        const struct hipChannelFormatDesc *, struct hipExtent, unsigned int)) \
    ROW(name, hipError_t, hipFreeArray, MP_ANY1(hipArray *)) \
    ROW(name, hipError_t, hipMallocMipmappedArray, MP_ANY5(hipMipmappedArray_t *, \
        const struct hipChannelFormatDesc *, struct hipExtent, unsigned int, unsigned int)) \
    ROW(name, hipError_t, hipFreeMipmappedArray, MP_ANY1(hipMipmappedArray_t))

#define MP_HIP_ROWS(ROW) \
    MP_HIP_LINEAR_ROWS(ROW) MP_HIP_HOST_ROWS(ROW) MP_HIP_ARRAY_ROWS(ROW)

#define MP_HIP_ASYNC_ROWS(ROW) \
    ROW(allocate, hipError_t, hipMallocAsync, MP_ARG3(void **, dev_ptr, size_t, size, \
        hipStream_t, stream), .domain = mp_hip_domain(rc, MP_MEMORY_POOL), .asked_bytes = size, \
        MP_FROM(HIP_POOLED, dev_ptr)) \
    ROW(allocate, hipError_t, hipMallocFromPoolAsync, MP_ARG4(void **, dev_ptr, size_t, size, \
        hipMemPool_t, mem_pool, hipStream_t, stream), .domain = mp_hip_domain(rc, MP_MEMORY_POOL), \
        .asked_bytes = size, MP_FROM(HIP_POOLED, dev_ptr)) \
    ROW(free, hipError_t, hipFreeAsync, MP_ARG2(void *, dev_ptr, hipStream_t, stream), \
        MP_OF(HIP_POOLED, dev_ptr))
/* clang-format on */

#endif
