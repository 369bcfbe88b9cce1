/*
 * runtime.c - a stub of CUDA's runtime: finds the driver as the real one does, and calls nothing of it by a slot.
 *
 * Built as libcudart.so.12, or linked into the program as nvcc does (-DSTATIC_RUNTIME: names are hidden).
 */
#define __CUDA_API_VERSION_INTERNAL
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef STATIC_RUNTIME
#pragma GCC visibility push(hidden)
#endif

/* clang-format off */
#define FUNCTIONS(X) \
    X(cuDevicePrimaryCtxRetain) X(cuDevicePrimaryCtxReset_v2) X(cuCtxSetCurrent) X(cuMemAlloc_v2) X(cuMemFree_v2) \
    X(cuMemAllocManaged) X(cuMemAllocPitch_v2) X(cuMemAllocHost_v2) X(cuMemHostAlloc) X(cuMemFreeHost) \
    X(cuMemHostRegister_v2) X(cuMemHostUnregister) X(cuArray3DCreate_v2) X(cuArrayDestroy) \
    X(cuStreamCreate) X(cuStreamBeginCapture_v2) X(cuStreamEndCapture) \
    X(cuMemAllocAsync) X(cuMemAllocFromPoolAsync) X(cuMemFreeAsync) \
    X(cuMemAllocAsync_ptsz) X(cuMemAllocFromPoolAsync_ptsz) X(cuMemFreeAsync_ptsz)
/* clang-format on */

#define FIELD(name) __typeof__(&name) name;
static struct {
    bool ready;
    CUresult (*v2)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);
    CUresult (*v1)(const char *, void **, int, cuuint64_t);
    FUNCTIONS(FIELD)
} driver;

static void *find(const char *name) {
    void *function = NULL;
    char base[64];
    CUdriverProcAddressQueryResult status;
    const char *suffix = strrchr(name, '_');
    cuuint64_t flags = suffix != NULL && strcmp(suffix, "_ptsz") == 0
                           ? CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM
                           : CU_GET_PROC_ADDRESS_DEFAULT;
    snprintf(base, sizeof base, "%.*s", (int)(suffix ? suffix - name : 63), name);
    if (driver.v2 != NULL)
        driver.v2(base, &function, 12000, flags, &status);
    else
        driver.v1(base, &function, 12000, flags);
    return function;
}

static void start(void) {
    void *library = driver.ready ? NULL : dlopen("libcuda.so.1", RTLD_NOW);
    if (driver.ready)
        return;
    if (library == NULL)
        abort();
    *(void **)&driver.v2 = dlsym(library, "cuGetProcAddress_v2");
    *(void **)&driver.v1 = dlsym(library, "cuGetProcAddress");
    /* The look-up looks itself up again, as the real one does. */
    if (driver.v2 != NULL)
        *(void **)&driver.v2 = find("cuGetProcAddress");
#define FIND(name) *(void **)&driver.name = find(#name);
    FUNCTIONS(FIND)
    driver.ready = true;
    cudaSetDevice(0);
}

static cudaError_t error_of(CUresult rc) {
    return rc == CUDA_SUCCESS               ? cudaSuccess
           : rc == CUDA_ERROR_OUT_OF_MEMORY ? cudaErrorMemoryAllocation
                                            : cudaErrorInvalidValue;
}

cudaError_t cudaSetDevice(int device) {
    static CUcontext contexts[8];
    start();
    if (contexts[device] == NULL)
        driver.cuDevicePrimaryCtxRetain(&contexts[device], device);
    return error_of(driver.cuCtxSetCurrent(contexts[device]));
}

/* A function that is one of the driver's. */
#define SAME(name, parameters, function, ...)                                                      \
    cudaError_t name parameters {                                                                  \
        start();                                                                                   \
        return driver.function != NULL ? error_of(driver.function(__VA_ARGS__))                    \
                                       : cudaErrorNotSupported;                                    \
    }

