/*
 * A program of hostile names: hostile COMM THREAD. It takes them for itself and for a thread of its
 * own, which allocates; says "ok", and does so again for every line of its input.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#define BLOCKS 2000
#define BYTES 512

static const char *thread_name;
static void *blocks[BLOCKS];

static void *allocate(void *unused) {
    prctl(PR_SET_NAME, thread_name);
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
        blocks[i] = malloc(BYTES);
    }
    return unused;
}

int main(int argc, char **argv) {
    if (argc < 3)
        return 2;
    prctl(PR_SET_NAME, argv[1]);
    thread_name = argv[2];
    do {
        pthread_t thread;
        if (pthread_create(&thread, NULL, allocate, NULL) != 0 || pthread_join(thread, NULL) != 0)
            return 1;
        puts("ok");
        fflush(stdout);
    } while (getchar() != EOF);
    return 0;
}
