/*
 * modtab.c - the table of modules in the segment, and the watch on their link maps. See modtab.h.
 */
#include "modtab.h"
#include "local.h"
#include "python/runtime.h"

#include <elf.h>
#include <link.h>
#include <string.h>

/* 96 KiB: twice the rows of the segment's table, so that probes stay short */
#define KNOWN_ROWS 4096u
#define PROBE_ROWS 64u   /* a module that finds none of these free has no name */
/* Reserve while this, but no more than half of what there is, is left: others may hold the lock. */
#define AHEAD_BYTES (64u << 10)
#define TOMBSTONE 1ULL
#define NOT_RECORDED UINT32_MAX

/*
 * Modules this process has met, by link map (or by load address where the loader has none). Two threads
 * that meet one at once may each add an entry: closing removes all of them.
 */
struct known_module {
    uint64_t key; /* 0: empty */
    uint64_t start;
    /* one past its row in the segment; 0, also while the entry is free: only watched */
    uint32_t rows_end;
    uint32_t watched; /* the key is in the filter: a module that can be closed */
};
static struct known_module known[KNOWN_ROWS];

/* The last generation in which a stack ran through a module that has no row. */
static uint32_t nameless_generation;

/* The content of a row: smaller than the row, which is large for the stack of a hook. */
struct description {
    uint64_t start, end, bias;
    uint32_t first_generation;
    uint32_t build_id_bytes;
    uint32_t exec_ranges;
    uint32_t path_bytes;
    uint8_t build_id[32];
    struct mp_exec_range exec[MP_EXEC_RANGES];
    const char *path; /* the loader's, not terminated at path_bytes */
};

static uintptr_t renamed_pc; /* 0: none */
static const char *renamed_path;

static uint64_t key_of(const struct mp_module *m) {
    return m->link_map ? (uint64_t)(uintptr_t)m->link_map : (uint64_t)m->start;
}

static uint32_t place_of(uint64_t key) {
    return (uint32_t)(key * 0x9e3779b97f4a7c15ULL >> 32);
}

/* Apart from its callers, one of which has a large frame. */
static __attribute__((noinline)) struct known_module *find(uint64_t key) {
    uint32_t at = place_of(key);
    for (uint32_t i = 0; i < PROBE_ROWS; i++) {
        struct known_module *k = &known[(at + i) & (KNOWN_ROWS - 1)];
        uint64_t have = mp_load_acquire(&k->key);
        if (have == key)
            return k;
        if (have == 0)
            return NULL;
    }
    return NULL;
}

static struct known_module *add(const struct mp_module *m) {
    uint64_t key = key_of(m);
    uint32_t at = place_of(key);
    for (uint32_t i = 0; i < PROBE_ROWS; i++) {
        struct known_module *k = &known[(at + i) & (KNOWN_ROWS - 1)];
        uint64_t have = mp_load_acquire(&k->key);
        if (have == key)
            return k;
        if ((have == 0 || have == TOMBSTONE) && mp_cas_u64(&k->key, have, key)) {
            mp_store_relaxed(&k->start, m->start);
            mp_store_relaxed(&k->watched, m->link_map != NULL && !m->permanent &&
                                              mp_filter_add((const void *)(uintptr_t)key));
            return k;
        }
    }
    return NULL;
}

static struct known_module *watch(const struct mp_module *m) {
    struct known_module *k = find(key_of(m));
    return k ? k : add(m);
}

void mp_modtab_watch(const struct mp_module *module) {
    watch(module);
}

/* Copy the build-id out of a note segment inside the mapping. */
static void read_build_id(struct description *row, const unsigned char *note, uint64_t bytes) {
    while (bytes >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) h;
        memcpy(&h, note, sizeof h);
        uint64_t name = (h.n_namesz + 3ULL) & ~3ULL, desc = (h.n_descsz + 3ULL) & ~3ULL;
        if (name + desc + sizeof h > bytes)
            return;
        if (h.n_type == NT_GNU_BUILD_ID && h.n_namesz == 4 &&
            memcmp(note + sizeof h, "GNU", 4) == 0) {
            row->build_id_bytes = h.n_descsz < 32 ? h.n_descsz : 32;
            memcpy(row->build_id, note + sizeof h + name, row->build_id_bytes);
            return;
        }
        note += sizeof h + name + desc;
        bytes -= sizeof h + name + desc;
    }
}

