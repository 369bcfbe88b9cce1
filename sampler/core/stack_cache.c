/*
 * stack_cache.c - see stack_cache.h.
 */
#include "stack_cache.h"
#include "abi/seqlock.h"
#include "local.h"
#include "unwind/stack_range.h"
#include "unwind/unwind_cache.h"
#include "unwind/unwind_walk.h"

#define PLACE_BITS 16

_Static_assert(sizeof(struct mp_known_stack) == 1024, "whole cache lines");
_Static_assert(MP_ARCH_PC_LIMIT <= 1ULL << (64 - PLACE_BITS), "an address and a place fit a word");

/* The place below the address: both come out of the word in one instruction. */
static inline uint64_t step_word(uintptr_t pc, uint32_t place) {
    return (uint64_t)pc << PLACE_BITS | (uint16_t)place;
}

static inline uintptr_t place_in(uint64_t word) {
    return (uint16_t)word;
}

static inline uintptr_t pc_in(uint64_t word) {
    return word >> PLACE_BITS;
}

static inline uint64_t fold(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * 0xd6e8feb86659fd93ULL;
    return hash ^ hash >> 32;
}

/* Fold the return addresses of the next `frames` frames into the hash, as far as cached rules exist. */
static inline __attribute__((always_inline)) MP_RAW_READS uint64_t
fold_prefix(uint64_t hash, const struct mp_frame *caller, uintptr_t high, unsigned frames) {
    uint64_t epoch = mp_cache_epoch(mp_cache_sequence());
    uintptr_t pc = caller->pc, sp = caller->sp;
    const uintptr_t *fp_at = &caller->fp;
    for (; frames > 0; frames--) {
        uint64_t found = mp_cache_find(pc, epoch);
        uint32_t word = (uint32_t)found;
        uintptr_t cfa, ra_at;
        if (!mp_cache_hit(found))
            break;
        if (mp_likely(mp_rule_kind(word) == MP_RULE_SP)) {
            cfa = sp + mp_rule_offset(word);
            ra_at = mp_rule_ra_slot(word, cfa);
            if (mp_rule_saves_fp(word))
                fp_at = (const uintptr_t *)mp_rule_fp_slot(word, cfa);
        } else if (mp_rule_kind(word) == MP_RULE_CHAIN) {
            cfa = *fp_at + mp_rule_offset(word);
            ra_at = *fp_at + sizeof(uintptr_t);
            fp_at = (const uintptr_t *)*fp_at;
            if ((uintptr_t)fp_at < sp || (uintptr_t)fp_at >= high ||
                (uintptr_t)fp_at % sizeof(uintptr_t) != 0)
                break;
        } else
            break;
        if (cfa > high)
            break;
        pc = mp_arch_return_address(*(const uintptr_t *)ra_at);
        sp = cfa;
        if (pc - 1 >= MP_ARCH_PC_LIMIT - 1)
            break;
        hash = fold(hash, pc);
    }
    return hash;
}

/*
 * Depth distinguishes most paths to one call site, and threads of one kind have equal depths. Where
 * more stacks than two share caller and depth, the innermost frames decide as well.
 */
static inline MP_RAW_READS void find_key(struct mp_known_key *key, const struct mp_frame *caller,
                                         unsigned hook) {
    struct mp_stack_range range;
    mp_stack_find(caller->sp, true, &range);
    key->words = (range.high - caller->sp) / sizeof(uintptr_t);
    uint64_t h = (caller->pc + hook) * 0x9e3779b97f4a7c15ULL ^ (uint64_t)key->words << 20;
    h = fold(h, h >> 32);
    key->place = (uint32_t)(h >> 8) % MP_KNOWN_PLACES;
    key->prefix = mp_load_relaxed(&mp_local.known.prefix[key->place]);
    if (key->prefix != 0)
        h = fold_prefix(h, caller, range.high, key->prefix);
    key->set = (uint32_t)(h >> 40) % MP_KNOWN_SETS;
    key->tag = (uint32_t)h | 1;
}

