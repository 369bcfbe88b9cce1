/*
 * cudart_rows.h - the functions of a shared libcudart: names only. What the columns mean: wrap.h.
 *
 * All end in libcuda.so.1, where bytes are counted. A program that links the runtime statically, as
 * nvcc does unless told otherwise, calls the same driver: its stacks then begin with the driver's function.
 */
#ifndef MP_CUDART_ROWS_H
#define MP_CUDART_ROWS_H

/* clang-format off */
#define MP_CUDART_STREAM_ROWS_OF(ROW, suffix) \
    ROW(name, cudaError_t, cudaMallocAsync##suffix, \
        (void **devPtr, size_t size, cudaStream_t hStream), (devPtr, size, hStream)) \
    ROW(name, cudaError_t, cudaMallocFromPoolAsync##suffix, \
        (void **ptr, size_t size, cudaMemPool_t memPool, cudaStream_t stream), \
        (ptr, size, memPool, stream)) \
    ROW(name, cudaError_t, cudaFreeAsync##suffix, (void *devPtr, cudaStream_t hStream), \
        (devPtr, hStream))

#define MP_CUDART_ROWS(ROW) \
    ROW(name, cudaError_t, cudaMalloc, (void **devPtr, size_t size), (devPtr, size)) \
    ROW(name, cudaError_t, cudaMallocManaged, (void **devPtr, size_t size, unsigned int flags), \
        (devPtr, size, flags)) \
    ROW(name, cudaError_t, cudaMallocHost, (void **ptr, size_t size), (ptr, size)) \
    ROW(name, cudaError_t, cudaHostAlloc, (void **pHost, size_t size, unsigned int flags), \
        (pHost, size, flags)) \
    ROW(name, cudaError_t, cudaMallocPitch, \
        (void **devPtr, size_t *pitch, size_t width, size_t height), \
        (devPtr, pitch, width, height)) \
    ROW(name, cudaError_t, cudaMalloc3D, \
        (struct cudaPitchedPtr *pitchedDevPtr, struct cudaExtent extent), (pitchedDevPtr, extent)) \
    ROW(name, cudaError_t, cudaMallocArray, \
        (cudaArray_t *array, const struct cudaChannelFormatDesc *desc, size_t width, \
         size_t height, unsigned int flags), \
        (array, desc, width, height, flags)) \
    ROW(name, cudaError_t, cudaMalloc3DArray, \
        (cudaArray_t *array, const struct cudaChannelFormatDesc *desc, struct cudaExtent extent, \
         unsigned int flags), \
        (array, desc, extent, flags)) \
    ROW(name, cudaError_t, cudaMallocMipmappedArray, \
        (cudaMipmappedArray_t *mipmappedArray, const struct cudaChannelFormatDesc *desc, \
         struct cudaExtent extent, unsigned int numLevels, unsigned int flags), \
        (mipmappedArray, desc, extent, numLevels, flags)) \
    ROW(name, cudaError_t, cudaFree, (void *devPtr), (devPtr)) \
    ROW(name, cudaError_t, cudaFreeHost, (void *ptr), (ptr)) \
    ROW(name, cudaError_t, cudaFreeArray, (cudaArray_t array), (array)) \
    ROW(name, cudaError_t, cudaFreeMipmappedArray, (cudaMipmappedArray_t mipmappedArray), \
        (mipmappedArray)) \
    ROW(name, cudaError_t, cudaHostRegister, (void *ptr, size_t size, unsigned int flags), \
        (ptr, size, flags)) \
    ROW(name, cudaError_t, cudaHostUnregister, (void *ptr), (ptr)) \
    ROW(name, cudaError_t, cudaIpcOpenMemHandle, \
        (void **devPtr, cudaIpcMemHandle_t handle, unsigned int flags), (devPtr, handle, flags)) \
    ROW(name, cudaError_t, cudaIpcCloseMemHandle, (void *devPtr), (devPtr)) \
    ROW(name, cudaError_t, cudaDeviceReset, (void), ()) \
    MP_CUDART_STREAM_ROWS_OF(ROW, ) MP_CUDART_STREAM_ROWS_OF(ROW, _ptsz)
/* clang-format on */

#endif
