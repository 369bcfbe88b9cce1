/*
 * test_python_walk.c - a walk over Python frames along a memo gives the frames that a walk without one gives.
 *
 * The interpreter is a fake: each frame, code object, text and table has a page of its own, which nobody can
 * read after the object has gone. Random walks call, return, step on, suspend and resume generators, and free code
 * objects, whose pages come again for others. The number of a code object is the node of its row, so that a row
 * that was kept for another code object is seen. Where the ends of code objects are counted, all of them have the
 * same content, so that nothing but the count tells them apart.
 */
#include "check.h"
#include "core/sample.h"
#include "python/code.h"
#include "python/frames.h"
#include "unwind/modules.h"
#include "unwind/stack_range.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096u
#define PAGES 2048u
#define CODES 12
#define GENERATORS 8
#define DEPTH 700
#define UNITS 3u /* few, so that chance makes frames alike */
#define MIN(a, b) ((a) < (b) ? (a) : (b))

/* How the code object of a row is told from others. */
enum way {
    BY_CONTENT, /* ends are not counted */
    BY_COUNT,
    BY_EITHER, /* another tool takes the slot now and then */
};

struct code {
    uintptr_t at, name, lines, copies;
    uint32_t number, frames;
};

struct frame {
    uintptr_t at;
    struct code *code; /* NULL: a shim */
    uint32_t unit;
    bool generator, entry;
};

struct world {
    const struct mp_py_layout *l;
    enum way way;
    struct mp_py_runtime runtime;
    struct mp_py_dealloc dealloc;
    struct mp_py_memo memo;
    struct mp_py_walk walk, whole;
    uint64_t rng;
    char *pages;
    uint16_t free[PAGES];
    uint32_t frees, numbers, depth, suspended, kept, fresh, unasked;
    uintptr_t state, between;
    struct code code[CODES];
    struct frame stack[DEPTH], generator[GENERATORS];
};

static enum way way;
static uintptr_t slot; /* the type's tp_dealloc: of one world at a time */

static void free_code(void *code) {
    (void)code;
}

static void free_code_in_other_way(void *code) {
    (void)code;
}

static void begin_counting(struct world *w) {
    struct mp_module self;
    CHECK(mp_module_find((uintptr_t)free_code, &self));
    slot = (uintptr_t)free_code;
    w->dealloc.slot = &slot;
    mp_py_deaths_begin(&w->dealloc, 0, self.start);
    CHECK(mp_py_deaths_all(&w->dealloc) != 0);
}

static void lose_slot_or_begin_again(struct world *w) {
    if (slot == (uintptr_t)free_code_in_other_way) {
        mp_py_deaths_all(
            &w->dealloc); /* a walk sees that it is lost, or none comes before it is back */
        begin_counting(w);
    } else {
        slot = (uintptr_t)free_code_in_other_way;
    }
}

static uint32_t below(struct world *w, uint32_t limit) {
    return (uint32_t)(mp_random(&w->rng) % limit);
}

static void put(uintptr_t at, uintptr_t value) {
    memcpy((void *)at, &value, sizeof value);
}

static void put_32(uintptr_t at, uint32_t value) {
    memcpy((void *)at, &value, sizeof value);
}

/* Pages come again at once, with what they had: an interpreter does not clear its frames either. */
static uintptr_t take(struct world *w) {
    uint32_t newest = below(w, 8) == 0 ? MIN(w->frees, 4u) : 1,
             pick = w->frees - 1 - below(w, newest);
    uint16_t page = w->free[pick];
    w->free[pick] = w->free[--w->frees];
    char *at = w->pages + page * PAGE;
    CHECK_EQ(mprotect(at, PAGE, PROT_READ | PROT_WRITE), 0);
    return (uintptr_t)at;
}

static void give(struct world *w, uintptr_t at) {
    CHECK_EQ(mprotect((void *)at, PAGE, PROT_NONE), 0);
    w->free[w->frees++] = (uint16_t)((at - (uintptr_t)w->pages) / PAGE);
}