static inline __attribute__((always_inline)) MP_RAW_READS bool
leads_on(const uint64_t *step, const uintptr_t *stack, uintptr_t words) {
    uint64_t word = mp_load_relaxed(step);
    uintptr_t at = place_in(word);
    return mp_likely(at < words) && mp_likely(mp_arch_return_address(stack[at]) == pc_in(word));
}

static inline __attribute__((always_inline)) MP_RAW_READS bool leads_to(uint64_t word,
                                                                        const uintptr_t *stack) {
    return mp_likely(mp_arch_return_address(stack[place_in(word)]) == pc_in(word));
}

/*
 * Are the words of the stack unchanged? Most of the cost of a known stack: four steps a round. The farthest step is in
 * the stack, so all are, if they are of one version. A function apart has registers enough for a round.
 */
static __attribute__((noinline)) MP_RAW_READS bool leads_along(const struct mp_known_stack *e,
                                                               uint32_t version,
                                                               const uintptr_t *stack,
                                                               uint32_t steps) {
    const uint64_t *step = e->word, *end = step + steps, *fours = step + steps / 4 * 4;
    for (; step != fours; step += 4) {
        uint64_t a = mp_load_relaxed(step), b = mp_load_relaxed(step + 1);
        uint64_t c = mp_load_relaxed(step + 2), d = mp_load_relaxed(step + 3);
        if (mp_unlikely(!mp_seq_unchanged(&e->version, version)) || !leads_to(a, stack) ||
            !leads_to(b, stack) || !leads_to(c, stack) || !leads_to(d, stack))
            return false;
    }
    for (; step < end; step++) {
        uint64_t word = mp_load_relaxed(step);
        if (mp_unlikely(!mp_seq_unchanged(&e->version, version)) || !leads_to(word, stack))
            return false;
    }
    return true;
}

/* Do the frame pointers that were followed point to the words before the return addresses? */
static MP_RAW_READS bool chains_along(const struct mp_known_stack *e, const struct mp_frame *caller,
                                      uintptr_t words, uint32_t steps) {
    const uintptr_t *stack = (const uintptr_t *)caller->sp;
    for (uint32_t i = 0; i < steps; i++) {
        uint64_t four = mp_load_relaxed(&e->word[steps + i / 4]);
        uintptr_t at = four >> 16 * (i % 4) & 0xffff, fp = caller->fp;
        if (at == 0)
            continue;
        if (at != MP_TRACE_REGISTER) {
            if (at > words)
                return false;
            fp = stack[at - 1];
        }
        uintptr_t ra_at = place_in(mp_load_relaxed(&e->word[i]));
        if (fp != (uintptr_t)(stack + ra_at - 1))
            return false;
    }
    return true;
}

static uint32_t words_needed(uint32_t steps, bool chained) {
    return steps + (chained ? (steps + 3) / 4 : 0);
}

static inline MP_RAW_READS uint32_t check(const struct mp_known_stack *e,
                                          const struct mp_frame *caller, unsigned hook,
                                          uint32_t generation, uintptr_t words) {
    uint32_t version = mp_seq_read_begin(&e->version);
    uint32_t stack = mp_load_relaxed(&e->stack), steps = mp_load_relaxed(&e->steps);
    bool chained = mp_load_relaxed(&e->chained);
    if ((version & 1) != 0 || mp_load_relaxed(&e->pc) != caller->pc ||
        words_needed(steps, chained) > MP_KNOWN_WORDS || mp_load_relaxed(&e->hook) != hook ||
        mp_load_relaxed(&e->generation) != generation ||
        mp_load_relaxed(&e->epoch) != mp_load_relaxed(&mp_local.epoch) ||
        mp_load_relaxed(&e->sequence) != mp_cache_sequence() ||
        mp_load_relaxed(&e->farthest) >= words)
        return 0;
    if (!leads_along(e, version, (const uintptr_t *)caller->sp, steps) ||
        (chained && !chains_along(e, caller, words, steps)))
        return 0;
    return mp_seq_unchanged(&e->version, version) ? stack : 0;
}

