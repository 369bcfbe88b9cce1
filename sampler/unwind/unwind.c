/*
 * unwind.c - the loop over the frames, and the choice of the mode.
 *
 * walk() leaves nearly every frame of a program that has run for a while: its rule is in the cache and is
 * one of the two common kinds. Everything else is one call of step(): a miss, a rare kind, an edge of the
 * readable range, the end. The loop keeps the place where the frame pointer was last saved and not its
 * value, so that code that never uses it costs no load.
 */
#include "unwind.h"
#include "abi/atomics.h"
#include "unwind_cache.h"
#include "unwind_cfi.h"
#include "unwind_code.h"
#include "unwind_fp.h"
#include "unwind_libgcc.h"
#include "unwind_memo.h"

#include <errno.h>
#include <stddef.h>

/* More than a hook writes below itself: room for the signal handler of a program that calls little. */
#define STACK_BYTES 2048
#define LIBGCC_STACK_BYTES 4096

static enum mp_unwind_mode mode;
static unsigned depth_limit;

/* This and the next two apart, so that their data are not on the stack during the derivation of a rule. */
static __attribute__((noinline)) bool step_signal(struct mp_walk *w) {
    uintptr_t pc, sp, fp, ra;
    if (!mp_walk_knows_sp(w) || !mp_stack_read(&w->range, w->sp + MP_ARCH_CONTEXT_PC, &pc) ||
        !mp_stack_read(&w->range, w->sp + MP_ARCH_CONTEXT_SP, &sp) ||
        !mp_stack_read(&w->range, w->sp + MP_ARCH_CONTEXT_FP, &fp) ||
        !mp_stack_read(&w->range, w->sp + MP_ARCH_CONTEXT_RA, &ra)) {
        return mp_walk_fail(w, MP_LOST_UNWIND_RANGE);
    }
    return mp_walk_enter_interrupted(w, pc, sp, fp, ra);
}

/* Base of a packed rule's offset. Where the stack pointer is unknown, a function that saves the
 * frame pointer determines it: the register points to its record, which the rule places. */
static bool find_base(const struct mp_walk *w, uint32_t word, uintptr_t *base) {
    *base = w->fp;
    if (mp_rule_kind(word) != MP_RULE_SP)
        return true;
    if (mp_walk_knows_sp(w))
        *base = w->sp;
    else
        *base = w->fp - mp_rule_fp_slot(word, mp_rule_offset(word));
    return mp_walk_knows_sp(w) || (mp_rule_saves_fp(word) && *base >= w->sp);
}

/* SP, FP and CHAIN, with every check. */
static __attribute__((noinline)) bool step_packed(struct mp_walk *w, uint32_t word) {
    uintptr_t base, pc, fp = w->fp;
    if (!find_base(w, word, &base))
        return mp_walk_fail(w, MP_LOST_UNWIND_RANGE);
    uintptr_t cfa = base + mp_rule_offset(word);
    if (!mp_stack_read(&w->range, mp_rule_ra_slot(word, cfa), &pc) ||
        (mp_rule_saves_fp(word) && !mp_stack_read(&w->range, mp_rule_fp_slot(word, cfa), &fp))) {
        return mp_walk_fail(w, MP_LOST_UNWIND_RANGE);
    }
    return mp_walk_enter(w, mp_arch_return_address(pc), cfa, fp);
}

static __attribute__((noinline)) bool step_deref(struct mp_walk *w, uint32_t word) {
    uintptr_t at = w->fp + (uintptr_t)(intptr_t)(int16_t)(word & 0xfff8u), cfa, pc, fp;
    if (!mp_stack_read(&w->range, at, &cfa) || !mp_stack_read(&w->range, cfa - 8, &pc) ||
        !mp_stack_read(&w->range, w->fp, &fp)) {
        return mp_walk_fail(w, MP_LOST_UNWIND_RANGE);
    }
    return mp_walk_enter(w, mp_arch_return_address(pc), cfa, fp);
}

static bool step_lost(struct mp_walk *w, uint32_t word) {
    uint8_t cause = mp_rule_cause(word);
    w->is_stray = (word & MP_RULE_NOT_CODE) != 0;
    if (mode == MP_UNWIND_FP && !w->is_stray) {
        w->end = cause;
        if (mp_fp_step(w, cause != MP_LOST_UNWIND_NO_MODULE))
            return true;
        if (w->end == MP_UNWIND_OUTERMOST)
            return false;
    }
    return mp_walk_fail(w, cause);
}

