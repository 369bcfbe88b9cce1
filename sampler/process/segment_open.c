/*
 * segment_open.c - the process's segment, from its options to the open gate. See lifecycle.h.
 */
#include "abi/clock.h"
#include "core/capture.h"
#include "core/events.h"
#include "core/modtab.h"
#include "drivers/libraries.h"
#include "hooks/hooks.h"
#include "hooks/inline_patch.h"
#include "hooks/redirect.h"
#include "lifecycle.h"
#include "pymem/pymem.h"
#include "python/runtime.h"
#include "text.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

struct mp_process mp_process;

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
    c->device_rate_bytes[1] = mp_process.options.device_rate_bytes;
    c->peak[1] = (struct mp_peak){.capture = 1};
    slot->start_ns = mp_clock_ns(CLOCK_MONOTONIC);
    slot->start_realtime_ns = mp_clock_ns(CLOCK_REALTIME);
    if (mp_process.own_pid != 0) {
        slot->start_realtime_ns -= slot->start_ns - mp_process.forked_ns;
        slot->start_ns = mp_process.forked_ns;
    }
    slot->deadline_ns = UINT64_MAX;
    slot->birth_unit_ns = MP_BIRTH_UNIT_NS;
    const struct mp_options *o = &mp_process.options;
    if (o->events_bytes != 0 && mp_events_begin(seg, fd, 1, o->events_bytes, o->launches) != 0)
        c->startup_flags |= MP_STARTUP_NO_EVENTS;
    mp_store_release(&c->capture_number,
                     1u); /* both pair with the controller's loads: the slot is filled */
    mp_store_release(&c->gate, (int64_t)1 << MP_GATE_SHIFT);
    return 0;
}

void mp_process_put(char *to, size_t n, const char *text) {
    struct mp_text t = {.buffer = to, .size = n};
    mp_put(&t, text);
}

static void read_allocator(struct mp_control *c) {
    struct mp_module m;
    bool known = mp_module_find((uintptr_t)mp_real.malloc, &m) && m.name != NULL;
    if (mp_redirect_report.in_program || (known && *m.name == '\0'))
        mp_process_put(c->allocator, sizeof c->allocator, mp_process.exe);
    else if (known)
        mp_process_put(c->allocator, sizeof c->allocator, m.name);
}

void mp_process_open_way(const struct mp_control *c) {
    mp_store_release(&mp_local.gate_offset, (const char *)&c->gate - (const char *)&mp_gate_off);
}

void mp_process_tell_entries(struct mp_control *c) {
    if (c == NULL)
        return;
    c->startup_flags &= ~(uint32_t)MP_STARTUP_ENTRIES;
    c->startup_flags |= mp_entry_of_program() ? MP_STARTUP_ENTRIES : 0;
    mp_entry_libraries(c->led_libraries, MP_LED_LIBRARIES);
}

int mp_process_open(uint32_t parent_pid, bool capture, uint64_t rate_bytes) {
    struct mp_segment *seg = &mp_local.segment; /* too large for the stack of a small thread */
    capture = capture && mp_process.state == MP_STATE_READY;
    int rc = mp_segment_create(&mp_process.options, mp_process.exe, seg, &mp_process.file,
                               &mp_process.place, capture);
    if (rc != 0)
        return rc;
    mp_store_relaxed(&mp_local.epoch, ++mp_process.epoch);
    struct mp_control *c = seg->control;
    bool attached = mp_process.place.base != NULL && mp_process.state != MP_STATE_SHADOWED;
    c->startup_flags |= (attached ? MP_STARTUP_ATTACHED : 0) |
                        (mp_process.late && mp_process.options.start ? MP_STARTUP_LATE : 0) |
                        (mp_process.file.other_folder ? MP_STARTUP_OTHER_FOLDER : 0);
    mp_process_tell_entries(c);
    c->capture_number = c->written_capture = mp_process.captures;
    c->parent_pid = parent_pid;
    if (mp_process.own_pid == c->pid)
        c->at_start = mp_process.at_start;
    c->pymem_ns = mp_pymem_since_ns();
    mp_process_put(c->unwinder, sizeof c->unwinder, mp_unwind_name());
    mp_process_put(c->state_text, sizeof c->state_text, mp_process.state_text);
    read_allocator(c);
    mp_local.seed = mp_options_seed(&mp_process.options);
    mp_store_release(
        &c->state,
        (uint32_t)mp_process.state); /* the controller reads all above once it has this */
    if (capture)
        rc = start_capture(seg, mp_process.file.fd, rate_bytes);
    close(mp_process.file.fd);
    mp_device_announce();
    if (mp_process.state == MP_STATE_READY)
        mp_process_open_way(c);
    return rc;
}

/* HOOK. May the unwinder ask the kernel whether a page is mapped? */
static bool may_probe(void) {
    const struct mp_control *c = mp_local.segment.control;
    return c != NULL && !(mp_load_relaxed(&c->controller_flags) & MP_FLAG_SECCOMP);
}

int mp_process_start_unwinder(bool attached, bool early) {
    struct mp_unwind_config config = {.mode = MP_UNWIND_FP,
                                      .attached = attached,
                                      .early = early,
                                      .iterate = mp_elf_iterate,
                                      .note_module = mp_modtab_watch,
                                      .find_symbol = mp_elf_find,
                                      .may_probe = may_probe};
    if (strcmp(mp_process.options.unwind, "cfi") == 0)
        config.mode = MP_UNWIND_CFI;
    if (strcmp(mp_process.options.unwind, "libgcc") == 0)
        config.mode = MP_UNWIND_LIBGCC;
    mp_py_init((mp_py_getspecific *)mp_elf_find("pthread_getspecific"));
    return mp_unwind_init(&config);
}

const char mp_process_no_libgcc[] =
    "MEM_PROFILER_UNWIND=libgcc needs a program that has libgcc_s loaded";

void mp_process_wipe_on_fork(void) {
    if (madvise(&mp_local, sizeof mp_local, MADV_WIPEONFORK) != 0)
        mp_local.pid_if_unwiped = (uint32_t)getpid();
}

/* HOOK. The exchange pairs with the store that opened the gate: the slot is filled. */
void mp_process_shut(struct mp_control *c) {
    mp_store_release(&mp_local.gate_offset, (intptr_t)0);
    int64_t gate = __atomic_exchange_n(&c->gate, MP_GATE_OFF, __ATOMIC_ACQ_REL);
    if (gate != MP_GATE_OFF)
        mp_store_relaxed(&c->capture[(gate >> MP_GATE_SHIFT) & 1].stop_ns,
                         mp_clock_ns(CLOCK_MONOTONIC));
}
