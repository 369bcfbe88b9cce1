/*
 * opencl_context.c - contexts of OpenCL: which device their memory is on, and when they end; and
 * the functions that a platform has beyond the table.
 */
#include "abi/atomics.h"
#include "opencl.h"

#include <errno.h>
#include <string.h>

#define CONTEXT_ROWS 256 /* contexts with a kept answer; others need a new query */
#define PLATFORMS_MAX 16
#define DEVICES_MAX 64
#define ROW_CLAIMED 1

/* A row belongs to a context from its creation to its end. Key 0: free; ROW_CLAIMED: being filled. */
struct context_row {
    uint64_t key;
    void *platform;
    int32_t device;
    bool watched; /* the driver will report its destruction */
};

static struct context_row rows[CONTEXT_ROWS];

/* Some drivers free all remaining blocks while the process ends: the file must show these blocks as not
 * freed. */
static bool exiting;

void mp_cl_exit(void) {
    mp_store_relaxed(&exiting, true);
}

bool mp_cl_exiting(void) {
    return mp_load_relaxed(&exiting);
}

static struct context_row *row_of(void *context) {
    for (unsigned i = 0; i < CONTEXT_ROWS; i++)
        if (mp_load_acquire(&rows[i].key) == (uintptr_t)context)
            return &rows[i];
    return NULL;
}

static void remember(void *context, struct mp_cl_place place, bool watched) {
    for (unsigned i = 0; i < CONTEXT_ROWS; i++) {
        struct context_row *row = &rows[i];
        if (mp_load_relaxed(&row->key) != 0 || !mp_cas_u64(&row->key, 0, ROW_CLAIMED))
            continue;
        row->platform = place.platform;
        row->device = place.device;
        row->watched = watched;
        mp_store_release(&row->key, (uintptr_t)context);
        return;
    }
}

/* HOOK, perhaps on a thread of the driver. Nobody can free pointers of a context after its end. */
static void ended(void *context, void *user_data) {
    (void)user_data;
    if (mp_cl_exiting())
        return;
    mp_device_drop_container(MP_SPACE_OPENCL_POINTER, (uintptr_t)context);
    mp_device_drop_container(MP_SPACE_OPENCL_OBJECT, (uintptr_t)context);
    struct context_row *row = row_of(context);
    if (row != NULL)
        mp_store_release(&row->key, 0);
}

int mp_cl_device_number(const struct mp_cl_layer *layer, void *device) {
    void *platforms[PLATFORMS_MAX], *devices[DEVICES_MAX], *parent = NULL;
    uint32_t n = 0, number = 0;
    mp_clGetDeviceInfo_fn get = MP_CL_REAL(layer, clGetDeviceInfo);
    while (get(device, MP_CL_DEVICE_PARENT_DEVICE, sizeof parent, &parent, NULL) == MP_CL_SUCCESS &&
           parent != NULL)
        device = parent;
    if (MP_CL_REAL(layer, clGetPlatformIDs)(PLATFORMS_MAX, platforms, &n) != MP_CL_SUCCESS)
        return -1;
    for (uint32_t i = 0; i < n && i < PLATFORMS_MAX; i++) {
        uint32_t here = 0;
        if (MP_CL_REAL(layer, clGetDeviceIDs)(platforms[i], MP_CL_DEVICE_TYPE_ALL, DEVICES_MAX,
                                              devices, &here) != MP_CL_SUCCESS)
            continue;
        for (uint32_t k = 0; k < here && k < DEVICES_MAX; k++)
            if (devices[k] == device)
                return (int)(number + k);
        number += here;
    }
    return -1;
}

static struct mp_cl_place ask(const struct mp_cl_layer *layer, void *context) {
    struct mp_cl_place place = {.device = -1};
    void *devices[DEVICES_MAX];
    size_t bytes = 0;
    if (MP_CL_REAL(layer, clGetContextInfo)(context, MP_CL_CONTEXT_DEVICES, sizeof devices, devices,
                                            &bytes) != MP_CL_SUCCESS ||
        bytes < sizeof devices[0])
        return place;
    if (MP_CL_REAL(layer, clGetDeviceInfo)(devices[0], MP_CL_DEVICE_PLATFORM, sizeof place.platform,
                                           &place.platform, NULL) != MP_CL_SUCCESS)
        place.platform = NULL;
    if (bytes == sizeof devices[0])
        place.device = mp_cl_device_number(layer, devices[0]);
    return place;
}

