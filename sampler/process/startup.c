/*
 * startup.c - begin with the program, and end with it: first call, constructor, destructor. See lifecycle.h.
 *
 * Model: constructors of other libraries run before ours, and allocate. So the first call of a hook begins: it
 * finds the real functions, reads the options, makes the segment, and opens the way of the hot path by storing the
 * offset from the static "off" word to the gate. Until then, and after any failure, the hooks only forward. All that
 * runs in this state, where not even the C library is ready, calls nothing of another library but the loader's
 * _dl_find_object (mini_libc.c). The constructor does the rest: it redirects slots, tries the functions of
 * other allocators, and reports. It also begins where another object takes malloc.
 *
 * A library that was opened from a descriptor, thus put into a running process, does nothing until a
 * command (startup.h, attach.h).
 */
#include "startup.h"
#include "abi/clock.h"
#include "checker.h"
#include "core/local.h"
#include "core/threads.h"
#include "drivers/heap_reports.h"
#include "drivers/libraries.h"
#include "filter_watch.h"
#include "hooks/hooks.h"
#include "hooks/inline_patch.h"
#include "hooks/redirect.h"
#include "lifecycle.h"
#include "plan_file.h"
#include "proc_stat.h"
#include "pymem/pymem.h"
#include "say.h"

#include <errno.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <unistd.h>

/* Redirect what does not come here by itself. */
static void choose_state(void) {
    char path[200];
    bool planned = mp_process.options.plan_fd >= 0 &&
                   mp_plan_file_install(mp_process.options.plan_fd, mp_process.options.follow_fork,
                                        mp_process.options.plan_for_next) == 0;
    bool shadowed = mp_redirect_install(&mp_real, path, sizeof path) != 0 &&
                    !(planned && mp_redirect_first_covered());
    if (mp_process.open)
        return;
    mp_process.state = MP_STATE_READY;
    if (shadowed) {
        mp_process.state = MP_STATE_SHADOWED;
        mp_process_put(mp_process.state_text, sizeof mp_process.state_text, path);
    } else if (mp_process_start_unwinder(false, true) != 0) {
        mp_process.state = MP_STATE_REFUSED;
        mp_process_put(mp_process.state_text, sizeof mp_process.state_text, mp_process_no_libgcc);
    }
}

/* Was the library opened by a name in /proc? Then commands follow. */
static bool opened_through_proc(void) {
    const char *path = mp_elf_self_path();
    return path != NULL && strncmp(path, "/proc/", 6) == 0;
}

/* The kernel does not let other processes of this user read the memory of a program whose file they may
 * not read. */
static bool is_dumpable(void) {
    int dumpable = prctl(PR_GET_DUMPABLE, 0, 0, 0, 0); /* 2: by root alone */
    mp_process.withdrawn = dumpable == 0 || dumpable == 2;
    return !mp_process.withdrawn;
}

/* Can the sampler see allocations before any constructor has run? Not if another object takes malloc: whether that one
 * works already cannot be known. */
static bool is_first(void) {
    struct mp_elf_symbol first;
    return mp_elf_find_symbol(MP_ELF_FIRST, "malloc", &first) && first.module == _DYNAMIC &&
           strcmp(mp_process.options.unwind, "libgcc") != 0;
}

/* A log of events begins with its program. */
static int open_if_dumpable(void) {
    const struct mp_options *o = &mp_process.options;
    if (!is_dumpable())
        return -EPERM;
    if (o->start && o->is_child && o->events_bytes == 0 && mp_process.state == MP_STATE_READY &&
        !mp_is_filtered()) {
        mp_process.rate_at_fork = o->start_rate_bytes;
        mp_process_begin_pending();
        return 0;
    }
    return mp_process_open(0, o->start, o->start_rate_bytes);
}

/* Read the options, and begin where nothing of another library is needed for that. */
static void begin(void) {
    if (getauxval(AT_SECURE) != 0 || opened_through_proc())
        return;
    mp_process.started = true;
    if (mp_options_opted_out())
        return;
    mp_read_exe(mp_process.exe, sizeof mp_process.exe);
    if (mp_options_read(&mp_process.options, mp_process.exe, mp_process.wrong,
                        sizeof mp_process.wrong) != 0 ||
        mp_process.options.only_others)
        return;
    mp_process.wanted = true;
    mp_process.pid_at_fork = (uint32_t)getpid();
    mp_process_wipe_on_fork();
    mp_hooks_name_frames();
    mp_threads_init();
    const char *checker = mp_checker_name();
    if (checker != NULL) {
        mp_process.state = MP_STATE_REFUSED;
        mp_process.refused = true;
        mp_checker_refusal(checker, mp_process.state_text, sizeof mp_process.state_text);
    } else if (is_first()) {
        mp_process.state = MP_STATE_READY;
        mp_process_start_unwinder(false, true);
    } else {
        return;
    }
    mp_process.open = true;
    mp_process.start_rc = open_if_dumpable();
    if (mp_process.state == MP_STATE_READY)
        mp_heaps_find();
}

