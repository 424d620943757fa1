/* `lookfar bench load`: how fast a model comes from its file into memory, and how much memory that takes at most.
 *
 * Each repetition is a process of its own, forked, so that its peak of resident memory is that of loading and nothing else. The
 * first is not counted: after it the file is in the page cache. */
#ifndef LF_BENCH_LOAD_H
#define LF_BENCH_LOAD_H

#include "bench.h"

typedef struct bench_load_result {
    const char *model, *dtype;
    int threads, reps;
    double bytes;         /* of the weights, as the file has them */
    bench_spread seconds; /* from opening the file to weights that can be used */
    double peak_bytes;    /* resident; the median */
    double gbytes_per_s;  /* of the probe after each; the median */
} bench_load_result;

/* Every model of the options: of these the models, dtypes, dir, n_threads, reps and probe_bytes count. As with bench_run_kernels,
 * hooks->on_cell is not called. Errors: those of bench_run_decode; LF_EIO when a process ends early. */
typedef lf_status bench_load_fn(void *cookie, const bench_load_result *result, lf_error *err);
lf_status bench_run_load(const bench_options *o, const bench_hooks *hooks, bench_load_fn *on_result,
                         lf_error *err);

#endif
