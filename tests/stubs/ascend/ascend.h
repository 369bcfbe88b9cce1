/*
 * ascend.h - the interfaces of Ascend's driver, runtime and ACL that the stubs provide and the
 * target calls.
 *
 * Written from the published headers of CANN: pkg_inc/ascend_hal_base.h, ascend_hal_define.h and
 * ascend_hal_error.h of the driver, include/external/acl/acl_rt.h and
 * pkg_inc/runtime/runtime/mem.h, kernel.h, stream.h and base.h of the runtime. Nothing of the sampler is included: stub and
 * wrapper must not share a mistake.
 */
#ifndef STUB_ASCEND_H
#define STUB_ASCEND_H

/* A stub has the whole signature of a function and seldom needs all of it. */
#pragma GCC diagnostic ignored "-Wunused-parameter"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef unsigned long long UINT64;
typedef unsigned int UINT32;
typedef UINT64 DVdeviceptr;
typedef UINT32 DVdevice;

typedef enum tagDrvError {
    DRV_ERROR_NONE = 0,
    DRV_ERROR_INVALID_VALUE = 3,
    DRV_ERROR_OUT_OF_MEMORY = 6,
    DRV_ERROR_UNINIT = 7,
    DRV_ERROR_BUSY = 16,
    DRV_ERROR_NOT_SUPPORT = 0xfffe,
} drvError_t;
typedef drvError_t DVresult;

#define MEM_DEVID_MASK 0x3ffUL
#define MEM_VIRT_BIT 10
#define MEM_SVM (0UL << MEM_VIRT_BIT)
#define MEM_DEV (1UL << MEM_VIRT_BIT)
#define MEM_HOST (2UL << MEM_VIRT_BIT)
#define MEM_DVPP (3UL << MEM_VIRT_BIT)
#define MEM_HOST_AGENT (4UL << MEM_VIRT_BIT)
#define MEM_RESERVE (5UL << MEM_VIRT_BIT)
#define MEM_HOST_UVA (6UL << MEM_VIRT_BIT)
#define MEM_UVM (7UL << MEM_VIRT_BIT)
#define MEM_TYPE_HBM (1UL << 14)
#define MEM_PAGE_HUGE (1UL << 17)
#define MEM_PAGE_GIANT (1UL << 31)
#define MEM_MODULE_ID_BIT 56
#define APP_MODULE_ID 33UL

enum drv_mem_side { MEM_HOST_SIDE = 0, MEM_DEV_SIDE, MEM_HOST_NUMA_SIDE, MEM_MAX_SIDE };
enum drv_mem_pg_type { MEM_NORMAL_PAGE_TYPE = 0, MEM_HUGE_PAGE_TYPE, MEM_GIANT_PAGE_TYPE };

struct drv_mem_prop {
    uint32_t side;
    uint32_t devid;
    uint32_t module_id;
    uint32_t pg_type;
    uint32_t mem_type;
    uint64_t reserve;
};

typedef struct drv_mem_handle drv_mem_handle_t;

struct MemPhyInfo {
    unsigned long total;
    unsigned long free;
    unsigned long huge_total;
    unsigned long huge_free;
};
struct MemAddrInfo {
    DVdeviceptr **addr;
    unsigned int cnt;
    unsigned int mem_type;
    unsigned int flag;
};
struct MemInfo {
    union {
        struct MemPhyInfo phy_info;
        struct MemAddrInfo addr_info;
    };
};
#define MEM_INFO_TYPE_DDR_SIZE 1
#define MEM_INFO_TYPE_HBM_SIZE 2

enum drvRegisterTpye {
    HOST_MEM_MAP_DEV = 0,
    HOST_SVM_MAP_DEV,
    DEV_SVM_MAP_HOST,
    HOST_MEM_MAP_DEV_PCIE_TH,
    DEV_MEM_MAP_HOST,
};

typedef struct hal_dev_close_in {
    uint32_t close_type;
    uint32_t reserve0;
    uint64_t reserve[7];
} halDevCloseIn;
#define DEV_CLOSE_HOST_USER 2

