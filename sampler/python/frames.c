/*
 * frames.c - see frames.h.
 */
#include "frames.h"
#include "abi/segment.h"
#include "layout_table.h"
#include "unwind/unwind_walk.h"

#include <string.h>

#define TAG_BITS 7u        /* of the word that holds a frame's code, from 3.14 */
#define OWNER_SHIM 3u      /* FRAME_OWNED_BY_CSTACK (3.12, 3.13), _INTERPRETER (3.14) */
#define OWNER_MAX 4u
#define FIND_ROWS 64       /* of the memo, in which a frame is looked for */
#define LINE_WORDS 16         /* of a table of lines, in an identity */
#define COPIES_MAX 65536   /* of one code object, a thread each */

#define ALWAYS_INLINE inline __attribute__((always_inline))

static ALWAYS_INLINE MP_RAW_READS uintptr_t word_at(uintptr_t at) {
    return *(const uintptr_t *)at;
}

static ALWAYS_INLINE MP_RAW_READS uintptr_t place_of(const struct mp_py_layout *l,
                                                     uintptr_t frame) {
    uintptr_t place = word_at(frame + l->frame_place);
    return l->entry == MP_PY_ENTRY_ALWAYS ? place & UINT32_MAX : place;
}

/* Objects have no such byte of interest. */
static ALWAYS_INLINE MP_RAW_READS uint8_t flag_of(const struct mp_py_layout *l, uintptr_t frame) {
    return l->entry == MP_PY_ENTRY_ALWAYS ? 0 : *(const uint8_t *)(frame + l->frame_flag);
}

static ALWAYS_INLINE uintptr_t code_of(const struct mp_py_layout *l, uintptr_t frame) {
    return word_at(frame + l->frame_code) & ~(uintptr_t)TAG_BITS;
}

static bool is_aligned(uintptr_t at) {
    return at != 0 && at % sizeof(uintptr_t) == 0;
}

/* Term `k` of a hash that is a sum, so that no product waits for another one. */
static ALWAYS_INLINE uintptr_t term(uintptr_t k, uintptr_t word) {
    return (word ^ 0xd6e8feb86659fd93ULL) * (0x9e3779b97f4a7c15ULL + (k << 33) + (k << 2));
}

/* Of a text: hash, which may not be known yet, length and last characters. */
static ALWAYS_INLINE MP_RAW_READS uintptr_t text_identity(const struct mp_py_layout *l,
                                                          uintptr_t text) {
    uintptr_t length = word_at(text + l->text_length), last = 0;
    if (length <= MP_PYTHON_FILE_BYTES)
        memcpy(&last, (const unsigned char *)text + l->text_ascii + length - sizeof last,
               sizeof last); /* of a short one: the end of its head too */
    return term(1, word_at(text + l->text_hash)) + term(2, length) + term(3, last);
}

/* Of a table of lines: size and first words. */
static ALWAYS_INLINE MP_RAW_READS uintptr_t lines_identity(const struct mp_py_layout *l,
                                                           uintptr_t lines) {
    uintptr_t size = word_at(lines + l->size), words = size / sizeof(uintptr_t);
    uintptr_t hash = term(4, size);
    words = words < LINE_WORDS ? words : LINE_WORDS;
    for (uintptr_t i = 0; i < words; i++)
        hash += term(8 + i, word_at(lines + l->bytes_data + i * sizeof(uintptr_t)));
    return hash;
}

/* What tells a code object from another one with the same words in its head: versions are given again when
 * an interpreter begins again, and to 3.11 there are none. */
static ALWAYS_INLINE uintptr_t content_identity(const struct mp_py_layout *l, uintptr_t code) {
    uintptr_t name = word_at(code + l->code_name), file = word_at(code + l->code_file);
    uintptr_t lines = word_at(code + l->code_lines);
    uintptr_t hash = term(5, word_at(code + (l->code_first_line & ~7u))) + term(6, file);
    if (is_aligned(name))
        hash += term(7, word_at(name + l->text_hash));
    if (is_aligned(file))
        hash += text_identity(l, file);
    if (l->code_version == 0 && is_aligned(lines))
        hash += lines_identity(l, lines);
    return hash;
}

