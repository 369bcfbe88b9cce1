/*
 * launch.c - wrappers of the functions of Ascend's runtime and of ACL that launch kernels.
 *
 * The time of a launch is that at which the call has returned: only then the runtime knows the task's number. Stream,
 * task and device are what the runtime itself says; where it has no such function, they are left out.
 *
 * ACL's functions end in the runtime's: the outermost one is the launch. Launches by the handle of
 * a whole binary (rtKernelLaunchWithHandleV2) have no name.
 */
#include "launch.h"
#include "device/launches.h"
#include "drivers/wrap.h"
#include "hal_abi.h"

#include <errno.h>
#include <string.h>

#define MP_ROW_BACKEND MP_BACKEND_HAL
#define MP_ROW_FAMILY MP_FAMILY_LAUNCH
#define MP_ROW_TAIL(scope, row) (void)(scope)

/* clang-format off */
#define ASKED_OF_ACL(ROW) \
    ROW(int, aclrtGetDevice, (int32_t *)) \
    ROW(int, aclrtStreamGetId, (void *, int32_t *)) \
    ROW(int, aclrtGetThreadLastTaskId, (uint32_t *)) \
    ROW(int, aclrtGetFunctionName, (const void *, uint32_t, char *))
#define ASKED_OF_RUNTIME(ROW) \
    ROW(int, rtGetDevice, (int32_t *)) \
    ROW(int, rtGetStreamId, (void *, int32_t *)) \
    ROW(int, rtsGetThreadLastTaskId, (uint32_t *)) \
    ROW(int, rtGetTaskIdAndStreamID, (uint32_t *, uint32_t *))
/* clang-format on */
ASKED_OF_ACL(MP_ASKED_ROW)
ASKED_OF_RUNTIME(MP_ASKED_ROW)

/* ACL's function, or the runtime's without ACL. */
#define EITHER(of_acl, of_runtime) (MP_REAL(of_acl) != NULL ? MP_REAL(of_acl) : MP_REAL(of_runtime))

int mp_ascend_device(void) {
    int32_t device = -1;
    int saved_errno = errno;
    mp_fn_rtGetDevice *ask = EITHER(aclrtGetDevice, rtGetDevice);
    bool is_known = ask != NULL && ask(&device) == 0;
    errno = saved_errno;
    return is_known ? device : -1;
}

static bool stream_id(void *stream, uint32_t *id) {
    int32_t found = 0;
    mp_fn_rtGetStreamId *ask = EITHER(aclrtStreamGetId, rtGetStreamId);
    if (ask == NULL || ask(stream, &found) != 0)
        return false;
    *id = (uint32_t)found;
    return true;
}

static bool task_id(uint32_t *id) {
    uint32_t stream = 0;
    mp_fn_rtsGetThreadLastTaskId *ask = EITHER(aclrtGetThreadLastTaskId, rtsGetThreadLastTaskId);
    mp_fn_rtGetTaskIdAndStreamID *both = MP_REAL(rtGetTaskIdAndStreamID);
    return ask != NULL ? ask(id) == 0 : both != NULL && both(id, &stream) == 0;
}

/* The name that ACL has for a function whose look-up nobody saw. ACL itself needs far more stack than this buffer. */
static __attribute__((noinline)) uint32_t ask_name(const void *handle) {
    char name[MP_LAUNCH_TEXT_BYTES];
    mp_fn_aclrtGetFunctionName *ask = MP_REAL(aclrtGetFunctionName);
    name[0] = '\0';
    if (handle == NULL || ask == NULL || ask(handle, sizeof name, name) != 0)
        return 0;
    uint32_t id = mp_launch_text(name, strnlen(name, sizeof name));
    mp_handle_name(MP_HANDLE_FUNCTION, handle, id);
    return id;
}

static uint32_t name_of(const void *handle, const char *name) {
    if (name != NULL)
        return mp_launch_text(name, strnlen(name, MP_LAUNCH_TEXT_BYTES));
    return handle != NULL ? mp_handle_text(MP_HANDLE_FUNCTION, handle) : 0;
}

