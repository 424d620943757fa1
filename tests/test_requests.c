/* Requests as a program uses them: many at once, pulled or called back, stopped, cancelled, starved of memory, over random
 * schedules, in two engines. */
#include "testing.h"

#include "jacobi_law.h"
#include "oom.h"
#include "tiny_model.h"

#include "../bench/random_model.h"
#include "../src/engine_int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *temp_dir;
static char model_path[512];

static int write_model(void **state)
{
    (void)state;
    lf_error err;
    const lf_config config = tiny_config(1, 40, 600);
    const lf_random_model m = {.config = config, .dtype = LF_DTYPE_F32, .seed = 2};
    temp_dir = make_temp_dir();
    (void)snprintf(model_path, sizeof model_path, "%s/model.gguf", temp_dir);
    assert_ok(lf_random_model_write(model_path, &m, &err), &err);
    return 0;
}

static int remove_model(void **state)
{
    (void)state;
    remove_tree(temp_dir);
    free(temp_dir);
    return 0;
}

static lf_status open_engine(lf_engine **out, int n_ctx, int n_seqs, int n_threads, lf_error *err)
{
    lf_engine_params p;
    lf_engine_params_init(&p);
    p.model_path = model_path;
    p.n_ctx = n_ctx;
    p.n_seqs = n_seqs;
    p.n_threads = n_threads;
    p.batch_rows = 48;
    return lf_engine_open(out, &p, err);
}

static lf_request_params request_params(int32_t *ids, size_t n_ids, uint64_t seed)
{
    lf_request_params p;
    lf_request_params_init(&p);
    for (size_t i = 0; i < n_ids; i++) ids[i] = (int32_t)(rng_next(&seed) % 40);
    p.ids = ids;
    p.n_ids = n_ids;
    p.n_predict = 24;
    p.temperature = 1.0f;
    p.seed = seed;
    return p;
}

/* Every page of the engine is accounted for. */
static void check_pages(const lf_engine *e)
{
    const lf_kv_seq *seqs[64];
    int n = 0;
    int32_t *refs = calloc((size_t)lf_kv_pool_n_pages(e->pool), sizeof *refs);
    for (const lf_job *job = lf_sched_first(e->sched); job; job = job->next)
        if (job->active) seqs[n++] = job->seq->kv;
    lf_prefix_count_refs(e->prefix, refs);
    assert_true(lf_kv_pool_check(e->pool, seqs, n, refs));
    assert_int_equal(lf_sched_n_active(e->sched), n);
    free(refs);
}

/* Requests come, are stepped, cancelled and freed at random, 100,000 passes; at the end every output that was not cancelled is
 * what the request gives alone. */
static void test_random_schedules(void **state)
{
    (void)state;
    enum { OPEN_MAX = 20, STEPS = TESTS_SHORT ? 6000 : 100000 };
    static const char *const proposers[] = {"none", "ngram", "jacobi", "sparse", "auto"};
    lf_error err;
    lf_engine *e, *alone;
    lf_request *open[OPEN_MAX] = {NULL};
    uint64_t seeds[OPEN_MAX], rng = 3;
    int n_checked = 0;
    assert_ok(open_engine(&e, 400, 6, 1, &err), &err);
    assert_ok(open_engine(&alone, 400, 1, 1, &err), &err);
    for (int step = 0; step < STEPS; step++) {
        const size_t i = rng_next(&rng) % OPEN_MAX;
        const uint64_t action = rng_next(&rng) % 16;
        bool busy;
        if (!open[i] && action < 12) {
            int32_t ids[300];
            seeds[i] = rng_next(&rng) % 64; /* few, so that prefixes meet */
            lf_request_params p = request_params(ids, 1 + seeds[i] * 4, seeds[i]);
            p.proposer = proposers[rng_next(&rng) % 5];
            p.sparse_budget = 64;
            p.no_prefix_cache = rng_next(&rng) % 8 == 0;
            assert_ok(lf_request_submit(&open[i], e, &p, &err), &err);
        } else if (open[i] && action == 0) {
            lf_request_cancel(open[i]);
            assert_true(lf_request_is_finished(open[i]));
        } else if (open[i] && lf_request_is_finished(open[i])) {
            lf_request_result r = {.size = sizeof r};
            lf_request_get_result(open[i], &r);
            if (r.finish == LF_FINISH_LENGTH && n_checked < 2000 && rng_next(&rng) % 4 == 0) {
                int32_t ids[300];
                size_t n, n_alone;
                lf_request *again;
                const lf_request_params p = request_params(ids, 1 + seeds[i] * 4, seeds[i]);
                assert_ok(lf_request_submit(&again, alone, &p, &err), &err);
                assert_ok(lf_request_wait(again, &err), &err);
                const int32_t *found = lf_request_ids(open[i], &n), *want = lf_request_ids(again, &n_alone);
                assert_int_equal(n, n_alone);
                assert_memory_equal(found, want, n * sizeof *want);
                lf_request_free(again);
                n_checked++;
            }
            lf_request_free(open[i]);
            open[i] = NULL;
        }
        assert_ok(lf_engine_step(e, &busy, NULL, &err), &err);
        check_pages(e);
    }
    assert_true(n_checked > (TESTS_SHORT ? 10 : 100));
    for (int i = 0; i < OPEN_MAX; i++) lf_request_free(open[i]);
    check_pages(e);
    assert_int_equal(lf_sched_n_active(e->sched), 0);
    lf_engine_close(e);
    lf_engine_close(alone);
}

