/*
 * hal.c - wrappers of the Ascend driver, libascend_hal.so, and of the runtime and ACL above it.
 *
 * A reset of a device frees its memory without calling halMemFree; it ends in halDeviceClose or
 * drvDeviceClose. ACL's reset only counts down until the last user, and is a name here.
 *
 * Only these wrappers count bytes: HCCL, ATB and the runtime itself do not pass through ACL. halMemAlloc of some
 * drivers goes on to halMemAllocInner through the PLT, and other tools call that one: both have rows, the scopes count
 * once.
 */
#include "drivers/wrap.h"
#include "hal_abi.h"

#define MP_ROW_BACKEND MP_BACKEND_HAL
#define MP_ROW_FAMILY MP_FAMILY_HAL
#define MP_ROW_TAIL(scope, row) ask_totals(scope)

static int last_device; /* of the last block */

struct mp_hal_memory {
    int device;               /* -1: of no device */
    enum mp_memory_kind kind;
    enum hal_page page;
    bool none;                /* only addresses are reserved: no memory */
    uint32_t traits;          /* enum mp_block_trait */
};

static uint32_t traits_of(enum hal_page page, uint32_t module) {
    return MP_TRAIT_KNOWN | (uint32_t)page | (module & 0xff) << MP_TRAIT_MODULE_SHIFT;
}

/* Of halMemAlloc: bits 0..9 device, 10..13 virtual type, 17 huge and 31 giant pages. */
static struct mp_hal_memory mp_hal_memory_of_flag(uint64_t flag) {
    struct mp_hal_memory memory = {.device = (int)(flag & 0x3ff),
                                   .kind = MP_MEMORY_DEVICE,
                                   .page = (flag >> 31 & 1) != 0   ? MP_HAL_PAGE_GIANT
                                           : (flag >> 17 & 1) != 0 ? MP_HAL_PAGE_HUGE
                                                                   : MP_HAL_PAGE_NORMAL};
    memory.traits = traits_of(memory.page, (uint32_t)(flag >> 56));
    switch (flag >> 10 & 15) {
    case MP_HAL_SVM:
    case MP_HAL_UVM:
        memory.kind = MP_MEMORY_MANAGED;
        break;
    case MP_HAL_HOST:
    case MP_HAL_HOST_AGENT:
    case MP_HAL_HOST_UVA:
        memory.kind = MP_MEMORY_PINNED;
        memory.device = -1;
        break;
    case MP_HAL_RESERVE:
        memory.none = true;
        break;
    default: /* MP_HAL_DEV, MP_HAL_DVPP, and what later drivers add */
        break;
    }
    return memory;
}

/* Of halMemCreate, whose flag is another one. NULL: nothing is known. */
static struct mp_hal_memory mp_hal_memory_of_prop(const struct drv_mem_prop *prop) {
    struct mp_hal_memory memory = {.device = -1, .kind = MP_MEMORY_DEVICE};
    if (prop == NULL)
        return memory;
    memory.page =
        prop->pg_type <= MP_HAL_PAGE_GIANT ? (enum hal_page)prop->pg_type : MP_HAL_PAGE_NORMAL;
    memory.traits = traits_of(memory.page, prop->module_id) | MP_TRAIT_CREATED;
    if (prop->side == MP_HAL_SIDE_DEVICE)
        memory.device = (int)prop->devid;
    else
        memory.kind = MP_MEMORY_PINNED;
    return memory;
}

/* Device memory used for `bytes`: whole pages. */
static uint64_t mp_hal_taken_bytes(uint64_t bytes, enum hal_page page) {
    static const unsigned shift[] = {
        [MP_HAL_PAGE_NORMAL] = 12, [MP_HAL_PAGE_HUGE] = 21, [MP_HAL_PAGE_GIANT] = 30};
    uint64_t rest = ((uint64_t)1 << shift[page]) - 1;
    return bytes > UINT64_MAX - rest ? bytes : (bytes + rest) & ~rest;
}

static uint32_t domain_of(struct mp_hal_memory memory) {
    if (memory.none)
        return MP_DOMAIN_IGNORED;
    if (memory.device >= 0)
        mp_store_relaxed(&last_device, memory.device);
    return mp_domain_intern("hal", memory.device, memory.kind);
}

