/*
 * peaks.c - a target whose highest moment is short and known.
 *
 * peaks [wait]   builds a table and nodes, takes a buffer for an instant, and frees everything but a little;
 *                with `wait` it then says "down" and waits for a line
 *
 * At the peak: 8 MiB by `table`, 20,000 blocks of 100 to 149 bytes by `node`, 3 MiB by `spike`. Later `later`
 * holds 5,000 blocks of 64 bytes.
 */
#include "target.h"

enum { TABLE = 8 << 20, SPIKE = 3 << 20, NODES = 20000, LATER = 5000 };

static void *nodes[NODES], *held[LATER];

__attribute__((noinline)) static void *table(void) {
    return keep(malloc(TABLE));
}

__attribute__((noinline)) static void *node(int i) {
    return keep(malloc(100 + (size_t)(i % 50)));
}

__attribute__((noinline)) static void spike(void) {
    free(keep(malloc(SPIKE)));
}

__attribute__((noinline)) static void *later(void) {
    return keep(malloc(64));
}

int main(int argc, char **argv) {
    char line[16];
    void *rows = table();
    for (int i = 0; i < NODES; i++)
        nodes[i] = node(i);
    spike();
    free(rows);
    for (int i = 0; i < NODES; i++)
        free(nodes[i]);
    for (int i = 0; i < LATER; i++)
        held[i] = later();
    if (argc > 1 && strcmp(argv[1], "wait") == 0) {
        say("down");
        hear(line, sizeof line);
    }
    for (int i = 0; i < LATER; i++)
        free(held[i]);
    return 0;
}