/* Leave one frame, by any rule. On false w->end says why the stack ends here. */
static bool step(struct mp_walk *w) {
    struct mp_wide_rule wide;
    uintptr_t key = mp_walk_key(w);
    uint64_t found = mp_cache_find(key, mp_cache_epoch(w->sequence));
    uint32_t word = (uint32_t)found;
    if (!mp_cache_hit(found))
        word = mp_cfi_rule(w, &wide);
    if (word == MP_RULE_WIDE)
        return mp_cfi_step(w, &wide);
    switch (mp_rule_kind(word)) {
    case MP_RULE_SP:
    case MP_RULE_FP:
    case MP_RULE_CHAIN:
        return step_packed(w, word);
    case MP_RULE_DEREF:
        return step_deref(w, word);
    case MP_RULE_SIGNAL:
        return step_signal(w);
    case MP_RULE_END:
        return mp_walk_fail(w, MP_UNWIND_OUTERMOST);
    case MP_RULE_LOST:
        return step_lost(w, word);
    default:
        return mp_walk_fail(w, MP_LOST_UNWIND_BAD_RULE);
    }
}

/* A step outside of the loop, and further ones while frames are interrupted functions. */
static __attribute__((noinline, cold)) bool step_slow(struct mp_walk *w, uintptr_t *pcs,
                                                      unsigned max, unsigned *depth) {
    do {
        if (!step(w)) {
            *depth -= w->is_stray && *depth > 1;
            return false;
        }
        if (*depth == max)
            return mp_walk_fail(w, MP_LOST_TRUNCATED);
        pcs[(*depth)++] = w->pc;
    } while (w->exact || !mp_walk_knows_sp(w));
    return true;
}

/* Note that the address `pcs[depth]` was read at ra_at, having followed the frame pointer saved at fp_at
 * (0: followed none; `in_register`: the caller's). */
static inline void note_step(struct mp_unwind_trace *trace, uintptr_t sp, unsigned depth,
                             uintptr_t ra_at, uintptr_t fp_at, bool in_register) {
    uintptr_t ra = (ra_at - sp) / sizeof(uintptr_t), fp = 0;
    if (fp_at != 0)
        fp = in_register ? MP_TRACE_REGISTER : (fp_at - sp) / sizeof(uintptr_t) + 1;
    if (ra >= MP_TRACE_REGISTER || fp > MP_TRACE_REGISTER ||
        (fp == MP_TRACE_REGISTER && !in_register))
        trace->complete = false;
    trace->step[(depth - 1) % MP_TRACE_STEPS] = (uint32_t)ra | (uint32_t)fp << 16;
}

/* The same for frames that the memo gave: frame[0] of `memo_frame` is the one before. */
static void note_memo_steps(struct mp_unwind_trace *trace, uintptr_t sp, unsigned depth,
                            const struct mp_memo_frame *f, unsigned n, uintptr_t current_fp_at,
                            uintptr_t register_at) {
    uintptr_t low = f->sp;
    for (unsigned i = 0; i < n; i++, f++) {
        uintptr_t ra_at = f[1].ra_at & ~(uintptr_t)MP_MEMO_CHAIN, fp_at = 0;
        if ((f[1].ra_at & MP_MEMO_CHAIN) != 0)
            fp_at = f->fp_at >= low ? f->fp_at : current_fp_at;
        note_step(trace, sp, depth + i, ra_at, fp_at, fp_at == register_at);
    }
}

/* A walk in the loop: in registers, since only inline code gets its address. */
struct loop {
    struct mp_walk *w;
    uintptr_t *pcs;
    unsigned max;
    unsigned depth; /* frames written */
    uintptr_t pc;
    uintptr_t sp;
    uintptr_t fp_at; /* where the frame pointer was last saved; &w->fp: in no frame so far */
    uintptr_t high;
    uintptr_t first_sp;
    struct mp_memo
        *memo; /* is compared with, or, if `record`, filled; may be NULL when not recording */
    bool record;
    unsigned at; /* the next frame of the memo to compare */
    unsigned known; /* its frames, those recorded included */
    unsigned same; /* frames that it gave */
    struct mp_unwind_trace *trace; /* NULL: not asked for */
};

