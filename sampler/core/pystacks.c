/*
 * pystacks.c - see pystacks.h.
 */
#include "pystacks.h"
#include "capture.h"
#include "local.h"
#include "python/code.h"
#include "stacks.h"
#include "unwind/unwind_arch.h"

#include <string.h>

/* Of the segment, and of the interpreters: what moves it makes all that is kept here worthless. */
static uint32_t epoch_now(void) {
    return mp_load_relaxed(&mp_local.epoch) + (mp_load_relaxed(&mp_py_beginnings) << 12);
}

#define PIECE_WORDS (MP_DEPTH_MAX - 1) /* of a table of lines in one record, behind the link */

/* Id of a record, stored if it is new; 0: there is no room. */
static uint32_t store(struct mp_segment *seg, enum mp_stack_kind kind, const uintptr_t *words,
                      uint32_t count, uint32_t interpreter) {
    struct mp_stack_identity record = {
        .frames = words, .depth = count, .kind = (uint16_t)kind, .interpreter = interpreter};
    bool is_new;
    uint32_t id = mp_stack_intern(seg, &record, &is_new);
    return id >= MP_STACK_LOST_MAX ? id : 0;
}

/* Store a table of lines piece by piece, through the buffer `words`; the id of the last piece, 0: no room. */
static uint32_t store_lines(struct mp_segment *seg, const struct mp_py_lines *lines,
                            uintptr_t *words) {
    uint32_t piece = 0;
    for (size_t at = 0; at < lines->bytes; at += PIECE_WORDS * 8) {
        size_t bytes = lines->bytes - at < PIECE_WORDS * 8 ? lines->bytes - at : PIECE_WORDS * 8;
        uint32_t count = (uint32_t)((bytes + 7) / 8);
        words[0] = piece;
        words[count] = 0;
        memcpy(words + 1, lines->data + at, bytes);
        piece = store(seg, MP_STACK_PYTHON_LINES, words, 1 + count, 0);
        if (piece == 0)
            return 0;
    }
    return piece;
}

/* `words` has room for MP_DEPTH_MAX. */
static __attribute__((noinline)) uint32_t store_code(struct mp_segment *seg,
                                                     const struct mp_py_runtime *r, uintptr_t code,
                                                     uintptr_t *words) {
    struct mp_py_lines lines = mp_py_code_lines(r, code);
    uint32_t pieces = 0, line_words = (uint32_t)((lines.bytes + 7) / 8);
    if (line_words > MP_DEPTH_MAX - MP_PY_CODE_WORDS) {
        pieces = store_lines(seg, &lines, words);
        if (pieces == 0)
            lines.bytes = 0; /* no room for them: the names alone */
        line_words = 0;
    }
    uint32_t count = mp_py_code_record(r, code, words);
    struct mp_python_code *record = (struct mp_python_code *)words;
    record->lines_bytes = (uint32_t)lines.bytes;
    record->lines_record = pieces;
    if (line_words > 0) {
        words[count + line_words - 1] = 0;
        memcpy(words + count, lines.data, lines.bytes);
    }
    return store(seg, MP_STACK_PYTHON_CODE, words, count + line_words, 0);
}

static struct mp_pycode *code_entry(uintptr_t code) {
    return &mp_local.pystacks.code[(code * 0x9e3779b97f4a7c15ULL >> 40) % MP_PY_CODES];
}

/* Id of the function of a row as it is known; 0: it is not. */
static uint32_t known_code(const struct mp_py_row *row) {
    const struct mp_pycode *e = code_entry(row->code);
    uint32_t version = mp_load_acquire(&e->version), record = mp_load_relaxed(&e->record);
    bool same = mp_load_relaxed(&e->code) == row->code && mp_load_relaxed(&e->epoch) == epoch_now();
    for (unsigned i = 0; i < MP_PY_ID_WORDS; i++)
        same &= mp_load_relaxed(&e->id[i]) == row->id[i];
    mp_fence_acquire();
    return same && (version & 1) == 0 && mp_load_relaxed(&e->version) == version ? record : 0;
}

static void learn_code(const struct mp_py_row *row, uint32_t record) {
    struct mp_pycode *e = code_entry(row->code);
    uint32_t version = mp_load_relaxed(&e->version);
    if ((version & 1) || !mp_cas_u32(&e->version, version, version + 1))
        return;
    mp_fence_release();
    mp_store_relaxed(&e->code, row->code);
    for (unsigned i = 0; i < MP_PY_ID_WORDS; i++)
        mp_store_relaxed(&e->id[i], row->id[i]);
    mp_store_relaxed(&e->epoch, epoch_now());
    mp_store_relaxed(&e->record, record);
    mp_store_release(&e->version, version + 2);
}