/* A device as a container; 0 is none. */
static uint64_t container_of(struct mp_hal_memory memory) {
    return memory.device >= 0 ? (uint64_t)memory.device + 1 : 0;
}

#define MP_HAL_BLOCK(memory, bytes)                                                                \
    .domain = domain_of(memory), .container = container_of(memory), .asked_bytes = (bytes),        \
    .taken_bytes = mp_hal_taken_bytes((bytes), (memory).page), .traits = (memory).traits

/* Host memory that a device may read becomes page-locked; device memory that the host may read is
 * no more memory. */
static struct mp_hal_memory mp_hal_registered(unsigned int flag) {
    unsigned int type = flag & 0xff;
    return (struct mp_hal_memory){.device = -1,
                                  .kind = MP_MEMORY_PINNED,
                                  .none = type == MP_HAL_DEV_SVM_MAP_HOST ||
                                          type == MP_HAL_DEV_MEM_MAP_HOST};
}

/* A range may be registered for each device. */
static uint64_t mp_hal_registration(const void *start, unsigned int device) {
    return MP_ADDRESS(start) ^ (uint64_t)device << 52;
}

static void mp_hal_device_closed(uint32_t device, const halDevCloseIn *in) {
    if (in != NULL && in->close_type == MP_HAL_CLOSE_HOST_USER)
        return;
    mp_device_drop_container(MP_SPACE_HAL_POINTER, (uint64_t)device + 1);
    mp_physical_drop(MP_SPACE_HAL_HANDLE, (uint64_t)device + 1);
}

#define ASKED(ROW) ROW(DVresult, halMemGetInfo, (DVdevice, unsigned int, struct MemInfo *))
ASKED(MP_ASKED_ROW)

/* At the tail of the outermost wrapper: when the last answer is old enough, ask the driver for the use of the last
 * device. Nothing where the driver itself called the wrapper. */
static void ask_totals(const struct mp_device_scope *scope) {
    mp_fn_halMemGetInfo *ask = MP_REAL(halMemGetInfo);
    if (ask == NULL || mp_device_scope_nested(scope) ||
        mp_device_is_driver(&mp_row_halMemGetInfo, scope->caller.pc))
        return;
    int device = mp_load_relaxed(&last_device);
    uint32_t domain = mp_domain_intern("hal", device, MP_MEMORY_DEVICE);
    if (domain == MP_DOMAIN_NONE || !mp_device_actual_due(domain))
        return;
    static const unsigned types[] = {MP_HAL_INFO_HBM, MP_HAL_INFO_DDR};
    for (unsigned i = 0; i < 2; i++) {
        struct MemInfo info = {0};
        if (ask((DVdevice)device, types[i], &info) != 0)
            continue;
        uint64_t total = (uint64_t)info.phy_info.total + info.phy_info.huge_total;
        uint64_t free = (uint64_t)info.phy_info.free + info.phy_info.huge_free;
        if (total == 0 || free > total)
            continue;
        mp_device_actual(domain, total - free, total);
        break;
    }
}

/* clang-format off */
#define MP_HAL_ALLOC_ROWS(ROW) \
    ROW(allocate, drvError_t, halMemAlloc, MP_ARG3(void **, pp, unsigned long long, size, \
        unsigned long long, flag), MP_HAL_BLOCK(mp_hal_memory_of_flag(flag), size), \
        MP_FROM(HAL_POINTER, pp)) \
    ROW(allocate, drvError_t, halMemAllocInner, MP_ARG3(void **, pp, unsigned long long, size, \
        unsigned long long, flag), MP_HAL_BLOCK(mp_hal_memory_of_flag(flag), size), \
        MP_FROM(HAL_POINTER, pp)) \
    ROW(free, drvError_t, halMemFree, MP_ARG1(void *, pp), MP_OF(HAL_POINTER, pp)) \
    ROW(free, drvError_t, halMemFreeInner, MP_ARG1(void *, pp), MP_OF(HAL_POINTER, pp)) \
    ROW(allocate, drvError_t, halHostRegister, MP_ARG5(void *, src_ptr, unsigned long long, size, \
        unsigned int, flag, unsigned int, devid, void **, dst_ptr), \
        MP_HAL_BLOCK(mp_hal_registered(flag), size), .space = MP_SPACE_HAL_REGISTERED, \
        .address = mp_hal_registration(src_ptr, devid)) \
    ROW(free, drvError_t, halHostUnregister, MP_ARG2(void *, src_ptr, unsigned int, devid), \
        .space = MP_SPACE_HAL_REGISTERED, .address = mp_hal_registration(src_ptr, devid)) \
    ROW(free, drvError_t, halHostUnregisterEx, MP_ARG3(void *, src_ptr, unsigned int, devid, \
        unsigned int, flag), .space = MP_SPACE_HAL_REGISTERED, \
        .address = mp_hal_registration(src_ptr, devid))

