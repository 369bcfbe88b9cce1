/*
 * holes.c - a program whose segments lie far apart, with something of others between them.
 *
 *     holes                say where the program is mapped, and end
 *     holes run GUEST      open GUEST (a library, or "-"), allocate once on each path, wait for the end
 *     holes storm GUEST    the same, but allocate on and on until the input ends
 *
 * It answers with "inside" if the library lies between its own segments, else with "outside".
 */
#include "target.h"

#include <dlfcn.h>
#include <poll.h>

extern const char __ehdr_start[], _end[];

typedef void *allocate_function(size_t size);
typedef void *guest_function(allocate_function *call, size_t size);

__attribute__((noinline)) static void *inner(size_t size) {
    return keep(malloc(size));
}

__attribute__((noinline)) static void *middle(size_t size) {
    return keep(inner(size + 1));
}

__attribute__((noinline)) static void *outer(size_t size) {
    return keep(middle(size + 1));
}

__attribute__((noinline)) static void *called_back(size_t size) {
    return keep(inner(size));
}

__attribute__((noinline)) static void allocate(guest_function *guest, bool freed) {
    void *own = outer(100), *theirs = guest != NULL ? guest(called_back, 200) : NULL;
    if (freed) {
        free(own);
        free(theirs);
    }
}

static guest_function *open_guest(const char *path) {
    void *library = strcmp(path, "-") != 0 ? dlopen(path, RTLD_NOW) : NULL;
    if (library == NULL && strcmp(path, "-") != 0)
        say("%s", dlerror());
    return library != NULL ? (guest_function *)dlsym(library, "guest") : NULL;
}

int main(int argc, char **argv) {
    char text[64];
    if (argc < 3) {
        say("%lx", (unsigned long)__ehdr_start);
        return 0;
    }
    guest_function *guest = open_guest(argv[2]);
    bool inside = (const char *)guest > __ehdr_start && (const char *)guest < _end;
    allocate(guest, false);
    say("%s", inside ? "inside" : "outside");
    if (strcmp(argv[1], "run") == 0)
        return hear(text, sizeof text) ? 1 : 0;
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    while (poll(&input, 1, 1) == 0)
        for (unsigned i = 0; i < 100; i++)
            allocate(guest, true);
    return 0;
}
