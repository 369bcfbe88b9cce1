/*
 * signature.h - a function's parameters in a row of a table (wrap.h), written once: as "(parameters), (arguments)".
 *
 *   MP_ARG2(size_t, size, void **, p)  types and names, for rows whose operands use them
 *   MP_ANY2(size_t, void **)           types, for the others
 *
 * Tests read the tables beside a driver's own headers: nothing else is included here.
 */
#ifndef MP_SIGNATURE_H
#define MP_SIGNATURE_H

/* clang-format off */
#define MP_ARG1(T, a) (T a), (a)
#define MP_ARG2(T, a, U, b) (T a, U b), (a, b)
#define MP_ARG3(T, a, U, b, V, c) (T a, U b, V c), (a, b, c)
#define MP_ARG4(T, a, U, b, V, c, W, d) (T a, U b, V c, W d), (a, b, c, d)
#define MP_ARG5(T, a, U, b, V, c, W, d, X, e) (T a, U b, V c, W d, X e), (a, b, c, d, e)
#define MP_ARG6(T, a, U, b, V, c, W, d, X, e, Y, f) \
    (T a, U b, V c, W d, X e, Y f), (a, b, c, d, e, f)
#define MP_ARG7(T, a, U, b, V, c, W, d, X, e, Y, f, Z, g) \
    (T a, U b, V c, W d, X e, Y f, Z g), (a, b, c, d, e, f, g)
#define MP_ARG8(T, a, U, b, V, c, W, d, X, e, Y, f, Z, g, S, h) \
    (T a, U b, V c, W d, X e, Y f, Z g, S h), (a, b, c, d, e, f, g, h)
#define MP_ANY0() (void), ()
#define MP_ANY1(T) MP_ARG1(T, a)
#define MP_ANY2(T, U) MP_ARG2(T, a, U, b)
#define MP_ANY3(T, U, V) MP_ARG3(T, a, U, b, V, c)
#define MP_ANY4(T, U, V, W) MP_ARG4(T, a, U, b, V, c, W, d)
#define MP_ANY5(T, U, V, W, X) MP_ARG5(T, a, U, b, V, c, W, d, X, e)
/* clang-format on */

#endif
