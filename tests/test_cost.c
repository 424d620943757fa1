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
    lf_cost c = {.n_pass = 3, .n_attend = 1, .pass = {10, 12, 18}, .attend = {2}};
    lf_cost_reset(&c);
    const double expected[] = {0, 10, 12, 15, 18, 21, 24};
    for (int i = 0; i < 7; i++) assert_true(fabs(lf_cost_pass(&c, i) - expected[i]) < 1e-12);
    assert_true(fabs(lf_cost_attend(&c, 5) - 10) < 1e-12); /* one point: in proportion */
    assert_true(fabs(lf_cost_of_candidates(&c, 2, 1, 100) - (3 + 200)) < 1e-9);
}

/* Tokens per second of the ways and g that the sequences have, from the definition. */
static double rate_of(const lf_cost *c, const lf_cost *by, const lf_cost_seq *seqs, int n, int other_rows)
{
    double tokens = 0, seconds = lf_cost_pass(c, n + other_rows);
    int rows = n + other_rows, n_drafting[LF_DRAFT_MAX] = {0};
    for (int i = 0; i < n; i++) {
        const lf_cost_seq *s = &seqs[i];
        const lf_cost_way *w = &s->ways[s->g > 0 ? s->way : 0];
        const double a = w->acceptance;
        tokens += w->gains ? 1 : (1 - pow(a, s->g + 1)) / (1 - a);
        for (int place = 0; w->gains && place < s->g; place++) tokens += w->gains[place];
        rows += s->g;
        seconds += c->target * lf_cost_attend(c, 1) * s->len;
        seconds += c->candidates * (lf_cost_attend(c, 1 + s->g) - lf_cost_attend(c, 1)) * s->len;
        if (w->draft_len == 0) continue;
        seconds += by->draft_attend * lf_cost_attend(by, 1) * w->draft_len * s->g;
        for (int place = 0; place < s->g; place++) n_drafting[place]++;
    }
    seconds += lf_cost_pass(c, rows) - lf_cost_pass(c, n + other_rows);
    for (int place = 0; place < LF_DRAFT_MAX; place++)
        seconds += by->draft * lf_cost_pass(by, n_drafting[place]);
    return tokens / seconds;
}

static double best_of_all(const lf_cost *c, const lf_cost *by, lf_cost_seq *seqs, int n, int i,
                          int other_rows)
{
    double best = 0;
    if (i == n) return rate_of(c, by, seqs, n, other_rows);
    lf_cost_seq *s = &seqs[i];
    for (s->way = 0; s->way < s->n_ways; s->way++)
        for (s->g = 0; s->g <= s->ways[s->way].g_max; s->g++)
            best = fmax(best, best_of_all(c, by, seqs, n, i + 1, other_rows));
    return best;
}

