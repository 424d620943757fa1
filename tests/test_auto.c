/* The controller: what it chooses on machines whose costs are made up, how its odds follow what it sees, and that its choices change no
 * output. */
#include "testing.h"

#include "tiny_model.h"

#include "../bench/random_model.h"
#include "../src/engine_int.h"
#include "decode/odds.h"
#include "decode/selection.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- plans ---- */

enum { BATCH = 16 };

/* A machine that memory bounds: a step of 16 sequences of 8,192 takes 47 ms, a pass without attention 1.1 ms, a candidate of each
 * sequence 3 ms. */
static lf_cost bound_by_memory(void)
{
    lf_cost c = {.n_pass = 9, .n_attend = 9};
    for (int i = 0; i < 9; i++) {
        c.pass[i] = 0.3e-3 + 0.04e-3 * (1 << i);
        c.attend[i] = 0.33e-6 + 0.02e-6 * (1 << i);
    }
    lf_cost_reset(&c);
    return c;
}

/* A small model in the cache: a row costs as much whoever it is of. */
static lf_cost bound_by_arithmetic(void)
{
    lf_cost c = {.n_pass = 9, .n_attend = 9};
    for (int i = 0; i < 9; i++) {
        c.pass[i] = 1e-5 + 5e-6 * (1 << i);
        c.attend[i] = 1e-9 * (1 << i);
    }
    lf_cost_reset(&c);
    return c;
}

/* The plan of equal sequences. */
static lf_cost_seq plan_batch(const lf_cost *c, int n, const lf_cost_seq *like)
{
    lf_cost_seq seqs[BATCH];
    for (int i = 0; i < n; i++) seqs[i] = *like;
    (void)lf_cost_plan(c, c, seqs, n, 0);
    for (int i = 1; i < n; i++) {
        assert_int_equal(seqs[i].g, seqs[0].g);
        assert_int_equal(seqs[i].way, seqs[0].way);
    }
    return seqs[0];
}

static lf_cost_way draft_way(double acceptance, int budget)
{
    return (lf_cost_way){.acceptance = acceptance, .draft_len = budget, .g_max = LF_DRAFT_MAX};
}

static void test_good_drafts_are_long(void **state)
{
    (void)state;
    const lf_cost c = bound_by_memory();
    const lf_cost_seq good = {.len = 8192, .n_ways = 1, .ways = {draft_way(0.97, 128)}},
                      fair = {.len = 8192, .n_ways = 1, .ways = {draft_way(0.7, 128)}},
                      certain = {.len = 8192, .n_ways = 1, .ways = {draft_way(0.998, 128)}};
    assert_in_range(plan_batch(&c, BATCH, &good).g, 12, 30);
    assert_in_range(plan_batch(&c, BATCH, &fair).g, 2, 5);
    assert_in_range(plan_batch(&c, BATCH, &certain).g, 40, LF_DRAFT_MAX);
}

static void test_nothing_where_nothing_pays(void **state)
{
    (void)state;
    const lf_cost memory = bound_by_memory(), arithmetic = bound_by_arithmetic();
    const lf_cost_way copy = {.acceptance = 0.7, .g_max = 8};
    const lf_cost_seq copies = {.len = 60, .n_ways = 1, .ways = {copy}},
                      drafts = {.len = 300, .n_ways = 1, .ways = {draft_way(0.9, 128)}};
    assert_int_equal(plan_batch(&arithmetic, BATCH, &copies).g, 0);
    assert_int_equal(plan_batch(&arithmetic, BATCH, &drafts).g, 0);
    assert_int_equal(plan_batch(&memory, BATCH, &drafts).g,
                     0); /* a pass over 128 positions is one over 300 */
    assert_true(plan_batch(&memory, 1, &copies).g > 0);
}

static void test_the_budget_that_pays(void **state)
{
    (void)state;
    const lf_cost c = bound_by_memory();
    lf_cost_seq s = {.len = 8192,
                     .n_ways = 3,
                     .ways = {draft_way(0.95, 128), draft_way(0.96, 256), draft_way(0.965, 512)}};
    assert_int_equal(plan_batch(&c, BATCH, &s).way, 0);
    s.ways[0].acceptance = 0.8;
    assert_int_equal(plan_batch(&c, BATCH, &s).way, 1);
    s.ways[1].acceptance = 0.85;
    assert_int_equal(plan_batch(&c, BATCH, &s).way, 2);
    s.ways[s.n_ways++] = (lf_cost_way){.acceptance = 0.93, .g_max = 20}; /* a copy costs no draft */
    assert_int_equal(plan_batch(&c, BATCH, &s).way, 3);
    s.ways[3].acceptance = 0.5;
    assert_int_equal(plan_batch(&c, BATCH, &s).way, 2);
}

/* ---- odds ---- */

