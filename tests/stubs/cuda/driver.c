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

/* --- physical memory ------------------------------------------------------------------------ */

static void unreference(struct physical *physical) {
    if (--physical->references != 0 || physical->foreign)
        return;
    stub_note("free", physical->domain, physical->id, physical->bytes);
    if (physical->device >= 0)
        used[physical->device] -= physical->bytes;
}

static struct physical *new_physical(void) {
    for (struct physical *p = physicals; p < physicals + ROWS; p++)
        if (p->references == 0)
            return p;
    abort();
}

static struct handle *handle_of(unsigned long long value) {
    for (struct handle *h = handles; h < handles + ROWS; h++)
        if (h->value == value)
            return h;
    return NULL;
}

static unsigned long long new_handle(struct physical *physical) {
    struct handle *handle = handle_of(0);
    *handle = (struct handle){.value = 0x1000 + (unsigned long long)(handle - handles),
                              .physical = physical,
                              .references = 1};
    physical->references++;
    return handle->value;
}

ENTRY cuMemCreate(CUmemGenericAllocationHandle *handle, size_t size,
                  const CUmemAllocationProp *prop, unsigned long long flags) {
    (void)flags;
    if (size % GRANULARITY != 0)
        return CUDA_ERROR_INVALID_VALUE;
    char domain[24];
    int device = prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE ? prop->location.id : -1;
    name_domain(domain, device, "");
    pthread_mutex_lock(&lock);
    CUresult rc = CUDA_SUCCESS;
    if (STUB_FAILS("cuMemCreate") || (device >= 0 && used[device] + size > DEVICE_BYTES))
        rc = refuse(domain, "cuMemCreate", size);
    if (rc == CUDA_SUCCESS) {
        struct physical *p = new_physical();
        *p = (struct physical){.id = ++last_id, .bytes = size, .device = device};
        strcpy(p->domain, domain);
        if (device >= 0)
            used[device] += size;
        stub_note("alloc", domain, p->id, size);
        *handle = new_handle(p);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

ENTRY cuMemRelease(CUmemGenericAllocationHandle value) {
    pthread_mutex_lock(&lock);
    struct handle *handle = value != 0 ? handle_of(value) : NULL;
    bool refused = handle == NULL || STUB_FAILS("cuMemRelease");
    if (!refused) {
        unreference(handle->physical);
        if (--handle->references == 0)
            handle->value = 0;
    }
    pthread_mutex_unlock(&lock);
    return refused ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS;
}

static struct mapping *mapping_at(CUdeviceptr address) {
    for (struct mapping *m = mappings; m < mappings + ROWS; m++)
        if (m->physical != NULL && address >= m->start && address < m->start + m->bytes)
            return m;
    return NULL;
}

ENTRY cuMemRetainAllocationHandle(CUmemGenericAllocationHandle *value, void *address) {
    pthread_mutex_lock(&lock);
    struct mapping *mapping = mapping_at((CUdeviceptr)address);
    if (mapping != NULL) {
        struct handle *handle = handles;
        while (handle < handles + ROWS &&
               (handle->value == 0 || handle->physical != mapping->physical))
            handle++;
        if (handle < handles + ROWS) {
            handle->references++;
            mapping->physical->references++;
            *value = handle->value;
        } else {
            *value = new_handle(mapping->physical);
        }
    }
    pthread_mutex_unlock(&lock);
    return mapping != NULL ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

ENTRY cuMemImportFromShareableHandle(CUmemGenericAllocationHandle *value, void *os,
                                     CUmemAllocationHandleType type) {
    (void)type;
    pthread_mutex_lock(&lock);
    struct physical *p = new_physical();
    *p = (struct physical){.bytes = (unsigned long long)os, .foreign = true};
    *value = new_handle(p);
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

ENTRY cuMemAddressReserve(CUdeviceptr *pointer, size_t size, size_t alignment, CUdeviceptr wanted,
                          unsigned long long flags) {
    (void)size, (void)alignment, (void)wanted, (void)flags;
    pthread_mutex_lock(&lock);
    *pointer = next_address += 0x10000000ULL;
    pthread_mutex_unlock(&lock);
    return CUDA_SUCCESS;
}

ENTRY cuMemAddressFree(CUdeviceptr pointer, size_t size) {
    (void)pointer, (void)size;
    return CUDA_SUCCESS;
}

ENTRY cuMemMap(CUdeviceptr pointer, size_t size, size_t offset, CUmemGenericAllocationHandle value,
               unsigned long long flags) {
    (void)offset, (void)flags;
    pthread_mutex_lock(&lock);
    struct handle *handle = value != 0 ? handle_of(value) : NULL;
    struct mapping *m = mappings;
    while (m->physical != NULL)
        m++;
    bool fine = handle != NULL && mapping_at(pointer) == NULL;
    if (fine) {
        *m = (struct mapping){pointer, size, handle->physical};
        handle->physical->references++;
    }
    pthread_mutex_unlock(&lock);
    return fine ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

ENTRY cuMemUnmap(CUdeviceptr pointer, size_t size) {
    pthread_mutex_lock(&lock);
    bool found = false;
    for (struct mapping *m = mappings; m < mappings + ROWS; m++)
        if (m->physical != NULL && m->start >= pointer && m->start + m->bytes <= pointer + size) {
            unreference(m->physical);
            m->physical = NULL;
            found = true;
        }
    pthread_mutex_unlock(&lock);
    return found ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

/* --- look-up -------------------------------------------------------------------------------- */

struct entry {
    const char *name, *exported;
    int since;
    bool per_thread;
    void *function;
};

#define ENTRY_OF(name, exported, since, per_thread)                                                \
    {name, #exported, since, per_thread, (void *)exported}

PUBLIC cuGetProcAddress(const char *symbol, void **function, int version, cuuint64_t flags);
PUBLIC cuGetProcAddress_v2(const char *symbol, void **function, int version, cuuint64_t flags,
                           CUdriverProcAddressQueryResult *status);

/* The newest variant first. */
static const struct entry entries[] = {
    ENTRY_OF("cuInit", cuInit, 2000, false),
    ENTRY_OF("cuDriverGetVersion", cuDriverGetVersion, 2020, false),
    ENTRY_OF("cuDeviceGet", cuDeviceGet, 2000, false),
    ENTRY_OF("cuCtxCreate", cuCtxCreate_v2, 3020, false),
    ENTRY_OF("cuCtxDestroy", cuCtxDestroy_v2, 4000, false),
    ENTRY_OF("cuCtxSetCurrent", cuCtxSetCurrent, 4000, false),
    ENTRY_OF("cuCtxGetCurrent", cuCtxGetCurrent, 4000, false),
    ENTRY_OF("cuCtxGetDevice", cuCtxGetDevice, 2000, false),
    ENTRY_OF("cuDevicePrimaryCtxRetain", cuDevicePrimaryCtxRetain, 7000, false),
    ENTRY_OF("cuDevicePrimaryCtxRelease", cuDevicePrimaryCtxRelease_v2, 11000, false),
    ENTRY_OF("cuDevicePrimaryCtxReset", cuDevicePrimaryCtxReset_v2, 11000, false),
    ENTRY_OF("cuDevicePrimaryCtxGetState", cuDevicePrimaryCtxGetState, 7000, false),
    ENTRY_OF("cuMemAlloc", cuMemAlloc_v2, 3020, false),
    ENTRY_OF("cuMemAllocPitch", cuMemAllocPitch_v2, 3020, false),
    ENTRY_OF("cuMemAllocManaged", cuMemAllocManaged, 6000, false),
    ENTRY_OF("cuMemFree", cuMemFree_v2, 3020, false),
    ENTRY_OF("cuMemAllocHost", cuMemAllocHost_v2, 3020, false),
    ENTRY_OF("cuMemHostAlloc", cuMemHostAlloc, 2020, false),
    ENTRY_OF("cuMemFreeHost", cuMemFreeHost, 2000, false),
    ENTRY_OF("cuMemHostRegister", cuMemHostRegister_v2, 6050, false),
    ENTRY_OF("cuMemHostUnregister", cuMemHostUnregister, 4000, false),
    ENTRY_OF("cuArrayCreate", cuArrayCreate_v2, 3020, false),
    ENTRY_OF("cuArray3DCreate", cuArray3DCreate_v2, 3020, false),
    ENTRY_OF("cuArrayDestroy", cuArrayDestroy, 2000, false),
    ENTRY_OF("cuMemGetInfo", cuMemGetInfo_v2, 3020, false),
    ENTRY_OF("cuStreamCreate", cuStreamCreate, 2000, false),
    ENTRY_OF("cuStreamBeginCapture", cuStreamBeginCapture_v2, 10010, false),
    ENTRY_OF("cuStreamEndCapture", cuStreamEndCapture, 10000, false),
    ENTRY_OF("cuStreamIsCapturing", cuStreamIsCapturing, 10000, false),
#ifndef OLD_DRIVER
    ENTRY_OF("cuMemAllocAsync", cuMemAllocAsync_ptsz, 11020, true),
    ENTRY_OF("cuMemAllocAsync", cuMemAllocAsync, 11020, false),
    ENTRY_OF("cuMemAllocFromPoolAsync", cuMemAllocFromPoolAsync_ptsz, 11020, true),
    ENTRY_OF("cuMemAllocFromPoolAsync", cuMemAllocFromPoolAsync, 11020, false),
    ENTRY_OF("cuMemFreeAsync", cuMemFreeAsync_ptsz, 11020, true),
    ENTRY_OF("cuMemFreeAsync", cuMemFreeAsync, 11020, false),
    ENTRY_OF("cuGetProcAddress", cuGetProcAddress_v2, 12000, false),
#endif
    ENTRY_OF("cuGetProcAddress", cuGetProcAddress, 11030, false),
    ENTRY_OF("cuMemCreate", cuMemCreate, 10020, false),
    ENTRY_OF("cuMemRelease", cuMemRelease, 10020, false),
    ENTRY_OF("cuMemRetainAllocationHandle", cuMemRetainAllocationHandle, 11000, false),
    ENTRY_OF("cuMemImportFromShareableHandle", cuMemImportFromShareableHandle, 10020, false),
    ENTRY_OF("cuMemAddressReserve", cuMemAddressReserve, 10020, false),
    ENTRY_OF("cuMemAddressFree", cuMemAddressFree, 10020, false),
    ENTRY_OF("cuMemMap", cuMemMap, 10020, false),
    ENTRY_OF("cuMemUnmap", cuMemUnmap, 10020, false),
};

static CUresult find(const char *symbol, void **function, int version, cuuint64_t flags) {
    bool per_thread = (flags & CU_GET_PROC_ADDRESS_PER_THREAD_DEFAULT_STREAM) != 0;
    *function = NULL;
    for (size_t i = 0; i < sizeof entries / sizeof entries[0]; i++)
        if (strcmp(entries[i].name, symbol) == 0 && version >= entries[i].since &&
            (!entries[i].per_thread || per_thread)) {
            *function = entries[i].function;
            return CUDA_SUCCESS;
        }
    return CUDA_ERROR_NOT_FOUND;
}

PUBLIC cuGetProcAddress(const char *symbol, void **function, int version, cuuint64_t flags) {
    return find(symbol, function, version, flags);
}

#ifndef OLD_DRIVER
PUBLIC cuGetProcAddress_v2(const char *symbol, void **function, int version, cuuint64_t flags,
                           CUdriverProcAddressQueryResult *status) {
    CUresult rc = find(symbol, function, version, flags);
    if (status != NULL)
        *status =
            rc == CUDA_SUCCESS ? CU_GET_PROC_ADDRESS_SUCCESS : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return CUDA_SUCCESS;
}
#endif
