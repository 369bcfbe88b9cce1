/*
 * storm.c - a process that does one thing without pause, and checks its own results.
 *
 * storm KIND [LIBRARY]   prints "ready"; when stdin ends, "rounds ROUNDS wrong WRONG"
 *   malloc     four threads sit in malloc and free
 *   compute    no system call, no allocation
 *   threads    threads start, allocate and end
 *   forks      children allocate, check and end
 *   dlopen     LIBRARY is opened, called and closed
 *   alarms     a signal handler runs every millisecond; the main thread waits in pause
 *   handler    the main thread waits inside a signal handler
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_long rounds, wrong;
static atomic_int over;
static const char *library;

static void expect(int fine) {
    if (!fine)
        atomic_fetch_add(&wrong, 1);
}

static void use_blocks(unsigned seed) {
    unsigned char *blocks[32];
    for (unsigned i = 0; i < 32; i++) {
        size_t size = 1 + (seed * 2654435761u + i * 40503u) % 3000;
        blocks[i] = malloc(size);
        expect(blocks[i] != NULL);
        memset(blocks[i], (int)i, size);
    }
    for (unsigned i = 0; i < 32; i++) {
        expect(blocks[i][0] == (unsigned char)i);
        free(blocks[i]);
    }
}

static void *sit_in_malloc(void *unused) {
    (void)unused;
    for (unsigned i = 0; !atomic_load(&over); i++) {
        use_blocks(i);
        atomic_fetch_add(&rounds, 1);
    }
    return NULL;
}

static void malloc_storm(void) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, sit_in_malloc, NULL);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void compute_storm(void) {
    volatile unsigned long sum = 0;
    while (!atomic_load(&over)) {
        unsigned long before = sum;
        for (unsigned i = 0; i < 10000; i++)
            sum += i;
        expect(sum - before == 49995000);
        atomic_fetch_add(&rounds, 1);
    }
}

static void *short_life(void *seed) {
    use_blocks((unsigned)(size_t)seed);
    return seed;
}

static void thread_storm(void) {
    for (size_t i = 0; !atomic_load(&over); i++) {
        pthread_t threads[4];
        for (size_t k = 0; k < 4; k++)
            expect(pthread_create(&threads[k], NULL, short_life, (void *)(i + k)) == 0);
        for (size_t k = 0; k < 4; k++) {
            void *result = NULL;
            pthread_join(threads[k], &result);
            expect(result == (void *)(i + k));
        }
        atomic_fetch_add(&rounds, 1);
    }
}

static void fork_storm(void) {
    for (unsigned i = 0; !atomic_load(&over); i++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0) {
            use_blocks(i);
            _exit(atomic_load(&wrong) == 0 ? (int)(i % 100) : 101);
        }
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        expect(WIFEXITED(status) && WEXITSTATUS(status) == (int)(i % 100));
        atomic_fetch_add(&rounds, 1);
    }
}

static void dlopen_storm(void) {
    while (!atomic_load(&over)) {
        void *handle = dlopen(library, RTLD_NOW);
        expect(handle != NULL);
        void *(*block)(void) = (void *(*)(void))dlsym(handle, "plugin_block");
        void *made = block != NULL ? block() : NULL;
        expect(made != NULL);
        free(made);
        expect(dlclose(handle) == 0);
        atomic_fetch_add(&rounds, 1);
    }
}

static void on_alarm(int number) {
    (void)number;
    atomic_fetch_add(&rounds, 1);
}

static void alarm_storm(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval every = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    sigaction(SIGALRM, &action, NULL);
    setitimer(ITIMER_REAL, &every, NULL);
    while (!atomic_load(&over)) {
        long before = atomic_load(&rounds);
        expect(pause() == -1 && errno == EINTR);
        expect(atomic_load(&rounds) > before);
    }
    setitimer(ITIMER_REAL, &never, NULL);
}

static void wait_inside(int number) {
    struct timespec nap = {0, 5000000};
    (void)number;
    while (!atomic_load(&over)) {
        expect(nanosleep(&nap, NULL) == 0);
        atomic_fetch_add(&rounds, 1);
    }
}

static void handler_storm(void) {
    struct sigaction action = {.sa_handler = wait_inside};
    sigaction(SIGUSR1, &action, NULL);
    raise(SIGUSR1);
}

static void *listen(void *unused) {
    sigset_t all;
    char byte;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    atomic_store(&over, 1);
    return unused;
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(void);
    } storms[] = {{"malloc", malloc_storm},  {"compute", compute_storm}, {"threads", thread_storm},
                  {"forks", fork_storm},     {"dlopen", dlopen_storm},   {"alarms", alarm_storm},
                  {"handler", handler_storm}};
    library = argc > 2 ? argv[2] : NULL;
    for (unsigned i = 0; argc > 1 && i < sizeof storms / sizeof *storms; i++) {
        if (strcmp(argv[1], storms[i].name) != 0)
            continue;
        pthread_t listener;
        pthread_create(&listener, NULL, listen, NULL);
        if (write(STDOUT_FILENO, "ready\n", 6) != 6)
            return 2;
        storms[i].run();
        pthread_join(listener, NULL);
        printf("rounds %ld wrong %ld\n", atomic_load(&rounds), atomic_load(&wrong));
        return 0;
    }
    return 2;
}
