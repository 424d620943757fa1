/* Sequences join, leave, stop, are cancelled, lose their cache and read it again at random, with every proposer, selection, budget and
 * number of candidates, in a pool that is too small for them. After each step every page is accounted for, and what finishes says
 * what plain decoding said. LOOKFAR_STEPS and LOOKFAR_SEED name another run. */
#include "forward_fixture.h"

#include "base/cpu.h"
#include "decode/round.h"
#include "kv/prefix.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    N_CTX = 330,
    N_PAGES = 11, /* of 128 positions: for three of the longest sequences */
    N_SLOTS = 8,
    N_KINDS = 64, /* prompts with their pick parameters */
    FIRST_CONTINUED = 48,
    N_OUTPUT = 60,
    ROWS_MAX = 56,
    DRAFT_WINDOW = 40,
    N_STEPS = TESTS_SHORT ? 4000 : 100000,
};

static const char *const proposer_names[] = {"ngram", "jacobi", "sparse", "draft", "auto"};
enum { N_PROPOSERS = sizeof proposer_names / sizeof *proposer_names };

/* A prompt, and what plain decoding makes of it: n_output tokens, to the end of the context at most. */
typedef struct kind {
    int32_t prompt[N_CTX];
    int n_prompt, n_output;
    lf_pick_params pick;
    int32_t output[N_OUTPUT];
} kind;

/* A sequence on its way. */
typedef struct slot {
    lf_seq seq;
    const kind *kind;
    int proposer; /* in proposer_names, or -1 */
    int stop_at,
        n_limit; /* the token that its owner takes for the last one, and the limit that it was given */
    int n_output;
    bool wrong;       /* a token is not what plain decoding said */
    bool used, waits; /* waits: it has no pages, and is not stepped */
} slot;

typedef struct world {
    lf_model model;
    lf_kernels kernels;
    lf_kv_pool *pool;
    lf_threads *threads;
    lf_forward *forward;
    lf_round *round;
    lf_prefix *prefix;
    lf_cost cost, draft_cost;
    lf_draft_env draft; /* the model drafts for itself, over a window */
    lf_proposer *proposers[N_PROPOSERS];
    kind kinds[N_KINDS];
    slot slots[N_SLOTS];
    uint64_t rng;
    /* what happened, so that a test that tests nothing is seen */
    int n_finished, n_stopped, n_cancelled, n_starved, n_preempted, n_shared, n_full;
    int proposed[N_PROPOSERS], accepted[N_PROPOSERS];
} world;

static int draw(world *w, int n)
{
    return (int)(rng_next(&w->rng) % (uint64_t)n);
}

/* ---- the world ---- */

/* `auto` takes this for the machine at every step, so that it proposes, and the same in every run: everything pays. */
static const lf_cost everything_pays = {
    .n_pass = 2, .n_attend = 2, .pass = {1, 1.001}, .attend = {1, 1.001}, .target = 1, .draft = 0.01};

/* Families of four share a beginning, some of them beyond the first page; every third repeats itself. */
static void make_kind(world *w, int i)
{
    static const int lengths[] = {1,   15,  16,  17,  60,  100, 120, 127, 128,
                                  129, 140, 200, 250, 255, 256, 300, 320, N_CTX};
    kind *k = &w->kinds[i];
    const int n_lengths = sizeof lengths / sizeof *lengths, n_shared = 40 + 60 * (i / 4 % 4);
    uint64_t family = (uint64_t)(i / 4) * 977 + 5, own = (uint64_t)i * 31 + 11;
    k->n_prompt = lengths[i % n_lengths];
    for (int j = 0; j < k->n_prompt; j++) {
        const uint64_t noise = rng_next(j < n_shared ? &family : &own);
        k->prompt[j] = i % 3 == 0 && j >= 7 ? k->prompt[j - 7] : (int32_t)(noise % 40);
    }
    lf_pick_params_init(&k->pick);
    k->pick.seed = (uint64_t)i;
    if (i % 2) k->pick.temperature = 0.3f * (float)(1 + i % 5);
    if (i % 5 == 1) k->pick.repetition_penalty = 1.2f;
}

/* The last kinds go on where the first ones ended, as a second turn does: pages that those fed to the prefix cache are theirs, too. */
static void continue_kind(kind *k, const kind *before)
{
    const int room = N_CTX - before->n_prompt, n = before->n_output < room ? before->n_output : room;
    memcpy(k->prompt, before->prompt, (size_t)before->n_prompt * sizeof(int32_t));
    memcpy(k->prompt + before->n_prompt, before->output, (size_t)n * sizeof(int32_t));
    k->n_prompt = before->n_prompt + n;
}

