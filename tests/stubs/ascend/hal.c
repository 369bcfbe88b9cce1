/*
 * hal.c - a stub of Ascend's driver, libascend_hal.so: gives addresses, keeps the ledger.
 *
 *   -DWITH_INNER  halMemAlloc and halMemFree go on to exported *Inner functions
 *   -DOLD_DRIVER  no physical memory, no halDeviceClose: the runtime tests for them
 *
 * Two devices of 64 MiB, whose huge pages may be exhausted first (STUB_HUGE_BYTES). A freed
 * address is the next one given. halMemGetInfo needs a lock that the driver holds while it calls
 * itself: who asks then hangs.
 */
#include "../ledger.h"
#include "ascend.h"

#include <pthread.h>
#include <sys/mman.h>

#define DEVICES 2u
#define DEVICE_BYTES (64UL << 20)
#define BLOCKS 4096
#define SPACING (4UL << 20)
#define ROOM (64UL << 30)

struct block {
    uintptr_t address; /* 0: free row */
    unsigned long long bytes;
    char domain[24];
    int device;
    bool huge;
};

struct physical {
    unsigned long long bytes, id;
    unsigned references; /* of handles, and of mappings */
    int device;
    char domain[24];
    bool foreign; /* of another process */
};

struct drv_mem_handle {
    struct physical *physical;
    unsigned references;
};

