/*
 * device_segment.h - a segment for tests of device memory, without a driver: made, captured into, summed up.
 */
#ifndef DEVICE_SEGMENT_H
#define DEVICE_SEGMENT_H

#include "check.h"
#include "check_tables.h"
#include "core/local.h"
#include "core/sites.h"
#include "device/device.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LIMIT_BYTES (64ULL << 20)
#define SPACE MP_SPACE_CUDA_POINTER

static inline void *find_symbol(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

static inline void begin_capture(uint32_t number, uint64_t rate_bytes) {
    struct mp_control *c = mp_local.segment.control;
    struct mp_capture *slot = &c->capture[number & 1];
    slot->number = number;
    slot->deadline_ns = UINT64_MAX;
    c->device_rate_bytes[number & 1] = rate_bytes;
    mp_store_release(&c->capture_number, number);
    mp_store_release(&c->gate, (int64_t)number << MP_GATE_SHIFT);
}

static inline void end_capture(void) {
    mp_store_release(&mp_local.segment.control->gate, MP_GATE_OFF);
}

/* `fd` -1: in memory only. */
static inline void open_segment_in(int fd, uint64_t limit_bytes) {
    void *base = mmap(NULL, limit_bytes, PROT_READ | PROT_WRITE,
                      MAP_SHARED | (fd < 0 ? MAP_ANONYMOUS : 0), fd, 0);
    struct mp_control *control = base;
    control->magic = MP_SEGMENT_MAGIC;
    control->version = MP_SEGMENT_VERSION;
    control->header_bytes = sizeof *control;
    control->limit_bytes = limit_bytes;
    control->page_bytes = 4096;
    control->gate = MP_GATE_OFF;
    mp_segment_layout(control);
    mp_segment_attach(&mp_local.segment, base, control);
    CHECK_EQ(mp_segment_reserve_first(&mp_local.segment, -1), 0);
    mp_local.seed = 12345;
    mp_local.gate_offset = (const char *)&control->gate - (const char *)&mp_gate_off;
}

static inline void open_segment(uint64_t limit_bytes) {
    open_segment_in(-1, limit_bytes);
}

static inline void close_segment(void) {
    mp_check_segment(&mp_local.segment);
    munmap(mp_local.segment.base, mp_local.segment.control->limit_bytes);
    mp_local.segment = (struct mp_segment){0};
    mp_local.gate_offset = 0;
}

/* Sums of a domain's sites in one capture; domain 0: of all. */
static inline struct mp_device_site_row sums(uint32_t domain, uint32_t capture) {
    struct mp_segment *seg = &mp_local.segment;
    struct mp_device_site_row total = {0};
    uint32_t ready = mp_table_ready(&seg->layout.device_sites, &seg->control->device_sites);
    for (uint32_t i = 0; i <= ready; i++) {
        const struct mp_level *level =
            i < ready ? &seg->layout.device_sites.level[i] : &seg->layout.device_lost_sites;
        if (i == ready && seg->control->device_lost_sites.reserved_bytes == 0)
            break;
        for (uint32_t row = 0; row < level->rows; row++) {
            uint64_t key = mp_load_acquire(&mp_level_keys(seg, level)[row]);
            const struct mp_device_site_row *site = mp_level_row(seg, level, row);
            if (key == 0 || mp_key_capture(key) != capture ||
                (domain != 0 && ((key >> MP_KEY_DOMAIN_SHIFT) & 63) != domain))
                continue;
            total.alloc_blocks += mp_births_blocks(site->alloc_blocks);
            total.alloc_bytes += site->alloc_bytes;
            total.alloc_taken_bytes += site->alloc_taken_bytes;
            total.freed_blocks += site->freed_blocks;
            total.freed_bytes += site->freed_bytes;
            total.freed_taken_bytes += site->freed_taken_bytes;
            total.failed_blocks += site->failed_blocks;
            total.failed_bytes += site->failed_bytes;
            total.births[0] += site->births[0];
        }
    }
    return total;
}

static inline uint64_t live_rows(void) {
    struct mp_segment *seg = &mp_local.segment;
    uint64_t live = 0;
    for (uint32_t i = 0; i < mp_table_ready(&seg->layout.device_live, &seg->control->device_live);
         i++) {
        const struct mp_level *level = &seg->layout.device_live.level[i];
        for (uint32_t row = 0; row < level->rows; row++) {
            const struct mp_device_live_row *block = mp_level_row(seg, level, row);
            live += mp_level_keys(seg, level)[row] != 0 && (uint32_t)block->state != 0;
        }
    }
    return live;
}

static __attribute__((noinline, unused)) void alloc_block(uint32_t domain, uint32_t space,
                                                          uint64_t address, uint64_t container,
                                                          uint64_t asked, uint64_t taken) {
    struct mp_device_block block = {.domain = domain,
                                    .space = space,
                                    .address = address,
                                    .container = container,
                                    .asked_bytes = asked,
                                    .taken_bytes = taken,
                                    .api_pc = (uintptr_t)alloc_block};
    MP_CALLER(block.caller);
    mp_device_alloc(&block);
}

static __attribute__((noinline, unused)) void fail_block(uint32_t domain, uint64_t asked) {
    struct mp_device_block block = {
        .domain = domain, .asked_bytes = asked, .api_pc = (uintptr_t)fail_block};
    MP_CALLER(block.caller);
    mp_device_fail(&block);
}

static inline bool free_block(uint32_t space, uint64_t address) {
    struct mp_device_taken taken;
    mp_device_take(space, address, &taken);
    return taken.found;
}

static inline void start_unwinder(void) {
    struct mp_unwind_config config = {.mode = MP_UNWIND_CFI, .find_symbol = find_symbol};
    CHECK_EQ(mp_unwind_init(&config), 0);
}

#endif