/* Rounds of a sequence whose candidates are right with a chance; the last plan, each made from the odds so far. */
static lf_cost_seq run_rounds(lf_odds *kind, lf_odds *seq, double chance, int n_rounds, uint64_t *rng)
{
    const lf_cost c = bound_by_memory();
    lf_cost_seq s = {0};
    for (int i = 0; i < n_rounds; i++) {
        lf_odds_forget(kind);
        const double rate = lf_odds_rate(kind, 0.2);
        s = (lf_cost_seq){.len = 8192,
                          .n_ways = 1,
                          .ways = {draft_way(lf_odds_acceptance(rate, lf_odds_factor(seq)), 256)}};
        (void)lf_cost_plan(&c, &c, &s, 1, 0);
        int n_right = 0;
        while (n_right < s.g && (double)(rng_next(rng) >> 11) * 0x1p-53 < chance) n_right++;
        if (s.g > 0) lf_odds_judge(kind, seq, rate, n_right < s.g ? n_right + 1 : n_right, n_right);
    }
    return s;
}

static void test_plans_follow_the_odds(void **state)
{
    (void)state;
    uint64_t rng = 3;
    lf_odds kind = {0}, seq = {0};
    const int good = run_rounds(&kind, &seq, 0.97, 60, &rng).g;
    assert_in_range(good, 10, LF_DRAFT_MAX);
    assert_in_range(run_rounds(&kind, &seq, 0.1, 60, &rng).g, 0, 2); /* the text turned hard */
    assert_in_range(run_rounds(&kind, &seq, 0.97, 200, &rng).g, 8,
                    LF_DRAFT_MAX); /* tried again, and good again */
}

/* A sequence that is harder than others is known from them soon, and a new one begins with what others found. */
static void test_sequences_are_told_apart(void **state)
{
    (void)state;
    lf_odds kind = {0}, easy = {0}, hard = {0};
    const lf_odds fresh = {0};
    for (int i = 0; i < 40; i++) {
        lf_odds_judge(&kind, &easy, lf_odds_rate(&kind, 0.2), 10, i % 10 ? 10 : 9);
        lf_odds_judge(&kind, &hard, lf_odds_rate(&kind, 0.2), 3, 2);
    }
    const double rate = lf_odds_rate(&kind, 0.2);
    const double right_easy = lf_odds_acceptance(rate, lf_odds_factor(&easy)),
                 right_hard = lf_odds_acceptance(rate, lf_odds_factor(&hard)),
                 right_fresh = lf_odds_acceptance(rate, lf_odds_factor(&fresh));
    assert_true(right_easy > 0.95 && right_hard < 0.85 && right_hard > 0.5);
    assert_true(right_fresh < right_easy && right_fresh > right_hard);
    assert_true(lf_odds_acceptance(5.0, 5.0) > 0.0 && lf_odds_acceptance(0.0, 1.0) < 1.0);
}

/* ---- budgets ---- */

static void test_the_ladder(void **state)
{
    (void)state;
    static const struct {
        int given, len, n, budgets[LF_BUDGETS];
    } cases[] = {{0, 255, 0, {0}},
                 {0, 256, 1, {128}},
                 {0, 2048, 3, {128, 256, 512}},
                 {0, 8192, 3, {128, 256, 512}},
                 {0, 16384, 4, {128, 256, 512, 1024}},
                 {300, 302, 0, {0}},
                 {300, 1000, 1, {300}}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const lf_tile_choice c = {.budget = cases[i].given, .is_given = cases[i].given > 0};
        int budgets[LF_BUDGETS], places[LF_BUDGETS];
        const int n = lf_tile_choice_ladder(&c, cases[i].len, budgets, places);
        assert_int_equal(n, cases[i].n);
        for (int j = 0; j < n; j++) {
            assert_int_equal(budgets[j], cases[i].budgets[j]);
            assert_in_range(places[j], j, LF_BUDGETS - 1);
        }
    }
}

/* ---- outputs ---- */

enum { N_VOCAB = 40, N_CTX = 1400, N_KINDS = 12, N_OPEN = 6, N_OUTPUT = 90 };

static char model_path[256];

static int write_model(void **state)
{
    lf_error err;
    const lf_random_model m = {.config = tiny_config(2, N_VOCAB, N_CTX), .dtype = LF_DTYPE_F32, .seed = 2};
    if (enter_temp(state) != 0) return 1;
    (void)snprintf(model_path, sizeof model_path, "%s", in_temp("model.gguf"));
    assert_ok(lf_random_model_write(model_path, &m, &err), &err);
    return 0;
}

static lf_engine *open_engine(void)
{
    lf_error err;
    lf_engine *e;
    lf_engine_params p;
    lf_engine_params_init(&p);
    p.model_path = model_path;
    p.n_seqs = 4;
    p.n_threads = 1;
    p.batch_rows = 128;
    p.kv_dtype = LF_DTYPE_F32;
    assert_ok(lf_engine_open(&e, &p, &err), &err);
    return e;
}

