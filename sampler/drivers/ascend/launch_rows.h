/*
 * launch_rows.h - the functions of Ascend's runtime and of ACL that launch kernels, and those that give a name's
 * handle. What the columns mean: wrap.h.
 *
 * ACL's functions end in the runtime's: the outermost one is the launch. What a program launches by the handle of a
 * whole binary (rtKernelLaunchWithHandleV2) has no name here.
 */
#ifndef MP_LAUNCH_ROWS_H
#define MP_LAUNCH_ROWS_H

/* clang-format off */
#define MP_RUNTIME_NAME_ROWS(ROW) \
    ROW(then, rtError_t, rtFunctionRegister, \
        (void *binHandle, const void *stubFunc, const char *stubName, const void *kernelInfoExt, \
         uint32_t funcMode), \
        (binHandle, stubFunc, stubName, kernelInfoExt, funcMode), named(stubFunc, stubName)) \
    ROW(then, rtError_t, rtGetFunctionByName, (const char *stubName, void **stubFunc), \
        (stubName, stubFunc), named(*stubFunc, stubName)) \
    ROW(then, rtError_t, rtBinaryGetFunctionByName, \
        (void *binHandle, const char *kernelName, void **funcHandle), \
        (binHandle, kernelName, funcHandle), named(*funcHandle, kernelName)) \
    ROW(then, rtError_t, rtsFuncGetByName, \
        (void *binHandle, const char *kernelName, void **funcHandle), \
        (binHandle, kernelName, funcHandle), named(*funcHandle, kernelName))

#define MP_RUNTIME_LAUNCH_ROWS(ROW) \
    ROW(then, rtError_t, rtKernelLaunch, \
        (const void *stubFunc, uint32_t blockDim, void *args, uint32_t argsSize, void *smDesc, \
         void *stm), \
        (stubFunc, blockDim, args, argsSize, smDesc, stm), launched(&scope, stubFunc, NULL, stm)) \
    ROW(then, rtError_t, rtKernelLaunchWithFlag, \
        (const void *stubFunc, uint32_t blockDim, void *argsInfo, void *smDesc, void *stm, \
         uint32_t flags), \
        (stubFunc, blockDim, argsInfo, smDesc, stm, flags), \
        launched(&scope, stubFunc, NULL, stm)) \
    ROW(then, rtError_t, rtKernelLaunchWithFlagV2, \
        (const void *stubFunc, uint32_t blockDim, void *argsInfo, void *smDesc, void *stm, \
         uint32_t flags, const void *cfgInfo), \
        (stubFunc, blockDim, argsInfo, smDesc, stm, flags, cfgInfo), \
        launched(&scope, stubFunc, NULL, stm)) \
    ROW(then, rtError_t, rtVectorCoreKernelLaunch, \
        (const void *stubFunc, uint32_t blockDim, void *argsInfo, void *smDesc, void *stm, \
         uint32_t flags, const void *cfgInfo), \
        (stubFunc, blockDim, argsInfo, smDesc, stm, flags, cfgInfo), \
        launched(&scope, stubFunc, NULL, stm)) \
    ROW(then, rtError_t, rtKernelLaunchWithHandleV2, \
        (void *hdl, const uint64_t tilingKey, uint32_t blockDim, void *argsInfo, void *smDesc, \
         void *stm, const void *cfgInfo), \
        (hdl, tilingKey, blockDim, argsInfo, smDesc, stm, cfgInfo), \
        launched(&scope, NULL, NULL, stm)) \
    ROW(then, rtError_t, rtAicpuKernelLaunchExWithArgs, \
        (const uint32_t kernelType, const char *opName, const uint32_t blockDim, \
         const void *argsInfo, void *smDesc, void *stm, const uint32_t flags), \
        (kernelType, opName, blockDim, argsInfo, smDesc, stm, flags), \
        launched(&scope, NULL, opName, stm)) \
    ROW(then, rtError_t, rtCpuKernelLaunchWithFlag, \
        (const void *soName, const void *kernelName, uint32_t blockDim, const void *argsInfo, \
         void *smDesc, void *stm, uint32_t flags), \
        (soName, kernelName, blockDim, argsInfo, smDesc, stm, flags), \
        launched(&scope, NULL, kernelName, stm)) \
    ROW(then, rtError_t, rtLaunchKernelByFuncHandle, \
        (void *funcHandle, uint32_t blockDim, void *argsHandle, void *stm), \
        (funcHandle, blockDim, argsHandle, stm), launched(&scope, funcHandle, NULL, stm)) \
    ROW(then, rtError_t, rtLaunchKernelByFuncHandleV2, \
        (void *funcHandle, uint32_t blockDim, void *argsHandle, void *stm, const void *cfgInfo), \
        (funcHandle, blockDim, argsHandle, stm, cfgInfo), \
        launched(&scope, funcHandle, NULL, stm)) \
    ROW(then, rtError_t, rtLaunchKernelByFuncHandleV3, \
        (void *funcHandle, uint32_t blockDim, const void *argsInfo, void *stm, \
         const void *cfgInfo), \
        (funcHandle, blockDim, argsInfo, stm, cfgInfo), launched(&scope, funcHandle, NULL, stm))

#define MP_ACL_LAUNCH_ROWS(ROW) \
    ROW(then, aclError, aclrtBinaryGetFunction, \
        (const void *binHandle, const char *kernelName, void **funcHandle), \
        (binHandle, kernelName, funcHandle), named(*funcHandle, kernelName)) \
    ROW(then, aclError, aclrtRegisterCpuFunc, \
        (const void *handle, const char *funcName, const char *kernelName, void **funcHandle), \
        (handle, funcName, kernelName, funcHandle), named(*funcHandle, kernelName)) \
    ROW(then, aclError, aclrtLaunchKernel, \
        (void *funcHandle, uint32_t numBlocks, const void *argsData, size_t argsSize, \
         aclrtStream stream), \
        (funcHandle, numBlocks, argsData, argsSize, stream), \
        launched(&scope, funcHandle, NULL, stream)) \
    ROW(then, aclError, aclrtLaunchKernelV2, \
        (void *funcHandle, uint32_t numBlocks, const void *argsData, size_t argsSize, void *cfg, \
         aclrtStream stream), \
        (funcHandle, numBlocks, argsData, argsSize, cfg, stream), \
        launched(&scope, funcHandle, NULL, stream)) \
    ROW(then, aclError, aclrtLaunchKernelWithConfig, \
        (void *funcHandle, uint32_t numBlocks, aclrtStream stream, void *cfg, void *argsHandle, \
         void *reserve), \
        (funcHandle, numBlocks, stream, cfg, argsHandle, reserve), \
        launched(&scope, funcHandle, NULL, stream)) \
    ROW(then, aclError, aclrtLaunchKernelWithHostArgs, \
        (void *funcHandle, uint32_t numBlocks, aclrtStream stream, void *cfg, void *hostArgs, \
         size_t argsSize, void *placeHolderArray, size_t placeHolderNum), \
        (funcHandle, numBlocks, stream, cfg, hostArgs, argsSize, placeHolderArray, \
         placeHolderNum), \
        launched(&scope, funcHandle, NULL, stream))
/* clang-format on */

#endif
