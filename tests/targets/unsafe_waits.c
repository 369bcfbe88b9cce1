/*
 * unsafe_waits.c - waits in which the main thread holds, or may hold, what the creation of a thread needs,
 * or waits for a lock that anybody may hold: see blocked.h.
 */
#include "blocked.h"

#include <link.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/wait.h>

static pthread_mutex_t mutex;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_t holder;
static sem_t taken, giving, sem;

static long failed(int error) {
    errno = error;
    return error == 0 ? 0 : -1;
}

/* What malloc does next: nothing of its own, wait, or take a signal whose handler waits. */
enum { PLAINLY, WAITING, RAISING };
static int inside;

void *__libc_malloc(size_t size);
void *malloc(size_t size) {
    int what = __atomic_exchange_n(&inside, PLAINLY, __ATOMIC_ACQ_REL);
    if (what == WAITING)
        sem_wait(&sem);
    if (what == RAISING)
        pthread_kill(pthread_self(), SIGUSR1);
    return __libc_malloc(size);
}

static void post(void) {
    EXPECT(sem_post(&sem) == 0);
}

static void make_sem(void) {
    EXPECT(sem_init(&sem, 0, 0) == 0);
}

static void give(void) {
    EXPECT(sem_post(&giving) == 0);
}

static void hold(void *(*how)(void *)) {
    EXPECT(sem_init(&taken, 0, 0) == 0 && sem_init(&giving, 0, 0) == 0);
    EXPECT(pthread_create(&holder, NULL, how, NULL) == 0 && sem_wait(&taken) == 0);
}

static void until_given(void) {
    EXPECT(sem_post(&taken) == 0 && sem_wait(&giving) == 0);
}

static void *hold_mutex(void *unused) {
    pthread_mutex_lock(&mutex);
    until_given();
    pthread_mutex_unlock(&mutex);
    return unused;
}

static void make_mutex(int protocol, int robust) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    pthread_mutexattr_setrobust(&attributes, robust);
    EXPECT(pthread_mutex_init(&mutex, &attributes) == 0);
    hold(hold_mutex);
}

static void plain_mutex(void) {
    make_mutex(PTHREAD_PRIO_NONE, PTHREAD_MUTEX_STALLED);
}

static void pi_mutex(void) {
    make_mutex(PTHREAD_PRIO_INHERIT, PTHREAD_MUTEX_STALLED);
}

static void robust_mutex(void) {
    make_mutex(PTHREAD_PRIO_NONE, PTHREAD_MUTEX_ROBUST);
}

static long lock(void) {
    return failed(pthread_mutex_lock(&mutex));
}

static long lock_timed(void) {
    struct timespec end = far(CLOCK_REALTIME);
    return failed(pthread_mutex_timedlock(&mutex, &end));
}

static void *hold_rwlock(void *unused) {
    pthread_rwlock_wrlock(&rwlock);
    until_given();
    pthread_rwlock_unlock(&rwlock);
    return unused;
}

static void make_rwlock(void) {
    hold(hold_rwlock);
}

static long lock_to_read(void) {
    return failed(pthread_rwlock_rdlock(&rwlock));
}

static long lock_to_write(void) {
    return failed(pthread_rwlock_wrlock(&rwlock));
}

static void *hold_stdio(void *unused) {
    flockfile(stderr);
    until_given();
    funlockfile(stderr);
    return unused;
}

static void make_stdio(void) {
    hold(hold_stdio);
}

static long lock_stdio(void) {
    flockfile(stderr);
    return 0;
}

static void *hold_once(void *unused) {
    pthread_once(&once, until_given);
    return unused;
}

static void make_once(void) {
    hold(hold_once);
}

static long wait_once(void) {
    return failed(pthread_once(&once, until_given));
}

static long in_malloc(void) {
    __atomic_store_n(&inside, WAITING, __ATOMIC_RELEASE);
    return keep(malloc(100)) != NULL ? 1 : 0;
}

static void on_signal(int number) {
    (void)number;
    sem_wait(&sem);
}

static void make_handler(void) {
    struct sigaction action = {.sa_handler = on_signal};
    make_sem();
    EXPECT(sigaction(SIGUSR1, &action, NULL) == 0);
}

static long in_handler(void) {
    __atomic_store_n(&inside, RAISING, __ATOMIC_RELEASE);
    return keep(malloc(100)) != NULL ? 1 : 0;
}

static int visit(struct dl_phdr_info *info, size_t bytes, void *unused) {
    (void)info;
    (void)bytes;
    (void)unused;
    sem_wait(&sem);
    return 1;
}

static long in_loader(void) {
    return dl_iterate_phdr(visit, NULL);
}

static void before_fork(void) {
    sem_wait(&sem);
}

static void make_fork(void) {
    make_sem();
    EXPECT(pthread_atfork(before_fork, NULL, NULL) == 0);
}

static long in_fork(void) {
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    int status = 0;
    waitpid(child, &status, 0);
    return WEXITSTATUS(status);
}

static const struct blocked kinds[] = {
    {"mutex", plain_mutex, lock, give},
    {"mutex_timed", plain_mutex, lock_timed, give},
    {"mutex_pi", pi_mutex, lock, give},
    {"mutex_robust", robust_mutex, lock, give},
    {"rwlock_read", make_rwlock, lock_to_read, give},
    {"rwlock_write", make_rwlock, lock_to_write, give},
    {"stdio", make_stdio, lock_stdio, give},
    {"once", make_once, wait_once, give},
    {"malloc", make_sem, in_malloc, post},
    {"loader", make_sem, in_loader, post},
    {"fork", make_fork, in_fork, post},
    {"handler", make_handler, in_handler, post},
};

int main(int argc, char **argv) {
    return blocked_main(argc, argv, kinds, sizeof kinds / sizeof *kinds);
}
