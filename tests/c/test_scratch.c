/*
 * test_scratch.c - guards against re-entry, and buffers for new stacks: whose they are, when they are taken back, and how
 * much stack is left.
 */
#include "core/scratch.h"
#include "device_segment.h"
#include "unwind/stack_range.h"

#include <pthread.h>

#define NOINLINE __attribute__((noinline, noclone))
#define THREADS 8
#define NEED 2048

static void enter(struct mp_guard *guard) {
    mp_self.guard_sp = 0;
    CHECK(mp_guard_enter(guard));
}

static void free_all(void) {
    memset(mp_local.scratch, 0, sizeof mp_local.scratch);
}

/* What a frame below the caller's gets. */
static NOINLINE struct mp_scratch *take_below(void) {
    struct mp_guard guard;
    enter(&guard);
    struct mp_scratch *s = mp_scratch_take(&guard);
    mp_guard_leave(&guard);
    return s;
}

/* Claims every buffer from here and leaves the claims behind. */
static NOINLINE void leave_all_below(void) {
    struct mp_guard guards[MP_SCRATCHES];
    for (unsigned i = 0; i < MP_SCRATCHES; i++) {
        enter(&guards[i]);
        CHECK(mp_scratch_take(&guards[i]) != NULL);
        guards[i].mark = 0;
    }
}

static void test_guard(void) {
    CASE("re-entry is refused, a guard whose frame is gone is taken over");
    struct mp_guard outer, inner;
    struct mp_guard *deep = &inner < &outer ? &inner : &outer,
                    *shallow = &inner < &outer ? &outer : &inner;
    CHECK(mp_guard_enter(shallow));
    CHECK(!mp_guard_enter(deep));
    mp_guard_leave(shallow);
    CHECK(mp_guard_enter(deep)); /* as if longjmp had left it */
    CHECK(mp_guard_enter(shallow));
    mp_guard_leave(shallow);
    CHECK(mp_guard_enter(deep));
    deep->mark = 0; /* its memory was reused */
    struct mp_guard deeper;
    CHECK(mp_guard_enter(&deeper));
    mp_guard_leave(&deeper);
    CASE("a handler whose signal stack is above the interrupted one takes no guard from it");
    static struct mp_guard below;
    CHECK(&below < deep);
    CHECK(mp_guard_enter(&below));
    CHECK(!mp_guard_enter(deep));
    CHECK_EQ(mp_self.guard_sp, (uintptr_t)&below);
    mp_guard_leave(&below);
    CASE("a guard on a stack that is gone is not read, and given up after a while");
    mp_self.guard_sp = UINTPTR_MAX - 4095;
    unsigned refused = 0;
    while (!mp_guard_enter(deep) && refused < 1000)
        refused++;
    CHECK(refused > 0 && refused < 1000);
    mp_guard_leave(deep);
}

static void test_claims(void) {
    struct mp_guard guards[MP_SCRATCHES], *above = &guards[MP_SCRATCHES / 2];
    struct mp_scratch *taken[MP_SCRATCHES];
    CASE("a thread gets the same buffer each time");
    enter(&guards[0]);
    taken[0] = mp_scratch_take(&guards[0]);
    mp_scratch_give_back(taken[0]);
    CHECK(mp_scratch_take(&guards[0]) == taken[0]);
    CASE("frames that are only interrupted keep theirs, and one too many gets none");
    for (unsigned i = 1; i < MP_SCRATCHES; i++) {
        enter(&guards[i]);
        taken[i] = mp_scratch_take(&guards[i]);
        CHECK(taken[i] != NULL);
        for (unsigned j = 0; j < i; j++)
            CHECK(taken[i] != taken[j]);
    }
    CHECK(take_below() == NULL);
    CASE("a frame whose memory was reused loses its buffer");
    above->mark = 0;
    CHECK(take_below() == taken[MP_SCRATCHES / 2]);
    CASE("a guard that is entered again takes what it had left behind");
    CHECK(mp_scratch_take(&guards[3]) == taken[3]);
    free_all();
    CASE("what lies below is neither read nor taken");
    leave_all_below();
    enter(&guards[0]);
    CHECK(mp_scratch_take(&guards[0]) == NULL);
    free_all();
    mp_guard_leave(&guards[0]);
}

