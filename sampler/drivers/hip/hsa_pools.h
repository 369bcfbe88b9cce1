/*
 * hsa_pools.h - on which device the memory of an HSA pool or region lies.
 *
 * Model: HSA numbers nothing; agents come in the runtime's own order, and the GPUs among them are the devices
 * 0, 1, ... as HIP counts them. The pools and regions of all agents are asked for once, and again when one
 * is met that was not known.
 *
 * Threads: HOOK; any number at a time, each may find out the same.
 */
#ifndef MP_HSA_POOLS_H
#define MP_HSA_POOLS_H

#include "drivers/backend.h"
#include "hip_abi.h"

/* Rows of functions that are called, not wrapped: for the table of libhsa-runtime64. */
extern struct mp_device_row mp_hsa_row_agents, mp_hsa_row_info, mp_hsa_row_pools,
    mp_hsa_row_regions;

/* Ordinal of the GPU that a pool or region belongs to; -1: host memory, or not known. */
int mp_hsa_device_of(uint64_t pool);

#endif
