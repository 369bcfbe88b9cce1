/*
 * unwind_fp.h - one step by the frame record that the frame pointer register points to.
 */
#ifndef MP_UNWIND_FP_H
#define MP_UNWIND_FP_H

#include "unwind_walk.h"

/* HOOK. Leave one frame by its frame record. False, with *w untouched, if there is none. */
bool mp_fp_step(struct mp_walk *w);

#endif
