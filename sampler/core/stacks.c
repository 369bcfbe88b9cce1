/*
 * stacks.c - the stack arena and its index. See stacks.h.
 */
#include "stacks.h"
#include "local.h"

#include <string.h>

#define ID_MASK ((1ULL << MP_KEY_STACK_BITS) - 1)
/* reserve the next piece while this, but no more than half of what there is, is left: room for others meanwhile */
#define AHEAD_BYTES (256u << 10)
#define KEPT_SHARE 16 /* of the arena, for stacks of devices alone */

/* Of a PyTorch program's 140,000 native stacks, 78 frames deep on average, these store 87 MiB as 22. */
#define JOINED_MIN 24u /* frames; a shorter stack saves little */
#define RUN_MIN 4u

/* Four independent chains, each a variable of its own: as an array the compiler would make vectors of
 * them, for which the machine has no 64-bit product. */
static uint64_t hash_stack(const struct mp_stack_identity *stack) {
    const uint64_t k0 = 0x9fb21c651e98df25ULL, k1 = 0xd6e8feb86659fd93ULL,
                   k2 = 0xa0761d6478bd642fULL, k3 = 0xe7037ed1a0b428dbULL;
    const uintptr_t *frames = stack->frames;
    const uint32_t depth = stack->depth;
    uint64_t h0 = 0x2545f4914f6cdd1dULL ^ ((uint64_t)stack->generation << 32 | depth);
    uint64_t h1 = (uint64_t)stack->kind << 32 | stack->interpreter, h2 = 0, h3 = 0;
    uint32_t i = 0;
    for (; i + 4 <= depth; i += 4) {
        h0 = (h0 ^ frames[i]) * k0;
        h1 = (h1 ^ frames[i + 1]) * k1;
        h2 = (h2 ^ frames[i + 2]) * k2;
        h3 = (h3 ^ frames[i + 3]) * k3;
        h0 ^= h0 >> 29;
        h1 ^= h1 >> 29;
        h2 ^= h2 >> 29;
        h3 ^= h3 >> 29;
    }
    for (; i < depth; i++) {
        h0 = (h0 ^ frames[i]) * k0;
        h0 ^= h0 >> 29;
    }
    uint64_t h = mp_mix(h0 + mp_mix(h1 + 1)) ^ mp_mix(h2 + mp_mix(h3 + 3));
    return h ? h : 1;
}

/* May the arena's bytes [at, at + need) be used? False for the result of a forged cursor or id. */
static bool in_arena(const struct mp_segment *seg, uint64_t at, uint64_t need) {
    uint64_t room = mp_array_reserved(seg, MP_ARRAY_STACKS);
    return at <= room && need <= room - at && at % 8 == 0;
}

static bool is_nearly_full(const struct mp_segment *seg, uint64_t used) {
    uint64_t half = mp_array_reserved(seg, MP_ARRAY_STACKS) / 2;
    return !in_arena(seg, used, half < AHEAD_BYTES ? half : AHEAD_BYTES);
}

static struct mp_stack *stack_at(const struct mp_segment *seg, uint64_t at) {
    return (struct mp_stack *)((unsigned char *)mp_array_at(seg, MP_ARRAY_STACKS) + at);
}

/* Are the runs with these ids the frames of `want`? */
static bool same_runs(const struct mp_segment *seg, const uint32_t *ids, uint32_t count,
                      const struct mp_stack_identity *want) {
    uint32_t done = 0;
    for (uint32_t i = 0; i < count && done < want->depth; i++) {
        uint64_t at = (uint64_t)ids[i] * 8;
        if (!in_arena(seg, at, sizeof(struct mp_stack)))
            return false;
        const struct mp_stack *run = stack_at(seg, at);
        uint32_t depth = run->depth;
        if (run->kind != MP_STACK_RUN || depth > want->depth - done ||
            !in_arena(seg, at, sizeof *run + (uint64_t)depth * 8) ||
            memcmp(run + 1, want->frames + done, (size_t)depth * 8) != 0)
            return false;
        done += depth;
    }
    return done == want->depth;
}

static bool same_stack(const struct mp_segment *seg, uint32_t id, uint64_t hash,
                       const struct mp_stack_identity *want) {
    uint64_t at = (uint64_t)id * 8;
    if (!in_arena(seg, at, sizeof(struct mp_stack)))
        return false;
    const struct mp_stack *stack = stack_at(seg, at);
    if (mp_load_acquire(&stack->hash) != hash || stack->truncated != want->truncated ||
        stack->generation != want->generation)
        return false;
    uint32_t depth = stack->depth;
    if (!in_arena(seg, at, sizeof *stack + (uint64_t)depth * 8))
        return false;
    if (stack->kind == MP_STACK_JOINED)
        return want->kind == MP_STACK_NATIVE && stack->interpreter == want->depth &&
               same_runs(seg, (const uint32_t *)(stack + 1), 2 * depth, want);
    return depth == want->depth && stack->interpreter == want->interpreter &&
           stack->kind == want->kind && memcmp(stack + 1, want->frames, (size_t)depth * 8) == 0;
}

