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
typedef enum { MEM_HANDLE_TYPE_NONE = 0, MEM_HANDLE_TYPE_FABRIC = 1 } drv_mem_handle_type;
struct MemShareHandle {
    uint8_t share_info[128];
};

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

typedef struct hal_dev_open_in {
    uint64_t reserve[8];
} halDevOpenIn;
typedef struct hal_dev_open_out {
    uint64_t reserve[8];
} halDevOpenOut;
typedef struct hal_dev_close_in {
    uint32_t close_type;
    uint32_t reserve0;
    uint64_t reserve[7];
} halDevCloseIn;
#define DEV_CLOSE_HOST_DEVICE 0
#define DEV_CLOSE_HOST_USER 2

drvError_t halMemAlloc(void **pp, unsigned long long size, unsigned long long flag);
drvError_t halMemAllocInner(void **pp, unsigned long long size, unsigned long long flag);
drvError_t halMemFree(void *pp);
drvError_t halMemFreeInner(void *pp);
drvError_t halMemCreate(drv_mem_handle_t **handle, size_t size, const struct drv_mem_prop *prop,
                        uint64_t flag);
drvError_t halMemRelease(drv_mem_handle_t *handle);
drvError_t halMemRetainAllocationHandle(drv_mem_handle_t **handle, void *ptr);
drvError_t halMemAddressReserve(void **ptr, size_t size, size_t alignment, void *addr,
                                uint64_t flag);
drvError_t halMemAddressFree(void *ptr);
drvError_t halMemMap(void *ptr, size_t size, size_t offset, drv_mem_handle_t *handle,
                     uint64_t flag);
drvError_t halMemUnmap(void *ptr);
drvError_t halMemExportToShareableHandle(drv_mem_handle_t *handle, drv_mem_handle_type handle_type,
                                         uint64_t flags, uint64_t *shareable_handle);
drvError_t halMemImportFromShareableHandle(uint64_t shareable_handle, uint32_t devid,
                                           drv_mem_handle_t **handle);
drvError_t halHostRegister(void *src_ptr, UINT64 size, UINT32 flag, UINT32 devid, void **dst_ptr);
drvError_t halHostUnregister(void *src_ptr, UINT32 devid);
DVresult halMemGetInfo(DVdevice device, unsigned int type, struct MemInfo *info);
drvError_t halDeviceOpen(uint32_t devid, halDevOpenIn *in, halDevOpenOut *out);
drvError_t halDeviceClose(uint32_t devid, halDevCloseIn *in);
drvError_t drvDeviceOpen(uint32_t devId);
drvError_t drvDeviceClose(uint32_t devId);
/* Of the driver itself: takes a sample buffer by halMemAlloc while it holds its lock, as its
 * profiling channel. */
drvError_t prof_sample_start(uint32_t devid);

typedef int32_t rtError_t;
typedef uint32_t rtMemType_t;
typedef void *rtDrvMemHandle;
#define RT_MEMORY_HBM 0x2U
#define RT_ERROR_NONE 0
#define ACL_ERROR_RT_FEATURE_NOT_SUPPORT 207000
#define ACL_ERROR_RT_MEMORY_ALLOCATION 207001
#define ACL_ERROR_RT_PARAM_INVALID 107000

rtError_t rtMalloc(void **devPtr, uint64_t size, rtMemType_t type, const uint16_t moduleId);
rtError_t rtFree(void *devPtr);
rtError_t rtMallocHost(void **hostPtr, uint64_t size, const uint16_t moduleId);
rtError_t rtFreeHost(void *hostPtr);
rtError_t rtMemAllocManaged(void **ptr, uint64_t size, uint32_t flag, const uint16_t moduleId);
typedef struct {
    uint32_t side;
    uint32_t devid;
    uint32_t module_id;
    uint32_t pg_type;
    uint32_t mem_type;
    uint64_t reserve;
} rtDrvMemProp_t;
rtError_t rtMallocPhysical(rtDrvMemHandle *handle, size_t size, rtDrvMemProp_t *prop,
                           uint64_t flags);
rtError_t rtFreePhysical(rtDrvMemHandle handle);
rtError_t rtReserveMemAddress(void **devPtr, size_t size, size_t alignment, void *devAddr,
                              uint64_t flags);
rtError_t rtReleaseMemAddress(void *devPtr);
rtError_t rtMapMem(void *devPtr, size_t size, size_t offset, rtDrvMemHandle handle, uint64_t flags);
rtError_t rtUnmapMem(void *devPtr);
rtError_t rtDeviceReset(int32_t device);
rtError_t rtSetDevice(int32_t device);

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

aclError aclrtMalloc(void **devPtr, size_t size, aclrtMemMallocPolicy policy);
aclError aclrtMallocAlign32(void **devPtr, size_t size, aclrtMemMallocPolicy policy);
aclError aclrtFree(void *devPtr);
aclError aclrtMallocHost(void **hostPtr, size_t size);
aclError aclrtFreeHost(void *hostPtr);
aclError aclrtMemAllocManaged(void **ptr, uint64_t size, uint32_t flag);
aclError aclrtReserveMemAddress(void **virPtr, size_t size, size_t alignment, void *expectPtr,
                                uint64_t flags);
aclError aclrtReleaseMemAddress(void *virPtr);
aclError aclrtMallocPhysical(aclrtDrvMemHandle *handle, size_t size,
                             const aclrtPhysicalMemProp *prop, uint64_t flags);
