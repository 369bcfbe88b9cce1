/*
 * hal_flags.h - the flag word of halMemAlloc and the properties of halMemCreate, decoded.
 */
#ifndef MP_HAL_FLAGS_H
#define MP_HAL_FLAGS_H

#include "device/device.h"
#include "hal_abi.h"

struct mp_hal_memory {
    int device;               /* -1: of no device */
    enum mp_memory_kind kind;
    enum hal_page page;
    bool none;                /* only addresses are reserved: no memory */
    uint32_t traits;          /* enum mp_block_trait */
};

/* HOOK. Of halMemAlloc: bits 0..9 device, 10..13 virtual type, 17 huge and 31 giant pages. */
struct mp_hal_memory mp_hal_memory_of_flag(uint64_t flag);

/* HOOK. Of halMemCreate, whose flag is another one. NULL: nothing is known. */
struct mp_hal_memory mp_hal_memory_of_prop(const struct drv_mem_prop *prop);

/* HOOK. Whole pages: what the device gives for `bytes`. */
uint64_t mp_hal_taken_bytes(uint64_t bytes, enum hal_page page);

#endif
