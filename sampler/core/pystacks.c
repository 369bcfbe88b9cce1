/*
 * pystacks.c - see pystacks.h.
 */
#include "pystacks.h"
#include "abi/seqlock.h"
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

#define ROW_MASK ((1u << MP_PY_ROW_BITS) - 1)
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
                                                     uintptr_t *words, enum mp_py_role *role) {
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
    *role = mp_py_role_of(record);
    if (line_words > 0) {
        words[count + line_words - 1] = 0;
        memcpy(words + count, lines.data, lines.bytes);
    }
    return store(seg, MP_STACK_PYTHON_CODE, words, count + line_words, 0);
}

static struct mp_pycode *code_entry(uintptr_t code) {
    return &mp_local.pystacks.code[(code * 0x9e3779b97f4a7c15ULL >> 40) % MP_PY_CODES];
}

/* Cached id of the function, and its role; 0 if it is not cached. */
static uint32_t known_code(uintptr_t code, const struct mp_py_identity *id, enum mp_py_role *role) {
    const struct mp_pycode *e = code_entry(code);
    uint32_t version = mp_seq_read_begin(&e->version), record = mp_load_relaxed(&e->record);
    *role = (enum mp_py_role)mp_load_relaxed(&e->role);
    bool same = mp_load_relaxed(&e->code) == code && mp_load_relaxed(&e->epoch) == epoch_now();
    for (unsigned i = 0; i < MP_PY_ID_WORDS; i++)
        same &= mp_load_relaxed(&e->id.word[i]) == id->word[i];
    return mp_seq_read_whole(&e->version, version) && same ? record : 0;
}

static void learn_code(uintptr_t code, const struct mp_py_identity *id, uint32_t record,
                       enum mp_py_role role) {
    struct mp_pycode *e = code_entry(code);
    if (!mp_seq_write_begin(&e->version))
        return;
    mp_store_relaxed(&e->code, code);
    for (unsigned i = 0; i < MP_PY_ID_WORDS; i++)
        mp_store_relaxed(&e->id.word[i], id->word[i]);
    mp_store_relaxed(&e->epoch, epoch_now());
    mp_store_relaxed(&e->role, (uint32_t)role);
    mp_store_relaxed(&e->record, record);
    mp_seq_write_end(&e->version);
}

static struct mp_pynode *node_entry(const struct mp_python_frame *frame) {
    uint64_t key = ((uint64_t)frame->caller << 32 | frame->code) ^ (uint64_t)frame->unit << 27;
    return &mp_local.pystacks.node[mp_mix(key) % MP_PY_NODES];
}

static uint32_t known_node(const struct mp_python_frame *frame) {
    const struct mp_pynode *e = node_entry(frame);
    uint32_t version = mp_seq_read_begin(&e->version), record = mp_load_relaxed(&e->record);
    uint32_t differences = (mp_load_relaxed(&e->caller) ^ frame->caller) |
                           (mp_load_relaxed(&e->code) ^ frame->code) |
                           (mp_load_relaxed(&e->unit) ^ frame->unit) |
                           (mp_load_relaxed(&e->epoch_entry) ^ (epoch_now() << 1 | frame->entry));
    return mp_seq_read_whole(&e->version, version) && differences == 0 ? record : 0;
}

static void learn_node(const struct mp_python_frame *frame, uint32_t record) {
    struct mp_pynode *e = node_entry(frame);
    if (!mp_seq_write_begin(&e->version))
        return;
    mp_store_relaxed(&e->caller, frame->caller);
    mp_store_relaxed(&e->code, frame->code);
    mp_store_relaxed(&e->unit, frame->unit);
    mp_store_relaxed(&e->epoch_entry, epoch_now() << 1 | frame->entry);
    mp_store_relaxed(&e->record, record);
    mp_seq_write_end(&e->version);
}

/* Id of the record of a frame, stored if it is new; 0: there is no room. */
static uint32_t node_of(struct mp_segment *seg, const struct mp_python_frame *frame) {
    uint32_t record = known_node(frame);
    if (mp_likely(record != 0))
        return record;
    uintptr_t words[sizeof *frame / sizeof(uintptr_t)];
    memcpy(words, frame, sizeof *frame);
    record = store(seg, MP_STACK_PYTHON_FRAME, words, sizeof words / sizeof *words, 0);
    if (record != 0)
        learn_node(frame, record);
    return record;
}