drvError_t halMemAlloc(void **, unsigned long long, unsigned long long);
drvError_t halMemAllocInner(void **, unsigned long long, unsigned long long);
drvError_t halMemFree(void *);
drvError_t halMemFreeInner(void *);
drvError_t halMemCreate(drv_mem_handle_t **, size_t, const struct drv_mem_prop *, uint64_t);
drvError_t halMemRelease(drv_mem_handle_t *);
drvError_t halMemRetainAllocationHandle(drv_mem_handle_t **, void *);
drvError_t halMemAddressReserve(void **, size_t, size_t, void *, uint64_t);
drvError_t halMemAddressFree(void *);
drvError_t halMemMap(void *, size_t, size_t, drv_mem_handle_t *, uint64_t);
drvError_t halMemUnmap(void *);
drvError_t halMemImportFromShareableHandle(uint64_t, uint32_t, drv_mem_handle_t **);
drvError_t halHostRegister(void *, UINT64, UINT32, UINT32, void **);
drvError_t halHostUnregister(void *, UINT32);
DVresult halMemGetInfo(DVdevice, unsigned int, struct MemInfo *);
drvError_t halDeviceClose(uint32_t, halDevCloseIn *);
drvError_t drvDeviceClose(uint32_t);
/* Of the driver itself: takes a sample buffer by halMemAlloc while it holds its lock, as its
 * profiling channel. */
drvError_t prof_sample_start(uint32_t);

typedef int32_t rtError_t;
typedef uint32_t rtMemType_t;
typedef void *rtDrvMemHandle;
#define RT_MEMORY_HBM 0x2U
#define RT_ERROR_NONE 0
#define ACL_ERROR_RT_FEATURE_NOT_SUPPORT 207000
#define ACL_ERROR_RT_MEMORY_ALLOCATION 207001
#define ACL_ERROR_RT_PARAM_INVALID 107000

rtError_t rtMalloc(void **, uint64_t, rtMemType_t, const uint16_t);
rtError_t rtFree(void *);
rtError_t rtMallocHost(void **, uint64_t, const uint16_t);
rtError_t rtFreeHost(void *);
rtError_t rtMemAllocManaged(void **, uint64_t, uint32_t, const uint16_t);
typedef struct {
    uint32_t side;
    uint32_t devid;
    uint32_t module_id;
    uint32_t pg_type;
    uint32_t mem_type;
    uint64_t reserve;
} rtDrvMemProp_t;
rtError_t rtMallocPhysical(rtDrvMemHandle *, size_t, rtDrvMemProp_t *, uint64_t);
rtError_t rtFreePhysical(rtDrvMemHandle);
rtError_t rtReserveMemAddress(void **, size_t, size_t, void *, uint64_t);
rtError_t rtReleaseMemAddress(void *);
rtError_t rtMapMem(void *, size_t, size_t, rtDrvMemHandle, uint64_t);
rtError_t rtUnmapMem(void *);
rtError_t rtDeviceReset(int32_t);
rtError_t rtSetDevice(int32_t);

typedef int aclError;
typedef void *aclrtDrvMemHandle;
typedef enum aclrtMemMallocPolicy {
    ACL_MEM_MALLOC_HUGE_FIRST,
    ACL_MEM_MALLOC_HUGE_ONLY,
    ACL_MEM_MALLOC_NORMAL_ONLY,
} aclrtMemMallocPolicy;
typedef struct aclrtPhysicalMemProp {
    int32_t handleType, allocationType, memAttr;
    struct {
        uint32_t id;
        int32_t type;
    } location;
    uint64_t reserve;
} aclrtPhysicalMemProp;

aclError aclrtMalloc(void **, size_t, aclrtMemMallocPolicy);
aclError aclrtMallocAlign32(void **, size_t, aclrtMemMallocPolicy);
aclError aclrtFree(void *);
aclError aclrtMallocHost(void **, size_t);
aclError aclrtFreeHost(void *);
aclError aclrtMemAllocManaged(void **, uint64_t, uint32_t);
aclError aclrtReserveMemAddress(void **, size_t, size_t, void *, uint64_t);
aclError aclrtReleaseMemAddress(void *);
aclError aclrtMallocPhysical(aclrtDrvMemHandle *, size_t, const aclrtPhysicalMemProp *, uint64_t);
aclError aclrtFreePhysical(aclrtDrvMemHandle);
aclError aclrtMapMem(void *, size_t, size_t, aclrtDrvMemHandle, uint64_t);
aclError aclrtUnmapMem(void *);
aclError aclrtSetDevice(int32_t);
aclError aclrtResetDevice(int32_t);

