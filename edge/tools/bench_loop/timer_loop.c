/* The control of the measurement: the barest loop that this machine can run at a rate.
 *
 *     timer_loop PERIOD_NS CPU PRIORITY        CPU -1: any; PRIORITY 0: no SCHED_FIFO
 *
 * Waits for absolute points of CLOCK_MONOTONIC until SIGTERM or SIGINT (or its parent's death), skips points that
 * have passed as the control loop does, and then prints
 *
 *     fifo 1          whether SCHED_FIFO was granted
 *     locked 1        whether memory was locked
 *     ticks 3000
 *     skipped 0
 *     max_ns 81234
 *     17 2041         lateness in whole microseconds, and how often; one line each
 *
 * Its memory is touched before the first tick and never grows. What is later than a second counts as a second.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

enum { LATEST_US = 1000000 };
static const int64_t NS_PER_S = 1000000000;

static uint32_t counts[LATEST_US + 1];
static volatile sig_atomic_t stopping;

static void stop(int number)
{
    (void)number;
    stopping = 1;
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

static void sleep_until(int64_t due_ns)
{
    struct timespec due = {.tv_sec = due_ns / NS_PER_S, .tv_nsec = due_ns % NS_PER_S};
    while (!stopping && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL) == EINTR) {
    }
}

static int number(const char *word, int64_t least, int64_t most, int64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoll(word, &end, 10);
    return errno == 0 && *end == '\0' && end != word && *value >= least && *value <= most;
}

static int claim_core(int64_t cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)cpu, &set);
    return sched_setaffinity(0, sizeof set, &set);
}

static int claim_fifo(int64_t priority)
{
    struct sched_param parameter = {.sched_priority = (int)priority};
    return sched_setscheduler(0, SCHED_FIFO, &parameter);
}

int main(int argc, char **argv)
{
    int64_t period_ns, cpu, priority;
    if (argc != 4 || !number(argv[1], 100000, NS_PER_S, &period_ns) ||
        !number(argv[2], -1, CPU_SETSIZE - 1, &cpu) || !number(argv[3], 0, 99, &priority)) {
        fprintf(stderr, "usage: timer_loop PERIOD_NS CPU PRIORITY\n");
        return 2;
    }
    prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0, 0, 0);
    struct sigaction action = {.sa_handler = stop};  /* no SA_RESTART: the sleep must end */
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    memset(counts, 0, sizeof counts);
    int locked = mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
    prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
    if (cpu >= 0 && claim_core(cpu) != 0) {
        fprintf(stderr, "core %d is not to be had: %s\n", (int)cpu, strerror(errno));
        return 4;
    }
    int fifo = priority > 0 && claim_fifo(priority) == 0;

    int64_t ticks = 0, skipped = 0, max_ns = 0, tick = 0;
    const int64_t origin_ns = now_ns();
    for (;;) {
        int64_t passed = (now_ns() - origin_ns) / period_ns;
        if (passed > tick) {
            skipped += passed - tick;
            tick = passed;
        }
        tick++;
        int64_t due_ns = origin_ns + tick * period_ns;
        sleep_until(due_ns);
        if (stopping)
            break;
        int64_t late_ns = now_ns() - due_ns;
        int64_t late_us = late_ns / 1000;
        counts[late_us < LATEST_US ? late_us : LATEST_US]++;
        max_ns = late_ns > max_ns ? late_ns : max_ns;
        ticks++;
    }
    printf("fifo %d\nlocked %d\nticks %lld\nskipped %lld\nmax_ns %lld\n", fifo, locked, (long long)ticks,
           (long long)skipped, (long long)max_ns);
    for (int us = 0; us <= LATEST_US; us++)
        if (counts[us] > 0)
            printf("%d %u\n", us, (unsigned)counts[us]);
    return 0;
}