static void make_code(struct world *w, struct code *c) {
    const struct mp_py_layout *l = w->l;
    c->at = take(w);
    c->name = take(w);
    c->lines = take(w);
    c->number = ++w->numbers;
    uint32_t content = w->way == BY_COUNT ? 1 : c->number;
    put(c->at + l->type, w->runtime.code_type);
    put(c->at + l->size, UNITS);
    put(c->at + l->code_name, c->name);
    put(c->at + l->code_lines, c->lines);
    put_32(c->at + l->code_first_line, w->way == BY_COUNT ? 1 : 1 + below(w, 3));
    put(c->name + l->text_hash, 0x9e3779b97f4a7c15u * content);
    uintptr_t file = c->name + 1024; /* of one page with the name: they go together */
    put(c->at + l->code_file, file);
    put(file + l->text_length, 9);
    put(file + l->text_hash, -1);
    put(c->lines + l->size, 64);
    if (l->code_version != 0)
        put_32(c->at + l->code_version, content);
    if (l->code_copies != 0) {
        c->copies = take(w);
        put(c->at + l->code_copies, c->copies);
        put(c->copies, 3);
        for (unsigned i = 0; i < 3; i++)
            put(c->copies + 8 * (i + 1), c->at + 1024 + i * 512);
    }
}

static void drop_code(struct world *w, struct code *c) {
    if (w->way != BY_CONTENT)
        ((void (*)(void *))slot)((void *)c->at);
    if (c->copies != 0)
        give(w, c->copies);
    give(w, c->lines);
    give(w, c->name);
    give(w, c->at);
    *c = (struct code){0};
}

static void set_unit(struct world *w, struct frame *f, uint32_t unit) {
    const struct mp_py_layout *l = w->l;
    f->unit = unit;
    if (l->entry == MP_PY_ENTRY_ALWAYS) {
        put_32(f->at + l->frame_place, l->minor == 9 ? 2 * unit : unit);
        put_32(f->at + l->frame_place + 4, below(w, 1000)); /* no part of it */
        return;
    }
    uintptr_t first = f->code->at + l->code_units;
    if (l->code_copies != 0) {
        uint32_t copy = below(w, 3);
        put_32(f->at + l->frame_copy, copy);
        first = f->code->at + 1024 + copy * 512;
    }
    put(f->at + l->frame_place, first + 2 * unit);
}

static void set_innermost(struct world *w) {
    uintptr_t frame = w->depth > 0 ? w->stack[w->depth - 1].at : 0;
    if (w->l->frame_in < 0) {
        put(w->state + w->l->thread_frame, frame);
    } else {
        put(w->state + w->l->thread_frame, w->between);
        put(w->between + (uintptr_t)w->l->frame_in, frame);
    }
}

static void push(struct world *w, struct frame frame) {
    put(frame.at + w->l->frame_caller, w->depth > 0 ? w->stack[w->depth - 1].at : 0);
    w->stack[w->depth++] = frame;
    set_innermost(w);
}

static void set_owner(struct world *w, const struct frame *f) {
    uint8_t *flag = (uint8_t *)f->at + w->l->frame_flag;
    if (w->l->entry == MP_PY_ENTRY_FLAG)
        *flag = f->entry;
    if (w->l->entry == MP_PY_ENTRY_SHIM)
        *flag = f->code == NULL ? 3 : f->generator;
}

static void call(struct world *w, bool generator) {
    bool entry = below(w, 3) == 0;
    if (w->depth + 2 > DEPTH)
        return;
    if (entry && w->l->entry == MP_PY_ENTRY_SHIM) {
        struct frame shim = {.at = take(w)};
        put(shim.at + w->l->frame_code, (uintptr_t)&w->runtime | 1);
        set_owner(w, &shim);
        push(w, shim);
    }
    struct code *c = &w->code[below(w, CODES)];
    if (c->at == 0)
        make_code(w, c);
    c->frames++;
    struct frame f = {.at = take(w), .code = c, .generator = generator, .entry = entry};
    put(f.at + w->l->frame_code, c->at);
    set_owner(w, &f);
    set_unit(w, &f, below(w, UNITS));
    push(w, f);
}

static void resume(struct world *w) {
    if (w->suspended == 0 || w->depth == DEPTH)
        return;
    uint32_t pick = below(w, w->suspended);
    struct frame f = w->generator[pick];
    w->generator[pick] = w->generator[--w->suspended];
    f.entry = below(w, 2);
    if (w->l->entry == MP_PY_ENTRY_FLAG)
        set_owner(w, &f);
    else
        f.entry = false;
    push(w, f);
}

