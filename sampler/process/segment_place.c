/*
 * segment_place.c - see segment_place.h.
 */
#include "segment_place.h"
#include "core/quiescence.h"
#include "drivers/libraries.h"
#include "segment_file.h"

#include <errno.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FIXED_NOREPLACE 0x100000 /* newer than the oldest headers */
/* of a millisecond: hooks are done in microseconds, unless their thread has to wait */
#define LEAVE_TRIES 50

int mp_place_fill(struct mp_segment_place *place) {
    void *base =
        mp_map_lazily(place->base, place->bytes, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1);
    if (base == MAP_FAILED)
        return -errno;
    place->base = base;
    return 0;
}

/* At the old place, if the program has not taken it: else its first page stays with threads that may still read it.
 * A kernel before 4.17 takes the address for a hint. */
static bool regain(const struct mp_segment_place *place) {
    uint64_t page = getauxval(AT_PAGESZ), bytes = place->bytes - page;
    void *wanted = (char *)place->base + page;
    void *got = mmap(wanted, bytes, PROT_NONE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | FIXED_NOREPLACE, -1, 0);
    if (got == wanted)
        return true;
    if (got != MAP_FAILED)
        munmap(got, bytes);
    return false;
}

/* Has every thread that may use the segment left it? */
static bool all_have_left(void) {
    const struct timespec pause = {.tv_nsec = 1000000};
    for (unsigned i = 0; i < LEAVE_TRIES; i++) {
        if (mp_inside_nobody())
            return true;
        syscall(SYS_nanosleep, &pause, NULL);
    }
    return false;
}

const char *mp_place_release(struct mp_segment_place *place) {
    uint64_t page = getauxval(AT_PAGESZ);
    if (mp_device_redirected())
        return "the segment's address space stays, without memory: threads may be in wrappers of "
               "device libraries";
    if (!all_have_left())
        return "the segment's address space stays, without memory: a thread may still be inside "
               "the sampler";
    munmap((char *)place->base + page, place->bytes - page);
    place->released = true;
    return NULL;
}

int mp_place_take(struct mp_segment_place *place, uint64_t bytes) {
    if (place->released && !regain(place))
        *place = (struct mp_segment_place){0};
    place->released = false;
    if (place->base != NULL && place->bytes >= bytes)
        return 0;
    struct mp_segment_place larger = {.bytes = bytes};
    int rc = mp_place_fill(&larger);
    if (rc == 0)
        *place = larger;
    return rc;
}
