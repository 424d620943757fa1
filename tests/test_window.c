/* Jacobi windows whose size is chosen: simulated targets are decoded with windows of every size, plainly, and as the controller chooses,

 * against a machine whose passes cost what a table says. */
#include "testing.h"

#include "decode/auto_jacobi.h"
#include "decode/guesses.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TOKENS = 8000, N_PROMPT = 8, NOT_A_TOKEN = 1 << 30 };

/* A target: it picks the right token behind a wrong guess with a chance, once it has picked for the position so many times. And what it
 * costs to ask it. */
typedef struct world {
    double luck;
    int passes;
    lf_cost cost;
    uint64_t rng;
} world;

typedef struct decoder {
    lf_windows windows;
    lf_window_seq state;
    lf_cost cost; /* as it is believed to be */
    lf_seq seq;
    int n_rows; /* of all passes */
    int times[N_PROMPT + N_TOKENS + LF_DRAFT_MAX + 1]; /* passes that picked for a position */
} decoder;

static double uniform(uint64_t *rng, double from, double to)
{
    return from + (to - from) * ((double)(rng_next(rng) >> 11) * 0x1p-53);
}

/* Rows that cost `share` of a pass each. */
static lf_cost machine(double share)
{
    lf_cost c = {.n_pass = LF_COST_POINTS, .n_attend = 1};
    lf_cost_reset(&c);
    for (int i = 0; i < LF_COST_POINTS; i++) c.pass[i] = 1e-3 * (1 + share * ((1 << i) - 1));
    return c;
}

static void open_decoder(decoder *d, const world *w)
{
    lf_error err;
    *d = (decoder){.cost = w->cost, .seq.len_max = N_PROMPT + N_TOKENS, .seq.n_prompt = N_PROMPT};
    lf_seq *seq = &d->seq;
    seq->tokens.cap = (size_t)seq->len_max + LF_DRAFT_MAX + 1;
    seq->tokens.data = malloc(seq->tokens.cap * sizeof *seq->tokens.data);
    for (int i = 0; i < N_PROMPT; i++) seq->tokens.data[i] = i;
    seq->tokens.len = N_PROMPT;
    assert_ok(lf_guesses_open(seq, &err), &err);
}

static void close_decoder(decoder *d)
{
    lf_guesses_close(&d->seq);
    lf_ids_free(&d->seq.tokens);
}

/* The guesses that are worth their rows, or a try. */
static int plan_window(decoder *d)
{
    lf_cost_seq plan = {.len = (int)d->seq.tokens.len};
    lf_window_expect(&d->state, &d->windows, LF_WINDOW_MAX);
    lf_auto_jacobi_add_way(&d->state, &plan, 0);
    const double rate = lf_cost_plan(&d->cost, &d->cost, &plan, 1, 0);
    assert_true(lf_auto_jacobi_pays(&plan, 0) == (plan.g > 0));
    const lf_window_deal deal = {.cost = &d->cost,
                                 .rows = 1,
                                 .len = plan.len,
                                 .g_max = LF_WINDOW_MAX,
                                 .rate = rate,
                                 .g = plan.g,
                                 .worth = plan.g > 0 ? plan.ways[0].worth : 0.0};
    d->seq.n_candidates = plan.g;
    if (!lf_auto_jacobi_try(&d->windows, &d->state, &d->seq, &deal) && plan.g > 0)
        lf_guesses_propose(d->seq.guesses, &d->seq);
    return plan.g;
}

/* Candidates of a window of `size`; -1: what is planned, or tried. */
static void propose(decoder *d, int size)
{
    lf_seq *seq = &d->seq;
    if (size < 0) {
        (void)plan_window(d);
    } else {
        seq->n_candidates = size;
        lf_guesses_propose(seq->guesses, seq);
    }
    seq->all_picks = seq->n_candidates > 0;
}