/* Where a common rule leads. */
struct leap {
    uintptr_t cfa;
    uintptr_t ra_at;
    uintptr_t fp_at; /* as in the loop, for the next frame */
    uintptr_t followed; /* where the frame pointer that was followed there was read; 0: none was */
};

enum leaving {
    LEAVING_BY_LEAP,
    LEAVING_BY_RECORD, /* a leap too */
    LEAVING_BY_STEP, /* by step(), which takes any rule */
    LEAVING_OUTERMOST,
};

#define IN_LOOP static inline __attribute__((always_inline)) MP_RAW_READS

/* Take the frames that the memo shares with the stack from the present frame on. */
IN_LOOP void follow_memo(struct loop *l) {
    const struct mp_memo *memo = l->memo;
    while (l->at < l->known && memo->frame[l->at].sp < l->sp)
        l->at++;
    if (l->at >= l->known || memo->frame[l->at].sp != l->sp || memo->frame[l->at].pc != l->pc)
        return;
    unsigned n =
        mp_memo_follow(memo, l->at, l->fp_at, l->high, l->pcs + l->depth, l->max - l->depth);
    if (n != 0) {
        if (l->trace != NULL)
            note_memo_steps(l->trace, l->first_sp, l->depth, &memo->frame[l->at], n, l->fp_at,
                            (uintptr_t)&l->w->fp);
        l->at += n;
        l->depth += n;
        l->same += n;
        const struct mp_memo_frame *f = &memo->frame[l->at];
        l->pc = f->pc;
        l->fp_at = f->fp_at >= l->sp ? f->fp_at : l->fp_at;
        l->sp = f->sp;
    }
    l->at++;
}

/* By the frame record, if it points to code for which the cache has a rule. */
IN_LOOP enum leaving choose_record(const struct loop *l, struct leap *to) {
    uintptr_t fp = *(const uintptr_t *)l->fp_at;
    if (fp < l->sp || fp >= l->high || fp % sizeof(uintptr_t) != 0 ||
        l->high - fp < MP_FP_RECORD_BYTES)
        return LEAVING_BY_STEP;
    to->cfa = fp + MP_FP_RECORD_BYTES;
    to->ra_at = fp + sizeof(uintptr_t);
    to->fp_at = fp;
    to->followed = l->fp_at;
    uintptr_t next = mp_arch_return_address(*(const uintptr_t *)to->ra_at);
    bool known = next - 1 < MP_ARCH_PC_LIMIT - 1 &&
                 mp_cache_hit(mp_cache_find(next, mp_cache_epoch(l->w->sequence)));
    return known ? LEAVING_BY_RECORD : LEAVING_BY_STEP;
}

/* How the present frame is left by the rule that was `found` in the cache. */
IN_LOOP enum leaving choose_leaving(const struct loop *l, uint64_t found, struct leap *to) {
    uint32_t word = (uint32_t)found, kind = mp_rule_kind(word);
    if (mp_likely(mp_cache_hit(found) && kind == MP_RULE_SP)) {
        to->cfa = l->sp + mp_rule_offset(word);
        to->ra_at = mp_rule_ra_slot(word, to->cfa);
        to->fp_at = mp_rule_saves_fp(word) ? mp_rule_fp_slot(word, to->cfa) : l->fp_at;
        to->followed = 0;
        return mp_unlikely(to->cfa > l->high) ? LEAVING_BY_STEP : LEAVING_BY_LEAP;
    }
    if (mp_cache_hit(found) && kind == MP_RULE_CHAIN) {
        uintptr_t fp = *(const uintptr_t *)l->fp_at;
        to->cfa = fp + mp_rule_offset(word);
        to->ra_at = fp + sizeof(uintptr_t);
        to->fp_at = fp;
        to->followed = l->fp_at;
        bool inside = fp >= l->sp && fp < l->high && to->cfa <= l->high;
        return mp_unlikely(!inside || fp % sizeof(uintptr_t) != 0) ? LEAVING_BY_STEP
                                                                   : LEAVING_BY_LEAP;
    }
    if (mp_cache_hit(found) && kind == MP_RULE_LOST && MP_ARCH_RECORD_ENDS_FRAME &&
        mode == MP_UNWIND_FP)
        return choose_record(l, to);
    return mp_cache_hit(found) && kind == MP_RULE_END ? LEAVING_OUTERMOST : LEAVING_BY_STEP;
}