static ALWAYS_INLINE void identify(const struct mp_py_layout *l, uintptr_t code,
                                   uintptr_t id[MP_PY_ID_WORDS]) {
    id[0] = l->code_version != 0 ? word_at(code + (l->code_version & ~7u)) : 0;
    id[1] = word_at(code + l->code_lines);
    id[2] = word_at(code + l->code_name);
    id[3] = content_identity(l, code);
}

/* A version that is not 0 is unique while the interpreter lives; its half of the word depends on its place. */
static ALWAYS_INLINE bool has_version(const struct mp_py_layout *l, uintptr_t first) {
    return l->code_version != 0 && (uint32_t)(first >> (l->code_version % 8 * 8)) != 0;
}

static ALWAYS_INLINE bool same_content(const struct mp_py_layout *l, const struct mp_py_row *row) {
    uintptr_t id[MP_PY_ID_WORDS], differences = 0;
    identify(l, row->code, id);
    for (unsigned i = 0; i < MP_PY_ID_WORDS; i++)
        differences |= id[i] ^ row->id[i];
    return differences == 0;
}

static ALWAYS_INLINE bool same_identity(const struct mp_py_layout *l, const struct mp_py_row *row) {
    if (has_version(l, row->id[0]))
        return word_at(row->code + (l->code_version & ~7u)) == row->id[0];
    return same_content(l, row);
}

/* Is the frame of the row, which is alive, what it was? What runs other code than before is no shim. */
static ALWAYS_INLINE bool is_same(const struct mp_py_layout *l, const struct mp_py_row *row) {
    if (code_of(l, row->frame) != row->code)
        return false;
    if (l->entry == MP_PY_ENTRY_FLAG && flag_of(l, row->frame) != row->flag)
        return false;
    return row->shim || (place_of(l, row->frame) == row->place && same_identity(l, row));
}

static bool read_row(const struct mp_py_runtime *r, uintptr_t frame, struct mp_py_row *row) {
    const struct mp_py_layout *l = r->layout;
    *row = (struct mp_py_row){.frame = frame,
                              .code = code_of(l, frame),
                              .place = place_of(l, frame),
                              .flag = flag_of(l, frame)};
    if (l->entry == MP_PY_ENTRY_SHIM && row->flag >= OWNER_SHIM) {
        row->shim = true;
        return row->flag <= OWNER_MAX;
    }
    if (!is_aligned(row->code) || word_at(row->code + l->type) != r->code_type)
        return false;
    identify(l, row->code, row->id);
    return true;
}

/* Row of the memo below `limit` that has the frame; `limit`: none of those that are looked at. */
static uint32_t find(const struct mp_py_memo *memo, uintptr_t frame, uint32_t limit) {
    for (uint32_t i = limit, left = FIND_ROWS; i > 0 && left > 0; i--, left--)
        if (memo->row[i - 1].frame == frame)
            return i - 1;
    return limit;
}

static bool copy_row(struct mp_py_walk *walk, const struct mp_py_row *row) {
    if (walk->fresh == MP_PY_DEPTH_MAX)
        return false;
    walk->row[walk->fresh++] = *row;
    return true;
}

/*
 * The frame of memo row `at` is alive. Follow the memo outwards; true: all of it is the same, the walk is over.
 * Else *next is the frame to go on with, and only rows of the memo below *limit may be met from there.
 */
static ALWAYS_INLINE bool follow_in(const struct mp_py_layout *l, const struct mp_py_memo *memo,
                                    uint32_t at, struct mp_py_walk *walk, uintptr_t *next,
                                    uint32_t *limit) {
    const struct mp_py_row *first = memo->row, *row = &memo->row[at], *same_from;
    for (;; row--) {
        if (mp_unlikely(!is_same(l, row))) {
            *next = row->frame;
            same_from = row + 1;
            break;
        }
        uintptr_t caller = word_at(row->frame + l->frame_caller);
        if (mp_unlikely(row == first)) {
            walk->kept = at + 1;
            if (mp_likely(caller == 0))
                return true;
            walk->kept = 0;
        } else if (mp_likely(caller == row[-1].frame))
            continue;
        *next = caller;
        same_from = row;
        break;
    }
    *limit = (uint32_t)(row - first);
    for (const struct mp_py_row *same = &memo->row[at]; same >= same_from; same--)
        if (!copy_row(walk, same)) {
            walk->end = MP_PY_CUT;
            return true;
        }
    return false;
}