/* As the real one, which asks the driver for nothing of 0 bytes. */
cudaError_t cudaMalloc(void **p, size_t bytes) {
    start();
    *p = NULL;
    return bytes == 0 ? cudaSuccess : error_of(driver.cuMemAlloc_v2((CUdeviceptr *)p, bytes));
}

SAME(cudaFree, (void *p), cuMemFree_v2, (CUdeviceptr)p)
SAME(cudaMallocManaged, (void **p, size_t bytes, unsigned flags), cuMemAllocManaged,
     (CUdeviceptr *)p, bytes, flags)
SAME(cudaMallocPitch, (void **p, size_t *pitch, size_t width, size_t height), cuMemAllocPitch_v2,
     (CUdeviceptr *)p, pitch, width, height, 4)
SAME(cudaMalloc3D, (struct cudaPitchedPtr * p, struct cudaExtent e), cuMemAllocPitch_v2,
     (CUdeviceptr *)&p->ptr, &p->pitch, e.width, e.height *e.depth, 4)
SAME(cudaMallocHost, (void **p, size_t bytes), cuMemAllocHost_v2, p, bytes)
SAME(cudaHostAlloc, (void **p, size_t bytes, unsigned flags), cuMemHostAlloc, p, bytes, flags)
SAME(cudaFreeHost, (void *p), cuMemFreeHost, p)
SAME(cudaHostRegister, (void *p, size_t bytes, unsigned flags), cuMemHostRegister_v2, p, bytes,
     flags)
SAME(cudaHostUnregister, (void *p), cuMemHostUnregister, p)
SAME(cudaFreeArray, (cudaArray_t array), cuArrayDestroy, (CUarray)array)
cudaError_t cudaGetDevice(int *device) {
    *device = 0;
    return cudaSuccess;
}

SAME(cudaStreamCreate, (cudaStream_t * stream), cuStreamCreate, stream, 0)
SAME(cudaStreamBeginCapture, (cudaStream_t stream, enum cudaStreamCaptureMode mode),
     cuStreamBeginCapture_v2, stream, (CUstreamCaptureMode)mode)
SAME(cudaStreamEndCapture, (cudaStream_t stream, cudaGraph_t *graph), cuStreamEndCapture, stream,
     graph)
SAME(cudaDeviceReset, (void), cuDevicePrimaryCtxReset_v2, 0)

#define STREAM_FUNCTIONS(suffix)                                                                   \
    SAME(cudaMallocAsync##suffix, (void **p, size_t bytes, cudaStream_t stream),                   \
         cuMemAllocAsync##suffix, (CUdeviceptr *)p, bytes, stream)                                 \
    SAME(cudaMallocFromPoolAsync##suffix,                                                          \
         (void **p, size_t bytes, cudaMemPool_t pool, cudaStream_t stream),                        \
         cuMemAllocFromPoolAsync##suffix, (CUdeviceptr *)p, bytes, pool, stream)                   \
    SAME(cudaFreeAsync##suffix, (void *p, cudaStream_t stream), cuMemFreeAsync##suffix,            \
         (CUdeviceptr)p, stream)
STREAM_FUNCTIONS()
STREAM_FUNCTIONS(_ptsz)

/* Of channels of floats: the stub of the driver knows the bytes of no other format. */
cudaError_t cudaMalloc3DArray(cudaArray_t *array, const struct cudaChannelFormatDesc *channels,
                              struct cudaExtent extent, unsigned flags) {
    unsigned bits = (unsigned)(channels->x + channels->y + channels->z + channels->w);
    CUDA_ARRAY3D_DESCRIPTOR d = {extent.width,       extent.height, extent.depth,
                                 CU_AD_FORMAT_FLOAT, bits / 32,     flags};
    start();
    return error_of(driver.cuArray3DCreate_v2((CUarray *)array, &d));
}

cudaError_t cudaMallocArray(cudaArray_t *array, const struct cudaChannelFormatDesc *channels,
                            size_t width, size_t height, unsigned flags) {
    return cudaMalloc3DArray(array, channels, (struct cudaExtent){width, height, 0}, flags);
}
