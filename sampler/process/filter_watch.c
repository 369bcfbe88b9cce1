/*
 * filter_watch.c - wrappers of prctl, syscall and functions that drop rights. See filter_watch.h.
 */
#include "filter_watch.h"
#include "core/quiescence.h"
#include "redirect/redirect_later.h"

#include <sys/prctl.h>
#include <sys/syscall.h>

/* Both are variadic; a call passes its arguments in registers, whether there are that many or not. */
static int (*real_prctl)(int option, long a, long b, long c, long d);
static long (*real_syscall)(long number, long a, long b, long c, long d, long e, long f);

static void (*tell_undumpable)(void); /* has its value before the first redirected call */

/* Before the filter is in force: this thread's own hooks see the flag in any case, and those of others once
 * the kernel has put them under the filter too. */
static void expect_filter(void) {
    mp_redirect_filter_ahead();
    mp_pending_open();
    struct mp_control *c = mp_local.segment.control;
    if (c == NULL)
        return;
    struct mp_inside *in = mp_inside_enter();
    if (mp_gate() != MP_GATE_OFF && !(mp_load_relaxed(&c->controller_flags) & MP_FLAG_SECCOMP))
        mp_segment_reserve_ahead(&mp_local.segment);
    mp_inside_leave(in);
    __atomic_fetch_or(&c->controller_flags, MP_FLAG_SECCOMP, __ATOMIC_RELEASE);
}

static void note_prctl(long option, long value) {
    if (option == PR_SET_SECCOMP)
        expect_filter();
    if (option == PR_SET_DUMPABLE && value == 0)
        tell_undumpable();
}

static int watched_prctl(int option, long a, long b, long c, long d) {
    note_prctl(option, a);
    return real_prctl(option, a, b, c, d);
}

static long watched_syscall(long number, long a, long b, long c, long d, long e, long f) {
    if (number == SYS_seccomp)
        expect_filter();
    if (number == SYS_prctl)
        note_prctl((int)a, b);
    return real_syscall(number, a, b, c, d, e, f);
}

/* What takes a child's rights to the folder of segments, or to files at all. */
#define RIGHTS(X)                                                                                  \
    X(setuid)                                                                                      \
    X(setgid)                                                                                      \
    X(seteuid)                                                                                     \
    X(setegid)                                                                                     \
    X(setreuid)                                                                                    \
    X(setregid)                                                                                    \
    X(setresuid)                                                                                   \
    X(setresgid)                                                                                   \
    X(setrlimit)                                                                                   \
    X(setrlimit64)                                                                                 \
    X(chroot)                                                                                      \
    X(unshare)                                                                                     \
    X(setns)

#define WATCH(name)                                                                                \
    static int (*real_##name)(long a, long b, long c);                                             \
    static int watched_##name(long a, long b, long c) {                                            \
        mp_pending_open();                                                                         \
        return real_##name(a, b, c);                                                               \
    }
RIGHTS(WATCH)

static void add_right(struct mp_slot_table *table, const char *name, uintptr_t *real,
                      uintptr_t watched) {
    struct mp_elf_symbol found;
    if (!mp_elf_find_symbol(MP_ELF_FIRST, name, &found))
        return;
    *real = found.address;
    mp_slots_add(table, name, found.address, watched);
}

static void add_rights(struct mp_slot_table *table) {
#define ADD(name) add_right(table, #name, (uintptr_t *)&real_##name, (uintptr_t)watched_##name);
    RIGHTS(ADD)
}

const struct mp_slot_table *mp_filter_watch_table(void (*undumpable)(void)) {
    static struct mp_slot_table table;
    struct mp_elf_symbol prctl_found, syscall_found;
    if (real_prctl != NULL)
        return &table;
    if (!mp_elf_find_symbol(MP_ELF_FIRST, "prctl", &prctl_found) ||
        !mp_elf_find_symbol(MP_ELF_FIRST, "syscall", &syscall_found))
        return NULL;
    real_syscall = (long (*)(long, long, long, long, long, long, long))syscall_found.address;
    real_prctl = (int (*)(int, long, long, long, long))prctl_found.address;
    tell_undumpable = undumpable;
    mp_slots_init(&table);
    mp_slots_add(&table, "prctl", prctl_found.address, (uintptr_t)watched_prctl);
    mp_slots_add(&table, "syscall", syscall_found.address, (uintptr_t)watched_syscall);
    add_rights(&table);
    return &table;
}

void mp_filter_watch_install(void (*undumpable)(void)) {
    struct mp_slot_counts counts = {0};
    const struct mp_slot_table *table = mp_filter_watch_table(undumpable);
    if (table != NULL)
        mp_slots_all(table, MP_SLOTS_WRITE, &counts);
}
