/*
 * hostile_frame.c - a process that answers an attach with lies: a thread of it looks for the memory that an
 * attach maps and, from the moment in which the loader asks for the library, writes there what suits it.
 *
 * hostile_frame descriptor FILE   the loader's descriptor is one of FILE, opened with O_PATH
 * hostile_frame address           the place for the library is one that was never mapped
 * hostile_frame silence           the loader's stage never moves
 * It prints "ready" and lives until a line on stdin, or until one of its lies hits memory that is gone.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "inject/payload.h"

static const char *lie;
static int place = -1;

static struct mp_payload_frame *find_frame(void) {
    FILE *maps = fopen("/proc/self/maps", "r");
    struct mp_payload_frame *found = NULL;
    char line[512];
    while (found == NULL && fgets(line, sizeof line, maps) != NULL) {
        unsigned long start, end;
        char rights[8];
        if (sscanf(line, "%lx-%lx %7s", &start, &end, rights) == 3 &&
            end - start == MP_REGION_CODE && strcmp(rights, "rw-p") == 0)
            found = (struct mp_payload_frame *)start;
    }
    fclose(maps);
    return found;
}

static void *watch(void *unused) {
    for (;;) {
        struct mp_payload_frame *frame = find_frame();
        if (frame == NULL)
            continue;
        volatile struct mp_payload_frame *words = frame;
        while (words->stage < MP_LOADER_WANTS_LIBRARY && words->left == 0)
            ;
        for (unsigned i = 0; i < 2000000; i++)
            if (strcmp(lie, "descriptor") == 0)
                words->fd = place;
            else if (strcmp(lie, "address") == 0)
                words->library = 0x10000;
            else
                words->stage = MP_LOADER_WANTS_LIBRARY;
    }
    return unused;
}

int main(int argc, char **argv) {
    char line[64];
    pthread_t thread;
    lie = argc > 1 ? argv[1] : "silence";
    if (argc > 2)
        place = open(argv[2], O_PATH | O_CLOEXEC);
    if (pthread_create(&thread, NULL, watch, NULL) != 0)
        return 1;
    puts("ready");
    fflush(stdout);
    if (fgets(line, sizeof line, stdin) == NULL)
        return 2;
    return 0;
}