static uint32_t frame_id(struct mp_segment *seg, const struct mp_py_runtime *r,
                         struct mp_scratch *scratch, uint32_t fresh, const struct mp_py_row *outer,
                         uint32_t caller, enum mp_py_role *role) {
    const struct mp_py_row *row = &scratch->python.walk.row[fresh];
    const struct mp_py_identity *id = &scratch->python.walk.id[fresh];
    uint32_t code = known_code(row->code, id, role);
    if (code == 0) {
        code = store_code(seg, r, row->code, scratch->frames, role);
        if (code == 0)
            return 0;
        learn_code(row->code, id, code, *role);
    }
    struct mp_python_frame frame = {.caller = caller,
                                    .code = code,
                                    .unit = mp_py_frame_unit(r->layout, row),
                                    .entry = mp_py_frame_is_entry(r->layout, row, outer)};
    return node_of(seg, &frame);
}

/* Give the new rows of a walk their ids, outermost first, and store them in the memo, up to the
 * first that does not fit. Returns the id of the innermost; 0 if there is none, or no room. */
static __attribute__((noinline)) uint32_t name_fresh(struct mp_segment *seg,
                                                     struct mp_scratch *scratch, uint64_t *lost) {
    struct mp_py_memo *memo = &scratch->python.memo;
    struct mp_py_walk *walk = &scratch->python.walk;
    struct mp_py_owners *owners = &scratch->python.owners;
    bool fits = walk->kept + walk->fresh <= MP_PY_DEPTH_MAX && walk->end == MP_PY_OUTERMOST;
    const struct mp_py_row *outer = walk->kept > 0 ? &memo->row[walk->kept - 1] : NULL;
    uint32_t node = outer != NULL ? outer->node : 0, innermost = node, to = walk->kept;
    uint16_t task = outer != NULL ? outer->task : 0;
    scratch->python.thread = 0; /* if this frame never comes back, the memo is nobody's */
    for (uint32_t i = walk->fresh; i > 0; i--) {
        struct mp_py_row *row = &walk->row[i - 1];
        enum mp_py_role role = MP_PY_ROLE_NONE;
        uint32_t caller = node;
        if (!row->shim) {
            innermost = frame_id(seg, memo->whose, scratch, i - 1, outer, caller, &role);
            if (innermost == 0) {
                mp_capture_lose(lost, MP_LOST_PYTHON);
                break;
            }
            node = innermost;
        }
        if (role == MP_PY_ROLE_TASK) {
            task = (uint16_t)(to + 1);
            owners->task = row->frame;
        }
        row->is_thread = role == MP_PY_ROLE_THREAD && caller == 0;
        if (row->is_thread)
            owners->thread = row->frame;
        row->task = task & ROW_MASK;
        row->node = node;
        if (fits) {
            memo->row[to] = *row;
            memo->id[to++] = walk->id[i - 1];
        }
        outer = row;
    }
    memo->depth = fits ? to : 0;
    scratch->python.thread = mp_arch_thread_pointer();
    return innermost;
}

/* Result of the memo rows that did not change. */
static struct mp_py_owners kept_owners(const struct mp_pywalk *python) {
    const struct mp_py_row *row = python->memo.row;
    struct mp_py_owners owners = {.whole = python->walk.end == MP_PY_OUTERMOST};
    if (python->walk.kept == 0)
        return owners;
    const struct mp_py_row *first = row->shim && python->walk.kept > 1 ? row + 1 : row;
    unsigned task = row[python->walk.kept - 1].task;
    owners.thread = first->is_thread ? first->frame : 0;
    owners.task = task != 0 ? row[task - 1].frame : 0;
    return owners;
}

/* Id of the calling thread's innermost Python frame; 0 if there is none. *label identifies its
 * thread and task. */