/* ---- callbacks, pulling, cancelling ---- */

typedef struct watcher {
    lf_request *request;
    int32_t ids[64];
    size_t n;
    size_t cancel_at; /* tokens after which to cancel; 0: never */
    bool by_call;     /* by lf_request_cancel rather than by returning false */
    int prefill_calls, cancel_prefill_at;
} watcher;

static bool watch_token(void *cookie, const lf_token *token)
{
    watcher *w = cookie;
    if (token->id >= 0) w->ids[w->n++] = token->id;
    if (w->cancel_at == 0 || w->n < w->cancel_at) return true;
    if (!w->by_call) return false;
    lf_request_cancel(w->request);
    return true;
}

static bool watch_prefill(void *cookie, int done, int total)
{
    watcher *w = cookie;
    assert_true(done <= total);
    return ++w->prefill_calls != w->cancel_prefill_at;
}

static void test_pulled_and_called_back_are_the_same(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e;
    int32_t ids[100];
    watcher w = {.n = 0};
    assert_ok(open_engine(&e, 0, 2, 2, &err), &err);
    lf_request_params p = request_params(ids, 100, 5);
    p.proposer = "jacobi";
    p.logprobs = true;
    p.n_top = 3;
    p.on_token = watch_token;
    p.on_prefill = watch_prefill;
    p.cookie = &w;
    assert_ok(lf_request_submit(&w.request, e, &p, &err), &err);
    lf_token token;
    bool more;
    size_t n = 0;
    for (;;) {
        assert_ok(lf_request_next(w.request, &token, &more, &err), &err);
        if (!more) break;
        assert_int_equal(token.id, w.ids[n]);
        assert_int_equal(token.n_top, 3);
        assert_true(token.logprob <= token.top[0].logprob && token.top[0].logprob >= token.top[1].logprob);
        n++;
    }
    assert_int_equal(n, 24);
    assert_int_equal(w.prefill_calls, 3); /* 100 tokens in passes of 48 rows */
    lf_request_free(w.request);
    lf_engine_close(e);
}

