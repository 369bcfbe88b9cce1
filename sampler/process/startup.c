/*
 * startup.c - the sampler's life in a process: constructor, destructor, fork.
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
 *
 * A fork child wakes up with `mp_local` wiped. If the sampler follows children, it goes on at the parent's rate, in
 * a segment that it makes with the first sample (pending.h); where nothing is captured, the atfork handler makes it.
 * Otherwise the child stays without one. A program that a child executes waits for its first sample, too.
 */
#include "startup.h"
#include "abi/clock.h"
#include "checker.h"
#include "core/capture.h"
#include "core/events.h"
#include "core/modtab.h"
#include "core/record.h"
#include "core/threads.h"
#include "drivers/libraries.h"
#include "filter_watch.h"
#include "hooks/hooks.h"
#include "hooks/redirect.h"
#include "options.h"
#include "plan_file.h"
#include "proc_stat.h"
#include "pymem/pymem.h"
#include "python/runtime.h"
#include "redirect/redirect_later.h"
#include "say.h"
#include "segment_file.h"
#include "segment_place.h"
#include "text.h"

#include <errno.h>
#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

extern const char __ehdr_start[] __attribute__((visibility("hidden")));

/* Survives fork, unlike mp_local. */
static struct {
    struct mp_options options;
    char exe[512];
    struct mp_segment_file file;
    enum mp_state state;
    char state_text[256];
    int64_t gate_at_fork;
    uint64_t rate_at_fork, forked_ns;
    uint32_t pid_at_fork;
    uint32_t parent_pid, own_pid;  /* of a segment that is made later; 0: none */
    bool filtered_at_fork;
    bool started;                  /* by the program's start, not by an attach */
    bool wanted;                   /* the options ask for a segment */
    bool open;                     /* the segment was made before the constructor */
    bool late;                     /* allocations before the constructor are not in its capture */
    bool refused;                  /* because of a checker */
    int start_rc;                  /* of making it */
    char wrong[384];               /* about an option that cannot be used */
    bool withdrawn;                /* the program made itself undumpable */
    struct mp_segment_place place; /* of the segments of an attached process */
    uint32_t captures;             /* number of the latest one in the segments before */
    uint32_t epoch;
} process;

/* What the sampler was at its start, where the program's own malloc is before it, while it is attached. */
static struct {
    bool on;
    bool listed; /* a segment says so */
    uint32_t parent_pid;
    struct mp_options options;
    char state_text[sizeof process.state_text];
} behind;

/* Start a capture without a controller: MEM_PROFILER_START, or a followed child of a capturing
 * parent. */
static int start_capture(struct mp_segment *seg, int fd, uint64_t rate_bytes) {
    int rc = mp_segment_reserve_first(seg, fd);
    if (rc != 0)
        return rc;
    struct mp_control *c = seg->control;
    struct mp_capture *slot = &c->capture[1];
    slot->number = 1;
    slot->rate_bytes = rate_bytes;
    c->device_rate_bytes[1] = process.options.device_rate_bytes;
    c->peak[1] = (struct mp_peak){.capture = 1};
    slot->start_ns = mp_clock_ns(CLOCK_MONOTONIC);
    slot->start_realtime_ns = mp_clock_ns(CLOCK_REALTIME);
    if (process.own_pid != 0) {
        slot->start_realtime_ns -= slot->start_ns - process.forked_ns;
        slot->start_ns = process.forked_ns;
    }
    slot->deadline_ns = UINT64_MAX;
    uint64_t end_ns = 1000000000;
    for (unsigned i = 0; i + 1 < MP_BUCKETS; i++, end_ns *= MP_OPEN_BUCKET_GROWTH)
        slot->bucket_end_ns[i] = end_ns;
    slot->bucket_end_ns[MP_BUCKETS - 1] = UINT64_MAX;
    if (process.options.events_bytes != 0) /* a refusal is counted, and readers find no rings */
        mp_events_begin(seg, fd, 1, process.options.events_bytes, process.options.launches);
    mp_store_release(&c->capture_number,
                     1u); /* both pair with the controller's loads: the slot is filled */
    mp_store_release(&c->gate, (int64_t)1 << MP_GATE_SHIFT);
    return 0;
}

static void put(char *to, size_t n, const char *text) {
    struct mp_text t = {.buffer = to, .size = n};
    mp_put(&t, text);
}

