/* `lookfar bench train`: tokens per second of the trainer at the 15M shape, beside the machine's peak and, if there is one, a peer.
 *
 * A repetition is one step, forward, backward and AdamW, on a batch of equally long sequences of random tokens. The peak is
 * that of products of 2048-cubed matrices by oneDNN, on the same threads and in the same type, measured after every repetition:
 * a shared machine changes while it runs. */
#ifndef LF_BENCH_TRAIN_H
#define LF_BENCH_TRAIN_H

#include "bench.h"

typedef struct bench_train_options {
    bench_ints dtypes; /* of products: LF_DTYPE_F32, LF_DTYPE_BF16 */
    int context, batch;
    bool recompute;
    int n_threads; /* 0: one for each processor */
    int reps;
    const char *peer_command; /* NULL: no peer; see peer_torch.py */
} bench_train_options;

/* One dtype. */
typedef struct bench_train_result {
    const char *dtype;
    int context, batch, threads, reps;
    bench_spread seconds; /* of a step */
    double flops;         /* of a step: what the mathematics needs, nothing computed twice */
    double peak_flops;    /* per second: the median of the probes */
    size_t net_bytes;
    const char *peer; /* its name, or NULL */
    bench_spread peer_seconds;
} bench_train_result;

typedef lf_status bench_train_fn(void *cookie, const bench_train_result *result, lf_error *err);

/* Errors as of bench_run_decode; LF_EUNSUPPORTED for bf16 where oneDNN has none. on_result gets the hooks' cookie. */
lf_status bench_run_train(const bench_train_options *options, const bench_hooks *hooks,
                          bench_train_fn *on_result, lf_error *err);

#endif