struct mapping {
    uintptr_t address;
    struct physical *physical;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct block blocks[BLOCKS], registered[BLOCKS];
static unsigned long used[DEVICES];

/* Addresses: a free one is used again at once. */
static uintptr_t spare[BLOCKS];
static unsigned spares;
static uintptr_t next_address;

static uintptr_t take_address(void) {
    if (spares != 0)
        return spare[--spares];
    if (next_address == 0)
        next_address = (uintptr_t)mmap(NULL, ROOM, PROT_NONE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    next_address += SPACING;
    return next_address;
}

static void give_address(uintptr_t address) {
    if (spares < BLOCKS)
        spare[spares++] = address;
}

static struct block *row_of(struct block *table, uintptr_t address) {
    for (unsigned i = 0; i < BLOCKS; i++)
        if (table[i].address == address)
            return &table[i];
    return NULL;
}

static void name_flag(char *domain, size_t n, unsigned long long flag) {
    unsigned type = flag >> MEM_VIRT_BIT & 15, device = flag & MEM_DEVID_MASK;
    if (type == 2 || type == 4 || type == 6)
        snprintf(domain, n, "hal-pinned");
    else if (type == 0 || type == 7)
        snprintf(domain, n, "hal-%u-managed", device);
    else
        snprintf(domain, n, "hal-%u", device);
}

static unsigned long huge_left(void) {
    const char *text = getenv("STUB_HUGE_BYTES");
    unsigned long limit = text != NULL ? strtoul(text, NULL, 10) : DEVICE_BYTES, held = 0;
    for (unsigned i = 0; i < BLOCKS; i++)
        held += blocks[i].address != 0 && blocks[i].huge ? blocks[i].bytes : 0;
    return held < limit ? limit - held : 0;
}

static drvError_t alloc_locked(void **pp, unsigned long long size, unsigned long long flag) {
    unsigned device = flag & MEM_DEVID_MASK, type = flag >> MEM_VIRT_BIT & 15;
    bool huge = (flag & MEM_PAGE_HUGE) != 0, host = type == 2 || type == 4 || type == 6;
    struct block b = {.bytes = size, .device = (int)device, .huge = huge};
    if (pp == NULL || size == 0 || device >= DEVICES)
        return DRV_ERROR_INVALID_VALUE;
    name_flag(b.domain, sizeof b.domain, flag);
    struct block *row = row_of(blocks, 0);
    if (row == NULL || STUB_FAILS("halMemAlloc") || (huge && size > huge_left()) ||
        (!host && used[device] + size > DEVICE_BYTES)) {
        stub_note_fail(b.domain, huge ? "huge" : "halMemAlloc", size);
        return DRV_ERROR_OUT_OF_MEMORY;
    }
    if (!host)
        used[device] += size;
    b.address = take_address();
    *row = b;
    *pp = (void *)b.address;
    if (type != 5) /* MEM_RESERVE: only addresses */
        stub_note("alloc", b.domain, b.address, size);
    return DRV_ERROR_NONE;
}

static void end_block(struct block *row) {
    if (strcmp(row->domain, "hal-pinned") != 0)
        used[row->device] -= row->bytes;
    stub_note("free", row->domain, row->address, row->bytes);
    give_address(row->address);
    row->address = 0;
}

static drvError_t real_alloc(void **pp, unsigned long long size, unsigned long long flag) {
    pthread_mutex_lock(&lock);
    drvError_t rc = alloc_locked(pp, size, flag);
    pthread_mutex_unlock(&lock);
    return rc;
}

static drvError_t real_free(void *pp) {
    pthread_mutex_lock(&lock);
    struct block *row = pp != NULL ? row_of(blocks, (uintptr_t)pp) : NULL;
    drvError_t rc = row == NULL ? DRV_ERROR_INVALID_VALUE : DRV_ERROR_NONE;
    if (rc == DRV_ERROR_NONE && STUB_FAILS("halMemFree"))
        rc = DRV_ERROR_BUSY;
    if (rc == DRV_ERROR_NONE)
        end_block(row);
    pthread_mutex_unlock(&lock);
    return rc;
}

#ifdef WITH_INNER
drvError_t halMemAllocInner(void **pp, unsigned long long size, unsigned long long flag) {
    return real_alloc(pp, size, flag);
}

drvError_t halMemFreeInner(void *pp) {
    return real_free(pp);
}

drvError_t halMemAlloc(void **pp, unsigned long long size, unsigned long long flag) {
    return halMemAllocInner(pp, size, flag);
}

drvError_t halMemFree(void *pp) {
    return halMemFreeInner(pp);
}
#else
drvError_t halMemAlloc(void **pp, unsigned long long size, unsigned long long flag) {
    return real_alloc(pp, size, flag);
}

drvError_t halMemFree(void *pp) {
    return real_free(pp);
}
#endif

/* The driver's own profiling: calls through the PLT with a lock held that halMemGetInfo wants
 * too. */
static pthread_mutex_t profiling = PTHREAD_MUTEX_INITIALIZER;
static void *sample_buffer;

drvError_t prof_sample_start(uint32_t devid) {
    pthread_mutex_lock(&profiling);
    drvError_t rc = halMemAlloc(&sample_buffer, 65536,
                                MEM_DEV | MEM_TYPE_HBM | devid | 5UL << MEM_MODULE_ID_BIT);
    pthread_mutex_unlock(&profiling);
    return rc;
}

drvError_t halHostRegister(void *src_ptr, UINT64 size, UINT32 flag, UINT32 devid, void **dst_ptr) {
    pthread_mutex_lock(&lock);
    bool host = flag != DEV_SVM_MAP_HOST && flag != DEV_MEM_MAP_HOST;
    struct block *row = row_of(registered, 0);
    drvError_t rc = row == NULL ? DRV_ERROR_OUT_OF_MEMORY : DRV_ERROR_NONE;
    if (rc == DRV_ERROR_NONE) {
        *row = (struct block){.address = (uintptr_t)src_ptr + devid, .bytes = size};
        snprintf(row->domain, sizeof row->domain, "%s", host ? "hal-pinned" : "");
        *dst_ptr = src_ptr;
        if (host)
            stub_note("alloc", row->domain, row->address, size);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

drvError_t halHostUnregister(void *src_ptr, UINT32 devid) {
    pthread_mutex_lock(&lock);
    struct block *row = row_of(registered, (uintptr_t)src_ptr + devid);
    drvError_t rc = row == NULL ? DRV_ERROR_INVALID_VALUE : DRV_ERROR_NONE;
    if (row != NULL) {
        if (row->domain[0] != '\0')
            stub_note("free", row->domain, row->address, row->bytes);
        row->address = 0;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

DVresult halMemGetInfo(DVdevice device, unsigned int type, struct MemInfo *info) {
    if (device >= DEVICES)
        return DRV_ERROR_INVALID_VALUE;
    if (type != MEM_INFO_TYPE_HBM_SIZE)
        return DRV_ERROR_NOT_SUPPORT;
    pthread_mutex_lock(&profiling);
    pthread_mutex_lock(&lock);
    info->phy_info = (struct MemPhyInfo){.total = DEVICE_BYTES / 2,
                                         .huge_total = DEVICE_BYTES / 2,
                                         .free = (DEVICE_BYTES - used[device]) / 2,
                                         .huge_free = (DEVICE_BYTES - used[device]) -
                                                      (DEVICE_BYTES - used[device]) / 2};
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&profiling);
    return DRV_ERROR_NONE;
}

#ifndef OLD_DRIVER
static struct mapping mappings[BLOCKS];
static drv_mem_handle_t *handles[BLOCKS];
static unsigned long long last_id;

static void end_physical(struct physical *p) {
    if (!p->foreign) {
        if (p->device >= 0)
            used[p->device] -= p->bytes;
        stub_note("free", p->domain, p->id, p->bytes);
    }
    free(p);
}

static void drop(struct physical *p) {
    if (--p->references == 0)
        end_physical(p);
}

static unsigned row_of_handle(const drv_mem_handle_t *handle) {
    unsigned i = 0;
    while (i < BLOCKS && handles[i] != handle)
        i++;
    return i;
}

static drv_mem_handle_t *new_handle(struct physical *p) {
    unsigned i = row_of_handle(NULL);
    drv_mem_handle_t *handle = i < BLOCKS ? malloc(sizeof *handle) : NULL;
    if (handle == NULL)
        return NULL;
    *handle = (drv_mem_handle_t){.physical = p, .references = 1};
    p->references++;
    handles[i] = handle;
    return handle;
}

static void name_prop(struct physical *p, const struct drv_mem_prop *prop) {
    p->device = prop->side == MEM_DEV_SIDE ? (int)prop->devid : -1;
    if (p->device >= 0)
        snprintf(p->domain, sizeof p->domain, "hal-%d", p->device);
    else
        snprintf(p->domain, sizeof p->domain, "hal-pinned");
}

drvError_t halMemCreate(drv_mem_handle_t **handle, size_t size, const struct drv_mem_prop *prop,
                        uint64_t flag) {
    struct physical *p = calloc(1, sizeof *p);
    if (p == NULL || handle == NULL || prop == NULL || flag != 0 || prop->devid >= DEVICES) {
        free(p);
        return DRV_ERROR_INVALID_VALUE;
    }
    name_prop(p, prop);
    pthread_mutex_lock(&lock);
    drvError_t rc = DRV_ERROR_NONE;
    p->bytes = size;
    p->id = ++last_id;
    if (STUB_FAILS("halMemCreate") || (p->device >= 0 && used[p->device] + size > DEVICE_BYTES)) {
        rc = DRV_ERROR_OUT_OF_MEMORY;
        stub_note_fail(p->domain, "halMemCreate", size);
        free(p);
    } else {
        if (p->device >= 0)
            used[p->device] += size;
        *handle = new_handle(p);
        stub_note("alloc", p->domain, p->id, size);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

drvError_t halMemRelease(drv_mem_handle_t *handle) {
    pthread_mutex_lock(&lock);
    unsigned i = handle != NULL ? row_of_handle(handle) : BLOCKS;
    drvError_t rc = i < BLOCKS ? DRV_ERROR_NONE : DRV_ERROR_INVALID_VALUE;
    if (i < BLOCKS && STUB_FAILS("halMemRelease"))
        rc = DRV_ERROR_BUSY;
    if (rc == DRV_ERROR_NONE && --handle->references == 0) {
        drop(handle->physical);
        handles[i] = NULL;
        free(handle);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

static struct mapping *mapping_of(uintptr_t address) {
    for (unsigned i = 0; i < BLOCKS; i++)
        if (mappings[i].address == address)
            return &mappings[i];
    return NULL;
}

/* The same handle again where there is one, or with STUB_RETAIN=new always another one. */
drvError_t halMemRetainAllocationHandle(drv_mem_handle_t **handle, void *ptr) {
    const char *mode = getenv("STUB_RETAIN");
    pthread_mutex_lock(&lock);
    struct mapping *m = mapping_of((uintptr_t)ptr);
    drvError_t rc = ptr == NULL || m == NULL ? DRV_ERROR_INVALID_VALUE : DRV_ERROR_NONE;
    if (rc == DRV_ERROR_NONE) {
        drv_mem_handle_t *found = NULL;
        for (unsigned i = 0; i < BLOCKS && (mode == NULL || strcmp(mode, "new") != 0); i++)
            if (handles[i] != NULL && handles[i]->physical == m->physical)
                found = handles[i];
        if (found != NULL)
            found->references++;
        *handle = found != NULL ? found : new_handle(m->physical);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

drvError_t halMemAddressReserve(void **ptr, size_t size, size_t alignment, void *addr,
                                uint64_t flag) {
    (void)alignment;
    (void)addr;
    (void)flag;
    void *room = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return DRV_ERROR_OUT_OF_MEMORY;
    *ptr = room;
    return DRV_ERROR_NONE;
}

drvError_t halMemAddressFree(void *ptr) {
    return ptr == NULL ? DRV_ERROR_INVALID_VALUE : DRV_ERROR_NONE;
}

drvError_t halMemMap(void *ptr, size_t size, size_t offset, drv_mem_handle_t *handle,
                     uint64_t flag) {
    (void)flag;
    pthread_mutex_lock(&lock);
    struct mapping *m = mapping_of(0);
    bool known = handle != NULL && row_of_handle(handle) < BLOCKS;
    drvError_t rc = DRV_ERROR_NONE;
    if (!known || ptr == NULL || offset != 0 || size != handle->physical->bytes ||
        mapping_of((uintptr_t)ptr) != NULL || m == NULL)
        rc = DRV_ERROR_INVALID_VALUE;
    if (rc == DRV_ERROR_NONE) {
        *m = (struct mapping){(uintptr_t)ptr, handle->physical};
        handle->physical->references++;
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

drvError_t halMemUnmap(void *ptr) {
    pthread_mutex_lock(&lock);
    struct mapping *m = ptr != NULL ? mapping_of((uintptr_t)ptr) : NULL;
    drvError_t rc = m == NULL ? DRV_ERROR_INVALID_VALUE : DRV_ERROR_NONE;
    if (m != NULL && STUB_FAILS("halMemUnmap"))
        rc = DRV_ERROR_BUSY;
    if (rc == DRV_ERROR_NONE) {
        m->address = 0;
        drop(m->physical);
    }
    pthread_mutex_unlock(&lock);
    return rc;
}

/* A shareable handle is the size of another process's memory. */
drvError_t halMemImportFromShareableHandle(uint64_t shareable_handle, uint32_t devid,
                                           drv_mem_handle_t **handle) {
    struct physical *p = calloc(1, sizeof *p);
    if (p == NULL)
        return DRV_ERROR_OUT_OF_MEMORY;
    *p = (struct physical){.bytes = shareable_handle, .device = (int)devid, .foreign = true};
    pthread_mutex_lock(&lock);
    *handle = new_handle(p);
    pthread_mutex_unlock(&lock);
    return DRV_ERROR_NONE;
}

static void close_physical(int device) {
    for (unsigned i = 0; i < BLOCKS; i++)
        if (mappings[i].address != 0 && mappings[i].physical->device == device) {
            mappings[i].address = 0;
            drop(mappings[i].physical);
        }
    for (unsigned i = 0; i < BLOCKS; i++)
        if (handles[i] != NULL && handles[i]->physical->device == device) {
            drop(handles[i]->physical);
            free(handles[i]);
            handles[i] = NULL;
        }
}
#else
static void close_physical(int device) {
    (void)device;
}
#endif

static drvError_t close_device(uint32_t device) {
    if (device >= DEVICES)
        return DRV_ERROR_INVALID_VALUE;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < BLOCKS; i++)
        if (blocks[i].address != 0 && blocks[i].device == (int)device &&
            strcmp(blocks[i].domain, "hal-pinned") != 0)
            end_block(&blocks[i]);
    close_physical((int)device);
    pthread_mutex_unlock(&lock);
    return DRV_ERROR_NONE;
}

#ifdef OLD_DRIVER
drvError_t drvDeviceClose(uint32_t devId) {
    return close_device(devId);
}
#else
drvError_t halDeviceClose(uint32_t devid, halDevCloseIn *in) {
    if (in != NULL && in->close_type == DEV_CLOSE_HOST_USER)
        return DRV_ERROR_NONE;
    return close_device(devid);
}
#endif