static void read_allocator(struct mp_control *c) {
    struct mp_module m;
    bool known = mp_module_find((uintptr_t)mp_real.malloc, &m) && m.name != NULL;
    if (mp_redirect_report.in_program || (known && *m.name == '\0'))
        put(c->allocator, sizeof c->allocator, process.exe);
    else if (known)
        put(c->allocator, sizeof c->allocator, m.name);
}

/* Let hooks see the gate (local.h). */
static void open_way(const struct mp_control *c) {
    mp_store_release(&mp_local.gate_offset, (const char *)&c->gate - (const char *)&mp_gate_off);
}

/* Make the segment and open the hot path. `rate_bytes` 0: no capture yet. */
static int open_segment(uint32_t parent_pid, bool capture, uint64_t rate_bytes) {
    struct mp_segment *seg = &mp_local.segment; /* too large for the stack of a small thread */
    capture = capture && process.state == MP_STATE_READY;
    int rc = mp_segment_create(&process.options, process.exe, seg, &process.file, &process.place,
                               capture);
    if (rc != 0)
        return rc;
    struct mp_control *c = seg->control;
    bool attached = process.place.base != NULL && process.state != MP_STATE_SHADOWED;
    c->startup_flags |= (attached ? MP_STARTUP_ATTACHED : 0) |
                        (process.late && process.options.start ? MP_STARTUP_LATE : 0) |
                        (process.file.other_folder ? MP_STARTUP_OTHER_FOLDER : 0);
    c->capture_number = c->written_capture = process.captures;
    c->parent_pid = parent_pid;
    c->pymem_ns = mp_pymem_since_ns();
    put(c->unwinder, sizeof c->unwinder, mp_unwind_name());
    put(c->state_text, sizeof c->state_text, process.state_text);
    read_allocator(c);
    mp_local.seed = mp_options_seed(&process.options);
    mp_store_release(&c->state,
                     (uint32_t)process.state); /* the controller reads all above once it has this */
    if (capture)
        rc = start_capture(seg, process.file.fd, rate_bytes);
    close(process.file.fd);
    mp_device_announce();
    if (process.state == MP_STATE_READY)
        open_way(c);
    return rc;
}

static void before_fork(void) {
    struct mp_control *c = mp_local.segment.control;
    process.gate_at_fork = mp_gate();
    process.pid_at_fork =
        c != NULL ? c->pid : process.own_pid; /* no system call: there may be a filter */
    process.filtered_at_fork =
        c != NULL && (mp_load_relaxed(&c->controller_flags) & MP_FLAG_SECCOMP) != 0;
    if (c == NULL || process.gate_at_fork == MP_GATE_OFF)
        return;
    unsigned slot = (process.gate_at_fork >> MP_GATE_SHIFT) & 1;
    process.rate_at_fork = mp_load_relaxed(&c->capture[slot].rate_bytes);
    process.options.device_rate_bytes = mp_load_relaxed(&c->device_rate_bytes[slot]);
    process.options.depth_limit = mp_capture_depth_limit(c);
    process.options.events_bytes =
        mp_events_bytes(c, (uint32_t)(process.gate_at_fork >> MP_GATE_SHIFT));
    process.options.launches =
        mp_events_launches(c, (uint32_t)(process.gate_at_fork >> MP_GATE_SHIFT));
}

/* HOOK. */
static void open_pending(void) {
    if (open_segment(process.parent_pid, true, process.rate_at_fork) != 0)
        mp_store_release(&mp_local.gate_offset, (intptr_t)0);
}

static void begin_pending(void) {
    process.own_pid = (uint32_t)getpid();
    process.forked_ns = mp_clock_ns(CLOCK_MONOTONIC);
    mp_local.seed = mp_options_seed(&process.options);
    mp_pending_begin(process.rate_at_fork, open_pending);
}

/* A filter that is in force already may kill later for what it lets through now. */
static bool may_wait(void) {
    return process.gate_at_fork != MP_GATE_OFF && process.state == MP_STATE_READY &&
           process.place.base == NULL && !process.filtered_at_fork;
}

static void in_fork_child(void) {
    mp_redirect_after_fork();
    if (mp_local.segment.base != NULL) /* the kernel does not know MADV_WIPEONFORK */
        memset(&mp_local, 0, sizeof mp_local);
    if (!process.options.follow_fork || process.withdrawn)
        return;
    int saved_errno = errno;
    memset(&mp_self, 0, sizeof mp_self);
    mp_modtab_after_fork();
    mp_device_after_fork();
    process.own_pid = 0;
    if (may_wait()) {
        process.parent_pid = process.pid_at_fork;
        begin_pending();
    } else {
        open_segment(process.pid_at_fork, process.gate_at_fork != MP_GATE_OFF,
                     process.rate_at_fork);
    }
    errno = saved_errno;
}