/* Is `note` inside the mapped segments? The gaps between them may hold anything. */
static bool is_mapped(const ElfW(Phdr) * phdr, unsigned count, const ElfW(Phdr) * note) {
    for (unsigned i = 0; i < count; i++)
        if (phdr[i].p_type == PT_LOAD && note->p_vaddr >= phdr[i].p_vaddr &&
            note->p_filesz <= phdr[i].p_filesz &&
            note->p_vaddr - phdr[i].p_vaddr <= phdr[i].p_filesz - note->p_filesz)
            return true;
    return false;
}

static void read_headers(struct description *row, const struct mp_module *m, uint64_t page) {
    unsigned count = 0;
    const ElfW(Phdr) *phdr = mp_module_headers(m, &count);
    for (unsigned i = 0; phdr != NULL && i < count; i++) {
        uint64_t start = m->bias + phdr[i].p_vaddr, end = start + phdr[i].p_memsz;
        if (start < m->start || end > m->end || end < start)
            continue;
        if (phdr[i].p_type == PT_NOTE && row->build_id_bytes == 0 &&
            is_mapped(phdr, count, &phdr[i]))
            read_build_id(row, (const unsigned char *)start, phdr[i].p_filesz);
        if (phdr[i].p_type == PT_LOAD && (phdr[i].p_flags & PF_X) &&
            row->exec_ranges < MP_EXEC_RANGES)
            row->exec[row->exec_ranges++] =
                (struct mp_exec_range){.start = start & ~(page - 1),
                                       .end = (end + page - 1) & ~(page - 1),
                                       .file_offset = phdr[i].p_offset & ~(page - 1)};
    }
}

static void read_path(struct description *row, const struct mp_module *m,
                      const struct mp_control *c) {
    const char *path = m->name != NULL ? m->name : "[vdso]";
    size_t limit = MP_MODULE_PATH_BYTES - 1;
    if (renamed_pc >= m->run_start && renamed_pc < m->run_end)
        path = renamed_path;
    if (path[0] == '\0') { /* the main program */
        path = c->exe;
        limit = sizeof c->exe - 1;
    }
    row->path = path;
    row->path_bytes = (uint32_t)strnlen(path, limit);
}

static bool same_module(const struct mp_module_row *a, const struct description *b) {
    return a->start == b->start && a->end == b->end && a->bias == b->bias &&
           a->path_bytes == b->path_bytes && a->build_id_bytes == b->build_id_bytes &&
           memcmp(a->build_id, b->build_id, sizeof a->build_id) == 0 &&
           memcmp(a->path, b->path, b->path_bytes) == 0;
}

/* A stack of `generation` runs through the module of `row`: it was there already. */
static void extend_back(struct mp_module_row *row, uint32_t generation) {
    uint32_t first = mp_load_relaxed(&row->first_generation);
    while (generation < first && !mp_cas_u32(&row->first_generation, first, generation))
        first = mp_load_relaxed(&row->first_generation);
}

/* Could an address of a stack be in both? A module may lie in a hole of another one. */
static bool share_addresses(const struct mp_module_row *a, const struct mp_module_row *b) {
    if (a->start >= b->end || b->start >= a->end)
        return false;
    uint32_t a_ranges = mp_load_relaxed(&a->exec_ranges);
    uint32_t b_ranges = mp_load_relaxed(&b->exec_ranges);
    if (a_ranges - 1 >= MP_EXEC_RANGES || b_ranges - 1 >= MP_EXEC_RANGES)
        return true; /* none, or the row is forged */
    for (uint32_t i = 0; i < a_ranges; i++)
        for (uint32_t j = 0; j < b_ranges; j++)
            if (a->exec[i].start < b->exec[j].end && b->exec[j].start < a->exec[i].end)
                return true;
    return false;
}

/* Was any module but that of rows[mine] at its place after `last`? */
static bool was_taken_since(const struct mp_module_row *rows, uint32_t count, uint32_t mine,
                            uint32_t last) {
    for (uint32_t i = 0; i < count; i++) {
        if (i == mine || !mp_load_acquire(&rows[i].published) ||
            !share_addresses(&rows[i], &rows[mine]))
            continue;
        if (mp_load_acquire(&rows[i].last_generation) > last)
            return true;
    }
    return mp_load_relaxed(&nameless_generation) > last;
}

