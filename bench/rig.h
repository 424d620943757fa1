/* A model in memory with sequences that stand at a depth, on which tests are run and timed.
 *
 * Passes write into slots reserved past the depth and never commit them: after a test everything is as it was before. */
#ifndef LF_BENCH_RIG_H
#define LF_BENCH_RIG_H

#include "bench.h"
#include "model/forward.h"

/* What all tests of a rig need at most. */
typedef struct bench_rig_size {
    int pass_rows;   /* of one pass */
    int pass_logits; /* rows of one pass that want logits */
    int n_seqs;
    int n_pos;    /* of one sequence: depth and the tokens of a test */
    int view_pos; /* of the largest sparse view; 0: no test has one */
} bench_rig_size;

typedef struct bench_rig bench_rig;

/* Loads the model at path and takes all memory that tests of this size need; LF_ELIMIT when that is more than the machine
 * has. threads and kernels are borrowed. Progress and cancelling go through hooks; label names the model there. */
lf_status bench_rig_open(bench_rig **out, const char *path, const char *label, lf_dtype kv_dtype,
                         const bench_rig_size *size, const lf_kernels *kernels, lf_threads *threads,
                         const bench_hooks *hooks, lf_error *err);
void bench_rig_close(bench_rig *rig); /* NULL is fine */

/* The dtype of the model's feed-forward matrices. */
lf_dtype bench_rig_dtype(const bench_rig *rig);

/* Opens n_seqs sequences, each with `depth` positions of random K and V and with slots for n_new more. */
lf_status bench_rig_set_depth(bench_rig *rig, int n_seqs, int depth, int n_new, lf_error *err);

/* Runs the test once on the sequences; test->n is at most what set_depth was given. */
lf_status bench_rig_run(bench_rig *rig, const bench_test *test, double *seconds, lf_error *err);

/* The bytes that a run of the test must read from memory: weights once a pass, K and V of all positions that a pass sees.
 * The weights count as the file has them, so that this is a floor for any engine. */
double bench_rig_bytes(const bench_rig *rig, const bench_test *test);

#endif
