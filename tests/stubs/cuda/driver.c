/*
 * driver.c - a stub of CUDA's driver, libcuda.so.1: gives addresses, keeps the ledger.
 *
 *   -DOLD_DRIVER  of before CUDA 11.2: no pools, no stream-ordered calls, no cuGetProcAddress_v2
 *   -DSECRETIVE   exports cuGetProcAddress and what stands before it only: the rest has static addresses
 *
 * Two devices of 64 MiB. Pitches are multiples of 512 bytes, physical memory of 2 MiB. A freed address is the
 * next one given.
 */
#define __CUDA_API_VERSION_INTERNAL
#include "../ledger.h"
#include <cuda.h>

#include <pthread.h>

#define DEVICES 2
#define DEVICE_BYTES (64ULL << 20)
#define ROWS 4096
#define GRANULARITY (2ULL << 20)
#define VERSION 12090

#ifdef SECRETIVE
#define ENTRY __attribute__((visibility("hidden"))) CUresult
#else
#define ENTRY CUresult
#endif
#define PUBLIC __attribute__((visibility("default"))) CUresult

struct CUctx_st {
    int device;
    bool primary;
    unsigned users; /* of a primary context */
};

struct CUstream_st {
    bool capturing;
};

enum kind { UNUSED, POINTER, ARRAY, REGISTERED };

struct row {
    enum kind kind;
    unsigned long long key, bytes;
    CUcontext context; /* NULL: outlives contexts */
    char domain[24];
    int device; /* -1: host */
};

struct physical {
    unsigned long long id, bytes;
    unsigned references; /* of handles and of mappings; 0: free row */
    char domain[24];
    int device;
    bool foreign; /* of another process */
};

struct handle {
    unsigned long long value; /* 0: free row */
    struct physical *physical;
    unsigned references;
};

