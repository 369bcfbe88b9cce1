/*
 * frames.c - see frames.h.
 */
#include "frames.h"
#include "layout_table.h"
#include "unwind/stack_range.h"
#include "unwind/unwind_walk.h"

#define TAG_BITS 7u        /* of the word that holds a frame's code... */
#define TAGS_SINCE 14      /* ...from 3.14 on */
#define OWNER_SHIM 3u      /* FRAME_OWNED_BY_CSTACK (3.12, 3.13), _INTERPRETER (3.14) */
#define OWNER_MAX 4u
#define FIND_ROWS 64       /* of the memo, in which a frame is looked for */
#define COPIES_MAX 65536   /* of one code object, a thread each */

#define ALWAYS_INLINE inline __attribute__((always_inline))

/* Why the code object of a row is the one that it was, if the chain of frames is. */
enum proof { NOTHING_ENDED, ENDS_ARE_COUNTED, COMPARE_CONTENT };

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
    uintptr_t code = word_at(frame + l->frame_code);
    return l->minor >= TAGS_SINCE ? code & ~(uintptr_t)TAG_BITS : code;
}

static bool is_aligned(uintptr_t at) {
    return at != 0 && at % sizeof(uintptr_t) == 0;
}

static ALWAYS_INLINE bool is_same_flag(const struct mp_py_layout *l, const struct mp_py_row *row,
                                       uintptr_t frame) {
    return l->entry != MP_PY_ENTRY_FLAG || flag_of(l, frame) == row->flag;
}

/* Does the row still match its frame, which is alive, and did `caller` call it? */
static ALWAYS_INLINE bool is_unchanged(const struct mp_py_layout *l, const struct mp_py_row *row,
                                       uintptr_t frame, uintptr_t caller) {
    uintptr_t differences = (code_of(l, frame) ^ row->code) | (place_of(l, frame) ^ row->place) |
                            (word_at(frame + l->frame_caller) ^ caller);
    return mp_likely(differences == 0) && mp_likely(is_same_flag(l, row, frame));
}

/* Is the frame of the row, which is alive, unchanged? A frame that runs other code than before is
 * not a shim. */
static ALWAYS_INLINE bool is_same(const struct mp_py_layout *l, const struct mp_py_row *row) {
    return code_of(l, row->frame) == row->code && is_same_flag(l, row, row->frame) &&
           (row->shim || place_of(l, row->frame) == row->place);
}

static bool read_row(const struct mp_py_runtime *r, uintptr_t frame, bool counted,
                     struct mp_py_walk *walk) {
    const struct mp_py_layout *l = r->layout;
    struct mp_py_row *row = &walk->row[walk->fresh];
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
    mp_py_identify(l, row->code, counted, &walk->id[walk->fresh]);
    return true;
}

/* Row of the memo below `limit` that has the frame; `limit`: none. */
static uint32_t find(const struct mp_py_memo *memo, uintptr_t frame, uint32_t limit) {
    for (uint32_t i = limit, left = FIND_ROWS; i > 0 && left > 0; i--, left--)
        if (memo->row[i - 1].frame == frame)
            return i - 1;
    return limit;
}

/* A row on the way outwards, and its frame. */
struct place {
    const struct mp_py_row *row;
    uintptr_t frame;
};

static ALWAYS_INLINE bool step(const struct mp_py_layout *l, struct place *at) {
    uintptr_t caller = at->row[-1].frame;
    if (!is_unchanged(l, at->row, at->frame, caller))
        return false;
    *at = (struct place){at->row - 1, caller};
    return true;
}

/* The first row outwards from `row`, whose frame is alive, that differs, or `first`: the chain is the same out to it. */
static ALWAYS_INLINE const struct mp_py_row *skip_same(const struct mp_py_layout *l,
                                                       const struct mp_py_row *first,
                                                       const struct mp_py_row *row) {
    struct place at = {row, row->frame};
    while (at.row - first >= 4)
        if (!(step(l, &at) && step(l, &at) && step(l, &at) && step(l, &at)))
            return at.row;
    while (at.row != first && step(l, &at))
        ;
    return at.row;
}

/*
 * Row `at` of the memo has a frame that is alive. Returns the outermost row up to which the chain
 * of frames from there is unchanged. *next is the frame to continue with, 0 if none: that of the
 * next row outwards if that has changed.
 */
static ALWAYS_INLINE const struct mp_py_row *follow_in(const struct mp_py_layout *l,
                                                       const struct mp_py_memo *memo, uint32_t at,
                                                       uintptr_t *next) {
    const struct mp_py_row *first = memo->row, *row = &memo->row[at];
    for (;; row--) {
        row = skip_same(l, first, row);
        *next = row->frame;
        if (mp_unlikely(!is_same(l, row)))
            return row + 1;
        *next = word_at(row->frame + l->frame_caller);
        if (row == first || *next != row[-1].frame)
            return row;
    }
}

#define AND_ONE(number) +1
_Static_assert(MP_PY_LAYOUTS == 0 MP_PY_LAYOUT_NUMBERS(AND_ONE), "each has its loop");
#undef AND_ONE

static const struct mp_py_row *follow_chain(const struct mp_py_memo *memo, uint32_t at,
                                            uintptr_t *next) {
#define LOOP(number)                                                                               \
    case number:                                                                                   \
        return follow_in(&mp_py_layouts[number], memo, at, next);
    switch (memo->whose->layout->number) {
        MP_PY_LAYOUT_NUMBERS(LOOP)
    default:
        return follow_in(memo->whose->layout, memo, at, next);
    }
#undef LOOP
}

