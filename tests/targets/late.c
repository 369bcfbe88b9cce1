/*
 * late.c - opens a library when told to, and has it allocate 100 blocks when told to.
 *
 * late LIBRARY   lines on stdin: "open", "close", "allocate"; each is answered. "reload": all three, 50 times,
 *                and the blocks are kept
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void reload(const char *path) {
    for (int i = 0; i < 50; i++) {
        void *handle = dlopen(path, RTLD_NOW);
        void *(*block)(void) = (void *(*)(void))dlsym(handle, "plugin_block");
        for (int k = 0; k < 100; k++)
            block();
        dlclose(handle);
    }
}

int main(int argc, char **argv) {
    static char in[1 << 12], out[1 << 12]; /* stdio shall not allocate */
    char line[64];
    void *(*block)(void) = NULL;
    void *handle = NULL;
    setvbuf(stdin, in, _IOLBF, sizeof in);
    setvbuf(stdout, out, _IOLBF, sizeof out);
    if (argc != 2)
        return 2;
    puts("ready");
    while (fgets(line, sizeof line, stdin) != NULL) {
        if (strncmp(line, "open", 4) == 0) {
            handle = dlopen(argv[1], RTLD_NOW);
            block = handle != NULL ? (void *(*)(void))dlsym(handle, "plugin_block") : NULL;
            puts(block != NULL ? "opened" : "refused");
        } else if (strncmp(line, "close", 5) == 0) {
            puts(dlclose(handle) == 0 ? "closed" : "refused");
        } else if (strncmp(line, "reload", 6) == 0) {
            reload(argv[1]);
            puts("reloaded");
        } else {
            for (int i = 0; i < 100; i++)
                free(block());
            puts("allocated");
        }
    }
    return 0;
}