#define MP_HAL_PHYSICAL_ROWS(ROW) \
    ROW(create, drvError_t, halMemCreate, MP_ARG4(drv_mem_handle_t **, handle, size_t, size, \
        const struct drv_mem_prop *, prop, uint64_t, flag), \
        MP_HAL_BLOCK(mp_hal_memory_of_prop(prop), size), MP_FROM(HAL_HANDLE, handle)) \
    ROW(release, drvError_t, halMemRelease, MP_ARG1(drv_mem_handle_t *, handle), \
        MP_OF(HAL_HANDLE, handle)) \
    ROW(retain, drvError_t, halMemRetainAllocationHandle, MP_ARG2(drv_mem_handle_t **, handle, \
        void *, ptr), MP_FROM(HAL_HANDLE, handle), .container = MP_ADDRESS(ptr)) \
    ROW(import, drvError_t, halMemImportFromShareableHandle, MP_ARG3(uint64_t, shareable_handle, \
        uint32_t, devid, drv_mem_handle_t **, handle), MP_FROM(HAL_HANDLE, handle)) \
    ROW(import, drvError_t, halMemImportFromShareableHandleV2, MP_ARG4(int, handle_type, \
        void *, share_handle, uint32_t, devid, drv_mem_handle_t **, handle), \
        MP_FROM(HAL_HANDLE, handle)) \
    ROW(map, drvError_t, halMemMap, MP_ARG5(void *, ptr, size_t, size, size_t, offset, \
        drv_mem_handle_t *, handle, uint64_t, flag), MP_OF(HAL_HANDLE, handle), \
        .container = MP_ADDRESS(ptr), .asked_bytes = size) \
    ROW(unmap, drvError_t, halMemUnmap, MP_ARG1(void *, ptr), MP_OF(HAL_HANDLE, ptr))

#define MP_HAL_OTHER_ROWS(ROW) \
    ROW(name, drvError_t, halMemAddressReserve, MP_ANY5(void **, size_t, size_t, void *, \
        uint64_t)) \
    ROW(name, drvError_t, halMemAddressFree, MP_ANY1(void *)) \
    ROW(name, DVresult, halShmemOpenHandle, MP_ANY2(const char *, DVdeviceptr *)) \
    ROW(name, DVresult, halShmemOpenHandleByDevId, MP_ANY3(DVdevice, const char *, DVdeviceptr *)) \
    ROW(name, DVresult, halShmemOpenHandleV2, MP_ANY4(DVdevice, const char *, DVdeviceptr *, \
        uint64_t)) \
    ROW(name, DVresult, halShmemCloseHandle, MP_ANY1(DVdeviceptr)) \
    ROW(then, drvError_t, halDeviceClose, MP_ARG2(uint32_t, devid, halDevCloseIn *, in), \
        mp_hal_device_closed(devid, in)) \
    ROW(then, drvError_t, drvDeviceClose, MP_ARG1(uint32_t, devId), \
        mp_hal_device_closed(devId, NULL))

#define MP_HAL_ROWS(ROW) MP_HAL_ALLOC_ROWS(ROW) MP_HAL_PHYSICAL_ROWS(ROW) MP_HAL_OTHER_ROWS(ROW)
/* clang-format on */

MP_HAL_ROWS(MP_ROW_WRAPPER)

MP_LIBRARY(hal, MP_BACKEND_HAL, ("libascend_hal.so"),
           MP_HAL_ROWS(MP_ROW_POINTER) ASKED(MP_ASKED_POINTER));

