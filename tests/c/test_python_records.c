/*
 * test_python_records.c - what the segment says about the frames of a fake interpreter, against a ledger.
 *
 * Each thread has an interpreter of its own for each layout: frames that come, go, move on and are used again, and
 * code objects that end and are made anew at one address, with their texts at the same addresses too. After
 * each few steps the sampler names the stack, from what it remembers; the records of that name must say what the
 * ledger says, frame by frame.
 */
#include "core/pystacks.h"
#include "core/stacks.h"
#include "device_segment.h"
#include "unwind/modules.h"
#include "unwind/stack_range.h"
#include "unwind/unwind_arch.h"

#include <pthread.h>

#define CODES 24
#define FRAMES 700
#define THREADS 3
#define ALONE NULL /* seed of the thread that is not beside others */
#define STEPS 1500
#define UNITS 40
#define NATIVE 1 /* for the id of a native stack: no record has it */
#define SHIM_CODE 0x10
#define OBJECT __attribute__((aligned(16)))

struct function {
    uint32_t serial, first_line, users;
    OBJECT unsigned char code[256];
    OBJECT unsigned char name[128];
    OBJECT unsigned char file[128];
    OBJECT unsigned char lines[128];
    OBJECT unsigned char copies[64];
};

struct entered {
    unsigned function; /* CODES: a shim */
    uint32_t unit;
    bool from_c;
};

struct world {
    const struct mp_py_layout *layout;
    struct function function[CODES];
    OBJECT unsigned char frame[FRAMES][128];
    struct entered ledger[FRAMES];
    unsigned depth;
    OBJECT unsigned char states[2][512]; /* of the thread, in two interpreters */
    unsigned char *state;
    OBJECT unsigned char between[64];
    uint32_t serial, version;
    uint64_t rng;
};

static unsigned char runtime_state[4096] __attribute__((aligned(8)));
static uintptr_t code_type[64], text_type[64], bytes_type[64];
static __thread struct world *mine;
static __thread uintptr_t bound_state; /* from 3.15 interpreters keep it in such a variable */

static void put(void *object, unsigned at, uint64_t value, unsigned bytes) {
    memcpy((unsigned char *)object + at, &value, bytes);
}

static void *state_of_thread(unsigned key) {
    CHECK_EQ(key, 7);
    return mine != NULL ? mine->state : NULL;
}

static unsigned draw(struct world *w, unsigned below) {
    return (unsigned)(mp_random(&w->rng) % below);
}

/* A compact text of ASCII. Its hash is known only where `hashed`. */
static void make_text(const struct mp_py_layout *l, unsigned char *object, const char *text,
                      bool hashed) {
    uint64_t hash = 5381;
    for (const char *c = text; *c != '\0'; c++)
        hash = hash * 33 + (unsigned char)*c;
    put(object, l->type, (uintptr_t)text_type, 8);
    put(object, l->text_length, strlen(text), 8);
    put(object, l->text_hash, hashed ? hash : UINT64_MAX, 8);
    put(object, l->text_state, (1u | 1u << 3 | 1u << 4) << l->state_kind, 4);
    memcpy(object + l->text_ascii, text, strlen(text) + 1);
}

static void make_lines(const struct mp_py_layout *l, unsigned char *object, uint32_t serial) {
    put(object, l->type, (uintptr_t)bytes_type, 8);
    put(object, l->size, 16, 8);
    for (unsigned i = 0; i < 4; i++)
        put(object, l->bytes_data + 4 * i, i == 1 ? serial : 0x01010101, 4);
}

static uintptr_t slot; /* tp_dealloc of code objects */
static struct mp_py_dealloc dealloc = {.slot = &slot};
static bool counted;

static void free_code(void *code) {
    (void)code;
}

