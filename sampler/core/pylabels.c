/*
 * pylabels.c - see pylabels.h.
 */
#include "pylabels.h"
#include "capture.h"
#include "local.h"
#include "python/text.h"
#include "stacks.h"
#include "threads.h"

#include <string.h>

#define PROBES 32 /* rows of the set in which a name may be */

/* Moves with the capture, the segment and the interpreters. Not 0. */
static uint64_t stamp_now(const struct mp_segment *seg) {
    uint32_t epoch = mp_load_relaxed(&mp_local.epoch) + (mp_load_relaxed(&mp_py_beginnings) << 12);
    return (uint64_t)epoch << 32 | mp_load_relaxed(&seg->control->capture_number) | 1ULL << 63;
}

static void forget_names(struct mp_pylabel_names *names, uint64_t stamp) {
    uint64_t before = mp_load_relaxed(&names->stamp);
    if (before == stamp || !mp_cas_u64(&names->stamp, before, stamp))
        return;
    mp_store_relaxed(&names->count, 0u);
    for (unsigned i = 0; i < MP_PY_LABEL_NAMES; i++)
        mp_store_relaxed(&names->name[i], 0);
}

/* May the capture have this name, as one of those that it has, or one more? */
static bool admit(uint64_t stamp, unsigned kind, uint64_t name) {
    struct mp_pylabel_names *names = &mp_local.pylabels[kind - 1];
    forget_names(names, stamp);
    for (unsigned i = 0; i < PROBES; i++) {
        uint64_t *row = &names->name[(name + i) % MP_PY_LABEL_NAMES];
        uint64_t found = mp_load_relaxed(row);
        if (found == name)
            return true;
        if (found != 0)
            continue;
        if (mp_load_relaxed(&names->count) >= MP_PYTHON_LABELS)
            return false;
        if (mp_cas_u64(row, 0, name)) {
            mp_add_relaxed(&names->count, 1);
            return true;
        }
        if (mp_load_relaxed(row) == name)
            return true;
    }
    return false;
}

static uint64_t hash_of(const uintptr_t *words, unsigned count) {
    uint64_t hash = count;
    for (unsigned i = 0; i < count; i++)
        hash = mp_mix(hash ^ words[i]);
    return hash | 1;
}

/* The record of a label that no thread remembers. */
static __attribute__((noinline)) struct mp_pylabel
make(struct mp_segment *seg, uint64_t stamp, const struct mp_py_runtime *r, uintptr_t name,
     struct mp_python_label label, uintptr_t *words) {
    struct mp_pylabel made = {0};
    unsigned char *text = (unsigned char *)(words + 1);
    memset(words, 0, MP_PY_LABEL_WORDS * sizeof *words);
    label.bytes = mp_py_text_copy(r, name, text, MP_PYTHON_LABEL_BYTES);
    label.bytes = mp_py_name_proper((enum mp_py_role)label.kind, (char *)text, label.bytes);
    memset(text + label.bytes, 0, MP_PYTHON_LABEL_BYTES - label.bytes);
    if (label.bytes == 0)
        return made;
    memcpy(words, &label, sizeof label);
    unsigned count = 1 + (label.bytes + 7u) / 8;
    if (!admit(stamp, label.kind, hash_of(words, count))) {
        made.is_other = 1;
        label.bytes = 0;
        memcpy(words, &label, sizeof label);
        count = 1;
    }
    struct mp_stack_identity record = {
        .frames = words, .depth = count, .kind = MP_STACK_PYTHON_LABEL};
    bool is_new;
    uint32_t id = mp_stack_intern(seg, &record, &is_new);
    made.record = id >= MP_STACK_LOST_MAX ? id : 0;
    return made;
}

/* Id of the label of this name in the label `outer`; `outer` where the name makes none. */
static uint32_t named(struct mp_segment *seg, struct mp_pylabels *labels,
                      const struct mp_py_runtime *r, uintptr_t name, enum mp_label_kind kind,
                      uint32_t outer, uintptr_t *words, uint64_t *lost) {
    uint64_t text = mp_py_text_key(r, name, MP_PYTHON_LABEL_BYTES);
    if (text == 0)
        return outer;
    uint64_t key = mp_mix(text ^ ((uint64_t)outer << 8 | (unsigned)kind)) | 1;
    struct mp_pylabel *row = &labels->known[key >> 32 & (MP_PY_LABEL_ROWS - 1)];
    if (mp_unlikely(row->key != key)) {
        struct mp_python_label label = {.outer = outer, .kind = (uint16_t)kind};
        row->key = 0; /* if this frame never comes back */
        *row = make(seg, labels->stamp, r, name, label, words);
        row->key = key;
    }
    if (mp_unlikely(row->is_other))
        mp_capture_lose(lost, MP_LOST_LABEL);
    return row->record != 0 ? row->record : outer;
}

/* What belongs to another capture or thread is forgotten. Returns 1 + row of the thread. */
static void begin(struct mp_segment *seg, struct mp_pylabels *labels) {
    uint64_t stamp = stamp_now(seg);
    uint32_t row = mp_thread_row(seg) + 1;
    if (mp_unlikely(labels->stamp != stamp)) {
        labels->stamp = stamp;
        labels->thread = 0;
        memset(&labels->seen, 0, sizeof labels->seen);
        memset(labels->known, 0, sizeof labels->known);
    }
    if (mp_unlikely(labels->row != row)) {
        labels->row = row;
        labels->thread = 0;
    }
    if (row == 1) /* shared by all threads without a row */
        labels->thread = 0;
}

uint32_t mp_pylabel_of(struct mp_segment *seg, struct mp_pylabels *labels,
                       const struct mp_py_runtime *r, uintptr_t state,
                       const struct mp_py_owners *owners, uintptr_t *words, uint64_t *lost) {
    if (mp_likely(owners->thread == 0 && owners->task == 0 && owners->whole))
        return 0;
    begin(seg, labels);
    bool has_gil = mp_py_holds_gil(r, state);
    if (owners->thread == 0 && owners->whole)
        labels->thread = 0;
    if (owners->thread != 0 && has_gil) {
        uintptr_t name = mp_py_owner_name(r, &labels->seen, MP_PY_ROLE_THREAD, owners->thread);
        labels->thread = named(seg, labels, r, name, MP_LABEL_THREAD, 0, words, lost);
    }
    uint32_t label = labels->thread;
    if (owners->task != 0 && has_gil) {
        uintptr_t name = mp_py_owner_name(r, &labels->seen, MP_PY_ROLE_TASK, owners->task);
        label = named(seg, labels, r, name, MP_LABEL_TASK, label, words, lost);
    }
    return label;
}
