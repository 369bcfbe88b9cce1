/*
 * blocked_threads.c - waits of threads for each other, all of them futexes: see blocked.h.
 */
#include "blocked.h"

#include <aio.h>
#include <linux/futex.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/syscall.h>
#include <threads.h>

static int ends[2];
static pthread_t worker;
static thrd_t c_worker;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static mtx_t c_mutex;
static cnd_t c_cond;
static sem_t sem;
static pthread_barrier_t barrier;
static int word, done;

/* The error of a function that returns it, as the others have it. */
static long failed(int error) {
    errno = error;
    return error == 0 ? 0 : -1;
}

static void *work(void *unused) {
    char byte;
    return read(ends[0], &byte, 1) == 1 ? unused : &byte;
}

static int c_work(void *unused) {
    return work(unused) == unused ? 7 : 8;
}

static void make_worker(void) {
    EXPECT(pipe(ends) == 0 && pthread_create(&worker, NULL, work, NULL) == 0);
}

static void make_c_worker(void) {
    EXPECT(pipe(ends) == 0 && thrd_create(&c_worker, c_work, NULL) == thrd_success);
}

static void end_worker(void) {
    EXPECT(write(ends[1], "x", 1) == 1);
}

static long join(void) {
    return failed(pthread_join(worker, NULL));
}

static long join_timed(void) {
    struct timespec end = far(CLOCK_REALTIME);
    return failed(pthread_timedjoin_np(worker, NULL, &end));
}

static long join_clock(void) {
    struct timespec end = far(CLOCK_MONOTONIC);
    return failed(pthread_clockjoin_np(worker, NULL, CLOCK_MONOTONIC, &end));
}

static long join_c(void) {
    int result = 0;
    return thrd_join(c_worker, &result) == thrd_success ? result : -1;
}

static void make_c_cond(void) {
    EXPECT(mtx_init(&c_mutex, mtx_plain) == thrd_success && cnd_init(&c_cond) == thrd_success);
}

static void signal_cond(void) {
    pthread_mutex_lock(&mutex);
    done = 1;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
}

static void signal_c_cond(void) {
    mtx_lock(&c_mutex);
    done = 1;
    cnd_signal(&c_cond);
    mtx_unlock(&c_mutex);
}

static long cond_wait(void) {
    int rc = 0;
    pthread_mutex_lock(&mutex);
    while (!done && rc == 0)
        rc = pthread_cond_wait(&cond, &mutex);
    pthread_mutex_unlock(&mutex);
    return failed(rc);
}

static long cond_timed(void) {
    struct timespec end = far(CLOCK_REALTIME);
    int rc = 0;
    pthread_mutex_lock(&mutex);
    while (!done && rc == 0)
        rc = pthread_cond_timedwait(&cond, &mutex, &end);
    pthread_mutex_unlock(&mutex);
    return failed(rc);
}

static long cond_clock(void) {
    struct timespec end = far(CLOCK_MONOTONIC);
    int rc = 0;
    pthread_mutex_lock(&mutex);
    while (!done && rc == 0)
        rc = pthread_cond_clockwait(&cond, &mutex, CLOCK_MONOTONIC, &end);
    pthread_mutex_unlock(&mutex);
    return failed(rc);
}

static long cond_c(void) {
    int rc = thrd_success;
    mtx_lock(&c_mutex);
    while (!done && rc == thrd_success)
        rc = cnd_wait(&c_cond, &c_mutex);
    mtx_unlock(&c_mutex);
    return rc == thrd_success ? 0 : -1;
}

static long cond_c_timed(void) {
    struct timespec end = far(CLOCK_REALTIME);
    int rc = thrd_success;
    mtx_lock(&c_mutex);
    while (!done && rc == thrd_success)
        rc = cnd_timedwait(&c_cond, &c_mutex, &end);
    mtx_unlock(&c_mutex);
    return rc == thrd_success ? 0 : -1;
}

static void make_sem(void) {
    EXPECT(sem_init(&sem, 0, 0) == 0);
}

static void post(void) {
    EXPECT(sem_post(&sem) == 0);
}

static long sem_plain(void) {
    return sem_wait(&sem);
}

static long sem_timed(void) {
    struct timespec end = far(CLOCK_REALTIME);
    return sem_timedwait(&sem, &end);
}

static long sem_clock(void) {
    struct timespec end = far(CLOCK_MONOTONIC);
    return sem_clockwait(&sem, CLOCK_MONOTONIC, &end);
}

static void make_barrier(void) {
    EXPECT(pthread_barrier_init(&barrier, NULL, 2) == 0);
}

static void join_barrier(void) {
    pthread_barrier_wait(&barrier);
}

static long barrier_wait(void) {
    int rc = pthread_barrier_wait(&barrier);
    return failed(rc == PTHREAD_BARRIER_SERIAL_THREAD ? 0 : rc);
}

static long futex(void) {
    while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) == 0)
        if (syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL) != 0 && errno != EAGAIN)
            return -1;
    return failed(0);
}

static void wake(void) {
    __atomic_store_n(&word, 1, __ATOMIC_RELEASE);
    syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1);
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

static long handler(void) {
    return pthread_kill(pthread_self(), SIGUSR1);
}

static struct aiocb request;
static char requested;

static void make_request(void) {
    EXPECT(pipe(ends) == 0);
    request = (struct aiocb){.aio_fildes = ends[0], .aio_buf = &requested, .aio_nbytes = 1};
    EXPECT(aio_read(&request) == 0);
}

static long aio(void) {
    const struct aiocb *list[] = {&request};
    return aio_suspend(list, 1, NULL);
}

static const struct blocked kinds[] = {
    {"join", make_worker, join, end_worker},
    {"join_timed", make_worker, join_timed, end_worker},
    {"join_clock", make_worker, join_clock, end_worker},
    {"join_c", make_c_worker, join_c, end_worker},
    {"cond", NULL, cond_wait, signal_cond},
    {"cond_timed", NULL, cond_timed, signal_cond},
    {"cond_clock", NULL, cond_clock, signal_cond},
    {"cond_c", make_c_cond, cond_c, signal_c_cond},
    {"cond_c_timed", make_c_cond, cond_c_timed, signal_c_cond},
    {"sem", make_sem, sem_plain, post},
    {"sem_timed", make_sem, sem_timed, post},
    {"sem_clock", make_sem, sem_clock, post},
    {"barrier", make_barrier, barrier_wait, join_barrier},
    {"futex", NULL, futex, wake},
    {"handler", make_handler, handler, post},
    {"aio", make_request, aio, end_worker},
};

int main(int argc, char **argv) {
    return blocked_main(argc, argv, kinds, sizeof kinds / sizeof *kinds);
}