/* Only frames below all signal frames allow a comparison with the next stack. */
IN_LOOP void record_frame(struct loop *l, uintptr_t ra_at, uintptr_t fp_at) {
    if (l->record && l->w->signals == 0)
        l->known = mp_memo_record(l->memo, l->known, l->pc, l->sp, ra_at, fp_at);
}

/* Step to the next frame. False if there is none. */
IN_LOOP bool leap(struct loop *l, const struct leap *to) {
    uintptr_t next = mp_arch_return_address(*(const uintptr_t *)to->ra_at);
    uintptr_t register_at = (uintptr_t)&l->w->fp;
    if (mp_unlikely(next - 1 >= MP_ARCH_PC_LIMIT - 1)) {
        mp_walk_check_pc(l->w, next);
        if (l->trace != NULL)
            l->trace->complete = false; /* nothing distinguishes this word from a later one */
        return false;
    }
    if (mp_unlikely(l->depth == l->max))
        return mp_walk_fail(l->w, MP_LOST_TRUNCATED);
    if (l->trace != NULL)
        note_step(l->trace, l->first_sp, l->depth, to->ra_at, to->followed,
                  to->followed == register_at);
    l->pcs[l->depth++] = l->pc = next;
    l->sp = to->cfa;
    l->fp_at = to->fp_at;
    record_frame(l, to->ra_at | (to->followed != 0 ? MP_MEMO_CHAIN : 0),
                 to->fp_at != register_at ? to->fp_at : 0);
    return true;
}

/* The same, whatever it takes. */
IN_LOOP bool step_aside(struct loop *l) {
    struct mp_walk *w = l->w;
    unsigned depth = l->depth;
    if (l->trace != NULL)
        l->trace->complete = false;
    w->fp = *(const uintptr_t *)l->fp_at;
    w->by_record = w->ra == l->fp_at;
    w->pc = l->pc;
    w->sp = l->sp;
    bool entered = step_slow(w, l->pcs, l->max, &depth);
    l->depth = depth;
    if (!entered)
        return false;
    l->pc = w->pc;
    l->sp = w->sp;
    l->fp_at = (uintptr_t)&w->fp;
    w->ra = w->by_record ? l->fp_at : 0;
    l->high = w->range.high;
    record_frame(l, 0, 0);
    return true;
}

/* The loop. The compiler makes variants for the constants of the last three. */
IN_LOOP unsigned walk_frames(struct mp_walk *w, uintptr_t *pcs, unsigned max, struct mp_memo *memo,
                             bool record, struct mp_unwind_trace *trace) {
    struct loop l = {.w = w,
                     .pcs = pcs,
                     .max = max,
                     .pc = w->pc,
                     .sp = w->sp,
                     .fp_at = (uintptr_t)&w->fp,
                     .high = w->range.high,
                     .first_sp = w->sp,
                     .memo = memo,
                     .record = record,
                     .known = memo != NULL ? memo->depth : 0,
                     .trace = trace};
    uint64_t epoch = mp_cache_epoch(w->sequence);
    struct leap to;
    bool more = true;
    l.pcs[l.depth++] = l.pc;
    record_frame(&l, 0, 0);
    while (more) {
        if (!record)
            follow_memo(&l);
        switch (choose_leaving(&l, mp_cache_find(l.pc, epoch), &to)) {
        case LEAVING_BY_LEAP:
            more = leap(&l, &to);
            break;
        case LEAVING_BY_RECORD:
            w->ra = to.fp_at; /* where a frame record had the frame pointer */
            more = leap(&l, &to);
            break;
        case LEAVING_BY_STEP:
            more = step_aside(&l);
            break;
        case LEAVING_OUTERMOST:
            more = mp_walk_fail(w, MP_UNWIND_OUTERMOST);
            break;
        }
    }
    if (record)
        memo->depth = l.known;
    else if (memo != NULL)
        memo->outdated = 2 * l.same + 2 < l.depth;
    return l.depth;
}

static __attribute__((noinline)) MP_RAW_READS unsigned walk(struct mp_walk *w, uintptr_t *pcs,
                                                            unsigned max, struct mp_memo *memo) {
    return walk_frames(w, pcs, max, memo, false, NULL);
}

