/* The law test: the output of a sequence, ids and log probabilities compared as bytes, is the same whatever is proposed, whoever
 * is in the batch, and however threads, prompt chunks, pages and the prefix cache fall. LOOKFAR_LAW=N multiplies the number of
 * generations (1: some 2,000). */
#include "forward_fixture.h"

#include "base/cpu.h"
#include "decode/round.h"
#include "kv/prefix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_SEQS = 32, N_OUTPUT = 20, N_SETTINGS = 6, N_PROMPT_MAX = 300, N_TOP = 3, DRAFT_WINDOW = 40 };

/* ---- what is compared ---- */

typedef struct output {
    int n;
    int32_t ids[N_OUTPUT];
    float logprobs[N_OUTPUT];
    lf_logprob top[N_OUTPUT][N_TOP];
} output;

/* A prompt with its pick parameters, and what plain decoding makes of it. */
typedef struct expected {
    int32_t prompt[N_PROMPT_MAX];
    int n_prompt;
    lf_pick_params pick;
    output out;
} expected;

/* A mask that depends on the last two tokens. */
static void mask_by_history(void *cookie, const int32_t *history, int n, uint32_t *allowed)
{
    (void)cookie;
    const unsigned sum = (unsigned)history[n - 1] * 7u + (n > 1 ? (unsigned)history[n - 2] : 0u);
    for (unsigned i = 0; i < 8; i++) allowed[0] &= ~(UINT32_C(1) << ((sum + i * 3) % 32));
}

/* Greedy, and five ways to sample. */
static lf_pick_params setting(int i)
{
    static const lf_bias bias[] = {{3, 2.0f}, {7, -INFINITY}, {11, -1.5f}};
    lf_pick_params p;
    lf_pick_params_init(&p);
    p.seed = 1000 + (uint64_t)i;
    if (i > 0) p.temperature = 0.2f + 0.4f * (float)i;
    if (i == 2) p.top_k = 10, p.mask = mask_by_history;
    if (i == 3) p.top_p = 0.8f, p.repetition_penalty = 1.3f, p.repeat_last_n = 16;
    if (i == 4) p.min_p = 0.1f, p.frequency_penalty = 0.5f, p.presence_penalty = 0.3f, p.repeat_last_n = -1;
    if (i == 5) p.bias = bias, p.n_bias = 3, p.top_k = 40, p.top_p = 0.95f;
    return p;
}

/* ---- proposers for the test ---- */

typedef enum guessing { GUESS_RANDOM, GUESS_RIGHT, GUESS_WRONG, GUESS_HALF, N_GUESSING } guessing;

typedef struct runner {
    lf_seq seq;
    const expected *want;
    output out;
    guessing guessing;
    uint64_t rng;
    lf_picker *picker; /* for log probabilities */
    bool started, done;
} runner;

static lf_status attach_nothing(lf_proposer *self, lf_seq *seq, lf_error *err)
{
    (void)self, (void)seq, (void)err;
    return LF_OK;
}

static void detach_nothing(lf_proposer *self, lf_seq *seq)
{
    (void)self, (void)seq;
}

static void guess(lf_proposer *self, lf_seq *const *seqs, int n_seqs)
{
    (void)self;
    for (int i = 0; i < n_seqs; i++) {
        runner *r = seqs[i]->cookie;
        for (int j = 0; j < seqs[i]->n_wanted; j++) {
            const int at = r->out.n + j;
            const int32_t right = at < r->want->out.n ? r->want->out.ids[at] : 0,
                          noise = (int32_t)(rng_next(&r->rng) % 80);
            const bool half = rng_next(&r->rng) % 2 == 0;
            seqs[i]->candidates[j] = r->guessing == GUESS_RIGHT || (r->guessing == GUESS_HALF && half) ? right
                                     : r->guessing == GUESS_WRONG ? (right + 1) % 80
                                                                  : noise;
        }
        seqs[i]->n_candidates = seqs[i]->n_wanted;
    }
}

static const lf_proposer_ops guessing_ops = {
    .name = "guess", .attach = attach_nothing, .detach = detach_nothing, .propose = guess};