/* Is what ends there kept for stacks of devices, and this is none? */
static bool is_kept(const struct mp_segment *seg, uint64_t end) {
    uint64_t room = mp_array_bytes(seg, MP_ARRAY_STACKS);
    return !mp_self.of_device && end > room - room / KEPT_SHARE;
}

/* Copy a record into the arena; its id, or 0 when there is no room. */
static uint32_t store_record(struct mp_segment *seg, uint64_t hash,
                             const struct mp_stack_identity *from) {
    struct mp_control *c = seg->control;
    uint64_t need = sizeof(struct mp_stack) + (uint64_t)from->depth * 8;
    uint64_t at = mp_load_relaxed(&c->arena_cursor);
    if (is_kept(seg, at + need))
        return 0;
    if (!in_arena(seg, at, need) || is_nearly_full(seg, at + need))
        mp_array_extend(seg, MP_ARRAY_STACKS);
    if (!in_arena(seg, at, need))
        return 0;
    at = mp_add_relaxed(&c->arena_cursor, need);
    if (!in_arena(seg, at, need))
        return 0; /* others took the room in between; nobody reads the hole */
    struct mp_stack *stack = stack_at(seg, at);
    stack->depth = from->depth;
    stack->truncated = from->truncated;
    stack->generation = from->generation;
    stack->interpreter = from->interpreter;
    stack->kind = from->kind;
    memcpy(stack + 1, from->frames, (size_t)from->depth * 8);
    mp_store_release(&stack->hash, hash);
    return (uint32_t)(at / 8);
}

/* Of the hash of a frame behind which a run ends, so many bits are 0: three for a stack of up to 256 frames, and one
 * more each time as deep, so that a stack has some twenty runs. */
static unsigned run_bits(uint32_t depth) {
    unsigned bits = 3;
    while (depth > 32u << bits)
        bits++;
    return bits;
}

/* Frames of the run at the beginning of `frames`. Their values alone say where it ends, so that stacks which share
 * frames in any depth share runs. */
static uint32_t run_length(const uintptr_t *frames, uint32_t depth, unsigned bits) {
    uint32_t n = RUN_MIN, most = 4u << bits;
    most = depth < most ? depth : most;
    while (n < most && frames[n - 1] * 0x9e3779b97f4a7c15ULL >> (64 - bits) != 0)
        n++;
    return n < most ? n : most;
}

static uint32_t find_in_level(const struct mp_segment *seg, const struct mp_level *level,
                              uint64_t hash, const struct mp_stack_identity *want) {
    const uint64_t *index = mp_level_keys(seg, level);
    for (unsigned which = 0; which < 2; which++) {
        const uint64_t *entries = index + mp_bucket(level, hash, which);
        unsigned alike = 0;
#pragma GCC unroll 8
        for (unsigned i = 0; i < MP_BUCKET_ROWS; i++)
            alike |= (unsigned)((mp_load_relaxed(&entries[i]) ^ hash) >> MP_KEY_STACK_BITS == 0)
                     << i;
        for (; alike != 0; alike &= alike - 1) {
            uint32_t id = (uint32_t)(mp_load_acquire(&entries[__builtin_ctz(alike)]) & ID_MASK);
            if (id >= MP_STACK_LOST_MAX && same_stack(seg, id, hash, want))
                return id;
        }
    }
    return 0;
}

/* First free entry of the level for `hash`; NULL when both buckets are full. */
static uint64_t *free_entry(const struct mp_segment *seg, const struct mp_level *level,
                            uint64_t hash) {
    uint64_t *index = mp_level_keys(seg, level);
    for (unsigned which = 0; which < 2; which++) {
        uint32_t row = mp_bucket(level, hash, which);
        for (unsigned i = 0; i < MP_BUCKET_ROWS; i++)
            if (mp_load_relaxed(&index[row + i]) == 0)
                return &index[row + i];
    }
    return NULL;
}

/* Is there an index entry to take? Asks for the next level when the ready ones are full here. */
static bool room_for(struct mp_segment *seg, uint64_t hash) {
    const struct mp_levels *levels = &seg->layout.stack_index;
    struct mp_table *table = &seg->control->stack_index;
    uint32_t ready = mp_table_ready(levels, table);
    for (uint32_t i = 0; i < ready; i++)
        if (free_entry(seg, &levels->level[i], hash) != NULL)
            return true;
    mp_store_relaxed(&table->wanted, ready + 1);
    mp_table_grow(seg, levels, table);
    return mp_table_ready(levels, table) > ready &&
           free_entry(seg, &levels->level[ready], hash) != NULL;
}