static uint32_t python_of(struct mp_segment *seg, struct mp_scratch *scratch, uint32_t *label,
                          uint64_t *lost) {
    const struct mp_py_runtime *r;
    uintptr_t state = mp_py_thread_state(&r);
    if (state == 0)
        return 0;
    struct mp_pywalk *python = &scratch->python;
    uint32_t epoch = epoch_now();
    if (python->thread != mp_arch_thread_pointer() || python->memo.whose != r ||
        python->state != state || python->epoch != epoch) {
        python->memo.whose = r;
        python->state = state;
        python->memo.depth = 0;
        python->epoch = epoch;
        python->pair = 0;
    }
    mp_py_frames_walk(&python->memo, state, &python->walk);
    if (mp_unlikely(python->walk.end != MP_PY_OUTERMOST))
        mp_capture_lose(lost, MP_LOST_PYTHON);
    python->owners = kept_owners(python);
    uint32_t node = 0;
    if (mp_unlikely(python->walk.fresh != 0))
        node = name_fresh(seg, scratch, lost);
    else if (python->walk.kept > 0)
        node = python->memo.row[python->walk.kept - 1].node;
    if (node != 0)
        *label =
            mp_pylabel_of(seg, &python->labels, r, state, &python->owners, scratch->frames, lost);
    return node;
}

static struct mp_pypair *pair_entry(uint32_t native, uint32_t python, uint32_t label) {
    uint64_t key = ((uint64_t)native << 32 | python) ^ (uint64_t)label << 29;
    return &mp_local.pystacks.pair[mp_mix(key) % MP_PY_PAIRS];
}

static uint32_t known_pair(uint32_t native, uint32_t python, uint32_t label) {
    const struct mp_pypair *e = pair_entry(native, python, label);
    uint32_t version = mp_seq_read_begin(&e->version), record = mp_load_relaxed(&e->record);
    bool same = mp_load_relaxed(&e->native) == native && mp_load_relaxed(&e->python) == python &&
                mp_load_relaxed(&e->label) == label && mp_load_relaxed(&e->epoch) == epoch_now();
    return mp_seq_read_whole(&e->version, version) && same ? record : 0;
}

static void learn_pair(uint32_t native, uint32_t python, uint32_t label, uint32_t record) {
    struct mp_pypair *e = pair_entry(native, python, label);
    if (!mp_seq_write_begin(&e->version))
        return;
    mp_store_relaxed(&e->native, native);
    mp_store_relaxed(&e->python, python);
    mp_store_relaxed(&e->label, label);
    mp_store_relaxed(&e->epoch, epoch_now());
    mp_store_relaxed(&e->record, record);
    mp_seq_write_end(&e->version);
}

/* Id of the record of a pair, stored if it is new; the native stack's id if there is no room. */
static __attribute__((noinline)) uint32_t pair_of(struct mp_segment *seg, uint32_t native,
                                                  uint32_t python, uint32_t label, uint64_t *lost) {
    uint32_t pair = known_pair(native, python, label);
    if (pair != 0)
        return pair;
    uintptr_t words[2] = {native, label};
    pair = store(seg, MP_STACK_PAIR, words, label != 0 ? 2 : 1, python);
    if (pair == 0) {
        mp_capture_lose(lost, MP_LOST_PYTHON);
        return native;
    }
    learn_pair(native, python, label, pair);
    return pair;
}

uint32_t mp_pystack_pair(struct mp_segment *seg, uint32_t native, const struct mp_guard *guard,
                         uint64_t *lost) {
    struct mp_scratch *scratch = mp_scratch_take(guard);
    if (mp_unlikely(scratch == NULL)) {
        mp_capture_lose(lost, MP_LOST_PYTHON);
        return native;
    }
    uint32_t label = 0, python = python_of(seg, scratch, &label, lost), id = native;
    struct mp_pywalk *last = &scratch->python;
    if (mp_likely(python == last->innermost && native == last->native && label == last->label &&
                  last->pair != 0)) {
        id = last->pair;
    } else if (python != 0) {
        id = pair_of(seg, native, python, label, lost);
        last->native = native;
        last->innermost = python;
        last->label = label;
        last->pair = id != native ? id : 0;
    }
    mp_scratch_give_back(scratch);
    return id;
}
