/* `lookfar bench kernels`: how near the products and the attention come to what the machine can do.
 *
 * A cell is one kernel on operands of one dtype, for a number of rows (or queries), with the operands in memory or in the
 * second-level cache. All threads compute, each on operands of its own. Beside each cell the limits are measured: the
 * bandwidth of where the operands are (probe.h), and the peak of the instruction that multiplies (peak.h). The roof of a cell is the
 * lesser of that peak and the bandwidth times the flops for each byte of weights, or of K and V.
 *
 * A take is what a thread does at a time, as in a pass: some tiles of weights by all rows, or one call of attention. Activations,
 * queries and results are those of one take, so they stay in a cache, if it holds them. */
#ifndef LF_BENCH_KERNELS_H
#define LF_BENCH_KERNELS_H

#include "bench.h"
#include "kernel/kv_tile.h"

/* What the lists of choices hold, and their names, which a NULL ends. */
typedef enum bench_kernel { BENCH_MATMUL, BENCH_ATTEND } bench_kernel;
typedef enum bench_place { BENCH_MEMORY, BENCH_CACHE } bench_place;
extern const char *const bench_kernel_names[], *const bench_place_names[];

typedef struct bench_kernel_options {
    bench_ints kernels;
    bench_ints dtypes;             /* of weights, and of K and V where a cache can have them */
    bench_ints rows;               /* of a product */
    bench_ints queries, head_dims; /* of attention */
    bench_ints places;
    int n_threads; /* 0: one for each processor */
    int reps;
    unsigned cpu_mask;
    double seconds; /* of a repetition, about: takes are doubled until a run lasts as long */
    /* Bytes of the operands in memory, and of those of a thread in the cache; 0: of what sizes the system says the caches have,
     * four times the last level, and half of the second. */
    size_t memory_bytes, cache_bytes;
    size_t probe_bytes;
} bench_kernel_options;

enum { BENCH_INSTRUCTION_MAX = 48 };

typedef struct bench_kernel_result {
    bench_kernel kernel;
    bench_place place;
    const char *dtype, *kernels; /* kernels: the level */
    int rows;                    /* or queries */
    int head_dim;                /* 0 for products */
    int threads, reps;
    bench_spread gbytes_per_s;               /* of weights, or of K and V */
    double gflops;                           /* 10^9 a second, 2 for each multiply-add; the median */
    double limit_gbytes_per_s;               /* the bandwidth of where the operands are */
    double limit_gflops;                     /* the peak */
    char instruction[BENCH_INSTRUCTION_MAX]; /* whose peak; of K and of V where they differ */
    double roof_gflops;
    double share; /* gflops of the roof */
} bench_kernel_result;

/* hooks->on_cell is not called, on_result is, with the hooks' cookie; what it returns ends the run unless it is LF_OK.
 * Errors: LF_EINVAL when there is no cell, LF_ENOMEM, LF_ECANCELED. */
typedef lf_status bench_kernel_fn(void *cookie, const bench_kernel_result *result, lf_error *err);
lf_status bench_run_kernels(const bench_kernel_options *o, const bench_hooks *hooks,
                            bench_kernel_fn *on_result, lf_error *err);

#endif