/* One loop for each layout. */
_Static_assert(MP_PY_LAYOUTS == 8, "each has its loop");

static bool follow(const struct mp_py_memo *memo, uint32_t at, struct mp_py_walk *walk,
                   uintptr_t *next, uint32_t *limit) {
    switch (memo->whose->layout->number) {
    case 0:
        return follow_in(&mp_py_layouts[0], memo, at, walk, next, limit);
    case 1:
        return follow_in(&mp_py_layouts[1], memo, at, walk, next, limit);
    case 2:
        return follow_in(&mp_py_layouts[2], memo, at, walk, next, limit);
    case 3:
        return follow_in(&mp_py_layouts[3], memo, at, walk, next, limit);
    case 4:
        return follow_in(&mp_py_layouts[4], memo, at, walk, next, limit);
    case 5:
        return follow_in(&mp_py_layouts[5], memo, at, walk, next, limit);
    case 6:
        return follow_in(&mp_py_layouts[6], memo, at, walk, next, limit);
    case 7:
        return follow_in(&mp_py_layouts[7], memo, at, walk, next, limit);
    default:
        return true; /* there is none */
    }
}

static uintptr_t innermost(const struct mp_py_layout *l, uintptr_t state) {
    uintptr_t frame = word_at(state + l->thread_frame);
    if (l->frame_in >= 0)
        frame = is_aligned(frame) ? word_at(frame + (uintptr_t)l->frame_in) : 0;
    return frame;
}

void mp_py_frames_walk(const struct mp_py_memo *memo, uintptr_t state, struct mp_py_walk *walk) {
    const struct mp_py_runtime *r = memo->whose;
    uintptr_t frame = innermost(r->layout, state);
    uint32_t limit = memo->depth;
    walk->end = MP_PY_OUTERMOST;
    walk->kept = walk->fresh = 0;
    while (frame != 0) {
        uint32_t at = find(memo, frame, limit);
        if (at < limit) {
            if (follow(memo, at, walk, &frame, &limit))
                return;
            continue;
        }
        if (walk->fresh == MP_PY_DEPTH_MAX) {
            walk->end = MP_PY_CUT;
            return;
        }
        if (!is_aligned(frame) || !read_row(r, frame, &walk->row[walk->fresh])) {
            walk->end = MP_PY_BROKEN;
            return;
        }
        walk->fresh++;
        frame = word_at(frame + r->layout->frame_caller);
    }
}

bool mp_py_frame_is_entry(const struct mp_py_layout *layout, const struct mp_py_row *row,
                          const struct mp_py_row *outer) {
    switch (layout->entry) {
    case MP_PY_ENTRY_SHIM:
        return outer != NULL && outer->shim;
    case MP_PY_ENTRY_FLAG:
        return row->flag != 0;
    default:
        return true;
    }
}

/* Where the instructions begin that the frame runs; 0: unknown. */
static MP_RAW_READS uintptr_t first_unit(const struct mp_py_layout *l,
                                         const struct mp_py_row *row) {
    uintptr_t own = row->code + l->code_units;
    if (l->code_copies == 0)
        return own;
    uintptr_t copies = word_at(row->code + l->code_copies);
    int32_t number = *(const int32_t *)(row->frame + l->frame_copy);
    if (!is_aligned(copies) || number < 0 || number >= COPIES_MAX ||
        (uintptr_t)number >= word_at(copies))
        return 0;
    return word_at(copies + sizeof(uintptr_t) * ((uintptr_t)number + 1));
}

MP_RAW_READS uint32_t mp_py_frame_unit(const struct mp_py_layout *layout,
                                       const struct mp_py_row *row) {
    if (layout->entry == MP_PY_ENTRY_ALWAYS) {
        uint32_t place = (uint32_t)row->place;
        return layout->minor <= 9 && place != UINT32_MAX ? place / 2 : place;
    }
    uintptr_t first = first_unit(layout, row), units = word_at(row->code + layout->size);
    uintptr_t unit = (row->place - first) / 2;
    return first == 0 || row->place < first || unit >= units ? MP_PY_UNIT_UNKNOWN : (uint32_t)unit;
}
