/*
 * hip_rows.h - the functions of libamdhip64.so. What the columns mean: wrap.h.
 *
 * Names only: the wrappers of libhsa-runtime64.so.1 count bytes. Stream-ordered memory comes out of pools
 * inside HIP, of which HSA sees the chunks: a domain of its own counts the blocks in use of these pools.
 */
#ifndef MP_HIP_ROWS_H
#define MP_HIP_ROWS_H

/* clang-format off */
#define MP_HIP_LINEAR_ROWS(ROW) \
    ROW(name, hipError_t, hipMalloc, (void **ptr, size_t size), (ptr, size)) \
    ROW(name, hipError_t, hipExtMallocWithFlags, \
        (void **ptr, size_t sizeBytes, unsigned int flags), (ptr, sizeBytes, flags)) \
    ROW(name, hipError_t, hipMallocManaged, (void **dev_ptr, size_t size, unsigned int flags), \
        (dev_ptr, size, flags)) \
    ROW(name, hipError_t, hipMallocPitch, \
        (void **ptr, size_t *pitch, size_t width, size_t height), (ptr, pitch, width, height)) \
    ROW(name, hipError_t, hipMemAllocPitch, \
        (hipDeviceptr_t *dptr, size_t *pitch, size_t widthInBytes, size_t height, \
         unsigned int elementSizeBytes), \
        (dptr, pitch, widthInBytes, height, elementSizeBytes)) \
    ROW(name, hipError_t, hipMalloc3D, (hipPitchedPtr *pitchedDevPtr, hipExtent extent), \
        (pitchedDevPtr, extent)) \
    ROW(name, hipError_t, hipFree, (void *ptr), (ptr)) \
    ROW(name, hipError_t, hipDeviceReset, (void), ()) \
    ROW(name, hipError_t, hipIpcOpenMemHandle, \
        (void **devPtr, hipIpcMemHandle_t handle, unsigned int flags), (devPtr, handle, flags)) \
    ROW(name, hipError_t, hipIpcCloseMemHandle, (void *devPtr), (devPtr))

#define MP_HIP_HOST_ROWS(ROW) \
    ROW(name, hipError_t, hipHostMalloc, (void **ptr, size_t size, unsigned int flags), \
        (ptr, size, flags)) \
    ROW(name, hipError_t, hipHostAlloc, (void **ptr, size_t size, unsigned int flags), \
        (ptr, size, flags)) \
    ROW(name, hipError_t, hipMallocHost, (void **ptr, size_t size), (ptr, size)) \
    ROW(name, hipError_t, hipMemAllocHost, (void **ptr, size_t size), (ptr, size)) \
    ROW(name, hipError_t, hipHostFree, (void *ptr), (ptr)) \
    ROW(name, hipError_t, hipFreeHost, (void *ptr), (ptr)) \
    ROW(allocate, hipError_t, hipHostRegister, \
        (void *hostPtr, size_t sizeBytes, unsigned int flags), (hostPtr, sizeBytes, flags), \
        .domain = mp_hip_pinned(rc), .asked_bytes = sizeBytes, \
        .space = MP_SPACE_HIP_REGISTERED, .address = MP_ADDRESS(hostPtr)) \
    ROW(free, hipError_t, hipHostUnregister, (void *hostPtr), (hostPtr), \
        .space = MP_SPACE_HIP_REGISTERED, .address = MP_ADDRESS(hostPtr))

#define MP_HIP_ARRAY_ROWS(ROW) \
    ROW(name, hipError_t, hipMallocArray, \
        (hipArray **array, const hipChannelFormatDesc *desc, size_t width, size_t height, \
         unsigned int flags), \
        (array, desc, width, height, flags)) \
    ROW(name, hipError_t, hipMalloc3DArray, \
        (hipArray **array, const struct hipChannelFormatDesc *desc, struct hipExtent extent, \
         unsigned int flags), \
        (array, desc, extent, flags)) \
    ROW(name, hipError_t, hipFreeArray, (hipArray *array), (array)) \
    ROW(name, hipError_t, hipMallocMipmappedArray, \
        (hipMipmappedArray_t *mipmappedArray, const struct hipChannelFormatDesc *desc, \
         struct hipExtent extent, unsigned int numLevels, unsigned int flags), \
        (mipmappedArray, desc, extent, numLevels, flags)) \
    ROW(name, hipError_t, hipFreeMipmappedArray, (hipMipmappedArray_t mipmappedArray), \
        (mipmappedArray))

#define MP_HIP_ROWS(ROW) \
    MP_HIP_LINEAR_ROWS(ROW) MP_HIP_HOST_ROWS(ROW) MP_HIP_ARRAY_ROWS(ROW)

#define MP_HIP_ASYNC_ROWS(ROW) \
    ROW(allocate, hipError_t, hipMallocAsync, (void **dev_ptr, size_t size, hipStream_t stream), \
        (dev_ptr, size, stream), \
        .domain = mp_hip_in_pools(rc), .asked_bytes = size, \
        .space = MP_SPACE_HIP_POOLED, .address = MP_OUT(dev_ptr)) \
    ROW(allocate, hipError_t, hipMallocFromPoolAsync, \
        (void **dev_ptr, size_t size, hipMemPool_t mem_pool, hipStream_t stream), \
        (dev_ptr, size, mem_pool, stream), \
        .domain = mp_hip_in_pools(rc), .asked_bytes = size, \
        .space = MP_SPACE_HIP_POOLED, .address = MP_OUT(dev_ptr)) \
    ROW(free, hipError_t, hipFreeAsync, (void *dev_ptr, hipStream_t stream), (dev_ptr, stream), \
        .space = MP_SPACE_HIP_POOLED, .address = MP_ADDRESS(dev_ptr))
/* clang-format on */

#endif
