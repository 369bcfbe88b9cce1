/*
 * segment_room.c - see segment_room.h.
 */
#include "segment_room.h"
#include "abi/clock.h"
#include "core/table.h"
#include "directory.h"
#include "quiet.h"
#include "segment_dead.h"

#include <fcntl.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOME_FILES 32                /* that a start looks at, first and behind its predecessor */
#define COUNT_FILES (1u << 18)       /* most files of one count */
#define OLDEST_MAX 512               /* most segments that one count drops */
#define TRIM_EACH_BYTES (8u << 20)   /* larger ones are left to a count */
#define TRIM_COUNT_BYTES (256u << 20) /* of all files that one count trims */
#define TRIMMED_BYTES (64u << 10)    /* a count opens no smaller file to trim it */
#define START_BYTES (448u << 10)     /* initial size of a capture */
#define COUNT_EACH_NS 1000000000ULL
#define LOCK_TRIES 20
#define NAME_MAX_BYTES 48
#define SHARE 4 /* share of the remaining room, for one segment */

struct old_segment {
    int64_t modified_ns;
    uint64_t held_bytes;
    char name[NAME_MAX_BYTES];
};

/* A heap during the count; its root is the latest segment. */
static struct {
    struct old_segment row[OLDEST_MAX];
    unsigned count;
} oldest;

struct count {
    int folder;
    const struct mp_control *own;
    uint64_t held_bytes;
    uint64_t segments;
    uint64_t trim_bytes; /* that may still be trimmed */
};

struct sweep {
    int folder;
    const struct mp_control *own;
    uint64_t given_back;
};

static bool may_be_segment(const char *name) {
    return name[0] >= '0' && name[0] <= '9' && strlen(name) < NAME_MAX_BYTES;
}

static bool tidy_entry(const char *name, void *arg) {
    struct sweep *sweep = arg;
    if (may_be_segment(name))
        sweep->given_back += mp_dead_tidy(sweep->folder, name, sweep->own, TRIM_EACH_BYTES);
    else
        mp_dead_tidy_packing(sweep->folder, name);
    return false;
}

/* From `*at` of the directory, which then is where the next files are. */
static uint64_t tidy_some(int folder, const struct mp_control *own, uint64_t *at) {
    struct sweep sweep = {.folder = folder, .own = own};
    lseek(folder, (long)*at, SEEK_SET);
    bool ended = mp_directory_each(folder, SOME_FILES, tidy_entry, &sweep);
    *at = ended ? 0 : (uint64_t)lseek(folder, 0, SEEK_CUR);
    return sweep.given_back;
}

/* A tmpfs lists the latest files first; other file systems in any order, and after many starts at once not all
 * that are dead are among the first. So each start also resumes where the previous one stopped. */
static uint64_t tidy(int folder, const struct mp_control *own, uint64_t *next) {
    uint64_t first = 0, given_back = tidy_some(folder, own, &first);
    if (first == 0) {
        *next = 0;
        return given_back;
    }
    if (*next == 0)
        *next = first;
    return given_back + tidy_some(folder, own, next);
}

void mp_room_tidy(int folder, const struct mp_control *own) {
    uint64_t first = 0;
    tidy_some(folder, own, &first);
}

/* -- which are the oldest -- */

static void exchange(unsigned a, unsigned b) {
    static struct old_segment row;
    row = oldest.row[a];
    oldest.row[a] = oldest.row[b];
    oldest.row[b] = row;
}

static void sink(unsigned at, unsigned count) {
    for (unsigned child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && oldest.row[child + 1].modified_ns > oldest.row[child].modified_ns)
            child++;
        if (oldest.row[at].modified_ns >= oldest.row[child].modified_ns)
            return;
        exchange(at, child);
    }
}

static void rise(unsigned at) {
    for (unsigned parent; at > 0; at = parent) {
        parent = (at - 1) / 2;
        if (oldest.row[parent].modified_ns >= oldest.row[at].modified_ns)
            return;
        exchange(at, parent);
    }
}

