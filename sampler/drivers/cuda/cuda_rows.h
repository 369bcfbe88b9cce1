/*
 * cuda_rows.h - the functions of libcuda.so.1 and of its runtime. What the columns mean: wrap.h.
 *
 * Names are those of the exported symbols: the header's cuMemAlloc is cuMemAlloc_v2. The variants with _ptsz take
 * stream 0 as the thread's own stream.
 *
 * Memory of another process (IPC handles, imported pool pointers) is counted where it was allocated, and is a
 * name here. A reserved range of addresses is not memory.
 */
#ifndef MP_CUDA_ROWS_H
#define MP_CUDA_ROWS_H

#include "drivers/signature.h"

/* clang-format off */
/* Operands that a driver's function and the runtime's above it share. */
#define MP_CUDA_LINEAR(kind, bytes, pointer) \
    MP_CUDA_BLOCK(rc, kind), .asked_bytes = bytes, MP_FROM(CUDA_POINTER, pointer)
#define MP_CUDA_REGISTERED(start, bytes) \
    MP_CUDA_BLOCK(rc, MP_MEMORY_PINNED), .asked_bytes = bytes, MP_OF(CUDA_REGISTERED, start)
#define MP_CUDA_ARRAY(flags, bytes, array) \
    MP_CUDA_ARRAY_BLOCK(rc, flags), .asked_bytes = bytes, MP_FROM(CUDA_ARRAY, array)
/* Recorded into a graph, calls of a stream move no memory now: mp_cuda_records() tells. */
#define MP_CUDA_STREAMED(stream, per_thread, bytes, pointer) \
    MP_CUDA_STREAM_BLOCK(rc, stream, per_thread), .asked_bytes = bytes, \
    MP_FROM(CUDA_POINTER, pointer)
#define MP_CUDA_STREAM_FREE(stream, per_thread, pointer) \
    .space = MP_SPACE_CUDA_POINTER, \
    .address = (pointer) == 0 || mp_cuda_records(stream, per_thread) ? 0 : MP_ADDRESS(pointer)

#define MP_CUDA_DEVICE_ROWS(ROW) \
    ROW(allocate, CUresult, cuMemAlloc_v2, MP_ARG2(CUdeviceptr *, dptr, size_t, bytesize), \
        MP_CUDA_LINEAR(MP_MEMORY_DEVICE, bytesize, dptr)) \
    ROW(allocate, CUresult, cuMemAllocPitch_v2, MP_ARG5(CUdeviceptr *, dptr, size_t *, pPitch, \
        size_t, WidthInBytes, size_t, Height, unsigned int, ElementSizeBytes), \
        MP_CUDA_LINEAR(MP_MEMORY_DEVICE, WidthInBytes * Height, dptr), \
        .taken_bytes = MP_OUT(pPitch) * Height) \
    ROW(allocate, CUresult, cuMemAllocManaged, MP_ARG3(CUdeviceptr *, dptr, size_t, bytesize, \
        unsigned int, flags), MP_CUDA_LINEAR(MP_MEMORY_MANAGED, bytesize, dptr)) \
    ROW(free, CUresult, cuMemFree_v2, MP_ARG1(CUdeviceptr, dptr), MP_OF(CUDA_POINTER, dptr))

#define MP_CUDA_STREAM_ROWS_OF(ROW, suffix, per_thread) \
    ROW(allocate, CUresult, cuMemAllocAsync##suffix, MP_ARG3(CUdeviceptr *, dptr, \
        size_t, bytesize, CUstream, hStream), \
        MP_CUDA_STREAMED(hStream, per_thread, bytesize, dptr)) \
    ROW(allocate, CUresult, cuMemAllocFromPoolAsync##suffix, MP_ARG4(CUdeviceptr *, dptr, \
        size_t, bytesize, CUmemoryPool, pool, CUstream, hStream), \
        MP_CUDA_STREAMED(hStream, per_thread, bytesize, dptr)) \
    ROW(free, CUresult, cuMemFreeAsync##suffix, MP_ARG2(CUdeviceptr, dptr, CUstream, hStream), \
        MP_CUDA_STREAM_FREE(hStream, per_thread, dptr))

#define MP_CUDA_STREAM_ROWS(ROW) \
    MP_CUDA_STREAM_ROWS_OF(ROW, , false) MP_CUDA_STREAM_ROWS_OF(ROW, _ptsz, true)