/* At the first call of a hook, or in the constructor where that comes before. */
static void begin_once(void) {
    static int begun;
    int no = 0;
    if (!__atomic_compare_exchange_n(&begun, &no, 1, false, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED))
        return;
    begin();
}
MP_AT_FIRST_CALL(begin_once);

/* What needs the C library, which is ready now. */
static void finish_start(void) {
    if (mp_process.state != MP_STATE_REFUSED) {
        choose_state();
        mp_unwind_libraries_ready((mp_make_context *)mp_real_of_libc("makecontext"));
        mp_filter_watch_install(mp_startup_withdraw);
        if (mp_process.state == MP_STATE_READY)
            mp_plan_file_follow();
        if (mp_process.state == MP_STATE_READY)
            mp_device_start(mp_process.options.devices, mp_process.options.devices_by_name);
        mp_backend_allocator((uintptr_t)mp_real.malloc);
        if (mp_process.state == MP_STATE_READY && mp_process.options.pymem)
            mp_pymem_start();
        if (mp_process.state == MP_STATE_READY) {
            mp_heaps_find();
            mp_heaps_follow();
        }
    }
    mp_process.late = !mp_process.open || mp_redirect_report.second.patched != 0;
    if (!mp_process.open)
        mp_process.start_rc = open_if_dumpable();
    else if (mp_local.segment.control != NULL)
        mp_device_announce();
    if (mp_process.late && mp_process.options.start && mp_local.segment.control != NULL)
        mp_local.segment.control->startup_flags |= MP_STARTUP_LATE;
    mp_process_tell_entries(mp_local.segment.control);
    if (mp_process.options.start && mp_process.refused)
        mp_say_unprofiled(mp_process.exe, mp_process.state_text);
    else if (mp_process.options.start && mp_process.state == MP_STATE_SHADOWED)
        mp_say_shadowed(mp_process.exe, mp_process.state_text, mp_redirect_report.in_program);
    else if (mp_process.options.start && mp_process.start_rc != 0)
        mp_say_no_capture(mp_process.exe, mp_process.options.dir,
                          mp_process.withdrawn ? "the process is not dumpable"
                                               : mp_segment_why(mp_process.start_rc));
    else if (mp_process.options.start && mp_process.file.other_folder)
        mp_say_other_folder(mp_process.exe, mp_process.options.dir, mp_process.file.path);
}

__attribute__((constructor)) static void start(void) {
    int saved_errno = errno;
    mp_elf_from_list(mp_only_thread());
    mp_hooks_resolve();
    begin_once();
    if (mp_process.wrong[0] != '\0')
        mp_say_unprofiled(mp_process.exe, mp_process.wrong);
    if (mp_process.wanted) {
        finish_start();
        mp_process_watch_forks();
    }
    mp_elf_from_list(false);
    errno = saved_errno;
}

__attribute__((destructor)) static void stop(void) {
    struct mp_segment *seg = &mp_local.segment;
    if (seg->control == NULL)
        return;
    bool filtered = (mp_load_relaxed(&seg->control->controller_flags) & MP_FLAG_SECCOMP) != 0;
    if (!filtered && seg->control->pid != (uint32_t)getpid())
        return; /* a vfork child that calls exit() */
    if (!filtered)
        seg->control->at_exit = mp_resident_now();
    if (mp_process.state == MP_STATE_READY) { /* otherwise the reason stays */
        mp_store_relaxed(&seg->control->exited_ns, mp_clock_ns(CLOCK_MONOTONIC_COARSE));
        mp_store_release(&seg->control->state, (uint32_t)MP_STATE_EXITED);
    }
    bool is_answer = mp_process.state != MP_STATE_READY && mp_process.options.start;
    if (!filtered && !is_answer) /* whoever requested a capture reads the reason there */
        mp_segment_discard_unused(seg, &mp_process.file);
}

void mp_startup_withdraw(void) {
    struct mp_control *c = mp_local.segment.control;
    mp_process.withdrawn = true;
    mp_pending_cancel();
    if (c == NULL)
        return;
    mp_process_shut(c);
    mp_process_put(c->state_text, sizeof c->state_text, "the process made itself undumpable");
    mp_store_release(&c->state, (uint32_t)MP_STATE_REFUSED);
}