static bool collect(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed)
{
    (void)seq, (void)proposed;
    runner *r = cookie;
    assert_true(r->out.n < N_OUTPUT);
    r->out.ids[r->out.n] = id;
    lf_pick_logprobs(r->picker, logits, id, &r->out.logprobs[r->out.n], r->out.top[r->out.n], N_TOP);
    r->out.n++;
    return true;
}

/* ---- running a set of sequences ---- */

/* The round under test: the real one, or a mutant. */
typedef struct round_fns {
    lf_status (*create)(lf_round **out, lf_forward *forward, const lf_config *config, int seqs_max,
                        int rows_max, int logits_max, lf_error *err);
    lf_status (*step)(lf_round *r, lf_seq *const *seqs, int n_seqs, lf_step *step, lf_error *err);
    void (*free)(lf_round *r);
} round_fns;

static const round_fns real_round = {lf_round_create, lf_round_step, lf_round_free};

enum { NO_PROPOSER = -1, GUESSER = LF_PROPOSER_COUNT, N_PROPOSERS };

typedef struct conditions {
    int n_threads, rows_max, n_seqs; /* n_seqs: together at most */
    bool prefix_cache;
    bool mixed;    /* each sequence's proposer is drawn */
    int proposer;  /* otherwise: NO_PROPOSER, an index of lf_proposer_open, or GUESSER */
    int draft_max; /* 0: drawn, 2 to 32 */
    uint64_t seed;
} conditions;

typedef struct bench {
    const lf_model *model;
    const lf_kernels *kernels;
    lf_kv_shape shape;
    lf_kv_pool *pool;
    lf_threads *threads;
    lf_forward *forward;
    lf_round *round;
    lf_prefix *prefix;
    lf_picker *picker;
    lf_proposer *proposers[LF_PROPOSER_COUNT];
    lf_cost cost;
    lf_draft_env draft; /* the model drafts for itself, over a window */
    lf_cost draft_cost;
    lf_proposer guesser; /* the test's own */
} bench;

static void open_draft(bench *b, const conditions *c, int logits_max)
{
    lf_error err;
    b->draft = (lf_draft_env){.rows_max = c->rows_max, .window = DRAFT_WINDOW, .cost = &b->draft_cost};
    assert_ok(lf_kv_pool_create(&b->draft.pool, &b->shape,
                                c->n_seqs * lf_draft_pages(DRAFT_WINDOW, N_PROMPT_MAX + N_OUTPUT), &err),
              &err);
    lf_kv_pool_shuffle(b->draft.pool, c->seed + 1);
    assert_ok(lf_forward_create(&b->draft.forward, b->model, b->kernels, b->threads, &b->shape.layout,
                                c->rows_max, logits_max, &err),
              &err);
}

static void open_bench(bench *b, const lf_model *m, const lf_kernels *k, lf_dtype kv_dtype,
                       const conditions *c, const round_fns *fns)
{
    lf_error err;
    const int logits_max = c->rows_max < c->n_seqs * 12 ? c->rows_max : c->n_seqs * 12;
    *b = (bench){.model = m,
                 .kernels = k,
                 .shape = {.n_layers = m->config.n_layers, .n_kv_heads = m->config.n_kv_heads}};
    assert_true(lf_kv_layout_init(&b->shape.layout, kv_dtype, m->config.head_dim));
    assert_ok(lf_kv_pool_create(&b->pool, &b->shape, c->n_seqs * 5 + 4, &err), &err);
    lf_kv_pool_shuffle(b->pool, c->seed);
    assert_ok(lf_prefix_create(&b->prefix, b->pool, &err), &err);
    assert_ok(lf_threads_create(&b->threads, c->n_threads, false, &err), &err);
    assert_ok(
        lf_forward_create(&b->forward, m, k, b->threads, &b->shape.layout, c->rows_max, logits_max, &err),
        &err);
    assert_ok(fns->create(&b->round, b->forward, &m->config, c->n_seqs, c->rows_max, logits_max, &err), &err);
    assert_ok(lf_picker_create(&b->picker, m->config.n_vocab, &err), &err);
    open_draft(b, c, logits_max);
    const lf_proposer_env env = {.forward = b->forward,
                                 .config = &m->config,
                                 .threads = b->threads,
                                 .n_ctx = N_PROMPT_MAX + N_OUTPUT,
                                 .seqs_max = c->n_seqs,
                                 .rows_max = logits_max,
                                 .draft = &b->draft,
                                 .pool = b->pool,
                                 .cost = &b->cost,
                                 .profile_seconds = 1e-4};
    for (int i = 0; i < LF_PROPOSER_COUNT; i++)
        assert_ok(lf_proposer_open(&b->proposers[i], i, &env, &err), &err);
    b->guesser.ops = &guessing_ops;
}

