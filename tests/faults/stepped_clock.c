/* Preloaded into every process of a run: the wall clock jumps back and forth, once a second, by hours and
   years. CLOCK_MONOTONIC is unchanged. Built by tests/faults/run_rig.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const long STEPS_S[] = {0, 3600, -3600, 86400L * 365 * 20, -86400L * 365 * 20};

static int read_clock(clockid_t id, struct timespec *now) { return (int)syscall(SYS_clock_gettime, id, now); }

static long step_s(void) {
    struct timespec monotonic;
    read_clock(CLOCK_MONOTONIC, &monotonic);
    return STEPS_S[monotonic.tv_sec % 5];
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = read_clock(id, now);
    if (result == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += step_s();
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    int result = clock_gettime(CLOCK_REALTIME, &precise);
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return result;
}

time_t time(time_t *where) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (where) *where = precise.tv_sec;
    return precise.tv_sec;
}
