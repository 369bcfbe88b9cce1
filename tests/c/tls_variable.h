/*
 * tls_variable.h - thread-local variables between others, and the functions that return them. `PREFIX` names them.
 */
#define PLAIN __attribute__((no_sanitize("address", "thread", "undefined")))
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

static __thread char JOIN(PREFIX, padding)[40];
static __thread void *JOIN(PREFIX, local);
__thread void *JOIN(PREFIX, shared) = (void *)16;

void *JOIN(PREFIX, get_local)(void);
void *JOIN(PREFIX, get_shared)(void);
void JOIN(PREFIX, set)(void *value);

PLAIN void *JOIN(PREFIX, get_local)(void) {
    return JOIN(PREFIX, local);
}

PLAIN void *JOIN(PREFIX, get_shared)(void) {
    return JOIN(PREFIX, shared);
}

void JOIN(PREFIX, set)(void *value) {
    JOIN(PREFIX, padding)[0]++;
    JOIN(PREFIX, local) = value;
    JOIN(PREFIX, shared) = (char *)value + 1;
}