/* A library that was closed and opened again, with no other at its place between, gets its row back. */
static uint32_t reopen_row(struct mp_module_row *rows, uint32_t count,
                           const struct description *want) {
    for (uint32_t i = 0; i < count; i++) {
        if (!mp_load_acquire(&rows[i].published) || !same_module(&rows[i], want))
            continue;
        uint32_t last = mp_load_acquire(&rows[i].last_generation);
        if (last != UINT32_MAX && was_taken_since(rows, count, i, last))
            continue;
        extend_back(&rows[i], want->first_generation);
        mp_store_release(&rows[i].last_generation, UINT32_MAX);
        return i;
    }
    return NOT_RECORDED;
}

/* Take a new row in reserved pages, or NOT_RECORDED. */
static uint32_t new_row(struct mp_segment *seg) {
    struct mp_control *c = seg->control;
    uint64_t table_bytes = mp_array_bytes(seg, MP_ARRAY_MODULES);
    uint32_t row = mp_load_relaxed(&c->module_count);
    do {
        uint64_t end = ((uint64_t)row + 1) * sizeof(struct mp_module_row);
        if (row >= mp_array_rows(seg, MP_ARRAY_MODULES))
            return NOT_RECORDED;
        uint64_t reserved = mp_array_reserved(seg, MP_ARRAY_MODULES);
        uint64_t ahead = reserved / 2 < AHEAD_BYTES ? reserved / 2 : AHEAD_BYTES;
        if (end + ahead > reserved && reserved < table_bytes)
            mp_array_extend(seg, MP_ARRAY_MODULES);
        if (end > mp_array_reserved(seg, MP_ARRAY_MODULES))
            return NOT_RECORDED;
    } while (!__atomic_compare_exchange_n(&c->module_count, &row, row + 1, true, __ATOMIC_ACQ_REL,
                                          __ATOMIC_RELAXED));
    return row;
}

static void write_row(struct mp_module_row *to, const struct description *from) {
    to->first_generation = from->first_generation;
    to->last_generation = UINT32_MAX;
    to->build_id_bytes = from->build_id_bytes;
    memcpy(to->build_id, from->build_id, sizeof to->build_id);
    to->start = from->start;
    to->end = from->end;
    to->bias = from->bias;
    to->exec_ranges = from->exec_ranges;
    memcpy(to->exec, from->exec, sizeof to->exec);
    to->path_bytes = from->path_bytes;
    memcpy(to->path, from->path, from->path_bytes);
    mp_store_release(&to->published, 1u);
}

static struct mp_module_row *rows_of(struct mp_segment *seg) {
    return mp_array_at(seg, MP_ARRAY_MODULES);
}

/* Rows that may be read: taken, and in reserved pages. */
static uint32_t rows_in_use(const struct mp_segment *seg) {
    uint64_t reserved = mp_array_reserved(seg, MP_ARRAY_MODULES) / sizeof(struct mp_module_row);
    uint32_t taken = mp_load_acquire(&seg->control->module_count);
    return taken < reserved ? taken : (uint32_t)reserved;
}

static uint32_t record(struct mp_segment *seg, const struct mp_module *m, uint32_t generation) {
    struct mp_control *c = seg->control;
    struct mp_module_row *rows = rows_of(seg);
    struct description row = {
        .start = m->start, .end = m->end, .bias = m->bias, .first_generation = generation};
    read_headers(&row, m, seg->layout.page_bytes);
    read_path(&row, m, c);
    uint32_t count = rows_in_use(seg);
    uint32_t at = reopen_row(rows, count, &row);
    if (at != NOT_RECORDED)
        return at;
    at = new_row(seg);
    if (at != NOT_RECORDED)
        write_row(&rows[at], &row);
    return at;
}

static void leave_nameless(struct mp_segment *seg, uint32_t generation) {
    mp_add_relaxed(&seg->control->lost[MP_LOST_MODULE_FULL], 1);
    uint32_t last = mp_load_relaxed(&nameless_generation);
    while (last < generation && !mp_cas_u32(&nameless_generation, last, generation))
        last = mp_load_relaxed(&nameless_generation);
}

/* The row that `k` has for `m`, or NULL. Its number may be one of an earlier segment: a thread that was
 * held up in a hook while the sampler detached and attached again stores it late. */
static struct mp_module_row *known_row(struct mp_segment *seg, const struct known_module *k,
                                       const struct mp_module *m) {
    uint32_t rows_end = k == NULL ? 0 : mp_load_acquire(&k->rows_end);
    if (rows_end == 0 || rows_end > rows_in_use(seg))
        return NULL;
    struct mp_module_row *row = &rows_of(seg)[rows_end - 1];
    bool open =
        mp_load_acquire(&row->published) && mp_load_acquire(&row->last_generation) == UINT32_MAX;
    return open && row->start == m->start && row->end == m->end ? row : NULL;
}

