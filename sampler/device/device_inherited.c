/*
 * device_inherited.c - see device_inherited.h.
 */
#include "device_inherited.h"
#include "core/record.h"
#include "core/site_key.h"
#include "core/stack_takeover.h"
#include "core/threads.h"
#include "device_domains.h"
#include "device_live.h"
#include "device_ranges.h"
#include "device_rows.h"

#include <errno.h>

static struct {
    uint32_t taking; /* the thread that forks; another one that forks now takes its rows */
    uint32_t count, lost;
    struct mp_segment from;
    struct {
        uint64_t address, bytes;
        uint32_t stack, kind;
    } row[MP_INHERITED_ROWS];
} inherited;

static void take(struct mp_segment *seg) {
    struct mp_device_live_row row;
    uint64_t cursor = 0;
    while (mp_device_live_next(seg, MP_SPACE_HOST, &cursor, &row)) {
        const struct mp_domain *domain = mp_domain_at(seg, mp_key_domain(row.site_key));
        uint32_t at = inherited.count;
        if (domain == NULL || mp_device_row_site(seg, &row) == NULL)
            continue;
        if (at == MP_INHERITED_ROWS) {
            inherited.lost++;
            continue;
        }
        inherited.row[at].address = row.address;
        inherited.row[at].bytes = row.asked_bytes;
        inherited.row[at].stack = mp_key_stack(row.site_key);
        inherited.row[at].kind = domain->kind;
        inherited.count = at + 1;
    }
}

void mp_inherited_take(void) {
    struct mp_segment *seg = mp_range_is_any() ? mp_capture_segment() : NULL;
    if (!mp_cas_u32(&inherited.taking, 0, 1))
        return;
    inherited.count = inherited.lost = 0;
    if (seg != NULL && mp_gate() != MP_GATE_OFF) {
        inherited.from = *seg;
        take(seg);
    }
}

void mp_inherited_taken(void) {
    mp_store_release(&inherited.taking, 0u);
}

bool mp_inherited_begin(bool captures) {
    inherited.taking = 0;
    if (!captures)
        inherited.count = inherited.lost = 0;
    return mp_inherited_wait();
}

bool mp_inherited_wait(void) {
    return inherited.count + inherited.lost != 0;
}

static __attribute__((noinline)) void store(const struct mp_capture_view *capture, uint32_t i,
                                            struct mp_scratch *scratch) {
    uint32_t number = mp_domain_intern("mmap", -1, (enum mp_memory_kind)inherited.row[i].kind);
    struct mp_domain *domain = mp_domain_at(capture->segment, number);
    struct mp_device_live_row row = {.address = inherited.row[i].address,
                                     .asked_bytes = inherited.row[i].bytes,
                                     .birth_ns = mp_load_relaxed(&capture->slot->start_ns),
                                     .space = MP_SPACE_HOST,
                                     .thread = mp_thread_row(capture->segment)};
    if (domain == NULL)
        return;
    mp_store_relaxed(&domain->last_capture, capture->number);
    mp_device_row_born(capture, &row, number, mp_takeover(inherited.row[i].stack, scratch));
}

MP_REALIGN void mp_inherited_store(void) {
    struct mp_capture_view capture;
    struct mp_guard guard;
    int saved_errno = errno;
    if (!mp_inherited_wait() || !mp_capture_view(&capture) || !mp_guard_enter(&guard))
        return;
    struct mp_scratch *scratch = mp_scratch_take(&guard);
    if (scratch != NULL && inherited.count != 0) {
        mp_takeover_begin(capture.segment, &inherited.from);
        for (uint32_t i = 0; i < inherited.count; i++)
            store(&capture, i, scratch);
        mp_scratch_give_back(scratch);
    } else {
        inherited.lost += inherited.count;
    }
    mp_add_relaxed(&capture.segment->control->device_lost[MP_LOST_LIVE_FULL], inherited.lost);
    inherited.count = inherited.lost = 0;
    mp_guard_leave(&guard);
    errno = saved_errno;
}