/* Passes whose cost is all attention: a draft over a part of the cache is nearly free. */
static void make_drafts_cheap(lf_engine *e)
{
    lf_error err;
    lf_proposer *chooser;
    assert_ok(lf_engine_find_proposer(e, &chooser, LF_PROPOSER_AUTO, &err), &err);
    e->cost = (lf_cost){.n_pass = 2, .n_attend = 2, .pass = {1e-9, 1.01e-9}, .attend = {1.0, 1.001}};
    lf_cost_reset(&e->cost);
}

/* A request by its kind: lengths on each side of every budget of the ladder, and several ways to pick. */
static lf_request_params request_of(int kind, int32_t *ids)
{
    lf_request_params p;
    uint64_t rng = (uint64_t)kind + 1;
    lf_request_params_init(&p);
    p.n_ids = 100 + (size_t)kind * 97;
    for (size_t i = 0; i < p.n_ids; i++) ids[i] = (int32_t)(rng_next(&rng) % N_VOCAB);
    p.ids = ids;
    p.n_predict = N_OUTPUT;
    p.temperature = kind % 3 == 0 ? 0.0f : 0.5f * (float)(kind % 3);
    p.repetition_penalty = kind % 4 == 3 ? 1.3f : 1.0f;
    p.seed = (uint64_t)kind;
    return p;
}

static void submit(lf_engine *e, lf_request **r, int kind, uint64_t *rng)
{
    static const char *const selections[] = {"window", "snap", "verify"};
    lf_error err;
    int32_t ids[N_CTX];
    lf_request_params p = request_of(kind, ids);
    p.proposer = "auto";
    p.draft_max = 1 + (int)(rng_next(rng) % 24);
    p.selection = selections[rng_next(rng) % 3];
    p.no_prefix_cache = rng_next(rng) % 2;
    assert_ok(lf_request_submit(r, e, &p, &err), &err);
}

/* Outputs of plain decoding. */
static void run_plainly(lf_engine *e, int32_t *want[N_KINDS])
{
    lf_error err;
    for (int i = 0; i < N_KINDS; i++) {
        int32_t ids[N_CTX];
        size_t n;
        lf_request *r;
        const lf_request_params p = request_of(i, ids);
        assert_ok(lf_request_submit(&r, e, &p, &err), &err);
        assert_ok(lf_request_wait(r, &err), &err);
        const int32_t *out = lf_request_ids(r, &n);
        assert_int_equal(n, N_OUTPUT);
        want[i] = malloc(n * sizeof *out);
        memcpy(want[i], out, n * sizeof *out);
        lf_request_free(r);
    }
}

static void check_output(lf_request *r, const int32_t *want)
{
    size_t n;
    const int32_t *out = lf_request_ids(r, &n);
    assert_int_equal(n, N_OUTPUT);
    assert_memory_equal(out, want, n * sizeof *out);
}

/* Counts the sequences of a pass that had drafts, by budget: 128, 256 and 512. */
static void count_budgets(const lf_step_info *info, int n_with[3])
{
    for (int i = 0; i < info->n_requests; i++) {
        const lf_step_seq *s = &info->seqs[i];
        if (strcmp(s->proposer, "sparse") != 0 || s->proposed == 0) continue;
        assert_true(s->budget == 128 || s->budget == 256 || s->budget == 512);
        n_with[s->budget / 256]++;
    }
}

/* Sequences come and go, and are drafted for with every budget: outputs are those of plain decoding. */
static void test_budgets_change_no_output(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e = open_engine();
    int32_t *want[N_KINDS];
    lf_request *open[N_OPEN] = {NULL};
    int kinds[N_OPEN], n_with[3] = {0}, n_finished = 0;
    uint64_t rng = 9;
    run_plainly(e, want);
    make_drafts_cheap(e);
    for (int step = 0; step < 2400; step++) {
        const size_t i = rng_next(&rng) % N_OPEN;
        lf_step_info info = {.size = sizeof info};
        bool busy;
        if (!open[i]) {
            kinds[i] = (int)(rng_next(&rng) % N_KINDS);
            submit(e, &open[i], kinds[i], &rng);
        } else if (lf_request_is_finished(open[i])) {
            check_output(open[i], want[kinds[i]]);
            n_finished++;
            lf_request_free(open[i]);
            open[i] = NULL;
        }
        assert_ok(lf_engine_step(e, &busy, &info, &err), &err);
        count_budgets(&info, n_with);
    }
    for (int i = 0; i < N_OPEN; i++) lf_request_free(open[i]);
    for (int i = 0; i < N_KINDS; i++) free(want[i]);
    assert_true(n_finished > 20 && n_with[0] > 0 && n_with[1] > 0 && n_with[2] > 0);
    lf_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_drafts_are_long),     cmocka_unit_test(test_nothing_where_nothing_pays),
        cmocka_unit_test(test_the_budget_that_pays),     cmocka_unit_test(test_plans_follow_the_odds),
        cmocka_unit_test(test_sequences_are_told_apart), cmocka_unit_test(test_the_ladder),
        cmocka_unit_test(test_budgets_change_no_output),
    };
    return cmocka_run_group_tests(tests, write_model, leave_temp);
}
