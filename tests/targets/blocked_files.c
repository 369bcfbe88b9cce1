/*
 * blocked_files.c - waits for children, files, queues and locks of files: see blocked.h.
 */
#include "blocked.h"

#include <fcntl.h>
#include <linux/aio_abi.h>
#include <mqueue.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int ends[2];
static int fd, other_fd;
static pid_t child;
static char byte, path[128];

static void make_pipe(void) {
    EXPECT(pipe(ends) == 0);
}

static void send_byte(void) {
    EXPECT(write(ends[1], "x", 1) == 1);
}

/* --- children --- */

static void make_child(void) {
    make_pipe();
    child = fork();
    if (child == 0)
        _exit(read(ends[0], &byte, 1) == 1 ? 7 : 8);
}

static long wait_any(void) {
    int status = 0;
    return wait(&status) == child ? WEXITSTATUS(status) : -1;
}

static long wait_pid(void) {
    int status = 0;
    return waitpid(child, &status, 0) == child ? WEXITSTATUS(status) : -1;
}

static long wait_four(void) {
    int status = 0;
    return wait4(child, &status, 0, NULL) == child ? WEXITSTATUS(status) : -1;
}

static long wait_id(void) {
    siginfo_t info;
    return waitid(P_PID, (id_t)child, &info, WEXITED) == 0 ? info.si_status : -1;
}

static void make_fifo(void) {
    snprintf(path, sizeof path, "%s/fifo-%d", getenv("MEM_PROFILER_DIR"), getpid());
    EXPECT(mkfifo(path, 0600) == 0);
}

static void open_fifo(void) {
    int end = open(path, O_WRONLY);
    EXPECT(end >= 0 && write(end, "x\n", 2) == 2);
    unlink(path);
}

static long open_one(void) {
    return open(path, O_RDONLY) >= 0 ? 1 : -1;
}

static long fopen_one(void) {
    return fopen(path, "r") != NULL ? 1 : -1;
}

static long system_one(void) {
    char command[256];
    snprintf(command, sizeof command, "read line < %s; exit 7", path);
    int status = system(command);
    errno = 0;
    return WEXITSTATUS(status);
}

/* --- System V, POSIX and Linux queues --- */

struct letter {
    long kind;
    char text[8];
};

static void make_queue(void) {
    fd = msgget(IPC_PRIVATE, 0600);
    EXPECT(fd >= 0);
}

static void make_full_queue(void) {
    struct letter letter = {.kind = 1};
    make_queue();
    struct msqid_ds limits;
    EXPECT(msgctl(fd, IPC_STAT, &limits) == 0);
    limits.msg_qbytes = 8;
    EXPECT(msgctl(fd, IPC_SET, &limits) == 0);
    EXPECT(msgsnd(fd, &letter, sizeof letter.text, 0) == 0);
}

static void send_letter(void) {
    struct letter letter = {.kind = 1};
    EXPECT(msgsnd(fd, &letter, sizeof letter.text, 0) == 0);
}

static void take_letter(void) {
    struct letter letter;
    EXPECT(msgrcv(fd, &letter, sizeof letter.text, 0, 0) >= 0);
}

static long without_queue(long result) {
    int error = errno;
    msgctl(fd, IPC_RMID, NULL);
    errno = error;
    return result;
}

static long msgrcv_one(void) {
    struct letter letter;
    return without_queue(msgrcv(fd, &letter, sizeof letter.text, 0, 0));
}

static long msgsnd_one(void) {
    struct letter letter = {.kind = 1};
    return without_queue(msgsnd(fd, &letter, sizeof letter.text, 0));
}

static void make_semaphore(void) {
    fd = semget(IPC_PRIVATE, 1, 0600);
    EXPECT(fd >= 0);
}

static void raise_semaphore(void) {
    struct sembuf up = {0, 1, 0};
    EXPECT(semop(fd, &up, 1) == 0);
}

static long semop_one(void) {
    struct sembuf down = {0, -1, 0};
    long result = semop(fd, &down, 1);
    int error = errno;
    semctl(fd, 0, IPC_RMID);
    errno = error;
    return result;
}

static long semtimedop_one(void) {
    struct sembuf down = {0, -1, 0};
    struct timespec t = {FAR_S, 0};
    long result = semtimedop(fd, &down, 1, &t);
    int error = errno;
    semctl(fd, 0, IPC_RMID);
    errno = error;
    return result;
}

