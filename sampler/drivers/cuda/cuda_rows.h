/*
 * cuda_rows.h - the functions of libcuda.so.1, which count bytes. What the columns mean: wrap.h.
 *
 * Names are those of the exported symbols: the header's cuMemAlloc is cuMemAlloc_v2. The variants with _ptsz take
 * stream 0 as the thread's own stream.
 *
 * Memory of another process (IPC handles, imported pool pointers) is counted where it was allocated, and is a
 * name here. A reserved range of addresses is no memory.
 */
#ifndef MP_CUDA_ROWS_H
#define MP_CUDA_ROWS_H

/* clang-format off */
#define MP_CUDA_DEVICE_ROWS(ROW) \
    ROW(allocate, CUresult, cuMemAlloc_v2, (CUdeviceptr *dptr, size_t bytesize), (dptr, bytesize), \
        MP_CUDA_BLOCK(rc, MP_MEMORY_DEVICE), .asked_bytes = bytesize, \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_OUT(dptr)) \
    ROW(allocate, CUresult, cuMemAllocPitch_v2, \
        (CUdeviceptr *dptr, size_t *pPitch, size_t WidthInBytes, size_t Height, \
         unsigned int ElementSizeBytes), \
        (dptr, pPitch, WidthInBytes, Height, ElementSizeBytes), \
        MP_CUDA_BLOCK(rc, MP_MEMORY_DEVICE), .asked_bytes = WidthInBytes * Height, \
        .taken_bytes = MP_OUT(pPitch) * Height, \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_OUT(dptr)) \
    ROW(allocate, CUresult, cuMemAllocManaged, \
        (CUdeviceptr *dptr, size_t bytesize, unsigned int flags), (dptr, bytesize, flags), \
        MP_CUDA_BLOCK(rc, MP_MEMORY_MANAGED), .asked_bytes = bytesize, \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_OUT(dptr)) \
    ROW(free, CUresult, cuMemFree_v2, (CUdeviceptr dptr), (dptr), \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_ADDRESS(dptr))

/* Recorded into a graph, these move no memory now: mp_cuda_records() tells. */
#define MP_CUDA_STREAM_ROWS_OF(ROW, suffix, per_thread) \
    ROW(allocate, CUresult, cuMemAllocAsync##suffix, \
        (CUdeviceptr *dptr, size_t bytesize, CUstream hStream), (dptr, bytesize, hStream), \
        MP_CUDA_STREAM_BLOCK(rc, hStream, per_thread), .asked_bytes = bytesize, \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_OUT(dptr)) \
    ROW(allocate, CUresult, cuMemAllocFromPoolAsync##suffix, \
        (CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream), \
        (dptr, bytesize, pool, hStream), \
        MP_CUDA_STREAM_BLOCK(rc, hStream, per_thread), .asked_bytes = bytesize, \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_OUT(dptr)) \
    ROW(free, CUresult, cuMemFreeAsync##suffix, (CUdeviceptr dptr, CUstream hStream), \
        (dptr, hStream), .space = MP_SPACE_CUDA_POINTER, \
        .address = mp_cuda_records(hStream, per_thread) ? 0 : MP_ADDRESS(dptr))

#define MP_CUDA_STREAM_ROWS(ROW) \
    MP_CUDA_STREAM_ROWS_OF(ROW, , false) MP_CUDA_STREAM_ROWS_OF(ROW, _ptsz, true)