static void leave(struct world *w) {
    struct frame f = w->stack[--w->depth];
    set_innermost(w);
    if (f.generator && w->suspended < GENERATORS && below(w, 4) > 0) {
        w->generator[w->suspended++] = f;
    } else {
        give(w, f.at);
        f.code->frames--;
    }
    if (w->depth > 0 && w->stack[w->depth - 1].code == NULL) {
        give(w, w->stack[--w->depth].at);
        set_innermost(w);
    }
}

/* The innermost function returns and is freed; what is called next may have its pages. */
static void replace(struct world *w) {
    struct code *c = w->stack[w->depth - 1].code;
    if (c->frames > 1 || w->stack[w->depth - 1].generator)
        return;
    leave(w);
    drop_code(w, c);
    call(w, false);
}

static void step(struct world *w) {
    uint32_t what = below(w, 100);
    if (w->way == BY_EITHER && below(w, 50) == 0)
        lose_slot_or_begin_again(w);
    if (w->depth > 60 && below(w, 2) == 0) /* or most walks would be cut */
        leave(w);
    else if (what < 38)
        call(w, what < 6);
    else if (what < 42)
        resume(w);
    else if (what < 75 && w->depth > 0)
        leave(w);
    else if (what < 82 && w->depth > 0)
        replace(w);
    else if (what < 92 && w->depth > 0)
        set_unit(w, &w->stack[w->depth - 1], below(w, UNITS));
    else if (what < 98) {
        struct code *c = &w->code[below(w, CODES)];
        if (c->at != 0 && c->frames == 0)
            drop_code(w, c);
    } else {
        for (uint32_t left = below(w, 20) == 0 ? 600 : below(w, 40); left > 0; left--)
            call(w, false);
        for (uint32_t left = what == 99 ? w->depth : 0; left > 0 && w->depth > 0; left--)
            leave(w);
    }
}

/* Is a row the frame of the fake interpreter? */
static void check_row(struct world *w, const struct mp_py_row *row, const struct mp_py_row *outer,
                      uint32_t at) {
    const struct frame *f = &w->stack[at];
    CHECK_EQ(row->frame, f->at);
    CHECK_EQ(row->shim, f->code == NULL);
    if (row->frame != f->at || f->code == NULL || row->shim)
        return;
    CHECK_EQ(row->code, f->code->at);
    CHECK_EQ(mp_py_frame_unit(w->l, row), f->unit);
    bool entry = w->l->entry == MP_PY_ENTRY_SHIM   ? at > 0 && w->stack[at - 1].code == NULL
                 : w->l->entry == MP_PY_ENTRY_FLAG ? f->entry
                                                   : true;
    if (outer != NULL || at == 0) /* a walk that was cut does not know its last caller */
        CHECK_EQ(mp_py_frame_is_entry(w->l, row, outer), entry);
}

static uint32_t number_of(const struct world *w, uint32_t at) {
    return w->stack[at].code == NULL ? 0 : w->stack[at].code->number;
}

static void check_whole(struct world *w) {
    struct mp_py_memo *none = &w->memo;
    uint32_t depth = none->depth, rows = MIN(w->depth, (uint32_t)MP_PY_DEPTH_MAX);
    none->depth = 0;
    mp_py_frames_walk(none, w->state, &w->whole);
    none->depth = depth;
    CHECK_EQ(w->whole.kept, 0);
    CHECK_EQ(w->whole.fresh, rows);
    CHECK_EQ(w->whole.end, w->depth > MP_PY_DEPTH_MAX ? MP_PY_CUT : MP_PY_OUTERMOST);
    for (uint32_t i = 0; i < MIN(w->whole.fresh, rows); i++)
        check_row(w, &w->whole.row[i], i + 1 < rows ? &w->whole.row[i + 1] : NULL,
                  w->depth - 1 - i);
}

