/*
 * runtime.c - a stub of CUDA's runtime: finds the driver as the real one does, and calls nothing of it by a slot.
 *
 * Built as libcudart.so.12, or linked into the program as nvcc does (-DSTATIC_RUNTIME: names are hidden).
 */
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>

#ifdef STATIC_RUNTIME
#pragma GCC visibility push(hidden)
#endif

#define FUNCTIONS(X)                                                                               \
    X(cuDevicePrimaryCtxRetain)                                                                    \
    X(cuDevicePrimaryCtxReset)                                                                     \
    X(cuCtxSetCurrent)                                                                             \
    X(cuMemAlloc)                                                                                  \
    X(cuMemFree)                                                                                   \
    X(cuMemAllocManaged)                                                                           \
    X(cuMemAllocHost)                                                                              \
    X(cuMemFreeHost)                                                                               \
    X(cuMemAllocAsync)                                                                             \
    X(cuMemFreeAsync)

#define FIELD(name) __typeof__(&name) name;
static struct {
    bool ready;
    CUresult (*v2)(const char *, void **, int, cuuint64_t, CUdriverProcAddressQueryResult *);
    CUresult (*v1)(const char *, void **, int, cuuint64_t);
    FUNCTIONS(FIELD)
} driver;

static void *find(const char *name) {
    void *function = NULL;
    CUdriverProcAddressQueryResult status;
    if (driver.v2 != NULL)
        driver.v2(name, &function, 12000, 0, &status);
    else
        driver.v1(name, &function, 12000, 0);
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

SAME(cudaMalloc, (void **p, size_t bytes), cuMemAlloc, (CUdeviceptr *)p, bytes)
SAME(cudaFree, (void *p), cuMemFree, (CUdeviceptr)p)
SAME(cudaMallocManaged, (void **p, size_t bytes, unsigned flags), cuMemAllocManaged,
     (CUdeviceptr *)p, bytes, flags)
SAME(cudaMallocHost, (void **p, size_t bytes), cuMemAllocHost, p, bytes)
SAME(cudaFreeHost, (void *p), cuMemFreeHost, p)
SAME(cudaMallocAsync, (void **p, size_t bytes, cudaStream_t stream), cuMemAllocAsync,
     (CUdeviceptr *)p, bytes, stream)
SAME(cudaFreeAsync, (void *p, cudaStream_t stream), cuMemFreeAsync, (CUdeviceptr)p, stream)
SAME(cudaDeviceReset, (void), cuDevicePrimaryCtxReset, 0)
