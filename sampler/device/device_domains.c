/*
 * device_domains.c - domains: interning, actual and reserved bytes. See device_domains.h.
 */
#include "device_domains.h"
#include "core/capture.h"
#include "core/local.h"

#include <errno.h>

/* Two threads may give a piece its pages at once: the second finds them there. */
static bool give_pages(struct mp_segment *seg, uint64_t offset, uint64_t bytes,
                       uint64_t *reserved) {
    uint64_t want = (bytes + MP_CONTROL_BYTES - 1) / MP_CONTROL_BYTES * MP_CONTROL_BYTES;
    if (mp_likely(mp_load_acquire(reserved) >= want))
        return true;
    if (mp_reserve(seg, offset, want) != 0) {
        mp_store_relaxed(&seg->control->device_wanted, 1u); /* the controller can, from outside */
        return false;
    }
    mp_store_release(reserved, want);
    return true;
}

bool mp_device_add_level(struct mp_segment *seg, const struct mp_levels *levels,
                         struct mp_table *table, uint32_t ready) {
    if (mp_likely(mp_table_ready(levels, table) > ready))
        return true;
    if (ready >= levels->count)
        return false;
    const struct mp_level *level = &levels->level[ready];
    if (!give_pages(seg, level->offset, mp_level_bytes(level), &table->level[ready].reserved_bytes))
        return false;
    mp_cas_u32(&table->levels_ready, ready, ready + 1);
    return mp_table_ready(levels, table) > ready;
}

bool mp_device_ready(struct mp_segment *seg) {
    struct mp_control *c = seg->control;
    const struct mp_layout *layout = &seg->layout;
    return layout->array[MP_ARRAY_DOMAINS].offset != 0 &&
           give_pages(seg, layout->array[MP_ARRAY_DOMAINS].offset,
                      mp_array_bytes(seg, MP_ARRAY_DOMAINS),
                      &c->directory[MP_ARRAY_DOMAINS].reserved_bytes) &&
           give_pages(seg, layout->device_lost_sites.offset,
                      mp_level_bytes(&layout->device_lost_sites),
                      &c->device_lost_sites.reserved_bytes) &&
           mp_device_add_level(seg, &layout->device_sites, &c->device_sites, 0) &&
           mp_device_add_level(seg, &layout->device_live, &c->device_live, 0);
}

static struct mp_domain *rows_of(struct mp_segment *seg) {
    return mp_array_at(seg, MP_ARRAY_DOMAINS);
}

static uint64_t hash_text(uint64_t hash, const char *text, unsigned max) {
    for (unsigned i = 0; i < max && text[i] != '\0'; i++)
        hash = mp_mix(hash ^ (unsigned char)text[i]);
    return hash;
}

/* Append to a name; a name becomes part of a file's name, so other characters than these become '_'. */
static unsigned append(char *name, unsigned at, const char *text) {
    for (; *text != '\0' && at + 1 < MP_DOMAIN_NAME_BYTES; text++) {
        char c = *text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                     c == '-' || c == '_';
        name[at++] = plain ? c : '_';
    }
    return at;
}

static unsigned append_number(char *name, unsigned at, uint32_t number) {
    char digits[11], *p = digits + sizeof digits - 1;
    *p = '\0';
    do
        *--p = (char)('0' + number % 10);
    while ((number /= 10) != 0);
    return append(name, at, p);
}

/* "cuda-0", "cuda-0-managed", "cuda-pinned", "mmap-shared", "pool-<family>", "heap-<family>". */
static void write_name(char *name, const char *family, int device, enum mp_memory_kind kind) {
    static const char *const suffix[MP_MEMORY_HEAP] = {
        "", "-pinned", "-managed", "", "", "-shared", "-file", "-reserved", "-stack"};
    bool is_heap = mp_kind_is_heap(kind);
    unsigned at = append(name, 0, is_heap ? "heap-" : kind == MP_MEMORY_POOL ? "pool-" : "");
    at = append(name, at, family);
    if (device >= 0) {
        at = append(name, at, "-");
        at = append_number(name, at, (uint32_t)device);
    }
    at = append(name, at, is_heap ? "" : suffix[kind]);
    name[at] = '\0';
}