static void close_bench(bench *b, const round_fns *fns)
{
    for (int i = 0; i < LF_PROPOSER_COUNT; i++) lf_proposer_close(b->proposers[i]);
    fns->free(b->round);
    lf_forward_free(b->forward);
    lf_forward_free(b->draft.forward);
    lf_kv_pool_free(b->draft.pool);
    lf_threads_free(b->threads);
    lf_prefix_free(b->prefix);
    lf_picker_free(b->picker);
    lf_kv_pool_free(b->pool);
}

static void start_runner(runner *r, bench *b, const expected *want, const conditions *c, uint64_t *rng)
{
    lf_error err;
    *r = (runner){.want = want,
                  .rng = rng_next(rng),
                  .guessing = (guessing)(rng_next(rng) % N_GUESSING),
                  .picker = b->picker,
                  .started = true};
    lf_seq *seq = &r->seq;
    seq->len_max = want->n_prompt + N_OUTPUT;
    seq->n_prompt = want->n_prompt;
    seq->tokens.cap = (size_t)seq->len_max + LF_DRAFT_MAX + 1;
    seq->tokens.data = malloc(seq->tokens.cap * sizeof(int32_t));
    memcpy(seq->tokens.data, want->prompt, (size_t)want->n_prompt * sizeof(int32_t));
    seq->tokens.len = (size_t)want->n_prompt;
    seq->pick = want->pick;
    seq->emit = collect;
    seq->cookie = r;
    seq->draft_max = c->draft_max ? c->draft_max : 2 + (int)(rng_next(rng) % 31);
    if (want->out.n > 0 && rng_next(rng) % 2)
        seq->prediction = want->out.ids, seq->n_prediction = want->out.n;
    assert_ok(lf_kv_seq_open(&seq->kv, b->pool, seq->len_max, &err), &err);
    seq->selection = (lf_selection)(rng_next(rng) % LF_SELECT_COUNT);
    seq->sparse_budget = 64 + (int)(rng_next(rng) % 80);
    seq->drafting = (lf_drafting)(rng_next(rng) % LF_DRAFTING_COUNT);
    const int proposer = c->mixed ? (int)(rng_next(rng) % (N_PROPOSERS + 1)) - 1 : c->proposer;
    if (proposer != NO_PROPOSER) {
        seq->proposer = proposer == GUESSER ? &b->guesser : b->proposers[proposer];
        assert_ok(seq->proposer->ops->attach(seq->proposer, seq, &err), &err);
    }
    if (c->prefix_cache) (void)lf_prefix_attach(b->prefix, seq->kv, seq->tokens.data, seq->n_prompt - 1);
}

static void end_runner(runner *r, const bench *b, const conditions *c)
{
    if (c->prefix_cache) lf_prefix_insert(b->prefix, r->seq.kv, r->seq.tokens.data);
    if (r->seq.proposer) r->seq.proposer->ops->detach(r->seq.proposer, &r->seq);
    lf_kv_seq_close(r->seq.kv);
    r->seq.kv = NULL;
    lf_ids_free(&r->seq.tokens);
    r->done = true;
}

