/* The arithmetic of speculation: predictions between measured points, and plans against all there are. */
#include "testing.h"

#include "decode/cost.h"

#include <math.h>

static double uniform(uint64_t *rng, double from, double to)
{
    return from + (to - from) * ((double)(rng_next(rng) >> 11) * 0x1p-53);
}

static void test_between_and_past_the_points(void **state)
{
    (void)state;
    const lf_cost c = {
        .n_pass = 3, .n_attend = 1, .pass = {10, 12, 18}, .attend = {2}, .target = 1, .draft = 1};
    const double expected[] = {0, 10, 12, 15, 18, 21, 24};
    for (int i = 0; i < 7; i++) assert_true(fabs(lf_cost_pass(&c, i) - expected[i]) < 1e-12);
    assert_true(fabs(lf_cost_attend(&c, 5) - 10) < 1e-12); /* one point: in proportion */
    assert_true(fabs(lf_cost_of_candidate(&c, 2, 1, 100) - (3 + 200)) < 1e-9);
}

/* Tokens per second of the g that the sequences have, from the definition. */
static double rate_of(const lf_cost *c, const lf_cost *by, const lf_cost_seq *seqs, int n, int other_rows)
{
    double tokens = 0, seconds = 0;
    int rows = other_rows;
    for (int i = 0; i < n; i++) {
        const double a = seqs[i].acceptance;
        tokens += (1 - pow(a, seqs[i].g + 1)) / (1 - a);
        rows += 1 + seqs[i].g;
        seconds += c->target * lf_cost_attend(c, 1 + seqs[i].g) * seqs[i].len;
        seconds += by->draft * lf_cost_attend(by, 1) * seqs[i].draft_len * seqs[i].g;
    }
    seconds += c->target * lf_cost_pass(c, rows);
    for (int place = 1;; place++) {
        int n_here = 0;
        for (int i = 0; i < n; i++) n_here += seqs[i].g >= place;
        if (n_here == 0) return tokens / seconds;
        seconds += by->draft * lf_cost_pass(by, n_here);
    }
}

static double best_of_all(const lf_cost *c, const lf_cost *by, lf_cost_seq *seqs, int n, int i,
                          int other_rows)
{
    double best = 0;
    if (i == n) return rate_of(c, by, seqs, n, other_rows);
    for (seqs[i].g = 0; seqs[i].g <= seqs[i].g_max; seqs[i].g++)
        best = fmax(best, best_of_all(c, by, seqs, n, i + 1, other_rows));
    return best;
}

static lf_cost draw_machine(uint64_t *rng)
{
    lf_cost c = {
        .n_pass = 5, .n_attend = 5, .target = uniform(rng, 0.8, 1.3), .draft = uniform(rng, 0.8, 1.3)};
    c.pass[0] = uniform(rng, 1e-3, 5e-3);
    c.attend[0] = uniform(rng, 1e-8, 3e-6);
    const double more_rows = uniform(rng, 0.02, 0.5), more_queries = uniform(rng, 0.0, 0.3);
    for (int i = 1; i < 5; i++) {
        c.pass[i] = c.pass[0] * (1 + more_rows * ((1 << i) - 1));
        c.attend[i] = c.attend[0] * (1 + more_queries * ((1 << i) - 1));
    }
    return c;
}

/* The same machine with a model that takes a share of the time. */
static lf_cost smaller_model(const lf_cost *c, double share)
{
    lf_cost small = *c;
    for (int i = 0; i < 5; i++) {
        small.pass[i] *= share;
        small.attend[i] *= share;
    }
    return small;
}

/* Machines and sequences of all kinds, with drafts by the target and by a smaller model: the plan is within 3 % of the best (what it
 * leaves lying as not worthwhile), and tells its own rate right. */
static void test_plans_are_nearly_the_best(void **state)
{
    (void)state;
    uint64_t rng = 5;
    int n_drafting = 0, n_plain = 0;
    for (int k = 0; k < 400; k++) {
        const lf_cost c = draw_machine(&rng), small = smaller_model(&c, uniform(&rng, 0.05, 1.0));
        const lf_cost *by = k % 2 ? &c : &small;
        const int n = 1 + (int)(rng_next(&rng) % 3), other_rows = (int)(rng_next(&rng) % 5);
        lf_cost_seq seqs[3], all[3];
        for (int i = 0; i < n; i++)
            all[i] = seqs[i] = (lf_cost_seq){.acceptance = uniform(&rng, 0.1, 0.97),
                                             .len = 500 + (int)(rng_next(&rng) % 16000),
                                             .draft_len = 512,
                                             .g_max = (int)(rng_next(&rng) % 9)};
        const double rate = lf_cost_plan(&c, by, seqs, n, other_rows),
                     best = best_of_all(&c, by, all, n, 0, other_rows);
        assert_true(fabs(rate - rate_of(&c, by, seqs, n, other_rows)) < 1e-9 * rate);
        assert_true(rate >= 0.97 * best);
        for (int i = 0; i < n; i++) {
            assert_in_range(seqs[i].g, 0, seqs[i].g_max);
            n_drafting += seqs[i].g > 0;
            n_plain += seqs[i].g == 0 && seqs[i].g_max > 0;
        }
    }
    assert_true(n_drafting > 50 && n_plain > 50); /* both kinds were met */
}

/* Iterations that settle one candidate each cost more than single passes, whose rows they have and more; they pay where rows are
 * cheap and iterations settle several. */
static void test_iterations_pay_where_rows_are_cheap(void **state)
{
    (void)state;
    const lf_cost cheap = {
        .n_pass = 2, .n_attend = 2, .pass = {10, 10}, .attend = {0.001, 0.001}, .target = 1, .draft = 2};
    const lf_cost dear = {
        .n_pass = 2, .n_attend = 2, .pass = {10, 20}, .attend = {0.001, 0.002}, .target = 1, .draft = 1};
    const lf_cost_seq seqs[] = {{.draft_len = 100, .g = 4}, {.draft_len = 200, .g = 2}};
    /* four passes, and attention of 4 x 100 and 2 x 200 rows times positions */
    assert_true(fabs(lf_cost_of_draft(&cheap, seqs, 2) - 2 * (40 + 0.4 + 0.4)) < 1e-9);
    /* two passes: of 4 and 2 rows, and of 2 rows */
    assert_true(fabs(lf_cost_of_jacobi_draft(&cheap, seqs, 2, 2.0) - 2 * (20 + 0.2 + 0.2)) < 1e-9);
    /* of 6 and 2 rows */
    assert_true(fabs(lf_cost_of_jacobi_draft(&dear, seqs, 2, 2.0) - (60 + 20 + 0.4 + 0.4 + 0.2)) < 1e-9);
    assert_true(lf_cost_of_jacobi_draft(&dear, seqs, 2, 1.0) > lf_cost_of_draft(&dear, seqs, 2));
}

static void test_corrections_follow_and_stay_sane(void **state)
{
    (void)state;
    double factor = 1.0;
    for (int i = 0; i < 100; i++) lf_cost_correct(&factor, 2.0, 3.0);
    assert_true(fabs(factor - 1.5) < 1e-3);
    lf_cost_correct(&factor, 1.0, 1e9); /* a pause */
    assert_true(factor < 2.0);
    lf_cost_correct(&factor, 0.0, 1.0);
    assert_true(isfinite(factor));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_between_and_past_the_points),
        cmocka_unit_test(test_plans_are_nearly_the_best),
        cmocka_unit_test(test_iterations_pay_where_rows_are_cheap),
        cmocka_unit_test(test_corrections_follow_and_stay_sane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
