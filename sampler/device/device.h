/*
 * device.h - a block of device memory, from a driver's wrapper into the segment.
 *
 * Model: every kind of memory of every device is a domain, a row of the segment with a name ("cuda-0",
 * "hal-1-managed", "cuda-pinned", "pool-<name>") and a rate of its own. A wrapper calls the driver and
 * then mp_device_alloc(); before a driver's free it calls mp_device_take(), and mp_device_put_back() when
 * the driver refused. The sampler chooses each block by itself with the chance 1 - exp(-size / T): blocks
 * are few and calls slow, so no thread keeps a countdown for them.
 *
 * The key of a block is (space, address): an address is a pointer or a handle, and a space says of what
 * kind, so equal numbers in two spaces are two blocks. A block counts its owners: mp_device_retain() adds
 * one, each take removes one, the last one frees.
 *
 * Threads: all functions are HOOK: no lock, no allocation, no loader call, errno preserved. The segment
 * counts failures; the caller never gets one. Sites work as those of malloc (core/sites.h): writers add
 * to the counts of blocks last, with release.
 */
#ifndef MP_DEVICE_H
#define MP_DEVICE_H

#include "abi/segment.h" /* enum mp_memory_kind, enum mp_mark_kind */
#include "unwind/unwind.h"

/* Name spaces of addresses; a backend takes the ones it needs. Bit 6 of none is set. */
enum mp_address_space {
    MP_SPACE_HAL_POINTER = 1,
    MP_SPACE_HAL_HANDLE,
    MP_SPACE_CUDA_POINTER,
    MP_SPACE_CUDA_HANDLE,
    MP_SPACE_CUDA_ARRAY,
    MP_SPACE_HIP_POINTER,
    MP_SPACE_HIP_HANDLE,
    MP_SPACE_OPENCL_OBJECT,
    MP_SPACE_OPENCL_POINTER,
    MP_SPACE_VULKAN_MEMORY,
    MP_SPACE_ZE_POINTER,
    MP_SPACE_ZE_HANDLE,
    MP_SPACE_POOL, /* which pool: the bits of its addresses from MP_POOL_SHIFT on */
    MP_SPACE_HAL_REGISTERED, /* host ranges: blocks beside the ranges' own */
    MP_SPACE_CUDA_REGISTERED,
    MP_SPACE_HIP_REGISTERED,
    MP_SPACE_HIP_POOLED,
    MP_SPACE_ZE_IMAGE,
    MP_SPACE_HOST, /* mappings: device_ranges.h */
    MP_SPACE_HOST_KEPT, /* parts of mappings that a call is moving or replacing */
    MP_SPACE_HEAP, /* its domain: the bits from MP_POOL_SHIFT on */
    MP_SPACES,
};

#define MP_POOL_SHIFT 57 /* no address of a program has so high a bit */

/* Mappings of the process's own memory: each is recorded, at any rate. */
static inline bool mp_kind_is_mapped(uint32_t kind) {
    return kind >= MP_MEMORY_MAPPED && kind <= MP_MEMORY_MAPPED_STACK;
}

/* Blocks that an allocator of the program reports: heaps.h. */
static inline bool mp_kind_is_heap(uint32_t kind) {
    return kind >= MP_MEMORY_HEAP && kind <= MP_MEMORY_HEAP_OWN_EXACT;
}

#define MP_DOMAIN_NONE 0u /* the host's number: no device block is ever there */
/* a block or refusal that needs no record, and is no loss */
#define MP_DOMAIN_IGNORED UINT32_MAX

/*
 * The domain of a memory kind of a device; made at the first call with these arguments. `family` is a short
 * text ("cuda"; of a pool, its name); device < 0: the memory belongs to no single device. MP_DOMAIN_NONE
 * when no capture runs or the table is full. Ask each time: a child of fork has other numbers.
 */
uint32_t mp_domain_intern(const char *family, int device, enum mp_memory_kind kind);

struct mp_device_block {
    uint32_t domain;
    uint32_t space; /* enum mp_address_space */
    uint32_t traits; /* enum mp_block_trait; 0: nothing is known */
    uint32_t node;   /* of the live row */
    uint64_t address;
    uint64_t container;   /* context, device or pool whose destruction frees the block; 0: none */
    uint64_t asked_bytes; /* requested size: decides the sampling */
    uint64_t taken_bytes; /* device memory used for it; 0: unknown */
    uintptr_t api_pc;     /* first byte of the wrapper that names the API: frame 0 */
    struct mp_frame caller;
};

/* A block was allocated. */
void mp_device_alloc(const struct mp_device_block *block);

/* The same for a block that is a sample: the caller decided. False: it got no row. */
bool mp_device_alloc_sampled(const struct mp_device_block *block);

/* The driver refused: counted with size and stack. `address` is ignored. */
void mp_device_fail(const struct mp_device_block *block);

/* What mp_device_take() removed. */
struct mp_device_taken {
    uint64_t opaque[10];
    bool found;
};

/* The driver is about to free (or drop one owner of) the block. */
void mp_device_take(uint32_t space, uint64_t address, struct mp_device_taken *taken);

/* The driver refused to: undo the take. */
void mp_device_put_back(const struct mp_device_taken *taken);

/* One more owner of a known block (cuMemRetainAllocationHandle...). False: the block is not known. */
bool mp_device_retain(uint32_t space, uint64_t address);

/* The end of a context, device or pool: frees its blocks of that space. Returns how many. */
uint32_t mp_device_drop_container(uint32_t space, uint64_t container);

/* True when a wrapper may ask the driver for used and total bytes: at most every 100 ms, while a capture
 * runs. */
bool mp_device_actual_due(uint32_t domain);

/* Used and total bytes of a device, reported by its driver; stored with the domain. */
void mp_device_actual(uint32_t domain, uint64_t used_bytes, uint64_t total_bytes);

/* Bytes that a pool holds, used or not (MP_MEMORY_POOL); `delta` may be negative. */
void mp_device_reserved(uint32_t domain, int64_t delta);

/* The state of a backend (enum mp_backend, below MP_BACKEND_ROWS), to explain a file without blocks of it. */
void mp_device_backend_seen(unsigned backend, bool asked, bool loaded);
void mp_device_backend_call(unsigned backend);

#define MP_STEP_MESSAGE "step start" /* of a range: a step of the program */

/* Has a range of this process begun a step? */
bool mp_mark_steps(void);

/* In a fork child: it has begun none. */
void mp_mark_after_fork(void);

/* A mark of the program: adds time and thread, cuts `text` at MP_MARK_TEXT_BYTES. */
void mp_mark_add(enum mp_mark_kind kind, uint64_t id, const char *domain, const char *text);

#endif
