/*
 * asked.c - a target about which one can ask: who held what when, and who freed it.
 *
 * asked ROUNDS   marks the points "warm" and "loaded" by NVTX
 *
 * Before "warm": 4 MiB by `table`, kept. Between the marks: 100 blocks of 10,000 bytes by `row`, kept; ROUNDS blocks
 * of 512 bytes by `scratch`, each freed at once. Then 300 blocks of 1000 bytes by `message` of a thread, freed by
 * main; 16 MiB by `spike`, freed.
 */
#include "target.h"

#include <nvtx3/nvToolsExt.h>
#include <pthread.h>

enum { TABLE = 4 << 20, SPIKE = 16 << 20, ROWS = 100, ROW = 10000, MESSAGES = 300, MESSAGE = 1000 };

static void *rows[ROWS], *messages[MESSAGES], *kept;

__attribute__((noinline)) static void *table(void) {
    return keep(malloc(TABLE));
}

__attribute__((noinline)) static void *row(void) {
    return keep(malloc(ROW));
}

__attribute__((noinline)) static void scratch(void) {
    free(keep(malloc(512)));
}

__attribute__((noinline)) static void *message(void) {
    return keep(malloc(MESSAGE));
}

__attribute__((noinline)) static void spike(void) {
    free(keep(malloc(SPIKE)));
}

static void *sender(void *unused) {
    for (int i = 0; i < MESSAGES; i++)
        messages[i] = message();
    return unused;
}

int main(int argc, char **argv) {
    EXPECT(argc == 2);
    pthread_t thread;
    int rounds = atoi(argv[1]);
    kept = table();
    nvtxMarkA("warm");
    for (int i = 0; i < ROWS; i++)
        rows[i] = row();
    for (int i = 0; i < rounds; i++)
        scratch();
    nvtxMarkA("loaded");
    EXPECT(pthread_create(&thread, NULL, sender, NULL) == 0);
    pthread_join(thread, NULL);
    for (int i = 0; i < MESSAGES; i++)
        free(messages[i]);
    spike();
    return kept == NULL || rows[0] == NULL;
}