/* A handle was given for a name. */
static void named(const void *handle, const char *name) {
    if (handle != NULL && name != NULL && mp_launch_wanted(MP_LAUNCH_KERNELS))
        mp_handle_name(MP_HANDLE_FUNCTION, handle,
                       mp_launch_text(name, strnlen(name, MP_LAUNCH_TEXT_BYTES)));
}

/* A kernel was launched, of this handle or of this name. */
static __attribute__((noinline)) void launched(const struct mp_device_scope *scope,
                                               const void *handle, const char *name, void *stream) {
    if (mp_device_scope_nested(scope) || !mp_launch_wanted(MP_LAUNCH_KERNELS))
        return;
    int saved_errno = errno;
    struct mp_launch launch = {.kind = MP_LAUNCH_KERNEL, .device = -1};
    launch.name = name_of(handle, name);
    /* the runtime may hold its locks where it launches something itself */
    if (!mp_device_is_driver(&mp_row_rtGetDevice, scope->caller.pc)) {
        uint32_t stream_number = 0, task = 0;
        launch.device = mp_ascend_device();
        launch.size_bytes = (stream_id(stream, &stream_number) ? MP_LAUNCH_STREAM : 0) |
                            (task_id(&task) ? MP_LAUNCH_TASK : 0);
        launch.address = (uint64_t)stream_number << 32 | task;
        if (launch.name == 0)
            launch.name = ask_name(handle);
    }
    errno = saved_errno; /* of the launch, not of the queries to the runtime */
    mp_launch_add(&launch);
}

/* clang-format off */
#define MP_RUNTIME_NAME_ROWS(ROW) \
    ROW(then, rtError_t, rtFunctionRegister, MP_ARG5(void *, binHandle, const void *, stubFunc, \
        const char *, stubName, const void *, kernelInfoExt, uint32_t, funcMode), \
        named(stubFunc, stubName)) \
    ROW(then, rtError_t, rtGetFunctionByName, MP_ARG2(const char *, stubName, void **, stubFunc), \
        named(*stubFunc, stubName)) \
    ROW(then, rtError_t, rtBinaryGetFunctionByName, MP_ARG3(void *, binHandle, \
        const char *, kernelName, void **, funcHandle), named(*funcHandle, kernelName)) \
    ROW(then, rtError_t, rtsFuncGetByName, MP_ARG3(void *, binHandle, const char *, kernelName, \
        void **, funcHandle), named(*funcHandle, kernelName))

#define MP_RUNTIME_LAUNCH_ROWS(ROW) \
    ROW(then, rtError_t, rtKernelLaunch, MP_ARG6(const void *, stubFunc, uint32_t, blockDim, \
        void *, args, uint32_t, argsSize, void *, smDesc, void *, stm), \
        launched(&scope, stubFunc, NULL, stm)) \
    ROW(then, rtError_t, rtKernelLaunchWithFlag, MP_ARG6(const void *, stubFunc, \
        uint32_t, blockDim, void *, argsInfo, void *, smDesc, void *, stm, uint32_t, flags), \
        launched(&scope, stubFunc, NULL, stm)) \
    ROW(then, rtError_t, rtKernelLaunchWithFlagV2, MP_ARG7(const void *, stubFunc, \
        uint32_t, blockDim, void *, argsInfo, void *, smDesc, void *, stm, uint32_t, flags, \
        const void *, cfgInfo), launched(&scope, stubFunc, NULL, stm)) \
    ROW(then, rtError_t, rtVectorCoreKernelLaunch, MP_ARG7(const void *, stubFunc, \
        uint32_t, blockDim, void *, argsInfo, void *, smDesc, void *, stm, uint32_t, flags, \
        const void *, cfgInfo), launched(&scope, stubFunc, NULL, stm)) \
    ROW(then, rtError_t, rtKernelLaunchWithHandleV2, MP_ARG7(void *, hdl, \
        const uint64_t, tilingKey, uint32_t, blockDim, void *, argsInfo, void *, smDesc, \
        void *, stm, const void *, cfgInfo), launched(&scope, NULL, NULL, stm)) \
    ROW(then, rtError_t, rtAicpuKernelLaunchExWithArgs, MP_ARG7(const uint32_t, kernelType, \
        const char *, opName, const uint32_t, blockDim, const void *, argsInfo, void *, smDesc, \
        void *, stm, const uint32_t, flags), launched(&scope, NULL, opName, stm)) \
    ROW(then, rtError_t, rtCpuKernelLaunchWithFlag, MP_ARG7(const void *, soName, \
        const void *, kernelName, uint32_t, blockDim, const void *, argsInfo, void *, smDesc, \
        void *, stm, uint32_t, flags), launched(&scope, NULL, kernelName, stm)) \
    ROW(then, rtError_t, rtLaunchKernelByFuncHandle, MP_ARG4(void *, funcHandle, \
        uint32_t, blockDim, void *, argsHandle, void *, stm), \
        launched(&scope, funcHandle, NULL, stm)) \
    ROW(then, rtError_t, rtLaunchKernelByFuncHandleV2, MP_ARG5(void *, funcHandle, \
        uint32_t, blockDim, void *, argsHandle, void *, stm, const void *, cfgInfo), \
        launched(&scope, funcHandle, NULL, stm)) \
    ROW(then, rtError_t, rtLaunchKernelByFuncHandleV3, MP_ARG5(void *, funcHandle, \
        uint32_t, blockDim, const void *, argsInfo, void *, stm, const void *, cfgInfo), \
        launched(&scope, funcHandle, NULL, stm))

