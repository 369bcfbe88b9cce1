/*
 * runtime.c - see runtime.h.
 */
#include "runtime.h"
#include "redirect/elf_lookup.h"
#include "unwind/unwind_arch.h"

#define FREE 0u
#define FILLING 1u
#define READY 2u
#if defined(__x86_64__)
#define MP_SLOT_DATA R_X86_64_GLOB_DAT
#define MP_SLOT_CALL R_X86_64_JUMP_SLOT
#else
#define MP_SLOT_DATA R_AARCH64_GLOB_DAT
#define MP_SLOT_CALL R_AARCH64_JUMP_SLOT
#endif
#define KEYS_MAX 1024 /* PTHREAD_KEYS_MAX */
/* glibc's thread descriptor, whose address is the thread's id, ends at most so far below the thread pointer. */
#define DESCRIPTOR_MAX 16384

struct mp_py_runtime mp_py_runtimes[MP_PY_RUNTIMES];
uint32_t mp_py_beginnings;
uint32_t mp_py_met;

static mp_py_getspecific *thread_value;

void mp_py_init(mp_py_getspecific *getspecific) {
    thread_value = getspecific;
}

static bool same_text(const char *a, const char *b) {
    while (*a != '\0' && *a == *b) {
        a++;
        b++;
    }
    return *a == *b;
}

/* From 3.13 the runtime begins with this. */
struct debug_offsets {
    char cookie[8];
    uint64_t version;
    uint64_t free_threaded;
    uint64_t runtime_bytes;
    uint64_t finalizing; /* where it is in the runtime */
};

static unsigned minor_of(const struct mp_elf *elf) {
    const uint32_t *version = (const uint32_t *)mp_elf_lookup(elf, "Py_Version");
    if (version != NULL && mp_elf_segment_rest(elf, (uintptr_t)version, PF_R) >= sizeof *version)
        return *version >> 24 == 3 ? *version >> 16 & 0xff : 0;
    if (mp_elf_lookup(elf, "PyIter_Send") != 0)
        return 10;
    return mp_elf_lookup(elf, "PyFrame_GetCode") != 0 ? 9 : 0;
}

static const struct mp_py_layout *layout_of(const struct mp_elf *elf, uintptr_t state) {
    unsigned minor = minor_of(elf);
    bool free_threaded = false;
    if (minor >= 13) {
        const struct debug_offsets *offsets = (const struct debug_offsets *)state;
        for (unsigned i = 0; i < sizeof offsets->cookie; i++)
            if (offsets->cookie[i] != "xdebugpy"[i])
                return NULL;
        if (offsets->version >> 24 != 3 || (offsets->version >> 16 & 0xff) != minor)
            return NULL;
        free_threaded = offsets->free_threaded != 0;
    }
    return mp_py_layout_of(minor, free_threaded);
}

/* Is the type object, which lies in a module, the one of that name? Its name is text of the module. */
static bool is_type(const struct mp_elf *elf, const struct mp_py_layout *layout, uintptr_t type,
                    const char *name) {
    if (type == 0 || type % sizeof(uintptr_t) != 0 ||
        mp_elf_segment_rest(elf, type, PF_R) < layout->type_name + sizeof(uintptr_t))
        return false;
    uintptr_t at = *(const uintptr_t *)(type + layout->type_name);
    return mp_elf_segment_rest(elf, at, PF_R) > 16 && same_text((const char *)at, name);
}

struct slots {
    const struct mp_elf *elf;
    const ElfW(Rela) * of;
    size_t count;
};

/* The word through which the module itself uses `name`; NULL: none. */
static const uintptr_t *slot_among(const struct slots *in, const char *name) {
    const struct mp_elf *elf = in->elf;
    for (size_t i = 0; i < in->count; i++) {
        size_t symbol = ELF64_R_SYM(in->of[i].r_info);
        uintptr_t slot = elf->base + in->of[i].r_offset;
        if ((ELF64_R_TYPE(in->of[i].r_info) != MP_SLOT_DATA &&
             ELF64_R_TYPE(in->of[i].r_info) != MP_SLOT_CALL) ||
            symbol >= elf->symbols_max || elf->symbols[symbol].st_name >= elf->strings_bytes ||
            !same_text(elf->strings + elf->symbols[symbol].st_name, name))
            continue;
        return mp_elf_segment_rest(elf, slot, PF_R) < sizeof slot ? NULL : (const uintptr_t *)slot;
    }
    return NULL;
}

static const uintptr_t *slot_of(const struct mp_elf *elf, const char *name) {
    struct slots data = {elf, elf->rela, elf->relas}, calls = {elf, elf->plt_rela, elf->plt_relas};
    const uintptr_t *slot = slot_among(&data, name);
    return slot != NULL ? slot : slot_among(&calls, name);
}

/* The type object that the interpreter uses: its own, or the program's copy of it (R_*_COPY). 0: not found. */
static uintptr_t type_of(const struct mp_elf *elf, const struct mp_py_layout *layout,
                         const char *symbol, const char *name) {
    uintptr_t own = mp_elf_lookup(elf, symbol);
    if (!is_type(elf, layout, own, name))
        return 0;
    const uintptr_t *slot = slot_of(elf, symbol);
    if (slot == NULL || *slot == own)
        return own;
    return *slot != 0 && *slot % sizeof *slot == 0 &&
                   *(const uintptr_t *)(*slot + layout->type_name) ==
                       *(const uintptr_t *)(own + layout->type_name)
               ? *slot
               : 0;
}

