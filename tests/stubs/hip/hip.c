/*
 * hip.c - a stub of HIP, libamdhip64.so.6, with its symbol versions, over the stub of HSA.
 *
 * As the real one it keeps a cache: small blocks of a device are cut from chunks of 1 MiB that are never given
 * back, and so is what is stream-ordered. Its own table of memory (../memory.h) holds what HSA does not see.
 */
#include "../memory.h"
#include "hip_stub.h"

#define CHUNK (1u << 20)

enum kind { REGISTERED = 1, POOLED };

static const hsa_amd_memory_pool_t host_pool = {0x10}, device_pools[] = {{0x20}, {0x30}};
static __thread int device;
static struct {
    char *at;
    size_t left;
} chunks[STUB_DEVICES];

static hipError_t error_of(hsa_status_t rc) {
    return rc == HSA_STATUS_SUCCESS                  ? hipSuccess
           : rc == HSA_STATUS_ERROR_OUT_OF_RESOURCES ? hipErrorOutOfMemory
                                                     : hipErrorInvalidValue;
}

static hipError_t cut(void **ptr, size_t size) {
    size = (size + 255) & ~255ul;
    if (chunks[device].left < size) {
        void *chunk;
        hsa_status_t rc = hsa_amd_memory_pool_allocate(device_pools[device], CHUNK, 0, &chunk);
        if (rc != HSA_STATUS_SUCCESS)
            return error_of(rc);
        chunks[device].at = chunk;
        chunks[device].left = CHUNK;
    }
    *ptr = chunks[device].at;
    chunks[device].at += size;
    chunks[device].left -= size;
    return hipSuccess;
}

static hipError_t note(enum kind kind, const char *domain, const char *function, void *ptr,
                       size_t size) {
    struct stub_block block = {
        .kind = (int)kind, .device = -1, .key = (uintptr_t)ptr, .bytes = size};
    strcpy(block.domain, domain);
    return stub_give(&block, function, false, size, NULL) ? hipSuccess : hipErrorOutOfMemory;
}

hipError_t hipSetDevice(int id) {
    device = id;
    return hipSuccess;
}

hipError_t hipGetDevice(int *id) {
    *id = device;
    return hipSuccess;
}

hipError_t hipMemGetInfo(size_t *free_bytes, size_t *total) {
    *free_bytes = 40u << 20;
    *total = 64u << 20;
    return hipSuccess;
}

hipError_t hipMalloc(void **ptr, size_t size) {
    if (size < CHUNK)
        return cut(ptr, size);
    return error_of(hsa_amd_memory_pool_allocate(device_pools[device], size, 0, ptr));
}

hipError_t hipFree(void *ptr) {
    hsa_amd_memory_pool_free(ptr); /* what was cut from a chunk stays there */
    return hipSuccess;
}

hipError_t hipHostMalloc(void **ptr, size_t size, unsigned int flags) {
    return error_of(hsa_amd_memory_pool_allocate(host_pool, size, 0, ptr));
}

hipError_t hipHostFree(void *ptr) {
    return error_of(hsa_amd_memory_pool_free(ptr));
}

hipError_t hipHostRegister(void *ptr, size_t size, unsigned int flags) {
    return note(REGISTERED, "hip-pinned", "hipHostRegister", ptr, size);
}

hipError_t hipHostUnregister(void *ptr) {
    return stub_take(REGISTERED, (uintptr_t)ptr, false) ? hipSuccess : hipErrorInvalidValue;
}

hipError_t hipMallocAsync(void **ptr, size_t size, hipStream_t stream) {
    hipError_t rc = cut(ptr, size);
    return rc == hipSuccess ? note(POOLED, "pool-hip", "hipMallocAsync", *ptr, size) : rc;
}

hipError_t hipFreeAsync(void *ptr, hipStream_t stream) {
    return stub_take(POOLED, (uintptr_t)ptr, STUB_FAILS("hipFreeAsync")) ? hipSuccess
                                                                         : hipErrorInvalidValue;
}