/* Names and first lines are few, so that functions differ in little. */
static void make_function(struct world *w, struct function *f) {
    const struct mp_py_layout *l = w->layout;
    char name[16], file[32];
    if (f->serial != 0)
        ((void (*)(void *))mp_load_relaxed(&slot))(f->code);
    f->serial = w->serial++;
    f->first_line = 1 + draw(w, 2);
    snprintf(name, sizeof name, "f%u", draw(w, 2));
    snprintf(file, sizeof file, "/made/%08u.py", f->serial);
    make_text(l, f->name, name, true);
    make_text(l, f->file, file, l->minor >= 13);
    make_lines(l, f->lines, f->serial);
    put(f->code, l->type, (uintptr_t)code_type, 8);
    put(f->code, l->size, UNITS, 8);
    put(f->code, l->code_name, (uintptr_t)f->name, 8);
    put(f->code, l->code_file, (uintptr_t)f->file, 8);
    put(f->code, l->code_lines, (uintptr_t)f->lines, 8);
    put(f->code, l->code_first_line, f->first_line, 4);
    if (l->code_qualname != 0)
        put(f->code, l->code_qualname, (uintptr_t)f->name, 8);
    if (l->code_version != 0)
        put(f->code, l->code_version, ++w->version, 4);
    if (l->code_copies != 0) {
        uintptr_t own = (uintptr_t)f->code + l->code_units;
        put(f->code, l->code_copies, (uintptr_t)f->copies, 8);
        put(f->copies, 0, 2, 8);
        put(f->copies, 8, own, 8);
        put(f->copies, 16, own + 0x10000, 8); /* a thread's own copy of the instructions */
    }
}

/* The frame at `depth` as its ledger has it. */
static void write_frame(struct world *w, unsigned depth) {
    const struct mp_py_layout *l = w->layout;
    const struct entered *e = &w->ledger[depth];
    unsigned char *frame = w->frame[depth];
    bool shim = e->function == CODES;
    uintptr_t code = shim ? SHIM_CODE : (uintptr_t)w->function[e->function].code;
    uintptr_t place = code + l->code_units + 2 * e->unit;
    if (l->code_copies != 0) {
        put(frame, l->frame_copy, depth & 1, 4);
        place += (depth & 1) * 0x10000;
    }
    put(frame, l->frame_caller, depth == 0 ? 0 : (uintptr_t)w->frame[depth - 1], 8);
    put(frame, l->frame_code, code | (l->minor >= 14 ? 1 : 0), 8);
    if (l->entry == MP_PY_ENTRY_ALWAYS)
        put(frame, l->frame_place, l->minor <= 9 ? 2 * e->unit : e->unit, 4);
    else
        put(frame, l->frame_place, place, 8);
    if (l->entry == MP_PY_ENTRY_FLAG)
        put(frame, l->frame_flag, e->from_c, 1);
    if (l->entry == MP_PY_ENTRY_SHIM)
        put(frame, l->frame_flag, shim ? 3 : depth % 3, 1);
}

static void link_innermost(struct world *w) {
    uintptr_t innermost = w->depth == 0 ? 0 : (uintptr_t)w->frame[w->depth - 1];
    if (w->layout->frame_in < 0) {
        put(w->state, w->layout->thread_frame, innermost, 8);
        return;
    }
    put(w->between, (unsigned)w->layout->frame_in, innermost, 8);
    put(w->state, w->layout->thread_frame, (uintptr_t)w->between, 8);
}

static void enter(struct world *w, struct entered e) {
    if (e.function < CODES)
        w->function[e.function].users++;
    w->ledger[w->depth] = e;
    write_frame(w, w->depth++);
}

static void call(struct world *w) {
    bool from_c = w->depth == 0 || draw(w, 4) == 0 || w->layout->entry == MP_PY_ENTRY_ALWAYS;
    if (w->layout->entry == MP_PY_ENTRY_SHIM && from_c)
        enter(w, (struct entered){.function = CODES});
    enter(w, (struct entered){draw(w, CODES), draw(w, UNITS), from_c});
}

static void leave(struct world *w, unsigned to) {
    while (w->depth > to) {
        unsigned function = w->ledger[--w->depth].function;
        if (function < CODES)
            w->function[function].users--;
    }
    if (w->depth > 0 && w->ledger[w->depth - 1].function == CODES)
        w->depth--; /* a shim goes with the frame that it entered */
}

static void make_one_anew(struct world *w) {
    struct function *f = &w->function[draw(w, CODES)];
    if (f->users == 0)
        make_function(w, f);
}

