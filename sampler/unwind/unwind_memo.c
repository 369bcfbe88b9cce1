/*
 * unwind_memo.c - see unwind_memo.h. A slot gets its pages at the first unwinding of a thread of that slot.
 */
#include "unwind_memo.h"

struct mp_memo mp_memos[MP_MEMO_SLOTS];