static void test_cancel(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e;
    int32_t ids[100];
    assert_ok(open_engine(&e, 0, 2, 1, &err), &err);
    for (int by_call = 0; by_call < 2; by_call++) {
        watcher w = {.cancel_at = 7, .by_call = by_call};
        lf_request_params p = request_params(ids, 10, 6);
        p.on_token = watch_token;
        p.cookie = &w;
        assert_ok(lf_request_submit(&w.request, e, &p, &err), &err);
        assert_ok(lf_request_wait(w.request, &err), &err);
        lf_request_result r = {.size = sizeof r};
        lf_request_get_result(w.request, &r);
        assert_int_equal(r.finish, LF_FINISH_CANCEL);
        assert_int_equal(r.output_tokens, 7);
        lf_request_free(w.request);
    }
    /* in the middle of the prompt */
    watcher w = {.cancel_prefill_at = 2};
    lf_request_params p = request_params(ids, 100, 7);
    p.on_prefill = watch_prefill;
    p.cookie = &w;
    p.no_prefix_cache = true;
    assert_ok(lf_request_submit(&w.request, e, &p, &err), &err);
    assert_ok(lf_request_wait(w.request, &err), &err);
    lf_request_result r = {.size = sizeof r};
    lf_request_get_result(w.request, &r);
    assert_int_equal(r.finish, LF_FINISH_CANCEL);
    assert_int_equal(r.output_tokens, 0);
    lf_request_free(w.request);
    /* while queued, and by closing the engine */
    lf_request *many[5];
    for (int i = 0; i < 5; i++) assert_ok(lf_request_submit(&many[i], e, &p, &err), &err);
    lf_request_cancel(many[4]);
    assert_true(lf_request_is_finished(many[4]));
    lf_engine_close(e);
    for (int i = 0; i < 5; i++) lf_request_free(many[i]);
}

/* ---- stop strings: a real tokenizer ---- */

static void test_stop_strings(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e;
    lf_engine_params ep;
    int32_t *ids;
    size_t n_ids, len;
    lf_engine_params_init(&ep);
    ep.model_path = require_data("models/hf/stories260K");
    assert_ok(lf_engine_open(&e, &ep, &err), &err);
    const char *prompt = "Once upon a time, there was a little dog named Spot.";
    assert_ok(lf_tokenize(e, prompt, strlen(prompt), true, false, &ids, &n_ids, &err), &err);
    /* " Spot loved to play with his toys. One day, Spot saw a big box." */
    const struct {
        const char *stops[2];
        int n_stops;
        const char *text;
        lf_finish finish;
    } cases[] = {
        {{"toys"}, 1, " Spot loved to play with his ", LF_FINISH_STOP},
        {{"y with h"}, 1, " Spot loved to pla", LF_FINISH_STOP}, /* across token borders */
        {{"xyz", "One day"}, 2, " Spot loved to play with his toys. ", LF_FINISH_STOP},
        {{"toys. Two"},
         1,
         " Spot loved to play with his toys. One day, Spot saw a big box",
         LF_FINISH_LENGTH},
        {{" "}, 1, "", LF_FINISH_STOP},
    };
    static const char *const proposers[] = {"none", "ngram", "jacobi", "sparse", "auto"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        for (int k = 0; k < 5; k++) {
            lf_request *r;
            lf_request_result result = {.size = sizeof result};
            lf_request_params p;
            lf_request_params_init(&p);
            p.ids = ids;
            p.n_ids = n_ids;
            p.n_predict = 26;
            p.stop = cases[i].stops;
            p.n_stop = cases[i].n_stops;
            p.proposer = proposers[k];
            assert_ok(lf_request_submit(&r, e, &p, &err), &err);
            char pulled[256] = "";
            bool more = true;
            while (more) {
                lf_token token;
                assert_ok(lf_request_next(r, &token, &more, &err), &err);
                if (more) strncat(pulled, token.text, token.len);
            }
            lf_request_get_result(r, &result);
            const char *text = lf_request_text(r, &len);
            assert_int_equal(result.finish, cases[i].finish);
            assert_memory_equal(text, cases[i].text, strlen(cases[i].text));
            assert_true(len == strlen(text) && strcmp(pulled, text) == 0);
            if (cases[i].finish == LF_FINISH_STOP) assert_string_equal(text, cases[i].text);
            lf_request_free(r);
        }
    }
    free(ids);
    lf_engine_close(e);
}

/* ---- windows of guesses: a model that was not made for them ---- */

static void test_jacobi_with_all_that_can_be_asked(void **state)
{
    (void)state;
    const law_counts law = expect_jacobi_law(require_data("models/hf/stories260K"));
    assert_true(law.n_outputs == 384 && law.jacobi > 30 && law.tried_by_auto > 300 && law.drafted > 100);
    assert_true(law.chosen_by_auto > 0);
}

/* ---- distribution, with candidates ---- */

