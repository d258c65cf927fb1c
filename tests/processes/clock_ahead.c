/* Loaded before the C library (LD_PRELOAD): the time of day is five seconds ahead, as on a machine
   whose clock is wrong. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME)
        now->tv_sec += 5;
    return (int)failed;
}
