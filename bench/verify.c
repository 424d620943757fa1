/* `lookfar bench verify`: what a pass of n rows of one sequence costs over a pass of one row. All numbers of rows take
 * turns, repetition by repetition, so that their ratios are of one state of the machine. */
#include "session.h"

enum { TESTS_MAX = BENCH_LIST_MAX + 1 };

/* The tests of all numbers of rows, then one of 1 row unless it is among them; *i_one is where that stands. */
static int list_tests(bench_test tests[TESTS_MAX], const bench_ints *rows, int *i_one)
{
    *i_one = rows->n;
    for (int i = 0; i < rows->n; i++) {
        tests[i] = (bench_test){.kind = BENCH_ROWS, .n = rows->v[i]};
        if (rows->v[i] == 1) *i_one = i;
    }
    tests[rows->n] = (bench_test){.kind = BENCH_ROWS, .n = 1};
    return *i_one == rows->n ? rows->n + 1 : rows->n;
}

static lf_status measure_model(bench_session *s, lf_error *err)
{
    lf_status status = LF_OK;
    const bench_options *o = s->options;
    bench_test tests[TESTS_MAX];
    bench_result results[2 * TESTS_MAX];
    int i_one;
    const int n_tests = list_tests(tests, &o->rows, &i_one), n_engines = s->peer ? 2 : 1;
    for (int i = 0; i < o->depths.n; i++) {
        LF_TRY(bench_rig_set_depth(s->rig, 1, o->depths.v[i], bench_max(&o->rows), err));
        LF_TRY(bench_session_measure(s, tests, n_tests, 1, o->depths.v[i], results, err));
        for (int k = 0; k < o->rows.n; k++) {
            bench_result cell[2];
            for (int e = 0; e < n_engines; e++) {
                cell[e] = results[e * n_tests + k];
                bench_session_relate(&cell[e], &results[e * n_tests + i_one]);
            }
            LF_TRY(s->hooks->on_cell(s->hooks->cookie, cell, n_engines, err));
        }
    }
done:
    return status;
}

lf_status bench_run_verify(const bench_options *o, const bench_hooks *hooks, lf_error *err)
{
    const int rows = bench_max(&o->rows);
    const bench_rig_size size = {
        .pass_rows = rows, .pass_logits = rows, .n_seqs = 1, .n_pos = bench_max(&o->depths) + rows};
    return bench_session_run(o, hooks, TESTS_MAX, &size, measure_model, err);
}