aclError aclrtFreePhysical(aclrtDrvMemHandle handle);
aclError aclrtMapMem(void *virPtr, size_t size, size_t offset, aclrtDrvMemHandle handle,
                     uint64_t flags);
aclError aclrtUnmapMem(void *virPtr);
aclError aclrtSetDevice(int32_t deviceId);
aclError aclrtResetDevice(int32_t deviceId);
aclError aclrtResetDeviceForce(int32_t deviceId);

/* Launches. Streams and descriptions are pointers of which only the value matters here. */
typedef void *rtStream_t;
typedef void *rtFuncHandle;
typedef void *rtLaunchArgsHandle;
typedef struct tagRtSmCtrl rtSmDesc_t;
typedef struct tagRtArgsEx rtArgsEx_t;
typedef struct tagRtAicpuArgsEx rtAicpuArgsEx_t;
typedef struct tagRtTaskCfgInfo rtTaskCfgInfo_t;

rtError_t rtFunctionRegister(void *binHandle, const void *stubFunc, const char *stubName,
                             const void *kernelInfoExt, uint32_t funcMode);
rtError_t rtsFuncGetByName(void *binHandle, const char *kernelName, rtFuncHandle *funcHandle);
rtError_t rtKernelLaunch(const void *stubFunc, uint32_t blockDim, void *args, uint32_t argsSize,
                         rtSmDesc_t *smDesc, rtStream_t stm);
rtError_t rtKernelLaunchWithFlagV2(const void *stubFunc, uint32_t blockDim, rtArgsEx_t *argsInfo,
                                   rtSmDesc_t *smDesc, rtStream_t stm, uint32_t flags,
                                   const rtTaskCfgInfo_t *cfgInfo);
rtError_t rtKernelLaunchWithHandleV2(void *hdl, const uint64_t tilingKey, uint32_t blockDim,
                                     rtArgsEx_t *argsInfo, rtSmDesc_t *smDesc, rtStream_t stm,
                                     const rtTaskCfgInfo_t *cfgInfo);
rtError_t rtAicpuKernelLaunchExWithArgs(const uint32_t kernelType, const char *const opName,
                                        const uint32_t blockDim, const rtAicpuArgsEx_t *argsInfo,
                                        rtSmDesc_t *const smDesc, const rtStream_t stm,
                                        const uint32_t flags);
rtError_t rtLaunchKernelByFuncHandleV2(rtFuncHandle funcHandle, uint32_t blockDim,
                                       rtLaunchArgsHandle argsHandle, rtStream_t stm,
                                       const rtTaskCfgInfo_t *cfgInfo);
rtError_t rtLaunchKernelByFuncHandleV3(rtFuncHandle funcHandle, uint32_t blockDim,
                                       const rtArgsEx_t *argsInfo, rtStream_t stm,
                                       const rtTaskCfgInfo_t *cfgInfo);
rtError_t rtGetStreamId(rtStream_t stm, int32_t *streamId);
rtError_t rtsGetThreadLastTaskId(uint32_t *taskId);
rtError_t rtGetDevice(int32_t *devId);
/* Of the stub alone: the name of a function (NULL: none), and one by its name. */
const char *stub_function_name(rtFuncHandle funcHandle);
rtFuncHandle stub_function(const char *name);

typedef void *aclrtStream;
typedef void *aclrtBinHandle;
typedef void *aclrtFuncHandle;
typedef void *aclrtArgsHandle;
typedef struct aclrtLaunchKernelCfg aclrtLaunchKernelCfg;
typedef struct aclrtPlaceHolderInfo aclrtPlaceHolderInfo;

aclError aclrtBinaryGetFunction(const aclrtBinHandle binHandle, const char *kernelName,
                                aclrtFuncHandle *funcHandle);
aclError aclrtBinaryGetFunctionByEntry(aclrtBinHandle binHandle, uint64_t funcEntry,
                                       aclrtFuncHandle *funcHandle);
aclError aclrtGetFunctionName(aclrtFuncHandle funcHandle, uint32_t maxLen, char *name);
aclError aclrtLaunchKernel(aclrtFuncHandle funcHandle, uint32_t numBlocks, const void *argsData,
                           size_t argsSize, aclrtStream stream);
aclError aclrtLaunchKernelV2(aclrtFuncHandle funcHandle, uint32_t numBlocks, const void *argsData,
                             size_t argsSize, aclrtLaunchKernelCfg *cfg, aclrtStream stream);
aclError aclrtLaunchKernelWithConfig(aclrtFuncHandle funcHandle, uint32_t numBlocks,
                                     aclrtStream stream, aclrtLaunchKernelCfg *cfg,
                                     aclrtArgsHandle argsHandle, void *reserve);
aclError aclrtLaunchKernelWithHostArgs(aclrtFuncHandle funcHandle, uint32_t numBlocks,
                                       aclrtStream stream, aclrtLaunchKernelCfg *cfg,
                                       void *hostArgs, size_t argsSize,
                                       aclrtPlaceHolderInfo *placeHolderArray,
                                       size_t placeHolderNum);
aclError aclrtStreamGetId(aclrtStream stream, int32_t *streamId);
aclError aclrtGetThreadLastTaskId(uint32_t *taskId);
aclError aclrtGetDevice(int32_t *deviceId);

#ifdef __cplusplus
}
#endif

#endif
