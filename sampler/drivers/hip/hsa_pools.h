/*
 * hsa_pools.h - the device of the memory of an HSA pool or region.
 *
 * Model: HSA numbers nothing; agents come in the runtime's own order, and the GPUs among them are the
 * devices 0, 1, ... as HIP counts them. We list the pools and regions of all agents once, and again at
 * the first unknown one.
 *
 * Threads: HOOK; any number at a time, each may find out the same.
 */
#ifndef MP_HSA_POOLS_H
#define MP_HSA_POOLS_H

#include "drivers/backend.h"
#include "hip_abi.h"

/* Rows of functions that we call and do not wrap: for the table of libhsa-runtime64. */
extern struct mp_device_row mp_hsa_row_agents, mp_hsa_row_info, mp_hsa_row_pools,
    mp_hsa_row_regions;

/* Ordinal of the GPU that a pool or region belongs to; -1: host memory, or not known. */
int mp_hsa_device_of(uint64_t pool);

#endif