static __attribute__((noinline)) MP_RAW_READS unsigned
walk_recording(struct mp_walk *w, uintptr_t *pcs, unsigned max, struct mp_memo *memo) {
    return walk_frames(w, pcs, max, memo, true, NULL);
}

static __attribute__((noinline)) MP_RAW_READS unsigned
walk_traced(struct mp_walk *w, uintptr_t *pcs, unsigned max, struct mp_memo *memo, bool record,
            struct mp_unwind_trace *trace) {
    return walk_frames(w, pcs, max, memo, record, trace);
}

static unsigned walk_any(struct mp_walk *w, uintptr_t *pcs, unsigned max, struct mp_memo *memo,
                         bool fresh, struct mp_unwind_trace *trace) {
    if (trace != NULL)
        return walk_traced(w, pcs, max, memo, fresh, trace);
    return fresh ? walk_recording(w, pcs, max, memo) : walk(w, pcs, max, memo);
}

unsigned mp_unwind(const struct mp_frame *from, uintptr_t *pcs, unsigned max,
                   struct mp_unwind_result *result) {
    return mp_unwind_traced(from, pcs, max, result, NULL);
}

unsigned mp_unwind_traced(const struct mp_frame *from, uintptr_t *pcs, unsigned max,
                          struct mp_unwind_result *result, struct mp_unwind_trace *trace) {
    if (depth_limit != 0 && max > depth_limit)
        max = depth_limit;
    if (max == 0) {
        *result = (struct mp_unwind_result){0, MP_LOST_TRUNCATED};
        return 0;
    }
    if (trace != NULL)
        trace->complete = false;
    if (mode == MP_UNWIND_LIBGCC)
        return mp_libgcc_unwind(from, pcs, max, result);
    struct mp_walk w = {.pc = from->pc, .sp = from->sp, .fp = from->fp};
    w.sequence = mp_cache_sequence();
    mp_stack_find(from->sp, true, &w.range);
    bool fresh = false;
    struct mp_memo *memo = mp_memo_take(w.sequence, &fresh);
    if (trace != NULL) {
        trace->complete = true;
        trace->sequence = w.sequence;
    }
    result->depth = walk_any(&w, pcs, max, memo, fresh, trace);
    result->end = w.end;
    if (trace != NULL) {
        trace->steps = result->depth - 1;
        trace->complete &= w.end == MP_UNWIND_OUTERMOST && trace->steps <= MP_TRACE_STEPS;
    }
    if (memo != NULL)
        mp_memo_give_back(memo);
    return result->depth;
}

int mp_unwind_init(const struct mp_unwind_config *config) {
    if (config->mode == MP_UNWIND_LIBGCC) {
        int rc = mp_libgcc_init(config->find_symbol);
        if (rc != 0)
            return rc;
    } else if (config->mode != MP_UNWIND_CFI && config->mode != MP_UNWIND_FP) {
        return -EINVAL;
    }
    if (config->find_symbol != NULL)
        mp_modules_use_loader(config->find_symbol("_dl_find_object"));
    mp_modules_init(config->iterate);
    if (config->attached)
        mp_modules_none_permanent();
    mp_stack_init(config->may_probe);
    mp_code_init();
    mp_cfi_init(config->note_module);
    if (!config->early)
        mp_cfi_find_coroutines(makecontext);
    mode = config->mode;
    depth_limit = config->depth_limit;
    return 0;
}

void mp_unwind_libraries_ready(mp_make_context *make_context) {
    if (!mp_stack_knows_threads()) /* glibc before 2.34 fills a thread's descriptor in a constructor */
        mp_stack_find_threads();
    mp_cfi_find_coroutines(make_context);
}

void mp_unwind_close_begin(void) {
    mp_modules_close_begin();
    mp_code_forget_modules();
    mp_cache_close_begin();
}

void mp_unwind_close_end(void) {
    mp_modules_refresh();
    mp_code_forget_modules();
    mp_cache_close_end();
    mp_modules_close_end();
}

void mp_unwind_flush(void) {
    mp_modules_distrust();
    mp_code_forget_modules();
    mp_cache_flush();
}

size_t mp_unwind_stack_bytes(void) {
    return mode == MP_UNWIND_LIBGCC ? LIBGCC_STACK_BYTES : STACK_BYTES;
}

const char *mp_unwind_name(void) {
    static const char *const names[] = {"cfi", "fp", "libgcc"};
    return names[mode];
}