static void open_draft(world *w, const lf_kv_shape *shape, uint64_t seed)
{
    lf_error err;
    w->draft = (lf_draft_env){.rows_max = ROWS_MAX, .window = DRAFT_WINDOW, .cost = &w->draft_cost};
    assert_ok(lf_kv_pool_create(&w->draft.pool, shape, N_SLOTS * lf_draft_pages(DRAFT_WINDOW, N_CTX), &err),
              &err);
    lf_kv_pool_shuffle(w->draft.pool, seed + 1);
    assert_ok(lf_forward_create(&w->draft.forward, &w->model, &w->kernels, w->threads, &shape->layout,
                                ROWS_MAX, ROWS_MAX, &err),
              &err);
}

static void open_world(world *w, uint64_t seed)
{
    lf_error err;
    const lf_config config = {.arch = LF_ARCH_LLAMA,
                              .n_layers = 2,
                              .dim = 32,
                              .n_heads = 4,
                              .n_kv_heads = 2,
                              .head_dim = 8,
                              .ffn_dim = 32,
                              .n_vocab = 40,
                              .n_ctx_max = 512,
                              .norm_eps = 1e-5f,
                              .rope_base = 10000.0,
                              .rope_factor = 1.0,
                              .tied = true};
    lf_kv_shape shape = {.n_layers = config.n_layers, .n_kv_heads = config.n_kv_heads};
    *w = (world){.rng = seed};
    load_random_model(&w->model, &config, LF_DTYPE_F32, 3);
    lf_kernels_init(&w->kernels, lf_cpu_flags());
    assert_true(lf_kv_layout_init(&shape.layout, LF_DTYPE_BF16, config.head_dim));
    assert_ok(lf_kv_pool_create(&w->pool, &shape, N_PAGES, &err), &err);
    lf_kv_pool_shuffle(w->pool, seed);
    assert_ok(lf_prefix_create(&w->prefix, w->pool, &err), &err);
    assert_ok(lf_threads_create(&w->threads, 1, false, &err), &err);
    assert_ok(lf_forward_create(&w->forward, &w->model, &w->kernels, w->threads, &shape.layout, ROWS_MAX,
                                ROWS_MAX, &err),
              &err);
    assert_ok(lf_round_create(&w->round, w->forward, &w->model.config, N_SLOTS, ROWS_MAX, ROWS_MAX, &err),
              &err);
    open_draft(w, &shape, seed);
    const lf_proposer_env env = {.forward = w->forward,
                                 .config = &w->model.config,
                                 .threads = w->threads,
                                 .n_ctx = N_CTX,
                                 .seqs_max = N_SLOTS,
                                 .rows_max = ROWS_MAX,
                                 .draft = &w->draft,
                                 .pool = w->pool,
                                 .cost = &w->cost,
                                 .profile_seconds = 1e-4};
    w->cost = w->draft_cost = everything_pays;
    for (int i = 0; i < N_PROPOSERS; i++)
        assert_ok(lf_proposer_open(&w->proposers[i], lf_proposer_find(proposer_names[i]), &env, &err), &err);
    for (int i = 0; i < N_KINDS; i++) make_kind(w, i);
}

static void close_world(world *w)
{
    for (int i = 0; i < N_PROPOSERS; i++) lf_proposer_close(w->proposers[i]);
    lf_round_free(w->round);
    lf_forward_free(w->forward);
    lf_forward_free(w->draft.forward);
    lf_kv_pool_free(w->draft.pool);
    lf_threads_free(w->threads);
    lf_prefix_free(w->prefix);
    lf_kv_pool_free(w->pool);
    lf_model_free(&w->model);
}

static void check_pages(const world *w)
{
    const lf_kv_seq *open[N_SLOTS], *drafts[N_SLOTS];
    int32_t refs[N_PAGES] = {0};
    int n = 0, n_drafts = 0;
    for (int i = 0; i < N_SLOTS; i++) {
        if (w->slots[i].used) open[n++] = w->slots[i].seq.kv;
        if (w->slots[i].seq.draft_kv) drafts[n_drafts++] = w->slots[i].seq.draft_kv;
    }
    lf_prefix_count_refs(w->prefix, refs);
    assert_true(lf_kv_pool_check(w->pool, open, n, refs));
    assert_true(lf_kv_pool_check(w->draft.pool, drafts, n_drafts, NULL));
}

/* ---- sequences ---- */

static bool collect(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed)
{
    (void)seq, (void)logits, (void)proposed;
    slot *s = cookie;
    assert_true(s->n_output < N_OUTPUT);
    s->wrong = s->wrong || (s->kind->n_output > 0 && s->kind->output[s->n_output] != id);
    return ++s->n_output != s->stop_at;
}

