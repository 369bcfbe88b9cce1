/*
 * launch.c - wrappers of the functions of Ascend's runtime and of ACL that launch kernels.
 *
 * The time of a launch is that at which the call has returned: only then the runtime knows the task's number. Stream,
 * task and device are what the runtime itself says; where it has no such function, they are left out.
 */
#include "launch.h"
#include "device/launches.h"
#include "drivers/wrap.h"
#include "hal_abi.h"
#include "handle_names.h"
#include "launch_rows.h"

#include <errno.h>
#include <string.h>

#define MP_ROW_BACKEND MP_BACKEND_HAL
#define MP_ROW_FAMILY MP_FAMILY_LAUNCH
#define MP_ROW_OK(rc) ((rc) == 0)
#define MP_ROW_TAIL(scope, row) (void)(scope)

/* Called, not wrapped. */
static struct mp_device_row row_acl_device = {.symbol = "aclrtGetDevice"};
static struct mp_device_row row_acl_stream = {.symbol = "aclrtStreamGetId"};
static struct mp_device_row row_acl_task = {.symbol = "aclrtGetThreadLastTaskId"};
static struct mp_device_row row_acl_name = {.symbol = "aclrtGetFunctionName"};
static struct mp_device_row row_rt_device = {.symbol = "rtGetDevice"};
static struct mp_device_row row_rt_stream = {.symbol = "rtGetStreamId"};
static struct mp_device_row row_rt_task = {.symbol = "rtsGetThreadLastTaskId"};
static struct mp_device_row row_rt_both = {.symbol = "rtGetTaskIdAndStreamID"};

int mp_ascend_device(void) {
    typedef int get_device(int32_t *device);
    int32_t device = -1;
    int saved_errno = errno;
    uintptr_t ask = mp_row_real(&row_acl_device);
    ask = ask != 0 ? ask : mp_row_real(&row_rt_device);
    bool is_known = ask != 0 && ((get_device *)ask)(&device) == 0;
    errno = saved_errno;
    return is_known ? device : -1;
}

static bool stream_id(void *stream, uint32_t *id) {
    typedef int get_stream(void *stream, int32_t *id);
    int32_t found = 0;
    uintptr_t ask = mp_row_real(&row_acl_stream);
    ask = ask != 0 ? ask : mp_row_real(&row_rt_stream);
    if (ask == 0 || ((get_stream *)ask)(stream, &found) != 0)
        return false;
    *id = (uint32_t)found;
    return true;
}

static bool task_id(uint32_t *id) {
    typedef int get_task(uint32_t *id);
    typedef int get_both(uint32_t *task, uint32_t *stream);
    uint32_t stream = 0;
    uintptr_t ask = mp_row_real(&row_acl_task), both = mp_row_real(&row_rt_both);
    ask = ask != 0 ? ask : mp_row_real(&row_rt_task);
    if (ask != 0)
        return ((get_task *)ask)(id) == 0;
    return both != 0 && ((get_both *)both)(id, &stream) == 0;
}

/* The name that ACL has for a function whose look-up nobody saw. ACL itself needs far more stack than this buffer. */
static __attribute__((noinline)) uint32_t ask_name(const void *handle) {
    typedef int get_name(const void *handle, uint32_t most, char *name);
    char name[MP_LAUNCH_TEXT_BYTES];
    get_name *ask = (get_name *)mp_row_real(&row_acl_name);
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
    if (!mp_device_is_driver(&row_rt_device, scope->caller.pc)) {
        uint32_t stream_number = 0, task = 0;
        launch.device = mp_ascend_device();
        launch.size_bytes = (stream_id(stream, &stream_number) ? MP_LAUNCH_STREAM : 0) |
                            (task_id(&task) ? MP_LAUNCH_TASK : 0);
        launch.address = (uint64_t)stream_number << 32 | task;
        if (launch.name == 0)
            launch.name = ask_name(handle);
    }
    errno = saved_errno; /* of the launch, not of what the runtime was asked */
    mp_launch_add(&launch);
}

MP_RUNTIME_NAME_ROWS(MP_ROW_WRAPPER)
MP_RUNTIME_LAUNCH_ROWS(MP_ROW_WRAPPER)
MP_ACL_LAUNCH_ROWS(MP_ROW_WRAPPER)

static struct mp_device_row *const runtime_rows[] = {
    MP_RUNTIME_NAME_ROWS(MP_ROW_POINTER) MP_RUNTIME_LAUNCH_ROWS(MP_ROW_POINTER) & row_rt_device,
    &row_rt_stream, &row_rt_task, &row_rt_both, NULL};
static const char *const runtime_sonames[] = {"libruntime.so", NULL};
const struct mp_device_library mp_library_runtime_launches = {MP_BACKEND_HAL, runtime_sonames,
                                                              runtime_rows};

static struct mp_device_row *const acl_rows[] = {
    MP_ACL_LAUNCH_ROWS(MP_ROW_POINTER) & row_acl_device, &row_acl_stream, &row_acl_task,
    &row_acl_name, NULL};
static const char *const acl_sonames[] = {"libascendcl.so", "libacl_rt.so", NULL};
const struct mp_device_library mp_library_acl_launches = {MP_BACKEND_HAL, acl_sonames, acl_rows};
