/*
 * attach.c - see attach.h.
 */
#include "abi/attach.h"
#include "core/local.h"
#include "device/device.h"
#include "device/heaps.h"
#include "drivers/heap_reports.h"
#include "drivers/libraries.h"
#include "hooks/hooks.h"
#include "hooks/inline_patch.h"
#include "hooks/redirect.h"
#include "lifecycle.h"
#include "plan_file.h"
#include "pymem/pymem.h"
#include "python/runtime.h"
#include "redirect/got_slots_kept.h"
#include "redirect/redirect_later.h"
#include "redirect_attach.h"
#include "startup.h"
#include "unwind/modules.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct {
    int busy;     /* pid of the process whose call runs; 0: none */
    int attached; /* pid of the attached process; a fork child is another one */
    int adopted;  /* pid of a fork child of a preloaded process after an attach */
    int led;      /* pid of a preloaded process whose program's allocator was led here */
    bool follows; /* calls of dlopen and dlsym are redirected, too */
    uint64_t added; /* modules that ever came into the loader's list, at BEGIN */
    enum mp_pymem_wanted pymem; /* what the options ask for of CPython's allocators */
    char installed_path[sizeof((struct mp_attach_request *)0)->installed_path];
    char options[sizeof((struct mp_attach_request *)0)->options];
} attach;

