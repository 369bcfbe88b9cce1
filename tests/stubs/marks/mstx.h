/*
 * mstx.h - the mstx interface as programs include it: header-only, a tool is looked up at the
 * first call.
 *
 * Written from the published headers of mstx: ms_tools_ext.h, ms_tools_ext_mem.h,
 * mstx_detail/mstx_types.h. The state is one per shared object, so that a tool is asked once by
 * each. Nothing of the sampler is included.
 */
#ifndef STUB_MSTX_H
#define STUB_MSTX_H

#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef uint64_t mstxRangeId;
typedef void *aclrtStream;
struct mstxDomainRegistration_st;
typedef struct mstxDomainRegistration_st *mstxDomainHandle_t;
struct mstxMemHeap_st;
typedef struct mstxMemHeap_st *mstxMemHeapHandle_t;
struct mstxMemRegion_st;
typedef struct mstxMemRegion_st *mstxMemRegionHandle_t;

typedef enum mstxMemHeapUsageType {
    MSTX_MEM_HEAP_USAGE_TYPE_SUB_ALLOCATOR = 0
} mstxMemHeapUsageType;
typedef enum mstxMemType { MSTX_MEM_TYPE_VIRTUAL_ADDRESS = 0 } mstxMemType;
typedef enum mstxMemRegionRefType {
    MSTX_MEM_REGION_REF_TYPE_POINTER = 0,
    MSTX_MEM_REGION_REF_TYPE_HANDLE
} mstxMemRegionRefType;

typedef struct mstxMemVirtualRangeDesc_t {
    uint32_t deviceId;
    void const *ptr;
    uint64_t size;
} mstxMemVirtualRangeDesc_t;
typedef struct mstxMemHeapDesc_t {
    mstxMemHeapUsageType usage;
    mstxMemType type;
    void const *typeSpecificDesc;
} mstxMemHeapDesc_t;
typedef struct mstxMemRegionsRegisterBatch_t {
    mstxMemHeapHandle_t heap;
    mstxMemType regionType;
    size_t regionCount;
    void const *regionDescArray;
    mstxMemRegionHandle_t *regionHandleArrayOut;
} mstxMemRegionsRegisterBatch_t;
typedef struct mstxMemRegionRef_t {
    mstxMemRegionRefType refType;
    union {
        void const *pointer;
        mstxMemRegionHandle_t handle;
    };
} mstxMemRegionRef_t;
typedef struct mstxMemRegionsUnregisterBatch_t {
    size_t refCount;
    mstxMemRegionRef_t const *refArray;
} mstxMemRegionsUnregisterBatch_t;

typedef enum {
    MSTX_API_MODULE_INVALID = 0,
    MSTX_API_MODULE_CORE = 1,
    MSTX_API_MODULE_CORE_DOMAIN = 2,
    MSTX_API_MODULE_CORE_MEM = 3,
} mstxFuncModule;
typedef void (*mstxFuncPointer)(void);
typedef mstxFuncPointer **mstxFuncTable;
typedef int (*mstxGetModuleFuncTableFunc)(mstxFuncModule module, mstxFuncTable *outTable,
                                          unsigned int *outSize);
typedef int (*mstxInitInjectionFunc)(mstxGetModuleFuncTableFunc getFuncTable);

static mstxFuncPointer mstx_core[5], mstx_domain[6], mstx_mem[6];
static mstxFuncPointer *mstx_core_slots[] = {NULL, &mstx_core[1], &mstx_core[2], &mstx_core[3],
                                             &mstx_core[4]};
static mstxFuncPointer *mstx_domain_slots[] = {
    NULL, &mstx_domain[1], &mstx_domain[2], &mstx_domain[3], &mstx_domain[4], &mstx_domain[5]};
static mstxFuncPointer *mstx_mem_slots[] = {NULL,         &mstx_mem[1], &mstx_mem[2],
                                            &mstx_mem[3], &mstx_mem[4], &mstx_mem[5]};
static int mstx_asked;

