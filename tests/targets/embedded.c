/*
 * embedded.c - a program that has an interpreter: each argument is run in one of its own, one after another.
 */
#include <stdio.h>

extern void Py_Initialize(void);
extern int Py_FinalizeEx(void);
extern int PyRun_SimpleString(const char *);

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        Py_Initialize();
        if (PyRun_SimpleString(argv[i]) != 0 || Py_FinalizeEx() != 0)
            return 1;
    }
    puts("done");
    return 0;
}