/* Launches. Streams and descriptions are pointers of which only the value matters here. */
typedef void *rtStream_t;
typedef void *rtFuncHandle;
typedef void *rtLaunchArgsHandle;
typedef struct tagRtSmCtrl rtSmDesc_t;
typedef struct tagRtArgsEx rtArgsEx_t;
typedef struct tagRtAicpuArgsEx rtAicpuArgsEx_t;
typedef struct tagRtTaskCfgInfo rtTaskCfgInfo_t;

rtError_t rtFunctionRegister(void *, const void *, const char *, const void *, uint32_t);
rtError_t rtsFuncGetByName(void *, const char *, rtFuncHandle *);
rtError_t rtKernelLaunch(const void *, uint32_t, void *, uint32_t, rtSmDesc_t *, rtStream_t);
rtError_t rtKernelLaunchWithFlagV2(const void *, uint32_t, rtArgsEx_t *, rtSmDesc_t *, rtStream_t,
                                   uint32_t, const rtTaskCfgInfo_t *);
rtError_t rtKernelLaunchWithHandleV2(void *, const uint64_t, uint32_t, rtArgsEx_t *, rtSmDesc_t *,
                                     rtStream_t, const rtTaskCfgInfo_t *);
rtError_t rtAicpuKernelLaunchExWithArgs(const uint32_t, const char *const, const uint32_t,
                                        const rtAicpuArgsEx_t *, rtSmDesc_t *const,
                                        const rtStream_t, const uint32_t);
rtError_t rtLaunchKernelByFuncHandleV2(rtFuncHandle, uint32_t, rtLaunchArgsHandle, rtStream_t,
                                       const rtTaskCfgInfo_t *);
rtError_t rtLaunchKernelByFuncHandleV3(rtFuncHandle, uint32_t, const rtArgsEx_t *, rtStream_t,
                                       const rtTaskCfgInfo_t *);
rtError_t rtGetStreamId(rtStream_t, int32_t *);
rtError_t rtsGetThreadLastTaskId(uint32_t *);
rtError_t rtGetDevice(int32_t *);
/* Of the stub alone: the name of a function (NULL: none), and one by its name. */
const char *stub_function_name(rtFuncHandle);
rtFuncHandle stub_function(const char *);

typedef void *aclrtStream;
typedef void *aclrtBinHandle;
typedef void *aclrtFuncHandle;
typedef void *aclrtArgsHandle;
typedef struct aclrtLaunchKernelCfg aclrtLaunchKernelCfg;
typedef struct aclrtPlaceHolderInfo aclrtPlaceHolderInfo;

aclError aclrtBinaryGetFunction(const aclrtBinHandle, const char *, aclrtFuncHandle *);
aclError aclrtBinaryGetFunctionByEntry(aclrtBinHandle, uint64_t, aclrtFuncHandle *);
aclError aclrtGetFunctionName(aclrtFuncHandle, uint32_t, char *);
aclError aclrtLaunchKernel(aclrtFuncHandle, uint32_t, const void *, size_t, aclrtStream);
aclError aclrtLaunchKernelV2(aclrtFuncHandle, uint32_t, const void *, size_t,
                             aclrtLaunchKernelCfg *, aclrtStream);
aclError aclrtLaunchKernelWithConfig(aclrtFuncHandle, uint32_t, aclrtStream, aclrtLaunchKernelCfg *,
                                     aclrtArgsHandle, void *);
aclError aclrtLaunchKernelWithHostArgs(aclrtFuncHandle, uint32_t, aclrtStream,
                                       aclrtLaunchKernelCfg *, void *, size_t,
                                       aclrtPlaceHolderInfo *, size_t);
aclError aclrtStreamGetId(aclrtStream, int32_t *);
aclError aclrtGetThreadLastTaskId(uint32_t *);
aclError aclrtGetDevice(int32_t *);

#ifdef __cplusplus
}
#endif

#endif