/* A fork child may find the lock held by a thread that it does not have: the pid tells. */
static bool enter(void) {
    int self = getpid(), holder = __atomic_load_n(&attach.busy, __ATOMIC_RELAXED);
    if (holder == self)
        return false;
    return __atomic_compare_exchange_n(&attach.busy, &holder, self, false, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

/* Pairs with enter(): the next call sees the effects of this one. */
static void leave(void) {
    __atomic_store_n(&attach.busy, 0, __ATOMIC_RELEASE);
}

static int refuse(struct mp_attach_request *r, int error, const char *why) {
    snprintf(r->text, sizeof r->text, "%s", why);
    return error;
}

/* Text from outside ends in a NUL, whatever it holds. */
static void copy_text(char *to, const char *from, size_t n) {
    memcpy(to, from, n);
    to[n - 1] = '\0';
}

static int read_options(struct mp_attach_request *r, struct mp_options *options) {
    copy_text(attach.installed_path, r->installed_path, sizeof attach.installed_path);
    copy_text(attach.options, r->options, sizeof attach.options);
    int rc = mp_options_read_text(options, attach.options, r->text, sizeof r->text);
    r->dir[sizeof r->dir - 1] = '\0';
    if (rc != 0 || r->dir[0] == '\0')
        return rc;
    if (r->dir[0] != '/')
        return refuse(r, -EINVAL, "the folder of segments must be an absolute path");
    memcpy(options->dir, r->dir, sizeof options->dir);
    return 0;
}

static void tell(struct mp_attach_request *r, const struct mp_slot_counts *counts) {
    r->slots_patched = counts->patched;
    r->slots_failed = counts->failed;
    r->modules = counts->modules;
    r->slots_held = mp_kept_count() + mp_entry_count();
}

static void restore(struct mp_entry_counts *entries) {
    mp_redirect_hold();
    mp_entry_restore(entries);
    mp_redirect_release();
}

/* Without `bytes`, none is kept any more. */
static int keep_plans(const void *plans, size_t bytes) {
    mp_redirect_hold();
    int rc = mp_plan_file_keep(plans, bytes);
    mp_plan_file_look();
    mp_redirect_release();
    return rc;
}

/* Returns what stays, in one line, or NULL. */
static const char *undo(struct mp_attach_request *r) {
    struct mp_kept_counts slots;
    struct mp_entry_counts entries = {0};
    mp_heaps_withdraw();
    mp_startup_late_shut();
    if (attach.follows)
        mp_redirect_unfollow();
    attach.follows = false;
    if (attach.pymem != MP_PYMEM_NOTHING && !mp_pymem_withdraw())
        snprintf(r->text, sizeof r->text,
                 "CPython's allocators still call the sampler, which forwards: the main thread"
                 " ran no Python code meanwhile, or its threads have no common lock");
    mp_py_withdraw();
    if (!mp_startup_by_constructor())
        keep_plans(NULL, 0);
    restore(&entries);
    mp_kept_restore(&slots);
    const char *stays = mp_startup_late_close();
    r->slots_restored = slots.restored + entries.restored;
    r->slots_failed = slots.failed + entries.failed;
    r->slots_kept = slots.foreign + entries.foreign;
    r->slots_held = entries.failed;
    return stays;
}

static bool covered(struct mp_attach_request *r) {
    if (mp_redirect_first_covered())
        return true;
    refuse(r, 0, "malloc is part of the program, before the sampler");
    return false;
}

/* The plans of the request, back to back. One for a library that cannot be followed leaves it unseen, and is no error. */
static int install(struct mp_attach_request *r, struct mp_entry_counts *entries) {
    const char *at = (const char *)(uintptr_t)r->plan;
    uint64_t left = r->plan_bytes;
    int rc = 0;
    mp_redirect_hold();
    while (rc == 0 && left != 0) {
        const struct mp_entry_plan *plan = (const void *)at;
        size_t bytes = mp_entry_plan_bytes(plan, left);
        rc = mp_entry_install(plan, bytes, entries, r->text, sizeof r->text);
        if (rc != 0 && bytes != 0 && plan->of_library != 0)
            rc = refuse(r, 0, "");
        at += bytes;
        left -= bytes;
    }
    mp_redirect_release();
    return rc;
}

/* Lead the allocator inside the program to a preloaded sampler, which sees the C library's: its segment stays. */
static int lead(struct mp_attach_request *r) {
    struct mp_entry_counts entries = {0};
    int rc = install(r, &entries);
    if (rc != 0)
        return rc;
    r->slots_patched = entries.patched;
    r->slots_held = mp_entry_count();
    attach.attached = attach.led = getpid();
    mp_local.segment.control->startup_flags |= MP_STARTUP_ATTACHED;
    mp_process_tell_entries(mp_local.segment.control);
    return 0;
}

/* A capture that runs would miss the frees from here on: -EAGAIN. */
static int leave_alone(struct mp_attach_request *r) {
    struct mp_entry_counts entries = {0};
    struct mp_control *c = mp_local.segment.control;
    if (c != NULL && mp_load_acquire(&c->gate) != MP_GATE_OFF)
        return refuse(r, -EAGAIN, "a capture of the process runs");
    restore(&entries);
    r->slots_restored = entries.restored;
    r->slots_failed = r->slots_held = entries.failed;
    r->slots_kept = entries.foreign;
    if (c != NULL)
        c->startup_flags &= ~(uint32_t)MP_STARTUP_ATTACHED;
    mp_process_tell_entries(c);
    attach.led = 0;
    return 0;
}

/* Redirect the functions of the plan, then the slots: none where the constructor has treated them. */
static int redirect(struct mp_attach_request *r, bool by_constructor) {
    struct mp_slot_counts slots = {0};
    struct mp_entry_counts entries = {0};
    int rc = 0;
    if (r->plan != 0)
        rc = install(r, &entries);
    if (rc != 0)
        return rc;
    mp_kept_begin();
    if (!by_constructor)
        mp_redirect_attached(false, &slots);
    mp_device_redirect();
    if (!by_constructor)
        rc = mp_redirect_attach_unseen(&slots, r->text, sizeof r->text);
    else if (!covered(r))
        rc = -ENOTSUP;
    tell(r, &slots);
    r->slots_patched += entries.patched;
    return rc;
}

static void see_modules(bool only_new, struct mp_slot_counts *counts) {
    uint64_t added, removed;
    mp_elf_counts(&added, &removed);
    mp_store_relaxed(&mp_local.segment.control->opened_later, added - attach.added);
    mp_modules_refresh();
    mp_kept_prune();
    mp_redirect_attached(only_new, counts);
    mp_heaps_find();
}

/* At a dlopen or dlsym of the program, which has treated drivers already. */
static void look(void) {
    struct mp_slot_counts counts = {0};
    if (attach.attached != getpid())
        return;
    mp_plan_file_look();
    see_modules(true, &counts);
}

static int begin(struct mp_attach_request *r) {
    struct mp_options options;
    bool preloaded = mp_startup_by_constructor(), behind = mp_startup_is_behind_program();
    attach.pymem = MP_PYMEM_NOTHING;
    if (mp_options_opted_out_at_start())
        return refuse(r, -EPERM, "the process was started with MEM_PROFILER_DISABLE");
    if (attach.attached == getpid())
        return refuse(r, -EALREADY, "mem_profiler is already attached to the process");
    if (preloaded && !behind && attach.adopted != getpid() && !mp_startup_is_orphan()) {
        if (r->plan != 0 && !mp_entry_of_program() && mp_local.segment.control != NULL)
            return lead(r);
        return refuse(r, -EALREADY, "the sampler has been in the process since its start");
    }
    if (behind && r->plan == 0 && !covered(r))
        return -ENOTSUP;
    int rc = read_options(r, &options);
    if (rc == 0 && !preloaded)
        rc = mp_redirect_attach_prepare(r->text, sizeof r->text);
    if (rc == 0)
        rc = mp_startup_late_open(&options, preloaded ? "" : attach.installed_path, r->text,
                                  sizeof r->text);
    if (rc != 0)
        return rc;
    if (!preloaded || behind) {
        mp_device_attach(options.devices, options.devices_by_name);
        mp_backend_allocator((uintptr_t)mp_real.malloc);
        rc = redirect(r, preloaded);
    } else if (r->plan != 0 && !mp_entry_of_program()) {
        struct mp_entry_counts entries = {0};
        rc = install(r, &entries);
        r->slots_patched = entries.patched;
        r->slots_held = mp_entry_count();
    }
    if (rc != 0) {
        undo(r);
        return rc;
    }
    uint64_t removed;
    mp_elf_counts(&attach.added, &removed);
    attach.attached = getpid();
    attach.adopted = preloaded && !behind ? getpid() : 0;
    if (!preloaded)
        attach.pymem = options.pymem    ? MP_PYMEM_OBJECTS
                       : options.arenas ? MP_PYMEM_ARENAS
                                        : MP_PYMEM_NOTHING;
    mp_process_tell_entries(mp_local.segment.control);
    mp_startup_late_ready();
    mp_heaps_forget();
    mp_heaps_find();
    if (attach.pymem != MP_PYMEM_NOTHING)
        mp_pymem_ask(attach.pymem);
    attach.follows = (r->flags & MP_ATTACH_FOLLOW) != 0 && !preloaded;
    if (attach.follows) {
        r->slots_patched += mp_device_follow(look);
        r->slots_held = mp_kept_count() + mp_entry_count();
    }
    return 0;
}

static int rescan(struct mp_attach_request *r) {
    struct mp_slot_counts counts = {0};
    struct mp_entry_counts entries = {0};
    mp_redirect_hold(); /* a thread of the program may be at the same, in dlopen or dlsym */
    mp_entry_forget_closed();
    mp_plan_file_look();
    mp_redirect_release();
    if (r->plan != 0)
        install(r, &entries);
    mp_process_tell_entries(mp_local.segment.control);
    if (attach.adopted == getpid() || attach.led == getpid())
        return 0;
    if (attach.follows)
        mp_redirect_hold();
    see_modules(false, &counts);
    mp_device_redirect();
    if (attach.follows)
        mp_redirect_release();
    if (attach.pymem != MP_PYMEM_NOTHING)
        mp_pymem_ask(attach.pymem);
    tell(r, &counts);
    r->slots_patched += entries.patched;
    return 0;
}

static int detach(struct mp_attach_request *r) {
    bool led = attach.led == getpid();
    int rc = led ? leave_alone(r) : 0;
    if (rc != 0)
        return rc;
    const char *stays = led ? NULL : undo(r);
    attach.attached = 0;
    if (stays != NULL)
        snprintf(r->text, sizeof r->text, "%s", stays);
    if (r->slots_failed != 0)
        snprintf(r->text, sizeof r->text,
                 "the sampler could not restore %u places: they still call it, and it forwards",
                 r->slots_failed);
    return 0;
}

static int run(struct mp_attach_request *r) {
    bool attached = attach.attached == getpid();
    switch (r->command) {
    case MP_ATTACH_BEGIN:
        return begin(r);
    case MP_ATTACH_RESCAN:
        return attached ? rescan(r)
                        : refuse(r, -EALREADY, "mem_profiler is not attached to the process");
    case MP_ATTACH_DETACH:
        return attached ? detach(r)
                        : refuse(r, -EALREADY, "mem_profiler is not attached to the process");
    case MP_ATTACH_PLANS:
        return attached || (mp_startup_by_constructor() && mp_process.state == MP_STATE_READY)
                   ? keep_plans((const void *)(uintptr_t)r->plan, r->plan_bytes)
                   : refuse(r, -EALREADY, "the sampler sees no allocation of the process");
    case MP_ATTACH_STEP:
        return mp_mark_steps() ? -EEXIST : 0;
    default:
        return refuse(r, -EINVAL, "unknown command");
    }
}

static uint64_t set_signal_mask(uint64_t mask) {
    uint64_t before = 0;
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &mask, &before, sizeof mask);
    return before;
}

/* This thread is not the program's own, so it runs no handlers of the program. glibc's own two signals
 * pass: setuid() waits until every thread has had one. */
static uint64_t block_signals(void) {
    return set_signal_mask(~(1ULL << (32 - 1) | 1ULL << (33 - 1)));
}

__attribute__((visibility("default"))) int mem_profiler_attach(struct mp_attach_request *request) {
    struct mp_attach_request *r = request;
    int saved_errno = errno;
    uint64_t before = block_signals();
    r->text[0] = '\0';
    r->slots_patched = r->slots_restored = r->slots_failed = r->modules = 0;
    r->slots_held = r->slots_kept = 0;
    if (r->version != MP_ATTACH_VERSION) {
        r->result = refuse(r, -EINVAL, "the library in the process is of another version");
    } else if (!enter()) {
        r->result = refuse(r, -EBUSY, "another attach or detach of the process has not ended");
    } else {
        r->result = run(r);
        leave();
    }
    set_signal_mask(before);
    errno = saved_errno;
    return r->result;
}