static void make_mail(void) {
    struct mq_attr limits = {.mq_maxmsg = 1, .mq_msgsize = 8};
    snprintf(path, sizeof path, "/mem-blocked-%d", getpid());
    fd = mq_open(path, O_RDWR | O_CREAT | O_EXCL, 0600, &limits);
    EXPECT(fd >= 0 && mq_unlink(path) == 0);
}

static void send_mail(void) {
    EXPECT(mq_send(fd, "x", 1, 0) == 0);
}

static void make_full_mail(void) {
    make_mail();
    send_mail();
}

static void take_mail(void) {
    char text[8];
    EXPECT(mq_receive(fd, text, sizeof text, NULL) == 1);
}

static long mq_receive_one(void) {
    char text[8];
    return mq_receive(fd, text, sizeof text, NULL);
}

static long mq_send_one(void) {
    return mq_send(fd, "x", 1, 0);
}

static aio_context_t events;

static void make_events(void) {
    EXPECT(syscall(SYS_io_setup, 1, &events) == 0);
    fd = eventfd(0, 0);
    static struct iocb request = {.aio_lio_opcode = IOCB_CMD_POLL, .aio_buf = POLLIN};
    struct iocb *list[] = {&request};
    request.aio_fildes = (unsigned)fd;
    EXPECT(syscall(SYS_io_submit, events, 1, list) == 1);
}

static void send_event(void) {
    EXPECT(eventfd_write(fd, 1) == 0);
}

static long io_getevents_one(void) {
    struct io_event event;
    return syscall(SYS_io_getevents, events, 1, 1, &event, NULL);
}

/* --- locks of files --- */

static void make_file(void) {
    snprintf(path, sizeof path, "%s/lock-%d", getenv("MEM_PROFILER_DIR"), getpid());
    fd = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    other_fd = open(path, O_RDWR);
    EXPECT(fd >= 0 && other_fd >= 0 && unlink(path) == 0);
}

static void make_locked_file(void) {
    make_file();
    EXPECT(flock(other_fd, LOCK_EX) == 0);
}

static void unlock_file(void) {
    EXPECT(flock(other_fd, LOCK_UN) == 0);
}

static long flock_one(void) {
    return flock(fd, LOCK_EX);
}

/* A child holds it, since these locks belong to processes. */
static void make_file_of_child(void) {
    int told[2];
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    make_file();
    make_pipe();
    EXPECT(pipe(told) == 0);
    child = fork();
    if (child == 0) {
        EXPECT(fcntl(fd, F_SETLK, &lock) == 0 && write(told[1], "x", 1) == 1);
        _exit(read(ends[0], &byte, 1) == 1 ? 7 : 8);
    }
    EXPECT(read(told[0], &byte, 1) == 1);
}

static long fcntl_one(void) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_SETLKW, &lock);
}

static long lockf_one(void) {
    return lockf(fd, F_LOCK, 0);
}

static void make_file_locked_open(void) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    make_file();
    EXPECT(fcntl(other_fd, F_OFD_SETLK, &lock) == 0);
}

static void unlock_file_open(void) {
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET};
    EXPECT(fcntl(other_fd, F_OFD_SETLK, &lock) == 0);
}

static long fcntl_open_one(void) {
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    return fcntl(fd, F_OFD_SETLKW, &lock);
}

static const struct blocked kinds[] = {
    {"wait", make_child, wait_any, send_byte},
    {"waitpid", make_child, wait_pid, send_byte},
    {"wait4", make_child, wait_four, send_byte},
    {"waitid", make_child, wait_id, send_byte},
    {"open", make_fifo, open_one, open_fifo},
    {"fopen", make_fifo, fopen_one, open_fifo},
    {"system", make_fifo, system_one, open_fifo},
    {"msgrcv", make_queue, msgrcv_one, send_letter},
    {"msgsnd", make_full_queue, msgsnd_one, take_letter},
    {"semop", make_semaphore, semop_one, raise_semaphore},
    {"semtimedop", make_semaphore, semtimedop_one, raise_semaphore},
    {"mq_receive", make_mail, mq_receive_one, send_mail},
    {"mq_send", make_full_mail, mq_send_one, take_mail},
    {"io_getevents", make_events, io_getevents_one, send_event},
    {"flock", make_locked_file, flock_one, unlock_file},
    {"fcntl", make_file_of_child, fcntl_one, send_byte},
    {"lockf", make_file_of_child, lockf_one, send_byte},
    {"fcntl_open", make_file_locked_open, fcntl_open_one, unlock_file_open},
};

int main(int argc, char **argv) {
    return blocked_main(argc, argv, kinds, sizeof kinds / sizeof *kinds);
}
