/*
 * hal.c - a stub of Ascend's driver, libascend_hal.so (../memory.h).
 *
 *   -DWITH_INNER  halMemAlloc and halMemFree go on to exported *Inner functions
 *   -DOLD_DRIVER  no physical memory, no halDeviceClose: the runtime tests for them
 *
 * Huge pages of the devices may be exhausted first (STUB_HUGE_BYTES). halMemGetInfo needs a lock that the driver holds
 * while it calls itself: who asks then hangs.
 */
#include "../memory.h"
#include "ascend.h"

enum kind { NORMAL = 1, HUGE, REGISTERED };

#define DONE(call) ((call) ? DRV_ERROR_NONE : DRV_ERROR_INVALID_VALUE)

static uint64_t container_of(unsigned device) {
    return device + 1;
}

/* Where the flag of halMemAlloc puts a block. Host memory belongs to no device; MEM_RESERVE are only addresses. */
static void place(struct stub_block *block, uint64_t flag) {
    unsigned device = flag & MEM_DEVID_MASK;
    uint64_t type = flag & 15UL << MEM_VIRT_BIT;
    bool host = type == MEM_HOST || type == MEM_HOST_AGENT || type == MEM_HOST_UVA;
    bool managed = type == MEM_SVM || type == MEM_UVM;
    stub_place(block, "hal", host ? -1 : (int)device, managed ? "-managed" : "");
    block->container = host ? 0 : container_of(device);
    if (type == MEM_RESERVE)
        block->domain[0] = '\0';
}

static bool has_huge_pages(uint64_t size) {
    const char *text = getenv("STUB_HUGE_BYTES");
    uint64_t limit = text != NULL ? strtoull(text, NULL, 10) : STUB_DEVICE_BYTES;
    for (struct stub_block *b = stub_blocks; b < stub_blocks + STUB_ROWS; b++)
        size += b->kind == HUGE ? b->bytes : 0;
    return size <= limit;
}

static drvError_t real_alloc(void **pp, uint64_t size, uint64_t flag) {
    bool huge = (flag & MEM_PAGE_HUGE) != 0;
    struct stub_block block = {.kind = huge ? HUGE : NORMAL, .bytes = size};
    if (pp == NULL || size == 0 || (flag & MEM_DEVID_MASK) >= STUB_DEVICES)
        return DRV_ERROR_INVALID_VALUE;
    place(&block, flag);
    bool fails = STUB_FAILS("halMemAlloc") || (huge && !has_huge_pages(size));
    return stub_give(&block, "halMemAlloc", fails, size, pp) ? DRV_ERROR_NONE
                                                             : DRV_ERROR_OUT_OF_MEMORY;
}

static drvError_t real_free(void *pp) {
    uint64_t key = (uintptr_t)pp;
    int kind = stub_find(HUGE, key) != NULL ? HUGE : NORMAL;
    if (stub_find(kind, key) == NULL)
        return DRV_ERROR_INVALID_VALUE;
    return stub_take(kind, key, STUB_FAILS("halMemFree")) ? DRV_ERROR_NONE : DRV_ERROR_BUSY;
}

#ifdef WITH_INNER
drvError_t halMemAllocInner(void **pp, unsigned long long size, unsigned long long flag) {
    return real_alloc(pp, size, flag);
}

drvError_t halMemFreeInner(void *pp) {
    return real_free(pp);
}
#else
#define halMemAllocInner real_alloc
#define halMemFreeInner real_free
#endif

drvError_t halMemAlloc(void **pp, unsigned long long size, unsigned long long flag) {
    return halMemAllocInner(pp, size, flag);
}

drvError_t halMemFree(void *pp) {
    return halMemFreeInner(pp);
}

/* The driver's own profiling: calls through the PLT with a lock held that halMemGetInfo wants too. */
static pthread_mutex_t profiling = PTHREAD_MUTEX_INITIALIZER;

drvError_t prof_sample_start(uint32_t devid) {
    static void *sample_buffer;
    pthread_mutex_lock(&profiling);
    drvError_t rc = halMemAlloc(&sample_buffer, 65536,
                                MEM_DEV | MEM_TYPE_HBM | devid | 5UL << MEM_MODULE_ID_BIT);
    pthread_mutex_unlock(&profiling);
    return rc;
}

