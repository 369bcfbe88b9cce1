/*
 * acl.c - a stub of ACL, libascendcl.so, on top of libruntime.so. Sizes grow on the way down as
 * they do there: 32 bytes of padding, multiples of 32.
 */
#include "ascend.h"

#include <string.h>

static uint64_t padded(size_t size, size_t padding) {
    return (size + 32 + padding - 1) / 32 * 32;
}

aclError aclrtMalloc(void **devPtr, size_t size, aclrtMemMallocPolicy policy) {
    (void)policy;
    return rtMalloc(devPtr, padded(size, 32), RT_MEMORY_HBM, APP_MODULE_ID);
}

aclError aclrtMallocAlign32(void **devPtr, size_t size, aclrtMemMallocPolicy policy) {
    (void)policy;
    return rtMalloc(devPtr, padded(size, 0), RT_MEMORY_HBM, APP_MODULE_ID);
}

aclError aclrtFree(void *devPtr) {
    return rtFree(devPtr);
}

aclError aclrtMallocHost(void **hostPtr, size_t size) {
    return rtMallocHost(hostPtr, size, APP_MODULE_ID);
}

aclError aclrtFreeHost(void *hostPtr) {
    return rtFreeHost(hostPtr);
}

aclError aclrtMemAllocManaged(void **ptr, uint64_t size, uint32_t flag) {
    return rtMemAllocManaged(ptr, size, flag, APP_MODULE_ID);
}

aclError aclrtReserveMemAddress(void **virPtr, size_t size, size_t alignment, void *expectPtr,
                                uint64_t flags) {
    return rtReserveMemAddress(virPtr, size, alignment, expectPtr, flags);
}

aclError aclrtReleaseMemAddress(void *virPtr) {
    return rtReleaseMemAddress(virPtr);
}

aclError aclrtMallocPhysical(aclrtDrvMemHandle *handle, size_t size,
                             const aclrtPhysicalMemProp *prop, uint64_t flags) {
    rtDrvMemProp_t runtime_prop = {.side = MEM_DEV_SIDE,
                                   .devid = prop->location.id,
                                   .module_id = APP_MODULE_ID,
                                   .pg_type = MEM_HUGE_PAGE_TYPE};
    return rtMallocPhysical(handle, size, &runtime_prop, flags);
}

aclError aclrtFreePhysical(aclrtDrvMemHandle handle) {
    return rtFreePhysical(handle);
}

aclError aclrtMapMem(void *virPtr, size_t size, size_t offset, aclrtDrvMemHandle handle,
                     uint64_t flags) {
    return rtMapMem(virPtr, size, offset, handle, flags);
}

aclError aclrtUnmapMem(void *virPtr) {
    return rtUnmapMem(virPtr);
}

aclError aclrtSetDevice(int32_t deviceId) {
    return rtSetDevice(deviceId);
}

aclError aclrtResetDevice(int32_t deviceId) {
    return rtDeviceReset(deviceId);
}

aclError aclrtBinaryGetFunction(const aclrtBinHandle binHandle, const char *kernelName,
                                aclrtFuncHandle *funcHandle) {
    return rtsFuncGetByName((void *)binHandle, kernelName, funcHandle);
}

/* An entry is the address of a name, which no other call is told. */
aclError aclrtBinaryGetFunctionByEntry(aclrtBinHandle binHandle, uint64_t funcEntry,
                                       aclrtFuncHandle *funcHandle) {
    (void)binHandle;
    *funcHandle = stub_function((const char *)(uintptr_t)funcEntry);
    return 0;
}

aclError aclrtGetFunctionName(aclrtFuncHandle funcHandle, uint32_t maxLen, char *name) {
    const char *found = stub_function_name(funcHandle);
    if (found == NULL || maxLen == 0)
        return ACL_ERROR_RT_PARAM_INVALID;
    strncpy(name, found, maxLen - 1);
    name[maxLen - 1] = '\0';
    return 0;
}

aclError aclrtLaunchKernel(aclrtFuncHandle funcHandle, uint32_t numBlocks, const void *argsData,
                           size_t argsSize, aclrtStream stream) {
    (void)argsData, (void)argsSize;
    return rtLaunchKernelByFuncHandleV2(funcHandle, numBlocks, NULL, stream, NULL);
}

aclError aclrtLaunchKernelV2(aclrtFuncHandle funcHandle, uint32_t numBlocks, const void *argsData,
                             size_t argsSize, aclrtLaunchKernelCfg *cfg, aclrtStream stream) {
    (void)argsData, (void)argsSize, (void)cfg;
    return rtLaunchKernelByFuncHandleV3(funcHandle, numBlocks, NULL, stream, NULL);
}

aclError aclrtLaunchKernelWithConfig(aclrtFuncHandle funcHandle, uint32_t numBlocks,
                                     aclrtStream stream, aclrtLaunchKernelCfg *cfg,
                                     aclrtArgsHandle argsHandle, void *reserve) {
    (void)cfg, (void)reserve;
    return rtLaunchKernelByFuncHandleV2(funcHandle, numBlocks, argsHandle, stream, NULL);
}

aclError aclrtLaunchKernelWithHostArgs(aclrtFuncHandle funcHandle, uint32_t numBlocks,
                                       aclrtStream stream, aclrtLaunchKernelCfg *cfg,
                                       void *hostArgs, size_t argsSize,
                                       aclrtPlaceHolderInfo *placeHolderArray,
                                       size_t placeHolderNum) {
    (void)cfg, (void)hostArgs, (void)argsSize, (void)placeHolderArray, (void)placeHolderNum;
    return rtLaunchKernelByFuncHandleV3(funcHandle, numBlocks, NULL, stream, NULL);
}

aclError aclrtStreamGetId(aclrtStream stream, int32_t *streamId) {
    return rtGetStreamId(stream, streamId);
}

aclError aclrtGetThreadLastTaskId(uint32_t *taskId) {
    return rtsGetThreadLastTaskId(taskId);
}

aclError aclrtGetDevice(int32_t *deviceId) {
    return rtGetDevice(deviceId);
}