#define MP_CUDA_HOST_ROWS(ROW) \
    ROW(allocate, CUresult, cuMemAllocHost_v2, MP_ARG2(void **, pp, size_t, bytesize), \
        MP_CUDA_LINEAR(MP_MEMORY_PINNED, bytesize, pp)) \
    ROW(allocate, CUresult, cuMemHostAlloc, MP_ARG3(void **, pp, size_t, bytesize, \
        unsigned int, Flags), MP_CUDA_LINEAR(MP_MEMORY_PINNED, bytesize, pp)) \
    ROW(free, CUresult, cuMemFreeHost, MP_ARG1(void *, p), MP_OF(CUDA_POINTER, p)) \
    ROW(allocate, CUresult, cuMemHostRegister_v2, MP_ARG3(void *, p, size_t, bytesize, \
        unsigned int, Flags), MP_CUDA_REGISTERED(p, bytesize)) \
    ROW(free, CUresult, cuMemHostUnregister, MP_ARG1(void *, p), MP_OF(CUDA_REGISTERED, p))

#define MP_CUDA_PHYSICAL_ROWS(ROW) \
    ROW(create, CUresult, cuMemCreate, MP_ARG4(CUmemGenericAllocationHandle *, handle, \
        size_t, size, const CUmemAllocationProp *, prop, unsigned long long, flags), \
        .domain = mp_cuda_domain_of_prop(rc, prop), .asked_bytes = size, \
        MP_FROM(CUDA_HANDLE, handle)) \
    ROW(release, CUresult, cuMemRelease, MP_ARG1(CUmemGenericAllocationHandle, handle), \
        MP_OF(CUDA_HANDLE, handle)) \
    ROW(retain, CUresult, cuMemRetainAllocationHandle, \
        MP_ARG2(CUmemGenericAllocationHandle *, handle, void *, addr), \
        .space = MP_SPACE_CUDA_HANDLE, .address = MP_OUT(handle), .container = MP_ADDRESS(addr)) \
    ROW(import, CUresult, cuMemImportFromShareableHandle, \
        MP_ARG3(CUmemGenericAllocationHandle *, handle, void *, osHandle, \
        CUmemAllocationHandleType, shHandleType), .space = MP_SPACE_CUDA_HANDLE, \
        .address = MP_OUT(handle)) \
    ROW(map, CUresult, cuMemMap, MP_ARG5(CUdeviceptr, ptr, size_t, size, size_t, offset, \
        CUmemGenericAllocationHandle, handle, unsigned long long, flags), \
        MP_OF(CUDA_HANDLE, handle), .container = MP_ADDRESS(ptr), .asked_bytes = size) \
    ROW(unmap, CUresult, cuMemUnmap, MP_ARG2(CUdeviceptr, ptr, size_t, size), \
        MP_OF(CUDA_HANDLE, ptr), .asked_bytes = size) \
    ROW(name, CUresult, cuMemAddressReserve, MP_ANY5(CUdeviceptr *, size_t, size_t, CUdeviceptr, \
        unsigned long long)) \
    ROW(name, CUresult, cuMemAddressFree, MP_ANY2(CUdeviceptr, size_t))

#define MP_CUDA_ARRAY_ROWS(ROW) \
    ROW(allocate, CUresult, cuArrayCreate_v2, MP_ARG2(CUarray *, pHandle, \
        const CUDA_ARRAY_DESCRIPTOR *, pAllocateArray), \
        MP_CUDA_ARRAY(0, mp_cuda_array_bytes(rc, pAllocateArray), pHandle)) \
    ROW(allocate, CUresult, cuArray3DCreate_v2, MP_ARG2(CUarray *, pHandle, \
        const CUDA_ARRAY3D_DESCRIPTOR *, pAllocateArray), \
        MP_CUDA_ARRAY(mp_cuda_array_flags(rc, pAllocateArray), \
        mp_cuda_array3d_bytes(rc, pAllocateArray, 1), pHandle)) \
    ROW(free, CUresult, cuArrayDestroy, MP_ARG1(CUarray, hArray), MP_OF(CUDA_ARRAY, hArray)) \
    ROW(allocate, CUresult, cuMipmappedArrayCreate, MP_ARG3(CUmipmappedArray *, pHandle, \
        const CUDA_ARRAY3D_DESCRIPTOR *, pMipmappedArrayDesc, unsigned int, numMipmapLevels), \
        MP_CUDA_ARRAY(mp_cuda_array_flags(rc, pMipmappedArrayDesc), \
        mp_cuda_array3d_bytes(rc, pMipmappedArrayDesc, numMipmapLevels), pHandle)) \
    ROW(free, CUresult, cuMipmappedArrayDestroy, MP_ARG1(CUmipmappedArray, hMipmappedArray), \
        MP_OF(CUDA_ARRAY, hMipmappedArray))