/* Bit i is set for each way that may hold the stack. It compares all tags, so that the processor predicts no branch. */
static inline __attribute__((always_inline)) unsigned candidates(const struct mp_known_set *set,
                                                                 uint32_t tag) {
    unsigned found = 0;
#pragma GCC unroll 8
    for (unsigned i = 0; i < MP_KNOWN_WAYS; i++)
        found |= (unsigned)(mp_load_relaxed(&set->tag[i]) == tag) << i;
    return found;
}

MP_RAW_READS uint32_t mp_known_find(const struct mp_frame *caller, unsigned hook,
                                    uint32_t generation, struct mp_known_key *key) {
    find_key(key, caller, hook);
    if (mp_unlikely(key->words == 0))
        return 0;
    const struct mp_known_set *set = &mp_local.known.set[key->set];
    for (unsigned left = candidates(set, key->tag); left != 0; left &= left - 1) {
        unsigned way = (unsigned)__builtin_ctz(left);
        if (!leads_on(&set->probe[way], (const uintptr_t *)caller->sp, key->words))
            continue;
        const struct mp_known_stack *e = &mp_local.known.stack[key->set][way];
        uint32_t stack = check(e, caller, hook, generation, key->words);
        if (stack != 0)
            return stack;
    }
    return 0;
}

/* The first step in which two entries differ. */
static uint32_t first_difference(const struct mp_known_stack *a, const struct mp_known_stack *b) {
    uint32_t i = 0, steps = mp_load_relaxed(&a->steps), other = mp_load_relaxed(&b->steps);
    steps = other < steps ? other : steps;
    steps = steps < MP_KNOWN_WORDS ? steps : MP_KNOWN_WORDS;
    while (i + 1 < steps && mp_load_relaxed(&a->word[i]) == mp_load_relaxed(&b->word[i]))
        i++;
    return i;
}

/* Choose a probe that distinguishes the new entry from the others of its tag, and probes that
 * distinguish them from it. Returns their number. */
static unsigned set_probes(const struct mp_known_key *key, unsigned mine) {
    struct mp_known_set *set = &mp_local.known.set[key->set];
    const struct mp_known_stack *entries = mp_local.known.stack[key->set];
    uint32_t farthest = 0;
    unsigned others = 0;
    for (unsigned i = 0; i < MP_KNOWN_WAYS; i++) {
        if (i == mine || mp_load_relaxed(&set->tag[i]) != key->tag)
            continue;
        uint32_t at = first_difference(&entries[i], &entries[mine]);
        mp_store_relaxed(&set->probe[i], mp_load_relaxed(&entries[i].word[at]));
        farthest = at > farthest ? at : farthest;
        others++;
    }
    mp_store_relaxed(&set->probe[mine], mp_load_relaxed(&entries[mine].word[farthest]));
    return others;
}

/* Does no key find the entry any more? */
static bool is_dead(uint32_t set, int way) {
    const struct mp_known_stack *e = &mp_local.known.stack[set][way];
    uint32_t place = mp_load_relaxed(&e->place) % MP_KNOWN_PLACES;
    return mp_load_relaxed(&mp_local.known.set[set].tag[way]) == 0 ||
           mp_load_relaxed(&e->sequence) != mp_cache_sequence() ||
           mp_load_relaxed(&e->prefix) != mp_load_relaxed(&mp_local.known.prefix[place]);
}

/* The entry to replace: a dead one, otherwise each one after the other, and seldom, so that a program
 * with more stacks than entries keeps most of its entries. */
