/*
 * redirect_later.c - see redirect_later.h.
 */
#include "redirect_later.h"
#include "abi/atomics.h"

#include <dlfcn.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

uintptr_t mp_redirect_loader[4];

static struct {
    const struct mp_slot_table *tables[MP_LATER_TABLES];
    struct mp_slot_table loader_table;
    struct mp_slot_counts *loader, *later;
    const struct mp_later_watch *watch;
    void (*look[MP_LATER_LOOKS])(void);
    const struct mp_slot_table *watch_table; /* of the last changed() */
    bool following, late;        /* late: since an attach */
    uint64_t added, removed;     /* of the loader's list, at the last complete look */
    struct mp_elf_set done, done_at_start; /* the latter are never unloaded */
    int deep_binding;            /* some dlopen was called with RTLD_DEEPBIND */
    int busy; /* a thread searches: of this process, or, since an attach, of that pid */
} follow;

/* A fork child may find it held by a thread that it does not have. After an attach no handler of forks may
 * run there, and the pid tells; else no system call is made, as the program may have a seccomp filter. */
static bool enter(void) {
    int self = follow.late ? getpid() : 1, holder = __atomic_load_n(&follow.busy, __ATOMIC_RELAXED);
    return holder != self && __atomic_compare_exchange_n(&follow.busy, &holder, self, false,
                                                         __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

/* Pairs with enter(): the next one sees the results of this one. */
static void leave(void) {
    __atomic_store_n(&follow.busy, 0, __ATOMIC_RELEASE);
}

void mp_redirect_after_fork(void) {
    leave();
}

static bool treat(const struct mp_elf *elf, void *arg) {
    bool *complete = arg;
    if (mp_elf_set_has(&follow.done, elf) || mp_elf_set_has(&follow.done_at_start, elf))
        return false;
    unsigned mode = MP_SLOTS_LOADER_RUNS;
    if (__atomic_load_n(&follow.deep_binding, __ATOMIC_RELAXED))
        mode |= MP_SLOTS_NO_UNBOUND;
    bool ready = mp_slots_module(&follow.loader_table, elf, mode, follow.loader);
    mode &= ~MP_SLOTS_LOADER_RUNS; /* so it is over there */
    for (unsigned i = 0; i < MP_LATER_TABLES && ready; i++)
        if (follow.tables[i] != NULL)
            ready = mp_slots_module(follow.tables[i], elf, mode, follow.later);
    if (follow.watch_table != NULL && ready)
        ready = mp_slots_module(follow.watch_table, elf, mode, follow.later);
    if (ready)
        mp_elf_set_add(&follow.done, elf);
    else
        *complete = false;
    return false;
}

static bool list_changed(uint64_t *added, uint64_t *removed) {
    mp_elf_counts(added, removed);
    return *added != mp_load_relaxed(&follow.added) || *removed != mp_load_relaxed(&follow.removed);
}

static void redirect_new(void) {
    uint64_t added, removed;
    if (!list_changed(&added, &removed))
        return;
    if (follow.watch != NULL)
        follow.watch_table = follow.watch->changed();
    for (unsigned i = 0; i < MP_LATER_LOOKS; i++)
        if (follow.look[i] != NULL)
            follow.look[i]();
    mp_elf_set_begin(&follow.done);
    bool complete = true;
    mp_elf_visit(treat, &complete);
    if (complete) {
        mp_store_relaxed(&follow.added, added);
        mp_store_relaxed(&follow.removed, removed);
    }
}

void mp_redirect_before(int is_open, int flags) {
    int saved_errno = errno;
    uint64_t added, removed;
    if (is_open && (flags & RTLD_DEEPBIND) != 0)
        __atomic_store_n(&follow.deep_binding, 1, __ATOMIC_RELAXED);
    if (mp_load_relaxed(&follow.following) && list_changed(&added, &removed) && enter()) {
        if (mp_load_relaxed(&follow.following))
            redirect_new();
        leave();
    }
    errno = saved_errno;
}

/* The answer of the real function. A call from here hides the real caller: this is right for a handle
 * that the program got from dlopen, and for the part of the global scope that all modules share. */
static void *ask(void *handle, const char *name, const char *version) {
    if (version != NULL)
        return ((void *(*)(void *, const char *, const char *))mp_redirect_loader[3])(handle, name,
                                                                                      version);
    return ((void *(*)(void *, const char *))mp_redirect_loader[2])(handle, name);
}

struct behind {
    const char *name;
    uintptr_t caller;
    bool caller_seen;
    uintptr_t found;
};

/* Modules that were there at start are in the list in the order of the common scope. */
static bool find_behind(const struct mp_elf *elf, void *arg) {
    struct behind *b = arg;
    if (!mp_elf_set_has(&follow.done_at_start, elf))
        return false;
    if (b->caller_seen)
        b->found = mp_elf_lookup(elf, b->name);
    b->caller_seen |= mp_elf_segment_rest(elf, b->caller, PF_X) != 0;
    return b->found != 0;
}

static void *next_behind(uintptr_t caller, const char *name) {
    struct behind b = {.name = name, .caller = caller};
    mp_elf_visit(find_behind, &b);
    return (void *)b.found;
}

struct mp_later_answer mp_redirect_symbol(void *handle, const char *name, const char *version,
                                          uintptr_t caller) {
    struct mp_later_answer answer = {0};
    mp_redirect_before(0, 0);
    const struct mp_later_watch *watch = follow.watch;
    bool deep = mp_load_relaxed(&follow.deep_binding) != 0;
    if (watch == NULL || name == NULL || !watch->knows(name) || (handle == RTLD_DEFAULT && deep) ||
        (handle == RTLD_NEXT && (deep || version != NULL)))
        return answer;
    void *real = handle == RTLD_NEXT ? next_behind(caller, name) : ask(handle, name, version);
    answer.symbol = watch->replace(real);
    answer.given = (handle != RTLD_DEFAULT && handle != RTLD_NEXT) || answer.symbol != real;
    if (handle == RTLD_NEXT && answer.given)
        ask(RTLD_DEFAULT, name, NULL); /* also finds a module, and clears the message of
                                        * dlerror() */
    return answer;
}

static bool mark_done(const struct mp_elf *elf, void *arg) {
    (void)arg;
    mp_elf_set_add(&follow.done_at_start, elf);
    return false;
}

static void make_loader_table(void) {
    static const struct {
        const char *name;
        void (*tail)(void);
    } functions[] = {{"dlopen", mp_tail_dlopen},
                     {"dlmopen", mp_tail_dlmopen},
                     {"dlsym", mp_tail_dlsym},
                     {"dlvsym", mp_tail_dlvsym}};
    mp_slots_init(&follow.loader_table);
    for (unsigned i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        mp_redirect_loader[i] = (uintptr_t)mp_elf_find(functions[i].name);
        if (mp_redirect_loader[i] != 0) /* absent before glibc 2.34 in a program without libdl */
            mp_slots_add(&follow.loader_table, functions[i].name, mp_redirect_loader[i],
                         (uintptr_t)functions[i].tail);
    }
}

void mp_redirect_follow(const struct mp_slot_table *const tables[MP_LATER_TABLES],
                        struct mp_slot_counts *loader, struct mp_slot_counts *later) {
    for (unsigned i = 0; i < MP_LATER_TABLES; i++)
        follow.tables[i] = tables[i];
    follow.following = true;
    follow.loader = loader;
    follow.later = later;
    make_loader_table();
    mp_elf_counts(&follow.added, &follow.removed);
    mp_slots_all(&follow.loader_table, MP_SLOTS_WRITE, loader);
    mp_elf_visit(mark_done, NULL);
}

static void follow_at_least(struct mp_slot_counts *loader) {
    static struct mp_slot_counts later;
    static const struct mp_slot_table *const none[MP_LATER_TABLES];
    if (!follow.following)
        mp_redirect_follow(none, loader, &later);
}

void mp_redirect_watch(const struct mp_later_watch *watch, struct mp_slot_counts *loader) {
    follow.watch_table = watch->changed();
    follow.watch = watch;
    follow_at_least(loader);
}

void mp_redirect_look(void (*look)(void), struct mp_slot_counts *loader) {
    unsigned i = 0;
    while (i < MP_LATER_LOOKS - 1 && follow.look[i] != NULL)
        i++;
    follow.look[i] = look;
    follow_at_least(loader);
}

void mp_redirect_filter_ahead(void) {
    if (follow.late)
        mp_store_relaxed(&follow.following, false);
}

void mp_redirect_hold(void) {
    while (!enter())
        syscall(SYS_sched_yield);
}

void mp_redirect_release(void) {
    leave();
}

unsigned mp_redirect_follow_late(const struct mp_later_watch *watch, void (*look)(void)) {
    static struct mp_slot_counts loader, later;
    mp_redirect_hold();
    unsigned before = loader.patched;
    make_loader_table();
    follow.loader = &loader;
    follow.later = &later;
    follow.look[0] = look;
    follow.watch_table = watch->changed();
    follow.watch = watch;
    follow.done = (struct mp_elf_set){0};
    mp_elf_counts(&follow.added, &follow.removed);
    mp_store_relaxed(&follow.following, true);
    follow.late = true;
    mp_slots_all(&follow.loader_table, MP_SLOTS_WRITE | MP_SLOTS_LOADER_RUNS, &loader);
    mp_redirect_release();
    return loader.patched - before;
}

/* Threads may still be in the wrappers: they end in the real functions. */
void mp_redirect_unfollow(void) {
    mp_redirect_hold();
    mp_store_relaxed(&follow.following, false);
    follow.look[0] = NULL;
    mp_redirect_release();
}