#define MP_CUDA_HOST_ROWS(ROW) \
    ROW(allocate, CUresult, cuMemAllocHost_v2, (void **pp, size_t bytesize), (pp, bytesize), \
        MP_CUDA_BLOCK(rc, MP_MEMORY_PINNED), .asked_bytes = bytesize, \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_OUT(pp)) \
    ROW(allocate, CUresult, cuMemHostAlloc, (void **pp, size_t bytesize, unsigned int Flags), \
        (pp, bytesize, Flags), \
        MP_CUDA_BLOCK(rc, MP_MEMORY_PINNED), .asked_bytes = bytesize, \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_OUT(pp)) \
    ROW(free, CUresult, cuMemFreeHost, (void *p), (p), \
        .space = MP_SPACE_CUDA_POINTER, .address = MP_ADDRESS(p)) \
    ROW(allocate, CUresult, cuMemHostRegister_v2, \
        (void *p, size_t bytesize, unsigned int Flags), (p, bytesize, Flags), \
        MP_CUDA_BLOCK(rc, MP_MEMORY_PINNED), .asked_bytes = bytesize, \
        .space = MP_SPACE_CUDA_REGISTERED, .address = MP_ADDRESS(p)) \
    ROW(free, CUresult, cuMemHostUnregister, (void *p), (p), \
        .space = MP_SPACE_CUDA_REGISTERED, .address = MP_ADDRESS(p))

#define MP_CUDA_PHYSICAL_ROWS(ROW) \
    ROW(create, CUresult, cuMemCreate, \
        (CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop, \
         unsigned long long flags), \
        (handle, size, prop, flags), \
        .domain = mp_cuda_domain_of_prop(rc, prop), .asked_bytes = size, \
        .space = MP_SPACE_CUDA_HANDLE, .address = MP_OUT(handle)) \
    ROW(release, CUresult, cuMemRelease, (CUmemGenericAllocationHandle handle), (handle), \
        .space = MP_SPACE_CUDA_HANDLE, .address = MP_ADDRESS(handle)) \
    ROW(retain, CUresult, cuMemRetainAllocationHandle, \
        (CUmemGenericAllocationHandle *handle, void *addr), (handle, addr), \
        .space = MP_SPACE_CUDA_HANDLE, .address = MP_OUT(handle), .container = MP_ADDRESS(addr)) \
    ROW(import, CUresult, cuMemImportFromShareableHandle, \
        (CUmemGenericAllocationHandle *handle, void *osHandle, \
         CUmemAllocationHandleType shHandleType), \
        (handle, osHandle, shHandleType), \
        .space = MP_SPACE_CUDA_HANDLE, .address = MP_OUT(handle)) \
    ROW(map, CUresult, cuMemMap, \
        (CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle, \
         unsigned long long flags), \
        (ptr, size, offset, handle, flags), \
        .space = MP_SPACE_CUDA_HANDLE, .address = MP_ADDRESS(handle), \
        .container = MP_ADDRESS(ptr), .asked_bytes = size) \
    ROW(unmap, CUresult, cuMemUnmap, (CUdeviceptr ptr, size_t size), (ptr, size), \
        .space = MP_SPACE_CUDA_HANDLE, .address = MP_ADDRESS(ptr), .asked_bytes = size) \
    ROW(name, CUresult, cuMemAddressReserve, \
        (CUdeviceptr *ptr, size_t size, size_t alignment, CUdeviceptr addr, \
         unsigned long long flags), \
        (ptr, size, alignment, addr, flags)) \
    ROW(name, CUresult, cuMemAddressFree, (CUdeviceptr ptr, size_t size), (ptr, size))