/* Apart from its caller, whose frame is under those of `record`. */
static __attribute__((noinline)) void meet_interpreter(struct mp_segment *seg,
                                                       const struct mp_module *m) {
    unsigned count = 0;
    const ElfW(Phdr) *phdr = mp_module_headers(m, &count);
    mp_py_meet(m->start, m->bias, phdr, count);
    mp_store_relaxed(&seg->control->python_unlisted, mp_load_relaxed(&mp_py_unlisted));
    mp_store_relaxed(&seg->control->python_unread, mp_load_relaxed(&mp_py_unread));
}

static void record_known(struct mp_segment *seg, struct known_module *k, const struct mp_module *m,
                         uint32_t generation) {
    struct mp_module_row *known_before = known_row(seg, k, m);
    if (known_before != NULL) {
        extend_back(known_before, generation);
        return;
    }
    uint32_t row = k == NULL ? NOT_RECORDED : record(seg, m, generation);
    if (row == NOT_RECORDED)
        leave_nameless(seg, generation);
    else {
        mp_store_release(&k->rows_end, row + 1);
        meet_interpreter(seg, m);
    }
}

void mp_modtab_record(struct mp_segment *seg, const uintptr_t *frames, uint32_t depth,
                      uint32_t generation) {
    struct mp_module m = {0};
    for (uint32_t i = 0; i < depth; i++) {
        uintptr_t pc = frames[i] - (i > 0);
        if (pc >= m.run_start && pc < m.run_end)
            continue; /* same module as the frame before */
        if (!mp_module_find(pc, &m)) {
            m.run_start = m.run_end = 0;
            continue;
        }
        record_known(seg, watch(&m), &m, generation);
    }
}

/* All open rows at that place: two threads that met a module at once may have made one each. */
static void close_rows(struct mp_segment *seg, uint64_t start, uint32_t generation) {
    struct mp_module_row *rows = rows_of(seg);
    uint32_t count = rows_in_use(seg);
    for (uint32_t i = 0; i < count; i++)
        if (mp_load_acquire(&rows[i].published) && rows[i].start == start &&
            mp_load_relaxed(&rows[i].last_generation) == UINT32_MAX)
            mp_store_release(&rows[i].last_generation, generation);
}

/* Free the entry, if it is still that of `key`. */
static bool remove_entry(struct known_module *k, uint64_t key) {
    uint32_t watched = mp_load_relaxed(&k->watched);
    mp_store_relaxed(&k->rows_end, 0u);
    if (!mp_cas_u64(&k->key, key, TOMBSTONE))
        return false;
    if (watched)
        mp_filter_remove((const void *)(uintptr_t)key);
    return true;
}

static __attribute__((noinline)) bool close_module(struct mp_segment *seg, uint64_t key,
                                                   struct known_module *k) {
    uint64_t start = mp_load_relaxed(&k->start);
    if (!remove_entry(k, key))
        return false;
    while ((k = find(key)) != NULL)
        remove_entry(k, key);
    mp_py_leave(start);
    if (seg->control != NULL)
        close_rows(seg, start, mp_add_relaxed(&seg->control->generation, 1));
    return true;
}

bool mp_modtab_closed(struct mp_segment *seg, const void *block) {
    uint64_t key = (uint64_t)(uintptr_t)block;
    struct known_module *k = key > TOMBSTONE ? find(key) : NULL;
    return mp_unlikely(k != NULL) && close_module(seg, key, k);
}

void mp_modtab_after_fork(void) {
    nameless_generation = 0;
    for (uint32_t i = 0; i < KNOWN_ROWS; i++) {
        uint64_t key = mp_load_relaxed(&known[i].key);
        if (key == 0)
            continue; /* most: a write would copy the page for the child */
        mp_store_relaxed(&known[i].rows_end, 0u);
        if (key > TOMBSTONE && known[i].watched)
            known[i].watched = mp_filter_add((const void *)(uintptr_t)key);
    }
}

void mp_modtab_forget(void) {
    nameless_generation = 0;
    for (uint32_t i = 0; i < KNOWN_ROWS; i++)
        if (mp_load_relaxed(&known[i].key) != 0) {
            mp_store_relaxed(&known[i].rows_end, 0u);
            mp_store_relaxed(&known[i].key, 0u);
        }
}

void mp_modtab_rename(uintptr_t pc, const char *path) {
    renamed_path = path;
    renamed_pc = pc;
}
