/*
 * driver.c - a stub of CUDA's driver, libcuda.so.1 (../memory.h).
 *
 *   -DOLD_DRIVER  of before CUDA 11.2: no pools, no stream-ordered calls, no cuGetProcAddress_v2
 *   -DSECRETIVE   exports cuGetProcAddress and what stands before it only: the rest has static addresses
 *
 * Pitches are multiples of 512 bytes, physical memory of 2 MiB.
 */
#define __CUDA_API_VERSION_INTERNAL
#include "../memory.h"
#include <cuda.h>

#define GRANULARITY (2ULL << 20)
#define VERSION 12090

enum kind { POINTER = 1, ARRAY, REGISTERED };

struct CUctx_st {
    int device;
    unsigned users; /* of a primary context */
};

struct CUstream_st {
    bool capturing;
};

static struct CUctx_st primary[STUB_DEVICES];
static __thread CUcontext current;

/* --- functions by name ---------------------------------------------------------------------- */

struct entry {
    const char *name;
    int since;
    bool per_thread;
    void *function;
};

#define PUBLIC __attribute__((visibility("default"))) CUresult
#ifdef SECRETIVE
#define EXPORTED __attribute__((visibility("hidden"))) CUresult
#else
#define EXPORTED CUresult
#endif

/* A function that cuGetProcAddress finds by `base` from a version on; `suffix` as in the exported name. */
#define LISTED(linkage, base, suffix, version, stream)                                             \
    static const struct entry entry_##base##suffix                                                 \
        __attribute__((section("stub_entries"), used, aligned(8))) = {#base, version, stream,      \
                                                                      (void *)base##suffix};       \
    linkage base##suffix
#define ENTRY(base, suffix, version) LISTED(EXPORTED, base, suffix, version, false)
#define PER_THREAD(base, version) LISTED(EXPORTED, base, _ptsz, version, true)

extern const struct entry __start_stub_entries[], __stop_stub_entries[];

/* The newest that the caller's version knows, and that of the thread's own stream where it asks for it. */
static CUresult find(const char *symbol, void **function, int version, cuuint64_t flags) {
    bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
    const struct entry *best = NULL;
    for (const struct entry *e = __start_stub_entries; e < __stop_stub_entries; e++)
        if (strcmp(e->name, symbol) == 0 && e->since <= version && e->per_thread <= per_thread &&
            (best == NULL || e->since > best->since || e->per_thread > best->per_thread))
            best = e;
    *function = best != NULL ? best->function : NULL;
    return best != NULL ? CUDA_SUCCESS : CUDA_ERROR_NOT_FOUND;
}

LISTED(PUBLIC, cuGetProcAddress, , 11030, false)
(const char *symbol, void **function, int version, cuuint64_t flags) {
    return find(symbol, function, version, flags);
}

#ifndef OLD_DRIVER
LISTED(PUBLIC, cuGetProcAddress, _v2, 12000, false)
(const char *symbol, void **function, int version, cuuint64_t flags,
 CUdriverProcAddressQueryResult *status) {
    CUresult rc = find(symbol, function, version, flags);
    if (status != NULL)
        *status =
            rc == CUDA_SUCCESS ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return CUDA_SUCCESS;
}
#endif

/* --- contexts ------------------------------------------------------------------------------- */

LISTED(PUBLIC, cuInit, , 2000, false)(unsigned int flags) {
    return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

LISTED(PUBLIC, cuDriverGetVersion, , 2020, false)(int *version) {
    *version = VERSION;
    return CUDA_SUCCESS;
}

ENTRY(cuDeviceGet, , 2000)(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < STUB_DEVICES ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

ENTRY(cuCtxCreate, _v2, 3020)(CUcontext *context, unsigned int flags, CUdevice device) {
    *context = calloc(1, sizeof **context);
    (*context)->device = device;
    current = *context;
    return CUDA_SUCCESS;
}

/* What the name means to programs of later toolkits. */
ENTRY(cuCtxCreate, _v3, 11040)
(CUcontext *context, CUexecAffinityParam *affinity, int count, unsigned int flags,
 CUdevice device) {
    return affinity == NULL && count == 0 ? cuCtxCreate_v2(context, flags, device)
                                          : CUDA_ERROR_INVALID_VALUE;
}

static void end_context(CUcontext context) {
    stub_end((uintptr_t)context);
    if (current == context)
        current = NULL;
}

ENTRY(cuCtxDestroy, _v2, 4000)(CUcontext context) {
    if (STUB_FAILS("cuCtxDestroy_v2"))
        return CUDA_ERROR_INVALID_CONTEXT;
    end_context(context);
    free(context);
    return CUDA_SUCCESS;
}

ENTRY(cuCtxSetCurrent, , 4000)(CUcontext context) {
    current = context;
    return CUDA_SUCCESS;
}

ENTRY(cuCtxGetCurrent, , 4000)(CUcontext *context) {
    *context = current;
    return CUDA_SUCCESS;
}

ENTRY(cuCtxGetDevice, , 2000)(CUdevice *device) {
    if (current == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = current->device;
    return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxRetain, , 7000)(CUcontext *context, CUdevice device) {
    primary[device].device = device;
    primary[device].users++;
    *context = &primary[device];
    return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxGetState, , 7000)(CUdevice device, unsigned int *flags, int *active) {
    *flags = 0;
    *active = primary[device].users != 0;
    return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxReset, _v2, 11000)(CUdevice device) {
    end_context(&primary[device]);
    primary[device].users = 0;
    return CUDA_SUCCESS;
}

ENTRY(cuDevicePrimaryCtxRelease, _v2, 11000)(CUdevice device) {
    if (primary[device].users == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (--primary[device].users == 0)
        end_context(&primary[device]);
    return CUDA_SUCCESS;
}

ENTRY(cuMemGetInfo, _v2, 3020)(size_t *free_bytes, size_t *total) {
    if (current == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    *total = STUB_DEVICE_BYTES;
    *free_bytes = STUB_DEVICE_BYTES - stub_used[current->device];
    return CUDA_SUCCESS;
}

/* --- blocks --------------------------------------------------------------------------------- */

struct want {
    enum kind kind;
    bool host, outlives_context;
    const char *suffix;
    uint64_t bytes, taken; /* taken 0: as asked */
    uint64_t address;
};

static CUresult give(const char *function, bool fails, void *out, struct want want) {
    struct stub_block block = {.kind = (int)want.kind, .bytes = want.bytes, .key = want.address};
    if (current == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    block.container = want.outlives_context ? 0 : (uintptr_t)current;
    stub_place(&block, "cuda", want.host ? -1 : current->device, want.suffix ? want.suffix : "");
    return stub_give(&block, function, fails, want.taken != 0 ? want.taken : want.bytes, out)
               ? CUDA_SUCCESS
               : CUDA_ERROR_OUT_OF_MEMORY;
}

static CUresult take(enum kind kind, uint64_t key, bool fails) {
    return stub_take((int)kind, key, fails) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

#define GIVE(function, out, ...)                                                                   \
    give(#function, STUB_FAILS(#function), out, (struct want){__VA_ARGS__})
#define TAKE(function, kind, key) take(kind, (uintptr_t)(key), STUB_FAILS(#function))

ENTRY(cuMemAlloc, _v2, 3020)(CUdeviceptr *pointer, size_t bytes) {
    return GIVE(cuMemAlloc_v2, pointer, POINTER, .bytes = bytes);
}

ENTRY(cuMemAllocPitch, _v2, 3020)
(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height, unsigned int element) {
    *pitch = (width + 511) / 512 * 512;
    return GIVE(cuMemAllocPitch_v2, pointer, POINTER, .bytes = width * height,
                .taken = *pitch * height);
}

ENTRY(cuMemAllocManaged, , 6000)(CUdeviceptr *pointer, size_t bytes, unsigned int flags) {
    return GIVE(cuMemAllocManaged, pointer, POINTER, .bytes = bytes, .suffix = "-managed");
}

ENTRY(cuMemFree, _v2, 3020)(CUdeviceptr pointer) {
    return pointer == 0 ? CUDA_SUCCESS : TAKE(cuMemFree_v2, POINTER, pointer);
}

ENTRY(cuMemAllocHost, _v2, 3020)(void **pointer, size_t bytes) {
    return GIVE(cuMemAllocHost_v2, pointer, POINTER, .bytes = bytes, .host = true);
}

ENTRY(cuMemHostAlloc, , 2020)(void **pointer, size_t bytes, unsigned int flags) {
    return GIVE(cuMemHostAlloc, pointer, POINTER, .bytes = bytes, .host = true);
}

ENTRY(cuMemFreeHost, , 2000)(void *pointer) {
    return TAKE(cuMemFreeHost, POINTER, pointer);
}

ENTRY(cuMemHostRegister, _v2, 6050)(void *pointer, size_t bytes, unsigned int flags) {
    return GIVE(cuMemHostRegister_v2, NULL, REGISTERED, .bytes = bytes, .host = true,
                .address = (uintptr_t)pointer);
}

ENTRY(cuMemHostUnregister, , 4000)(void *pointer) {
    return TAKE(cuMemHostUnregister, REGISTERED, pointer);
}

static uint64_t array_bytes(const CUDA_ARRAY3D_DESCRIPTOR *d) {
    unsigned bits = d->Format == CU_AD_FORMAT_FLOAT ? 32 : 8;
    return d->Width * (d->Height ? d->Height : 1) * (d->Depth ? d->Depth : 1) * d->NumChannels *
           bits / 8;
}

ENTRY(cuArrayCreate, _v2, 3020)(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *d) {
    CUDA_ARRAY3D_DESCRIPTOR whole = {d->Width, d->Height, 0, d->Format, d->NumChannels, 0};
    return GIVE(cuArrayCreate_v2, array, ARRAY, .bytes = array_bytes(&whole));
}

/* A sparse one has no memory yet. */
ENTRY(cuArray3DCreate, _v2, 3020)(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *d) {
    if ((d->Flags & CUDA_ARRAY3D_SPARSE) == 0)
        return GIVE(cuArray3DCreate_v2, array, ARRAY, .bytes = array_bytes(d));
    *array = (CUarray)1;
    return CUDA_SUCCESS;
}

ENTRY(cuArrayDestroy, , 2000)(CUarray array) {
    return array == (CUarray)1 ? CUDA_SUCCESS : TAKE(cuArrayDestroy, ARRAY, array);
}

/* --- streams -------------------------------------------------------------------------------- */

/* Of the thread's own stream, which is 2, or 0 in functions of that variant. */
static __thread struct CUstream_st own_stream;

static CUstream stream_of(CUstream stream, bool per_thread) {
    static struct CUstream_st legacy;
    bool own = stream == CU_STREAM_PER_THREAD || (stream == NULL && per_thread);
    return own ? &own_stream : stream == NULL || stream == CU_STREAM_LEGACY ? &legacy : stream;
}

ENTRY(cuStreamCreate, , 2000)(CUstream *stream, unsigned int flags) {
    *stream = calloc(1, sizeof **stream);
    return CUDA_SUCCESS;
}

ENTRY(cuStreamBeginCapture, _v2, 10010)(CUstream stream, CUstreamCaptureMode mode) {
    stream_of(stream, false)->capturing = true;
    return CUDA_SUCCESS;
}

ENTRY(cuStreamEndCapture, , 10000)(CUstream stream, CUgraph *graph) {
    stream_of(stream, false)->capturing = false;
    *graph = NULL;
    return CUDA_SUCCESS;
}

ENTRY(cuStreamIsCapturing, , 10000)(CUstream stream, CUstreamCaptureStatus *status) {
    *status = stream_of(stream, false)->capturing ? CU_STREAM_CAPTURE_STATUS_ACTIVE
                                                  : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

#ifndef OLD_DRIVER
static CUresult give_async(const char *function, bool fails, CUdeviceptr *out, uint64_t bytes,
                           CUstream stream) {
    if (!stream->capturing)
        return give(function, fails, out,
                    (struct want){POINTER, .bytes = bytes, .outlives_context = true});
    *out = 0x10; /* a node of the graph */
    return CUDA_SUCCESS;
}

#define STREAM_FUNCTIONS(LIST, suffix, per_thread)                                                 \
    LIST(cuMemAllocAsync, 11020)(CUdeviceptr * pointer, size_t bytes, CUstream stream) {           \
        return give_async("cuMemAllocAsync" #suffix, STUB_FAILS("cuMemAllocAsync" #suffix),        \
                          pointer, bytes, stream_of(stream, per_thread));                          \
    }                                                                                              \
    LIST(cuMemAllocFromPoolAsync, 11020)(CUdeviceptr * pointer, size_t bytes, CUmemoryPool pool,   \
                                         CUstream stream) {                                        \
        (void)pool;                                                                                \
        return give_async("cuMemAllocFromPoolAsync" #suffix, false, pointer, bytes,                \
                          stream_of(stream, per_thread));                                          \
    }                                                                                              \
    LIST(cuMemFreeAsync, 11020)(CUdeviceptr pointer, CUstream stream) {                            \
        return stream_of(stream, per_thread)->capturing                                            \
                   ? CUDA_SUCCESS                                                                  \
                   : take(POINTER, pointer, STUB_FAILS("cuMemFreeAsync" #suffix));                 \
    }
#define PLAIN(base, version) ENTRY(base, , version)
STREAM_FUNCTIONS(PLAIN, , false)
STREAM_FUNCTIONS(PER_THREAD, _ptsz, true)
#endif

/* --- physical memory ------------------------------------------------------------------------ */

#define DONE(call) ((call) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE)

ENTRY(cuMemCreate, , 10020)
(CUmemGenericAllocationHandle *handle, size_t size, const CUmemAllocationProp *prop,
 unsigned long long flags) {
    struct stub_block block = {.kind = STUB_PHYSICAL, .bytes = size};
    bool on_device = prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
    if (size % GRANULARITY != 0)
        return CUDA_ERROR_INVALID_VALUE;
    stub_place(&block, "cuda", on_device ? prop->location.id : -1, "");
    return stub_create(&block, "cuMemCreate", STUB_FAILS("cuMemCreate"), handle)
               ? CUDA_SUCCESS
               : CUDA_ERROR_OUT_OF_MEMORY;
}

ENTRY(cuMemRelease, , 10020)(CUmemGenericAllocationHandle handle) {
    return DONE(stub_release(handle, STUB_FAILS("cuMemRelease")));
}

ENTRY(cuMemRetainAllocationHandle, , 11000)(CUmemGenericAllocationHandle *handle, void *address) {
    return DONE(stub_retain((uintptr_t)address, handle));
}

ENTRY(cuMemImportFromShareableHandle, , 10020)
(CUmemGenericAllocationHandle *handle, void *os, CUmemAllocationHandleType type) {
    return DONE(stub_import(handle));
}

ENTRY(cuMemAddressReserve, , 10020)
(CUdeviceptr *pointer, size_t size, size_t alignment, CUdeviceptr wanted,
 unsigned long long flags) {
    *pointer = stub_reserve();
    return CUDA_SUCCESS;
}

ENTRY(cuMemAddressFree, , 10020)(CUdeviceptr pointer, size_t size) {
    return CUDA_SUCCESS;
}

ENTRY(cuMemMap, , 10020)
(CUdeviceptr pointer, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
 unsigned long long flags) {
    return DONE(stub_map(pointer, size, handle));
}

ENTRY(cuMemUnmap, , 10020)(CUdeviceptr pointer, size_t size) {
    return DONE(stub_unmap(pointer, size, STUB_FAILS("cuMemUnmap")));
}