#define MP_CUDA_ARRAY_ROWS(ROW) \
    ROW(allocate, CUresult, cuArrayCreate_v2, \
        (CUarray *pHandle, const CUDA_ARRAY_DESCRIPTOR *pAllocateArray), \
        (pHandle, pAllocateArray), \
        MP_CUDA_BLOCK(rc, MP_MEMORY_DEVICE), .asked_bytes = mp_cuda_array_bytes(pAllocateArray), \
        .space = MP_SPACE_CUDA_ARRAY, .address = MP_OUT(pHandle)) \
    ROW(allocate, CUresult, cuArray3DCreate_v2, \
        (CUarray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pAllocateArray), \
        (pHandle, pAllocateArray), \
        MP_CUDA_ARRAY_BLOCK(rc, pAllocateArray), \
        .asked_bytes = mp_cuda_array3d_bytes(pAllocateArray, 1), \
        .space = MP_SPACE_CUDA_ARRAY, .address = MP_OUT(pHandle)) \
    ROW(free, CUresult, cuArrayDestroy, (CUarray hArray), (hArray), \
        .space = MP_SPACE_CUDA_ARRAY, .address = MP_ADDRESS(hArray)) \
    ROW(allocate, CUresult, cuMipmappedArrayCreate, \
        (CUmipmappedArray *pHandle, const CUDA_ARRAY3D_DESCRIPTOR *pMipmappedArrayDesc, \
         unsigned int numMipmapLevels), \
        (pHandle, pMipmappedArrayDesc, numMipmapLevels), \
        MP_CUDA_ARRAY_BLOCK(rc, pMipmappedArrayDesc), \
        .asked_bytes = mp_cuda_array3d_bytes(pMipmappedArrayDesc, numMipmapLevels), \
        .space = MP_SPACE_CUDA_ARRAY, .address = MP_OUT(pHandle)) \
    ROW(free, CUresult, cuMipmappedArrayDestroy, (CUmipmappedArray hMipmappedArray), \
        (hMipmappedArray), \
        .space = MP_SPACE_CUDA_ARRAY, .address = MP_ADDRESS(hMipmappedArray))

#define MP_CUDA_OTHER_ROWS(ROW) \
    ROW(name, CUresult, cuIpcOpenMemHandle_v2, \
        (CUdeviceptr *pdptr, CUipcMemHandle handle, unsigned int Flags), (pdptr, handle, Flags)) \
    ROW(name, CUresult, cuIpcCloseMemHandle, (CUdeviceptr dptr), (dptr)) \
    ROW(name, CUresult, cuMemPoolImportPointer, \
        (CUdeviceptr *ptr_out, CUmemoryPool pool, CUmemPoolPtrExportData *shareData), \
        (ptr_out, pool, shareData)) \
    ROW(name, CUresult, cuMemPoolCreate, (CUmemoryPool *pool, const CUmemPoolProps *poolProps), \
        (pool, poolProps)) \
    ROW(name, CUresult, cuMemPoolDestroy, (CUmemoryPool pool), (pool)) \
    ROW(ended, CUresult, cuCtxDestroy_v2, (CUcontext ctx), (ctx), mp_cuda_context_ended(ctx)) \
    ROW(ended, CUresult, cuDevicePrimaryCtxRetain, (CUcontext *pctx, CUdevice dev), (pctx, dev), \
        mp_cuda_primary_is(dev, *pctx)) \
    ROW(ended, CUresult, cuDevicePrimaryCtxRelease_v2, (CUdevice dev), (dev), \
        mp_cuda_primary_released(dev)) \
    ROW(ended, CUresult, cuDevicePrimaryCtxReset_v2, (CUdevice dev), (dev), \
        mp_cuda_primary_ended(dev)) \
    ROW(ended, CUresult, cuGetProcAddress, \
        (const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags), \
        (symbol, pfn, cudaVersion, flags), mp_cuda_answer(symbol, pfn, cudaVersion, flags)) \
    ROW(ended, CUresult, cuGetProcAddress_v2, \
        (const char *symbol, void **pfn, int cudaVersion, cuuint64_t flags, \
         CUdriverProcAddressQueryResult *symbolStatus), \
        (symbol, pfn, cudaVersion, flags, symbolStatus), \
        mp_cuda_answer(symbol, pfn, cudaVersion, flags))

#define MP_CUDA_ROWS(ROW) \
    MP_CUDA_DEVICE_ROWS(ROW) MP_CUDA_STREAM_ROWS(ROW) MP_CUDA_HOST_ROWS(ROW) \
    MP_CUDA_PHYSICAL_ROWS(ROW) MP_CUDA_ARRAY_ROWS(ROW) MP_CUDA_OTHER_ROWS(ROW)
/* clang-format on */

#endif
