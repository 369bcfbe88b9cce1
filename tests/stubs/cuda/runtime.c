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

typedef CUresult look_up_v2(const char *, void **, int, cuuint64_t,
                            CUdriverProcAddressQueryResult *);
typedef CUresult look_up_v1(const char *, void **, int, cuuint64_t);

static struct {
    bool ready;
    look_up_v2 *v2;
    look_up_v1 *v1;
    CUresult (*retain)(CUcontext *, CUdevice);
    CUresult (*reset)(CUdevice);
    CUresult (*set_current)(CUcontext);
    CUresult (*alloc)(CUdeviceptr *, size_t);
    CUresult (*release)(CUdeviceptr);
    CUresult (*alloc_managed)(CUdeviceptr *, size_t, unsigned);
    CUresult (*alloc_host)(void **, size_t);
    CUresult (*free_host)(void *);
    CUresult (*alloc_async)(CUdeviceptr *, size_t, CUstream);
    CUresult (*free_async)(CUdeviceptr, CUstream);
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
    if (driver.ready)
        return;
    void *library = dlopen("libcuda.so.1", RTLD_NOW);
    if (library == NULL)
        abort();
    driver.v2 = (look_up_v2 *)dlsym(library, "cuGetProcAddress_v2");
    driver.v1 = (look_up_v1 *)dlsym(library, "cuGetProcAddress");
    /* The look-up looks itself up again, as the real one does. */
    if (driver.v2 != NULL)
        driver.v2 = (look_up_v2 *)find("cuGetProcAddress");
    driver.retain = (__typeof__(driver.retain))find("cuDevicePrimaryCtxRetain");
    driver.reset = (__typeof__(driver.reset))find("cuDevicePrimaryCtxReset");
    driver.set_current = (__typeof__(driver.set_current))find("cuCtxSetCurrent");
    driver.alloc = (__typeof__(driver.alloc))find("cuMemAlloc");
    driver.release = (__typeof__(driver.release))find("cuMemFree");
    driver.alloc_managed = (__typeof__(driver.alloc_managed))find("cuMemAllocManaged");
    driver.alloc_host = (__typeof__(driver.alloc_host))find("cuMemAllocHost");
    driver.free_host = (__typeof__(driver.free_host))find("cuMemFreeHost");
    driver.alloc_async = (__typeof__(driver.alloc_async))find("cuMemAllocAsync");
    driver.free_async = (__typeof__(driver.free_async))find("cuMemFreeAsync");
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
        driver.retain(&contexts[device], device);
    return error_of(driver.set_current(contexts[device]));
}

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
    start();
    return error_of(driver.alloc((CUdeviceptr *)pointer, bytes));
}

cudaError_t cudaFree(void *pointer) {
    start();
    return error_of(driver.release((CUdeviceptr)pointer));
}

cudaError_t cudaMallocManaged(void **pointer, size_t bytes, unsigned flags) {
    start();
    return error_of(driver.alloc_managed((CUdeviceptr *)pointer, bytes, flags));
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
    start();
    return error_of(driver.alloc_host(pointer, bytes));
}

cudaError_t cudaFreeHost(void *pointer) {
    start();
    return error_of(driver.free_host(pointer));
}

cudaError_t cudaMallocAsync(void **pointer, size_t bytes, cudaStream_t stream) {
    start();
    if (driver.alloc_async == NULL)
        return cudaErrorNotSupported;
    return error_of(driver.alloc_async((CUdeviceptr *)pointer, bytes, stream));
}

cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream) {
    start();
    return error_of(driver.free_async((CUdeviceptr)pointer, stream));
}

cudaError_t cudaDeviceReset(void) {
    start();
    return error_of(driver.reset(0));
}