static void check_pages(const bench *b, runner *runners, int n)
{
    const lf_kv_seq *open[N_SEQS], *drafting[N_SEQS];
    int32_t refs[N_SEQS * 5 + 4] = {0};
    int n_open = 0, n_drafting = 0;
    for (int i = 0; i < n; i++) {
        if (!runners[i].started || runners[i].done) continue;
        open[n_open++] = runners[i].seq.kv;
        if (runners[i].seq.draft_kv) drafting[n_drafting++] = runners[i].seq.draft_kv;
    }
    lf_prefix_count_refs(b->prefix, refs);
    assert_true(lf_kv_pool_check(b->pool, open, n_open, refs));
    assert_true(lf_kv_pool_check(b->draft.pool, drafting, n_drafting, NULL));
}

/* Runs every sequence of want (n), joining at random, and gives the outputs. */
static void run_all(output *outs, const expected *want, int n, const lf_model *m, const lf_kernels *k,
                    lf_dtype kv_dtype, const conditions *c, const round_fns *fns)
{
    static runner runners[N_SEQS];
    lf_error err;
    bench b;
    uint64_t rng = c->seed;
    int n_done = 0;
    open_bench(&b, m, k, kv_dtype, c, fns);
    memset(runners, 0, sizeof runners);
    while (n_done < n) {
        lf_seq *seqs[N_SEQS];
        int n_active = 0;
        for (int i = 0; i < n; i++) {
            const int at = (i + (int)(c->seed % (uint64_t)n)) %
                           n; /* who comes first is not always the same */
            runner *r = &runners[at];
            if (!r->started && n_active < c->n_seqs && (n_active == 0 || rng_next(&rng) % 2)) {
                (void)lf_prefix_evict(b.prefix, 5);
                start_runner(r, &b, &want[at], c, &rng);
            }
            if (r->started && !r->done && n_active < c->n_seqs) seqs[n_active++] = &r->seq;
        }
        lf_step step;
        (void)lf_prefix_evict(b.prefix, c->rows_max / LF_PAGE_POS + 2 * n_active);
        assert_ok(fns->step(b.round, seqs, n_active, &step, &err), &err);
        for (int i = 0; i < n; i++) {
            runner *r = &runners[i];
            if (!r->started || r->done || !r->seq.finished) continue;
            outs[i] = r->out;
            end_runner(r, &b, c);
            n_done++;
        }
        check_pages(&b, runners, n);
    }
    close_bench(&b, fns);
}

/* Prompts of all lengths, some sharing beginnings, some made of repetitions that n-grams find. */
static void make_expected(expected *want, int n, const lf_model *m, const lf_kernels *k, lf_dtype kv_dtype,
                          int len_max, uint64_t seed)
{
    static output outs[N_SEQS];
    const uint64_t n_vocab = (uint64_t)m->config.n_vocab;
    for (int i = 0; i < n; i++) {
        expected *w = &want[i];
        *w = (expected){.n_prompt = 1 + (int)(rng_next(&seed) % (uint64_t)len_max),
                        .pick = setting(i % N_SETTINGS)};
        const int period = i % 3 == 0 ? 5 : len_max;
        for (int j = 0; j < w->n_prompt; j++)
            w->prompt[j] = j >= period ? w->prompt[j - period] : (int32_t)(rng_next(&seed) % n_vocab);
        if (i % 4 == 3) { /* begins as the one before it */
            const int shared = want[i - 1].n_prompt < w->n_prompt ? want[i - 1].n_prompt : w->n_prompt;
            memcpy(w->prompt, want[i - 1].prompt, (size_t)shared * sizeof *w->prompt);
        }
    }
    const conditions plain = {
        .n_threads = 1, .rows_max = len_max, .n_seqs = 1, .proposer = NO_PROPOSER, .seed = 1};
    run_all(outs, want, n, m, k, kv_dtype, &plain, &real_round);
    for (int i = 0; i < n; i++) {
        assert_int_equal(outs[i].n, N_OUTPUT);
        want[i].out = outs[i];
    }
}