#define MP_ACL_LAUNCH_ROWS(ROW) \
    ROW(then, aclError, aclrtBinaryGetFunction, MP_ARG3(const void *, binHandle, \
        const char *, kernelName, void **, funcHandle), named(*funcHandle, kernelName)) \
    ROW(then, aclError, aclrtRegisterCpuFunc, MP_ARG4(const void *, handle, \
        const char *, funcName, const char *, kernelName, void **, funcHandle), \
        named(*funcHandle, kernelName)) \
    ROW(then, aclError, aclrtLaunchKernel, MP_ARG5(void *, funcHandle, uint32_t, numBlocks, \
        const void *, argsData, size_t, argsSize, aclrtStream, stream), \
        launched(&scope, funcHandle, NULL, stream)) \
    ROW(then, aclError, aclrtLaunchKernelV2, MP_ARG6(void *, funcHandle, uint32_t, numBlocks, \
        const void *, argsData, size_t, argsSize, void *, cfg, aclrtStream, stream), \
        launched(&scope, funcHandle, NULL, stream)) \
    ROW(then, aclError, aclrtLaunchKernelWithConfig, MP_ARG6(void *, funcHandle, \
        uint32_t, numBlocks, aclrtStream, stream, void *, cfg, void *, argsHandle, \
        void *, reserve), launched(&scope, funcHandle, NULL, stream)) \
    ROW(then, aclError, aclrtLaunchKernelWithHostArgs, MP_ARG8(void *, funcHandle, \
        uint32_t, numBlocks, aclrtStream, stream, void *, cfg, void *, hostArgs, size_t, argsSize, \
        void *, placeHolderArray, size_t, placeHolderNum), \
        launched(&scope, funcHandle, NULL, stream))
/* clang-format on */

MP_RUNTIME_NAME_ROWS(MP_ROW_WRAPPER)
MP_RUNTIME_LAUNCH_ROWS(MP_ROW_WRAPPER)
MP_ACL_LAUNCH_ROWS(MP_ROW_WRAPPER)
MP_LIBRARY(runtime_launches, MP_BACKEND_HAL, ("libruntime.so"),
           MP_RUNTIME_NAME_ROWS(MP_ROW_POINTER) MP_RUNTIME_LAUNCH_ROWS(MP_ROW_POINTER)
               ASKED_OF_RUNTIME(MP_ASKED_POINTER));
MP_LIBRARY(acl_launches, MP_BACKEND_HAL, ("libascendcl.so", "libacl_rt.so"),
           MP_ACL_LAUNCH_ROWS(MP_ROW_POINTER) ASKED_OF_ACL(MP_ASKED_POINTER));
