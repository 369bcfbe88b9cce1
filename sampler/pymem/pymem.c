/*
 * pymem.c - see pymem.h.
 */
#include "pymem.h"
#include "abi/clock.h"
#include "pymem_hooks.h"
#include "python/runtime.h"
#include "redirect/redirect_later.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GENERATIONS 8 /* times that fresh tables got hooks; equal ones share a row */
#define NAP_NS 1000000
#define NAPS_MAX                                                                                   \
    100 /* of a detach: ten times the interval at which CPython switches threads, and more */

typedef int pending_call(void *);

/* Of the interpreter. The first two are there; any other is NULL where its version has none. */
static struct {
    void (*get)(int domain, struct mp_pymem_allocator *);
    void (*set)(int domain, const struct mp_pymem_allocator *);
    int (*is_initialized)(void);
    int (*add_pending)(pending_call *, void *);
    const char *(*version)(void);
    void (*get_arenas)(struct mp_pymem_arenas *);
    void (*set_arenas)(const struct mp_pymem_arenas *);
    void *(*first_interpreter)(void);
    void *(*next_interpreter)(void *);
    bool own_gils; /* interpreters of one process may run at once */
    struct mp_elf module;
} python;

static struct {
    struct mp_pymem_row rows[GENERATIONS][MP_PYMEM_DOMAINS];
    struct mp_pymem_row arenas;
    uint64_t since_ns;
    struct mp_slot_table table; /* of pthread_cond_init */
    int wanted;  /* in a running program: which hooks shall be there (enum mp_pymem_wanted) */
    int pending; /* a pending call has not come yet */
} hooks;

/* Only reads: the loader may be at work on the module. */
static bool take_module(const struct mp_elf *elf, void *arg) {
    (void)arg;
    uintptr_t get = mp_elf_lookup(elf, "PyMem_GetAllocator");
    if (get == 0)
        return false;
    uintptr_t set = mp_elf_lookup(elf, "PyMem_SetAllocator");
    uintptr_t is_initialized = mp_elf_lookup(elf, "Py_IsInitialized");
    uintptr_t tss_create = mp_elf_lookup(elf, "PyThread_tss_create");
    /* Before 3.7, which brought the last of these, the lock of threads was made when a thread was. */
    if (set == 0 || is_initialized == 0 || tss_create == 0)
        return false;
    mp_pymem_name_frames();
    python.module = *elf;
    python.get = (void (*)(int, struct mp_pymem_allocator *))get;
    python.set = (void (*)(int, const struct mp_pymem_allocator *))set;
    python.is_initialized = (int (*)(void))is_initialized;
    python.add_pending = (int (*)(pending_call *, void *))mp_elf_lookup(elf, "Py_AddPendingCall");
    python.version = (const char *(*)(void))mp_elf_lookup(elf, "Py_GetVersion");
    python.get_arenas =
        (void (*)(struct mp_pymem_arenas *))mp_elf_lookup(elf, "PyObject_GetArenaAllocator");
    python.set_arenas =
        (void (*)(const struct mp_pymem_arenas *))mp_elf_lookup(elf, "PyObject_SetArenaAllocator");
    python.first_interpreter = (void *(*)(void))mp_elf_lookup(elf, "PyInterpreterState_Head");
    python.next_interpreter = (void *(*)(void *))mp_elf_lookup(elf, "PyInterpreterState_Next");
    python.own_gils = mp_elf_lookup(elf, "Py_NewInterpreterFromConfig") != 0;
    return true;
}

static bool is_same(const struct mp_elf *elf, void *arg) {
    (void)arg;
    return elf->dynamic == python.module.dynamic;
}

/* Is there an interpreter, the same as before? */
static bool find_python(void) {
    if (python.get == NULL)
        return mp_elf_visit(take_module, NULL);
    return mp_elf_visit(is_same, NULL);
}

/* The row whose real functions are `now`, or a free one; NULL: no room. */
static struct mp_pymem_row *row_for(int domain, const struct mp_pymem_allocator *now) {
    for (int i = 0; i < GENERATIONS; i++) {
        struct mp_pymem_row *row = &hooks.rows[i][domain];
        if (row->real.malloc == NULL) {
            row->real = *now;
            return row;
        }
        if (memcmp(&row->real, now, sizeof *now) == 0)
            return row;
    }
    return NULL;
}

/* False: the hooks of the domain are not there. */
static bool put(int domain) {
    struct mp_pymem_allocator now, ours;
    python.get(domain, &now);
    if (mp_pymem_row_of(&now) != NULL)
        return true;
    struct mp_pymem_row *row = row_for(domain, &now);
    if (row == NULL)
        return false;
    ours = mp_pymem_hooked((enum mp_pymem_domain)domain, row);
    python.set(domain, &ours);
    return true;
}

static void tell(uint64_t since_ns) {
    struct mp_control *c = mp_local.segment.control;
    mp_store_relaxed(&hooks.since_ns, since_ns);
    if (c != NULL)
        mp_store_relaxed(&c->pymem_ns, since_ns);
}

static void put_all(enum mp_pymem_domain first) {
    bool all = true;
    for (int domain = first; domain < MP_PYMEM_DOMAINS; domain++)
        all &= put(domain);
    if (!all)
        tell(0);
    else if (hooks.since_ns == 0)
        tell(mp_clock_ns(CLOCK_MONOTONIC));
}

static void tell_arenas(uint64_t since_ns) {
    struct mp_control *c = mp_local.segment.control;
    if (c != NULL)
        mp_store_relaxed(&c->arenas_ns, since_ns);
}

