/*
 * touched.c - two sites of 64 MiB each, in blocks below a page, of some pages, and of a MiB: whole() touches all
 * of it, quarter() every fourth page. Then a line for each site, "NAME bytes resident", by mincore of every block.
 * With an argument only quarter() allocates, this many MiB.
 */
#include "target.h"

#include <stdint.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#define PAGE 4096UL
#define KEPT_MAX 400000

static const size_t sizes[] = {900, 50000, 1 << 20};
static struct site {
    const char *name;
    unsigned count;
    struct {
        char *at;
        size_t size;
    } block[KEPT_MAX];
} wholes = {.name = "whole"}, quarters = {.name = "quarter"};

static void add(struct site *site, char *at, size_t size, size_t stride) {
    EXPECT(at != NULL && site->count < KEPT_MAX);
    for (size_t k = 0; k < size; k += stride)
        at[k] = 1;
    site->block[site->count].at = at;
    site->block[site->count++].size = size;
}

static void whole(size_t size) {
    char *at = keep(malloc(size));
    at[size - 1] = 1;
    add(&wholes, at, size, PAGE);
}

static void quarter(size_t size) {
    add(&quarters, keep(malloc(size)), size, 4 * PAGE);
}

static void tell(const struct site *site) {
    static unsigned char in_ram[(1 << 20) / PAGE + 2];
    uint64_t bytes = 0, resident = 0;
    for (unsigned i = 0; i < site->count; i++) {
        uintptr_t low = (uintptr_t)site->block[i].at, high = low + site->block[i].size;
        uintptr_t first = low / PAGE * PAGE;
        EXPECT(mincore((void *)first, high - first, in_ram) == 0);
        bytes += high - low;
        for (uintptr_t at = first; at < high; at += PAGE)
            if (in_ram[(at - first) / PAGE] & 1)
                resident += (at + PAGE < high ? at + PAGE : high) - (at > low ? at : low);
    }
    say("%s %llu %llu", site->name, (unsigned long long)bytes, (unsigned long long)resident);
}

int main(int argc, char **argv) {
    size_t each = (size_t)(argc > 1 ? atol(argv[1]) : 64) << 20;
    prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
    step("ready");
    for (unsigned k = 0; k < 3; k++)
        for (size_t done = 0; done < each / 3; done += sizes[k]) {
            if (argc == 1)
                whole(sizes[k]);
            quarter(sizes[k]);
        }
    tell(&wholes);
    tell(&quarters);
    step("told");
    return 0;
}
