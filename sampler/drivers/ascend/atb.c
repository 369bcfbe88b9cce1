/*
 * atb.c - operators of Ascend's library of transformer operators (ATB), libatb.so, and the kernels in them.
 *
 * How it works: atb::Runner::Execute runs an operator; its name and path were told to the runner before
 * (SetRunnerInfo, SetSaveTensorDir), as references to strings, so that nothing has to be asked and no string is made
 * here. The library calls these functions of its own through slots or tables of virtual functions, because tools
 * replace them.
 *
 * Kernels: where a capture wants them, the library is told that somebody saves each kernel's tensors (atb::Probe, made
 * for tools); it then calls StoreUtil::SaveLaunchParam before and after each kernel. That function writes files: once
 * the library was told so, it is never called, and operators themselves save nothing (Runner::IsSaveTensor).
 *
 * A function that takes a std::string has two names, one for each form of strings in libstdc++; a library has one of
 * them. C++ exceptions pass through these wrappers: an operator that throws one has no end.
 */
#include "atb_abi.h"
#include "device/launches.h"
#include "drivers/backend.h"
#include "launch.h"

#include <string.h>

#define NEW_STRING "RKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE"
#define OLD_STRING "RKSs"
#define CALLED __attribute__((noinline)) static

/* A function of the library, of which the one of this name here is the wrapper; REAL() is its own. */
#define ATB(result, function, symbol_, parameters)                                                 \
    typedef result fn_##function parameters;                                                       \
    CALLED result function parameters;                                                             \
    static struct mp_device_row row_##function = {.symbol = symbol_,                               \
                                                  .wrapper = (uintptr_t)function};                 \
    CALLED result function parameters
#define REAL(function) ((fn_##function *)mp_row_real(&row_##function))

static struct atb_string new_string(const void *string) {
    return *(const struct atb_string *)string;
}

static struct atb_string old_string(const void *string) {
    const char *text = *(const char *const *)string;
    return (struct atb_string){text, ((const size_t *)(const void *)text)[-3]};
}

/* The library has been told that tensors are saved. */
static bool told;

/* -- operators ------------------------------------------------------------------------------- */

static void add_tensors(const struct atb_tensors *tensors, enum mp_launch_kind kind,
                        const struct mp_launch *operator_) {
    const struct atb_tensor *first = tensors->heap != NULL ? tensors->heap : tensors->inside;
    if (tensors->size > MP_ATB_MOST || (tensors->heap == NULL && tensors->size > MP_ATB_INLINE)) {
        mp_launch_lose();
        return;
    }
    for (size_t i = 0; i < tensors->size; i++) {
        const struct atb_tensor *t = &first[i];
        struct mp_launch access = {.kind = kind,
                                   .device = operator_->device,
                                   .name = operator_->name,
                                   .address = (uintptr_t)t->device_data,
                                   .size_bytes = t->bytes};
        if (t->device_data == NULL)
            continue;
        access.detail = mp_launch_tensor(t->type, t->format, t->dimension, t->dimensions);
        mp_launch_add(&access);
    }
}

/* Before the operator runs, so that one that ends the process is known with all that it uses. */
CALLED void begin_operator(const struct atb_pack *pack, const void *runner, bool has_launches,
                           struct mp_launch *launch) {
    *launch = (struct mp_launch){
        .kind = MP_LAUNCH_OPERATOR_BEGIN,
        .device = mp_ascend_device(),
        .name = mp_handle_text(MP_HANDLE_OPERATOR, runner),
        .detail = mp_handle_text(MP_HANDLE_PATH, runner),
        .address = (uintptr_t)pack->workspace,
        .size_bytes = pack->workspace_bytes + pack->intermediate_bytes,
    };
    if (has_launches)
        mp_launch_add(launch);
    if (mp_launch_wanted(MP_LAUNCH_ACCESSES)) {
        add_tensors(&pack->in, MP_LAUNCH_ACCESS, launch);
        add_tensors(&pack->out, MP_LAUNCH_WRITE, launch);
    }
}

ATB(int32_t, execute, "_ZN3atb6Runner7ExecuteERNS_17RunnerVariantPackE",
    (void *runner, const struct atb_pack *pack)) {
    struct mp_launch launch;
    mp_device_backend_call(MP_BACKEND_HAL);
    bool has_launches = mp_launch_wanted(MP_LAUNCH_OPERATORS);
    if (pack == NULL || (!has_launches && !mp_launch_wanted(MP_LAUNCH_ACCESSES)))
        return REAL(execute)(runner, pack);
    begin_operator(pack, runner, has_launches, &launch);
    int32_t status = REAL(execute)(runner, pack);
    launch.kind = MP_LAUNCH_OPERATOR_END;
    if (has_launches)
        mp_launch_add(&launch);
    return status;
}

/* Names and paths are told before a capture may want them, and a runner's memory is used again by others: one that
 * is not kept is forgotten. */
static void name_runner(enum mp_handle_kind kind, const void *runner, struct atb_string name) {
    bool wanted = mp_launch_wanted(MP_LAUNCH_OPERATORS | MP_LAUNCH_ACCESSES);
    mp_handle_name(kind, runner, wanted ? mp_launch_text(name.text, name.bytes) : 0);
}