struct mp_cl_place mp_cl_place_of(const struct mp_cl_layer *layer, void *context) {
    const struct context_row *row = row_of(context);
    if (row != NULL)
        return (struct mp_cl_place){row->platform, row->device};
    return ask(layer, context);
}

/* clSetContextDestructorCallback came with OpenCL 3.0; loaders call it in older drivers, too. */
static bool has_context_callback(const struct mp_cl_layer *layer, void *platform) {
    char version[64] = "";
    if (layer->target[MP_CL_clSetContextDestructorCallback] == NULL || platform == NULL ||
        MP_CL_REAL(layer, clGetPlatformInfo)(platform, MP_CL_PLATFORM_VERSION, sizeof version - 1,
                                             version, NULL) != MP_CL_SUCCESS)
        return false;
    return strncmp(version, "OpenCL ", 7) == 0 && version[7] >= '3' && version[7] <= '9';
}

void mp_cl_context_made(struct mp_cl_layer *layer, void *context) {
    if (context == NULL)
        return;
    int saved_errno = errno;
    struct mp_cl_place place = ask(layer, context);
    bool watched =
        has_context_callback(layer, place.platform) &&
        MP_CL_REAL(layer, clSetContextDestructorCallback)(context, ended, NULL) == MP_CL_SUCCESS;
    remember(context, place, watched);
    errno = saved_errno;
}

int32_t mp_cl_context_release(struct mp_cl_layer *layer, void *context) {
    const struct context_row *row = row_of(context);
    uint32_t references = 0;
    if (row != NULL && !row->watched &&
        MP_CL_REAL(layer, clGetContextInfo)(context, MP_CL_CONTEXT_REFERENCE_COUNT,
                                            sizeof references, &references,
                                            NULL) == MP_CL_SUCCESS &&
        references == 1)
        ended(context, NULL);
    return MP_CL_REAL(layer, clReleaseContext)(context);
}

/* --- functions found by name ---------------------------------------------------------------- */

/* The platform's row, claimed if it is new; NULL: no room. */
static struct mp_cl_platform_extensions *extensions_of(struct mp_cl_layer *layer, void *platform) {
    for (unsigned i = 0; i < MP_CL_PLATFORMS; i++) {
        struct mp_cl_platform_extensions *row = &layer->extensions[i];
        uint32_t state = mp_load_acquire(&row->claimed);
        if (state == 2 && row->platform == platform)
            return row;
        if (state == 0 && mp_cas_u32(&row->claimed, 0, 1)) {
            row->platform = platform;
            mp_store_release(&row->claimed, 2);
            return row;
        }
    }
    return NULL;
}

void *mp_cl_extension_hook(struct mp_cl_layer *layer, void *platform, const char *name, void *real,
                           void *const hooks[MP_CL_EXTENSION_COUNT]) {
    static const char *const names[MP_CL_EXTENSION_COUNT] = {
#define NAME(symbol, number, result, parameters) [number] = #symbol,
        MP_CL_EXTENSIONS(NAME)
#undef NAME
    };
    if (real == NULL || name == NULL)
        return real;
    for (unsigned i = 0; i < MP_CL_EXTENSION_COUNT; i++) {
        if (strcmp(name, names[i]) != 0)
            continue;
        struct mp_cl_platform_extensions *row = extensions_of(layer, platform);
        if (row == NULL)
            return real;
        mp_store_release(&row->real[i], real);
        return hooks[i];
    }
    return real;
}

void *mp_cl_extension_real(const struct mp_cl_layer *layer, enum mp_cl_extension extension,
                           void *context) {
    void *platform = mp_cl_place_of(layer, context).platform, *any = NULL;
    for (unsigned i = 0; i < MP_CL_PLATFORMS; i++) {
        const struct mp_cl_platform_extensions *row = &layer->extensions[i];
        void *real = mp_load_acquire(&row->real[extension]);
        if (real != NULL && row->platform == platform)
            return real;
        any = real != NULL ? real : any;
    }
    return any;
}