static void start(world *w, slot *s, const kind *k, int proposer, int n_predict)
{
    lf_error err;
    *s = (slot){.kind = k, .proposer = proposer, .used = true};
    lf_seq *seq = &s->seq;
    seq->len_max = k->n_prompt + n_predict < N_CTX + 1 ? k->n_prompt + n_predict : N_CTX + 1;
    s->n_limit = seq->len_max - k->n_prompt;
    seq->n_prompt = k->n_prompt;
    seq->tokens.cap = N_CTX + 1 + LF_DRAFT_MAX + 1;
    seq->tokens.data = malloc(seq->tokens.cap * sizeof(int32_t));
    assert_non_null(seq->tokens.data);
    memcpy(seq->tokens.data, k->prompt, (size_t)k->n_prompt * sizeof(int32_t));
    seq->tokens.len = (size_t)k->n_prompt;
    seq->pick = k->pick;
    seq->emit = collect;
    seq->cookie = s;
    assert_ok(lf_kv_seq_open(&seq->kv, w->pool, N_CTX, &err), &err);
}

static void join(world *w, slot *s)
{
    static const int widths[] = {0, 1, 2, 3, 5, 8, 12, LF_DRAFT_MAX};
    lf_error err;
    const kind *k = &w->kinds[draw(w, N_KINDS)];
    const int to_page_end = LF_PAGE_POS -
                            k->n_prompt % LF_PAGE_POS; /* the last token is the one that fills a page */
    start(w, s, k, draw(w, N_PROPOSERS + 1) - 1,
          to_page_end <= N_OUTPUT && draw(w, 4) == 0 ? to_page_end : 1 + draw(w, N_OUTPUT));
    lf_seq *seq = &s->seq;
    if (draw(w, 4) == 0) s->stop_at = 1 + draw(w, s->n_limit);
    seq->draft_max = widths[draw(w, 8)];
    seq->selection = (lf_selection)draw(w, LF_SELECT_COUNT);
    seq->sparse_budget = 16 + draw(w, 200);
    seq->drafting = (lf_drafting)draw(w, LF_DRAFTING_COUNT);
    if (draw(w, 4) == 0) seq->prediction = s->kind->output, seq->n_prediction = s->kind->n_output;
    if (s->proposer >= 0) {
        lf_proposer *p = w->proposers[s->proposer];
        assert_ok(p->ops->attach(p, seq, &err), &err);
        seq->proposer = p;
    }
    if (draw(w, 8))
        w->n_shared += lf_prefix_attach(w->prefix, seq->kv, seq->tokens.data, seq->n_prompt - 1) > 0;
}

static void leave(world *w, slot *s)
{
    lf_seq *seq = &s->seq;
    if (draw(w, 8)) lf_prefix_insert(w->prefix, seq->kv, seq->tokens.data);
    if (seq->proposer) seq->proposer->ops->detach(seq->proposer, seq);
    lf_kv_seq_close(seq->kv);
    lf_ids_free(&seq->tokens);
    *s = (slot){0};
}

static void check_output(world *w, slot *s)
{
    const int expected = s->stop_at ? s->stop_at : s->n_limit;
    if (s->wrong || s->n_output != expected)
        fail_msg("kind %td, %s: %d tokens, %s, expected %d", s->kind - w->kinds,
                 s->proposer < 0 ? "none" : proposer_names[s->proposer], s->n_output,
                 s->wrong ? "not those of plain decoding" : "right", expected);
    assert_int_equal(memcmp(s->seq.tokens.data + s->kind->n_prompt, s->kind->output,
                            (size_t)s->n_output * sizeof(int32_t)),
                     0);
    w->n_finished++;
    w->n_stopped += s->stop_at > 0;
    w->n_full += (int)s->seq.tokens.len == N_CTX + 1;
    if (s->proposer < 0) return;
    w->proposed[s->proposer] += s->seq.proposed;
    w->accepted[s->proposer] += s->seq.accepted;
}

/* Takes a sequence's pages, or those from some position on; its tokens are read again. A third finds a part in the prefix cache. */
static void preempt(world *w, slot *s)
{
    lf_seq *seq = &s->seq;
    const int len = lf_kv_seq_len(seq->kv);
    lf_kv_seq_truncate(seq->kv, draw(w, 3) && len > 0 ? draw(w, len) : 0);
    if (lf_kv_seq_len(seq->kv) == 0 && draw(w, 3) == 0)
        (void)lf_prefix_attach(w->prefix, seq->kv, seq->tokens.data, (int)seq->tokens.len - 1);
    w->n_preempted++;
}