/* -- kernels --------------------------------------------------------------------------------- */

/* "DIR/NAME/before" or ".../after": a kernel named NAME begins or ends. */
static void save_launch(struct atb_string path) {
    static const char before[] = "/before", after[] = "/after";
    size_t tail = sizeof before - 1;
    struct mp_launch launch = {.kind = MP_LAUNCH_KERNEL_BEGIN};
    if (path.bytes < tail || memcmp(path.text + path.bytes - tail, before, tail) != 0) {
        tail = sizeof after - 1;
        launch.kind = MP_LAUNCH_KERNEL_END;
        if (path.bytes < tail || memcmp(path.text + path.bytes - tail, after, tail) != 0) {
            mp_launch_lose();
            return;
        }
    }
    size_t end = path.bytes - tail, start = end;
    while (start > 0 && path.text[start - 1] != '/')
        start--;
    launch.device = mp_ascend_device();
    launch.name = mp_launch_text(path.text + start, end - start);
    launch.detail = mp_launch_text(path.text, path.bytes);
    mp_launch_add(&launch);
}

static bool wants_kernels(void);

#define PATH_ROW(function, symbol_, read)                                                          \
    ATB(void, function, symbol_, (void *runner, const void *path)) {                               \
        name_runner(MP_HANDLE_PATH, runner, read(path));                                           \
        REAL(function)(runner, path);                                                              \
    }

#define TEXT_ROWS(abi, string_name, read)                                                          \
    ATB(void, abi##_info, "_ZN3atb6Runner13SetRunnerInfoE" string_name "RKSt6vectorIlSaIlEE",      \
        (void *runner, const void *name, const void *ids)) {                                       \
        name_runner(MP_HANDLE_OPERATOR, runner, read(name));                                       \
        REAL(abi##_info)(runner, name, ids);                                                       \
    }                                                                                              \
    PATH_ROW(abi##_path, "_ZN3atb6Runner16SetSaveTensorDirE" string_name, read)                    \
    PATH_ROW(abi##_graph_path, "_ZN3atb11GraphRunner16SetSaveTensorDirE" string_name, read)        \
    ATB(void, abi##_save,                                                                          \
        "_ZN3atb9StoreUtil15SaveLaunchParamEPvRKN3Mki11LaunchParamE" string_name,                  \
        (void *stream, const void *launch, const void *path)) {                                    \
        if (!mp_load_relaxed(&told))                                                               \
            REAL(abi##_save)(stream, launch, path);                                                \
        else if (mp_launch_wanted(MP_LAUNCH_KERNELS))                                              \
            save_launch(read(path));                                                               \
    }                                                                                              \
    ATB(bool, abi##_need, "_ZN3atb5Probe16IsTensorNeedSaveERKSt6vectorIlSaIlEE" string_name,       \
        (const void *ids, const void *type)) {                                                     \
        return wants_kernels() || REAL(abi##_need)(ids, type);                                     \
    }                                                                                              \
    ATB(bool, abi##_in_dir, "_ZN3atb5Probe25IsSaveTensorInSpecificDirE" string_name,               \
        (const void *path)) {                                                                      \
        return wants_kernels() || REAL(abi##_in_dir)(path);                                        \
    }

TEXT_ROWS(new, NEW_STRING, new_string)
TEXT_ROWS(old, OLD_STRING, old_string)

ATB(bool, count_in_range, "_ZN3atb5Probe21IsExecuteCountInRangeEm", (uint64_t count)) {
    return wants_kernels() || REAL(count_in_range)(count);
}

ATB(bool, save_before, "_ZN3atb5Probe18IsSaveTensorBeforeEv", (void)) {
    return wants_kernels() || REAL(save_before)();
}

ATB(bool, save_after, "_ZN3atb5Probe17IsSaveTensorAfterEv", (void)) {
    return wants_kernels() || REAL(save_after)();
}

/* With it the library tells runners their paths. */
ATB(bool, save_path, "_ZN3atb5Probe16IsSaveTensorDescEv", (void)) {
    return mp_launch_wanted(MP_LAUNCH_OPERATORS) || wants_kernels() || REAL(save_path)();
}

ATB(bool, operator_saves, "_ZNK3atb6Runner12IsSaveTensorEv", (const void *runner)) {
    return !mp_load_relaxed(&told) && REAL(operator_saves)(runner);
}

/* Only of a library that has all that keeps it from writing files. */
static bool wants_kernels(void) {
    bool has_all = mp_row_real(&row_operator_saves) != 0 &&
                   (mp_row_real(&row_new_save) != 0 || mp_row_real(&row_old_save) != 0);
    if (!has_all || !mp_launch_wanted(MP_LAUNCH_KERNELS))
        return false;
    mp_store_relaxed(&told, true);
    return true;
}

#define TEXT_POINTERS(abi)                                                                         \
    &row_##abi##_info, &row_##abi##_path, &row_##abi##_graph_path, &row_##abi##_save,              \
        &row_##abi##_need, &row_##abi##_in_dir

MP_LIBRARY(atb, MP_BACKEND_HAL, ("libatb.so"), &row_execute, TEXT_POINTERS(new), TEXT_POINTERS(old),
           &row_count_in_range, &row_save_before, &row_save_after, &row_save_path,
           &row_operator_saves, );
