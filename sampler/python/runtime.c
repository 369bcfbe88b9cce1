/*
 * runtime.c - see runtime.h.
 */
#include "runtime.h"
#include "own_layout.h"
#include "redirect/elf_lookup.h"
#include "unwind/stack_range.h"
#include "unwind/unwind_arch.h"

#define NOINLINE __attribute__((noinline)) /* their frames are not there together */
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
static struct mp_py_dealloc deallocs[MP_PY_RUNTIMES];
_Static_assert(MP_PY_RUNTIMES == MP_PY_DEALLOCS, "one for each");
uint32_t mp_py_beginnings;
uint32_t mp_py_met;
uint32_t mp_py_unlisted, mp_py_unread;

static mp_py_getspecific *thread_value;

void mp_py_init(mp_py_getspecific *getspecific) {
    thread_value = getspecific;
}

#define FINALIZING_AT 32 /* in the head of a runtime, from 3.13 */

static unsigned minor_of(const struct mp_elf *elf) {
    const uint32_t *version = (const uint32_t *)mp_elf_lookup(elf, "Py_Version");
    if (version != NULL && mp_elf_segment_rest(elf, (uintptr_t)version, PF_R) >= sizeof *version)
        return *version >> 24 == 3 ? *version >> 16 & 0xff : 0;
    if (mp_elf_lookup(elf, "PyIter_Send") != 0)
        return 10;
    return mp_elf_lookup(elf, "PyFrame_GetCode") != 0 ? 9 : 0;
}

/* The layout of an interpreter from 3.13 on: that of the table, if it says the same itself, else its own. */
static NOINLINE const struct mp_py_layout *told_layout(const struct mp_elf *elf,
                                                       struct mp_py_runtime *r, unsigned minor) {
    const void *runtime = (const void *)r->state;
    size_t bytes = mp_elf_segment_rest(elf, r->state, PF_R);
    bool free_threaded;
    if (!mp_py_own_head(runtime, bytes, minor, &free_threaded))
        return NULL;
    const struct mp_py_layout *like =
        mp_py_layout_of(minor < MP_PY_NEWEST ? minor : MP_PY_NEWEST, free_threaded);
    if (like == NULL || !mp_py_own_layout(runtime, bytes, like, minor, &r->own))
        return NULL;
    return mp_py_own_agrees(&r->own, like) ? like : &r->own;
}

/* Is the type object, which lies in a module, the one of that name? Its name is text of the module. */
static bool is_type(const struct mp_elf *elf, const struct mp_py_layout *layout, uintptr_t type,
                    const char *name) {
    if (type == 0 || type % sizeof(uintptr_t) != 0 ||
        mp_elf_segment_rest(elf, type, PF_R) < layout->type_name + sizeof(uintptr_t))
        return false;
    uintptr_t at = *(const uintptr_t *)(type + layout->type_name);
    return mp_elf_segment_rest(elf, at, PF_R) > 16 && mp_elf_same_name((const char *)at, name);
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
            !mp_elf_same_name(elf->strings + elf->symbols[symbol].st_name, name))
            continue;
        return mp_elf_segment_rest(elf, slot, PF_R) < sizeof slot ? NULL : (const uintptr_t *)slot;
    }
    return NULL;
}

static NOINLINE const uintptr_t *slot_of(const struct mp_elf *elf, const char *name) {
    struct slots data = {elf, elf->rela, elf->relas}, calls = {elf, elf->plt_rela, elf->plt_relas};
    const uintptr_t *slot = slot_among(&data, name);
    return slot != NULL ? slot : slot_among(&calls, name);
}

/* The type object that the interpreter uses: its own, or the program's copy of it (R_*_COPY). 0: not found. */
static NOINLINE uintptr_t type_of(const struct mp_elf *elf, const struct mp_py_layout *layout,
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
        at = *(const uint64_t *)(state + FINALIZING_AT);
    bool is_inside = at != 0 && at % sizeof(uintptr_t) == 0 &&
                     mp_elf_segment_rest(elf, state + at, PF_R) >= sizeof(uintptr_t);
    return is_inside ? (const uintptr_t *)(state + at) : NULL;
}

/* Interpreters of a runtime: each a word, one behind the other. */
enum { NEWEST, MAIN, MADE, INTERPRETER_WORDS };

static uintptr_t interpreters_word(const struct mp_py_runtime *r, unsigned which) {
    return mp_load_relaxed((const uintptr_t *)(r->state + r->layout->interpreters) + which);
}

/* Is all of the runtime that is read a part of its module? */
static bool is_whole(const struct mp_elf *elf, const struct mp_py_runtime *r) {
    const struct mp_py_layout *l = r->layout;
    size_t rest = mp_elf_segment_rest(elf, r->state, PF_R);
    return rest >= l->thread_key + 2 * sizeof(int) &&
           rest >= l->interpreters + INTERPRETER_WORDS * sizeof(uintptr_t);
}