struct mapping {
    CUdeviceptr start;
    unsigned long long bytes;
    struct physical *physical;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct row rows[ROWS];
static struct physical physicals[ROWS];
static struct handle handles[ROWS];
static struct mapping mappings[ROWS];
static unsigned long long used[DEVICES], last_id;
static struct CUctx_st primary[DEVICES];
static __thread CUcontext current;

static unsigned long long spare[ROWS];
static unsigned spares;
static unsigned long long next_address = 0x7f0000000000ULL;

static unsigned long long take_address(void) {
    return spares != 0 ? spare[--spares] : (next_address += 0x10000000ULL);
}

static void give_address(unsigned long long address) {
    if (spares < ROWS)
        spare[spares++] = address;
}

static void name_domain(char *domain, int device, const char *suffix) {
    if (device < 0)
        snprintf(domain, 24, "cuda-pinned");
    else
        snprintf(domain, 24, "cuda-%d%s", device, suffix);
}

static CUresult refuse(const char *domain, const char *function, unsigned long long bytes) {
    stub_note_fail(domain, function, bytes);
    return CUDA_ERROR_OUT_OF_MEMORY;
}

/* With the lock held. `taken`: what the device gives up. */
static CUresult give(enum kind kind, const char *function, bool fails, int device,
                     const char *suffix, CUcontext context, unsigned long long bytes,
                     unsigned long long taken, unsigned long long *key) {
    char domain[24];
    name_domain(domain, device, suffix);
    if (fails || (device >= 0 && used[device] + taken > DEVICE_BYTES))
        return refuse(domain, function, bytes);
    struct row *row = rows;
    while (row->kind != UNUSED)
        if (++row == rows + ROWS)
            return refuse(domain, function, bytes);
    *row = (struct row){.kind = kind, .bytes = bytes, .context = context, .device = device};
    row->key = kind == REGISTERED ? *key : take_address();
    strcpy(row->domain, domain);
    if (device >= 0)
        used[device] += bytes;
    stub_note("alloc", domain, row->key, bytes);
    *key = row->key;
    return CUDA_SUCCESS;
}

static void drop(struct row *row) {
    stub_note("free", row->domain, row->key, row->bytes);
    if (row->device >= 0)
        used[row->device] -= row->bytes;
    if (row->kind != REGISTERED)
        give_address(row->key);
    row->kind = UNUSED;
}

static CUresult take(enum kind kind, unsigned long long key) {
    for (struct row *row = rows; row < rows + ROWS; row++)
        if (row->kind == kind && row->key == key) {
            drop(row);
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_INVALID_VALUE;
}

static CUresult alloc(enum kind kind, const char *function, bool fails, bool host,
                      const char *suffix, unsigned long long bytes, unsigned long long taken,
                      unsigned long long *key) {
    if (current == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&lock);
    CUresult rc = give(kind, function, fails, host ? -1 : current->device, suffix, current, bytes,
                       taken, key);
    pthread_mutex_unlock(&lock);
    return rc;
}

static CUresult release(enum kind kind, unsigned long long key, bool fails) {
    if (key == 0 && kind == POINTER)
        return CUDA_SUCCESS;
    pthread_mutex_lock(&lock);
    CUresult rc = fails ? CUDA_ERROR_LAUNCH_FAILED : take(kind, key);
    pthread_mutex_unlock(&lock);
    return rc;
}

#define ALLOC(function, kind, host, suffix, bytes, taken, key)                                     \
    alloc(kind, #function, STUB_FAILS(#function), host, suffix, bytes, taken, key)
#define RELEASE(function, kind, key) release(kind, key, STUB_FAILS(#function))

/* --- contexts ------------------------------------------------------------------------------- */

PUBLIC cuInit(unsigned int flags) {
    return flags == 0 ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

PUBLIC cuDriverGetVersion(int *version) {
    *version = VERSION;
    return CUDA_SUCCESS;
}

ENTRY cuDeviceGet(CUdevice *device, int ordinal) {
    *device = ordinal;
    return ordinal >= 0 && ordinal < DEVICES ? CUDA_SUCCESS : CUDA_ERROR_INVALID_DEVICE;
}

ENTRY cuCtxCreate_v2(CUcontext *context, unsigned int flags, CUdevice device) {
    (void)flags;
    *context = calloc(1, sizeof **context);
    (*context)->device = device;
    current = *context;
    return CUDA_SUCCESS;
}

static void end_context(CUcontext context) {
    pthread_mutex_lock(&lock);
    for (struct row *row = rows; row < rows + ROWS; row++)
        if (row->kind != UNUSED && row->context == context)
            drop(row);
    pthread_mutex_unlock(&lock);
    if (current == context)
        current = NULL;
}

ENTRY cuCtxDestroy_v2(CUcontext context) {
    if (STUB_FAILS("cuCtxDestroy_v2"))
        return CUDA_ERROR_INVALID_CONTEXT;
    end_context(context);
    free(context);
    return CUDA_SUCCESS;
}

ENTRY cuCtxSetCurrent(CUcontext context) {
    current = context;
    return CUDA_SUCCESS;
}

ENTRY cuCtxGetCurrent(CUcontext *context) {
    *context = current;
    return CUDA_SUCCESS;
}

ENTRY cuCtxGetDevice(CUdevice *device) {
    if (current == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    *device = current->device;
    return CUDA_SUCCESS;
}

ENTRY cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
    primary[device].device = device;
    primary[device].primary = true;
    primary[device].users++;
    *context = &primary[device];
    return CUDA_SUCCESS;
}

ENTRY cuDevicePrimaryCtxGetState(CUdevice device, unsigned int *flags, int *active) {
    *flags = 0;
    *active = primary[device].users != 0;
    return CUDA_SUCCESS;
}

ENTRY cuDevicePrimaryCtxReset_v2(CUdevice device) {
    end_context(&primary[device]);
    primary[device].users = 0;
    return CUDA_SUCCESS;
}

ENTRY cuDevicePrimaryCtxRelease_v2(CUdevice device) {
    if (primary[device].users == 0)
        return CUDA_ERROR_INVALID_CONTEXT;
    if (--primary[device].users == 0)
        end_context(&primary[device]);
    return CUDA_SUCCESS;
}

/* --- blocks --------------------------------------------------------------------------------- */

ENTRY cuMemAlloc_v2(CUdeviceptr *pointer, size_t bytes) {
    return ALLOC(cuMemAlloc_v2, POINTER, false, "", bytes, bytes, pointer);
}

ENTRY cuMemAllocPitch_v2(CUdeviceptr *pointer, size_t *pitch, size_t width, size_t height,
                         unsigned int element) {
    (void)element;
    *pitch = (width + 511) / 512 * 512;
    return ALLOC(cuMemAllocPitch_v2, POINTER, false, "", width * height, *pitch * height, pointer);
}

ENTRY cuMemAllocManaged(CUdeviceptr *pointer, size_t bytes, unsigned int flags) {
    (void)flags;
    return ALLOC(cuMemAllocManaged, POINTER, false, "-managed", bytes, bytes, pointer);
}

ENTRY cuMemFree_v2(CUdeviceptr pointer) {
    return RELEASE(cuMemFree_v2, POINTER, pointer);
}

ENTRY cuMemAllocHost_v2(void **pointer, size_t bytes) {
    return ALLOC(cuMemAllocHost_v2, POINTER, true, "", bytes, bytes, (unsigned long long *)pointer);
}

ENTRY cuMemHostAlloc(void **pointer, size_t bytes, unsigned int flags) {
    (void)flags;
    return ALLOC(cuMemHostAlloc, POINTER, true, "", bytes, bytes, (unsigned long long *)pointer);
}

ENTRY cuMemFreeHost(void *pointer) {
    return RELEASE(cuMemFreeHost, POINTER, (unsigned long long)pointer);
}

ENTRY cuMemHostRegister_v2(void *pointer, size_t bytes, unsigned int flags) {
    (void)flags;
    unsigned long long key = (unsigned long long)pointer;
    return ALLOC(cuMemHostRegister_v2, REGISTERED, true, "", bytes, bytes, &key);
}

ENTRY cuMemHostUnregister(void *pointer) {
    return RELEASE(cuMemHostUnregister, REGISTERED, (unsigned long long)pointer);
}

static unsigned long long array_bytes(const CUDA_ARRAY3D_DESCRIPTOR *d) {
    unsigned bits = d->Format == CU_AD_FORMAT_FLOAT ? 32 : 8;
    return d->Width * (d->Height ? d->Height : 1) * (d->Depth ? d->Depth : 1) * d->NumChannels *
           bits / 8;
}

ENTRY cuArrayCreate_v2(CUarray *array, const CUDA_ARRAY_DESCRIPTOR *d) {
    CUDA_ARRAY3D_DESCRIPTOR whole = {d->Width, d->Height, 0, d->Format, d->NumChannels, 0};
    unsigned long long bytes = array_bytes(&whole);
    return ALLOC(cuArrayCreate_v2, ARRAY, false, "", bytes, bytes, (unsigned long long *)array);
}

ENTRY cuArray3DCreate_v2(CUarray *array, const CUDA_ARRAY3D_DESCRIPTOR *d) {
    static unsigned long long none;
    if (d->Flags & CUDA_ARRAY3D_SPARSE) {
        *array = (CUarray)++none;
        return CUDA_SUCCESS;
    }
    unsigned long long bytes = array_bytes(d);
    return ALLOC(cuArray3DCreate_v2, ARRAY, false, "", bytes, bytes, (unsigned long long *)array);
}

ENTRY cuArrayDestroy(CUarray array) {
    return (unsigned long long)array < 4096
               ? CUDA_SUCCESS
               : RELEASE(cuArrayDestroy, ARRAY, (unsigned long long)array);
}

ENTRY cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    if (current == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    *total = DEVICE_BYTES;
    *free_bytes = DEVICE_BYTES - used[current->device];
    return CUDA_SUCCESS;
}

/* --- streams -------------------------------------------------------------------------------- */

ENTRY cuStreamCreate(CUstream *stream, unsigned int flags) {
    (void)flags;
    *stream = calloc(1, sizeof **stream);
    return CUDA_SUCCESS;
}

ENTRY cuStreamBeginCapture_v2(CUstream stream, CUstreamCaptureMode mode) {
    (void)mode;
    stream->capturing = true;
    return CUDA_SUCCESS;
}

ENTRY cuStreamEndCapture(CUstream stream, CUgraph *graph) {
    stream->capturing = false;
    *graph = NULL;
    return CUDA_SUCCESS;
}

static bool captures(CUstream stream) {
    return (unsigned long long)stream > 2 && stream->capturing;
}

ENTRY cuStreamIsCapturing(CUstream stream, CUstreamCaptureStatus *status) {
    *status = captures(stream) ? CU_STREAM_CAPTURE_STATUS_ACTIVE : CU_STREAM_CAPTURE_STATUS_NONE;
    return CUDA_SUCCESS;
}

#ifndef OLD_DRIVER
static CUresult async(CUdeviceptr *pointer, size_t bytes, CUstream stream, const char *function,
                      bool fails) {
    if (captures(stream)) {
        *pointer = 0x10; /* a node of the graph */
        return CUDA_SUCCESS;
    }
    if (current == NULL)
        return CUDA_ERROR_INVALID_CONTEXT;
    pthread_mutex_lock(&lock);
    CUresult rc = give(POINTER, function, fails, current->device, "", NULL, bytes, bytes, pointer);
    pthread_mutex_unlock(&lock);
    return rc;
}

static CUresult free_async(CUdeviceptr pointer, CUstream stream, bool fails) {
    return captures(stream) ? CUDA_SUCCESS : release(POINTER, pointer, fails);
}

#define STREAM_FUNCTIONS(suffix)                                                                   \
    ENTRY cuMemAllocAsync##suffix(CUdeviceptr *pointer, size_t bytes, CUstream stream) {           \
        return async(pointer, bytes, stream, "cuMemAllocAsync" #suffix,                            \
                     STUB_FAILS("cuMemAllocAsync" #suffix));                                       \
    }                                                                                              \
    ENTRY cuMemAllocFromPoolAsync##suffix(CUdeviceptr *pointer, size_t bytes, CUmemoryPool pool,   \
                                          CUstream stream) {                                       \
        (void)pool;                                                                                \
        return async(pointer, bytes, stream, "cuMemAllocFromPoolAsync" #suffix, false);            \
    }                                                                                              \
    ENTRY cuMemFreeAsync##suffix(CUdeviceptr pointer, CUstream stream) {                           \
        return free_async(pointer, stream, STUB_FAILS("cuMemFreeAsync" #suffix));                  \
    }
STREAM_FUNCTIONS()
STREAM_FUNCTIONS(_ptsz)
#endif

#include "driver_physical.h"

#include "driver_lookup.h"
