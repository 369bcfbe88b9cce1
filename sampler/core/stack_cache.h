/*
 * stack_cache.h - recognise a stack that the sampler recorded before, without unwinding it.
 *
 * Model: the rule that leaves a frame depends on its address alone, and nearly all rules are offsets from
 * the stack pointer or from a saved frame pointer. So after one unwinding the place of every word that
 * leads from frame to frame is known, as an offset from the stack pointer. If the same words are at the
 * same offsets again, the walk would find the same frames again: this is exact, not a guess, and holds at
 * any depth of the stack. The comparison takes loads that do not wait for one another, and gives the id
 * of the stack at once: no hash of all frames, no look-up, no comparison with stored stacks.
 *
 * Such words do not identify frames with other rules, signal frames, and stacks that were cut or ended
 * early; these get no entry. An entry is valid for one state of the rule cache (sequence) and of the
 * loader (generation). Entries are in `mp_local`: a fork child starts without any.
 *
 * Threads: any, HOOK. An entry is written and read under its version (seqlock.h). Readers follow an
 * offset only when the version has not changed since they read that it is within the stack.
 */
#ifndef MP_STACK_CACHE_H
#define MP_STACK_CACHE_H

#include "scratch.h"
#include "table.h"
#include "unwind/unwind.h"

/* 2048 stacks of 1 KiB: 2 MiB in sum, and 33 KiB for tags and probes. */
#define MP_KNOWN_SETS 256
#define MP_KNOWN_WAYS 8    /* their tags and probes are two cache lines */
/* fills the kilobyte: 123 frames, or 98 where frame pointers are followed */
#define MP_KNOWN_WORDS 123

/* Number of frames that distinguish the stacks of a place; grows whenever a set is full of one
 * key. */
#define MP_KNOWN_PLACES 1024
#define MP_KNOWN_PREFIX_STEP 3
#define MP_KNOWN_PREFIX_MAX 12

struct mp_known_stack {
    uint32_t version; /* odd: being written */
    uint32_t sequence;
    uint32_t generation;
    uint32_t stack; /* id */
    uint32_t epoch; /* of the segment the id is good for: mp_local.epoch */
    uint16_t farthest; /* place of all steps */
    uint16_t pad;
    uint64_t pc;    /* of the first frame */
    uint16_t steps; /* frames after the first */
    uint16_t hook;
    uint16_t place;
    uint8_t prefix; /* of its place when it was learned */
    bool chained;   /* a frame pointer was followed somewhere */
    /* One word per step: the return address, and below it its place. Then, if `chained`, the places of
     * the frame pointers, four a word. */
    uint64_t word[MP_KNOWN_WORDS];
};

/* The first comparison: the tags of all ways at once, then a word that tells an entry from others of its tag. */
struct mp_known_set {
    uint32_t tag[MP_KNOWN_WAYS]; /* 0: empty */
    uint64_t probe[MP_KNOWN_WAYS]; /* as a step */
} __attribute__((aligned(64)));

struct mp_known {
    struct mp_known_set set[MP_KNOWN_SETS];
    struct mp_known_stack stack[MP_KNOWN_SETS][MP_KNOWN_WAYS];
    uint8_t prefix[MP_KNOWN_PLACES]; /* frames that distinguish the stacks of a place */
    uint32_t evictions; /* requests to replace a live entry; selects the entry */
};

/* Where the entries of a stack may be. */
struct mp_known_key {
    uint32_t set, tag;
    uint32_t place, prefix;
    uintptr_t words; /* of the stack above the frame */
};

/* HOOK. Id of the stack above `caller`, whose frame 0 is hook number `hook`; 0 if it is not known.
 * *key is then the argument of mp_known_learn(). */
uint32_t mp_known_find(const struct mp_frame *caller, unsigned hook, uint32_t generation,
                       struct mp_known_key *key);

/* HOOK. Remember what an unwinding from `caller` left in *scratch: its trace and, behind frame 0, the return
 * addresses; `stack` is its id. No more arguments than registers: a caller that realigns its stack and
 * pushes could not be unwound when it is interrupted. */
void mp_known_learn(const struct mp_known_key *key, const struct mp_frame *caller, unsigned hook,
                    uint32_t generation, const struct mp_scratch *scratch, uint32_t stack);

#endif