drvError_t halHostRegister(void *src_ptr, UINT64 size, UINT32 flag, UINT32 devid, void **dst_ptr) {
    struct stub_block block = {
        .kind = REGISTERED, .key = (uintptr_t)src_ptr + devid, .bytes = size};
    stub_place(&block, "hal", -1, "");
    if (flag == DEV_SVM_MAP_HOST || flag == DEV_MEM_MAP_HOST)
        block.domain[0] = '\0';
    *dst_ptr = src_ptr;
    return DONE(stub_give(&block, "halHostRegister", false, size, NULL));
}

drvError_t halHostUnregister(void *src_ptr, UINT32 devid) {
    return DONE(stub_take(REGISTERED, (uintptr_t)src_ptr + devid, false));
}

DVresult halMemGetInfo(DVdevice device, unsigned int type, struct MemInfo *info) {
    if (device >= STUB_DEVICES)
        return DRV_ERROR_INVALID_VALUE;
    if (type != MEM_INFO_TYPE_HBM_SIZE)
        return DRV_ERROR_NOT_SUPPORT;
    pthread_mutex_lock(&profiling);
    uint64_t left = STUB_DEVICE_BYTES - stub_used[device];
    info->phy_info = (struct MemPhyInfo){.total = STUB_DEVICE_BYTES / 2,
                                         .huge_total = STUB_DEVICE_BYTES / 2,
                                         .free = left / 2,
                                         .huge_free = left - left / 2};
    pthread_mutex_unlock(&profiling);
    return DRV_ERROR_NONE;
}

#ifdef OLD_DRIVER
drvError_t drvDeviceClose(uint32_t devId) {
    stub_end(container_of(devId));
    return DONE(devId < STUB_DEVICES);
}
#else
drvError_t halDeviceClose(uint32_t devid, halDevCloseIn *in) {
    if (in == NULL || in->close_type != DEV_CLOSE_HOST_USER)
        stub_end(container_of(devid));
    return DONE(devid < STUB_DEVICES);
}

drvError_t halMemCreate(drv_mem_handle_t **handle, size_t size, const struct drv_mem_prop *prop,
                        uint64_t flag) {
    struct stub_block block = {.kind = STUB_PHYSICAL, .bytes = size};
    if (handle == NULL || prop == NULL || flag != 0 || prop->devid >= STUB_DEVICES)
        return DRV_ERROR_INVALID_VALUE;
    place(&block, (prop->side == MEM_DEV_SIDE ? MEM_DEV : MEM_HOST) | prop->devid);
    return stub_create(&block, "halMemCreate", STUB_FAILS("halMemCreate"), handle)
               ? DRV_ERROR_NONE
               : DRV_ERROR_OUT_OF_MEMORY;
}

drvError_t halMemRelease(drv_mem_handle_t *handle) {
    return DONE(stub_release((uintptr_t)handle, STUB_FAILS("halMemRelease")));
}

drvError_t halMemRetainAllocationHandle(drv_mem_handle_t **handle, void *ptr) {
    return DONE(stub_retain((uintptr_t)ptr, handle));
}

drvError_t halMemAddressReserve(void **ptr, size_t size, size_t alignment, void *addr,
                                uint64_t flag) {
    *ptr = (void *)stub_reserve();
    return DRV_ERROR_NONE;
}

drvError_t halMemAddressFree(void *ptr) {
    return DONE(ptr != NULL);
}

drvError_t halMemMap(void *ptr, size_t size, size_t offset, drv_mem_handle_t *handle,
                     uint64_t flag) {
    return DONE(offset == 0 && stub_map((uintptr_t)ptr, size, (uintptr_t)handle));
}

/* Of the mapping that begins there. */
drvError_t halMemUnmap(void *ptr) {
    const struct stub_reference *mapping = stub_at(stub_mappings, (uintptr_t)ptr);
    return DONE(ptr != NULL && mapping != NULL &&
                stub_unmap((uintptr_t)ptr, mapping->bytes, STUB_FAILS("halMemUnmap")));
}

drvError_t halMemImportFromShareableHandle(uint64_t shareable_handle, uint32_t devid,
                                           drv_mem_handle_t **handle) {
    return DONE(stub_import(handle));
}
#endif
