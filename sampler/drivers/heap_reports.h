/*
 * heap_reports.h - allocators of the program that report their blocks (mem_profiler.h).
 *
 * Model: each module that includes the header has a note that says where a pointer is. The search fills the pointers
 * of all modules with the table of functions; who is withdrawn empties them, and functions that threads are in go on.
 *
 * Threads: INIT, or at a dlopen or dlsym of the program, one thread at a time. The release store of a pointer pairs
 * with the acquire load of a report.
 */
#ifndef MP_HEAP_REPORTS_H
#define MP_HEAP_REPORTS_H

/* Fill the pointers of all modules that are loaded now, and of those to come: those that mp_redirect_look() sees. */
void mp_heaps_find(void);
void mp_heaps_follow(void);

/* Empty them. */
void mp_heaps_withdraw(void);

#endif
