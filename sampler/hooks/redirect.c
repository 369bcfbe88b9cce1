/*
 * redirect.c - see redirect.h.
 *
 * Trials: neither symbols nor slots show whether another object's malloc, or its operator new, calls our
 * exported malloc (most tools fetch the next malloc by dlsym). So this code calls each once, with
 * recording functions behind our exported hooks. A function whose call arrives there needs no redirection
 * and must not get one: the redirected hook would call the object, which would call our hook, which would
 * call the object.
 */
#include "redirect.h"
#include "core/local.h"
#include "hooks_cxx.h"
#include "hooks_mimalloc.h"
#include "inline_patch.h"
#include "redirect/redirect_later.h"
#include "unwind/unwind_arch.h"

#include <errno.h>
#include <unistd.h>

#define TRIAL_BYTES 24 /* a small block */
#define TRIAL_ALIGN 64 /* more than malloc gives, so that no aligned form falls back to it */

struct mp_redirect_report mp_redirect_report;

static struct mp_slot_table family_table, second_table;

/* Behind our exported hooks during a trial. */
static struct {
    struct mp_real real;
    uintptr_t thread; /* others may run already, and allocate meanwhile */
    int64_t countdown; /* of this thread: no block of a trial is a sample */
    unsigned seen;
} trial;

static void note(void) {
    trial.seen += mp_arch_thread_pointer() == trial.thread;
}

static void *note_malloc(size_t size) {
    note();
    return trial.real.malloc(size);
}

static void *note_calloc(size_t n, size_t size) {
    note();
    return trial.real.calloc(n, size);
}

static void *note_realloc(void *p, size_t size) {
    note();
    return trial.real.realloc(p, size);
}

static int note_posix_memalign(void **out, size_t alignment, size_t size) {
    note();
    return trial.real.posix_memalign(out, alignment, size);
}

static void *note_aligned_alloc(size_t alignment, size_t size) {
    note();
    return trial.real.aligned_alloc(alignment, size);
}

static void *note_memalign(size_t alignment, size_t size) {
    note();
    return trial.real.memalign(alignment, size);
}

static void begin_trial(struct mp_real *real) {
    trial.real = *real;
    trial.thread = mp_arch_thread_pointer();
    trial.countdown = mp_self.countdown.value;
    mp_self.countdown.value = INT64_MAX;
    real->malloc = note_malloc;
    real->calloc = note_calloc;
    real->realloc = note_realloc;
    real->posix_memalign = note_posix_memalign;
    real->aligned_alloc = note_aligned_alloc;
    real->memalign = note_memalign;
}

static void end_trial(struct mp_real *real) {
    *real = trial.real;
    mp_self.countdown.value = trial.countdown;
}

enum verdict { INDEPENDENT, CHAINED, MIXED };

enum form { FORM_MALLOC, FORM_CALLOC, FORM_POSIX_MEMALIGN, FORMS };

/* Does the other object bring this function itself, or is ours the first one anyway? */
static bool brings(const struct mp_real *other, enum form form) {
    if (form == FORM_MALLOC)
        return other->malloc != trial.real.malloc;
    if (form == FORM_CALLOC)
        return other->calloc != trial.real.calloc;
    return other->posix_memalign != trial.real.posix_memalign;
}

/* Get and free one block from the other object, and count which way it went. */
static void try_one(const struct mp_real *other, enum form form, size_t size, unsigned *chained,
                    unsigned *independent) {
    void *p = NULL;
    trial.seen = 0;
    if (form == FORM_MALLOC)
        p = other->malloc(size);
    else if (form == FORM_CALLOC)
        p = other->calloc(1, size);
    else if (other->posix_memalign(&p, TRIAL_ALIGN, size) != 0)
        p = NULL;
    if (trial.seen != 0)
        ++*chained;
    else if (p != NULL)
        ++*independent;
    if (p != NULL)
        other->free(p);
}

/* Does the malloc of `other` end in ours? Large and small blocks may go different ways. */
static enum verdict try_family(struct mp_real *real, const struct mp_real *other) {
    static const size_t sizes[] = {TRIAL_BYTES, 5000, 3u << 20};
    unsigned chained = 0, independent = 0;
    begin_trial(real);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0] && brings(other, FORM_MALLOC); i++)
        try_one(other, FORM_MALLOC, sizes[i], &chained, &independent);
    for (int form = FORM_CALLOC; form < FORMS; form++)
        if (brings(other, form))
            try_one(other, form, TRIAL_BYTES, &chained, &independent);
    end_trial(real);
    return chained == 0 ? INDEPENDENT : independent == 0 ? CHAINED : MIXED;
}

static bool is_program(const struct mp_elf_symbol *symbol) {
    return symbol->path[0] == '\0';
}

static void name_of(const struct mp_elf_symbol *symbol, char *path, size_t n) {
    if (n == 0)
        return;
    ssize_t length = 0;
    if (is_program(symbol)) {
        length = readlink("/proc/self/exe", path, n - 1);
        length = length < 0 ? 0 : length;
    } else {
        while ((size_t)length < n - 1 && symbol->path[length] != '\0') {
            path[length] = symbol->path[length];
            length++;
        }
    }
    path[length] = '\0';
}

/* Redirect all slots of the malloc family from `real` (the object before us) to our exported functions. */
static bool redirect_family(const struct mp_real *real, const ElfW(Dyn) * self) {
#define NAME(name, id, needed, result, parameters, arguments) #name,
    static const char *const names[] = {MP_MALLOC_FAMILY(NAME)};
    mp_slots_init(&family_table);
    family_table.skip = real->module;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct mp_elf_symbol theirs, ours;
        if (mp_elf_find_in_module(real->module, names[i], &theirs) &&
            mp_elf_find_in_module(self, names[i], &ours))
            mp_slots_add(&family_table, names[i], theirs.address, ours.address);
    }
    struct mp_slot_counts left = {0};
    mp_slots_all(&family_table, MP_SLOTS_WRITE, &mp_redirect_report.family);
    mp_slots_all(&family_table, MP_SLOTS_VERIFY, &left);
    return left.failed == 0;
}

