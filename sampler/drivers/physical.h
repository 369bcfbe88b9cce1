/*
 * physical.h - physical device memory, known by a handle and used through the addresses it is
 * mapped at.
 *
 * Model: memory is created under a handle and mapped into a range of addresses that was reserved
 * apart (a reserved range is no memory and is not recorded). The memory lives as long as
 * something refers to it: each reference that a handle holds, and each mapping. So the block in
 * the segment does not bear the handle as its address, since a driver may give a released
 * handle's value to new memory while the old one is still mapped, but a number of ours, and has
 * one owner for each reference and each mapping.
 *
 * Two tables say which number a handle stands for and what is mapped where. They are kept whether a
 * capture runs or not, and whether the block was sampled or not. An entry that finds no room is not
 * recorded: its memory is then never seen freed by that reference.
 *
 * A forked child has no use for its parent's handles; what the tables hold of them does no harm,
 * since their numbers name no block of its own segment.
 *
 * Handles of memory that was imported from another process are unknown here, and so is what
 * happens to them; a handle of our own memory that comes back by an import is one more reference.
 *
 * Threads: HOOK. Calls on one handle or one mapping come one after another, as the drivers demand.
 */
#ifndef MP_PHYSICAL_H
#define MP_PHYSICAL_H

#include "device/device_scope.h"

/* block->address is the handle: gets a number of ours, and the block is recorded under it. */
void mp_physical_create(struct mp_device_scope *scope, struct mp_device_block *block);

/* One reference of a handle is about to be dropped. */
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

/* A device came to its end, and with it all that it held. */
void mp_physical_drop(uint32_t space, uint64_t container);

#endif
