/* Jacobi windows whose size is chosen: a target that picks the right token behind a wrong guess with a given chance is decoded with
 * windows of every size, plainly, and as the controller chooses, against a machine whose passes cost what a table says. */
#include "testing.h"

#include "decode/auto_jacobi.h"
#include "decode/guesses.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_TOKENS = 4000, N_PROMPT = 8, NOT_A_TOKEN = 1 << 30 };

/* A target, and what it costs to ask it. */
typedef struct world {
    double luck; /* the chance of a right pick behind a wrong guess */
    lf_cost cost;
    uint64_t rng;
} world;

typedef struct decoder {
    lf_auto_jacobi jacobi;
    lf_auto_jacobi_seq state;
    lf_seq seq;
    int n_rows; /* of all passes */
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
    *d = (decoder){.jacobi.cost = &w->cost, .seq.len_max = N_PROMPT + N_TOKENS, .seq.n_prompt = N_PROMPT};
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

/* The guesses that are worth their rows. */
static int plan_window(decoder *d)
{
    lf_cost_seq plan = {.len = (int)d->seq.tokens.len};
    d->seq.n_wanted = LF_WINDOW_MAX;
    lf_auto_jacobi_expect(&d->jacobi, &d->state, &d->seq);
    lf_auto_jacobi_add_way(&d->state, &plan, 0);
    (void)lf_cost_plan(d->jacobi.cost, d->jacobi.cost, &plan, 1, 0);
    lf_auto_jacobi_begin_round(&d->jacobi, lf_cost_of_step(d->jacobi.cost, &plan, 1, 0));
    assert_true(plan.g == 0 || plan.ways[0].worth > 0.0);
    return plan.g;
}

/* Candidates of a window of `size`; -1: what is planned, or tried. Returns whether there are any. */
static bool propose(decoder *d, int size)
{
    lf_seq *seq = &d->seq;
    const int planned = plan_window(d);
    seq->n_candidates = size >= 0 ? size : planned;
    seq->all_picks = seq->n_candidates > 0;
    if (seq->n_candidates > 0) lf_guesses_propose(seq->guesses, seq);
    return seq->n_candidates > 0 || (size < 0 && lf_auto_jacobi_try(&d->jacobi, seq, 1));
}

/* A pass; the right token at a position is the position, which never was there before. Returns its seconds. */
static double pass(decoder *d, world *w, int size)
{
    lf_seq *seq = &d->seq;
    const int n = (int)seq->tokens.len;
    int32_t picks[LF_DRAFT_MAX + 1];
    lf_verdict v = {.picks = picks};
    const bool proposed = propose(d, size);
    bool right = true;
    for (int j = 0; j <= seq->n_candidates && (right || seq->all_picks); j++) {
        picks[j] = right || uniform(&w->rng, 0, 1) < w->luck ? n + j : NOT_A_TOKEN;
        v.n_picks++;
        right = right && j < seq->n_candidates && seq->candidates[j] == picks[j];
        v.n_accepted += right;
    }
    v.n_emitted = v.n_accepted + 1;
    for (int j = 0; j < v.n_emitted; j++) seq->tokens.data[seq->tokens.len++] = picks[j];
    lf_auto_jacobi_observe(&d->jacobi, &d->state, seq, &v, proposed, false);
    d->n_rows += 1 + seq->n_candidates;
    return lf_cost_pass(&w->cost, 1 + seq->n_candidates);
}

/* Tokens per second of n_tokens. */
static double rate_of(world *w, int size, int n_tokens)
{
    decoder d;
    double seconds = 0;
    open_decoder(&d, w);
    while ((int)d.seq.tokens.len < N_PROMPT + n_tokens - LF_WINDOW_MAX) seconds += pass(&d, w, size);
    const double rate = (double)(d.seq.tokens.len - N_PROMPT) / seconds;
    close_decoder(&d);
    return rate;
}

/* Within 7 % of the best fixed window, whatever rows cost and however lucky the target is; and where none pays, within 2 % of plain
 * decoding. */
static void test_as_fast_as_the_best_window(void **state)
{
    (void)state;
    static const int sizes[] = {0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32};
    static const double shares[] = {0.01, 0.05, 0.1, 0.25, 0.5, 1.0},
                        lucks[] = {0.0, 0.05, 0.3, 0.5, 0.7, 0.9};
    int n_plain = 0, n_wide = 0;
    for (int i = 0; i < 6; i++)
        for (int k = 0; k < 6; k++) {
            world w = {.luck = lucks[k], .cost = machine(shares[i]), .rng = 1};
            double best = 0;
            int best_size = 0;
            for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
                const double rate = rate_of(&w, sizes[s], N_TOKENS);
                if (rate > best) best = rate, best_size = sizes[s];
            }
            const double found = rate_of(&w, -1, N_TOKENS);
            if (found < (best_size == 0 ? 0.98 : 0.93) * best)
                fail_msg("rows of %g, luck %g: found %.3f of what a window of %d gives", shares[i], lucks[k],
                         found / best, best_size);
            n_plain += best_size == 0;
            n_wide += best_size >= 6;
        }
    assert_true(n_plain >= 6 && n_wide >= 3);
}