/* 0 when our exported functions see everything, now or after redirection; 1 when not. */
static int see_family(struct mp_real *real, char *shadow_path, size_t n) {
    struct mp_elf_symbol first, ours;
    if (!mp_elf_find_symbol(MP_ELF_FIRST, "malloc", &first) || first.module == _DYNAMIC ||
        !mp_elf_find_in_module(_DYNAMIC, "malloc", &ours))
        return 0;
    struct mp_real other = *real;
    enum verdict verdict = MIXED;
    mp_redirect_report.in_program = is_program(&first);
    if (!is_program(&first) && mp_real_take_from(&other, first.module) == 0)
        verdict = try_family(real, &other);
    mp_redirect_report.chained = verdict == CHAINED;
    if (verdict == CHAINED)
        return 0;
    if (verdict == INDEPENDENT) {
        *real = other;
        if (redirect_family(real, _DYNAMIC))
            return 0;
    }
    name_of(&first, shadow_path, n);
    return 1;
}

/* One block by the real function `id`; false where its shape has no trial. */
static bool try_second(enum mp_cxx_id id, void **block) {
    uintptr_t real = mp_cxx_real[id];
    switch (mp_cxx_entries[id].shape) {
    case MP_SHAPE_ALLOC1:
        *block = ((void *(*)(size_t))real)(TRIAL_BYTES);
        return true;
    case MP_SHAPE_ALLOC2: /* an alignment, mallocx flags of 0, or std::nothrow, of which only the type counts */
        *block = ((void *(*)(size_t, uintptr_t))real)(TRIAL_BYTES,
                                                      id == MP_CXX_mallocx ? 0 : TRIAL_ALIGN);
        return true;
    case MP_SHAPE_ALLOC3:
        *block = ((void *(*)(size_t, uintptr_t, uintptr_t))real)(TRIAL_BYTES, TRIAL_ALIGN, 0);
        return true;
    case MP_SHAPE_ALIGNED:
        *block = ((void *(*)(uintptr_t, size_t))real)(TRIAL_ALIGN, TRIAL_BYTES);
        return true;
    case MP_SHAPE_CALLOC:
        *block = ((void *(*)(size_t, size_t))real)(1, TRIAL_BYTES);
        return true;
    case MP_SHAPE_POSIX:
        return ((int (*)(void **, uintptr_t, size_t))real)(block, TRIAL_ALIGN, TRIAL_BYTES) == 0;
    default:
        return false;
    }
}

/* Does this function of the real allocator call our exported hooks? Then the sampler sees it already. */
static bool comes_through(struct mp_real *real, enum mp_cxx_id id) {
    enum mp_cxx_id undo = mp_cxx_entries[id].undo;
    void *block = NULL;
    if (undo == MP_CXX_none || mp_cxx_real[undo] == 0)
        return false;
    begin_trial(real);
    trial.seen = 0;
    bool tried = try_second(id, &block);
    bool seen = trial.seen != 0;
    if (tried && block != NULL)
        ((void (*)(void *, uintptr_t, uintptr_t))mp_cxx_real[undo])(
            block, undo == MP_CXX_dallocx ? 0 : TRIAL_ALIGN, 0);
    end_trial(real);
    return seen;
}

static bool allocates(enum mp_cxx_shape shape) {
    return shape != MP_SHAPE_FREE1 && shape != MP_SHAPE_FREE2 && shape != MP_SHAPE_FREE3;
}

/* Redirect the slots of the second family to hooks_cxx.c. True: some of them allocate. */
static bool redirect_second(struct mp_real *real) {
    bool any = false;
    mp_slots_init(&second_table);
    second_table.skip = real->module; /* calls inside the allocator are its own */
    for (int i = 0; i < MP_CXX_COUNT; i++) {
        struct mp_elf_symbol symbol;
        if (mp_elf_find_in_module(real->module, mp_cxx_entries[i].symbol, &symbol))
            mp_cxx_real[i] = symbol.address;
    }
    for (int i = 0; i < MP_CXX_COUNT; i++) {
        const struct mp_cxx_entry *e = &mp_cxx_entries[i];
        if (mp_cxx_real[i] == 0 || comes_through(real, (enum mp_cxx_id)i))
            continue;
        if (mp_slots_add(&second_table, e->symbol, mp_cxx_real[i], e->hook) == 0)
            any |= allocates(e->shape);
    }
    any |= mp_mimalloc_add(&second_table);
    if (second_table.wants != 0)
        mp_slots_all(&second_table, MP_SLOTS_WRITE, &mp_redirect_report.second);
    return any;
}

int mp_redirect_install(struct mp_real *real, char *shadow_path, size_t n) {
    int saved_errno = errno;
    int shadowed = see_family(real, shadow_path, n);
    if (!shadowed) {
        bool second = redirect_second(real);
        const struct mp_slot_table *tables[MP_LATER_TABLES] = {
            family_table.wants != 0 ? &family_table : NULL, second ? &second_table : NULL};
        if (tables[0] != NULL || tables[1] != NULL)
            mp_redirect_follow(tables, &mp_redirect_report.loader, &mp_redirect_report.later);
    }
    errno = saved_errno;
    return shadowed;
}

bool mp_redirect_first_covered(void) {
    struct mp_elf_symbol first;
    return mp_elf_find_symbol(MP_ELF_FIRST, "malloc", &first) && mp_entry_covers(first.module);
}
