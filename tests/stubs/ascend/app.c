/*
 * app.c - a program on Ascend (../app.h).
 *
 * Lines: malloc R SIZE | align32 R SIZE | free R | rtmalloc R SIZE | rtfree R | host R SIZE | freehost R | managed R SIZE |
 * hal R SIZE FLAG | halfree R | reserve R SIZE | addrfree R | physical R SIZE DEVICE | create R SIZE SIDE DEVICE |
 * release R | retain R MAPPED | import R SIZE | map ADDRESS SIZE HANDLE | unmap ADDRESS | register R SIZE |
 * unregister R | sample DEVICE | set DEVICE | reset DEVICE
 */
#include "ascend.h"

/* clang-format off */
#define FUNCTIONS(X) \
    X(halMemAlloc) X(halMemFree) X(aclrtMalloc) X(aclrtMallocAlign32) X(aclrtFree) X(rtMalloc) X(rtFree) \
    X(aclrtMallocHost) X(aclrtFreeHost) X(aclrtMemAllocManaged) X(aclrtReserveMemAddress) \
    X(aclrtReleaseMemAddress) X(aclrtMallocPhysical) X(halMemCreate) X(halMemRelease) \
    X(halMemRetainAllocationHandle) X(halMemImportFromShareableHandle) X(halMemMap) X(halMemUnmap) \
    X(halHostRegister) X(halHostUnregister) X(prof_sample_start) X(aclrtSetDevice) X(aclrtResetDevice)
/* clang-format on */

#ifdef LINKED
#pragma weak halMemCreate
#pragma weak halMemRelease
#pragma weak halMemRetainAllocationHandle
#pragma weak halMemImportFromShareableHandle
#pragma weak halMemMap
#pragma weak halMemUnmap
#endif

#include "../app.h"

static int once(void) {
    void *p = NULL;
    return api.halMemAlloc(&p, 4096, MEM_DEV | MEM_TYPE_HBM) != DRV_ERROR_NONE ||
           api.halMemFree(p) != DRV_ERROR_NONE;
}

/* Whoever calls a driver for blocks is this function. */
static int allocate(const char *word, unsigned long long *a) {
    WORD(malloc, CALL(aclrtMalloc, OUT(a[0]), a[1], ACL_MEM_MALLOC_HUGE_FIRST))
    WORD(align32, CALL(aclrtMallocAlign32, OUT(a[0]), a[1], ACL_MEM_MALLOC_HUGE_FIRST))
    WORD(rtmalloc, CALL(rtMalloc, OUT(a[0]), a[1], RT_MEMORY_HBM, APP_MODULE_ID))
    WORD(host, CALL(aclrtMallocHost, OUT(a[0]), a[1]))
    WORD(managed, CALL(aclrtMemAllocManaged, OUT(a[0]), a[1], 0))
    WORD(hal, CALL(halMemAlloc, OUT(a[0]), a[1], a[2]))
    return NO_WORD;
}

static int physical(const char *word, unsigned long long *a) {
    aclrtPhysicalMemProp of_acl = {.location = {.id = (uint32_t)a[2], .type = 1}};
    struct drv_mem_prop prop = {.side = (uint32_t)a[2], .devid = (uint32_t)a[3], .pg_type = 1};
    WORD(reserve, CALL(aclrtReserveMemAddress, OUT(a[0]), a[1], 0, NULL, 0))
    WORD(addrfree, CALL(aclrtReleaseMemAddress, AT(a[0])))
    WORD(physical, CALL(aclrtMallocPhysical, OUT(a[0]), a[1], &of_acl, 0))
    WORD(create, CALL(halMemCreate, OUT(a[0]), a[1], &prop, 0))
    WORD(release, CALL(halMemRelease, AT(a[0])))
    WORD(retain, CALL(halMemRetainAllocationHandle, OUT(a[0]), AT(a[1])))
    WORD(import, CALL(halMemImportFromShareableHandle, a[1], 0, OUT(a[0])))
    WORD(map, CALL(halMemMap, AT(a[0]), a[1], 0, AT(a[2]), 0))
    WORD(unmap, CALL(halMemUnmap, AT(a[0])))
    return NO_WORD;
}

static int enroll(unsigned long long *a) {
    void *unused;
    R(a[0]) = (uintptr_t)calloc(1, a[1]);
    return CALL(halHostRegister, AT(a[0]), a[1], HOST_MEM_MAP_DEV, 0, &unused);
}

static int obey(const char *word, unsigned long long *a) {
    int rc = allocate(word, a);
    if (rc == NO_WORD)
        rc = physical(word, a);
    if (rc != NO_WORD)
        return rc;
    WORD(free, CALL(aclrtFree, AT(a[0])))
    WORD(rtfree, CALL(rtFree, AT(a[0])))
    WORD(freehost, CALL(aclrtFreeHost, AT(a[0])))
    WORD(halfree, CALL(halMemFree, AT(a[0])))
    WORD(register, enroll(a))
    WORD(unregister, CALL(halHostUnregister, AT(a[0]), 0))
    WORD(sample, CALL(prof_sample_start, (uint32_t)a[0]))
    WORD(set, CALL(aclrtSetDevice, (int32_t)a[0]))
    WORD(reset, CALL(aclrtResetDevice, (int32_t)a[0]))
    return NO_WORD;
}

int main(int argc, char **argv) {
    int rc = bind_functions(argc, argv);
    return rc != 0 ? rc : run_lines();
}