/* HOOK. May the unwinder ask the kernel whether a page is mapped? */
static bool may_probe(void) {
    const struct mp_control *c = mp_local.segment.control;
    return c != NULL && !(mp_load_relaxed(&c->controller_flags) & MP_FLAG_SECCOMP);
}

static int start_unwinder(bool attached, bool early) {
    struct mp_unwind_config config = {.mode = MP_UNWIND_FP,
                                      .attached = attached,
                                      .early = early,
                                      .iterate = mp_elf_iterate,
                                      .note_module = mp_modtab_watch,
                                      .find_symbol = mp_elf_find,
                                      .may_probe = may_probe};
    if (strcmp(process.options.unwind, "cfi") == 0)
        config.mode = MP_UNWIND_CFI;
    if (strcmp(process.options.unwind, "libgcc") == 0)
        config.mode = MP_UNWIND_LIBGCC;
    mp_py_init((mp_py_getspecific *)mp_elf_find("pthread_getspecific"));
    return mp_unwind_init(&config);
}

static const char no_libgcc[] =
    "MEM_PROFILER_UNWIND=libgcc needs a program that has libgcc_s loaded";

/* Redirect what does not come here by itself. */
static void choose_state(void) {
    char path[200];
    bool planned = process.options.plan_fd >= 0 &&
                   mp_plan_file_install(process.options.plan_fd, process.options.follow_fork,
                                        process.options.plan_for_next) == 0;
    bool shadowed = mp_redirect_install(&mp_real, path, sizeof path) != 0 &&
                    !(planned && mp_redirect_first_covered());
    if (process.open)
        return;
    process.state = MP_STATE_READY;
    if (shadowed) {
        process.state = MP_STATE_SHADOWED;
        put(process.state_text, sizeof process.state_text, path);
    } else if (start_unwinder(false, true) != 0) {
        process.state = MP_STATE_REFUSED;
        put(process.state_text, sizeof process.state_text, no_libgcc);
    }
}

static void wipe_on_fork(void) {
    if (madvise(&mp_local, sizeof mp_local, MADV_WIPEONFORK) != 0)
        mp_local.pid_if_unwiped = (uint32_t)getpid();
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
    process.withdrawn = dumpable == 0 || dumpable == 2;
    return !process.withdrawn;
}

/* Can the sampler see allocations before any constructor has run? Not if another object takes malloc: whether that one
 * works already cannot be known. */
static bool is_first(void) {
    struct mp_elf_symbol first;
    return mp_elf_find_symbol(MP_ELF_FIRST, "malloc", &first) && first.module == _DYNAMIC &&
           strcmp(process.options.unwind, "libgcc") != 0;
}

/* A log of events begins with its program. */
static int open_if_dumpable(void) {
    const struct mp_options *o = &process.options;
    if (!is_dumpable())
        return -EPERM;
    if (o->start && o->is_child && o->events_bytes == 0 && process.state == MP_STATE_READY &&
        !mp_is_filtered()) {
        process.rate_at_fork = o->start_rate_bytes;
        begin_pending();
        return 0;
    }
    return open_segment(0, o->start, o->start_rate_bytes);
}