static void *fill_and_look(void *number) {
    for (unsigned i = 0; i < 20000; i++) {
        struct mp_guard guard;
        CHECK(mp_guard_enter(&guard));
        struct mp_scratch *s = mp_scratch_take(&guard);
        CHECK(s != NULL);
        s->frames[0] = s->frames[MP_DEPTH_DEFAULT] = (uintptr_t)number;
        __atomic_signal_fence(__ATOMIC_SEQ_CST);
        CHECK(s->frames[0] == (uintptr_t)number &&
              s->frames[MP_DEPTH_DEFAULT] == (uintptr_t)number);
        mp_scratch_give_back(s);
        mp_guard_leave(&guard);
    }
    return NULL;
}

static void test_threads(void) {
    CASE("no two threads have one buffer");
    pthread_t threads[THREADS];
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, fill_and_look, (void *)i);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < MP_SCRATCHES; i++)
        CHECK_EQ(mp_local.scratch[i].claim, 0);
}

static void test_no_buffer(void) {
    CASE("a new stack that gets no buffer is counted without its name");
    open_segment(LIMIT_BYTES);
    begin_capture(1, 1);
    uint32_t domain = mp_domain_intern("hal", 0, MP_MEMORY_DEVICE);
    for (unsigned i = 0; i < MP_SCRATCHES; i++)
        mp_local.scratch[i].claim = 8;
    alloc_block(domain, SPACE, 0x1000, 0, 10, 16);
    free_all();
    alloc_block(domain, SPACE, 0x2000, 0, 30, 32);
    const struct mp_segment *seg = &mp_local.segment;
    const uint64_t *keys = mp_level_keys(seg, &seg->layout.device_lost_sites);
    unsigned busy = 0;
    for (uint32_t row = 0; row < seg->layout.device_lost_sites.rows; row++)
        busy += (keys[row] & ((1u << MP_KEY_STACK_BITS) - 1)) == MP_STACK_LOST_BUSY;
    CHECK_EQ(busy, 1);
    CHECK_EQ(sums(domain, 1).alloc_bytes, 40);
    close_segment();
}

static uintptr_t lowest_of_stack(void) {
    pthread_attr_t attr;
    void *low;
    size_t bytes;
    CHECK_EQ(pthread_getattr_np(pthread_self(), &attr), 0);
    CHECK_EQ(pthread_attr_getstack(&attr, &low, &bytes), 0);
    pthread_attr_destroy(&attr);
    return (uintptr_t)low;
}

static void *check_room(void *expect_known) {
    uintptr_t low = lowest_of_stack();
    struct mp_stack_room room = {0};
    CHECK_EQ(mp_stack_is_short(low + NEED - 8, NEED, &room), expect_known != NULL);
    CHECK(!mp_stack_is_short(low + NEED, NEED, &room));
    CHECK(!mp_stack_is_short((uintptr_t)&low, NEED, &room));
    return NULL;
}

static bool allow(void) {
    return true;
}

static void test_room(void) {
    char known[] = "known";
    pthread_t thread;
    pthread_attr_t attr;
    mp_stack_init(allow);
    CASE("room is measured from the end of the main thread's stack, by its limit");
    check_room(known);
    CASE("and from the guard of a thread's");
    for (size_t guard_pages = 0; guard_pages < 4; guard_pages++) {
        pthread_attr_init(&attr);
        pthread_attr_setguardsize(&attr, guard_pages * 4096);
        CHECK_EQ(pthread_create(&thread, &attr, check_room, known), 0);
        pthread_join(thread, NULL);
    }
    CASE("a foreign stack is short where the page in question is not mapped");
    char *at = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct mp_stack_room room = {0};
    uintptr_t low = (uintptr_t)at + 4096;
    CHECK_EQ(mprotect(at, 4096, PROT_NONE), 0);
    CHECK(mp_stack_is_short(low + NEED - 8, NEED, &room));
    CHECK(!mp_stack_is_short(low + NEED, NEED, &room));
    CHECK_EQ(room.mapped_page, 0);
    CHECK(!mp_stack_is_short(low + 4096 + 8, NEED, &room));
    CHECK_EQ(room.mapped_page, low);
    CASE("where no system call may be made, it is never known to be");
    mp_stack_init(NULL);
    CHECK(!mp_stack_is_short(low + NEED - 8, NEED, &room));
    munmap(at, 3 * 4096);
}

int main(void) {
    start_unwinder(); /* it finds the stack: two guards are on one, whatever page each is in */
    test_guard();
    test_claims();
    test_threads();
    test_no_buffer();
    test_room();
    return check_end();
}
