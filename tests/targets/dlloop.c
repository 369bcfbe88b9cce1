/*
 * dlloop.c - opens and closes libraries, allocating in each while it is open.
 *
 * dlloop loop N LIBRARY...     one after the other, N rounds; blocks are kept. Prints how many different
 *                              addresses the libraries were loaded at.
 * dlloop hunt N LIBRARY...     two threads open and close, two allocate, throwing nothing away in silence.
 */
#include "target.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>

static atomic_bool done;
static int rounds, libraries;
static char **paths;

static void *call(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    EXPECT(library != NULL);
    void *(*block)(void) = (void *(*)(void))dlsym(library, "plugin_block");
    EXPECT(block != NULL);
    keep(block());
    EXPECT(dlclose(library) == 0);
    return (void *)block;
}

static void loop(void) {
    void *places[64];
    int count = 0;
    for (int i = 0; i < rounds; i++) {
        for (int k = 0; k < libraries; k++) {
            void *place = call(paths[k]);
            int at = 0;
            while (at < count && places[at] != place)
                at++;
            if (at == count && count < 64)
                places[count++] = place;
        }
    }
    say("%d", count);
}

static void *open_and_close(void *first) {
    for (int i = 0; i < rounds; i++)
        call(paths[(i + (first != NULL)) % libraries]);
    return NULL;
}

static void *allocate_on(void *unused) {
    void *recent[64] = {0};
    for (unsigned i = 0; !atomic_load(&done); i++) {
        free(recent[i % 64]);
        recent[i % 64] = keep(malloc(100 + i % 7));
    }
    for (int i = 0; i < 64; i++)
        free(recent[i]);
    return unused;
}

static void hunt(void) {
    pthread_t openers[2], allocators[2];
    for (int i = 0; i < 2; i++) {
        EXPECT(pthread_create(&openers[i], NULL, open_and_close, i ? &done : NULL) == 0);
        EXPECT(pthread_create(&allocators[i], NULL, allocate_on, NULL) == 0);
    }
    for (int i = 0; i < 2; i++)
        pthread_join(openers[i], NULL);
    atomic_store(&done, true);
    for (int i = 0; i < 2; i++)
        pthread_join(allocators[i], NULL);
    say("survived");
}

int main(int argc, char **argv) {
    EXPECT(argc > 3);
    alarm(30);
    rounds = atoi(argv[2]);
    paths = argv + 3;
    libraries = argc - 3;
    if (strcmp(argv[1], "loop") == 0)
        loop();
    else
        hunt();
    return 0;
}
