/*
 * app.h - a program on a stub driver: does what the lines of its input say, and prints the result of each.
 *
 *   app link              calls through its own references (built with -DLINKED)
 *   app open MODE LIB...  opens each LIB with MODE (local, global), and looks functions up in them, the last first
 *   app default LIB...    opens each LIB globally, and looks functions up by RTLD_DEFAULT
 *
 * A line is a word and up to five numbers; the first is often a register (0..63), where results of allocations lie.
 * Each program has words of its own. All have: race (two threads take and give back an address 2000 times each) |
 * has NAME (can the function be looked up?) | close | open | fork (the child goes on with the input, the parent waits
 * for it and ends as it did) | exit STATUS | die
 *
 * A program defines before it includes this file
 *   FUNCTIONS(X)  X(name) for each function of the drivers that it calls
 * and afterwards
 *   static int once(void)    allocates and frees; what `race` repeats
 *   static int obey(const char *word, unsigned long long *a)    by WORD(), then NO_WORD
 */
#ifndef STUB_APP_H
#define STUB_APP_H

#include <dlfcn.h>
#include <link.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define REGISTERS 64
#define LIBRARIES 8
#define RACE_ROUNDS 2000
#define NO_WORD (-2)
#define MISSING (-1)

#define FIELD(name) __typeof__(&name) name;
static struct {
    FUNCTIONS(FIELD)
} api;

static unsigned long long reg[REGISTERS];
static char **paths;
static unsigned library_count;
static int open_mode = RTLD_NOW | RTLD_GLOBAL;
static bool by_handle;
static void *libraries[LIBRARIES];

/* Of a register: as a number, and as the address that an allocation is to go to. */
#define R(n) reg[(n) % REGISTERS]
#define OUT(n) ((void *)&R(n))
#define AT(n) ((void *)R(n))

#define CALL(name, ...) (api.name != NULL ? (int)api.name(__VA_ARGS__) : MISSING)
#define WORD(name, call)                                                                           \
    if (strcmp(word, #name) == 0)                                                                  \
        return (int)(call);

static int once(void);
static int obey(const char *word, unsigned long long *a);

static void *look_up(const char *name) {
    void *found = by_handle ? NULL : dlsym(RTLD_DEFAULT, name);
    for (unsigned i = library_count; by_handle && i > 0 && found == NULL; i--)
        found = dlsym(libraries[i - 1], name);
    return found;
}

static int open_libraries(void) {
    for (unsigned i = 0; i < library_count; i++) {
        libraries[i] = dlopen(paths[i], open_mode);
        if (libraries[i] == NULL) {
            fprintf(stderr, "%s\n", dlerror());
            return 1;
        }
    }
#define LOOK_UP(name) *(void **)&api.name = look_up(#name);
    FUNCTIONS(LOOK_UP)
    return 0;
}

/* And see to it that the next driver does not come to lie where this one was. */
static int close_libraries(void) {
    struct link_map *driver;
    if (dlinfo(libraries[0], RTLD_DI_LINKMAP, &driver) != 0)
        return 1;
    void *place = (void *)driver->l_addr;
    for (unsigned i = library_count; i > 0; i--)
        dlclose(libraries[i - 1]);
    return mmap(place, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) !=
           place;
}

static int bind_functions(int argc, char **argv) {
    const char *way = argc > 1 ? argv[1] : "link";
#ifdef LINKED
    if (strcmp(way, "link") == 0) {
#define BIND(name) api.name = name;
        FUNCTIONS(BIND)
        return 0;
    }
#endif
    by_handle = strcmp(way, "open") == 0;
    if (by_handle && argc > 2 && strcmp(argv[2], "local") == 0)
        open_mode = RTLD_NOW | RTLD_LOCAL;
    int first = by_handle ? 3 : 2;
    paths = argv + first;
    library_count = argc > first ? (unsigned)(argc - first) : 0;
    return library_count == 0 || library_count > LIBRARIES ? 2 : open_libraries();
}

static void *racer(void *unused) {
    for (int i = 0; i < RACE_ROUNDS; i++)
        if (once() != 0)
            abort();
    return unused;
}

static int race(void) {
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, racer, NULL);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    return 0;
}

static int forked(void) {
    fflush(stdout);
    pid_t child = fork();
    int status = 0;
    if (child == 0)
        return 0;
    waitpid(child, &status, 0);
    exit(WIFEXITED(status) ? WEXITSTATUS(status) : 99);
}

static int leave(int status) {
    _exit(status);
}

static int common(const char *word, const char *rest, const unsigned long long *a) {
    char name[64] = "";
    sscanf(rest, "%63s", name);
    WORD(race, race())
    WORD(has, look_up(name) != NULL)
    WORD(close, close_libraries())
    WORD(open, open_libraries())
    WORD(fork, forked())
    WORD(exit, leave((int)a[0]))
    WORD(die, (abort(), 0))
    return NO_WORD;
}

static int run_lines(void) {
    char line[256], word[24];
    setvbuf(stdin, NULL, _IONBF, 0);
    while (fgets(line, sizeof line, stdin) != NULL) {
        unsigned long long a[5] = {0};
        int rest = 0;
        if (sscanf(line, "%23s%n %lli %lli %lli %lli %lli", word, &rest, (long long *)&a[0],
                   (long long *)&a[1], (long long *)&a[2], (long long *)&a[3],
                   (long long *)&a[4]) < 1)
            continue;
        int rc = obey(word, a);
        printf("%d\n", rc != NO_WORD ? rc : common(word, line + rest, a));
        fflush(stdout);
    }
    return 0;
}

#endif
