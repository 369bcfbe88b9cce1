/*
 * hal_flags.c - see hal_flags.h.
 */
#include "hal_flags.h"

static uint32_t traits_of(enum hal_page page, uint32_t module) {
    return MP_TRAIT_KNOWN | (uint32_t)page | (module & 0xff) << MP_TRAIT_MODULE_SHIFT;
}

struct mp_hal_memory mp_hal_memory_of_flag(uint64_t flag) {
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

struct mp_hal_memory mp_hal_memory_of_prop(const struct drv_mem_prop *prop) {
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

uint64_t mp_hal_taken_bytes(uint64_t bytes, enum hal_page page) {
    static const unsigned shift[] = {
        [MP_HAL_PAGE_NORMAL] = 12, [MP_HAL_PAGE_HUGE] = 21, [MP_HAL_PAGE_GIANT] = 30};
    uint64_t rest = ((uint64_t)1 << shift[page]) - 1;
    return bytes > UINT64_MAX - rest ? bytes : (bytes + rest) & ~rest;
}