/*
 * Ascend's runtime and ACL name the blocks that the driver counts; the outermost of them names the stack. A call that
 * tries huge pages, gets a refusal and takes small ones succeeds here: no loss.
 */
/* clang-format off */
/* Early releases had rtMalloc without moduleId: the wrapper passes its word on from the register. */
#define MP_RUNTIME_ROWS(ROW) \
    ROW(name, rtError_t, rtMalloc, MP_ANY4(void **, uint64_t, rtMemType_t, const uint16_t)) \
    ROW(name, rtError_t, rtMallocCached, MP_ANY4(void **, uint64_t, rtMemType_t, const uint16_t)) \
    ROW(name, rtError_t, rtFree, MP_ANY1(void *)) \
    ROW(name, rtError_t, rtFreeWithDevSync, MP_ANY1(void *)) \
    ROW(name, rtError_t, rtDvppMalloc, MP_ANY3(void **, uint64_t, const uint16_t)) \
    ROW(name, rtError_t, rtDvppFree, MP_ANY1(void *)) \
    ROW(name, rtError_t, rtMallocHost, MP_ANY3(void **, uint64_t, const uint16_t)) \
    ROW(name, rtError_t, rtFreeHost, MP_ANY1(void *)) \
    ROW(name, rtError_t, rtMemAllocManaged, MP_ANY4(void **, uint64_t, uint32_t, const uint16_t)) \
    ROW(name, rtError_t, rtMemFreeManaged, MP_ANY1(void *)) \
    ROW(name, rtError_t, rtMallocHostSharedMemory, MP_ANY2(void *, void *)) \
    ROW(name, rtError_t, rtFreeHostSharedMemory, MP_ANY1(void *)) \
    ROW(name, rtError_t, rtIpcOpenMemory, MP_ANY2(void **, const char *)) \
    ROW(name, rtError_t, rtIpcCloseMemory, MP_ANY1(const void *)) \
    ROW(name, rtError_t, rtMallocPhysical, MP_ANY4(rtDrvMemHandle *, size_t, void *, uint64_t)) \
    ROW(name, rtError_t, rtFreePhysical, MP_ANY1(rtDrvMemHandle)) \
    ROW(name, rtError_t, rtReserveMemAddress, MP_ANY5(void **, size_t, size_t, void *, uint64_t)) \
    ROW(name, rtError_t, rtReleaseMemAddress, MP_ANY1(void *)) \
    ROW(name, rtError_t, rtMapMem, MP_ANY5(void *, size_t, size_t, rtDrvMemHandle, uint64_t)) \
    ROW(name, rtError_t, rtUnmapMem, MP_ANY1(void *))

#define MP_ACL_MALLOC_ROWS(ROW) \
    ROW(name, aclError, aclrtMalloc, MP_ANY3(void **, size_t, aclrtMemMallocPolicy)) \
    ROW(name, aclError, aclrtMallocAlign32, MP_ANY3(void **, size_t, aclrtMemMallocPolicy)) \
    ROW(name, aclError, aclrtMallocCached, MP_ANY3(void **, size_t, aclrtMemMallocPolicy)) \
    ROW(name, aclError, aclrtMallocWithCfg, MP_ANY4(void **, size_t, aclrtMemMallocPolicy, \
        void *)) \
    ROW(name, aclError, aclrtMallocForTaskScheduler, MP_ANY4(void **, size_t, \
        aclrtMemMallocPolicy, void *)) \
    ROW(name, aclError, aclrtFree, MP_ANY1(void *)) \
    ROW(name, aclError, aclrtFreeWithDevSync, MP_ANY1(void *)) \
    ROW(name, aclError, aclrtMallocHost, MP_ANY2(void **, size_t)) \
    ROW(name, aclError, aclrtMallocHostWithCfg, MP_ANY3(void **, uint64_t, void *)) \
    ROW(name, aclError, aclrtFreeHost, MP_ANY1(void *)) \
    ROW(name, aclError, aclrtFreeHostWithDevSync, MP_ANY1(void *)) \
    ROW(name, aclError, aclrtMemAllocManaged, MP_ANY3(void **, uint64_t, uint32_t)) \
    ROW(name, aclError, aclrtHostRegister, MP_ANY4(void *, uint64_t, aclrtHostRegisterType, \
        void **)) \
    ROW(name, aclError, aclrtHostRegisterV2, MP_ANY3(void *, uint64_t, uint32_t)) \
    ROW(name, aclError, aclrtHostUnregister, MP_ANY1(void *)) \
    ROW(name, aclError, aclrtAllocBuf, MP_ANY2(aclrtMbuf *, size_t)) \
    ROW(name, aclError, aclrtFreeBuf, MP_ANY1(aclrtMbuf))