/* Where the flag says whose a frame is, it is no part of what the frame runs. */
static bool same_row(const struct world *w, const struct mp_py_row *a, const struct mp_py_row *b) {
    bool same_flag = w->l->entry != MP_PY_ENTRY_FLAG || a->flag == b->flag;
    return a->frame == b->frame && a->shim == b->shim &&
           (a->shim || (a->code == b->code && a->place == b->place && same_flag));
}

/* What core/pystacks.c does with the rows. */
static void update(struct world *w) {
    bool fits = w->walk.kept + w->walk.fresh <= MP_PY_DEPTH_MAX && w->walk.end == MP_PY_OUTERMOST;
    uint32_t to = w->walk.kept;
    for (uint32_t i = w->walk.fresh; fits && i > 0; i--, to++) {
        w->memo.row[to] = w->walk.row[i - 1];
        w->memo.id[to] = w->walk.id[i - 1];
        w->memo.row[to].node = number_of(w, to);
    }
    if (w->walk.fresh > 0)
        w->memo.depth = fits ? to : 0;
}

static void check_walk(struct world *w) {
    uint64_t ends = mp_py_deaths_all(&w->dealloc);
    w->unasked += ends != 0 && ends == w->memo.deaths && w->memo.depth > 0;
    mp_py_frames_walk(&w->memo, w->state, &w->walk);
    check_whole(w);
    const struct mp_py_walk *walk = &w->walk, *whole = &w->whole;
    if (walk->end == MP_PY_OUTERMOST)
        CHECK_EQ(walk->kept + walk->fresh, w->depth);
    else
        CHECK(walk->end == MP_PY_CUT && walk->kept == 0 && walk->fresh == MP_PY_DEPTH_MAX);
    for (uint32_t i = 0; i < walk->fresh && i < whole->fresh; i++)
        CHECK(same_row(w, &walk->row[i], &whole->row[i]));
    for (uint32_t i = 0; i < walk->kept && i < w->depth; i++) {
        uint32_t inner = w->depth - 1 - i;
        CHECK(inner >= whole->fresh || same_row(w, &w->memo.row[i], &whole->row[inner]));
        CHECK_EQ(w->memo.row[i].node, number_of(w, i));
    }
    w->kept += walk->kept;
    w->fresh += walk->fresh;
    update(w);
}