/* Nothing is left, versions are given again from the first. */
static void forget_all(struct world *w) {
    leave(w, 0);
    w->version = 0;
    for (unsigned i = 0; i < CODES; i++)
        make_function(w, &w->function[i]);
}

/* Finalized and begun again. */
static void begin_again(struct world *w) {
    mp_py_begins();
    forget_all(w);
}

/* A new interpreter, for which the thread has a state of its own or the one that it had. */
static void enter_interpreter(struct world *w, bool again) {
    if (again)
        w->state = w->states[w->state == w->states[0]];
    else
        mp_add_relaxed((uint64_t *)(runtime_state + w->layout->interpreters) + 2, 1);
    bound_state = (uintptr_t)w->state;
    forget_all(w);
}

static void step(struct world *w) {
    unsigned way = draw(w, 100);
    if (way < 45 && w->depth < 60)
        call(w);
    else if (way < 60)
        leave(w, w->depth - w->depth * draw(w, 2) / (1 + draw(w, 9)));
    else if (way < 75 && w->depth > 0) {
        unsigned at = draw(w, 3) ? w->depth - 1 : draw(w, w->depth);
        w->ledger[at].unit = draw(w, UNITS);
        write_frame(w, at);
    } else if (way < 97)
        make_one_anew(w);
    else if (way == 97)
        begin_again(w);
    else
        enter_interpreter(w, way == 98);
    link_innermost(w);
}

static const void *record_at(uint32_t id, enum mp_stack_kind kind) {
    const struct mp_stack *stack = mp_check_stack_at(&mp_local.segment, (uint64_t)id * 8);
    CHECK_EQ(stack->kind, kind);
    return stack + 1;
}

static void check_code(const struct function *f, uint32_t id) {
    const struct mp_python_code *code = record_at(id, MP_STACK_PYTHON_CODE);
    const unsigned char *text = (const unsigned char *)(code + 1);
    char file[32];
    CHECK_EQ(code->first_line, f->first_line);
    text += (code->name_bytes + 7u) / 8 * 8 + (code->qualname_bytes + 7u) / 8 * 8;
    snprintf(file, sizeof file, "/made/%08u.py", f->serial);
    CHECK(code->file_bytes == strlen(file) && memcmp(text, file, code->file_bytes) == 0);
    uint32_t serial = 0;
    CHECK_EQ(code->lines_bytes, 16);
    memcpy(&serial, text + (code->file_bytes + 7u) / 8 * 8 + 4, 4);
    CHECK_EQ(serial, f->serial);
}

/* Does the record of the innermost frame, with those of its callers, say what the ledger says? */
static void check_stack(const struct world *w, uint32_t id) {
    unsigned seen = 0;
    for (unsigned at = w->depth; at > 0 && seen < MP_PY_DEPTH_MAX; at--) {
        const struct entered *e = &w->ledger[at - 1];
        if (e->function == CODES)
            continue;
        CHECK(id != 0);
        if (id == 0)
            return;
        const struct mp_python_frame *frame = record_at(id, MP_STACK_PYTHON_FRAME);
        CHECK_EQ(frame->unit, e->unit);
        CHECK_EQ(frame->entry, e->from_c);
        check_code(&w->function[e->function], frame->code);
        id = frame->caller;
        seen++;
    }
    CHECK(id == 0 || w->depth > MP_PY_DEPTH_MAX);
}

static uint32_t name_stack(uint64_t *lost) {
    struct mp_guard guard;
    CHECK(mp_guard_enter(&guard));
    uint32_t id = mp_pystack_pair(&mp_local.segment, NATIVE, &guard, lost);
    mp_guard_leave(&guard);
    return id;
}

static uint32_t innermost_of(uint32_t pair) {
    if (pair == NATIVE)
        return 0;
    const uintptr_t *native = record_at(pair, MP_STACK_PAIR);
    CHECK_EQ(native[0], NATIVE);
    return mp_check_stack_at(&mp_local.segment, (uint64_t)pair * 8)->interpreter;
}

