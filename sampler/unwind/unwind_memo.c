/*
 * unwind_memo.c - see unwind_memo.h. A slot's pages are touched when a thread of that slot is first
 * unwound.
 */
#include "unwind_memo.h"

struct mp_memo mp_memos[MP_MEMO_SLOTS];