/* The first try comes at once, so that even a short text of a model that is good at it is fast; one that is not loses no more than
 * that on a short text. */
static void test_short_texts(void **state)
{
    (void)state;
    world lucky = {.luck = 0.8, .cost = machine(0.1), .rng = 2}, luckless = {.cost = machine(1.0), .rng = 3};
    assert_true(rate_of(&lucky, -1, 72) > 1.5 * rate_of(&lucky, 0, 72));
    assert_true(rate_of(&luckless, -1, 150) > 0.97 * rate_of(&luckless, 0, 150));
}

static double rows_per_pass(decoder *d, world *w, int n_passes)
{
    const int before = d->n_rows;
    for (int i = 0; i < n_passes; i++) (void)pass(d, w, -1);
    return (double)(d->n_rows - before) / n_passes;
}

/* A target whose luck leaves it is soon decoded plainly, and noticed when its luck is back. */
static void test_luck_may_change(void **state)
{
    (void)state;
    world w = {.luck = 0.8, .cost = machine(0.2), .rng = 4};
    decoder d;
    open_decoder(&d, &w);
    assert_true(rows_per_pass(&d, &w, 100) > 3);
    w.luck = 0.0;
    (void)rows_per_pass(&d, &w, 100);
    assert_true(rows_per_pass(&d, &w, 400) < 1.1);
    w.luck = 0.8;
    (void)rows_per_pass(&d, &w, 400);
    assert_true(rows_per_pass(&d, &w, 50) > 3);
    close_decoder(&d);
}

/* Where rows seem to cost nothing, a target that is never lucky gets tries now and then, and a window not before one has shown
 * something. */
static void test_free_rows_are_not_for_nothing(void **state)
{
    (void)state;
    world w = {.luck = 0.0, .cost = machine(0.0), .rng = 6};
    decoder d;
    open_decoder(&d, &w);
    assert_int_equal(plan_window(&d), 0);
    const double rows = rows_per_pass(&d, &w, 500);
    assert_true(rows > 1.1 && rows < 1.3);
    close_decoder(&d);
}

/* A new sequence begins with what the others showed. */
static void test_others_say_what_to_expect(void **state)
{
    (void)state;
    world w = {.luck = 0.8, .cost = machine(0.1), .rng = 5};
    decoder d;
    open_decoder(&d, &w);
    (void)rows_per_pass(&d, &w, 100);
    d.state = (lf_auto_jacobi_seq){0};
    d.seq.guesses->n = 0;
    (void)propose(&d, -1);
    assert_true(d.seq.n_candidates >= 4);
    w.luck = 0.0;
    d.jacobi.counts = (lf_window_counts){0};
    (void)rows_per_pass(&d, &w, 300);
    d.state = (lf_auto_jacobi_seq){0};
    d.jacobi.seconds = 0; /* no time to try */
    (void)propose(&d, -1);
    assert_int_equal(d.seq.n_candidates, 0);
    close_decoder(&d);
}

/* A sequence that windows are promised to by the counts. gains: (LF_WINDOW_MAX) */
static lf_cost_seq promise_window(double *gains, const lf_window_counts *own, const lf_window_counts *all)
{
    const int n = lf_window_expect(gains, own, all, LF_WINDOW_MAX);
    return (lf_cost_seq){.len = 100, .n_ways = n > 0, .ways = {{.gains = gains, .g_max = n}}};
}

