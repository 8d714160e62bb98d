/*
 * Simulates a slower disk: every sync takes SLOW_SYNC_US microseconds longer.
 *
 *   cc -O2 -shared -fPIC -o slow_sync.so load_test/slow_sync.c
 *   SLOW_SYNC_US=5000 LD_PRELOAD=$PWD/slow_sync.so boxoffice serve
 *
 * Costs no CPU time, unlike a tracer that stops the process at each call.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int slowly(long call, int descriptor)
{
    const char *delay = getenv("SLOW_SYNC_US");
    long microseconds = delay ? atol(delay) : 0;
    struct timespec time = { microseconds / 1000000, microseconds % 1000000 * 1000 };

    nanosleep(&time, NULL);
    return (int)syscall(call, descriptor);
}

int fsync(int descriptor)
{
    return slowly(SYS_fsync, descriptor);
}

int fdatasync(int descriptor)
{
    return slowly(SYS_fdatasync, descriptor);
}