static void keep_oldest(const char *name, const struct stat *st) {
    int64_t modified_ns = (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
    unsigned at = oldest.count;
    if (at == OLDEST_MAX) {
        if (modified_ns >= oldest.row[0].modified_ns)
            return;
        at = 0;
    } else {
        oldest.count++;
    }
    oldest.row[at].modified_ns = modified_ns;
    oldest.row[at].held_bytes = (uint64_t)st->st_blocks * 512;
    strcpy(oldest.row[at].name, name);
    if (at == 0)
        sink(0, oldest.count);
    else
        rise(at);
}

static void sort_oldest(void) {
    for (unsigned n = oldest.count; n > 1; n--) {
        exchange(0, n - 1);
        sink(0, n - 1);
    }
}

/* -- counting and dropping -- */

static bool count_entry(const char *name, void *arg) {
    struct count *count = arg;
    static struct stat st;
    if (!may_be_segment(name) ||
        syscall(SYS_newfstatat, count->folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        !S_ISREG(st.st_mode))
        return false;
    uint64_t held = (uint64_t)st.st_blocks * 512;
    if (held > TRIMMED_BYTES && held <= count->trim_bytes) {
        uint64_t given_back = mp_dead_tidy(count->folder, name, count->own, held);
        count->trim_bytes -= given_back != 0 ? held : 0;
        held -= given_back < held ? given_back : held;
        st.st_blocks = (long)(held / 512);
    }
    if (held == 0)
        return false;
    count->held_bytes += held;
    count->segments++;
    keep_oldest(name, &st);
    return false;
}

/* Drop the oldest until no more than `goal_bytes` are held. */
static void drop_oldest(struct mp_room *room, struct count *count, uint64_t goal_bytes) {
    sort_oldest();
    for (unsigned i = 0; i < oldest.count && count->held_bytes > goal_bytes; i++) {
        const struct old_segment *row = &oldest.row[i];
        if (!mp_dead_drop(count->folder, row->name, count->own))
            continue;
        count->held_bytes -=
            row->held_bytes < count->held_bytes ? row->held_bytes : count->held_bytes;
        count->segments--;
        room->dropped_segments++;
        room->dropped_bytes += row->held_bytes;
    }
}

/* Room that a start requires. */
static uint64_t least_free(const struct mp_room *room) {
    uint64_t part = room->bound_bytes / 16, least = mp_limit_min_bytes(getauxval(AT_PAGESZ));
    return START_BYTES + (part < least ? least : part);
}

static bool is_full(const struct mp_room *room) {
    return room->held_bytes + least_free(room) > room->bound_bytes;
}

static void count_all(struct mp_room *room, int folder, const struct mp_control *own) {
    struct count count = {.folder = folder, .own = own, .trim_bytes = TRIM_COUNT_BYTES};
    uint64_t bound = room->bound_bytes, goal_free = bound / 4, least = least_free(room);
    goal_free = goal_free < least ? least : goal_free;
    oldest.count = 0;
    lseek(folder, 0, SEEK_SET);
    mp_directory_each(folder, COUNT_FILES, count_entry, &count);
    room->held_bytes = count.held_bytes;
    if (is_full(room))
        drop_oldest(room, &count, bound < goal_free ? 0 : bound - goal_free);
    room->held_bytes = count.held_bytes;
    room->segments = count.segments;
    room->pending_bytes = 0;
    room->counted_ns = mp_clock_ns(CLOCK_MONOTONIC);
}

/* -- the ledger -- */

static bool lock(int fd) {
    for (unsigned i = 0; i < LOCK_TRIES; i++) {
        if (syscall(SYS_flock, fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        syscall(SYS_sched_yield);
    }
    return false;
}

static int open_once(int folder) {
    static struct stat st;
    int fd = (int)syscall(SYS_openat, folder, MP_ROOM_FILE,
                          O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    if (syscall(SYS_fstat, fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() &&
        st.st_nlink == 1)
        return fd;
    close(fd);
    return -1;
}

/* Something else of that name in this private folder has no use. */
static int open_ledger(int folder) {
    int fd = open_once(folder);
    if (fd < 0 && syscall(SYS_unlinkat, folder, MP_ROOM_FILE, 0) == 0)
        fd = open_once(folder);
    return fd;
}

/* Any content may be there: what makes no sense counts as none. */
static void read_ledger(int fd, struct mp_room *room) {
    long n = fd < 0 ? 0 : syscall(SYS_pread64, fd, room, sizeof *room, 0L);
    if (n != (long)sizeof *room || room->magic != MP_ROOM_MAGIC ||
        room->held_bytes > UINT64_MAX / 4 || room->pending_bytes > UINT64_MAX / 4)
        *room = (struct mp_room){.magic = MP_ROOM_MAGIC};
}

static void write_ledger(int fd, const struct mp_room *room) {
    struct mp_quiet quiet;
    mp_quiet_begin(&quiet);
    syscall(SYS_pwrite64, fd, room, sizeof *room, 0L);
    mp_quiet_end(&quiet);
}

static uint64_t left_bytes(const struct mp_room *room) {
    uint64_t taken = room->held_bytes + room->pending_bytes;
    return taken < room->bound_bytes ? room->bound_bytes - taken : 0;
}

static uint64_t share_of(uint64_t left) {
    uint64_t share = left / SHARE;
    if (share < MP_LIMIT_WHOLE_BYTES)
        share = left < MP_LIMIT_WHOLE_BYTES ? left : MP_LIMIT_WHOLE_BYTES;
    return share;
}

static uint64_t decide(struct mp_room *room, uint64_t wanted_bytes) {
    uint64_t usual = share_of(room->bound_bytes), share = share_of(left_bytes(room));
    usual = usual < wanted_bytes ? usual : wanted_bytes;
    if (share < mp_limit_min_bytes(getauxval(AT_PAGESZ))) {
        room->refused_starts++;
        return 0;
    }
    room->smaller_starts += share < usual / 2;
    room->pending_bytes += START_BYTES;
    return share < wanted_bytes ? share : wanted_bytes;
}

static void give_back(struct mp_room *room, uint64_t bytes) {
    room->pending_bytes -= bytes < room->pending_bytes ? bytes : room->pending_bytes;
}

/* Little is left, and the latest count did not find the same a moment ago. */
static bool is_count_due(const struct mp_room *room, uint64_t now) {
    bool is_recent = room->counted_ns <= now && now - room->counted_ns < COUNT_EACH_NS;
    return room->counted_ns == 0 ||
           (left_bytes(room) < least_free(room) && !(is_full(room) && is_recent));
}

uint64_t mp_room_bound_bytes(int folder, uint64_t wanted_bytes, uint64_t segment_bytes) {
    static struct statfs fs;
    if (wanted_bytes != 0)
        return wanted_bytes;
    uint64_t share = MP_ROOM_DEFAULT_MAX_BYTES, most = UINT64_MAX;
    if (syscall(SYS_fstatfs, folder, &fs) == 0 && fs.f_blocks != 0) {
        most = (uint64_t)fs.f_blocks / 2 * (uint64_t)fs.f_bsize;
        share = (uint64_t)fs.f_blocks / MP_ROOM_SHARE * (uint64_t)fs.f_bsize;
        share = share < MP_ROOM_DEFAULT_MIN_BYTES ? MP_ROOM_DEFAULT_MIN_BYTES : share;
        share = share < MP_ROOM_DEFAULT_MAX_BYTES ? share : MP_ROOM_DEFAULT_MAX_BYTES;
    }
    uint64_t asked = SHARE * segment_bytes < most ? SHARE * segment_bytes : most;
    return share < asked ? asked : share;
}

uint64_t mp_room_take(int folder, uint64_t bound_bytes, uint64_t wanted_bytes,
                      const struct mp_control *own) {
    static struct mp_room room; /* too large for the stack of a small thread that forks */
    int fd = open_ledger(folder);
    bool locked = fd >= 0 && lock(fd);
    read_ledger(fd, &room);
    room.bound_bytes = bound_bytes;
    give_back(&room, tidy(folder, own, &room.next_files));
    uint64_t now = mp_clock_ns(CLOCK_MONOTONIC);
    if ((locked || fd < 0) && is_count_due(&room, now))
        count_all(&room, folder, own);
    uint64_t size = decide(&room, wanted_bytes);
    if (locked)
        write_ledger(fd, &room);
    if (fd >= 0)
        close(fd);
    return size;
}