static struct world *open_world(const struct mp_py_layout *layout, uint64_t seed) {
    struct world *w = aligned_alloc(16, sizeof *w);
    memset(w, 0, sizeof *w);
    w->layout = layout;
    w->rng = seed;
    w->serial = 1 + (uint32_t)seed * 1000000;
    for (unsigned i = 0; i < 2; i++) {
        w->state = w->states[i];
        put(w->state, layout->thread_id, mp_arch_thread_pointer(), 8);
    }
    begin_again(w);
    link_innermost(w);
    bound_state = (uintptr_t)w->state;
    return w;
}

static void close_world(struct world *w) {
    bound_state = 0;
    free(w);
}

static void *walk_randomly(void *seed) {
    uint64_t lost[MP_LOST_CAUSES] = {0};
    mine = open_world(mp_py_runtimes[0].layout, (uintptr_t)seed + 1);
    for (unsigned i = 0; i < STEPS; i++) {
        step(mine);
        if (draw(mine, 3) == 0)
            continue;
        uint64_t before = lost[MP_LOST_PYTHON];
        uint32_t id = name_stack(lost);
        if (lost[MP_LOST_PYTHON] == before)
            check_stack(mine, innermost_of(id));
        else
            CHECK_EQ(id, NATIVE); /* another thread was making room */
    }
    if (seed == ALONE)
        CHECK_EQ(lost[MP_LOST_PYTHON], 0);
    close_world(mine);
    mine = NULL;
    return NULL;
}

static uintptr_t getspecific_slot, finalizing;

static void begin(unsigned minor, bool free_threaded) {
    const struct mp_py_layout *layout = mp_py_layout_of(minor, free_threaded);
    CHECK(layout != NULL);
    memset(runtime_state, 0, sizeof runtime_state);
    if (layout->thread_key != 0) {
        put(runtime_state, layout->thread_key, 1, 4);
        put(runtime_state, layout->thread_key + 4, 7, 4);
    }
    for (unsigned i = 0; i < 2; i++) /* the newest interpreter and the main one */
        put(runtime_state, layout->interpreters + 8 * i, (uintptr_t)runtime_state, 8);
    struct mp_py_tls state = {.kind = MP_PY_TLS_FIXED,
                              .offset =
                                  (int64_t)((uintptr_t)&bound_state - mp_arch_thread_pointer())};
    getspecific_slot = (uintptr_t)state_of_thread;
    mp_py_runtimes[0] = (struct mp_py_runtime){.ready = 2,
                                               .state = (uintptr_t)runtime_state,
                                               .code_type = (uintptr_t)code_type,
                                               .text_type = (uintptr_t)text_type,
                                               .bytes_type = (uintptr_t)bytes_type,
                                               .getspecific = &getspecific_slot,
                                               .finalizing = &finalizing,
                                               .dealloc = &dealloc,
                                               .layout = layout,
                                               .bound = state,
                                               .attached = state};
    struct mp_module self;
    CHECK(mp_module_find((uintptr_t)free_code, &self));
    slot = (uintptr_t)free_code;
    if (counted)
        mp_py_deaths_begin(&dealloc, 0, self.start);
    CHECK_EQ(mp_py_deaths_all(&dealloc) != 0, counted);
    mp_py_init(state_of_thread);
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    mp_local.epoch++;
}