static struct world *make_world(const struct mp_py_layout *l, uint64_t seed) {
    struct world *w = calloc(1, sizeof *w);
    w->l = l;
    w->way = way;
    w->rng = seed;
    if (way != BY_CONTENT)
        begin_counting(w);
    w->runtime = (struct mp_py_runtime){
        .layout = l, .code_type = 0x1000, .text_type = 0x2000, .bytes_type = 0x3000};
    w->runtime.dealloc = &w->dealloc;
    w->memo.whose = &w->runtime;
    w->pages = mmap(NULL, (size_t)PAGES * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(w->pages != MAP_FAILED);
    for (uint32_t i = 0; i < PAGES; i++)
        w->free[w->frees++] = (uint16_t)(PAGES - 1 - i);
    w->state = take(w);
    w->between = take(w);
    set_innermost(w);
    return w;
}

static void end_world(struct world *w) {
    if (w->way != BY_CONTENT)
        mp_py_deaths_end(&w->dealloc, 0);
    CHECK_EQ(munmap(w->pages, (size_t)PAGES * PAGE), 0);
    free(w);
}

static void *walk_at_random(void *layout) {
    struct world *w = make_world(layout, 77 + ((struct mp_py_layout *)layout)->number);
    for (unsigned i = 0; i < 4000; i++) {
        step(w);
        if (below(w, 3) > 0)
            check_walk(w);
    }
    CHECK(w->kept > 5000); /* the memo is of use */
    CHECK(way == BY_CONTENT ? w->unasked == 0 : w->unasked > 500);
    end_world(w);
    return NULL;
}

static void on_each(void *(*what)(void *)) {
    static const uint8_t known[][2] = {{9, 0},  {10, 0}, {11, 0}, {12, 0},
                                       {13, 0}, {13, 1}, {14, 0}, {14, 1}};
    enum { COUNT = sizeof known / sizeof *known };
    pthread_t threads[COUNT];
    for (unsigned i = 0; i < COUNT; i++) {
        const struct mp_py_layout *l = mp_py_layout_of(known[i][0], known[i][1]);
        CHECK(l != NULL);
        CHECK_EQ(pthread_create(&threads[i], NULL, what, (void *)l), 0);
        if (way !=
            BY_CONTENT) /* an end that another world counts would hide one that is not counted */
            pthread_join(threads[i], NULL);
    }
    for (unsigned i = 0; i < COUNT && way == BY_CONTENT; i++)
        pthread_join(threads[i], NULL);
}

/* With the memo and without it. */
static void expect_end(struct world *w, enum mp_py_end end, uint32_t fresh) {
    uint32_t depth = w->memo.depth;
    for (unsigned with = 0; with < 2; with++) {
        w->memo.depth = with ? depth : 0;
        mp_py_frames_walk(&w->memo, w->state, &w->walk);
        CHECK_EQ(w->walk.end, end);
        CHECK_EQ(w->walk.kept, 0);
        CHECK_EQ(w->walk.fresh, fresh);
    }
}

/* A stack of `depth` frames without shims that the memo knows. */
static void make_stack(struct world *w, uint32_t depth) {
    while (w->depth < depth) {
        uint32_t before = w->depth;
        call(w, false);
        if (w->depth == before + 2)
            leave(w);
    }
    check_walk(w);
    check_walk(w);
    CHECK_EQ(w->walk.kept, depth);
}

static void *break_chains(void *layout) {
    const struct mp_py_layout *l = layout;
    struct world *w = make_world(l, 5);
    make_stack(w, 9);
    uintptr_t third = w->stack[6].at, caller = w->stack[5].at;

    put(third + l->frame_caller, caller + 4);
    expect_end(w, MP_PY_BROKEN, 3);
    put(third + l->frame_caller, caller);

    struct code wrong = {0}; /* an object of another type in the place of the code */
    make_code(w, &wrong);
    put(wrong.at + l->type, w->runtime.text_type);
    put(third + l->frame_code, wrong.at);
    expect_end(w, MP_PY_BROKEN, 2);
    put(third + l->frame_code, 0);
    expect_end(w, MP_PY_BROKEN, 2);
    put(third + l->frame_code, w->stack[6].code->at);

    if (l->entry ==
        MP_PY_ENTRY_SHIM) { /* an owner that no version has, of other code than before */
        *(uint8_t *)(third + l->frame_flag) = 5;
        put(third + l->frame_code, (uintptr_t)w);
        expect_end(w, MP_PY_BROKEN, 2);
        set_owner(w, &w->stack[6]);
        put(third + l->frame_code, w->stack[6].code->at);
    }
    if (l->frame_in >= 0) {
        put(w->state + l->thread_frame, w->between + 1);
        expect_end(w, MP_PY_OUTERMOST, 0);
        put(w->state + l->thread_frame, 0);
        expect_end(w, MP_PY_OUTERMOST, 0);
    }
    put(l->frame_in >= 0 ? w->between + (uintptr_t)l->frame_in : w->state + l->thread_frame,
        third + 1);
    if (l->frame_in >= 0)
        put(w->state + l->thread_frame, w->between);
    expect_end(w, MP_PY_BROKEN, 0);
    set_innermost(w);

    put(w->stack[0].at + l->frame_caller, third); /* for ever round */
    expect_end(w, MP_PY_CUT, MP_PY_DEPTH_MAX);
    put(third + l->frame_caller, third);
    expect_end(w, MP_PY_CUT, MP_PY_DEPTH_MAX);
    end_world(w);
    return NULL;
}

static void *dive(void *layout) {
    const struct mp_py_layout *l = layout;
    struct world *w = make_world(l, 6);
    enum { FRAMES = 10000, BYTES = 128 };
    size_t bytes = (FRAMES * BYTES / PAGE + 1) * PAGE;
    char *frames = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(frames != MAP_FAILED);
    make_code(w, &w->code[0]);
    for (uintptr_t i = 0; i < FRAMES; i++) { /* the innermost has the lowest address */
        uintptr_t at = (uintptr_t)frames + i * BYTES;
        put(at + l->frame_code, w->code[0].at);
        put(at + l->frame_caller, i + 1 < FRAMES ? at + BYTES : 0);
    }
    w->stack[0].at = (uintptr_t)frames;
    w->depth = 1;
    set_innermost(w);
    /* What is behind those that fit is not read. */
    size_t read = (MP_PY_DEPTH_MAX * BYTES / PAGE) * PAGE;
    CHECK_EQ(mprotect(frames + read, bytes - read, PROT_NONE), 0);
    expect_end(w, MP_PY_CUT, MP_PY_DEPTH_MAX);
    CHECK_EQ(w->walk.row[MP_PY_DEPTH_MAX - 1].frame,
             (uintptr_t)frames + (MP_PY_DEPTH_MAX - 1) * BYTES);
    munmap(frames, bytes);
    end_world(w);
    return NULL;
}

/* A text of characters of `width` bytes each on a page of its own; its last character ends the page. */
static void make_text(struct world *w, uintptr_t *object, const uint32_t *text, uint32_t count,
                      unsigned width, bool ascii) {
    const struct mp_py_layout *l = w->l;
    uintptr_t begin = ascii ? l->text_ascii : l->text_wide;
    uintptr_t at = (take(w) + PAGE - begin - count * width) & ~(uintptr_t)7;
    put(at + l->type, w->runtime.text_type);
    put(at + l->text_length, count);
    put_32(at + l->text_state, (width | 1u << 3 | (uint32_t)ascii << 4) << l->state_kind);
    for (uint32_t i = 0; i < count; i++)
        memcpy((void *)(at + begin + i * width), &text[i], width);
    *object = at;
}

static void expect_name(struct world *w, const uint32_t *text, uint32_t count, unsigned width,
                        bool ascii, const char *name, size_t bytes) {
    uintptr_t words[MP_PY_CODE_WORDS], object;
    struct code *c = &w->code[0];
    make_text(w, &object, text, count, width, ascii);
    put(c->at + w->l->code_name, object);
    put(c->at + w->l->code_file, object);
    if (w->l->code_qualname != 0)
        put(c->at + w->l->code_qualname, 0);
    CHECK(mp_py_code_record(&w->runtime, c->at, words) <= MP_PY_CODE_WORDS);
    const struct mp_python_code *record = (const struct mp_python_code *)words;
    CHECK_EQ(record->name_bytes, bytes);
    CHECK_EQ(record->qualname_bytes, 0);
    CHECK(memcmp(record + 1, name, MIN(bytes, (size_t)record->name_bytes)) == 0);
    give(w, object & ~(uintptr_t)(PAGE - 1));
}

static void *write_names(void *layout) {
    struct world *w = make_world(layout, 7);
    make_code(w, &w->code[0]);
    expect_name(w, (const uint32_t[]){'a', '_', 'b'}, 3, 1, true, "a_b", 3);
    expect_name(w, (const uint32_t[]){0xfc, 'x'}, 2, 1, false, "\xc3\xbcx", 3);
    expect_name(w, (const uint32_t[]){0xd800, 0x20ac}, 2, 2, false, "\xed\xa0\x80\xe2\x82\xac", 6);
    expect_name(w, (const uint32_t[]){0x1f600, 'z'}, 2, 4, false, "\xf0\x9f\x98\x80z", 5);
    static uint32_t many[900];
    static const char long_name[MP_PYTHON_NAME_BYTES] = {0};
    expect_name(w, many, 900, 1, true, long_name, MP_PYTHON_NAME_BYTES - 3);
    end_world(w);
    return NULL;
}

static bool may_copy(void) {
    return true;
}

int main(void) {
    mp_stack_init(may_copy);
    mp_modules_init(NULL);
    CASE("frames along a memo are those without it, and what has gone is never read");
    on_each(walk_at_random);
    CASE("the same where nothing but the count of ends tells code objects apart");
    way = BY_COUNT;
    on_each(walk_at_random);
    CASE("the same where counting begins and ends");
    way = BY_EITHER;
    on_each(walk_at_random);
    way = BY_CONTENT;
    CASE("a chain that makes no sense ends where it does not");
    on_each(break_chains);
    CASE("a chain that is too deep is cut");
    on_each(dive);
    CASE("names are UTF-8, cut at their bound, and nothing behind their characters is read");
    on_each(write_names);
    return check_end();
}