#define MP_CUDA_OTHER_ROWS(ROW) \
    ROW(name, CUresult, cuIpcOpenMemHandle_v2, MP_ANY3(CUdeviceptr *, CUipcMemHandle, \
        unsigned int)) \
    ROW(name, CUresult, cuIpcCloseMemHandle, MP_ANY1(CUdeviceptr)) \
    ROW(name, CUresult, cuMemPoolImportPointer, MP_ANY3(CUdeviceptr *, CUmemoryPool, \
        CUmemPoolPtrExportData *)) \
    ROW(name, CUresult, cuMemPoolCreate, MP_ANY2(CUmemoryPool *, const CUmemPoolProps *)) \
    ROW(name, CUresult, cuMemPoolDestroy, MP_ANY1(CUmemoryPool)) \
    ROW(then, CUresult, cuCtxDestroy_v2, MP_ARG1(CUcontext, ctx), mp_cuda_context_ended(ctx)) \
    ROW(then, CUresult, cuDevicePrimaryCtxRetain, MP_ARG2(CUcontext *, pctx, CUdevice, dev), \
        mp_cuda_primary_is(dev, *pctx)) \
    ROW(then, CUresult, cuDevicePrimaryCtxRelease_v2, MP_ARG1(CUdevice, dev), \
        mp_cuda_primary_released(dev)) \
    ROW(then, CUresult, cuDevicePrimaryCtxReset_v2, MP_ARG1(CUdevice, dev), \
        mp_cuda_primary_ended(dev)) \
    ROW(then, CUresult, cuGetProcAddress, MP_ARG4(const char *, symbol, void **, pfn, \
        int, cudaVersion, cuuint64_t, flags), mp_cuda_answer(symbol, pfn, cudaVersion, flags)) \
    ROW(then, CUresult, cuGetProcAddress_v2, MP_ARG5(const char *, symbol, void **, pfn, \
        int, cudaVersion, cuuint64_t, flags, CUdriverProcAddressQueryResult *, symbolStatus), \
        mp_cuda_answer(symbol, pfn, cudaVersion, flags))

#define MP_CUDA_ROWS(ROW) \
    MP_CUDA_DEVICE_ROWS(ROW) MP_CUDA_STREAM_ROWS(ROW) MP_CUDA_HOST_ROWS(ROW) \
    MP_CUDA_PHYSICAL_ROWS(ROW) MP_CUDA_ARRAY_ROWS(ROW) MP_CUDA_OTHER_ROWS(ROW)

/*
 * Of a shared libcudart. All end in libcuda.so.1, whose wrappers count if they see the call. After an attach they do not:
 * the runtime fetched the driver's functions before, and these rows count. A program that links the runtime statically,
 * as nvcc does unless told otherwise, calls the same driver: its stacks then begin with the driver's function.
 */
#define MP_CUDART_LINEAR_ROWS(ROW) \
    ROW(allocate, cudaError_t, cudaMalloc, MP_ARG2(void **, devPtr, size_t, size), \
        MP_CUDA_LINEAR(MP_MEMORY_DEVICE, size, devPtr)) \
    ROW(allocate, cudaError_t, cudaMallocManaged, MP_ARG3(void **, devPtr, size_t, size, \
        unsigned int, flags), MP_CUDA_LINEAR(MP_MEMORY_MANAGED, size, devPtr)) \
    ROW(allocate, cudaError_t, cudaMallocPitch, MP_ARG4(void **, devPtr, size_t *, pitch, \
        size_t, width, size_t, height), \
        MP_CUDA_LINEAR(MP_MEMORY_DEVICE, width * height, devPtr), \
        .taken_bytes = MP_OUT(pitch) * height) \
    ROW(allocate, cudaError_t, cudaMalloc3D, MP_ARG2(struct cudaPitchedPtr *, pitchedDevPtr, \
        struct cudaExtent, extent), MP_CUDA_LINEAR(MP_MEMORY_DEVICE, \
        extent.width * extent.height * extent.depth, &pitchedDevPtr->ptr), \
        .taken_bytes = MP_OUT(&pitchedDevPtr->pitch) * extent.height * extent.depth) \
    ROW(free, cudaError_t, cudaFree, MP_ARG1(void *, devPtr), MP_OF(CUDA_POINTER, devPtr))

