/*
 * late.c - a segment by an attach, and its end. See startup.h.
 */
#include "core/local.h"
#include "core/modtab.h"
#include "core/threads.h"
#include "hooks/hooks.h"
#include "hooks/redirect.h"
#include "lifecycle.h"
#include "startup.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

extern const char __ehdr_start[] __attribute__((visibility("hidden")));

/* State of the preloaded sampler behind the program's own malloc, saved while it is attached. */
static struct {
    bool on;
    bool listed; /* a segment says so */
    uint32_t parent_pid;
    struct mp_options options;
    char state_text[sizeof mp_process.state_text];
} behind;

bool mp_startup_by_constructor(void) {
    return mp_process.started;
}

bool mp_startup_is_orphan(void) {
    return mp_process.started && mp_process.state == MP_STATE_READY &&
           mp_local.segment.control == NULL;
}

bool mp_startup_is_behind_program(void) {
    return mp_process.started && !mp_process.withdrawn &&
           (behind.on || (mp_process.state == MP_STATE_SHADOWED && mp_redirect_report.in_program));
}

/* Also the captures of a parent that was attached when it forked: threads kept their countdowns. */
static void learn_captures(void) {
    if (mp_process.place.base == NULL)
        return;
    uint32_t n = mp_load_relaxed(&((struct mp_control *)mp_process.place.base)->capture_number);
    n = n < MP_CAPTURE_MAX ? n : MP_CAPTURE_MAX;
    mp_process.captures = n > mp_process.captures ? n : mp_process.captures;
}

static void prepare_hooks(void) {
    static bool done;
    mp_process_wipe_on_fork();
    if (!done) {
        mp_read_exe(mp_process.exe, sizeof mp_process.exe);
        mp_hooks_name_frames();
        mp_threads_init();
        done = true;
    }
    mp_filter_clear();
    mp_modtab_forget();
    mp_unwind_flush();
    mp_store_relaxed(&mp_local.counts_inside, true);
}

/* The segment's file goes unless it holds a capture; its place stays for threads that may write there. 0 or
 * -errno: nothing is mapped there. */
static int close_segment(void) {
    learn_captures();
    mp_store_release(&mp_local.segment.control->state, (uint32_t)MP_STATE_EXITED);
    mp_segment_discard_unused(&mp_local.segment, &mp_process.file);
    int rc = mp_place_fill(&mp_process.place);
    mp_filter_clear();
    return rc;
}

/* Let a segment that can be used take the place of the one that says that the program's malloc is before us. */
static void step_forward(void) {
    const struct mp_segment *seg = &mp_local.segment;
    if (!behind.on) {
        behind.options = mp_process.options;
        memcpy(behind.state_text, mp_process.state_text, sizeof behind.state_text);
    }
    behind.on = true;
    behind.listed = seg->control != NULL && seg->control->pid == (uint32_t)getpid();
    if (!behind.listed)
        return;
    behind.parent_pid = seg->control->parent_pid;
    if (mp_process.place.base == NULL)
        mp_process.place =
            (struct mp_segment_place){.base = seg->base, .bytes = mp_process.file.mapped_bytes};
    close_segment();
}

/* Restore the state before step_forward(). If there is no room for the segment, nothing reports
 * it. */
static void step_back(void) {
    if (!behind.on)
        return;
    mp_process.options = behind.options;
    mp_process.state = MP_STATE_SHADOWED;
    memcpy(mp_process.state_text, behind.state_text, sizeof behind.state_text);
    if (behind.listed)
        mp_process_open(behind.parent_pid, false, 0);
    behind.on = false;
}

int mp_startup_late_open(const struct mp_options *options, const char *installed_path, char *text,
                         size_t n) {
    if (!mp_pending_cancel()) {
        snprintf(text, n, "the process begins a capture of its own at this moment");
        return -EAGAIN;
    }
    mp_process.own_pid = 0;
    if (mp_startup_is_behind_program())
        step_forward();
    mp_process.options = *options;
    mp_process.state = MP_STATE_STARTING;
    mp_process.state_text[0] = '\0';
    if (mp_process_start_unwinder(true, false) != 0) {
        snprintf(text, n, "%s", mp_process_no_libgcc);
        step_back();
        return -EINVAL;
    }
    learn_captures();
    uint64_t space = mp_space_share_bytes(options), most = options->max_memory_bytes;
    int rc =
        mp_place_take(&mp_process.place, ((space < most ? space : most) + 0xffff) & ~0xffffULL);
    if (rc != 0) {
        snprintf(text, n, "no address space for the segment: %s", strerror(-rc));
        step_back();
        return rc;
    }
    prepare_hooks();
    mp_modtab_rename(installed_path[0] != '\0' ? (uintptr_t)__ehdr_start : 0, installed_path);
    rc = mp_process_open(0, false, 0);
    if (rc != 0) {
        mp_place_fill(&mp_process.place);
        snprintf(text, n, "no segment in %s: %s", mp_process.options.dir, mp_segment_why(rc));
        step_back();
    }
    return rc;
}

void mp_startup_late_ready(void) {
    struct mp_control *c = mp_local.segment.control;
    mp_process.state = MP_STATE_READY;
    mp_store_release(&c->state, (uint32_t)MP_STATE_READY);
    mp_process_open_way(c);
}

void mp_startup_late_shut(void) {
    mp_process_shut(mp_local.segment.control);
}

const char *mp_startup_late_close(void) {
    int rc = close_segment();
    if (behind.on) {
        step_back();
        return NULL;
    }
    return rc == 0 ? mp_place_release(&mp_process.place) : NULL;
}