/* Gives pages back until a step can be: those of the prefix cache first, then those of a sequence, which waits. */
static void make_room(world *w)
{
    w->n_starved++;
    if (lf_prefix_n_pages(w->prefix) > 0 && draw(w, 2) &&
        lf_prefix_evict(w->prefix, lf_kv_pool_n_free(w->pool) + 1))
        return;
    for (int i = draw(w, N_SLOTS), n = 0; n < N_SLOTS; n++, i = (i + 1) % N_SLOTS) {
        slot *s = &w->slots[i];
        if (!s->used || s->waits || lf_kv_seq_len(s->seq.kv) == 0) continue;
        lf_kv_seq_truncate(s->seq.kv, 0);
        s->waits = true;
        return;
    }
    assert_true(lf_prefix_evict(w->prefix, N_PAGES)); /* one sequence alone always fits */
}

static void step(world *w)
{
    w->cost = w->draft_cost = everything_pays;
    lf_error err;
    lf_step done;
    lf_status status;
    do {
        lf_seq *seqs[N_SLOTS];
        int n = 0;
        for (int i = 0; i < N_SLOTS; i++)
            if (w->slots[i].used && !w->slots[i].waits) seqs[n++] = &w->slots[i].seq;
        status = lf_round_step(w->round, seqs, n, &done, &err);
        assert_true(status == LF_OK || status == LF_ELIMIT);
        if (status != LF_OK) make_room(w);
        check_pages(w);
    } while (status != LF_OK);
}

static void disturb(world *w, slot *s)
{
    const int what = draw(w, 256);
    if (!s->used) {
        if (what < 128) join(w, s);
    } else if (s->waits) {
        s->waits = what >= 32;
    } else if (what == 0) {
        leave(w, s);
        w->n_cancelled++;
    } else if (what == 1) {
        preempt(w, s);
    } else if (what == 2) {
        lf_prefix_insert(w->prefix, s->seq.kv, s->seq.tokens.data); /* in the middle of its output */
    } else if (what == 3) {
        (void)lf_prefix_evict(w->prefix, draw(w, N_PAGES));
    }
}

/* ---- the test ---- */

static long number_of(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

/* What plain decoding says, alone and without a prefix cache. */
static void decode_plainly(world *w)
{
    for (int i = 0; i < N_KINDS; i++) {
        kind *k = &w->kinds[i];
        slot *s = &w->slots[0];
        if (i >= FIRST_CONTINUED) continue_kind(k, &w->kinds[i - FIRST_CONTINUED]);
        start(w, s, k, -1, N_OUTPUT);
        while (!s->seq.finished) step(w);
        k->n_output = s->n_output;
        memcpy(k->output, s->seq.tokens.data + k->n_prompt, (size_t)k->n_output * sizeof(int32_t));
        lf_kv_seq_close(s->seq.kv);
        lf_ids_free(&s->seq.tokens);
        *s = (slot){0};
    }
}

static void test_a_long_random_schedule(void **state)
{
    (void)state;
    static world w;
    const long n_steps = number_of("LOOKFAR_STEPS", N_STEPS);
    const uint64_t seed = (uint64_t)number_of("LOOKFAR_SEED", 1);
    print_message("%ld steps, seed %llu\n", n_steps, (unsigned long long)seed);
    open_world(&w, seed);
    decode_plainly(&w);
    for (long i = 0; i < n_steps; i++) {
        for (int k = 0; k < N_SLOTS; k++) disturb(&w, &w.slots[k]);
        check_pages(&w);
        step(&w);
        for (int k = 0; k < N_SLOTS; k++) {
            if (!w.slots[k].used || !w.slots[k].seq.finished) continue;
            check_output(&w, &w.slots[k]);
            leave(&w, &w.slots[k]);
        }
        check_pages(&w);
    }
    for (int k = 0; k < N_SLOTS; k++)
        if (w.slots[k].used) leave(&w, &w.slots[k]);
    check_pages(&w);
    assert_true(lf_prefix_evict(w.prefix, N_PAGES)); /* nobody else has a page */
    print_message(
        "%d finished, %d stopped early, %d at the context's end; %d cancelled, %d starved, %d preempted; "
        "%d shared a prefix\n",
        w.n_finished, w.n_stopped, w.n_full, w.n_cancelled, w.n_starved, w.n_preempted, w.n_shared);
    for (int i = 0; i < N_PROPOSERS; i++) {
        print_message("%s: %d of %d accepted\n", proposer_names[i], w.accepted[i], w.proposed[i]);
        assert_true(n_steps < 4000 || (w.accepted[i] > 10 && w.proposed[i] > w.accepted[i]));
    }
    assert_true(n_steps < 4000 || (w.n_stopped > 10 && w.n_full > 10 && w.n_cancelled > 10 &&
                                   w.n_starved > 100 && w.n_preempted > 10 && w.n_shared > 10));
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_long_random_schedule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