/* Whoever changed the functions of arenas since the first time keeps them. */
static void put_arenas(void) {
    struct mp_pymem_row *row = &hooks.arenas;
    struct mp_pymem_arenas now, ours = mp_pymem_hooked_arenas(row);
    if (python.get_arenas == NULL || python.set_arenas == NULL)
        return;
    python.get_arenas(&now);
    if (mp_pymem_row_of_arenas(&now) == NULL) {
        struct mp_pymem_row found = {.real = {.ctx = now.ctx, .malloc = now.map},
                                     .unmap = now.unmap};
        if (row->real.malloc != NULL && memcmp(row, &found, sizeof found) != 0)
            return;
        *row = found;
        python.set_arenas(&ours);
    }
    tell_arenas(mp_clock_ns(CLOCK_MONOTONIC));
}

static void put_arenas_back(void) {
    struct mp_pymem_arenas now;
    if (python.get_arenas == NULL || python.set_arenas == NULL)
        return;
    python.get_arenas(&now);
    const struct mp_pymem_row *row = mp_pymem_row_of_arenas(&now);
    if (row != NULL)
        python.set_arenas(&(struct mp_pymem_arenas){row->real.ctx, row->real.malloc, row->unmap});
    tell_arenas(0);
}

/* On a thread that makes an interpreter, or later on any. */
static int watched_cond_init(void *cond, const void *attributes) {
    if (!python.is_initialized()) {
        int saved_errno = errno;
        mp_py_begins();
        put_all(MP_PYMEM_RAW);
        errno = saved_errno;
    }
    return ((int (*)(void *, const void *))hooks.table.want[0].expected)(cond, attributes);
}

static void watch_module(void) {
    struct mp_slot_counts counts = {0};
    if (hooks.table.wants != 0)
        mp_slots_module(&hooks.table, &python.module, MP_SLOTS_LOADER_RUNS, &counts);
}

/* The loader may be at work on the module: nothing in it is called. */
static void look(void) {
    if (python.get != NULL && find_python()) {
        watch_module();
        return;
    }
    python.get = NULL;
    if (find_python())
        watch_module();
}

void mp_pymem_start(void) {
    static struct mp_slot_counts loader;
    mp_slots_init(&hooks.table);
    mp_slots_add(&hooks.table, "pthread_cond_init", 0, (uintptr_t)watched_cond_init);
    if (find_python() && !python.is_initialized()) {
        put_all(MP_PYMEM_RAW);
        watch_module();
    }
    mp_redirect_look(look, &loader);
}

uint64_t mp_pymem_since_ns(void) {
    return mp_load_relaxed(&hooks.since_ns);
}

/* Threads that run Python code without a common lock use the tables all the time. */
static bool runs_in_parallel(void) {
    if (python.version == NULL || strstr(python.version(), "free-threading") != NULL)
        return true;
    if (!python.own_gils)
        return false;
    void *first = python.first_interpreter != NULL ? python.first_interpreter() : NULL;
    return first == NULL || python.next_interpreter == NULL ||
           python.next_interpreter(first) != NULL;
}

static void put_back(void) {
    for (int domain = MP_PYMEM_MEM; domain < MP_PYMEM_DOMAINS; domain++) {
        struct mp_pymem_allocator now;
        python.get(domain, &now);
        const struct mp_pymem_row *row = mp_pymem_row_of(&now);
        if (row != NULL)
            python.set(domain, &row->real);
    }
    tell(0);
}

/* On the interpreter's main thread, which holds the GIL. */
static int change(void *arg) {
    (void)arg;
    int saved_errno = errno;
    /* before `wanted` is read: who changes it after that finds no call pending and asks again */
    __atomic_store_n(&hooks.pending, 0, __ATOMIC_SEQ_CST);
    int wanted = __atomic_load_n(&hooks.wanted, __ATOMIC_SEQ_CST);
    if (runs_in_parallel()) {
        errno = saved_errno;
        return 0; /* hooks that are there stay, and forward */
    }
    if (wanted == MP_PYMEM_OBJECTS)
        put_all(MP_PYMEM_MEM);
    else
        put_back();
    if (wanted == MP_PYMEM_ARENAS)
        put_arenas();
    else
        put_arenas_back();
    errno = saved_errno;
    return 0;
}

static void ask(enum mp_pymem_wanted wanted) {
    __atomic_store_n(&hooks.wanted, wanted, __ATOMIC_SEQ_CST);
    if (__atomic_exchange_n(&hooks.pending, 1, __ATOMIC_SEQ_CST) == 0 &&
        python.add_pending(change, NULL) != 0)
        __atomic_store_n(&hooks.pending, 0, __ATOMIC_SEQ_CST); /* its queue is full */
}

void mp_pymem_ask(enum mp_pymem_wanted wanted) {
    struct mp_control *c = mp_local.segment.control;
    bool there = wanted == MP_PYMEM_OBJECTS ? mp_pymem_since_ns() != 0
                                            : c != NULL && mp_load_relaxed(&c->arenas_ns) != 0;
    bool settled = there && __atomic_load_n(&hooks.wanted, __ATOMIC_SEQ_CST) == (int)wanted;
    if (!settled && find_python() && python.add_pending != NULL && python.is_initialized())
        ask(wanted);
}

bool mp_pymem_withdraw(void) {
    if (mp_pymem_since_ns() == 0 &&
        __atomic_load_n(&hooks.wanted, __ATOMIC_SEQ_CST) == MP_PYMEM_NOTHING)
        return true;
    if (!find_python() || !python.is_initialized())
        return true;
    ask(MP_PYMEM_NOTHING);
    struct timespec nap = {.tv_nsec = NAP_NS};
    for (int i = 0; i < NAPS_MAX && mp_pymem_since_ns() != 0; i++)
        syscall(SYS_nanosleep, &nap, NULL);
    return mp_pymem_since_ns() == 0;
}