/* A half-full bucket in the last level: give the next one a slice, so that it is ready when this one is full. */
static void grow_ahead(struct mp_segment *seg, uint32_t level, const uint64_t *slot) {
    const struct mp_levels *levels = &seg->layout.stack_index;
    struct mp_table *table = &seg->control->stack_index;
    const uint64_t *index = mp_level_keys(seg, &levels->level[level]);
    if (level + 1 == mp_table_ready(levels, table) &&
        (uint64_t)(slot - index) % MP_BUCKET_ROWS >= MP_BUCKET_ROWS / 2)
        mp_table_grow(seg, levels, table);
}

static bool publish(struct mp_segment *seg, uint64_t hash, uint32_t id) {
    const struct mp_levels *levels = &seg->layout.stack_index;
    struct mp_table *table = &seg->control->stack_index;
    uint64_t entry = (hash & ~ID_MASK) | id;
    uint32_t ready = mp_table_ready(levels, table);
    for (uint32_t i = 0; i < ready; i++) {
        uint64_t *slot;
        while ((slot = free_entry(seg, &levels->level[i], hash)) != NULL)
            if (mp_cas_u64(slot, 0, entry)) {
                grow_ahead(seg, i, slot);
                return true;
            }
    }
    return false;
}

static uint32_t find(const struct mp_segment *seg, uint64_t hash,
                     const struct mp_stack_identity *stack) {
    const struct mp_levels *levels = &seg->layout.stack_index;
    uint32_t ready = mp_table_ready(levels, &seg->control->stack_index);
    for (uint32_t i = 0; i < ready; i++) {
        uint32_t id = find_in_level(seg, &levels->level[i], hash, stack);
        if (id != 0)
            return id;
    }
    return 0;
}

/* Id of a new record; 0: no room. */
static uint32_t add(struct mp_segment *seg, uint64_t hash, const struct mp_stack_identity *record) {
    uint32_t id = room_for(seg, hash) ? store_record(seg, hash, record) : 0;
    if (id != 0)
        publish(seg, hash, id); /* if this fails, only its sites refer to the stack */
    return id;
}

/* Store a stack by its runs, or whole where they are too many or there is no room for one. Apart, so that their ids are
 * not on the stack during a look-up. */
static __attribute__((noinline)) uint32_t add_joined(struct mp_segment *seg, uint64_t hash,
                                                     const struct mp_stack_identity *stack) {
    union {
        uintptr_t words[MP_STACK_RUNS_MAX / 2];
        uint32_t ids[MP_STACK_RUNS_MAX];
    } runs = {{0}};
    struct mp_stack_identity record = {.frames = stack->frames, .kind = MP_STACK_RUN};
    uint32_t count = 0, left = stack->depth;
    unsigned bits = run_bits(left);
    for (; left != 0 && count < MP_STACK_RUNS_MAX; left -= record.depth) {
        record.depth = run_length(record.frames, left, bits);
        uint64_t hash_of_run = hash_stack(&record);
        uint32_t id = find(seg, hash_of_run, &record);
        runs.ids[count] = id != 0 ? id : add(seg, hash_of_run, &record);
        if (runs.ids[count++] == 0)
            break;
        record.frames += record.depth;
    }
    if (left != 0)
        return add(seg, hash, stack);
    record = (struct mp_stack_identity){.frames = runs.words,
                                        .depth = (count + 1) / 2,
                                        .truncated = stack->truncated,
                                        .kind = MP_STACK_JOINED,
                                        .generation = stack->generation,
                                        .interpreter = stack->depth};
    return add(seg, hash, &record);
}

static bool is_stack(const struct mp_stack_identity *stack) {
    return stack->depth != 0 && stack->depth <= MP_DEPTH_MAX;
}

static uint32_t answer(uint32_t found, uint32_t added, bool *is_new) {
    *is_new = added != 0;
    if (found != 0)
        return found;
    return added != 0 ? added : MP_STACK_LOST_TABLE_FULL;
}

uint32_t mp_stack_intern(struct mp_segment *seg, const struct mp_stack_identity *stack,
                         bool *is_new) {
    *is_new = false;
    if (!is_stack(stack))
        return MP_STACK_LOST_EMPTY;
    uint64_t hash = hash_stack(stack);
    uint32_t id = find(seg, hash, stack);
    return answer(id, id != 0 ? 0 : add(seg, hash, stack), is_new);
}

uint32_t mp_stack_intern_native(struct mp_segment *seg, const struct mp_stack_identity *stack,
                                bool *is_new) {
    if (stack->depth < JOINED_MIN || !is_stack(stack))
        return mp_stack_intern(seg, stack, is_new);
    uint64_t hash = hash_stack(stack);
    uint32_t id = find(seg, hash, stack);
    return answer(id, id != 0 ? 0 : add_joined(seg, hash, stack), is_new);
}
