/*
 * app.c - a program on HIP and HSA (../app.h).
 *
 * Lines: device N | malloc R SIZE | free R | host R SIZE | freehost R | register R SIZE | unregister R | async R SIZE |
 * freeasync R | pool R SIZE POOL | region R SIZE | poolfree R | create R SIZE POOL | release R | reserve R | retain R MAPPED |
 * map ADDRESS SIZE R | unmap ADDRESS SIZE
 */
#include "hip_stub.h"

/* clang-format off */
#define FUNCTIONS(X) \
    X(hipMalloc) X(hipSetDevice) X(hipFree) X(hipHostMalloc) X(hipHostFree) X(hipHostRegister) X(hipHostUnregister) \
    X(hipMallocAsync) X(hipFreeAsync) X(hsa_amd_memory_pool_allocate) X(hsa_memory_allocate) \
    X(hsa_amd_memory_pool_free) X(hsa_amd_vmem_handle_create) X(hsa_amd_vmem_handle_release) \
    X(hsa_amd_vmem_retain_alloc_handle) X(hsa_amd_vmem_map) X(hsa_amd_vmem_unmap)
/* clang-format on */

#include "../app.h"

#define POOL(n) ((hsa_amd_memory_pool_t){n})
#define HANDLE(n) ((hsa_amd_vmem_alloc_handle_t){R(n)})

static int once(void) {
    void *p;
    return api.hsa_amd_memory_pool_allocate(POOL(0x20), 4096, 0, &p) != HSA_STATUS_SUCCESS ||
           api.hsa_amd_memory_pool_free(p) != HSA_STATUS_SUCCESS;
}

static int hip_line(const char *word, unsigned long long *a) {
    WORD(device, CALL(hipSetDevice, (int)a[0]))
    WORD(malloc, CALL(hipMalloc, OUT(a[0]), a[1]))
    WORD(free, CALL(hipFree, AT(a[0])))
    WORD(host, CALL(hipHostMalloc, OUT(a[0]), a[1], 0))
    WORD(freehost, CALL(hipHostFree, AT(a[0])))
    WORD(register, CALL(hipHostRegister, (void *)(R(a[0]) = 0x5000000 + a[0] * 0x10000), a[1], 0))
    WORD(unregister, CALL(hipHostUnregister, AT(a[0])))
    WORD(async, CALL(hipMallocAsync, OUT(a[0]), a[1], NULL))
    WORD(freeasync, CALL(hipFreeAsync, AT(a[0]), NULL))
    return NO_WORD;
}

static int obey(const char *word, unsigned long long *a) {
    int rc = hip_line(word, a);
    if (rc != NO_WORD)
        return rc;
    WORD(pool, CALL(hsa_amd_memory_pool_allocate, POOL(a[2]), a[1], 0, OUT(a[0])))
    WORD(region, CALL(hsa_memory_allocate, (hsa_region_t){0x40}, a[1], OUT(a[0])))
    WORD(poolfree, CALL(hsa_amd_memory_pool_free, AT(a[0])))
    WORD(create, CALL(hsa_amd_vmem_handle_create, POOL(a[2]), a[1], 0, 0, OUT(a[0])))
    WORD(release, CALL(hsa_amd_vmem_handle_release, HANDLE(a[0])))
    WORD(reserve, (R(a[0]) = 0x600000000 + a[0] * 0x10000000, 0))
    WORD(retain, CALL(hsa_amd_vmem_retain_alloc_handle, OUT(a[0]), AT(a[1])))
    WORD(map, CALL(hsa_amd_vmem_map, AT(a[0]), a[1], 0, HANDLE(a[2]), 0))
    WORD(unmap, CALL(hsa_amd_vmem_unmap, AT(a[0]), a[1]))
    return NO_WORD;
}

int main(int argc, char **argv) {
    int rc = bind_functions(argc, argv);
    return rc != 0 ? rc : run_lines();
}
