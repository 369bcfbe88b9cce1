/*
 * segment_pack.c - see segment_pack.h.
 */
#include "segment_pack.h"
#include "quiet.h"
#include "text.h"

#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PAGE MP_CONTROL_BYTES
#define REGIONS_MAX (2 * MP_LEVELS + 4)
#define LEVEL_ROWS_MIN 8 /* readers believe no smaller one */
/* A forged file may claim tables of any size in its holes. */
#define READ_MAX_BYTES (64u << 20)
#define PACKED_MAX_BYTES (2u << 20)

/* Part of the old file. */
struct region {
    uint64_t from, to;
};

/* Too large for the stack of a small thread that forks. */
static struct {
    struct mp_control control; /* of the packed segment */
    uint64_t keys[512];
    unsigned char row[sizeof(struct mp_site_row)];
    unsigned char buffer[PAGE];
} pack;

struct out {
    int fd;
    uint64_t at;     /* where the next byte goes */
    unsigned used;   /* bytes in pack.buffer, before `at` */
    bool failed;
};

static void flush(struct out *out) {
    long n = (long)out->used;
    if (n != 0 && syscall(SYS_pwrite64, out->fd, pack.buffer, n, (long)out->at - n) != n)
        out->failed = true;
    out->used = 0;
}

static void put_bytes(struct out *out, const void *bytes, uint64_t n) {
    const unsigned char *from = bytes;
    out->failed |= n > PACKED_MAX_BYTES || out->at > PACKED_MAX_BYTES;
    while (n > 0 && !out->failed) {
        uint64_t part = sizeof pack.buffer - out->used;
        part = part < n ? part : n;
        memcpy(pack.buffer + out->used, from, part);
        out->used += (unsigned)part;
        out->at += part;
        from += part;
        n -= part;
        if (out->used == sizeof pack.buffer)
            flush(out);
    }
}

static bool read_at(int fd, void *to, uint64_t n, uint64_t at) {
    return syscall(SYS_pread64, fd, to, n, (long)at) == (long)n;
}

static void copy(struct out *out, int fd, struct region from) {
    for (uint64_t at = from.from; at < from.to && !out->failed;) {
        uint64_t n = from.to - at < sizeof pack.keys ? from.to - at : sizeof pack.keys;
        if (!read_at(fd, pack.keys, n, at))
            out->failed = true;
        put_bytes(out, pack.keys, n);
        at += n;
    }
}

