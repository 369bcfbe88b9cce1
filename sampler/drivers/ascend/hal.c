/*
 * hal.c - wrappers of the Ascend driver, libascend_hal.so.
 *
 * A reset of a device frees its memory without calling halMemFree; it ends in halDeviceClose or
 * drvDeviceClose. ACL's reset only counts down until the last user, and is a name here.
 */
#include "hal.h"
#include "hal_flags.h"
#include "hal_rows.h"

#define MP_ROW_BACKEND MP_BACKEND_HAL
#define MP_ROW_FAMILY MP_FAMILY_HAL
#define MP_ROW_OK(rc) ((rc) == 0)
#define MP_ROW_TAIL(scope, row) mp_hal_ask_totals(scope)

static int last_device; /* of the last block */

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

MP_HAL_ROWS(MP_ROW_WRAPPER)

/* Called, not wrapped. */
static struct mp_device_row row_info = {.symbol = "halMemGetInfo"};

static struct mp_device_row *const rows[] = {MP_HAL_ROWS(MP_ROW_POINTER) & row_info, NULL};
static const char *const sonames[] = {"libascend_hal.so", NULL};
const struct mp_device_library mp_library_hal = {MP_BACKEND_HAL, sonames, rows};

void mp_hal_ask_totals(const struct mp_device_scope *scope) {
    typedef DVresult get_info(DVdevice device, unsigned int type, struct MemInfo *info);
    get_info *ask = (get_info *)mp_row_real(&row_info);
    if (ask == NULL || mp_device_scope_nested(scope) ||
        mp_device_is_driver(&row_info, scope->caller.pc))
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
