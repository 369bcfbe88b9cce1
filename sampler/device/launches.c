/*
 * launches.c - see launches.h.
 */
#include "launches.h"
#include "core/capture.h"
#include "core/events.h"
#include "core/site_key.h"
#include "core/stacks.h"
#include "core/threads.h"

#include <errno.h>
#include <string.h>

#define ANY (MP_LAUNCH_OPERATORS | MP_LAUNCH_KERNELS | MP_LAUNCH_ACCESSES)

_Static_assert(MP_LAUNCH_KIND_SHIFT == MP_KEY_STACK_BITS, "a detail is an id of the arena");
_Static_assert(MP_LAUNCH_NO_DEVICE < 1 << MP_KEY_DOMAIN_BITS, "a device fits a domain's bits");
_Static_assert(1 + MP_LAUNCH_TEXT_BYTES / 8 <= MP_DEPTH_MAX, "a text fits a scratch buffer");

static bool begin(struct mp_capture_view *capture, unsigned wants) {
    return mp_capture_view(capture) && mp_events_on(capture->segment, capture->number) &&
           (mp_load_relaxed(&capture->segment->control->events.launches) & wants) != 0;
}

uint32_t mp_launch_capture(unsigned wants) {
    struct mp_capture_view capture;
    return begin(&capture, wants) ? capture.number : 0;
}

bool mp_launch_wanted(unsigned wants) {
    return mp_launch_capture(wants) != 0;
}

uint32_t mp_launch_epoch(void) {
    return mp_load_relaxed(&mp_local.epoch);
}

static void lose(struct mp_segment *seg) {
    mp_capture_lose(seg->control->lost, MP_LOST_LAUNCH);
}

void mp_launch_lose(void) {
    struct mp_capture_view capture;
    if (begin(&capture, ANY))
        lose(capture.segment);
}

static uint32_t intern(struct mp_segment *seg, const uintptr_t *words, uint32_t count,
                       enum mp_stack_kind kind) {
    struct mp_stack_identity record = {.frames = words, .depth = count, .kind = (uint16_t)kind};
    bool is_new;
    uint32_t id = mp_stack_intern(seg, &record, &is_new);
    return id >= MP_STACK_LOST_MAX ? id : 0;
}

/* The text as words in the buffer; how many. */
static uint32_t put_text(uintptr_t *words, const char *text, size_t bytes) {
    uint32_t count = 1 + (uint32_t)((bytes + 7) / 8);
    words[0] = bytes;
    words[count - 1] = 0;
    memcpy(words + 1, text, bytes);
    return count;
}

uint32_t mp_launch_text(const char *text, size_t bytes) {
    struct mp_capture_view capture;
    struct mp_guard guard;
    if (text == NULL || bytes == 0 || !begin(&capture, ANY))
        return 0;
    int saved_errno = errno;
    uint32_t id = 0;
    bytes = bytes < MP_LAUNCH_TEXT_BYTES ? bytes : MP_LAUNCH_TEXT_BYTES;
    if (mp_guard_enter(&guard)) {
        struct mp_scratch *scratch = mp_scratch_take(&guard);
        if (scratch != NULL) {
            uint32_t count = put_text(scratch->frames, text, bytes);
            id = intern(capture.segment, scratch->frames, count, MP_STACK_TEXT);
            mp_scratch_give_back(scratch);
        }
        mp_guard_leave(&guard);
    }
    if (id == 0)
        lose(capture.segment);
    errno = saved_errno;
    return id;
}

uint32_t mp_launch_tensor(int type, int format, const int64_t *dimensions, uint64_t count) {
    struct mp_capture_view capture;
    struct mp_guard guard;
    uintptr_t words[1 + MP_LAUNCH_DIMENSIONS];
    if (!begin(&capture, ANY))
        return 0;
    int saved_errno = errno;
    uint32_t id = 0;
    if (count <= MP_LAUNCH_DIMENSIONS && mp_guard_enter(&guard)) {
        words[0] = (uint64_t)(uint32_t)format << 32 | (uint32_t)type;
        for (uint64_t i = 0; i < count; i++)
            words[1 + i] = (uint64_t)dimensions[i];
        id = intern(capture.segment, words, 1 + (uint32_t)count, MP_STACK_TENSOR);
        mp_guard_leave(&guard);
    }
    if (id == 0)
        lose(capture.segment);
    errno = saved_errno;
    return id;
}

void mp_launch_write(struct mp_segment *seg, uint32_t capture, const struct mp_launch *launch) {
    unsigned wants = launch->kind >= MP_LAUNCH_BLOCK ? MP_LAUNCH_FACTS : ANY;
    if ((mp_events_launches(seg->control, capture) & wants) == 0)
        return;
    uint32_t device = launch->device >= 0 && launch->device < MP_LAUNCH_NO_DEVICE
                          ? (uint32_t)launch->device
                          : MP_LAUNCH_NO_DEVICE;
    uint32_t birth = launch->detail | (uint32_t)launch->kind << MP_LAUNCH_KIND_SHIFT;
    struct mp_event_of event = {
        .kind = MP_EVENT_LAUNCH,
        .thread = mp_thread_row(seg),
        .address = launch->address,
        .size_bytes = launch->size_bytes,
        .site_key = mp_site_key(launch->name, 0, device, 0, capture),
        .birth_ns = (uint64_t)birth << MP_LIVE_BIRTH_SHIFT,
    };
    mp_event_write(seg, &event);
}

void mp_launch_add(const struct mp_launch *launch) {
    struct mp_capture_view capture;
    struct mp_guard guard;
    if (!begin(&capture, ANY | MP_LAUNCH_FACTS))
        return;
    int saved_errno = errno;
    if (mp_guard_enter(&guard)) {
        mp_launch_write(capture.segment, capture.number, launch);
        mp_guard_leave(&guard);
    } else {
        mp_event_lose(capture.segment);
    }
    errno = saved_errno;
}
