/*
 * stack_takeover.c - see stack_takeover.h.
 */
#include "stack_takeover.h"
#include "capture.h"
#include "modtab.h"
#include "stacks.h"
#include "unwind/stack_range.h"

#include <string.h>

#define MEMO_ROWS 1024u
#define STEPS_MAX 65536u /* records read for one chain */

static struct {
    struct mp_segment *to;
    const struct mp_segment *from;
    uint32_t generation; /* of the parent */
    uintptr_t *words;
    struct mp_stack head;
    struct {
        uint32_t from, to;
    } memo[MEMO_ROWS];
} state;

void mp_takeover_begin(struct mp_segment *seg, const struct mp_segment *from) {
    state.to = seg;
    state.from = from;
    memset(state.memo, 0, sizeof state.memo);
    if (!mp_stack_copy((uintptr_t)&from->control->generation, &state.generation,
                       sizeof state.generation))
        state.generation = UINT32_MAX;
}

/* 0: not stored lately. */
static uint32_t known(uint32_t id) {
    return state.memo[id % MEMO_ROWS].from == id ? state.memo[id % MEMO_ROWS].to : 0;
}

/* The parent's record into head and `words`, which have room for so many. */
static bool fetch_into(uint32_t id, uintptr_t *words, uint32_t room_words) {
    uint64_t at = (uint64_t)id * 8, room = mp_array_bytes(state.from, MP_ARRAY_STACKS);
    uintptr_t place = (uintptr_t)mp_array_at(state.from, MP_ARRAY_STACKS) + at;
    if (at + sizeof state.head > room || !mp_stack_copy(place, &state.head, sizeof state.head))
        return false;
    uint64_t bytes = (uint64_t)state.head.depth * 8;
    return state.head.hash != 0 && state.head.depth - 1 < room_words &&
           bytes <= room - at - sizeof state.head &&
           mp_stack_copy(place + sizeof state.head, words, bytes);
}

static bool fetch(uint32_t id) {
    return fetch_into(id, state.words, MP_DEPTH_MAX);
}

static bool fetch_kind(uint32_t id, enum mp_stack_kind kind) {
    return fetch(id) && state.head.kind == kind;
}

/* The parent's native stack, whole, into head and words. */
static bool fetch_native(uint32_t id) {
    uint32_t ids[MP_STACK_RUNS_MAX], depth = 0;
    if (!fetch(id))
        return false;
    if (state.head.kind != MP_STACK_JOINED)
        return state.head.kind == MP_STACK_NATIVE;
    struct mp_stack whole = state.head;
    if (whole.depth > MP_STACK_RUNS_MAX / 2)
        return false;
    memcpy(ids, state.words, (size_t)whole.depth * 8);
    for (uint32_t i = 0; i < 2 * whole.depth && depth < whole.interpreter; i++) {
        if (!fetch_into(ids[i], state.words + depth, MP_DEPTH_MAX - depth) ||
            state.head.kind != MP_STACK_RUN)
            return false;
        depth += state.head.depth;
    }
    state.head = whole;
    state.head.kind = MP_STACK_NATIVE;
    state.head.depth = depth;
    state.head.interpreter = 0;
    return depth == whole.interpreter;
}

/* Store what was read, or what it was made; 0: no room. */
static uint32_t store(uint32_t id) {
    bool is_native = state.head.kind == MP_STACK_NATIVE, is_new;
    uint32_t generation = is_native ? mp_load_acquire(&state.to->control->generation) : 0;
    struct mp_stack_identity record = {.frames = state.words,
                                       .depth = state.head.depth,
                                       .truncated = state.head.truncated,
                                       .kind = state.head.kind,
                                       .generation = generation,
                                       .interpreter = state.head.interpreter};
    uint32_t stored = is_native ? mp_stack_intern_native(state.to, &record, &is_new)
                                : mp_stack_intern(state.to, &record, &is_new);
    if (stored < MP_STACK_LOST_MAX)
        return 0;
    if (is_native && is_new)
        mp_modtab_record(state.to, state.words, state.head.depth, generation);
    state.memo[id % MEMO_ROWS].from = id;
    state.memo[id % MEMO_ROWS].to = stored;
    return stored;
}

