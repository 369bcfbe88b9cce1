/*
 * redirect_threads.c - threads that open and close a library and call into it while others allocate.
 */
#include "target.h"

#include <dlfcn.h>
#include <pthread.h>

#define OPENERS 3
#define ROUNDS 150

static const char *path;
static int stop;

static void *open_and_close(void *unused) {
    for (int i = 0; i < ROUNDS; i++) {
        void *library = dlopen(path, i % 2 ? RTLD_NOW : RTLD_LAZY);
        EXPECT(library != NULL);
        void (*plugin)(void) = (void (*)(void))dlsym(library, "plugin_allocate");
        EXPECT(plugin != NULL);
        plugin();
        dlclose(library);
    }
    return unused;
}

static void *allocate(void *unused) {
    while (!__atomic_load_n(&stop, __ATOMIC_RELAXED))
        free(keep(malloc(33)));
    return unused;
}

int main(int argc, char **argv) {
    pthread_t opener[OPENERS], allocator;
    EXPECT(argc == 2);
    path = argv[1];
    EXPECT(pthread_create(&allocator, NULL, allocate, NULL) == 0);
    for (int i = 0; i < OPENERS; i++)
        EXPECT(pthread_create(&opener[i], NULL, open_and_close, NULL) == 0);
    for (int i = 0; i < OPENERS; i++)
        pthread_join(opener[i], NULL);
    __atomic_store_n(&stop, 1, __ATOMIC_RELAXED);
    pthread_join(allocator, NULL);
    say("joined");
    return 0;
}