/* Where the runtime says which thread state ends it; NULL: nowhere that can be read. */
static const uintptr_t *finalizing_of(const struct mp_elf *elf, uintptr_t state,
                                      const struct mp_py_layout *layout) {
    uint64_t at = layout->finalizing;
    if (at == 0)
        at = ((const struct debug_offsets *)state)->finalizing;
    bool is_inside = at % sizeof(uintptr_t) == 0 && at < layout->thread_key &&
                     mp_elf_segment_rest(elf, state + at, PF_R) >= sizeof(uintptr_t);
    return is_inside ? (const uintptr_t *)(state + at) : NULL;
}

static bool describe(const struct mp_elf *elf, struct mp_py_runtime *r) {
    r->state = mp_elf_lookup(elf, "_PyRuntime");
    bool is_readable = mp_elf_segment_rest(elf, r->state, PF_R) >= sizeof(struct debug_offsets);
    r->layout = is_readable ? layout_of(elf, r->state) : NULL;
    if (r->layout == NULL ||
        mp_elf_segment_rest(elf, r->state, PF_R) < r->layout->thread_key + 2 * sizeof(int))
        return false;
    r->getspecific = slot_of(elf, "pthread_getspecific");
    r->finalizing = finalizing_of(elf, r->state, r->layout);
    r->code_type = type_of(elf, r->layout, "PyCode_Type", "code");
    r->text_type = type_of(elf, r->layout, "PyUnicode_Type", "str");
    r->bytes_type = type_of(elf, r->layout, "PyBytes_Type", "bytes");
    return r->getspecific != NULL && r->finalizing != NULL && r->code_type != 0 &&
           r->text_type != 0 && r->bytes_type != 0;
}

/* The row to fill; NULL: this interpreter is known, or there are too many. */
static struct mp_py_runtime *row_for(uintptr_t module_start) {
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++)
        if (mp_load_acquire(&mp_py_runtimes[i].ready) == READY &&
            mp_py_runtimes[i].module_start == module_start)
            return NULL;
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++)
        if (mp_cas_u32(&mp_py_runtimes[i].ready, FREE, FILLING))
            return &mp_py_runtimes[i];
    return NULL;
}

/* Apart from its caller, whose frame is small: the description of a module is not. */
static __attribute__((noinline)) void meet(const struct mp_elf *elf, uintptr_t module_start) {
    struct mp_py_runtime *r = row_for(module_start);
    if (r == NULL)
        return;
    r->module_start = module_start;
    bool known = describe(elf, r);
    mp_store_release(&r->ready, known ? READY : FREE);
    if (known)
        mp_store_relaxed(&mp_py_met, 1u);
}

void mp_py_meet(uintptr_t module_start, uintptr_t bias, const ElfW(Phdr) * phdr, unsigned phdrs) {
    struct mp_elf elf;
    if (phdr != NULL && mp_elf_from_headers(&elf, bias, phdr, phdrs) &&
        mp_elf_lookup(&elf, "_PyRuntime") != 0)
        meet(&elf, module_start);
}

void mp_py_begins(void) {
    mp_add_relaxed(&mp_py_beginnings, 1);
}

void mp_py_leave(uintptr_t module_start) {
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++)
        if (mp_py_runtimes[i].module_start == module_start)
            mp_cas_u32(&mp_py_runtimes[i].ready, READY, FREE);
}

/* Is a thread id the calling thread's? On x86-64 it is the thread pointer, elsewhere somewhat below. */
static bool is_own(uintptr_t thread_id) {
    return mp_arch_thread_pointer() - thread_id < DESCRIPTOR_MAX;
}

/* Once for each time that its key is gone: then it has ended, and what begins next gives the same numbers. */
static void note_life(struct mp_py_runtime *r, bool alive) {
    if (mp_likely(mp_load_relaxed(&r->alive) == alive))
        return;
    mp_store_relaxed(&r->alive, alive);
    if (!alive)
        mp_py_begins();
}

static uintptr_t state_in(struct mp_py_runtime *r) {
    const int *key = (const int *)(r->state + r->layout->thread_key);
    int made = mp_load_relaxed(&key[0]), number = mp_load_relaxed(&key[1]);
    uintptr_t its_own = mp_load_relaxed(r->getspecific);
    note_life(r, made == 1);
    if (thread_value == NULL || its_own != (uintptr_t)thread_value || made != 1 || number < 0 ||
        number >= KEYS_MAX)
        return 0;
    uintptr_t state = (uintptr_t)thread_value((unsigned)number);
    if (state == 0 || state % sizeof(uintptr_t) != 0)
        return 0;
    /* The end of an interpreter frees the states and frames of all other threads, which may run C code. */
    uintptr_t ending = mp_load_acquire(r->finalizing);
    if (ending != 0 && ending != state)
        return 0;
    return is_own(*(const uintptr_t *)(state + r->layout->thread_id)) ? state : 0;
}

uintptr_t mp_py_thread_state(const struct mp_py_runtime **whose) {
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++) {
        struct mp_py_runtime *r = &mp_py_runtimes[i];
        if (mp_load_acquire(&r->ready) != READY)
            continue;
        uintptr_t state = state_in(r);
        if (state != 0) {
            *whose = r;
            return state;
        }
    }
    return 0;
}