static void test_random_stacks(void) {
    CASE("one thread");
    if (CHECK_ONE_THREAD)
        walk_randomly(ALONE);
    CASE("threads beside each other");
    pthread_t thread[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK_EQ(pthread_create(&thread[i], NULL, walk_randomly, (void *)(i + 1)), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
}

/* The same frame, code object, version and instruction, in one interpreter after another. */
static void test_interpreters(void) {
    uint64_t lost[MP_LOST_CAUSES] = {0};
    mine = open_world(mp_py_runtimes[0].layout, 97);
    for (unsigned i = 0; i < 6; i++) {
        CASE(i < 3 ? "interpreters that follow each other" : "interpreters beside each other");
        if (mine->layout->entry == MP_PY_ENTRY_SHIM)
            enter(mine, (struct entered){.function = CODES});
        enter(mine, (struct entered){0, 3, true});
        link_innermost(mine);
        check_stack(mine, innermost_of(name_stack(lost)));
        check_stack(mine, innermost_of(name_stack(lost)));
        enter_interpreter(mine, i >= 3);
    }
    CHECK_EQ(lost[MP_LOST_PYTHON], 0);
    close_world(mine);
    mine = NULL;
}

#define TABLE_BYTES 40001u
#define PIECE_BYTES ((MP_DEPTH_MAX - 1) * 8u)

static void test_large_lines(void) {
    static OBJECT unsigned char table[128 + TABLE_BYTES];
    uint64_t lost[MP_LOST_CAUSES] = {0};
    CASE("a large table of lines is stored whole, piece by piece");
    mine = open_world(mp_py_runtimes[0].layout, 95);
    const struct mp_py_layout *l = mine->layout;
    unsigned char *data = table + l->bytes_data;
    put(table, l->type, (uintptr_t)bytes_type, 8);
    put(table, l->size, TABLE_BYTES, 8);
    for (uint32_t i = 0; i < TABLE_BYTES; i++)
        data[i] = (unsigned char)mp_mix(i + 1);
    put(mine->function[0].code, l->code_lines, (uintptr_t)table, 8);
    enter(mine, (struct entered){0, 3, true});
    link_innermost(mine);
    const struct mp_python_frame *frame =
        record_at(innermost_of(name_stack(lost)), MP_STACK_PYTHON_FRAME);
    const struct mp_python_code *code = record_at(frame->code, MP_STACK_PYTHON_CODE);
    CHECK_EQ(code->lines_bytes, TABLE_BYTES);
    uint32_t at = TABLE_BYTES / PIECE_BYTES * PIECE_BYTES, bytes = TABLE_BYTES - at;
    const uint64_t *last = record_at(code->lines_record, MP_STACK_PYTHON_LINES);
    CHECK(memcmp(last + 1, data + at, bytes) == 0);
    const uint64_t *first = record_at((uint32_t)last[0], MP_STACK_PYTHON_LINES);
    CHECK(first[0] == 0 && memcmp(first + 1, data, PIECE_BYTES) == 0);
    close_world(mine);
    mine = NULL;
}

#define ARRAY_BYTES 4096
#define REPLACEMENTS 5000

/* A new array of copies of the code, whose second is that of the thread. */
static uintptr_t *new_array(uintptr_t own, uintptr_t second) {
    uintptr_t *array =
        mmap(NULL, ARRAY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    array[0] = 2;
    array[1] = own;
    array[2] = second;
    return array;
}

struct grower {
    uintptr_t *of_code, own, second;
    uint32_t replaced;
};

/* As threads do that get a copy of their own: a new array, and the old one is gone. */
static void *grow(void *arg) {
    struct grower *g = arg;
    for (unsigned i = 0; i < REPLACEMENTS; i++) {
        uintptr_t *old = (uintptr_t *)*g->of_code;
        mp_store_release(g->of_code, (uintptr_t)new_array(g->own, g->second));
        munmap(old, ARRAY_BYTES);
        mp_add_relaxed(&g->replaced, 1);
    }
    return NULL;
}

static void test_copies(void) {
    const struct mp_py_layout *l = mp_py_runtimes[0].layout;
    if (l->code_copies == 0)
        return;
    CASE("copies of code whose array another thread replaces");
    mine = open_world(l, 96);
    unsigned char *code = mine->function[0].code, *frame = mine->frame[0];
    struct grower g = {.of_code = (uintptr_t *)(code + l->code_copies),
                       .own = (uintptr_t)code + l->code_units,
                       .second = (uintptr_t)code + 0x10000};
    *g.of_code = (uintptr_t)new_array(g.own, g.second);
    put(frame, l->frame_copy, 1, 4);
    struct mp_py_row row = {
        .frame = (uintptr_t)frame, .code = (uintptr_t)code, .place = g.second + 6};
    unsigned others = 0;
    pthread_t thread;
    CHECK_EQ(mp_py_frame_unit(l, &row), 3);
    CHECK_EQ(pthread_create(&thread, NULL, grow, &g), 0);
    while (mp_load_relaxed(&g.replaced) < REPLACEMENTS) {
        uint32_t unit = mp_py_frame_unit(l, &row);
        others += unit != 3 && unit != MP_PY_UNIT_UNKNOWN;
    }
    pthread_join(thread, NULL);
    CHECK_EQ(others, 0);
    CHECK_EQ(mp_py_frame_unit(l, &row), 3);
    CASE("no copy of that number, and the code itself");
    put(frame, l->frame_copy, 2, 4);
    CHECK_EQ(mp_py_frame_unit(l, &row), MP_PY_UNIT_UNKNOWN);
    row.place = g.own + 8;
    CHECK_EQ(mp_py_frame_unit(l, &row), 4);
    munmap((void *)*g.of_code, ARRAY_BYTES);
    close_world(mine);
    mine = NULL;
}

static void test_depth(void) {
    uint64_t lost[MP_LOST_CAUSES] = {0};
    CASE("a stack of more frames than fit is cut and counted");
    mine = open_world(mp_py_runtimes[0].layout, 99);
    while (mine->depth < FRAMES)
        enter(mine, (struct entered){mine->depth % CODES, mine->depth % UNITS, false});
    link_innermost(mine);
    unsigned frames = 0;
    for (uint32_t id = innermost_of(name_stack(lost)); id != 0; frames++)
        id = ((const struct mp_python_frame *)record_at(id, MP_STACK_PYTHON_FRAME))->caller;
    CHECK_EQ(frames, MP_PY_DEPTH_MAX);
    CHECK_EQ(lost[MP_LOST_PYTHON], 1);
    CASE("a frame that makes no sense ends the stack and is counted");
    mine->depth = 40;
    link_innermost(mine);
    put(mine->function[20].code, mine->layout->type, 0x123, 8);
    name_stack(lost);
    CHECK_EQ(lost[MP_LOST_PYTHON], 2);
    put(mine->frame[38], mine->layout->frame_caller, 0x1235, 8);
    name_stack(lost);
    CHECK_EQ(lost[MP_LOST_PYTHON], 3);
    close_world(mine);
    mine = NULL;
}

static void test_foreign(void) {
    uint64_t lost[MP_LOST_CAUSES] = {0};
    CASE("the state of another thread is nobody's");
    mine = open_world(mp_py_runtimes[0].layout, 98);
    call(mine);
    link_innermost(mine);
    put(mine->state, mine->layout->thread_id, mp_arch_thread_pointer() + 64, 8);
    CHECK_EQ(name_stack(lost), NATIVE);
    put(mine->state, mine->layout->thread_id, mp_arch_thread_pointer(), 8);
    CHECK(name_stack(lost) != NATIVE);
    if (mp_py_runtimes[0].layout->thread_key != 0) {
        CASE("an interpreter that uses another C library is not asked with ours");
        getspecific_slot++;
        CHECK_EQ(name_stack(lost), NATIVE);
        getspecific_slot--;
    }
    CASE("while another thread ends the interpreter, frames are left alone");
    finalizing = (uintptr_t)mine->state + 8;
    CHECK_EQ(name_stack(lost), NATIVE);
    finalizing = (uintptr_t)mine->state;
    CHECK(name_stack(lost) != NATIVE);
    finalizing = 0;
    close_world(mine);
    mine = NULL;
    CHECK_EQ(name_stack(lost), NATIVE);
}

static bool may_copy(void) {
    return true;
}

static void test_layout(unsigned minor, bool free_threaded) {
    begin(minor, free_threaded);
    test_interpreters();
    test_large_lines();
    test_copies();
    test_random_stacks();
    test_depth();
    test_foreign();
    end_capture();
    mp_py_deaths_end(&dealloc, 0);
    munmap(mp_local.segment.base, LIMIT_BYTES);
    mp_local.segment = (struct mp_segment){0};
}

int main(void) {
    mp_stack_init(may_copy);
    mp_modules_init(NULL);
    for (unsigned i = 0; i < 2 * 2 * (MP_PY_NEWEST - 9 + 1); i++) {
        unsigned minor = 9 + i / 4;
        counted = i % 2;
        if (mp_py_layout_of(minor, i / 2 % 2) != NULL)
            test_layout(minor, i / 2 % 2);
    }
    return check_end();
}