static int count_different(const expected *want, int n, const lf_model *m, const lf_kernels *k,
                           lf_dtype kv_dtype, const conditions *c, const round_fns *fns)
{
    static output outs[N_SEQS];
    int different = 0;
    run_all(outs, want, n, m, k, kv_dtype, c, fns);
    for (int i = 0; i < n; i++) different += memcmp(&outs[i], &want[i].out, sizeof outs[i]) != 0;
    return different;
}

static conditions draw_conditions(uint64_t *rng)
{
    static const int chunks[] = {1, 7, 64, 512};
    conditions c = {.n_threads = 1 + (int)(rng_next(rng) % (TESTS_SHORT ? 2 : 4)),
                    .prefix_cache = rng_next(rng) % 2,
                    .mixed = true,
                    .n_seqs = 1 + (int)(rng_next(rng) % N_SEQS),
                    .seed = rng_next(rng)};
    c.rows_max = chunks[rng_next(rng) % 4] + c.n_seqs - 1 + (int)(rng_next(rng) % 3);
    return c;
}

/* ---- the tests ---- */

static int law_factor(void)
{
    const char *text = getenv("LOOKFAR_LAW");
    const int factor = text ? atoi(text) : 1;
    return factor < 1 ? 1 : factor;
}

static lf_config family_config(int family)
{
    lf_config c = small_config();
    c.dim = c.ffn_dim = 256;
    if (family == 1) c.n_kv_heads = c.n_heads; /* MHA, untied */
    if (family == 1) c.tied = false;
    if (family == 2) c.arch = LF_ARCH_QWEN2, c.qkv_bias = true, c.n_kv_heads = 1;
    if (family == 3) c.arch = LF_ARCH_QWEN3, c.qk_norm = true, c.n_heads = 8;
    return c;
}

static void test_outputs_are_those_of_plain_decoding(void **state)
{
    (void)state;
    static const lf_dtype weights[] = {LF_DTYPE_F32,  LF_DTYPE_F16,  LF_DTYPE_BF16, LF_DTYPE_Q8_0,
                                       LF_DTYPE_Q4_0, LF_DTYPE_Q4_K, LF_DTYPE_Q5_K, LF_DTYPE_Q6_K};
    static const lf_dtype caches[] = {LF_DTYPE_BF16, LF_DTYPE_F32, LF_DTYPE_F16, LF_DTYPE_Q8_0};
    static expected want[N_SEQS];
    unsigned levels[4];
    const int n_levels = kernel_levels(levels), rounds = TESTS_SHORT ? 1 : 8 * law_factor();
    uint64_t rng = 99;
    int n_generations = 0;
    for (int w = 0; w < 8; w++) {
        const lf_config config = family_config(w % 4);
        lf_model m;
        load_random_model(&m, &config, weights[w], 500 + (uint64_t)w);
        for (int level = 0; level < n_levels; level++) {
            lf_kernels k;
            lf_kernels_init(&k, levels[level]);
            const bool slow = levels[level] == 0, fastest = level == n_levels - 1;
            const lf_dtype kv = caches[(w + level) % 4];
            const int n = slow          ? 4
                          : TESTS_SHORT ? 8
                                        : N_SEQS,
                      n_rounds = slow      ? 1
                                 : fastest ? rounds
                                           : (rounds + 7) / 8;
            make_expected(want, n, &m, &k, kv, slow ? 20 : w == 0 ? N_PROMPT_MAX : 80, 7 + (uint64_t)w);
            for (int i = 0; i < n_rounds; i++) {
                const conditions c = draw_conditions(&rng);
                const int different = count_different(want, n, &m, &k, kv, &c, &real_round);
                n_generations += n;
                if (different)
                    fail_msg(
                        "%d of %d outputs differ: weights %s, cache %s, %s, threads %d, rows %d, together %d, prefix cache %d",
                        different, n, lf_dtype_name(weights[w]), lf_dtype_name(kv), k.name, c.n_threads,
                        c.rows_max, c.n_seqs, c.prefix_cache);
            }
        }
        lf_model_free(&m);
    }
    print_message("%d generations\n", n_generations);
    assert_true(TESTS_SHORT || n_levels < 4 || n_generations >= 2000);
}

