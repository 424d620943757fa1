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
static double rate_of(const lf_cost *c, const lf_cost_seq *seqs, int n, int other_rows)
{
    double tokens = 0, seconds = 0;
    int rows = other_rows;
    for (int i = 0; i < n; i++) {
        const double a = seqs[i].acceptance;
        tokens += (1 - pow(a, seqs[i].g + 1)) / (1 - a);
        rows += 1 + seqs[i].g;
        seconds += c->target * lf_cost_attend(c, 1 + seqs[i].g) * seqs[i].len;
        seconds += c->draft * lf_cost_attend(c, 1) * seqs[i].draft_len * seqs[i].g;
    }
    seconds += c->target * lf_cost_pass(c, rows);
    for (int place = 1;; place++) {
        int n_here = 0;
        for (int i = 0; i < n; i++) n_here += seqs[i].g >= place;
        if (n_here == 0) return tokens / seconds;
        seconds += c->draft * lf_cost_pass(c, n_here);
    }
}

static double best_of_all(const lf_cost *c, lf_cost_seq *seqs, int n, int i, int other_rows)
{
    double best = 0;
    if (i == n) return rate_of(c, seqs, n, other_rows);
    for (seqs[i].g = 0; seqs[i].g <= seqs[i].g_max; seqs[i].g++)
        best = fmax(best, best_of_all(c, seqs, n, i + 1, other_rows));
    return best;
}

/* Machines and sequences of all kinds: the plan is within 3 % of the best (what it leaves lying as not worthwhile), and tells its
 * own rate right. */
static void test_plans_are_nearly_the_best(void **state)
{
    (void)state;
    uint64_t rng = 5;
    int n_drafting = 0, n_plain = 0;
    for (int k = 0; k < 300; k++) {
        lf_cost c = {
            .n_pass = 5, .n_attend = 5, .target = uniform(&rng, 0.8, 1.3), .draft = uniform(&rng, 0.8, 1.3)};
        c.pass[0] = uniform(&rng, 1e-3, 5e-3);
        c.attend[0] = uniform(&rng, 1e-8, 3e-6);
        const double more_rows = uniform(&rng, 0.02, 0.5), more_queries = uniform(&rng, 0.0, 0.3);
        for (int i = 1; i < 5; i++) {
            c.pass[i] = c.pass[0] * (1 + more_rows * ((1 << i) - 1));
            c.attend[i] = c.attend[0] * (1 + more_queries * ((1 << i) - 1));
        }
        const int n = 1 + (int)(rng_next(&rng) % 3), other_rows = (int)(rng_next(&rng) % 5);
        lf_cost_seq seqs[3], all[3];
        for (int i = 0; i < n; i++)
            all[i] = seqs[i] = (lf_cost_seq){.acceptance = uniform(&rng, 0.1, 0.97),
                                             .len = 500 + (int)(rng_next(&rng) % 16000),
                                             .draft_len = 512,
                                             .g_max = (int)(rng_next(&rng) % 9)};
        const double rate = lf_cost_plan(&c, seqs, n, other_rows),
                     best = best_of_all(&c, all, n, 0, other_rows);
        assert_true(fabs(rate - rate_of(&c, seqs, n, other_rows)) < 1e-9 * rate);
        assert_true(rate >= 0.97 * best);
        for (int i = 0; i < n; i++) {
            assert_in_range(seqs[i].g, 0, seqs[i].g_max);
            n_drafting += seqs[i].g > 0;
            n_plain += seqs[i].g == 0 && seqs[i].g_max > 0;
        }
    }
    assert_true(n_drafting > 50 && n_plain > 50); /* both kinds were met */
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
        cmocka_unit_test(test_corrections_follow_and_stay_sane),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
