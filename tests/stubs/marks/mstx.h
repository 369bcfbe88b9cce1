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

/* A function that a tool may serve; 0 where there is none. */
#define MSTX(result, name, slot, parameters, ...)                                                  \
    static inline result name parameters {                                                         \
        typedef result(*mstx_function) parameters;                                                 \
        mstx_init_once();                                                                          \
        if ((slot) != NULL)                                                                        \
            return ((mstx_function)(slot))(__VA_ARGS__);                                           \
        return (result)0;                                                                          \
    }

MSTX(void, mstxMarkA, mstx_core[1], (const char *message, aclrtStream stream), message, stream)
MSTX(mstxRangeId, mstxRangeStartA, mstx_core[2], (const char *message, aclrtStream stream), message,
     stream)
MSTX(void, mstxRangeEnd, mstx_core[3], (mstxRangeId id), id)
MSTX(mstxDomainHandle_t, mstxDomainCreateA, mstx_domain[1], (const char *name), name)
MSTX(void, mstxDomainMarkA, mstx_domain[3],
     (mstxDomainHandle_t domain, const char *message, aclrtStream stream), domain, message, stream)
MSTX(mstxRangeId, mstxDomainRangeStartA, mstx_domain[4],
     (mstxDomainHandle_t domain, const char *message, aclrtStream stream), domain, message, stream)
MSTX(void, mstxDomainRangeEnd, mstx_domain[5], (mstxDomainHandle_t domain, mstxRangeId id), domain,
     id)
MSTX(mstxMemHeapHandle_t, mstxMemHeapRegister, mstx_mem[1],
     (mstxDomainHandle_t domain, mstxMemHeapDesc_t const *desc), domain, desc)
MSTX(void, mstxMemHeapUnregister, mstx_mem[2],
     (mstxDomainHandle_t domain, mstxMemHeapHandle_t heap), domain, heap)
MSTX(void, mstxMemRegionsRegister, mstx_mem[3],
     (mstxDomainHandle_t domain, mstxMemRegionsRegisterBatch_t const *desc), domain, desc)
MSTX(void, mstxMemRegionsUnregister, mstx_mem[4],
     (mstxDomainHandle_t domain, mstxMemRegionsUnregisterBatch_t const *desc), domain, desc)

#endif
