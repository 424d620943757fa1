/* Drafting: a smaller model with its own rolling cache, and Jacobi iterations instead of single passes. Outputs are those of plain
 * decoding, whatever drafts; iterations end where single passes do. */
#include "draft_fixture.h"

#include "decode/guesses.h"

#include <stdlib.h>
#include <string.h>

/* ---- outputs ---- */

/* A request by its seed: one of a few prompts, so that prefixes meet, and one of several ways to pick and to end. */
static lf_request_params request_of(uint64_t seed, int32_t *ids)
{
    const size_t shared = seed % 4 * LF_PAGE_POS, own = 1 + seed * 37 % 170;
    lf_request_params p = draft_request_params(ids, shared, 7); /* the same beginning for all */
    uint64_t rng = seed;
    for (size_t i = 0; i < own; i++) ids[shared + i] = (int32_t)(rng_next(&rng) % N_VOCAB);
    p.n_ids = shared + own;
    p.n_predict = seed % 5 == 0 ? -1 : 10 + (int)(seed % 60); /* -1: until the context ends */
    p.temperature = seed % 3 == 0 ? 0.0f : 0.5f * (float)(seed % 3);
    p.repetition_penalty = seed % 7 == 3 ? 1.3f : 1.0f;
    p.top_k = seed % 7 == 4 ? 5 : 0;
    p.seed = seed;
    return p;
}

static void choose_proposer(lf_request_params *p, uint64_t *rng)
{
    static const char *const proposers[] = {"draft", "draft", "sparse", "auto", "ngram", "none"},
                             *const draftings[] = {"single", "jacobi"},
                             *const selections[] = {"window", "snap", "verify"};
    p->proposer = proposers[rng_next(rng) % 6];
    p->drafting = draftings[rng_next(rng) % 2];
    p->selection = selections[rng_next(rng) % 3];
    p->sparse_budget = 64 + (int)(rng_next(rng) % 100);
    p->draft_max = (int)(rng_next(rng) % 13);
    p->no_prefix_cache = rng_next(rng) % 4 == 0;
}

typedef struct expected_output {
    int32_t *ids; /* (n) */
    size_t n;
} expected_output;

static expected_output run_plain(lf_engine *e, uint64_t seed)
{
    lf_error err;
    int32_t ids[N_CTX];
    size_t n;
    lf_request *r;
    lf_request_params p = request_of(seed, ids);
    p.proposer = "none";
    assert_ok(lf_request_submit(&r, e, &p, &err), &err);
    assert_ok(lf_request_wait(r, &err), &err);
    const int32_t *out = lf_request_ids(r, &n);
    expected_output want = {.ids = calloc(n + 1, sizeof *want.ids), .n = n};
    memcpy(want.ids, out, n * sizeof *out);
    lf_request_free(r);
    return want;
}

/* Requests of all kinds come and go, up to n_seqs together. */
static void run_schedule(const char *draft_path, int n_seqs, int n_steps, uint64_t seed)
{
    enum { N_KINDS = 48, OPEN_MAX = 36 };
    lf_error err;
    lf_engine *e = open_drafting_engine(draft_models[TARGET], draft_path, n_seqs);
    expected_output want[N_KINDS] = {{NULL, 0}};
    lf_request *open[OPEN_MAX] = {NULL};
    uint64_t kinds[OPEN_MAX], rng = seed;
    int n_finished = 0, n_drafted = 0;
    for (uint64_t i = 0; i < N_KINDS; i++) want[i] = run_plain(e, i);
    for (int step = 0; step < n_steps; step++) {
        const size_t i = rng_next(&rng) % OPEN_MAX;
        bool busy;
        if (!open[i]) {
            int32_t ids[N_CTX];
            kinds[i] = rng_next(&rng) % N_KINDS;
            lf_request_params p = request_of(kinds[i], ids);
            choose_proposer(&p, &rng);
            assert_ok(lf_request_submit(&open[i], e, &p, &err), &err);
        } else if (lf_request_is_finished(open[i]) || rng_next(&rng) % 100 == 0) {
            size_t n;
            lf_request_result r = {.size = sizeof r};
            lf_request_cancel(open[i]);
            lf_request_get_result(open[i], &r);
            const int32_t *found = lf_request_ids(open[i], &n);
            const expected_output *w = &want[kinds[i]];
            assert_true(n <= w->n && (n == w->n || r.finish == LF_FINISH_CANCEL));
            assert_memory_equal(found, w->ids, n * sizeof *found);
            n_finished += n == w->n;
            n_drafted += r.draft_passes;
            lf_request_free(open[i]);
            open[i] = NULL;
        }
        assert_ok(lf_engine_step(e, &busy, NULL, &err), &err);
        check_draft_pages(e);
    }
    for (int i = 0; i < OPEN_MAX; i++) lf_request_free(open[i]);
    check_draft_pages(e);
    assert_int_equal(lf_kv_pool_n_free(e->draft.pool), lf_kv_pool_n_pages(e->draft.pool));
    assert_true(n_finished > n_steps / 100 && n_drafted > n_steps / 4);
    for (int i = 0; i < N_KINDS; i++) free(want[i].ids);
    lf_engine_close(e);
}

