/* `lookfar bench sparse`: what a step of one row of each sequence costs over a sparse view, against the same step over the full
 * one. All budgets take turns with the full step, repetition by repetition, so that their ratios are of one state of the
 * machine. */
#include "session.h"

enum { TESTS_MAX = BENCH_LIST_MAX + 1 };

static lf_status measure_cells(bench_session *s, int depth, int batch, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_ints *budgets = &s->options->budgets;
    bench_test tests[TESTS_MAX];
    bench_result results[TESTS_MAX];
    for (int i = 0; i < budgets->n; i++) tests[i] = (bench_test){.kind = BENCH_VIEW, .n = budgets->v[i]};
    tests[budgets->n] = (bench_test){.kind = BENCH_ROWS, .n = 1};
    LF_TRY(bench_rig_set_depth(s->rig, batch, depth, 1, err));
    LF_TRY(bench_session_measure(s, tests, budgets->n + 1, batch, depth, results, err));
    for (int i = 0; i < budgets->n; i++) {
        bench_session_relate(&results[i], &results[budgets->n]);
        LF_TRY(s->hooks->on_cell(s->hooks->cookie, &results[i], 1, err));
    }
done:
    return status;
}

static lf_status measure_model(bench_session *s, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_options *o = s->options;
    for (int i = 0; i < o->depths.n; i++)
        for (int j = 0; j < o->batches.n; j++) LF_TRY(measure_cells(s, o->depths.v[i], o->batches.v[j], err));
done:
    return status;
}

lf_status bench_run_sparse(const bench_options *o, const bench_hooks *hooks, lf_error *err)
{
    const int batch = bench_max(&o->batches);
    const bench_rig_size size = {.pass_rows = batch,
                                 .pass_logits = batch,
                                 .n_seqs = batch,
                                 .n_pos = bench_max(&o->depths) + 1,
                                 .view_pos = bench_max(&o->budgets)};
    return bench_session_run(o, hooks, TESTS_MAX, &size, measure_model, err);
}
