/* `lookfar bench decode`: tokens per second of prompts and of decoding, in the way of llama-bench. */
#include "session.h"

static int tokens_max(const bench_options *o)
{
    int most = 0;
    for (int i = 0; i < o->tests.n; i++)
        if (o->tests.v[i].n > most) most = o->tests.v[i].n;
    return most;
}

static lf_status measure_model(bench_session *s, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_options *o = s->options;
    const int n_tests = o->tests.n;
    bench_result results[2 * BENCH_LIST_MAX], cell[2];
    for (int i = 0; i < o->depths.n; i++)
        for (int j = 0; j < o->batches.n; j++) {
            LF_TRY(bench_rig_set_depth(s->rig, o->batches.v[j], o->depths.v[i], tokens_max(o), err));
            LF_TRY(
                bench_session_measure(s, o->tests.v, n_tests, o->batches.v[j], o->depths.v[i], results, err));
            for (int k = 0; k < n_tests; k++) {
                cell[0] = results[k];
                if (s->peer) cell[1] = results[n_tests + k];
                LF_TRY(s->hooks->on_cell(s->hooks->cookie, cell, s->peer ? 2 : 1, err));
            }
        }
done:
    return status;
}

lf_status bench_run_decode(const bench_options *o, const bench_hooks *hooks, lf_error *err)
{
    const int batch = bench_max(&o->batches);
    const bench_rig_size size = {.pass_rows = o->pass_rows,
                                 .pass_logits = batch,
                                 .n_seqs = batch,
                                 .n_pos = bench_max(&o->depths) + tokens_max(o)};
    if (batch > o->pass_rows)
        return lf_fail(err, LF_EINVAL, "batch size: found %d, expected at least %d, the sequences of a batch",
                       o->pass_rows, batch);
    for (int i = 0; o->peer_command && i < o->tests.n; i++)
        if (o->tests.v[i].kind == BENCH_TP || o->tests.v[i].kind == BENCH_TR)
            return lf_fail(err, LF_EINVAL,
                           "tests: found tp or tr together with a peer, which has no such tests");
    return bench_session_run(o, hooks, o->tests.n, &size, measure_model, err);
}