/* Rows cost the same each from the first on, or, on a machine that memory bounds, nothing up to free_rows. */
static lf_cost draw_machine(uint64_t *rng, int free_rows)
{
    lf_cost c = {.n_pass = 5,
                 .n_attend = 5,
                 .target = uniform(rng, 0.8, 1.3),
                 .candidates = uniform(rng, 0.8, 1.3),
                 .draft = uniform(rng, 0.8, 1.3),
                 .draft_attend = uniform(rng, 0.8, 1.3)};
    c.pass[0] = uniform(rng, 1e-3, 5e-3);
    c.attend[0] = uniform(rng, 1e-8, 3e-6);
    const double more_rows = uniform(rng, 0.02, 0.5), more_queries = uniform(rng, 0.0, 0.3);
    for (int i = 1; i < 5; i++) {
        c.pass[i] = c.pass[0] * (1 + more_rows * (1 << i > free_rows ? (1 << i) - free_rows : 0));
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

enum { G_MAX = 6 };

/* Copies now and then, or a window of guesses, which may be worth nothing before it is large; and drafts over more and more positions,
 * which are right more and more often. */
static lf_cost_seq draw_sequence(uint64_t *rng, double gains[G_MAX])
{
    lf_cost_seq s = {.len = 500 + (int)(rng_next(rng) % 16000)};
    const int g_max = (int)(rng_next(rng) % (G_MAX + 1)), n_budgets = (int)(rng_next(rng) % 3),
              kind = (int)(rng_next(rng) % 3);
    if (kind == 0) s.ways[s.n_ways++] = (lf_cost_way){.acceptance = uniform(rng, 0.1, 0.97), .g_max = g_max};
    if (kind == 1) s.ways[s.n_ways++] = (lf_cost_way){.gains = gains, .g_max = g_max};
    for (int i = 0; i < G_MAX; i++) gains[i] = uniform(rng, 0, 1) * uniform(rng, 0, 1);
    double acceptance = uniform(rng, 0.1, 0.97);
    for (int i = 0; i < n_budgets || s.n_ways == 0; i++) {
        s.ways[s.n_ways++] = (lf_cost_way){
            .acceptance = acceptance, .draft_len = 128 << 2 * i, .g_max = g_max};
        acceptance = 1 - (1 - acceptance) * uniform(rng, 0.3, 1.0);
    }
    return s;
}

/* Machines and sequences of all kinds, with drafts by the target and by a smaller model: the plan is within 3 % of the best (what it
 * leaves lying as not worthwhile), and tells its own rate right. Where a single row decides between free and dear ones, it may
 * stand on the wrong side of the edge. */
static void test_plans_are_nearly_the_best(void **state)
{
    (void)state;
    uint64_t rng = 5;
    int n_drafting = 0, n_copying = 0, n_guessing = 0, n_plain = 0;
    double sum = 0;
    for (int k = 0; k < 400; k++) {
        const int free_rows = 1 << k / 2 % 4;
        const lf_cost c = draw_machine(&rng, free_rows), small = smaller_model(&c, uniform(&rng, 0.05, 1.0));
        const lf_cost *by = k % 2 ? &c : &small;
        const int n = 1 + (int)(rng_next(&rng) % 3), other_rows = (int)(rng_next(&rng) % 5);
        lf_cost_seq seqs[3], all[3];
        double gains[3][G_MAX];
        for (int i = 0; i < n; i++) all[i] = seqs[i] = draw_sequence(&rng, gains[i]);
        const double rate = lf_cost_plan(&c, by, seqs, n, other_rows),
                     best = best_of_all(&c, by, all, n, 0, other_rows);
        assert_true(fabs(rate - rate_of(&c, by, seqs, n, other_rows)) < 1e-9 * rate);
        assert_true(rate >= (free_rows == 1 ? 0.97 : 0.94) * best);
        sum += rate / best;
        for (int i = 0; i < n; i++) {
            const lf_cost_seq *s = &seqs[i];
            assert_in_range(s->way + 1, 0, s->n_ways);
            assert_in_range(s->g, 0, s->way < 0 ? 0 : s->ways[s->way].g_max);
            n_drafting += s->g > 0 && s->ways[s->way].draft_len > 0;
            n_guessing += s->g > 0 && s->ways[s->way].gains;
            n_copying += s->g > 0 && s->ways[s->way].draft_len == 0 && !s->ways[s->way].gains;
            assert_true(s->g == 0 || s->ways[s->way].worth > 0);
            n_plain += s->g == 0 && s->ways[0].g_max > 0;
        }
    }
    assert_true(sum > 400 * 0.995);
    assert_true(n_drafting > 50 && n_copying > 50 && n_guessing > 50 && n_plain > 50); /* all were met */
}

/* Iterations that settle one candidate each cost more than single passes, whose rows they have and more; they pay where rows are
 * cheap and iterations settle several. */
static void test_iterations_pay_where_rows_are_cheap(void **state)
{
    (void)state;
    const lf_cost cheap = {.n_pass = 2,
                           .n_attend = 2,
                           .pass = {10, 10},
                           .attend = {0.001, 0.001},
                           .draft = 2,
                           .draft_attend = 3};
    const lf_cost dear = {.n_pass = 2,
                          .n_attend = 2,
                          .pass = {10, 20},
                          .attend = {0.001, 0.002},
                          .draft = 1,
                          .draft_attend = 1};
    const lf_cost_seq seqs[] = {{.n_ways = 1, .ways = {{.draft_len = 100}}, .g = 4},
                                {.n_ways = 1, .ways = {{.draft_len = 200}}, .g = 2},
                                {.n_ways = 1, .ways = {{.draft_len = 0}}, .g = 9}}; /* which takes none */
    /* four passes, and attention of 4 x 100 and 2 x 200 rows times positions */
    assert_true(fabs(lf_cost_of_draft(&cheap, seqs, 3) - (2 * 40 + 3 * (0.4 + 0.4))) < 1e-9);
    /* two passes: of 4 and 2 rows, and of 2 rows */
    assert_true(fabs(lf_cost_of_jacobi_draft(&cheap, seqs, 3, 2.0) - (2 * 20 + 3 * (0.2 + 0.2))) < 1e-9);
    /* of 6 and 2 rows */
    assert_true(fabs(lf_cost_of_jacobi_draft(&dear, seqs, 3, 2.0) - (60 + 20 + 0.4 + 0.4 + 0.2)) < 1e-9);
    assert_true(lf_cost_of_jacobi_draft(&dear, seqs, 3, 1.0) > lf_cost_of_draft(&dear, seqs, 3));
}

/* Passes of a machine whose two parts take 1.5 and 0.6 times what is predicted, in mixtures that differ, tell which is which. */
static void test_corrections_follow_and_stay_sane(void **state)
{
    (void)state;
    double factor = 1.0, other = 1.0;
    for (int i = 0; i < 3000; i++) {
        const double part = 2.0 + i % 3, rest = 0.5 * (i % 5);
        lf_cost_correct(&factor, part, &other, rest, 1.5 * part + 0.6 * rest);
    }
    assert_true(fabs(factor - 1.5) < 1e-2 && fabs(other - 0.6) < 1e-2);
    const double before = other;
    lf_cost_correct(&factor, 1.0, &other, 0.0, 3.0); /* what was not in the pass is not to blame */
    assert_true(factor > 1.5 && other == before);
    lf_cost_correct(&factor, 1.0, &other, 1.0, 1e9); /* a pause */
    assert_true(factor < 4.0 && other < 4.0);
    lf_cost_correct(&factor, 0.0, &other, 0.0, 1.0);
    for (int i = 0; i < 100; i++) lf_cost_correct(&factor, 1.0, &other, 1e-9, i % 2 ? 1e9 : 0.0);
    assert_true(factor >= 0.25 && factor <= 4.0 && other >= 0.25 && other <= 4.0);
}

/* Passes of a machine that really takes `pass`, over 1, 2, 4 and 8 rows in turns, or, sometimes, disturbed. */
static void correct_by(lf_cost *c, const double *pass, int n_passes, double disturbed)
{
    for (int i = 0; i < n_passes; i++) {
        const int rows = 1 << i % 4;
        lf_cost_correct_target(c, rows, 0.0, 0.0, i % 50 == 7 ? disturbed : pass[i % 4]);
    }
}

/* A start-up measurement by which rows are free, or dear, by mistake is put right by what passes take; no pass comes to cost more than
 * one of more rows, whatever disturbs it; and what is not seen any more drifts back. */
static void test_points_move(void **state)
{
    (void)state;
    static const double truths[][4] = {{1.0, 1.1, 1.35, 2.2}, {1.0, 1.01, 1.02, 1.05}, {1.0, 2.0, 4.0, 8.0}};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 3; k++) {
            lf_cost c = {.n_pass = 5, .n_attend = 1};
            for (int j = 0; j < 5; j++) c.pass[j] = k == 0 ? 2.2 : k == 1 ? 1.0 + 0.5 * j : (1 << j) * 0.8;
            lf_cost_reset(&c);
            correct_by(&c, truths[i], 2000, truths[i][0]);
            for (int j = 0; j < 4; j++)
                if (fabs(lf_cost_pass(&c, 1 << j) / truths[i][j] - 1.0) > 0.12)
                    fail_msg("truth %d, measured %d: found %g for %d rows, expected %g", i, k,
                             lf_cost_pass(&c, 1 << j), 1 << j, truths[i][j]);
            correct_by(&c, truths[i], 300, 1e9);
            for (int rows = 1; rows < 40; rows++)
                assert_true(lf_cost_pass(&c, rows) <= lf_cost_pass(&c, rows + 1) + 1e-12);
        }
    lf_cost c = {.n_pass = 4, .n_attend = 1, .pass = {1.0, 1.1, 1.2, 1.4}};
    lf_cost_reset(&c);
    for (int i = 0; i < 20; i++) lf_cost_correct_target(&c, 8, 0.0, 0.0, 1e9);
    assert_true(lf_cost_pass(&c, 8) > 2.0);
    for (int i = 0; i < 20000; i++) lf_cost_correct_target(&c, 1, 0.0, 0.0, 1.0);
    assert_true(fabs(lf_cost_pass(&c, 1) - 1.0) < 0.01 && fabs(lf_cost_pass(&c, 8) - 1.4) < 0.1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_between_and_past_the_points),
        cmocka_unit_test(test_plans_are_nearly_the_best),
        cmocka_unit_test(test_iterations_pay_where_rows_are_cheap),
        cmocka_unit_test(test_corrections_follow_and_stay_sane),
        cmocka_unit_test(test_points_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