/* Real weights, at every level. */
static void test_outputs_of_a_real_model(void **state)
{
    (void)state;
    static expected want[N_SEQS];
    unsigned levels[4];
    const int n_levels = kernel_levels(levels), n_rounds = TESTS_SHORT ? 1 : 4 * law_factor();
    uint64_t rng = 77;
    lf_model m;
    load_model(&m, require_data("models/hf/stories260K"));
    for (int level = 0; level < n_levels; level++) {
        lf_kernels k;
        lf_kernels_init(&k, levels[level]);
        const int n = levels[level] == 0 ? 6 : N_SEQS;
        make_expected(want, n, &m, &k, LF_DTYPE_BF16, 80, 5);
        for (int i = 0; i < n_rounds; i++) {
            const conditions c = draw_conditions(&rng);
            assert_int_equal(count_different(want, n, &m, &k, LF_DTYPE_BF16, &c, &real_round), 0);
        }
    }
    lf_model_free(&m);
}

/* Every proposer, and every number of candidates, by itself; and that right guesses do save passes. */
static void test_each_proposer_and_width(void **state)
{
    (void)state;
    static expected want[N_SEQS];
    unsigned levels[4];
    lf_kernels k;
    lf_model m;
    const lf_config config = family_config(0);
    lf_kernels_init(&k, levels[kernel_levels(levels) - 1]);
    load_random_model(&m, &config, LF_DTYPE_BF16, 600);
    make_expected(want, 12, &m, &k, LF_DTYPE_BF16, 250, 8);
    for (int p = NO_PROPOSER; p < N_PROPOSERS; p++)
        for (int width = 2; width <= 32; width += width < 8 && !TESTS_SHORT ? 1 : 8) {
            const conditions c = {.n_threads = 2,
                                  .rows_max = 120,
                                  .n_seqs = 6,
                                  .prefix_cache = width % 2,
                                  .proposer = p,
                                  .draft_max = width,
                                  .seed = (uint64_t)((p + 1) * 100 + width)};
            assert_int_equal(count_different(want, 12, &m, &k, LF_DTYPE_BF16, &c, &real_round), 0);
        }
    lf_model_free(&m);
}

/* ---- tests of the test: engines with one thing wrong ---- */

/* Overwrites the K/V of a committed position, in every layer and head. */
static void overwrite_slot(const bench *b, const lf_kv_seq *seq, int pos, const lf_kv_seq *from, int from_pos)
{
    float k[LF_GROUP_MAX * 4] = {0}, v[LF_GROUP_MAX * 4] = {0};
    for (int layer = 0; layer < b->shape.n_layers; layer++)
        for (int head = 0; head < b->shape.n_kv_heads; head++) {
            if (from)
                lf_kv_tile_load(k, v, lf_kv_seq_tile(from, layer, head, from_pos / LF_TILE_POS),
                                &b->shape.layout, from_pos % LF_TILE_POS);
            lf_kv_tile_store(lf_kv_seq_tile(seq, layer, head, pos / LF_TILE_POS), &b->shape.layout,
                             pos % LF_TILE_POS, k, v);
        }
}

static const bench *mutant_bench; /* what the mutants below corrupt */

/* An accepted candidate whose K/V was never written. */
static lf_status accept_without_commit(lf_round *r, lf_seq *const *seqs, int n, lf_step *step, lf_error *err)
{
    int accepted[N_SEQS];
    for (int i = 0; i < n; i++) accepted[i] = seqs[i]->accepted;
    const lf_status status = lf_round_step(r, seqs, n, step, err);
    for (int i = 0; i < n; i++)
        if (seqs[i]->accepted > accepted[i])
            overwrite_slot(mutant_bench, seqs[i]->kv, lf_kv_seq_len(seqs[i]->kv) - 1, NULL, 0);
    return status;
}

