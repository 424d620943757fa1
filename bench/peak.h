/* Peak arithmetic: how fast the threads together multiply with nothing in the way, in loops that touch registers only. Each level
 * of kernels (kernel.h) has an instruction for floats, for pairs of bf16 and for bytes. */
#ifndef LF_BENCH_PEAK_H
#define LF_BENCH_PEAK_H

#include "base/threads.h"
#include "lookfar.h"

typedef struct bench_peak {
    const char *name;    /* of the instruction, or of the few that do its work */
    double flops;        /* of a turn of the loop: 2 for each multiply-add */
    void (*run)(long n); /* n turns */
} bench_peak;

/* What the kernels chosen for cpu_flags multiply weights, K or V of the dtype with (V of q8_0 apart: as f32). */
const bench_peak *bench_peak_of(lf_dtype dtype, unsigned cpu_flags);

/* flops per second, the best of some tries; takes about ten milliseconds. */
double bench_peak_measure(const bench_peak *peak, lf_threads *threads);

#endif
