/* What a run of `lookfar bench` holds from its first cell to its last, and what its two kinds share. */
#ifndef LF_BENCH_SESSION_H
#define LF_BENCH_SESSION_H

#include "peer.h"
#include "probe.h"
#include "rig.h"

#include <sched.h>

typedef struct bench_session {
    const bench_options *options;
    const bench_hooks *hooks;
    lf_kernels kernels;
    lf_threads *threads;
    bench_probe *probe;
    bench_peer *peer;     /* NULL without */
    cpu_set_t processors; /* the calling thread's, before it was bound to one of them */
    bool bound;

    /* the model at hand */
    const char *model; /* as the user named it */
    char path[2 * BENCH_NAME_MAX];
    bench_rig *rig;

    /* of the tests that are being measured together, (n_together, reps) each; they lie in `samples` */
    double *samples;
    double *seconds, *peer_seconds;
    double *gbytes_per_s, *core_to_core_ns; /* of a probe right after ours */
} bench_session;

/* n_together: tests whose repetitions take turns. */
lf_status bench_session_open(bench_session *s, const bench_options *options, const bench_hooks *hooks,
                             int n_together, lf_error *err);
void bench_session_close(bench_session *s);

/* Loads every model of the options, one after the other, and calls fn for it. */
typedef lf_status bench_model_fn(bench_session *s, lf_error *err);
lf_status bench_session_each_model(bench_session *s, const bench_rig_size *size, bench_model_fn *fn,
                                   lf_error *err);

/* Measures tests (n_tests) on n_seqs sequences at a depth: one run of each that is not counted, then the repetitions, each
 * of them every test by us, a probe, and the test by the peer. results has room for n_tests of ours, and after them as many of the
 * peer's if there is one; everything but the ratios is filled in. */
lf_status bench_session_measure(bench_session *s, const bench_test *tests, int n_tests, int n_seqs, int depth,
                                bench_result *results, lf_error *err);

/* The largest of some numbers (n >= 1). */
int bench_max(const bench_ints *list);

#endif
