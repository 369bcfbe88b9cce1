/*
 * redirect_later.h - redirect calls in modules that the program opens later.
 *
 * Model: slots of dlopen, dlmopen, dlsym and dlvsym point to redirect_tail.S, whose wrappers first check
 * whether the loader's list has grown since the last check (a counter) and treat the new modules. So the
 * next such call treats the modules of a dlopen: normally the dlsym that follows it.
 *
 * A watch (mp_redirect_watch) adds functions that are not known at start: after a change of the list it
 * finds them, and returns the table with their wrappers. For its names, we answer a dlsym or dlvsym: we
 * call the real function, and replace its answer if that is a function of the watch. We cannot ask where
 * the answer depends on the caller. We answer RTLD_DEFAULT where the common part of the scope has such a
 * function, RTLD_NEXT where the first definition behind the caller is one and both were there when the
 * program started; in all other cases the caller itself calls the real function, and its answer stays.
 *
 * Threads: the wrappers run on any; one at a time checks the modules, the others go on without waiting.
 */
#ifndef MP_REDIRECT_LATER_H
#define MP_REDIRECT_LATER_H

#include "got_slots.h"

#define MP_LATER_TABLES 2

/*
 * INIT. From now on apply `tables` (kept, not copied) to new modules. Adds the counts of the slots of the
 * loader's functions to *loader, and later those of new modules to *later.
 */
void mp_redirect_follow(const struct mp_slot_table *const tables[MP_LATER_TABLES],
                        struct mp_slot_counts *loader, struct mp_slot_counts *later);

struct mp_later_watch {
    /* One thread at a time: modules were added or removed. Treats the modules there are for
     * functions that are new, and returns the table for modules to come; NULL: none yet. */
    const struct mp_slot_table *(*changed)(void);
    bool (*knows)(const char *name); /* HOOK */
    void *(*replace)(void *real);    /* HOOK. The wrapper of `real`, or itself */
};

/* INIT. At most one watch (kept, not copied); calls changed() once. Starts to follow if nothing
 * was followed. */
void mp_redirect_watch(const struct mp_later_watch *watch, struct mp_slot_counts *loader);

#define MP_LATER_LOOKS 3

/* INIT. At most MP_LATER_LOOKS functions, each of which is called when modules were added or removed: on any thread,
 * one at a time, before the next dlopen or dlsym. Starts to follow if nothing was followed. */
void mp_redirect_look(void (*look)(void), struct mp_slot_counts *loader);

/*
 * INIT. The same in a process that runs already, whose slots somebody restores later: treats all modules for the
 * calls of dlopen and dlsym, calls changed() once, and from now on look() and changed() before such a call that
 * finds the list changed. mp_redirect_unfollow() ends it; it may begin again. Returns how many slots it changed.
 */
unsigned mp_redirect_follow_late(const struct mp_later_watch *watch, void (*look)(void));
void mp_redirect_unfollow(void);

/*
 * INIT. Between the two no thread treats modules. While look() runs on another thread, the first one waits; so it
 * may not be called where the loader's lock is held.
 */
void mp_redirect_hold(void);
void mp_redirect_release(void);

/* In a forked child: the thread that checked the modules may not be here. */
void mp_redirect_after_fork(void);

/* HOOK. The program is about to set a seccomp filter: what began late ends, as to change a slot takes system calls. */
void mp_redirect_filter_ahead(void);

/* Called by redirect_tail.S before the real function. errno is kept. */
void mp_redirect_before(int is_open, int flags);

/* Called by redirect_tail.S instead of mp_redirect_before() for dlsym and dlvsym (version NULL:
 * dlsym). */
struct mp_later_answer {
    void *symbol;
    uintptr_t given; /* 0: jump to the real function */
};
struct mp_later_answer mp_redirect_symbol(void *handle, const char *name, const char *version,
                                          uintptr_t caller);

/* The real dlopen, dlmopen, dlsym, dlvsym, in the order that redirect_tail.S counts on. */
extern uintptr_t mp_redirect_loader[4];

void mp_tail_dlopen(void);
void mp_tail_dlmopen(void);
void mp_tail_dlsym(void);
void mp_tail_dlvsym(void);

#endif