/* Of the rows from `at` out to `outermost`, whose frames are alive: the first one that runs other code now, and
 * all rows further in do not; NULL: none. */
static __attribute__((noinline)) const struct mp_py_row *
other_code(const struct mp_py_memo *memo, uint32_t at, const struct mp_py_row *outermost,
           bool counted) {
    const struct mp_py_layout *l = memo->whose->layout;
    for (const struct mp_py_row *row = &memo->row[at]; row >= outermost; row--)
        if (!row->shim && !mp_py_is_identical(l, row->code, counted, &memo->id[row - memo->row]))
            return row;
    return NULL;
}

/* False if there is no room. */
static bool copy_rows(struct mp_py_walk *walk, const struct mp_py_memo *memo, uint32_t at,
                      uint32_t end) {
    for (uint32_t i = at + 1; i > end; i--) {
        if (walk->fresh == MP_PY_DEPTH_MAX)
            return false;
        walk->row[walk->fresh] = memo->row[i - 1];
        walk->id[walk->fresh++] = memo->id[i - 1];
    }
    return true;
}

/*
 * The frame of memo row `at` is alive. Follow the memo outwards; true: all of it is the same, the walk is over.
 * Else *next is the frame to go on with, and only rows of the memo below *limit may be met from there.
 */
static bool follow(const struct mp_py_memo *memo, uint32_t at, enum proof proof,
                   struct mp_py_walk *walk, uintptr_t *next, uint32_t *limit) {
    const struct mp_py_row *same = follow_chain(memo, at, next);
    if (mp_unlikely(proof != NOTHING_ENDED)) {
        const struct mp_py_row *other = other_code(memo, at, same, proof == ENDS_ARE_COUNTED);
        if (other != NULL) {
            same = other + 1;
            *next = other->frame;
        }
    }
    if (mp_likely(same == memo->row && *next == 0)) {
        walk->kept = at + 1;
        return true;
    }
    uint32_t outermost = (uint32_t)(same - memo->row);
    bool has_changed = outermost > 0 && *next == memo->row[outermost - 1].frame;
    *limit = has_changed ? outermost - 1 : outermost;
    if (!copy_rows(walk, memo, at, outermost)) {
        walk->end = MP_PY_CUT;
        return true;
    }
    return false;
}

static uintptr_t innermost(const struct mp_py_layout *l, uintptr_t state) {
    uintptr_t frame = word_at(state + l->thread_frame);
    if (l->frame_in >= 0)
        frame = is_aligned(frame) ? word_at(frame + (uintptr_t)l->frame_in) : 0;
    return frame;
}

static void walk_on(const struct mp_py_memo *memo, uintptr_t frame, enum proof proof,
                    struct mp_py_walk *walk) {
    const struct mp_py_runtime *r = memo->whose;
    uint32_t limit = memo->depth;
    while (frame != 0) {
        uint32_t at = find(memo, frame, limit);
        if (at < limit) {
            if (follow(memo, at, proof, walk, &frame, &limit))
                return;
            continue;
        }
        if (walk->fresh == MP_PY_DEPTH_MAX) {
            walk->end = MP_PY_CUT;
            return;
        }
        if (!is_aligned(frame) || !read_row(r, frame, proof != COMPARE_CONTENT, walk)) {
            walk->end = MP_PY_BROKEN;
            return;
        }
        walk->fresh++;
        frame = word_at(frame + r->layout->frame_caller);
    }
}

void mp_py_frames_walk(struct mp_py_memo *memo, uintptr_t state, struct mp_py_walk *walk) {
    uint64_t deaths = mp_py_deaths_all(memo->whose->dealloc);
    enum proof proof = deaths == 0              ? COMPARE_CONTENT
                       : deaths == memo->deaths ? NOTHING_ENDED
                                                : ENDS_ARE_COUNTED;
    walk->end = MP_PY_OUTERMOST;
    walk->kept = walk->fresh = 0;
    walk_on(memo, innermost(memo->whose->layout, state), proof, walk);
    if (mp_unlikely(proof == ENDS_ARE_COUNTED) && walk->end == MP_PY_OUTERMOST) {
        memo->depth = walk->kept;
        memo->deaths = deaths;
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

/* Word `number` after the head of the code's array of copies; 0 if there is none. Another thread
 * replaces the array when it has to grow, and frees the old one when each attached thread has
 * passed a point between instructions: this one passes none here, if it is attached. The word is
 * copied without a fault and counts if the array is still the code's: so it is right also if the
 * thread is not attached, and was held up in between. */
static MP_RAW_READS uintptr_t copy_of(const struct mp_py_layout *l, uintptr_t code,
                                      uint32_t number) {
    const uintptr_t *of_code = (const uintptr_t *)(code + l->code_copies);
    uintptr_t copies = mp_load_acquire(of_code), head, first;
    if (!is_aligned(copies) || !mp_stack_copy(copies, &head, sizeof head) || number >= head ||
        !mp_stack_copy(copies + sizeof first * ((uintptr_t)number + 1), &first, sizeof first))
        return 0;
    return mp_load_acquire(of_code) == copies ? first : 0;
}

/* Where the instructions begin that the frame runs; 0: unknown. */
static MP_RAW_READS uintptr_t first_unit(const struct mp_py_layout *l,
                                         const struct mp_py_row *row) {
    uintptr_t own = row->code + l->code_units;
    uintptr_t end = own + 2 * word_at(row->code + l->size);
    if (l->code_copies == 0 || (row->place >= own && row->place < end))
        return own; /* the first thread runs the code itself */
    uint32_t number = *(const uint32_t *)(row->frame + l->frame_copy);
    return number < COPIES_MAX ? copy_of(l, row->code, number) : 0;
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
