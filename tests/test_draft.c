/* Drafting: a smaller model with its own rolling cache, and Jacobi iterations instead of single passes. Outputs are those of plain
 * decoding, whatever drafts; iterations end where single passes do; the cache holds what it should and no page more. */
#include "testing.h"

#include "file_tools.h"
#include "oom.h"
#include "tiny_model.h"

#include "../bench/random_model.h"
#include "../src/engine_int.h"
#include "decode/guesses.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_VOCAB = 40, N_CTX = 600, WINDOW = 40, SINKS = LF_TILE_POS };

/* Random models: a target, another that drafts, one made for less context, and one with another vocabulary. */
enum { TARGET, OTHER, SHORT, STRANGE, N_MODELS };
static char paths[N_MODELS][256];

static int write_models(void **state)
{
    lf_error err;
    const lf_config config = tiny_config(2, N_VOCAB, N_CTX);
    if (enter_temp(state) != 0) return 1;
    for (int i = 0; i < N_MODELS; i++) {
        lf_random_model m = {.config = config, .dtype = LF_DTYPE_F32, .seed = 2 + (uint64_t)i};
        char name[16];
        (void)snprintf(name, sizeof name, "%d.gguf", i);
        (void)snprintf(paths[i], sizeof paths[i], "%s", in_temp(name));
        if (i == OTHER) m.config.n_layers = 1;
        if (i == SHORT) m.config.n_ctx_max = 256;
        if (i == STRANGE) m.config.n_vocab = N_VOCAB + 1;
        assert_ok(lf_random_model_write(paths[i], &m, &err), &err);
    }
    return 0;
}

static lf_engine_params engine_params(const char *target, const char *draft, int n_seqs)
{
    lf_engine_params p;
    lf_engine_params_init(&p);
    p.model_path = target;
    p.draft_path = draft;
    p.draft_window = WINDOW;
    p.n_seqs = n_seqs;
    p.n_threads = 1;
    p.batch_rows = 96;
    p.kv_dtype = LF_DTYPE_F32;
    return p;
}

static lf_engine *open_engine(const char *target, const char *draft, int n_seqs)
{
    lf_error err;
    lf_engine *e;
    const lf_engine_params p = engine_params(target, draft, n_seqs);
    assert_ok(lf_engine_open(&e, &p, &err), &err);
    return e;
}

static lf_request_params request_params(int32_t *ids, size_t n_ids, uint64_t seed)
{
    lf_request_params p;
    lf_request_params_init(&p);
    for (size_t i = 0; i < n_ids; i++) ids[i] = (int32_t)(rng_next(&seed) % N_VOCAB);
    p.ids = ids;
    p.n_ids = n_ids;
    p.n_predict = 40;
    p.seed = seed;
    p.proposer = "draft";
    return p;
}

/* Every page of both caches is accounted for. */
static void check_pages(const lf_engine *e)
{
    const lf_kv_seq *seqs[64], *drafts[64];
    int n = 0, n_drafts = 0;
    int32_t *refs = calloc((size_t)lf_kv_pool_n_pages(e->pool), sizeof *refs);
    for (const lf_job *job = lf_sched_first(e->sched); job; job = job->next) {
        if (job->active) seqs[n++] = job->seq->kv;
        if (job->seq->draft_kv) drafts[n_drafts++] = job->seq->draft_kv;
    }
    assert_true(n_drafts <= n);
    lf_prefix_count_refs(e->prefix, refs);
    assert_true(lf_kv_pool_check(e->pool, seqs, n, refs));
    assert_true(lf_kv_pool_check(e->draft.pool, drafts, n_drafts, NULL));
    free(refs);
}

/* ---- outputs ---- */