static uint32_t frame_id(struct mp_segment *seg, const struct mp_py_runtime *r,
                         struct mp_scratch *scratch, const struct mp_py_row *row,
                         const struct mp_py_row *outer, uint32_t caller) {
    uint32_t code = known_code(row);
    if (code == 0) {
        code = store_code(seg, r, row->code, scratch->frames);
        if (code == 0)
            return 0;
        learn_code(row, code);
    }
    struct mp_python_frame frame = {.caller = caller,
                                    .code = code,
                                    .unit = mp_py_frame_unit(r->layout, row),
                                    .entry = mp_py_frame_is_entry(r->layout, row, outer)};
    uintptr_t words[sizeof frame / sizeof(uintptr_t)];
    memcpy(words, &frame, sizeof frame);
    return store(seg, MP_STACK_PYTHON_FRAME, words, sizeof words / sizeof *words, 0);
}

/* Give the fresh rows of a walk their ids, outermost first, and put them into the memo. The id of the innermost;
 * 0: there is none, or no room. */
static __attribute__((noinline)) uint32_t name_fresh(struct mp_segment *seg,
                                                     struct mp_scratch *scratch, uint64_t *lost) {
    struct mp_py_memo *memo = &scratch->python.memo;
    struct mp_py_walk *walk = &scratch->python.walk;
    bool fits = walk->kept + walk->fresh <= MP_PY_DEPTH_MAX && walk->end == MP_PY_OUTERMOST;
    const struct mp_py_row *outer = walk->kept > 0 ? &memo->row[walk->kept - 1] : NULL;
    uint32_t node = outer != NULL ? outer->node : 0, to = walk->kept;
    scratch->python.thread = 0; /* if this frame never comes back, the memo is nobody's */
    for (uint32_t i = walk->fresh; i > 0; i--) {
        struct mp_py_row *row = &walk->row[i - 1];
        if (!row->shim) {
            node = frame_id(seg, memo->whose, scratch, row, outer, node);
            if (node == 0) {
                mp_capture_lose(lost, MP_LOST_PYTHON);
                return 0;
            }
        }
        row->node = node;
        if (fits)
            memo->row[to++] = *row;
        outer = row;
    }
    memo->depth = fits ? to : 0;
    scratch->python.thread = mp_arch_thread_pointer();
    return node;
}

/* Id of the calling thread's innermost Python frame; 0: none. */
static uint32_t python_of(struct mp_segment *seg, struct mp_scratch *scratch, uint64_t *lost) {
    const struct mp_py_runtime *r;
    uintptr_t state = mp_py_thread_state(&r);
    if (state == 0)
        return 0;
    struct mp_pywalk *python = &scratch->python;
    uint32_t epoch = epoch_now();
    if (python->thread != mp_arch_thread_pointer() || python->memo.whose != r ||
        python->epoch != epoch) {
        python->memo.whose = r;
        python->memo.depth = 0;
        python->epoch = epoch;
    }
    mp_py_frames_walk(&python->memo, state, &python->walk);
    if (mp_unlikely(python->walk.end != MP_PY_OUTERMOST))
        mp_capture_lose(lost, MP_LOST_PYTHON);
    if (python->walk.fresh == 0)
        return python->walk.kept > 0 ? python->memo.row[python->walk.kept - 1].node : 0;
    return name_fresh(seg, scratch, lost);
}

static struct mp_pypair *pair_entry(uint32_t native, uint32_t python) {
    uint64_t key = (uint64_t)native << 32 | python;
    return &mp_local.pystacks.pair[mp_mix(key) % MP_PY_PAIRS];
}

static uint32_t known_pair(uint32_t native, uint32_t python) {
    const struct mp_pypair *e = pair_entry(native, python);
    uint32_t version = mp_load_acquire(&e->version), record = mp_load_relaxed(&e->record);
    bool same = mp_load_relaxed(&e->native) == native && mp_load_relaxed(&e->python) == python &&
                mp_load_relaxed(&e->epoch) == epoch_now();
    mp_fence_acquire();
    return same && (version & 1) == 0 && mp_load_relaxed(&e->version) == version ? record : 0;
}

static void learn_pair(uint32_t native, uint32_t python, uint32_t record) {
    struct mp_pypair *e = pair_entry(native, python);
    uint32_t version = mp_load_relaxed(&e->version);
    if ((version & 1) || !mp_cas_u32(&e->version, version, version + 1))
        return;
    mp_fence_release();
    mp_store_relaxed(&e->native, native);
    mp_store_relaxed(&e->python, python);
    mp_store_relaxed(&e->epoch, epoch_now());
    mp_store_relaxed(&e->record, record);
    mp_store_release(&e->version, version + 2);
}

uint32_t mp_pystack_pair(struct mp_segment *seg, uint32_t native, const struct mp_guard *guard,
                         uint64_t *lost) {
    struct mp_scratch *scratch = mp_scratch_take(guard);
    if (mp_unlikely(scratch == NULL)) {
        mp_capture_lose(lost, MP_LOST_PYTHON);
        return native;
    }
    uint32_t python = python_of(seg, scratch, lost);
    mp_scratch_give_back(scratch);
    if (python == 0)
        return native;
    uint32_t pair = known_pair(native, python);
    if (mp_likely(pair != 0))
        return pair;
    uintptr_t words[1] = {native};
    pair = store(seg, MP_STACK_PAIR, words, 1, python);
    if (pair == 0) {
        mp_capture_lose(lost, MP_LOST_PYTHON);
        return native;
    }
    learn_pair(native, python, pair);
    return pair;
}