#define MP_ACL_PHYSICAL_ROWS(ROW) \
    ROW(name, aclError, aclrtReserveMemAddress, MP_ANY5(void **, size_t, size_t, void *, \
        uint64_t)) \
    ROW(name, aclError, aclrtReserveMemAddressNoUCMemory, MP_ANY5(void **, size_t, size_t, void *, \
        uint64_t)) \
    ROW(name, aclError, aclrtReleaseMemAddress, MP_ANY1(void *)) \
    ROW(name, aclError, aclrtMallocPhysical, MP_ANY4(aclrtDrvMemHandle *, size_t, const void *, \
        uint64_t)) \
    ROW(name, aclError, aclrtFreePhysical, MP_ANY1(aclrtDrvMemHandle)) \
    ROW(name, aclError, aclrtMapMem, MP_ANY5(void *, size_t, size_t, aclrtDrvMemHandle, uint64_t)) \
    ROW(name, aclError, aclrtUnmapMem, MP_ANY1(void *)) \
    ROW(name, aclError, aclrtMemRetainAllocationHandle, MP_ANY2(void *, aclrtDrvMemHandle *)) \
    ROW(name, aclError, aclrtMemImportFromShareableHandle, MP_ANY3(uint64_t, int32_t, \
        aclrtDrvMemHandle *)) \
    ROW(name, aclError, aclrtMemImportFromShareableHandleV2, MP_ANY4(void *, \
        aclrtMemSharedHandleType, uint64_t, aclrtDrvMemHandle *)) \
    ROW(name, aclError, aclrtIpcMemImportByKey, MP_ANY3(void **, const char *, uint64_t)) \
    ROW(name, aclError, aclrtIpcMemClose, MP_ANY1(const char *))

#define MP_ACL_DEVICE_ROWS(ROW) \
    ROW(name, aclError, aclrtMemPoolCreate, MP_ANY2(aclrtMemPool *, const void *)) \
    ROW(name, aclError, aclrtMemPoolDestroy, MP_ANY1(const aclrtMemPool)) \
    ROW(name, aclError, aclrtMemPoolMallocAsync, MP_ANY4(void **, size_t, aclrtMemPool, \
        aclrtStream)) \
    ROW(name, aclError, aclrtMemPoolFreeAsync, MP_ANY2(void *, aclrtStream)) \
    ROW(name, aclError, aclrtMemPoolTrimTo, MP_ANY2(aclrtMemPool, size_t)) \
    ROW(name, aclError, aclrtResetDevice, MP_ANY1(int32_t)) \
    ROW(name, aclError, aclrtResetDeviceForce, MP_ANY1(int32_t)) \
    ROW(name, aclError, aclrtCreateContext, MP_ANY2(aclrtContext *, int32_t)) \
    ROW(name, aclError, aclrtDestroyContext, MP_ANY1(aclrtContext)) \
    ROW(name, aclError, aclrtCreateStream, MP_ANY1(aclrtStream *)) \
    ROW(name, aclError, aclrtSetDevice, MP_ANY1(int32_t))

#define MP_ACL_ROWS(ROW) \
    MP_ACL_MALLOC_ROWS(ROW) MP_ACL_PHYSICAL_ROWS(ROW) MP_ACL_DEVICE_ROWS(ROW)
/* clang-format on */

MP_RUNTIME_ROWS(MP_ROW_WRAPPER)
MP_ACL_ROWS(MP_ROW_WRAPPER)
MP_LIBRARY(runtime, MP_BACKEND_HAL, ("libruntime.so"), MP_RUNTIME_ROWS(MP_ROW_POINTER));
MP_LIBRARY(acl, MP_BACKEND_HAL, ("libascendcl.so", "libacl_rt.so"), MP_ACL_ROWS(MP_ROW_POINTER));