/* The first two tokens of 6,000 seeds against the model's own probabilities. */
static void test_sampled_tokens_have_the_models_distribution(void **state)
{
    (void)state;
    enum { N = TESTS_SHORT ? 1500 : 6000, VOCAB = 40 };
    static const char *const proposers[] = {"none", "ngram", "jacobi", "sparse", "auto"};
    lf_error err;
    lf_engine *e;
    int32_t ids[12];
    float logits[12 * VOCAB];
    assert_ok(open_engine(&e, 0, 32, 1, &err), &err);
    lf_request_params p = request_params(ids, 12, 8);
    for (int i = 6; i < 12; i++) ids[i] = ids[i - 6]; /* n-grams find this */
    p.n_predict = 2;
    assert_ok(lf_score(e, ids, 12, logits, &err), &err);
    for (int k = 0; k < 5; k++) {
        int counts[VOCAB] = {0};
        double sum = 0, chi2 = 0;
        p.proposer = proposers[k];
        for (int i = 0; i < N; i++) {
            lf_request *r;
            size_t n;
            p.seed = (uint64_t)i;
            assert_ok(lf_request_submit(&r, e, &p, &err), &err);
            assert_ok(lf_request_wait(r, &err), &err);
            counts[lf_request_ids(r, &n)[0]]++;
            lf_request_free(r);
        }
        for (int i = 0; i < VOCAB; i++) sum += exp((double)logits[11 * VOCAB + i]);
        for (int i = 0; i < VOCAB; i++) {
            const double expected = N * exp((double)logits[11 * VOCAB + i]) / sum;
            chi2 += (counts[i] - expected) * (counts[i] - expected) / expected;
        }
        /* 39 degrees of freedom: above 80 once in 10,000 runs; the seeds are fixed */
        if (chi2 > 80.0) fail_msg("%s: chi-square %g, expected below 80", proposers[k], chi2);
    }
    lf_engine_close(e);
}

/* ---- two engines, allocation failures, refusals ---- */

static void test_two_engines_interleaved(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *a, *b;
    lf_request *ra, *rb;
    int32_t ids[50];
    size_t na, nb;
    assert_ok(open_engine(&a, 200, 2, 2, &err), &err);
    assert_ok(open_engine(&b, 300, 1, 3, &err), &err);
    lf_request_params p = request_params(ids, 50, 9);
    assert_ok(lf_request_submit(&ra, a, &p, &err), &err);
    p.proposer = "ngram";
    assert_ok(lf_request_submit(&rb, b, &p, &err), &err);
    while (!lf_request_is_finished(ra) || !lf_request_is_finished(rb)) {
        bool busy;
        assert_ok(lf_engine_step(a, &busy, NULL, &err), &err);
        assert_ok(lf_engine_step(b, &busy, NULL, &err), &err);
    }
    const int32_t *ia = lf_request_ids(ra, &na), *ib = lf_request_ids(rb, &nb);
    assert_int_equal(na, nb);
    assert_memory_equal(ia, ib, na * sizeof *ia);
    lf_request_free(ra);
    lf_engine_close(a);
    lf_request_free(rb);
    lf_engine_close(b);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    static const char *const proposers[] = {"none", "ngram", "jacobi", "sparse", "auto"};
    static const lf_bias bias[] = {{3, 1.0f}};
    lf_error err;
    lf_engine *e;
    int32_t ids[30];
    oom_require();
    for (int k = 0; k < 5; k++) {
        lf_request_params p = request_params(ids, 30, 10);
        p.proposer = proposers[k];
        p.prediction = ids;
        p.n_prediction = 30;
        p.bias = bias;
        p.n_bias = 1;
        bool all_succeeded = false;
        for (long n = 1; !all_succeeded;
             n++) { /* an engine keeps the proposers that it opened: a new one each time */
            const long live = oom_live();
            assert_ok(open_engine(&e, 200, 2, 1, &err), &err);
            oom_fail_at(n);
            const lf_status status = lf_generate(e, &p, NULL, &err);
            all_succeeded = oom_count() < n;
            oom_off();
            check_pages(e);
            lf_engine_close(e);
            assert_int_equal(oom_live(), live);
            assert_int_equal(status, all_succeeded ? LF_OK : LF_ENOMEM);
        }
    }
}