/* A committed position that shows the K/V of a rejected candidate. */
static lf_status rejected_slot_visible(lf_round *r, lf_seq *const *seqs, int n, lf_step *step, lf_error *err)
{
    int accepted[N_SEQS];
    for (int i = 0; i < n; i++) accepted[i] = seqs[i]->accepted;
    const lf_status status = lf_round_step(r, seqs, n, step, err);
    for (int i = 0; i < n; i++) {
        const int len = lf_kv_seq_len(seqs[i]->kv);
        if (!seqs[i]->finished && seqs[i]->n_candidates > seqs[i]->accepted - accepted[i])
            overwrite_slot(mutant_bench, seqs[i]->kv, len - 1, seqs[i]->kv, len);
    }
    return status;
}

/* Noise that depends on how many passes there were. */
static lf_status noise_by_call_order(lf_round *r, lf_seq *const *seqs, int n, lf_step *step, lf_error *err)
{
    for (int i = 0; i < n; i++) seqs[i]->pick.seed += (uint64_t)seqs[i]->passes;
    return lf_round_step(r, seqs, n, step, err);
}

/* A product whose order of additions depends on the number of rows. */
static lf_matmul_fn *real_matmul;

static void matmul_by_row_count(float *y, size_t y_stride, const lf_packed *w, int tile_begin, int tile_end,
                                const void *x, size_t x_stride, int n_rows, const void *next)
{
    real_matmul(y, y_stride, w, tile_begin, tile_end, x, x_stride, n_rows, next);
    float *row = malloc((size_t)w->n_in * sizeof *row);
    for (int o = tile_begin * LF_TILE_OUT; n_rows > 3 && o < tile_end * LF_TILE_OUT && o < w->n_out; o++) {
        lf_unpack_row(row, w, o);
        for (int r = 0; r < n_rows; r++) {
            const float *in = (const float *)(const void *)((const char *)x + (size_t)r * x_stride);
            float sum = 0;
            for (int i = w->n_in - 1; i >= 0; i--) sum = fmaf(in[i], row[i], sum);
            y[(size_t)r * y_stride + (size_t)o] = sum;
        }
    }
    free(row);
}

static void test_the_law_test_sees_mutants(void **state)
{
    (void)state;
    static expected want[N_SEQS];
    unsigned levels[4];
    lf_kernels k;
    lf_model m;
    const lf_config config = family_config(0);
    lf_kernels_init(&k, levels[kernel_levels(levels) - 1]);
    load_random_model(&m, &config, LF_DTYPE_F32, 700);
    make_expected(want, 12, &m, &k, LF_DTYPE_F32, 40, 9);
    const conditions c = {
        .n_threads = 2, .rows_max = 80, .n_seqs = 6, .proposer = GUESSER, .draft_max = 4, .seed = 10};
    assert_int_equal(count_different(want, 12, &m, &k, LF_DTYPE_F32, &c, &real_round), 0);

    const round_fns mutants[] = {{lf_round_create, accept_without_commit, lf_round_free},
                                 {lf_round_create, rejected_slot_visible, lf_round_free},
                                 {lf_round_create, noise_by_call_order, lf_round_free}};
    bench for_mutants = {.shape = {.n_layers = config.n_layers, .n_kv_heads = config.n_kv_heads}};
    assert_true(lf_kv_layout_init(&for_mutants.shape.layout, LF_DTYPE_F32, config.head_dim));
    mutant_bench = &for_mutants;
    for (size_t i = 0; i < sizeof mutants / sizeof *mutants; i++)
        if (count_different(want, 12, &m, &k, LF_DTYPE_F32, &c, &mutants[i]) == 0)
            fail_msg("mutant %zu was not seen", i);

    real_matmul = k.matmul[LF_DTYPE_F32];
    k.matmul[LF_DTYPE_F32] = matmul_by_row_count;
    assert_true(count_different(want, 12, &m, &k, LF_DTYPE_F32, &c, &real_round) > 0);
    lf_model_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_outputs_are_those_of_plain_decoding),
        cmocka_unit_test(test_outputs_of_a_real_model),
        cmocka_unit_test(test_each_proposer_and_width),
        cmocka_unit_test(test_the_law_test_sees_mutants),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
