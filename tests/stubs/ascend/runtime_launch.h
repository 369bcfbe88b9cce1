/*
 * runtime_launch.h - the launches of the stub's runtime: functions by name, tasks of streams, and a ledger.
 */
#include "launch_ledger.h"

#include <pthread.h>

#define FUNCTIONS 256
#define STREAMS 64

struct function {
    char *name;
    const void *stub; /* what rtKernelLaunch knows it by; NULL: no such */
};

static pthread_mutex_t launch_lock = PTHREAD_MUTEX_INITIALIZER;
static struct function functions[FUNCTIONS];
static unsigned function_count;
static uint32_t tasks[STREAMS];
static _Thread_local uint32_t last_task;

static struct function *add_function(const char *name, const void *stub) {
    pthread_mutex_lock(&launch_lock);
    struct function *f = NULL;
    for (unsigned i = 0; i < function_count && f == NULL; i++)
        if (functions[i].stub == stub && strcmp(functions[i].name, name) == 0)
            f = &functions[i];
    if (f == NULL && function_count < FUNCTIONS) {
        f = &functions[function_count++];
        *f = (struct function){strdup(name), stub};
    }
    pthread_mutex_unlock(&launch_lock);
    return f;
}

static struct function *function_of_stub(const void *stub) {
    for (unsigned i = 0; i < function_count; i++)
        if (stub != NULL && functions[i].stub == stub)
            return &functions[i];
    return NULL;
}

static int number_of(rtStream_t stream) {
    return (int)((uintptr_t)stream % STREAMS);
}

static rtError_t launch(const char *name, rtStream_t stream) {
    unsigned long long start = ledger_now();
    if (name == NULL)
        return ACL_ERROR_RT_PARAM_INVALID;
    pthread_mutex_lock(&launch_lock);
    last_task = tasks[number_of(stream)]++;
    ledger_write("kernel", start, current, (unsigned)number_of(stream), last_task, name,
                 strlen(name), "", 0);
    pthread_mutex_unlock(&launch_lock);
    return RT_ERROR_NONE;
}

#define LAUNCH(name, parameters, call)                                                             \
    rtError_t name parameters {                                                                    \
        return call;                                                                               \
    }

const char *stub_function_name(rtFuncHandle handle) {
    return handle != NULL ? ((struct function *)handle)->name : NULL;
}

rtFuncHandle stub_function(const char *name) {
    return add_function(name, NULL);
}

LAUNCH(rtFunctionRegister,
       (void *binHandle, const void *stubFunc, const char *stubName, const void *kernelInfoExt,
        uint32_t funcMode),
       add_function(stubName, stubFunc) != NULL ? RT_ERROR_NONE : ACL_ERROR_RT_PARAM_INVALID)

rtError_t rtsFuncGetByName(void *binHandle, const char *kernelName, rtFuncHandle *funcHandle) {
    *funcHandle = add_function(kernelName, NULL);
    return *funcHandle != NULL ? RT_ERROR_NONE : ACL_ERROR_RT_PARAM_INVALID;
}

LAUNCH(rtKernelLaunch,
       (const void *stubFunc, uint32_t blockDim, void *args, uint32_t argsSize, rtSmDesc_t *smDesc,
        rtStream_t stm),
       launch(stub_function_name(function_of_stub(stubFunc)), stm))

/* As the runtime does: another of its functions launches. */
LAUNCH(rtKernelLaunchWithFlagV2,
       (const void *stubFunc, uint32_t blockDim, rtArgsEx_t *argsInfo, rtSmDesc_t *smDesc,
        rtStream_t stm, uint32_t flags, const rtTaskCfgInfo_t *cfgInfo),
       rtKernelLaunch(stubFunc, blockDim, NULL, 0, smDesc, stm))
LAUNCH(rtKernelLaunchWithHandleV2,
       (void *hdl, const uint64_t tilingKey, uint32_t blockDim, rtArgsEx_t *argsInfo,
        rtSmDesc_t *smDesc, rtStream_t stm, const rtTaskCfgInfo_t *cfgInfo),
       launch("", stm))
LAUNCH(rtAicpuKernelLaunchExWithArgs,
       (const uint32_t kernelType, const char *const opName, const uint32_t blockDim,
        const rtAicpuArgsEx_t *argsInfo, rtSmDesc_t *const smDesc, const rtStream_t stm,
        const uint32_t flags),
       launch(opName, stm))
LAUNCH(rtLaunchKernelByFuncHandleV2,
       (rtFuncHandle funcHandle, uint32_t blockDim, rtLaunchArgsHandle argsHandle, rtStream_t stm,
        const rtTaskCfgInfo_t *cfgInfo),
       launch(stub_function_name(funcHandle), stm))
LAUNCH(rtLaunchKernelByFuncHandleV3,
       (rtFuncHandle funcHandle, uint32_t blockDim, const rtArgsEx_t *argsInfo, rtStream_t stm,
        const rtTaskCfgInfo_t *cfgInfo),
       rtLaunchKernelByFuncHandleV2(funcHandle, blockDim, NULL, stm, cfgInfo))

rtError_t rtGetStreamId(rtStream_t stm, int32_t *streamId) {
    *streamId = number_of(stm);
    return RT_ERROR_NONE;
}

rtError_t rtsGetThreadLastTaskId(uint32_t *taskId) {
    *taskId = last_task;
    return RT_ERROR_NONE;
}

rtError_t rtGetDevice(int32_t *devId) {
    *devId = current;
    return RT_ERROR_NONE;
}