/* A profile can be given to another engine of the same key, and to no other; damaged ones are refused. */
static void test_profiles(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *a, *b, *other;
    char *text, *again;
    assert_ok(open_engine(&a, 200, 2, 1, &err), &err);
    assert_ok(open_engine(&b, 200, 2, 1, &err), &err);
    assert_ok(open_engine(&other, 100, 2, 1, &err), &err);
    assert_ok(lf_engine_get_profile(a, &text, &err), &err);
    for (size_t n = strlen(text); n-- > 0;) { /* cut anywhere */
        char *cut = strndup(text, n);
        assert_false(lf_engine_set_profile(b, cut));
        free(cut);
    }
    char *longer = NULL, *at = strstr(text, "pass ");
    assert_true(asprintf(&longer, "%sx", text) > 0);
    assert_false(lf_engine_set_profile(b, longer));
    assert_false(lf_engine_set_profile(other, text));
    for (const char *bad = "-ni"; *bad; bad++) { /* minus, nan, inf */
        const char saved = at[5];
        at[5] = *bad;
        assert_false(lf_engine_set_profile(b, text));
        at[5] = saved;
    }
    assert_false(lf_cost_is_known(&b->cost));
    assert_true(lf_engine_set_profile(b, text));
    assert_ok(lf_engine_get_profile(b, &again, &err), &err); /* nothing is measured: the same bits */
    assert_string_equal(again, text);
    free(longer);
    free(again);
    free(text);
    lf_engine_close(a);
    lf_engine_close(b);
    lf_engine_close(other);
}

static void test_bad_parameters(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e;
    lf_request *r;
    int32_t ids[10];
    const char *empty[] = {""};
    assert_ok(open_engine(&e, 100, 1, 1, &err), &err);
    const lf_request_params good = request_params(ids, 10, 11);
    lf_request_params p = good;
#define EXPECT_REFUSED(change, fragment)                                                                     \
    do {                                                                                                     \
        p = good;                                                                                            \
        change;                                                                                              \
        assert_true(lf_request_submit(&r, e, &p, &err) != LF_OK);                                            \
        assert_null(r);                                                                                      \
        if (!strstr(err.text, fragment)) fail_msg("found \"%s\", expected \"%s\"", err.text, fragment);      \
    } while (0)
    EXPECT_REFUSED(p.size = 3, "request parameters: found size 3");
    EXPECT_REFUSED(p.n_ids = 0, "prompt: found no tokens");
    EXPECT_REFUSED(p.n_predict = -2, "n_predict: found -2");
    EXPECT_REFUSED(p.proposer = "magic",
                   "proposer: found \"magic\", expected none, ngram, jacobi, sparse, draft or auto");
    EXPECT_REFUSED(p.proposer = "draft",
                   "proposer: found \"draft\", but the engine was opened without a draft model");
    EXPECT_REFUSED(p.drafting = "double", "drafting: found \"double\", expected single or jacobi");
    EXPECT_REFUSED(p.proposer = NULL, "proposer: found \"\"");
    EXPECT_REFUSED(p.draft_max = 65, "draft_max: found 65, expected -1 to 64");
    EXPECT_REFUSED(p.n_top = 21, "n_top: found 21");
    EXPECT_REFUSED((p.stop = empty, p.n_stop = 1), "stop string 0 is empty");
    EXPECT_REFUSED(p.temperature = -1, "temperature: found -1");
    EXPECT_REFUSED((p.prediction = ids, p.n_prediction = 101), "prediction: found 101 tokens");
#undef EXPECT_REFUSED
    lf_engine_close(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_schedules),
        cmocka_unit_test(test_pulled_and_called_back_are_the_same),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_jacobi_with_all_that_can_be_asked),
        cmocka_unit_test(test_sampled_tokens_have_the_models_distribution),
        cmocka_unit_test(test_two_engines_interleaved),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_profiles),
        cmocka_unit_test(test_bad_parameters),
    };
    return cmocka_run_group_tests(tests, write_model, remove_model);
}
