/*
 * mapper.c - a program with a heap of its own: at a line of two numbers it maps as many mebibytes and touches them,
 * and takes as many from malloc. It answers "done".
 */
#include "target.h"

#include <sys/mman.h>

int main(void) {
    char line[64];
    say("ready");
    while (hear(line, sizeof line)) {
        size_t own = 0, ours = 0;
        if (sscanf(line, "%zu %zu", &own, &ours) != 2)
            return 2;
        void *map = mmap(NULL, own << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED)
            return 1;
        memset(map, 1, own << 20);
        memset(keep(malloc(ours << 20)), 1, ours << 20);
        say("done");
    }
    return 0;
}
