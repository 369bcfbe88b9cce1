/*
 * physical.h - physical device memory, which has a handle, and addresses through its mappings.
 *
 * Model: a program creates memory under a handle and maps it into a range of addresses that it reserved
 * before (a reserved range is not memory and gets no record). The memory is live while anything
 * refers to it: each reference that a handle holds, and each mapping. A driver may give a released
 * handle's value to new memory while the old one is still mapped; so the address of the block in
 * the segment is not the handle but a number of ours, and the block has one owner for each
 * reference and each mapping.
 *
 * Two tables hold the number of each handle and the mappings. They exist with and without a capture, and
 * for blocks with and without a sample. An entry that finds no room has no record: nobody sees that
 * reference free its memory.
 *
 * A forked child has no use for its parent's handles; their entries in the tables do no harm, since their
 * numbers name no block of its own segment.
 *
 * Handles of memory imported from another process are unknown here, with all their calls; a handle of our
 * own memory that comes back by an import is one more reference.
 *
 * Threads: HOOK. Calls on one handle or one mapping come one after another, as the drivers demand.
 */
#ifndef MP_PHYSICAL_H
#define MP_PHYSICAL_H

#include "device/device_scope.h"

/* block->address is the handle: it gets a number of ours, which is the address of the recorded block. */
void mp_physical_create(struct mp_device_scope *scope, struct mp_device_block *block);

/* A call is about to drop one reference of a handle. */
struct mp_physical_released {
    struct mp_device_taken taken;
    uint32_t space;
    uint64_t handle;
    uint64_t number; /* 0: the handle is unknown */
    uint64_t container;
};
void mp_physical_release(uint32_t space, uint64_t handle, struct mp_physical_released *released);

/* The driver refused to. */
void mp_physical_put_back(const struct mp_physical_released *released);

/* A handle was asked for by an address that is mapped: one more reference, perhaps by a handle of
 * another value. */
void mp_physical_retain(uint32_t space, uint64_t handle, uint64_t mapped);

/* A handle came out of an import. */
void mp_physical_import(uint32_t space, uint64_t handle);

/* Memory was mapped. */
void mp_physical_map(uint32_t space, uint64_t handle, uint64_t address, uint64_t bytes);

/* The range was unmapped; 0 bytes: the one mapping that begins at the address. */
void mp_physical_unmap(uint32_t space, uint64_t address, uint64_t bytes);

/* The end of a device, and of all its memory. */
void mp_physical_drop(uint32_t space, uint64_t container);

#endif
