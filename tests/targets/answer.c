/* answer.c - a program that allocates a little and says so: linked statically, set-uid, renamed. */
#include "target.h"

static void alloc_answer(void) {
    for (int i = 0; i < 42; i++)
        keep(malloc(42));
}

int main(void) {
    alloc_answer();
    say("42");
    return 0;
}
