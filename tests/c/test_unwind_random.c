/*
 * Random walks through a call tree on several threads, with a comparison at each node, while rules are
 * forgotten now and then: whatever the caches remember, the stack must be that of libgcc.
 */
#include <alloca.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unwind.h>

#include "check.h"
#include "unwind/unwind.h"

#define NOINLINE __attribute__((noinline))
#define AFTER_CALL() __asm__ volatile("" ::: "memory")
#define THREADS 3
#define FRAMES 256

struct walker {
    uint64_t state;
    unsigned left;
    unsigned differences;
};

struct expected {
    uintptr_t from, pcs[FRAMES];
    unsigned depth;
};

static uint64_t draw(struct walker *w) {
    w->state ^= w->state << 13;
    w->state ^= w->state >> 7;
    w->state ^= w->state << 17;
    return w->state >> 8;
}

static _Unwind_Reason_Code trace(struct _Unwind_Context *context, void *data) {
    struct expected *e = data;
    uintptr_t pc = _Unwind_GetIP(context);
    if (e->from != 0 && pc != e->from)
        return _URC_NO_REASON;
    e->from = 0;
    if (pc != 0 && e->depth < FRAMES)
        e->pcs[e->depth++] = pc;
    return _URC_NO_REASON;
}

static NOINLINE void compare(struct walker *w) {
    struct mp_frame frame;
    struct mp_unwind_result result;
    uintptr_t pcs[FRAMES];
    MP_CALLER(frame);
    struct expected expected = {.from = frame.pc};
    if (draw(w) % 512 == 0)
        mp_unwind_flush();
    _Unwind_Backtrace(trace, &expected);
    unsigned depth = mp_unwind(&frame, pcs, FRAMES, &result);
    bool same = depth == expected.depth && result.end == MP_UNWIND_OUTERMOST;
    for (unsigned i = 0; same && i < depth; i++)
        same = pcs[i] == expected.pcs[i];
    if (!same && w->differences++ == 0) {
        fprintf(stderr, "%u frames, %u expected, end %u\n", depth, expected.depth, result.end);
        for (unsigned i = 0; i < depth || i < expected.depth; i++) {
            fprintf(stderr, "    %2u %#lx %#lx\n", i, (unsigned long)pcs[i],
                    (unsigned long)expected.pcs[i]);
        }
    }
    AFTER_CALL();
}

static void node(struct walker *w, unsigned depth);

static NOINLINE void small(struct walker *w, unsigned depth) {
    node(w, depth);
    AFTER_CALL();
}

static NOINLINE void large(struct walker *w, unsigned depth) {
    volatile char local[1000];
    local[0] = 1;
    node(w, depth);
    CHECK(local[0] == 1);
}

static NOINLINE void variable(struct walker *w, unsigned depth) {
    volatile char *local = alloca(1 + draw(w) % 200);
    local[0] = 1;
    node(w, depth);
    CHECK(local[0] == 1);
}

static NOINLINE void realigned(struct walker *w, unsigned depth) {
    volatile char local[64] __attribute__((aligned(64)));
    local[0] = 1;
    node(w, depth);
    CHECK(local[0] == 1);
}

static NOINLINE unsigned long busy(struct walker *w, unsigned depth, unsigned long a,
                                   unsigned long b) {
    unsigned long c = draw(w), d = c * a, e = d ^ b, f = e + c;
    node(w, depth);
    compare(w);
    return a + b + c + d + e + f;
}

static NOINLINE int by_nothing(const void *a, const void *b, void *walker) {
    (void)a;
    (void)b;
    node(walker, 0);
    return 0;
}

static NOINLINE void sorting(struct walker *w, unsigned depth) {
    int two[2] = {1, 2};
    (void)depth;
    qsort_r(two, 2, sizeof(two[0]), by_nothing, w);
    AFTER_CALL();
}

static NOINLINE void node(struct walker *w, unsigned depth) {
    compare(w);
    if (w->left > 0)
        w->left--;
    while (depth > 0 && w->left > 0 && draw(w) % 8 != 0) {
        switch (draw(w) % 6) {
        case 0:
            small(w, depth - 1);
            break;
        case 1:
            large(w, depth - 1);
            break;
        case 2:
            variable(w, depth - 1);
            break;
        case 3:
            realigned(w, depth - 1);
            break;
        case 4:
            busy(w, depth - 1, depth, w->left);
            break;
        default:
            sorting(w, depth - 1);
        }
    }
    AFTER_CALL();
}

static void *thread(void *argument) {
    struct walker *w = argument;
    while (w->left > 0)
        node(w, 24);
    return NULL;
}

static void *find_symbol(const char *name) {
    return dlsym(RTLD_DEFAULT, name);
}

int main(int argc, char **argv) {
    struct mp_unwind_config config = {.mode = MP_UNWIND_CFI, .find_symbol = find_symbol};
    unsigned nodes = argc > 1 ? (unsigned)atoi(argv[1]) : 3000;
    struct walker walkers[THREADS];
    pthread_t ids[THREADS];
    CASE("random stacks");
    CHECK(mp_unwind_init(&config) == 0);
    for (unsigned i = 0; i < THREADS; i++) {
        walkers[i] = (struct walker){.state = 88172645463325252ULL + i, .left = nodes};
        pthread_create(&ids[i], NULL, thread, &walkers[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(ids[i], NULL);
        CHECK_EQ(walkers[i].differences, 0);
    }
    return check_end();
}
