/*
 * blocks.c - does what it is told: allocates and frees blocks from functions with names.
 *
 *   alloc N SIZE   N blocks of SIZE bytes, kept, by alloc_kept()
 *   churn N SIZE   N blocks of SIZE bytes, each freed at once, by alloc_churned()
 *   free           all kept blocks
 *   exec PROGRAM   becomes PROGRAM
 * Each is answered with a line; the end of the input ends it.
 */
#include "target.h"

#define KEPT_MAX 400000

static void *kept[KEPT_MAX];
static unsigned kept_count;

static void alloc_kept(unsigned n, size_t size) {
    for (unsigned i = 0; i < n && kept_count < KEPT_MAX; i++)
        kept[kept_count++] = malloc(size);
}

static void alloc_churned(unsigned n, size_t size) {
    for (unsigned i = 0; i < n; i++)
        free(keep(malloc(size)));
}

static void free_kept(void) {
    while (kept_count > 0)
        free(kept[--kept_count]);
}

int main(void) {
    char text[512];
    unsigned n;
    size_t size;
    say("ready");
    while (hear(text, sizeof text)) {
        if (sscanf(text, "alloc %u %zu", &n, &size) == 2)
            alloc_kept(n, size);
        else if (sscanf(text, "churn %u %zu", &n, &size) == 2)
            alloc_churned(n, size);
        else if (strcmp(text, "free") == 0)
            free_kept();
        else if (strncmp(text, "exec ", 5) == 0)
            execl(text + 5, text + 5, (char *)NULL);
        say("done");
    }
    return 0;
}