/* Many sequences together: where rows stop being cheap, they have smaller windows, and none where they cost as much as passes. */
static void test_a_full_pass_has_smaller_windows(void **state)
{
    (void)state;
    enum { N = 32 };
    lf_cost c = machine(0.02);
    lf_window_counts all = {0}, own = {0};
    lf_cost_seq seqs[N];
    double gains[LF_WINDOW_MAX], settled = 0;
    const int32_t right[8] = {1, 2, 3, 4, 5, 6, 7, 8}, came[9] = {1, 2, 3, 4, 9};
    for (int i = 6; i < LF_COST_POINTS; i++) c.pass[i] = c.pass[5] * (1 << (i - 5));
    for (int i = 0; i < 50; i++) lf_window_judge(&own, &all, right, 8, 8, came, 9);
    for (int i = 0; i < N; i++) seqs[i] = promise_window(gains, &own, &all);
    (void)lf_cost_plan(&c, &c, seqs, 1, 0);
    const int alone = seqs[0].g;
    for (int i = 0; i < alone; i++) settled += gains[i];
    assert_true(alone >= 4 && settled > 3 && settled < 5); /* the fifth guess was always wrong */
    assert_true(lf_cost_plan(&c, &c, seqs, N, 0) >= N / lf_cost_of_step(&c, seqs, N, 0));
    assert_true(seqs[0].g < alone);
    c = machine(1.0);
    (void)lf_cost_plan(&c, &c, seqs, N, 0);
    for (int i = 0; i < N; i++) assert_true(seqs[i].g == 0 && seqs[i].ways[0].worth == 0.0);
}

/* Guesses are judged up to the first wrong one, kept ones by place. */
static void test_judging(void **state)
{
    (void)state;
    lf_window_counts own = {0}, all = {0};
    const int32_t guesses[] = {1, 2, 3, 4, 5}, came[] = {1, 2, 3, 7, 5};
    lf_window_judge(&own, &all, guesses, 2, 5, came, 5);
    assert_true(own.kept[0].right == 1 && own.kept[0].judged == 1 && own.kept[1].right == 1);
    assert_true(own.kept[2].judged == 0 && fabs(all.new.right - 1) < 0.1 && all.new.judged > 1.9);
    lf_window_judge(&own, &all, guesses, 5, 5, came + 1, 1); /* the first is wrong */
    assert_true(all.kept[0].right < 1 && all.kept[0].judged > 1.9 && all.kept[1].judged == 1);
    lf_window_judge(&own, &all, guesses, 5, 5, came, 1); /* only the first can be told */
    assert_true(all.kept[0].judged > 2.9 && all.kept[1].judged == 1);
}

/* A place that nobody has reached is as good as the one before it: windows grow. */
static void test_unknown_places(void **state)
{
    (void)state;
    const lf_cost c = machine(0.02);
    const int32_t right[] = {1, 2, 3};
    lf_window_counts own = {0}, all = {0};
    double gains[LF_WINDOW_MAX];
    for (int i = 0; i < 100; i++) lf_window_judge(&own, &all, right, 3, 3, right, 3);
    lf_cost_seq seq = promise_window(gains, &own, &all);
    (void)lf_cost_plan(&c, &c, &seq, 1, 0);
    assert_true(seq.g >= 16);
}

/* What came as guessed leaves; what did not takes the rest with it. */
static void test_passing_guesses(void **state)
{
    (void)state;
    lf_guesses g = {.n = 4, .ids = {1, 2, 3, 4}};
    const int32_t came[] = {1, 2, 3, 4, 5};
    lf_guesses_pass(&g, came, 2);
    assert_true(g.n == 2 && g.ids[0] == 3 && g.ids[1] == 4);
    lf_guesses_pass(&g, came, 1);
    assert_int_equal(g.n, 0);
    g = (lf_guesses){.n = 4, .ids = {1, 2, 3, 4}};
    lf_guesses_pass(&g, came, 5);
    assert_int_equal(g.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_as_fast_as_the_best_window),
        cmocka_unit_test(test_short_texts),
        cmocka_unit_test(test_luck_may_change),
        cmocka_unit_test(test_free_rows_are_not_for_nothing),
        cmocka_unit_test(test_others_say_what_to_expect),
        cmocka_unit_test(test_a_full_pass_has_smaller_windows),
        cmocka_unit_test(test_judging),
        cmocka_unit_test(test_unknown_places),
        cmocka_unit_test(test_passing_guesses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