/* Where a thread finds its state. Apart from its caller, whose frame is not small. */
static NOINLINE bool find_states(const struct mp_elf *elf, struct mp_py_runtime *r) {
    bool is_found = true;
    r->attached = r->bound = (struct mp_py_tls){0};
    if (r->layout->minor >= 12)
        is_found = mp_py_tls_find(elf, "_PyThreadState_GetCurrent", &r->attached);
    if (r->layout->thread_key == 0)
        return is_found && mp_py_tls_find(elf, "PyGILState_GetThisThreadState", &r->bound);
    r->getspecific = slot_of(elf, "pthread_getspecific");
    return r->getspecific != NULL;
}

static bool describe(const struct mp_elf *elf, struct mp_py_runtime *r) {
    r->state = mp_elf_lookup(elf, "_PyRuntime");
    unsigned minor = minor_of(elf);
    r->layout =
        minor >= MP_PY_OWN_SINCE ? told_layout(elf, r, minor) : mp_py_layout_of(minor, false);
    if (r->layout == NULL || !is_whole(elf, r) || !find_states(elf, r))
        return false;
    r->finalizing = finalizing_of(elf, r->state, r->layout);
    r->code_type = type_of(elf, r->layout, "PyCode_Type", "code");
    r->text_type = type_of(elf, r->layout, "PyUnicode_Type", "str");
    r->bytes_type = type_of(elf, r->layout, "PyBytes_Type", "bytes");
    r->made = interpreters_word(r, MADE);
    r->ended = r->alive = 0;
    return r->finalizing != NULL && r->code_type != 0 && r->text_type != 0 && r->bytes_type != 0;
}

static struct mp_py_runtime *known_at(uintptr_t module_start) {
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++)
        if (mp_load_acquire(&mp_py_runtimes[i].ready) == READY &&
            mp_py_runtimes[i].module_start == module_start)
            return &mp_py_runtimes[i];
    return NULL;
}

static struct mp_py_runtime *free_row(void) {
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++)
        if (mp_cas_u32(&mp_py_runtimes[i].ready, FREE, FILLING))
            return &mp_py_runtimes[i];
    return NULL;
}

/* Behind the type's name: two sizes, and what frees its objects. */
static struct mp_py_dealloc *dealloc_of(const struct mp_py_runtime *r) {
    struct mp_py_dealloc *dealloc = &deallocs[r - mp_py_runtimes];
    uintptr_t slot = r->code_type + r->layout->type_name + 3 * sizeof(uintptr_t);
    *dealloc = (struct mp_py_dealloc){.slot = (uintptr_t *)slot};
    return dealloc;
}

/* A row that is being filled, or NULL: no interpreter, or too many. Apart from its caller, whose frame is small: the
 * description of a module is not. */
static NOINLINE struct mp_py_runtime *describe_new(uintptr_t module_start, uintptr_t bias,
                                                   const ElfW(Phdr) * phdr, unsigned phdrs) {
    struct mp_elf elf;
    if (!mp_elf_from_headers(&elf, bias, phdr, phdrs) || mp_elf_lookup(&elf, "_PyRuntime") == 0)
        return NULL;
    struct mp_py_runtime *r = free_row();
    if (r == NULL)
        return NULL;
    r->module_start = module_start;
    bool is_read = describe(&elf, r);
    bool is_own = is_read && r->layout == &r->own;
    if (!is_read || is_own)
        mp_store_relaxed(is_own ? &mp_py_unlisted : &mp_py_unread, minor_of(&elf) + 1);
    if (is_read) {
        r->dealloc = dealloc_of(r);
        return r;
    }
    mp_store_release(&r->ready, FREE);
    return NULL;
}

static void count_deaths(const struct mp_py_runtime *r) {
    mp_py_deaths_begin(r->dealloc, (unsigned)(r - mp_py_runtimes), r->module_start);
}

void mp_py_meet(uintptr_t module_start, uintptr_t bias, const ElfW(Phdr) * phdr, unsigned phdrs) {
    struct mp_py_runtime *r = known_at(module_start);
    if (r != NULL) {
        count_deaths(r);
        return;
    }
    r = phdr != NULL ? describe_new(module_start, bias, phdr, phdrs) : NULL;
    if (r == NULL)
        return;
    count_deaths(r);
    mp_store_release(&r->ready, READY);
    mp_store_relaxed(&mp_py_met, 1u);
}

void mp_py_begins(void) {
    mp_add_relaxed(&mp_py_beginnings, 1);
}

void mp_py_leave(uintptr_t module_start) {
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++)
        if (mp_py_runtimes[i].module_start == module_start)
            mp_cas_u32(&mp_py_runtimes[i].ready, READY, FREE);
}

static bool withdraw_from(const struct mp_elf *elf, void *number) {
    struct mp_py_runtime *r = &mp_py_runtimes[*(const unsigned *)number];
    bool is_there = mp_elf_lookup(elf, "_PyRuntime") == r->state;
    if (is_there)
        mp_py_deaths_end(r->dealloc, *(const unsigned *)number);
    return is_there;
}

