/* What a run of `lookfar bench` holds from its first cell to its last, and what its kinds share that run models. */
#ifndef LF_BENCH_SESSION_H
#define LF_BENCH_SESSION_H

#include "peer.h"
#include "probe.h"
#include "rig.h"
#include "team.h"

typedef struct bench_session {
    const bench_options *options;
    const bench_hooks *hooks;
    lf_kernels kernels;
    bench_team team;
    bench_probe *probe;
    bench_peer *peer; /* NULL without */

    /* the model at hand */
    const char *model; /* as the user named it */
    const char *path;
    bench_rig *rig;

    /* of the tests that are being measured together, (n_together, reps) each; they lie in `samples` */
    double *samples;
    double *seconds, *peer_seconds;
    double *gbytes_per_s, *core_to_core_ns; /* of a probe right after ours */
} bench_session;

/* Opens a session, loads every model of the options into it, one after the other, and calls fn for it.
 * n_together: tests whose repetitions take turns. */
typedef lf_status bench_model_fn(bench_session *s, lf_error *err);
lf_status bench_session_run(const bench_options *options, const bench_hooks *hooks, int n_together,
                            const bench_rig_size *size, bench_model_fn *fn, lf_error *err);

/* Measures tests (n_tests) on n_seqs sequences at a depth: one run of each that is not counted, then the repetitions, each
 * of them every test by us, a probe, and the test by the peer. results has room for n_tests of ours, and after them as many of the
 * peer's if there is one; everything but the ratios is filled in. */
lf_status bench_session_measure(bench_session *s, const bench_test *tests, int n_tests, int n_seqs, int depth,
                                bench_result *results, lf_error *err);

/* Relates a result to another that was measured with it: its ratios, and what they are over. */
void bench_session_relate(bench_result *result, const bench_result *base);

/* The largest of some numbers (n >= 1). */
int bench_max(const bench_ints *list);

#endif
