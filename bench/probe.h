/* The machine's limits, measured beside what they limit: how fast its threads together read memory, and how long a cache
 * line takes from one core to another. Virtual machines change both while they run (the host moves their processors), so
 * a number without them says little. */
#ifndef LF_BENCH_PROBE_H
#define LF_BENCH_PROBE_H

#include "base/threads.h"

typedef struct bench_probe bench_probe;

typedef struct bench_limits {
    double gbytes_per_s;    /* 10^9 bytes; the best of some reads */
    double core_to_core_ns; /* one way; NAN with one thread or one processor */
} bench_limits;

/* `bytes` is what one measurement reads; of the order of 1 GiB, so that no cache matters. threads is borrowed. Call it before
 * the calling thread is bound to a processor. */
lf_status bench_probe_create(bench_probe **out, lf_threads *threads, size_t bytes, lf_error *err);
void bench_probe_free(bench_probe *p); /* NULL is fine */

/* Takes a twentieth of a second for 1 GiB. The caches hold none of a model after it. */
bench_limits bench_probe_measure(bench_probe *p);

/* The GB/s with which the threads together read what a cache holds: each `bytes` of its own (or what there is of that), again
 * and again. The best of some tries. */
double bench_probe_measure_cache(bench_probe *p, size_t bytes);

#endif