static void test_outputs_are_those_of_plain_decoding(void **state)
{
    (void)state;
    const int share = TESTS_SHORT ? 8 : 1;
    run_schedule(draft_models[OTHER], 6, 4000 / share, 1);
    run_schedule(draft_models[TARGET], 6, 4000 / share,
                 2); /* the model drafts for itself: long accepted runs */
    run_schedule(draft_models[TARGET], 32, 1200 / share, 3);
    run_schedule(draft_models[OTHER], 1, 1500 / share, 4);
}

/* Output of a request, compared with the wanted one if there is one; returns what it gave. */
static expected_output run_one(lf_engine *e, const lf_request_params *p, const expected_output *want,
                               lf_request_result *result)
{
    lf_error err;
    lf_request *r;
    expected_output out;
    assert_ok(lf_request_submit(&r, e, p, &err), &err);
    assert_ok(lf_request_wait(r, &err), &err);
    const int32_t *ids = lf_request_ids(r, &out.n);
    out.ids = calloc(out.n + 1, sizeof *out.ids);
    memcpy(out.ids, ids, out.n * sizeof *ids);
    if (want) assert_int_equal(out.n, want->n);
    if (want) assert_memory_equal(out.ids, want->ids, out.n * sizeof *ids);
    *result = (lf_request_result){.size = sizeof *result};
    lf_request_get_result(r, result);
    lf_request_free(r);
    return out;
}

/* Two trained models, each drafting for the other, to the context's end. */
static void check_pair(lf_engine *e, lf_request_params p)
{
    static const char *const draftings[] = {"single", "jacobi"};
    lf_request_result plain, result[2];
    p.ignore_eos = true;
    const expected_output want = run_one(e, &p, NULL, &plain);
    for (int i = 0; i < 2; i++) {
        p.proposer = "draft";
        p.drafting = draftings[i];
        free(run_one(e, &p, &want, &result[i]).ids);
        assert_true(result[i].accepted > result[i].proposed / 5);
    }
    assert_int_equal(result[0].proposed, result[1].proposed);
    assert_int_equal(result[0].accepted, result[1].accepted);
    assert_int_equal(result[0].draft_passes, result[0].proposed);
    assert_true(result[1].draft_passes < result[1].proposed);
    free(want.ids);
}

/* Texts that end with a token made likely; returns how many ended inside an accepted run. */
static int check_ends(lf_engine *e, lf_request_params p, float likely)
{
    enum { EOS = 2, SEEDS = 12 };
    const lf_bias bias = {EOS, likely};
    int n_ended = 0, n_inside = 0;
    p.bias = &bias;
    p.n_bias = 1;
    p.temperature = 0.8f;
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        lf_request_result plain, result;
        p.seed = seed;
        p.proposer = "none";
        const expected_output want = run_one(e, &p, NULL, &plain);
        p.proposer = "draft";
        p.drafting = seed % 2 ? "jacobi" : "single";
        free(run_one(e, &p, &want, &result).ids);
        assert_int_equal(result.finish, plain.finish);
        n_ended += result.finish == LF_FINISH_STOP;
        /* the last pass would otherwise have given one more than it accepted */
        n_inside += result.finish == LF_FINISH_STOP &&
                    result.accepted + result.passes > result.output_tokens + 1;
        free(want.ids);
    }
    assert_true(n_ended > SEEDS / 2);
    return n_inside;
}