/* A request by its seed: one of a few prompts, so that prefixes meet, and one of several ways to pick and to end. */
static lf_request_params request_of(uint64_t seed, int32_t *ids)
{
    const size_t shared = seed % 4 * LF_PAGE_POS, own = 1 + seed * 37 % 170;
    lf_request_params p = request_params(ids, shared, 7); /* the same beginning for all */
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
    lf_engine *e = open_engine(paths[TARGET], draft_path, n_seqs);
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
        check_pages(e);
    }
    for (int i = 0; i < OPEN_MAX; i++) lf_request_free(open[i]);
    check_pages(e);
    assert_int_equal(lf_kv_pool_n_free(e->draft.pool), lf_kv_pool_n_pages(e->draft.pool));
    assert_true(n_finished > n_steps / 100 && n_drafted > n_steps / 4);
    for (int i = 0; i < N_KINDS; i++) free(want[i].ids);
    lf_engine_close(e);
}

static void test_outputs_are_those_of_plain_decoding(void **state)
{
    (void)state;
    const int share = TESTS_SHORT ? 8 : 1;
    run_schedule(paths[OTHER], 6, 4000 / share, 1);
    run_schedule(paths[TARGET], 6, 4000 / share, 2); /* the model drafts for itself: long accepted runs */
    run_schedule(paths[TARGET], 32, 1200 / share, 3);
    run_schedule(paths[OTHER], 1, 1500 / share, 4);
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
        lf_engine_params ep = engine_params(require_data(models[i]), require_data(models[1 - i]), 1);
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
    lf_engine_params ep = engine_params(paths[TARGET], paths[TARGET], N);
    lf_engine *e;
    ep.draft_window = N_CTX;
    assert_ok(lf_engine_open(&e, &ep, &err), &err);
    for (int k = 0; k < 4; k++) {
        lf_request *r[N];
        for (int i = 0; i < N; i++) {
            int32_t ids[N_CTX];
            lf_request_params p = request_params(ids, 1 + (size_t)i * 53, (uint64_t)i);
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

/* Steps until a request has more than n tokens and is to be decoded further. */
static lf_seq *step_until(lf_engine *e, lf_request *r, size_t n)
{
    lf_error err;
    bool busy;
    while (r->seq.tokens.len <= n) assert_ok(lf_engine_step(e, &busy, NULL, &err), &err);
    assert_false(lf_request_is_finished(r));
    return &r->seq;
}

/* Lets the proposer of the sequences (n, of one proposer) propose n_wanted candidates each, without the round. */
static void propose(lf_seq *const *seqs, int n, const int *n_wanted)
{
    lf_error err;
    for (int i = 0; i < n; i++) {
        seqs[i]->n_wanted = n_wanted[i];
        seqs[i]->n_candidates = 0;
        assert_ok(lf_kv_seq_reserve(seqs[i]->kv, 1 + n_wanted[i], &err), &err);
    }
    seqs[0]->proposer->ops->propose(seqs[0]->proposer, seqs, n);
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
        lf_request_params p = request_params(ids, 20 + rng_next(&rng) % 200, seed + (uint64_t)i);
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
        propose(seqs, N, n_wanted);
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
        propose(seqs, N, n_wanted);
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
    lf_engine *e = open_engine(paths[TARGET], paths[OTHER], 5);
    for (uint64_t seed = 0; seed < (TESTS_SHORT ? 1 : 6); seed++) {
        check_fixed_point(e, "draft", seed);
        check_fixed_point(e, "sparse", seed);
    }
    lf_engine_close(e);
}

/* ---- the window ---- */

/* What the model says greedily after ids (n) at positions 0 on: n_out tokens. */
static void decode_plain(const lf_engine *e, const lf_model *m, const int32_t *ids, int n, int32_t *out,
                         int n_out)
{
    lf_error err;
    lf_forward *forward;
    lf_kv_pool *pool;
    lf_kv_seq *seq;
    lf_row rows[N_CTX];
    assert_ok(lf_kv_pool_create(&pool, &e->draft.shape, N_CTX / LF_PAGE_POS + 1, &err), &err);
    assert_ok(lf_kv_seq_open(&seq, pool, N_CTX, &err), &err);
    assert_ok(lf_kv_seq_reserve(seq, n + n_out, &err), &err);
    assert_ok(lf_forward_create(&forward, m, &e->kernels, e->threads, &e->draft.shape.layout, N_CTX, 1, &err),
              &err);
    for (int i = 0; i < n; i++)
        rows[i] = (lf_row){.seq = seq, .token = ids[i], .pos = i, .wants_logits = i == n - 1};
    lf_forward_run(forward, rows, n);
    for (int i = 0; i < n_out; i++) {
        const float *logits = lf_forward_logits(forward, 0);
        out[i] = 0;
        for (int id = 1; id < N_VOCAB; id++)
            if (logits[id] > logits[out[i]]) out[i] = id;
        rows[0] = (lf_row){.seq = seq, .token = out[i], .pos = n + i, .wants_logits = true};
        lf_forward_run(forward, rows, 1);
    }
    lf_forward_free(forward);
    lf_kv_seq_close(seq);
    lf_kv_pool_free(pool);
}

/* Where the window of a text of len begins, with the sinks: from its definition. */
static int window_begin(int len)
{
    int begin = 0;
    while (begin + 64 + SINKS + WINDOW <= len) begin += 64;
    return begin;
}

/* A prompt is drafted on as if its sinks and its window were all there is, one right behind the other. */
static void test_a_window_is_a_text_of_its_own(void **state)
{
    (void)state;
    enum { G = 6 };
    lf_error err;
    lf_engine *e = open_engine(paths[TARGET], paths[OTHER], 1);
    static const int lengths[] = {3, 56, 119, 120, 121, 184, 250, 300, 500};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++) {
        int32_t ids[N_CTX], seen[N_CTX], want[G];
        lf_request *r;
        const int n_wanted = G;
        lf_request_params p = request_params(ids, (size_t)lengths[k], 50 + k);
        p.draft_max = 0; /* it does not draft by itself */
        assert_ok(lf_request_submit(&r, e, &p, &err), &err);
        lf_seq *seq = step_until(e, r, p.n_ids);
        const int len = (int)seq->tokens.len, begin = window_begin(len);
        memcpy(seen, seq->tokens.data, SINKS * sizeof *seen);
        memcpy(seen + (begin ? SINKS : 0), seq->tokens.data + (begin ? begin + SINKS : 0),
               (size_t)(len - (begin ? begin + SINKS : 0)) * sizeof *seen);
        propose(&seq, 1, &n_wanted);
        decode_plain(e, &e->draft.model, seen, len - begin, want, G);
        assert_int_equal(seq->n_candidates, G);
        assert_memory_equal(seq->candidates, want, sizeof want);
        lf_request_free(r);
    }
    lf_engine_close(e);
}

static void load_position(const lf_engine *e, const lf_kv_seq *kv, int pos, float *k, float *v)
{
    lf_kv_tile_load(k, v, lf_kv_seq_tile(kv, 0, 0, pos / LF_TILE_POS), &e->draft.shape.layout,
                    pos % LF_TILE_POS);
}

/* The K/V of all that the draft of a sequence sees are those of a draft that begins with the same text, bit for bit: its sinks, and,
 * before it rolls, the whole window. (Later what is in the window has seen more than the window.) */
static void compare_with_fresh(lf_engine *e, lf_seq *rolling, const lf_request_params *params)
{
    lf_error err;
    lf_request *r;
    lf_request_params p = *params;
    int32_t text[N_CTX];
    const int n_wanted = 1, n = (int)rolling->tokens.len, begin = window_begin(n);
    memcpy(text, rolling->tokens.data, (size_t)n * sizeof *text);
    propose(&rolling, 1, &n_wanted);
    assert_int_equal(lf_kv_seq_len(rolling->draft_kv), n - 1);
    p.ids = text;
    p.n_ids = (size_t)n;
    p.draft_max = 0;
    assert_ok(lf_request_submit(&r, e, &p, &err), &err);
    lf_seq *fresh = step_until(e, r, (size_t)n);
    fresh->tokens.len = (size_t)n; /* without its first token, which may move the window */
    propose(&fresh, 1, &n_wanted);
    for (int i = 0; i < (begin == 0 ? n - 1 : SINKS); i++) {
        float a[2][16], b[2][16];
        load_position(e, rolling->draft_kv, begin + i, a[0], a[1]);
        load_position(e, fresh->draft_kv, begin + i, b[0], b[1]);
        assert_memory_equal(a, b, sizeof a);
    }
    lf_request_free(r);
    check_pages(e);
}

/* What is read keeps up with the text, whether all candidates are right or none, at the cost of the pages of a window. */
static void check_rolling(const char *draft_path, bool is_right)
{
    lf_error err;
    lf_engine *e = open_engine(paths[TARGET], draft_path, 2);
    int32_t ids[N_CTX];
    lf_request *r;
    lf_request_result result = {.size = sizeof result};
    lf_request_params p = request_params(ids, 30, 77);
    p.n_predict = 500;
    p.draft_max = 5;
    p.repetition_penalty = 1.5f;
    assert_ok(lf_request_submit(&r, e, &p, &err), &err);
    for (int len = 40; len < 500; len += 29) {
        lf_seq *seq = step_until(e, r, (size_t)len);
        /* unread: what nobody guessed, and the guess before it, if that was the last */
        assert_true((int)seq->tokens.len - lf_kv_seq_len(seq->draft_kv) <= 2);
        const int n_used = lf_kv_pool_n_pages(e->draft.pool) - lf_kv_pool_n_free(e->draft.pool);
        assert_true(n_used <= lf_draft_pages(WINDOW, N_CTX));
        compare_with_fresh(e, seq, &p);
    }
    lf_request_get_result(r, &result);
    assert_true(is_right ? result.accepted > 100 : result.accepted < 100);
    lf_request_free(r);
    lf_engine_close(e);
}

static void test_sinks_roll_with_the_window(void **state)
{
    (void)state;
    check_rolling(paths[OTHER], false);
    check_rolling(paths[TARGET], true);
}

/* A draft that was never verified, and a text that went on otherwise: only what agrees with it was read. */
static void test_what_went_on_otherwise_is_read_again(void **state)
{
    (void)state;
    enum { G = 5, N_RIGHT = 2 };
    lf_error err;
    lf_engine *e = open_engine(paths[TARGET], paths[OTHER], 2);
    int32_t ids[N_CTX];
    lf_request *r;
    const int n_wanted = G;
    lf_request_params p = request_params(ids, 60, 5);
    p.draft_max = 0;
    assert_ok(lf_request_submit(&r, e, &p, &err), &err);
    lf_seq *seq = step_until(e, r, 60);
    const int n = (int)seq->tokens.len;
    propose(&seq, 1, &n_wanted);
    const lf_verdict v = {.n_emitted = G};
    int32_t *next = seq->tokens.data + n;
    next[N_RIGHT] = (next[N_RIGHT] + 1) % N_VOCAB;
    seq->tokens.len += G;
    seq->proposer->ops->observe(seq->proposer, seq, &v);
    assert_int_equal(lf_kv_seq_len(seq->draft_kv), n + N_RIGHT);
    lf_request_free(r);
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
    lf_request_params p = request_params(ids, 40, 3);
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
    lf_engine_params ep = engine_params(paths[TARGET], paths[TARGET], 1);
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

/* ---- opening ---- */

static void test_memory_is_told(void **state)
{
    (void)state;
    lf_engine_info with = {.size = sizeof with}, target = with, alone = with;
    size_t page_bytes;
    lf_engine *e = open_engine(paths[TARGET], paths[OTHER], 4);
    lf_engine_get_info(e, &with);
    assert_true(lf_kv_page_bytes(&e->draft.shape, &page_bytes));
    assert_int_equal(lf_kv_pool_n_pages(e->draft.pool), 4 * lf_draft_pages(WINDOW, N_CTX));
    lf_engine_close(e);
    e = open_engine(paths[OTHER], NULL, 4);
    lf_engine_get_info(e, &alone);
    lf_engine_close(e);
    e = open_engine(paths[TARGET], NULL, 4);
    lf_engine_get_info(e, &target);
    lf_engine_close(e);
    assert_int_equal(with.draft_window, WINDOW);
    assert_int_equal(with.draft_bytes, alone.weight_bytes + alone.buffer_bytes +
                                           4u * (unsigned)lf_draft_pages(WINDOW, N_CTX) * page_bytes);
    assert_int_equal(target.draft_bytes, 0);
    assert_int_equal(target.draft_window, 0);
    assert_int_equal(with.weight_bytes + with.kv_bytes + with.buffer_bytes,
                     target.weight_bytes + target.kv_bytes + target.buffer_bytes);
}

/* What both models' passes cost is kept together, for engines with the same two. */
static void test_a_profile_is_of_both_models(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e = open_engine(paths[TARGET], paths[OTHER], 2),
              *same = open_engine(paths[TARGET], paths[OTHER], 2),
              *alone = open_engine(paths[TARGET], NULL, 2), *wide;
    lf_engine_params wider = engine_params(paths[TARGET], paths[OTHER], 2);
    char *text, *of_one, *again;
    wider.draft_window = WINDOW + 1;
    assert_ok(lf_engine_open(&wide, &wider, &err), &err);
    assert_ok(lf_engine_get_profile(e, &text, &err), &err);
    assert_ok(lf_engine_get_profile(alone, &of_one, &err), &err);
    assert_true(lf_cost_is_known(&e->cost) && lf_cost_is_known(&e->draft.cost));
    assert_false(lf_engine_set_profile(alone, text));
    assert_false(lf_engine_set_profile(wide, text));
    assert_false(lf_engine_set_profile(same, of_one));
    for (size_t n = strlen(text); n-- > 0;) { /* cut anywhere, also between the models */
        char *cut = strndup(text, n);
        assert_false(lf_engine_set_profile(same, cut));
        free(cut);
    }
    assert_false(lf_cost_is_known(&same->cost) || lf_cost_is_known(&same->draft.cost));
    assert_true(lf_engine_set_profile(same, text));
    assert_ok(lf_engine_get_profile(same, &again, &err), &err); /* nothing is measured: the same bits */
    assert_string_equal(again, text);
    free(text);
    free(of_one);
    free(again);
    lf_engine_close(e);
    lf_engine_close(same);
    lf_engine_close(alone);
    lf_engine_close(wide);
}

static void test_what_cannot_draft_is_refused(void **state)
{
    (void)state;
    lf_error err;
    lf_engine *e;
    lf_engine_params p = engine_params(paths[TARGET], paths[STRANGE], 1);
    assert_error(lf_engine_open(&e, &p, &err), LF_EINVAL, &err,
                 "found an embedding of 41 rows, expected the 40 of ");
    p = engine_params(paths[TARGET], paths[SHORT], 1);
    p.draft_window = 114; /* 256 positions, less sinks, rolling and candidates */
    assert_error(lf_engine_open(&e, &p, &err), LF_ELIMIT, &err,
                 "draft window: found 114, expected at most 113, for the context of ");
    p.draft_window = -1;
    assert_error(lf_engine_open(&e, &p, &err), LF_EINVAL, &err, "draft window: found -1");
    p.draft_window = 0;
    assert_ok(lf_engine_open(&e, &p, &err), &err);
    assert_int_equal(e->info.draft_window, 113);
    lf_engine_close(e);
    p.n_ctx = p.draft_window = 200; /* all that there is, is within its context */
    assert_ok(lf_engine_open(&e, &p, &err), &err);
    lf_engine_close(e);
    p.draft_path = in_temp("none.gguf");
    assert_error(lf_engine_open(&e, &p, &err), LF_EIO, &err, "none.gguf");
}

static lf_tokenizer *load_tokenizer(const char *json)
{
    lf_error err;
    lf_tokenizer *t;
    write_file(in_temp("tokenizer.json"), json, strlen(json));
    assert_ok(lf_tokenizer_from_file(&t, in_temp("tokenizer.json"), &err), &err);
    return t;
}

static void test_vocabularies_are_compared(void **state)
{
    (void)state;
#define JSON(vocab, added)                                                                                   \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{" vocab "},\"merges\":[]},\"added_tokens\":[" added "]}"
#define ADDED(special) "{\"id\":2,\"content\":\"c\",\"special\":" special "}"
    static const struct {
        const char *json, *fragment;
    } cases[] = {
        {JSON("\"a\":0,\"b\":1,\"c\":2", ADDED("true")), NULL},
        {JSON("\"a\":0,\"b\":1", ""), "DRAFT: found a vocabulary of 2 tokens, expected the 3 of TARGET"},
        {JSON("\"a\":0,\"\\n\\u00e9\":1,\"c\":2", ADDED("true")),
         "DRAFT: token 1: found \"\\x0A\\xC3\\xA9\", expected \"b\", as in TARGET"},
        {JSON("\"a\":0,\"bb\":1,\"c\":2", ADDED("true")), "token 1: found \"bb\", expected \"b\""},
        {JSON("\"a\":0,\"b\":1,\"c\":2", ADDED("false")),
         "token 2, \"c\": found its type user-defined, expected control"},
    };
#undef JSON
#undef ADDED
    lf_tokenizer *target = load_tokenizer(cases[0].json);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lf_error err = {0};
        lf_tokenizer *t = load_tokenizer(cases[i].json);
        const lf_status status = lf_tokenizer_check_same(target, "TARGET", t, "DRAFT", &err);
        assert_int_equal(status, cases[i].fragment ? LF_EINVAL : LF_OK);
        if (cases[i].fragment && !strstr(err.text, cases[i].fragment))
            fail_msg("'%s' lacks '%s'", err.text, cases[i].fragment);
        lf_tokenizer_free(t);
    }
    lf_tokenizer_free(target);
}

static void test_every_allocation_may_fail(void **state)
{
    (void)state;
    oom_require();
    for (int k = 0; k < 2; k++) {
        bool all_succeeded = false;
        long n = 1, n_failed = 0;
        for (; !all_succeeded; n++) {
            lf_error err;
            lf_engine *e;
            int32_t ids[30];
            const long live = oom_live();
            const lf_engine_params ep = engine_params(paths[TARGET], paths[OTHER], 2);
            lf_request_params p = request_params(ids, 30, 10);
            p.proposer = k == 0 ? "draft" : "auto";
            p.drafting = "jacobi";
            oom_fail_at(n);
            lf_status status = lf_engine_open(&e, &ep, &err);
            if (status == LF_OK) status = lf_generate(e, &p, NULL, &err);
            all_succeeded = oom_count() < n;
            oom_off();
            lf_engine_close(e);
            assert_int_equal(oom_live(), live);
            /* some do without what they do not get, as reading how much memory is free */
            if (status != LF_OK && (all_succeeded || status != LF_ENOMEM))
                fail_msg("allocation %ld: %s", n, err.text);
            n_failed += status != LF_OK;
        }
        assert_true(n_failed > n * 9 / 10);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_are_those_of_plain_decoding),
        cmocka_unit_test(test_real_models_draft_for_each_other),
        cmocka_unit_test(test_a_window_over_everything_is_always_right),
        cmocka_unit_test(test_iterations_end_where_single_passes_do),
        cmocka_unit_test(test_a_window_is_a_text_of_its_own),
        cmocka_unit_test(test_sinks_roll_with_the_window),
        cmocka_unit_test(test_what_went_on_otherwise_is_read_again),
        cmocka_unit_test(test_auto_drafts_where_it_pays),
        cmocka_unit_test(test_memory_is_told),
        cmocka_unit_test(test_a_profile_is_of_both_models),
        cmocka_unit_test(test_what_cannot_draft_is_refused),
        cmocka_unit_test(test_vocabularies_are_compared),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, write_models, leave_temp);
}