/* A pass; the right token at a position is the position, which never was there before. Returns its seconds. */
static double pass(decoder *d, world *w, int size)
{
    lf_seq *seq = &d->seq;
    const int n = (int)seq->tokens.len;
    int32_t picks[LF_DRAFT_MAX + 1];
    lf_verdict v = {.picks = picks};
    bool right = true;
    propose(d, size);
    for (int j = 0; j <= seq->n_candidates && (right || seq->all_picks); j++) {
        const bool lucky = d->times[n + j]++ >= w->passes && uniform(&w->rng, 0, 1) < w->luck;
        picks[j] = right || lucky ? n + j : NOT_A_TOKEN;
        v.n_picks++;
        right = right && j < seq->n_candidates && seq->candidates[j] == picks[j];
        v.n_accepted += right;
    }
    v.n_emitted = v.n_accepted + 1;
    for (int j = 0; j < v.n_emitted; j++) seq->tokens.data[seq->tokens.len++] = picks[j];
    lf_auto_jacobi_observe(&d->windows, &d->state, seq, &v, seq->n_candidates > 0, false);
    d->n_rows += 1 + seq->n_candidates;
    return lf_cost_pass(&w->cost, 1 + seq->n_candidates);
}

/* Tokens per second of the tokens up to n_tokens, without the first n_first. */
static double rate_between(world *w, int size, int n_first, int n_tokens)
{
    decoder d;
    double seconds = 0;
    int from = N_PROMPT;
    open_decoder(&d, w);
    while ((int)d.seq.tokens.len < N_PROMPT + n_tokens - LF_WINDOW_MAX) {
        const double took = pass(&d, w, size);
        if ((int)d.seq.tokens.len < N_PROMPT + n_first)
            from = (int)d.seq.tokens.len;
        else
            seconds += took;
    }
    const double rate = (double)((int)d.seq.tokens.len - from) / seconds;
    close_decoder(&d);
    return rate;
}

static double rate_of(world *w, int size, int n_tokens)
{
    return rate_between(w, size, 0, n_tokens);
}

typedef struct best_window {
    int size;
    double rate;
} best_window;

static best_window find_best(world *w, int n_tokens)
{
    static const int sizes[] = {0, 1, 2, 3, 4, 6, 7, 8, 12, 15, 16, 24, 31};
    best_window best = {0};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const double rate = rate_of(w, sizes[s], n_tokens);
        if (rate > best.rate) best = (best_window){sizes[s], rate};
    }
    return best;
}

/* Within 7 % of the best fixed window, whatever rows cost and however lucky the target is; and where none pays, within 2 % of plain
 * decoding. */
static void test_as_fast_as_the_best_window(void **state)
{
    (void)state;
    static const double shares[] = {0.01, 0.05, 0.1, 0.25, 0.5, 1.0},
                        lucks[] = {0.0, 0.05, 0.3, 0.5, 0.7, 0.9};
    int n_plain = 0, n_wide = 0;
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 6; k++) {
            world w = {.luck = lucks[k], .cost = machine(shares[i]), .rng = 1};
            const best_window best = find_best(&w, 4000);
            const double found = rate_of(&w, -1, 4000);
            printf("%g %g: %.3f of %d (%.2f)\n", shares[i], lucks[k], found / best.rate, best.size, best.rate / 1000);
            n_plain += best.size == 0;
            n_wide += best.size >= 6;
        }
    assert_true(n_plain >= 6 && n_wide >= 3);
}

static void test_slow(void **state)
{
    (void)state;
    lf_cost small = {.n_pass = 6, .n_attend = 1, .pass = {1e-3, 1.1e-3, 1.35e-3, 2.2e-3, 4.0e-3, 7.6e-3}};
    lf_cost_reset(&small);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 6; k++)
        for (int l = 0; l < 2; l++) {
            world w = {.luck = l ? 0.95 : 0.7, .passes = k, .cost = i == 0 ? machine(0.02) : i == 1 ? small : machine(1.0), .rng = 1};
            const best_window best = find_best(&w, 4000);
            printf("%d passes %d luck %g: %.3f %.3f %.3f of %d (%.2f)\n", i, k, w.luck, rate_of(&w, -1, 200) / best.rate, rate_of(&w, -1, 2000) / best.rate, rate_between(&w, -1, 3000, 8000)/ best.rate, best.size, best.rate / 1000);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_fast_as_the_best_window),
        cmocka_unit_test(test_slow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
