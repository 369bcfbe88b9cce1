/*
 * device_marks.c - marks of the program: a ring that keeps the latest ones. See device.h.
 *
 * Model: mark n is in row n % rows. A writer takes the next number, sets the row's `sequence` to 0, fills the
 * row and stores n + 1 there (release; pairs with the reader's first load of it). A reader believes a row whose
 * sequence is the same before and after its copy.
 */
#include "abi/clock.h"
#include "core/capture.h"
#include "core/events.h"
#include "core/threads.h"
#include "device.h"

#include <errno.h>
#include <string.h>

static uint32_t steps; /* a range has begun one */

static bool ring_ready(struct mp_segment *seg) {
    uint64_t bytes = mp_array_bytes(seg, MP_ARRAY_MARKS);
    if (mp_likely(mp_array_reserved(seg, MP_ARRAY_MARKS) == bytes))
        return bytes > 0;
    if (mp_reserve(seg, seg->layout.array[MP_ARRAY_MARKS].offset, bytes) != 0)
        return false;
    /* pairs with the acquire load of mp_array_reserved(): pages exist */
    mp_store_release(&seg->control->directory[MP_ARRAY_MARKS].reserved_bytes, bytes);
    return true;
}

static void put_text(char *to, unsigned size, const char *from) {
    unsigned i = 0;
    for (; from != NULL && i + 1 < size && from[i] != '\0'; i++)
        mp_store_relaxed(&to[i], from[i]);
    for (; i < size; i++)
        mp_store_relaxed(&to[i], '\0');
}

static void write_row(struct mp_mark *row, uint64_t number, const struct mp_mark *head,
                      const char *domain, const char *text) {
    mp_store_relaxed(&row->sequence, 0ULL);
    mp_fence_release(); /* nobody sees a word of the new mark under the old number */
    mp_store_relaxed(&row->time_ns, head->time_ns);
    mp_store_relaxed(&row->id, head->id);
    mp_store_relaxed(&row->thread, head->thread);
    mp_store_relaxed(&row->kind, head->kind);
    put_text(row->domain, sizeof row->domain, domain);
    put_text(row->text, sizeof row->text, text);
    mp_store_release(&row->sequence, number + 1);
}

/* The mark's place among the events. */
static void write_event(struct mp_segment *seg, uint64_t number) {
    struct mp_event_of event = {
        .kind = MP_EVENT_MARK, .thread = mp_thread_row(seg), .address = number};
    struct mp_guard guard;
    if (mp_guard_enter(&guard)) {
        mp_event_write(seg, &event);
        mp_guard_leave(&guard);
    } else {
        mp_event_lose(seg);
    }
}

bool mp_mark_steps(void) {
    return mp_load_relaxed(&steps) != 0;
}

void mp_mark_after_fork(void) {
    mp_store_relaxed(&steps, 0u);
}

void mp_mark_add(enum mp_mark_kind kind, uint64_t id, const char *domain, const char *text) {
    struct mp_capture_view capture;
    if (!mp_capture_view(&capture))
        return;
    struct mp_segment *seg = capture.segment;
    int saved_errno = errno;
    if (kind == MP_MARK_BEGIN && text != NULL && strcmp(text, MP_STEP_MESSAGE) == 0)
        mp_store_relaxed(&steps, 1u);
    /* A finer clock than the capture's: marks are close together. */
    struct mp_mark head = {.time_ns = mp_clock_ns(CLOCK_MONOTONIC),
                           .id = id,
                           .thread = mp_thread_row(seg),
                           .kind = kind};
    uint64_t number = mp_add_relaxed(&seg->control->mark_count, 1);
    if (ring_ready(seg)) {
        struct mp_mark *rows = mp_array_at(seg, MP_ARRAY_MARKS);
        uint64_t row = number & (mp_array_rows(seg, MP_ARRAY_MARKS) - 1);
        write_row(rows + row, number, &head, domain, text);
    }
    if (mp_events_on(seg, capture.number))
        write_event(seg, number);
    errno = saved_errno;
}