static void test_real_models_draft_for_each_other(void **state)
{
    (void)state;
    static const char *const models[] = {"models/hf/stories260K", "models/hf/llama2xs-281K"};
    static const float likely[] = {19.0f, 15.0f}; /* biases for a text of some dozens of tokens */
    static const char text[] = "Once upon a time, there was a little girl named";
    int n_inside = 0;
    for (int i = 0; i < 2; i++) {
        lf_error err;
        lf_engine *e;
        int32_t *ids;
        lf_engine_params ep = draft_engine_params(require_data(models[i]), require_data(models[1 - i]), 1);
        lf_request_params p;
        ep.n_ctx = 256;
        assert_ok(lf_engine_open(&e, &ep, &err), &err);
        lf_request_params_init(&p);
        assert_ok(lf_tokenize(e, text, strlen(text), true, false, &ids, &p.n_ids, &err), &err);
        p.ids = ids;
        p.draft_max = 4;
        check_pair(e, p);
        p.temperature = 0.8f;
        check_pair(e, p);
        n_inside += check_ends(e, p, likely[i]);
        free(ids);
        lf_engine_close(e);
    }
    assert_true(n_inside > 0);
}

/* ---- what is drafted ---- */

/* As long as the window holds the whole text, a model that drafts for itself is right throughout, in exactly as many passes as
 * that takes. */
static void test_a_window_over_everything_is_always_right(void **state)
{
    (void)state;
    enum { N = 6, G = 5 };
    static const char *const draftings[] = {"single", "jacobi"};
    lf_error err;
    lf_engine_params ep = draft_engine_params(draft_models[TARGET], draft_models[TARGET], N);
    lf_engine *e;
    ep.draft_window = N_CTX;
    assert_ok(lf_engine_open(&e, &ep, &err), &err);
    for (int k = 0; k < 4; k++) {
        lf_request *r[N];
        for (int i = 0; i < N; i++) {
            int32_t ids[N_CTX];
            lf_request_params p = draft_request_params(ids, 1 + (size_t)i * 53, (uint64_t)i);
            p.temperature = k < 2 ? 0.0f : 1.0f;
            p.drafting = draftings[k % 2];
            p.draft_max = G;
            p.n_predict = 1 + 10 * (G + 1); /* the prompt's pass gives one */
            assert_ok(lf_request_submit(&r[i], e, &p, &err), &err);
        }
        for (int i = 0; i < N; i++) {
            lf_request_result result = {.size = sizeof result};
            assert_ok(lf_request_wait(r[i], &err), &err);
            lf_request_get_result(r[i], &result);
            assert_int_equal(result.proposed, 10 * G);
            assert_int_equal(result.accepted, 10 * G);
            assert_int_equal(result.passes, 11);
            if (k % 2 == 0) assert_int_equal(result.draft_passes, 10 * G);
            assert_in_range(result.draft_passes, 10, 10 * G);
            lf_request_free(r[i]);
        }
    }
    lf_engine_close(e);
}

/* Forbids some ids; behind some histories all. */
static void mask_by_history(void *cookie, const int32_t *history, int n_history, uint32_t *allowed)
{
    (void)cookie;
    const uint32_t h = (uint32_t)history[n_history - 1] * 2654435761u >> 16;
    allowed[0] &= h % 8 == 0 ? 0 : ~h;
    allowed[1] &= h % 8 == 0 ? 0 : ~(h >> 3);
}

/* From whatever guesses, iterations reach the candidates of single passes, bit for bit in their choice, in at most as many passes;
 * from right guesses in one. */
static void check_fixed_point(lf_engine *e, const char *proposer, uint64_t seed)
{
    enum { N = 5 };
    lf_error err;
    lf_request *r[N];
    lf_seq *seqs[N];
    int n_wanted[N], n_single[N], n_stuck = 0, n_saved = 0;
    int32_t single[N][LF_DRAFT_MAX];
    uint64_t rng = seed;
    for (int i = 0; i < N; i++) {
        int32_t ids[N_CTX];
        lf_request_params p = draft_request_params(ids, 20 + rng_next(&rng) % 200, seed + (uint64_t)i);
        p.proposer = proposer;
        p.drafting = "jacobi";
        p.sparse_budget = 64;
        p.draft_max = 2;
        p.n_predict = 300;
        p.temperature = i % 2 ? 0.9f : 0.0f;
        p.frequency_penalty = i == 2 ? 0.4f : 0.0f;
        assert_ok(lf_request_submit(&r[i], e, &p, &err), &err);
    }
    for (int i = 0; i < N; i++) seqs[i] = step_until(e, r[i], (size_t)r[i]->seq.n_prompt + 2);
    for (int round = 0; round < 12; round++) {
        for (int i = 0; i < N; i++) {
            n_wanted[i] = 1 + (int)(rng_next(&rng) % 12);
            seqs[i]->pick.mask = round % 3 == 2 ? mask_by_history : NULL;
            seqs[i]->drafting = LF_DRAFTING_SINGLE;
        }
        propose_alone(seqs, N, n_wanted);
        for (int i = 0; i < N; i++) {
            int32_t guesses[LF_DRAFT_MAX];
            n_single[i] = seqs[i]->n_candidates;
            n_stuck += n_single[i] < n_wanted[i];
            memcpy(single[i], seqs[i]->candidates, sizeof single[i]);
            for (int j = 0; j < n_wanted[i]; j++) {
                const bool right = j < n_single[i] && (round % 4 == 0 || rng_next(&rng) % 4);
                guesses[j] = right ? single[i][j] : (int32_t)(rng_next(&rng) % N_VOCAB);
            }
            lf_guesses_keep(seqs[i]->guesses, guesses, n_wanted[i] - (int)(rng_next(&rng) % 3));
            seqs[i]->drafting = LF_DRAFTING_JACOBI;
            seqs[i]->draft_passes = 0;
        }
        propose_alone(seqs, N, n_wanted);
        for (int i = 0; i < N; i++) {
            assert_int_equal(seqs[i]->n_candidates, n_single[i]);
            assert_memory_equal(seqs[i]->candidates, single[i], (size_t)n_single[i] * sizeof **single);
            /* the pass that finds nothing to pick is one more */
            assert_in_range(seqs[i]->draft_passes, 0, n_single[i] + 1);
            n_saved += n_single[i] - seqs[i]->draft_passes;
            seqs[i]->pick.mask = NULL;
        }
        bool busy;
        assert_ok(lf_engine_step(e, &busy, NULL, &err), &err);
    }
    assert_true(n_stuck > 0 && n_saved > 12 * N / 2);
    for (int i = 0; i < N; i++) lf_request_free(r[i]);
}