/* STUB_MSTX_OLD: a library from before the memory interface. */
static int mstx_get_table(mstxFuncModule module, mstxFuncTable *table, unsigned int *size) {
    switch (module) {
    case MSTX_API_MODULE_CORE:
        *table = mstx_core_slots;
        *size = 5;
        return 0;
    case MSTX_API_MODULE_CORE_DOMAIN:
        *table = mstx_domain_slots;
        *size = getenv("STUB_MSTX_OLD") != NULL ? 2 : 6;
        return 0;
    case MSTX_API_MODULE_CORE_MEM:
        if (getenv("STUB_MSTX_OLD") != NULL)
            return 1;
        *table = mstx_mem_slots;
        *size = 6;
        return 0;
    default:
        return 1;
    }
}

static inline void mstx_init_once(void) {
    if (mstx_asked)
        return;
    mstx_asked = 1;
    const char *path = getenv("MSTX_INJECTION_PATH");
    void *library = path != NULL ? dlopen(path, RTLD_LAZY | RTLD_LOCAL) : NULL;
    mstxInitInjectionFunc init =
        (mstxInitInjectionFunc)dlsym(path != NULL ? library : NULL, "InitInjectionMstx");
    if (init == NULL || init(mstx_get_table) == 0)
        return;
    for (int i = 0; i < 6; i++)
        mstx_domain[i] = mstx_mem[i] = NULL;
}

#define MSTX_CALL(slot, otherwise, type, ...)                                                      \
    (mstx_init_once(), (slot) != NULL ? ((type)(slot))(__VA_ARGS__) : otherwise)

static inline void mstxMarkA(const char *message, aclrtStream stream) {
    MSTX_CALL(mstx_core[1], (void)0, void (*)(const char *, aclrtStream), message, stream);
}
static inline mstxRangeId mstxRangeStartA(const char *message, aclrtStream stream) {
    return MSTX_CALL(mstx_core[2], 0, mstxRangeId (*)(const char *, aclrtStream), message, stream);
}
static inline void mstxRangeEnd(mstxRangeId id) {
    MSTX_CALL(mstx_core[3], (void)0, void (*)(mstxRangeId), id);
}
static inline mstxDomainHandle_t mstxDomainCreateA(const char *name) {
    return MSTX_CALL(mstx_domain[1], NULL, mstxDomainHandle_t (*)(const char *), name);
}
static inline void mstxDomainMarkA(mstxDomainHandle_t domain, const char *message,
                                   aclrtStream stream) {
    MSTX_CALL(mstx_domain[3], (void)0, void (*)(mstxDomainHandle_t, const char *, aclrtStream),
              domain, message, stream);
}
static inline mstxRangeId mstxDomainRangeStartA(mstxDomainHandle_t domain, const char *message,
                                                aclrtStream stream) {
    return MSTX_CALL(mstx_domain[4], 0,
                     mstxRangeId (*)(mstxDomainHandle_t, const char *, aclrtStream), domain,
                     message, stream);
}
static inline void mstxDomainRangeEnd(mstxDomainHandle_t domain, mstxRangeId id) {
    MSTX_CALL(mstx_domain[5], (void)0, void (*)(mstxDomainHandle_t, mstxRangeId), domain, id);
}
static inline mstxMemHeapHandle_t mstxMemHeapRegister(mstxDomainHandle_t domain,
                                                      mstxMemHeapDesc_t const *desc) {
    return MSTX_CALL(mstx_mem[1], NULL,
                     mstxMemHeapHandle_t (*)(mstxDomainHandle_t, mstxMemHeapDesc_t const *), domain,
                     desc);
}
static inline void mstxMemHeapUnregister(mstxDomainHandle_t domain, mstxMemHeapHandle_t heap) {
    MSTX_CALL(mstx_mem[2], (void)0, void (*)(mstxDomainHandle_t, mstxMemHeapHandle_t), domain,
              heap);
}
static inline void mstxMemRegionsRegister(mstxDomainHandle_t domain,
                                          mstxMemRegionsRegisterBatch_t const *desc) {
    MSTX_CALL(mstx_mem[3], (void)0,
              void (*)(mstxDomainHandle_t, mstxMemRegionsRegisterBatch_t const *), domain, desc);
}
static inline void mstxMemRegionsUnregister(mstxDomainHandle_t domain,
                                            mstxMemRegionsUnregisterBatch_t const *desc) {
    MSTX_CALL(mstx_mem[4], (void)0,
              void (*)(mstxDomainHandle_t, mstxMemRegionsUnregisterBatch_t const *), domain, desc);
}

#endif