#define MP_CUDART_STREAM_ROWS_OF(ROW, suffix, per_thread) \
    ROW(allocate, cudaError_t, cudaMallocAsync##suffix, MP_ARG3(void **, devPtr, size_t, size, \
        cudaStream_t, hStream), MP_CUDA_STREAMED(hStream, per_thread, size, devPtr)) \
    ROW(allocate, cudaError_t, cudaMallocFromPoolAsync##suffix, MP_ARG4(void **, ptr, \
        size_t, size, cudaMemPool_t, memPool, cudaStream_t, stream), \
        MP_CUDA_STREAMED(stream, per_thread, size, ptr)) \
    ROW(free, cudaError_t, cudaFreeAsync##suffix, MP_ARG2(void *, devPtr, \
        cudaStream_t, hStream), MP_CUDA_STREAM_FREE(hStream, per_thread, devPtr))

#define MP_CUDART_HOST_ROWS(ROW) \
    ROW(allocate, cudaError_t, cudaMallocHost, MP_ARG2(void **, ptr, size_t, size), \
        MP_CUDA_LINEAR(MP_MEMORY_PINNED, size, ptr)) \
    ROW(allocate, cudaError_t, cudaHostAlloc, MP_ARG3(void **, pHost, size_t, size, \
        unsigned int, flags), MP_CUDA_LINEAR(MP_MEMORY_PINNED, size, pHost)) \
    ROW(free, cudaError_t, cudaFreeHost, MP_ARG1(void *, ptr), MP_OF(CUDA_POINTER, ptr)) \
    ROW(allocate, cudaError_t, cudaHostRegister, MP_ARG3(void *, ptr, size_t, size, \
        unsigned int, flags), MP_CUDA_REGISTERED(ptr, size)) \
    ROW(free, cudaError_t, cudaHostUnregister, MP_ARG1(void *, ptr), MP_OF(CUDA_REGISTERED, ptr))

#define MP_CUDART_ARRAY_ROWS(ROW) \
    ROW(allocate, cudaError_t, cudaMallocArray, MP_ARG5(cudaArray_t *, array, \
        const struct cudaChannelFormatDesc *, desc, size_t, width, size_t, height, \
        unsigned int, flags), MP_CUDA_ARRAY(flags, \
        mp_cudart_array_bytes(rc, desc, (struct cudaExtent){width, height, 0}, 1), array)) \
    ROW(allocate, cudaError_t, cudaMalloc3DArray, MP_ARG4(cudaArray_t *, array, \
        const struct cudaChannelFormatDesc *, desc, struct cudaExtent, extent, \
        unsigned int, flags), \
        MP_CUDA_ARRAY(flags, mp_cudart_array_bytes(rc, desc, extent, 1), array)) \
    ROW(allocate, cudaError_t, cudaMallocMipmappedArray, MP_ARG5(cudaMipmappedArray_t *, \
        mipmappedArray, const struct cudaChannelFormatDesc *, desc, struct cudaExtent, extent, \
        unsigned int, numLevels, unsigned int, flags), MP_CUDA_ARRAY(flags, \
        mp_cudart_array_bytes(rc, desc, extent, numLevels), mipmappedArray)) \
    ROW(free, cudaError_t, cudaFreeArray, MP_ARG1(cudaArray_t, array), MP_OF(CUDA_ARRAY, array)) \
    ROW(free, cudaError_t, cudaFreeMipmappedArray, MP_ARG1(cudaMipmappedArray_t, \
        mipmappedArray), MP_OF(CUDA_ARRAY, mipmappedArray))

#define MP_CUDART_OTHER_ROWS(ROW) \
    ROW(name, cudaError_t, cudaIpcOpenMemHandle, MP_ANY3(void **, cudaIpcMemHandle_t, \
        unsigned int)) \
    ROW(name, cudaError_t, cudaIpcCloseMemHandle, MP_ANY1(void *)) \
    ROW(then, cudaError_t, cudaDeviceReset, MP_ANY0(), mp_cudart_reset())

#define MP_CUDART_ROWS(ROW) \
    MP_CUDART_LINEAR_ROWS(ROW) MP_CUDART_HOST_ROWS(ROW) MP_CUDART_ARRAY_ROWS(ROW) \
    MP_CUDART_OTHER_ROWS(ROW) MP_CUDART_STREAM_ROWS_OF(ROW, , false) \
    MP_CUDART_STREAM_ROWS_OF(ROW, _ptsz, true)
/* clang-format on */

#endif