static int way_for(uint32_t set) {
    for (int way = 0; way < MP_KNOWN_WAYS; way++)
        if (is_dead(set, way) && !mp_seq_is_written(&mp_local.known.stack[set][way].version))
            return way;
    uint32_t evictions = mp_load_relaxed(&mp_local.known.evictions);
    mp_store_relaxed(&mp_local.known.evictions, evictions + 1);
    return evictions % 4 == 0 ? (int)(evictions / 4 % MP_KNOWN_WAYS) : -1;
}

/* Too many stacks of one key, if there are `least`: use more frames from now on. */
static void lengthen_prefix(const struct mp_known_key *key, unsigned least) {
    unsigned same = 0;
    for (unsigned i = 0; i < MP_KNOWN_WAYS; i++)
        same += mp_load_relaxed(&mp_local.known.set[key->set].tag[i]) == key->tag;
    if (same >= least && key->prefix < MP_KNOWN_PREFIX_MAX)
        mp_store_relaxed(&mp_local.known.prefix[key->place],
                         (uint8_t)(key->prefix + MP_KNOWN_PREFIX_STEP));
}

static bool write_words(struct mp_known_stack *e, const struct mp_unwind_trace *trace,
                        const uintptr_t *pcs, bool chained) {
    uint32_t steps = trace->steps;
    uintptr_t farthest = 0;
    for (uint32_t i = 0; i < steps; i++) {
        uint64_t word = step_word(pcs[1 + i], trace->step[i]);
        farthest = place_in(word) > farthest ? place_in(word) : farthest;
        mp_store_relaxed(&e->word[i], word);
    }
    mp_store_relaxed(&e->farthest, (uint16_t)farthest);
    for (uint32_t i = 0; chained && i < steps; i += 4) {
        uint64_t four = 0;
        for (uint32_t j = i; j < steps && j < i + 4; j++)
            four |= (uint64_t)(trace->step[j] >> 16) << 16 * (j - i);
        mp_store_relaxed(&e->word[steps + i / 4], four);
    }
    return chained;
}

void mp_known_learn(const struct mp_known_key *key, const struct mp_frame *caller, unsigned hook,
                    uint32_t generation, const struct mp_scratch *scratch, uint32_t stack) {
    const struct mp_unwind_trace *trace = &scratch->trace;
    const uintptr_t *pcs = scratch->frames + 1;
    if (!trace->complete || trace->steps == 0 || mp_load_relaxed(&mp_cache.closing) != 0)
        return;
    bool chained = false;
    for (uint32_t i = 0; i < trace->steps; i++)
        chained |= trace->step[i] >> 16 != 0;
    if (words_needed(trace->steps, chained) > MP_KNOWN_WORDS)
        return;
    int way = way_for(key->set);
    if (way < 0) {
        lengthen_prefix(key, 3);
        return;
    }
    struct mp_known_stack *e = &mp_local.known.stack[key->set][way];
    if (!mp_seq_write_begin(&e->version))
        return;
    mp_store_relaxed(&e->sequence, trace->sequence);
    mp_store_relaxed(&e->generation, generation);
    mp_store_relaxed(&e->epoch, mp_load_relaxed(&mp_local.epoch));
    mp_store_relaxed(&e->stack, stack);
    mp_store_relaxed(&e->pc, caller->pc);
    mp_store_relaxed(&e->steps, (uint16_t)trace->steps);
    mp_store_relaxed(&e->hook, (uint16_t)hook);
    mp_store_relaxed(&e->place, (uint16_t)key->place);
    mp_store_relaxed(&e->prefix, (uint8_t)key->prefix);
    mp_store_relaxed(&e->chained, write_words(e, trace, pcs, chained));
    unsigned others = set_probes(key, (unsigned)way);
    mp_store_relaxed(&mp_local.known.set[key->set].tag[way], key->tag);
    mp_seq_write_end(&e->version);
    if (others + 1 == MP_KNOWN_WAYS)
        lengthen_prefix(key, 0);
}