/* Read the options, and begin where nothing of another library is needed for that. */
static void begin(void) {
    if (getauxval(AT_SECURE) != 0 || opened_through_proc())
        return;
    process.started = true;
    if (mp_options_opted_out())
        return;
    mp_read_exe(process.exe, sizeof process.exe);
    if (mp_options_read(&process.options, process.exe, process.wrong, sizeof process.wrong) != 0 ||
        process.options.only_others)
        return;
    process.wanted = true;
    process.pid_at_fork = (uint32_t)getpid();
    wipe_on_fork();
    mp_hooks_name_frames();
    mp_threads_init();
    const char *checker = mp_checker_name();
    if (checker != NULL) {
        process.state = MP_STATE_REFUSED;
        process.refused = true;
        mp_checker_refusal(checker, process.state_text, sizeof process.state_text);
    } else if (is_first()) {
        process.state = MP_STATE_READY;
        start_unwinder(false, true);
    } else {
        return;
    }
    process.open = true;
    process.start_rc = open_if_dumpable();
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

/* A library's constructor forked between our first call and our constructor: no handler was there yet. */
static void catch_up_with_fork(void) {
    if (process.pid_at_fork == (uint32_t)getpid())
        return;
    bool captures = process.options.start && process.state == MP_STATE_READY;
    process.gate_at_fork = captures ? (int64_t)1 << MP_GATE_SHIFT : MP_GATE_OFF;
    process.rate_at_fork = process.options.start_rate_bytes;
    in_fork_child();
}

extern void *__dso_handle __attribute__((visibility("hidden")));

/* As pthread_atfork(). */
static void watch_forks(void) {
    typedef int register_function(void (*)(void), void (*)(void), void (*)(void), void *);
    register_function *registers = (register_function *)mp_real_of_libc("__register_atfork");
    if (registers != NULL)
        registers(before_fork, NULL, in_fork_child, __dso_handle);
}

/* What needs the C library, which is ready now. */
static void finish_start(void) {
    if (process.state != MP_STATE_REFUSED) {
        choose_state();
        mp_unwind_libraries_ready((mp_make_context *)mp_real_of_libc("makecontext"));
        mp_filter_watch_install(mp_startup_withdraw);
        if (process.state == MP_STATE_READY)
            mp_device_start(process.options.devices, process.options.devices_by_name);
        if (process.state == MP_STATE_READY && process.options.pymem)
            mp_pymem_start();
    }
    process.late = !process.open || mp_redirect_report.second.patched != 0;
    if (!process.open)
        process.start_rc = open_if_dumpable();
    else if (mp_local.segment.control != NULL)
        mp_device_announce();
    if (process.late && process.options.start && mp_local.segment.control != NULL)
        mp_local.segment.control->startup_flags |= MP_STARTUP_LATE;
    if (process.options.start && process.refused)
        mp_say_unprofiled(process.exe, process.state_text);
    else if (process.options.start && process.state == MP_STATE_SHADOWED)
        mp_say_shadowed(process.exe, process.state_text, mp_redirect_report.in_program);
    else if (process.options.start && process.start_rc != 0)
        mp_say_no_capture(process.exe, process.options.dir,
                          process.withdrawn ? "the process is not dumpable"
                                            : mp_segment_why(process.start_rc));
    else if (process.options.start && process.file.other_folder)
        mp_say_other_folder(process.exe, process.options.dir, process.file.path);
}

__attribute__((constructor)) static void start(void) {
    int saved_errno = errno;
    mp_elf_from_list(mp_only_thread());
    mp_hooks_resolve();
    begin_once();
    if (process.wrong[0] != '\0')
        mp_say_unprofiled(process.exe, process.wrong);
    if (process.wanted) {
        finish_start();
        catch_up_with_fork();
        watch_forks();
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
    if (process.state == MP_STATE_READY) /* otherwise the reason stays */
        mp_store_release(&seg->control->state, (uint32_t)MP_STATE_EXITED);
    bool is_answer = process.state != MP_STATE_READY && process.options.start;
    if (!filtered && !is_answer) /* who asked for a capture reads the reason there */
        mp_segment_discard_unused(seg, &process.file);
}

bool mp_startup_by_constructor(void) {
    return process.started;
}

bool mp_startup_is_orphan(void) {
    return process.started && process.state == MP_STATE_READY && mp_local.segment.control == NULL;
}

bool mp_startup_is_behind_program(void) {
    return process.started && !process.withdrawn &&
           (behind.on || (process.state == MP_STATE_SHADOWED && mp_redirect_report.in_program));
}

/* Also the captures of a parent that was attached when it forked: threads kept their countdowns. */
static void learn_captures(void) {
    if (process.place.base == NULL)
        return;
    uint32_t n = mp_load_relaxed(&((struct mp_control *)process.place.base)->capture_number);
    n = n < MP_CAPTURE_MAX ? n : MP_CAPTURE_MAX;
    process.captures = n > process.captures ? n : process.captures;
}

static void prepare_hooks(void) {
    static bool done;
    wipe_on_fork();
    if (!done) {
        mp_read_exe(process.exe, sizeof process.exe);
        mp_hooks_name_frames();
        mp_threads_init();
        done = true;
    }
    mp_filter_clear();
    mp_modtab_forget();
    mp_unwind_flush();
    mp_local.epoch = ++process.epoch;
    mp_store_relaxed(&mp_local.counts_inside, true);
}

/* The segment's file goes unless it holds a capture; its place stays for threads that may write there. 0 or
 * -errno: nothing is mapped there. */
static int close_segment(void) {
    learn_captures();
    mp_store_release(&mp_local.segment.control->state, (uint32_t)MP_STATE_EXITED);
    mp_segment_discard_unused(&mp_local.segment, &process.file);
    int rc = mp_place_fill(&process.place);
    mp_filter_clear();
    return rc;
}

/* Let a segment that can be used take the place of the one that says that the program's malloc is before us. */
static void step_forward(void) {
    const struct mp_segment *seg = &mp_local.segment;
    if (!behind.on) {
        behind.options = process.options;
        memcpy(behind.state_text, process.state_text, sizeof behind.state_text);
    }
    behind.on = true;
    behind.listed = seg->control != NULL && seg->control->pid == (uint32_t)getpid();
    if (!behind.listed)
        return;
    behind.parent_pid = seg->control->parent_pid;
    if (process.place.base == NULL)
        process.place =
            (struct mp_segment_place){.base = seg->base, .bytes = process.file.mapped_bytes};
    close_segment();
}

/* What it was before step_forward(). Without room for the segment nothing says so. */
static void step_back(void) {
    if (!behind.on)
        return;
    process.options = behind.options;
    process.state = MP_STATE_SHADOWED;
    memcpy(process.state_text, behind.state_text, sizeof behind.state_text);
    if (behind.listed)
        open_segment(behind.parent_pid, false, 0);
    behind.on = false;
}

int mp_startup_late_open(const struct mp_options *options, const char *installed_path, char *text,
                         size_t n) {
    if (!mp_pending_cancel()) {
        snprintf(text, n, "the process begins a capture of its own at this moment");
        return -EAGAIN;
    }
    process.own_pid = 0;
    if (mp_startup_is_behind_program())
        step_forward();
    process.options = *options;
    process.state = MP_STATE_STARTING;
    process.state_text[0] = '\0';
    if (start_unwinder(true, false) != 0) {
        snprintf(text, n, "%s", no_libgcc);
        step_back();
        return -EINVAL;
    }
    learn_captures();
    int rc = mp_place_take(&process.place, (options->max_memory_bytes + 0xffff) & ~0xffffULL);
    if (rc != 0) {
        snprintf(text, n, "no address space for the segment: %s", strerror(-rc));
        step_back();
        return rc;
    }
    prepare_hooks();
    mp_modtab_rename(installed_path[0] != '\0' ? (uintptr_t)__ehdr_start : 0, installed_path);
    rc = open_segment(0, false, 0);
    if (rc != 0) {
        mp_place_fill(&process.place);
        snprintf(text, n, "no segment in %s: %s", process.options.dir, mp_segment_why(rc));
        step_back();
    }
    return rc;
}

void mp_startup_late_ready(void) {
    struct mp_control *c = mp_local.segment.control;
    process.state = MP_STATE_READY;
    mp_store_release(&c->state, (uint32_t)MP_STATE_READY);
    open_way(c);
}

/* HOOK. The exchange pairs with the store that opened the gate: the slot is filled. */
static void shut(struct mp_control *c) {
    mp_store_release(&mp_local.gate_offset, (intptr_t)0);
    int64_t gate = __atomic_exchange_n(&c->gate, MP_GATE_OFF, __ATOMIC_ACQ_REL);
    if (gate != MP_GATE_OFF)
        mp_store_relaxed(&c->capture[(gate >> MP_GATE_SHIFT) & 1].stop_ns,
                         mp_clock_ns(CLOCK_MONOTONIC));
}

void mp_startup_late_shut(void) {
    shut(mp_local.segment.control);
}

void mp_startup_withdraw(void) {
    struct mp_control *c = mp_local.segment.control;
    process.withdrawn = true;
    mp_pending_cancel();
    if (c == NULL)
        return;
    shut(c);
    put(c->state_text, sizeof c->state_text, "the process made itself undumpable");
    mp_store_release(&c->state, (uint32_t)MP_STATE_REFUSED);
}

const char *mp_startup_late_close(void) {
    int rc = close_segment();
    if (behind.on) {
        step_back();
        return NULL;
    }
    return rc == 0 ? mp_place_release(&process.place) : NULL;
}