/* While its modules are visited the loader closes none. */
void mp_py_withdraw(void) {
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++)
        if (mp_load_acquire(&mp_py_runtimes[i].ready) == READY)
            mp_elf_visit(withdraw_from, &i);
}

/* Is a thread id the calling thread's? On x86-64 it is the thread pointer, elsewhere somewhat below. */
static bool is_own(uintptr_t thread_id) {
    return mp_arch_thread_pointer() - thread_id < DESCRIPTOR_MAX;
}

/* The words that a thread looks at first: does the interpreter live, and is there a new subinterpreter? What begins anew
 * gives the same numbers to its code, and so does each subinterpreter. */
static bool note_life(struct mp_py_runtime *r) {
    const struct mp_py_layout *l = r->layout;
    bool alive = l->thread_key != 0 ? mp_load_relaxed((const int *)(r->state + l->thread_key)) == 1
                                    : interpreters_word(r, MAIN) != 0;
    uint64_t made = interpreters_word(r, MADE);
    if (mp_unlikely(mp_load_relaxed(&r->made) != made)) {
        mp_store_relaxed(&r->made, made);
        mp_py_begins();
    }
    if (mp_likely(mp_load_relaxed(&r->alive) == alive))
        return alive;
    mp_store_relaxed(&r->alive, alive);
    if (!alive) {
        mp_store_relaxed(&r->ended, 1u);
        mp_py_begins();
    }
    return alive;
}

/* To 3.14: the value of the runtime's key. */
static uintptr_t keyed_state(const struct mp_py_runtime *r) {
    int number = mp_load_relaxed((const int *)(r->state + r->layout->thread_key) + 1);
    uintptr_t its_own = mp_load_relaxed(r->getspecific);
    if (thread_value == NULL || its_own != (uintptr_t)thread_value || number < 0 ||
        number >= KEYS_MAX)
        return 0;
    return (uintptr_t)thread_value((unsigned)number);
}

/* The end of an interpreter leaves the bound states of other threads as they are, and frees them; an attached one is
 * always there. */
static const struct mp_py_tls *variable_of(const struct mp_py_runtime *r) {
    return mp_load_relaxed(&r->ended) ? &r->attached : &r->bound;
}

/* Is it a state of the calling thread? One that may be no state at all is looked at without a fault. */
static bool is_own_state(const struct mp_py_runtime *r, uintptr_t state, bool is_certain) {
    uintptr_t at = state + r->layout->thread_id, thread_id;
    if (state % sizeof(uintptr_t) != 0)
        return false;
    if (is_certain)
        return is_own(*(const uintptr_t *)at);
    return mp_stack_copy(at, &thread_id, sizeof thread_id) && is_own(thread_id);
}

/* To 3.11: the state with the GIL instead of `bound`, if it is this thread's too. */
static uintptr_t innermost_state(const struct mp_py_runtime *r, uintptr_t bound) {
    const uintptr_t *at = (const uintptr_t *)(r->state + r->layout->thread_current);
    uintptr_t current = mp_load_acquire(at);
    if (current == bound || current == 0 ||
        interpreters_word(r, NEWEST) == interpreters_word(r, MAIN))
        return bound;
    return is_own_state(r, current, false) && mp_load_acquire(at) == current ? current : bound;
}

static uintptr_t state_in(struct mp_py_runtime *r) {
    if (!note_life(r))
        return 0;
    bool is_keyed = r->layout->thread_key != 0;
    uintptr_t state = is_keyed ? keyed_state(r) : mp_py_tls_read(variable_of(r));
    if (state == 0)
        return 0;
    /* The end of an interpreter frees the states and frames of all other threads, which may run C code. */
    uintptr_t ending = mp_load_acquire(r->finalizing);
    if (ending != 0 && ending != state)
        return 0;
    if (!is_own_state(r, state, is_keyed || variable_of(r)->kind == MP_PY_TLS_FIXED))
        return 0;
    return r->layout->thread_current != 0 ? innermost_state(r, state) : state;
}

static bool is_attached(const struct mp_py_runtime *r, uintptr_t state) {
    return r->layout->thread_current != 0
               ? mp_load_relaxed((const uintptr_t *)(r->state + r->layout->thread_current)) == state
               : mp_py_tls_read(&r->attached) == state;
}

uintptr_t mp_py_thread_state(const struct mp_py_runtime **whose) {
    uintptr_t found = 0;
    for (unsigned i = 0; i < MP_PY_RUNTIMES; i++) {
        struct mp_py_runtime *r = &mp_py_runtimes[i];
        if (mp_load_acquire(&r->ready) != READY)
            continue;
        uintptr_t state = state_in(r);
        if (state == 0 || (found != 0 && (is_attached(*whose, found) || !is_attached(r, state))))
            continue;
        *whose = r;
        found = state;
    }
    return found;
}
