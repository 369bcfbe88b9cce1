/*
 * redirect_later.h - carry a redirection into modules that are opened later.
 *
 * Model: slots of dlopen, dlmopen, dlsym and dlvsym lead to redirect_tail.S, whose stand-ins first look whether
 * the loader's list has grown since the last look (a counter) and treat the modules that are new. What
 * a dlopen brought is thus treated at the next such call: normally the dlsym that follows it.
 *
 * Threads: the stand-ins run on any; one at a time looks at modules, the others go on without waiting.
 */
#ifndef MP_REDIRECT_LATER_H
#define MP_REDIRECT_LATER_H

#include "slots.h"

#define MP_LATER_TABLES 2

/*
 * INIT. From now on apply `tables` (kept, not copied) to modules as they are added. Adds what was done to the
 * slots of the loader's functions to *loader, and later what is done in new modules to *later.
 */
void mp_redirect_follow(const struct mp_slot_table *const tables[MP_LATER_TABLES],
                        struct mp_slot_counts *loader, struct mp_slot_counts *later);

/* Called by redirect_tail.S before the real function. errno is kept. */
void mp_redirect_before(int is_open, int flags);

/* The real dlopen, dlmopen, dlsym, dlvsym, in the order that redirect_tail.S counts on. */
extern uintptr_t mp_redirect_loader[4];

void mp_tail_dlopen(void);
void mp_tail_dlmopen(void);
void mp_tail_dlsym(void);
void mp_tail_dlvsym(void);

#endif
