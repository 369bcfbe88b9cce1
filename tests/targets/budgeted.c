/*
 * budgeted.c - a target whose memory is known, for budgets.
 *
 * budgeted hold BYTES MS [abort]   holds BYTES in blocks of 100, for MS milliseconds; frees them, or aborts
 * budgeted serve MS RATE           serves for MS milliseconds with a cache and short-lived buffers, and
 *                                  leaks RATE bytes a minute in conn_open, 256 at a time
 */
#include "target.h"

#include <time.h>

enum { HELD = 100, LEAKED = 256, CACHED = 2048, CACHE = 2000, BUFFER = 4096 };

static void *cache[CACHE];

static double now_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void rest_ms(long ms) {
    struct timespec t = {ms / 1000, ms % 1000 * 1000000};
    nanosleep(&t, NULL);
}

__attribute__((noinline)) static void *parse_header(void) {
    return keep(malloc(HELD));
}

__attribute__((noinline)) static void **load_index(long count) {
    void **blocks = malloc((size_t)count * sizeof *blocks);
    EXPECT(blocks != NULL);
    for (long i = 0; i < count; i++)
        blocks[i] = parse_header();
    return blocks;
}

static void hold(long bytes, long ms, bool abort_at_end) {
    long count = bytes / (HELD + (long)sizeof(void *));
    void **blocks = load_index(count);
    rest_ms(ms);
    if (abort_at_end)
        abort();
    for (long i = 0; i < count; i++)
        free(blocks[i]);
    free(blocks);
}

__attribute__((noinline)) static void conn_open(void) {
    keep(malloc(LEAKED)); /* the leak */
}

__attribute__((noinline)) static void fill_cache(void) {
    for (int i = 0; i < CACHE; i++)
        cache[i] = keep(malloc(CACHED));
}

__attribute__((noinline)) static void answer_request(void) {
    free(keep(malloc(BUFFER)));
}

static void serve(long ms, double per_minute) {
    double begin = now_ms(), leaked = 0;
    fill_cache();
    for (double gone = 0; gone < (double)ms; gone = now_ms() - begin) {
        for (int i = 0; i < 100; i++)
            answer_request();
        for (; leaked + LEAKED <= per_minute * gone / 60e3; leaked += LEAKED)
            conn_open();
        rest_ms(2);
    }
}

int main(int argc, char **argv) {
    EXPECT(argc >= 4);
    if (strcmp(argv[1], "hold") == 0)
        hold(atol(argv[2]), atol(argv[3]), argc > 4);
    else
        serve(atol(argv[2]), atof(argv[3]));
    return 0;
}
