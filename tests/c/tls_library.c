/*
 * tls_library.c - a library with thread-local variables, which tests build in each of the compiler's ways.
 */
#define PREFIX lib_
#include "tls_variable.h"