static void publish(struct mp_domain *row, const char *family, int device,
                    enum mp_memory_kind kind) {
    unsigned i = 0;
    write_name(row->name, family, device, kind);
    for (; i + 1 < MP_DOMAIN_NAME_BYTES && family[i] != '\0'; i++)
        row->family[i] = family[i];
    row->family[i] = '\0';
    row->device = device;
    row->kind = kind;
    mp_store_release(&row->published, 1u);
}

uint32_t mp_domain_intern(const char *family, int device, enum mp_memory_kind kind) {
    struct mp_capture_view capture;
    if (!(mp_kind_is_heap(kind) || (unsigned)kind <= MP_MEMORY_MAPPED_STACK) ||
        !mp_capture_view(&capture))
        return MP_DOMAIN_NONE;
    struct mp_segment *seg = capture.segment;
    int saved_errno = errno;
    uint32_t found = MP_DOMAIN_NONE;
    uint64_t key = hash_text((uint64_t)kind << 32 | (uint32_t)device, family, MP_DOMAIN_NAME_BYTES);
    key = ((key & ~MP_DOMAIN_KIND_MASK) | (unsigned)kind) +
          (MP_DOMAIN_KIND_MASK + 1) * (key <= MP_DOMAIN_KIND_MASK);
    if (mp_device_ready(seg)) {
        for (uint32_t i = 1; i < MP_DOMAIN_ROWS && found == MP_DOMAIN_NONE; i++) {
            struct mp_domain *row = rows_of(seg) + i;
            uint64_t there = mp_load_acquire(&row->key);
            if (there == 0 && mp_cas_u64(&row->key, 0, key)) {
                publish(row, family, device, kind);
                there = key;
            } else if (there == 0) {
                there = mp_load_acquire(&row->key);
            }
            if (there == key)
                found = i;
        }
    }
    errno = saved_errno;
    return found;
}

struct mp_domain *mp_domain_at(struct mp_segment *seg, uint32_t domain) {
    if (domain == MP_DOMAIN_NONE || domain >= MP_DOMAIN_ROWS || !mp_device_ready(seg))
        return NULL;
    struct mp_domain *row = rows_of(seg) + domain;
    return mp_load_acquire(&row->key) != 0 ? row : NULL;
}

static void raise_peak(uint64_t *peak, uint64_t value) {
    uint64_t known = mp_load_relaxed(peak);
    while (known < value && !mp_cas_u64(peak, known, value))
        known = mp_load_relaxed(peak);
}

void mp_device_reserved(uint32_t domain, int64_t delta) {
    struct mp_capture_view capture;
    if (!mp_capture_view(&capture))
        return;
    struct mp_domain *row = mp_domain_at(capture.segment, domain);
    if (row == NULL)
        return;
    int64_t now = __atomic_add_fetch(&row->reserved_bytes, delta, __ATOMIC_RELAXED);
    if (now > 0)
        raise_peak(&row->reserved_peak_bytes, (uint64_t)now);
    mp_store_relaxed(&row->last_capture, capture.number);
}

void mp_device_backend_seen(unsigned backend, bool asked, bool loaded) {
    struct mp_segment *seg = mp_capture_segment();
    if (seg == NULL || backend >= MP_BACKEND_ROWS)
        return;
    if (asked)
        mp_store_relaxed(&seg->control->backend[backend].asked, 1u);
    if (loaded)
        mp_store_relaxed(&seg->control->backend[backend].loaded, 1u);
}

void mp_device_backend_call(unsigned backend) {
    struct mp_segment *seg = mp_capture_segment();
    if (seg != NULL && backend < MP_BACKEND_ROWS)
        mp_add_relaxed(&seg->control->backend[backend].calls, 1);
}