static uint32_t native(uint32_t id) {
    uint32_t stored = known(id);
    if (stored != 0)
        return stored;
    if (!fetch_native(id) || state.head.generation != state.generation)
        return 0;
    return store(id);
}

static uint32_t chain(uint32_t id, enum mp_stack_kind kind);

static uint32_t code(uint32_t id) {
    uint32_t stored = known(id), lines = 0;
    struct mp_python_code *record = (struct mp_python_code *)state.words;
    if (stored != 0)
        return stored;
    if (!fetch_kind(id, MP_STACK_PYTHON_CODE) || state.head.depth * 8 < sizeof *record)
        return 0;
    if (record->lines_record != 0)
        lines = chain(record->lines_record, MP_STACK_PYTHON_LINES);
    if (!fetch_kind(id, MP_STACK_PYTHON_CODE))
        return 0;
    if (record->lines_record != 0 && lines == 0)
        record->lines_bytes = 0; /* the names alone */
    record->lines_record = lines;
    return store(id);
}

/* The record of a frame in words: of its function too. */
static bool with_code(uint32_t id) {
    struct mp_python_frame *frame = (struct mp_python_frame *)state.words;
    if (state.head.depth * 8 != sizeof *frame)
        return false;
    uint32_t stored = code(frame->code);
    if (stored == 0 || !fetch_kind(id, MP_STACK_PYTHON_FRAME))
        return false;
    frame->code = stored;
    return true;
}

_Static_assert(offsetof(struct mp_python_frame, caller) == 0 &&
                   offsetof(struct mp_python_label, outer) == 0,
               "the link to the record before is the first word");

/* Frames, labels and pieces of lines hang on the one before: stored from the outermost on, without recursion. */
static uint32_t chain(uint32_t id, enum mp_stack_kind kind) {
    uint32_t *link = (uint32_t *)state.words, last = 0, last_is = 0, stored = known(id);
    for (uint32_t steps = 0; stored == 0;) {
        uint32_t at = id;
        while (true) {
            if (steps++ == STEPS_MAX || !fetch_kind(at, kind))
                return 0;
            if (*link == 0 || *link == last || known(*link) != 0)
                break;
            at = *link;
        }
        if (kind == MP_STACK_PYTHON_FRAME && !with_code(at))
            return 0;
        *link = *link == 0 ? 0 : *link == last ? last_is : known(*link);
        last = at;
        last_is = store(at);
        if (last_is == 0)
            return 0;
        if (at == id)
            stored = last_is;
    }
    return stored;
}

static uint32_t pair(uint32_t id) {
    uint32_t python = state.head.interpreter, below = (uint32_t)state.words[0];
    uint32_t label = state.head.depth > 1 ? (uint32_t)state.words[1] : 0;
    uint32_t of_native = native(below), of_python = chain(python, MP_STACK_PYTHON_FRAME);
    uint32_t of_label = label != 0 ? chain(label, MP_STACK_PYTHON_LABEL) : 0;
    if (of_native == 0 || of_python == 0) {
        mp_capture_lose(state.to->control->device_lost, MP_LOST_PYTHON);
        return of_native;
    }
    state.words[0] = of_native;
    state.words[1] = of_label;
    state.head = (struct mp_stack){
        .depth = of_label != 0 ? 2 : 1, .kind = MP_STACK_PAIR, .interpreter = of_python};
    return store(id);
}

uint32_t mp_takeover(uint32_t id, struct mp_scratch *scratch) {
    if (id < MP_STACK_LOST_MAX)
        return id;
    uint32_t stored = known(id);
    state.words = scratch->frames;
    if (stored == 0 && fetch(id))
        stored = state.head.kind == MP_STACK_PAIR ? pair(id) : native(id);
    return stored != 0 ? stored : MP_STACK_LOST_EMPTY;
}