static uint64_t smaller(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

/* The first `bytes` of an array, no more than it has and the file holds. */
static struct region of_array(const struct mp_control *c, enum mp_array_kind kind, uint64_t bytes) {
    const struct mp_array *a = &c->directory[kind];
    uint64_t limit = c->limit_bytes;
    if (a->kind != (uint32_t)kind || a->offset < PAGE || a->offset > limit || a->row_bytes == 0)
        return (struct region){0};
    bytes = smaller(smaller(bytes, a->reserved_bytes), limit - a->offset);
    bytes = smaller(bytes / a->row_bytes, a->rows) * a->row_bytes;
    return (struct region){a->offset, a->offset + bytes};
}

static struct region of_threads(const struct mp_control *c) {
    return of_array(c, MP_ARRAY_THREADS,
                    ((uint64_t)c->thread_count + 1) * sizeof(struct mp_thread));
}

static struct region of_modules(const struct mp_control *c) {
    return of_array(c, MP_ARRAY_MODULES, (uint64_t)c->module_count * sizeof(struct mp_module_row));
}

static struct region of_stacks(const struct mp_control *c) {
    return of_array(c, MP_ARRAY_STACKS, c->arena_cursor);
}

static struct region of_level(const struct mp_control *c, const struct mp_level *level) {
    uint64_t bytes = (uint64_t)level->rows * (8 + (uint64_t)level->row_bytes);
    if (level->offset < PAGE || level->offset > c->limit_bytes ||
        bytes > c->limit_bytes - level->offset || level->row_bytes > sizeof(struct mp_site_row))
        return (struct region){0};
    return (struct region){level->offset, level->offset + bytes};
}

static unsigned ready_levels(const struct mp_table *table) {
    return table->levels_ready < MP_LEVELS ? table->levels_ready : MP_LEVELS;
}

static unsigned known_regions(const struct mp_control *c, struct region *regions) {
    unsigned n = 0;
    regions[n++] = of_threads(c);
    regions[n++] = of_modules(c);
    regions[n++] = of_stacks(c);
    regions[n++] = of_level(c, &c->lost_sites);
    for (unsigned i = 0; i < ready_levels(&c->sites); i++)
        regions[n++] = of_level(c, &c->sites.level[i]);
    for (unsigned i = 0; i < ready_levels(&c->live); i++)
        regions[n++] = of_level(c, &c->live.level[i]);
    return n;
}

static bool is_in(const struct region *regions, unsigned n, uint64_t page) {
    for (unsigned i = 0; i < n; i++)
        if (regions[i].to > page && regions[i].from < page + PAGE)
            return true;
    return false;
}

/* Is each page with data one of a table that is copied, and is there not too much to read? */
static bool knows_all(int fd, const struct mp_control *c) {
    static struct region regions[REGIONS_MAX];
    unsigned n = known_regions(c, regions);
    uint64_t bytes = 0;
    for (unsigned i = 0; i < n; i++)
        bytes += smaller(regions[i].to - regions[i].from, READ_MAX_BYTES);
    if (bytes >= READ_MAX_BYTES)
        return false;
    for (long at = PAGE, data; (data = lseek(fd, at, SEEK_DATA)) >= 0;) {
        at = lseek(fd, data, SEEK_HOLE);
        if (at <= data)
            return false;
        for (uint64_t page = (uint64_t)data / PAGE * PAGE; page < (uint64_t)at; page += PAGE)
            if (!is_in(regions, n, page))
                return false;
    }
    return true;
}

static bool is_used(uint64_t key) {
    return key != 0 && key != MP_KEY_RECYCLING;
}

/* Put the keys of the level, or the rows of these, that are in use; returns how many. */
static uint32_t put_level(struct out *out, int fd, const struct mp_level *level, bool rows) {
    uint32_t used = 0, many = sizeof pack.keys / sizeof pack.keys[0];
    uint64_t row_at = level->offset + (uint64_t)level->rows * 8;
    for (uint32_t first = 0; first < level->rows && !out->failed; first += many) {
        uint32_t n = level->rows - first < many ? level->rows - first : many;
        if (!read_at(fd, pack.keys, n * 8ULL, level->offset + first * 8ULL))
            out->failed = true;
        for (uint32_t i = 0; i < n && !out->failed; i++) {
            if (!is_used(pack.keys[i]))
                continue;
            used++;
            if (!rows) {
                put_bytes(out, &pack.keys[i], 8);
                continue;
            }
            out->failed |= !read_at(fd, pack.row, level->row_bytes,
                                    row_at + (uint64_t)(first + i) * level->row_bytes);
            put_bytes(out, pack.row, level->row_bytes);
        }
    }
    return used;
}

static void put_zeros(struct out *out, uint64_t n) {
    static const uint64_t zeros[8];
    for (; n > 0 && !out->failed; n -= smaller(n, sizeof zeros))
        put_bytes(out, zeros, smaller(n, sizeof zeros));
}

/* All levels as one; a table without a row has none. */
static struct mp_level put_sites(struct out *out, int fd, const struct mp_control *c,
                                 const struct mp_level *levels, unsigned count) {
    struct mp_level to = {.offset = out->at, .row_bytes = sizeof(struct mp_site_row)};
    uint32_t used = 0, rows = 0;
    for (unsigned i = 0; i < count; i++)
        if (of_level(c, &levels[i]).to != 0 && levels[i].row_bytes == to.row_bytes)
            used += put_level(out, fd, &levels[i], false);
    if (used == 0)
        return (struct mp_level){0};
    to.rows = used < LEVEL_ROWS_MIN ? LEVEL_ROWS_MIN : used;
    put_zeros(out, (to.rows - used) * 8ULL);
    for (unsigned i = 0; i < count; i++)
        if (of_level(c, &levels[i]).to != 0 && levels[i].row_bytes == to.row_bytes)
            rows += put_level(out, fd, &levels[i], true);
    out->failed |= rows != used; /* another process writes to the file */
    put_zeros(out, (uint64_t)(to.rows - used) * to.row_bytes);
    to.reserved_bytes = out->at - to.offset;
    return to;
}

static struct mp_level put_live(struct out *out, int fd, const struct mp_control *c) {
    struct mp_level to = {.offset = out->at, .row_bytes = sizeof(struct mp_live_row) - 8};
    struct mp_live_row row;
    for (unsigned i = 0; i < ready_levels(&c->live); i++) {
        const struct mp_level *level = &c->live.level[i];
        if (of_level(c, level).to == 0 || level->row_bytes != to.row_bytes)
            continue;
        uint32_t many = sizeof pack.keys / (sizeof row);
        for (uint32_t first = 0; first < level->rows && !out->failed; first += many) {
            uint32_t n = level->rows - first < many ? level->rows - first : many;
            if (!read_at(fd, pack.keys, n * sizeof row, level->offset + first * sizeof row))
                out->failed = true;
            for (uint32_t k = 0; k < n && !out->failed; k++) {
                memcpy(&row, pack.keys + k * (sizeof row / 8), sizeof row);
                if (row.key == 0)
                    continue;
                put_bytes(out, &row, sizeof row);
                to.rows++;
            }
        }
    }
    if (to.rows == 0)
        return (struct mp_level){0};
    for (; to.rows < LEVEL_ROWS_MIN; to.rows++)
        put_zeros(out, sizeof row);
    to.reserved_bytes = out->at - to.offset;
    return to;
}

static struct mp_array put_array(struct out *out, int fd, const struct mp_array *old,
                                 struct region from) {
    struct mp_array to = {.kind = old->kind, .row_bytes = old->row_bytes, .offset = out->at};
    if (from.to == from.from)
        return (struct mp_array){0};
    copy(out, fd, from);
    to.rows = (from.to - from.from) / old->row_bytes;
    to.reserved_bytes = from.to - from.from;
    return to;
}

static void set_one_level(struct mp_table *table, struct mp_level level) {
    memset(table, 0, sizeof *table);
    table->level[0] = level;
    table->levels = table->levels_ready = table->wanted = level.rows != 0;
}

static void put_segment(struct out *out, int fd, const struct mp_control *c) {
    struct mp_control *to = &pack.control;
    *to = *c;
    to->startup_flags |= MP_STARTUP_TRIMMED;
    memset(to->directory, 0, sizeof to->directory);
    to->directory[MP_ARRAY_THREADS] =
        put_array(out, fd, &c->directory[MP_ARRAY_THREADS], of_threads(c));
    to->directory[MP_ARRAY_MODULES] =
        put_array(out, fd, &c->directory[MP_ARRAY_MODULES], of_modules(c));
    to->directory[MP_ARRAY_STACKS] =
        put_array(out, fd, &c->directory[MP_ARRAY_STACKS], of_stacks(c));
    memset(&to->stack_index, 0, sizeof to->stack_index);
    set_one_level(&to->sites, put_sites(out, fd, c, c->sites.level, ready_levels(&c->sites)));
    set_one_level(&to->live, put_live(out, fd, c));
    to->lost_sites = put_sites(out, fd, c, &c->lost_sites, c->lost_sites.reserved_bytes != 0);
    memset(&to->device_sites, 0, sizeof to->device_sites);
    memset(&to->device_live, 0, sizeof to->device_live);
    to->device_lost_sites = (struct mp_level){0};
    to->limit_bytes = (out->at + PAGE - 1) / PAGE * PAGE;
    flush(out);
    if (syscall(SYS_pwrite64, out->fd, to, sizeof *to, 0L) != (long)sizeof *to ||
        syscall(SYS_ftruncate, out->fd, (long)to->limit_bytes) != 0)
        out->failed = true;
}

/* Under a name that no other living process takes. */
static int create(int folder, char *name, size_t n) {
    struct mp_text text = {.buffer = name, .size = n};
    mp_put(&text, MP_PACK_PREFIX);
    mp_put_number(&text, (uint64_t)getpid());
    syscall(SYS_unlinkat, folder, name, 0);
    return (int)syscall(SYS_openat, folder, name,
                        O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

bool mp_pack(int folder, const char *name, int fd, const struct mp_control *control,
             const struct stat *st) {
    char new_name[32];
    struct mp_quiet quiet;
    struct out out = {.at = PAGE};
    if (control->header_bytes != sizeof *control || control->device_wanted != 0 ||
        control->mark_count != 0 || control->limit_bytes > (uint64_t)st->st_size ||
        !knows_all(fd, control))
        return false;
    out.fd = create(folder, new_name, sizeof new_name);
    if (out.fd < 0)
        return false;
    const struct timespec times[2] = {st->st_atim, st->st_mtim};
    mp_quiet_begin(&quiet);
    put_segment(&out, fd, control);
    mp_quiet_end(&quiet);
    bool done = !out.failed && syscall(SYS_utimensat, out.fd, NULL, times, 0) == 0 &&
                syscall(SYS_renameat, folder, new_name, folder, name) == 0;
    if (!done)
        syscall(SYS_unlinkat, folder, new_name, 0);
    close(out.fd);
    return done;
}