static void test_iterations_end_where_single_passes_do(void **state)
{
    (void)state;
    lf_engine *e = open_drafting_engine(draft_models[TARGET], draft_models[OTHER], 5);
    for (uint64_t seed = 0; seed < (TESTS_SHORT ? 1 : 6); seed++) {
        check_fixed_point(e, "draft", seed);
        check_fixed_point(e, "sparse", seed);
    }
    lf_engine_close(e);
}

/* ---- auto ---- */

/* What passes are said to take: 1 row, and 2 rows or any more for as much again. */
static lf_cost cost_of(double one_row, double two_rows)
{
    lf_cost c = {.n_pass = 2, .n_attend = 1, .pass = {one_row, two_rows}};
    lf_cost_reset(&c);
    return c;
}

static lf_request_result run_auto(lf_engine *e, lf_cost target, lf_cost draft)
{
    lf_error err;
    int32_t ids[N_CTX];
    lf_request_result result = {.size = sizeof result};
    lf_request_params p = draft_request_params(ids, 40, 3);
    p.proposer = "auto";
    p.temperature = 1.0f;
    p.draft_max = 6;
    p.n_predict = 1;
    assert_ok(lf_generate(e, &p, NULL, &err), &err); /* the first one measures */
    e->cost = target;
    e->draft.cost = draft;
    p.n_predict = 120;
    assert_ok(lf_generate(e, &p, &result, &err), &err);
    return result;
}

/* A draft that costs nothing is asked, one after the other where rows cost and by iterations where they do not; one that costs more
 * than it saves is not asked. What passes really take moves predictions by a factor of 4 at most. */
static void test_auto_drafts_where_it_pays(void **state)
{
    (void)state;
    lf_error err;
    lf_engine_params ep = draft_engine_params(draft_models[TARGET], draft_models[TARGET], 1);
    ep.draft_window = N_CTX;
    lf_engine *e;
    assert_ok(lf_engine_open(&e, &ep, &err), &err);
    const lf_cost target = cost_of(1.0, 1.001);
    lf_request_result r = run_auto(e, target, cost_of(1e-6, 2e-6));
    assert_true(r.passes < 40 && r.draft_passes > 60);
    const int single = r.draft_passes;
    r = run_auto(e, target, cost_of(1e-6, 1e-6));
    assert_true(r.passes < 40 && r.draft_passes > 0 && r.draft_passes < single);
    r = run_auto(e, cost_of(1.0, 1.9), cost_of(40.0, 80.0)); /* guesses do not pay either */
    assert_true(r.passes > 80 && r.draft_passes == 0);
    lf_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_are_those_of_plain_decoding),
        cmocka_unit_test(test_real_models_draft_for_each_other),
        cmocka_unit_test(test_a_window_over_everything_is_always_right),
        cmocka_unit_test(test_iterations_end_where_single_passes_do),
        cmocka_unit_test(test_auto_drafts_where_it_pays),
    };
    return cmocka_run_group_tests(tests, begin_drafts, leave_temp);
}
