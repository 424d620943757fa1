/* Jacobi windows whose size is chosen: simulated targets are decoded with windows of every size, plainly, and as the controller chooses,

 * against a machine whose passes cost what a table says. */
#include "testing.h"

#include "decode/auto_jacobi.h"
#include "decode/guesses.h"

#include <math.h>
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
    int n_rows;                                        /* of all passes */
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

/* What is found in a world, over three courses of it. */
static double find_rate(world w, int n_first, int n_tokens)
{
    double sum = 0;
    for (int i = 0; i < 3; i++) {
        w.rng = 1 + (uint64_t)i;
        sum += rate_between(&w, -1, n_first, n_tokens);
    }
    return sum / 3;
}

/* Within 7 % of the best fixed window from the first token on, whatever rows cost and however lucky the target is; and where none pays,
 * within 2 % of plain decoding. */
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
            const double found = find_rate(w, 0, 4000);
            if (found < (best.size == 0 ? 0.98 : 0.93) * best.rate)
                fail_msg("rows of %g, luck %g: found %.3f of what a window of %d gives", shares[i], lucks[k],
                         found / best.rate, best.size);
            n_plain += best.size == 0;
            n_wide += best.size >= 6;
        }
    assert_true(n_plain >= 6 && n_wide >= 3);
}

/* A small model in the cache: passes of 1, 2, 4, ... rows. */
static lf_cost small_model(void)
{
    lf_cost c = {.n_pass = 6, .n_attend = 1, .pass = {1e-3, 1.1e-3, 1.35e-3, 2.2e-3, 4.0e-3, 7.6e-3}};
    lf_cost_reset(&c);
    return c;
}

/* Guesses that become right only by passes that refine them: short windows show nothing of what long ones bring. Within 4,000 tokens a
 * good size is found; and nobody loses 2 % on the way where none pays. */
static void test_guesses_that_take_passes(void **state)
{
    (void)state;
    static const double lucks[] = {0.7, 0.95};
    const lf_cost costs[] = {machine(0.02), machine(0.05), small_model(), machine(1.0)};
    double sum = 0;
    int n_paying = 0, n_plain = 0;
    for (size_t i = 0; i < sizeof costs / sizeof *costs; i++)
        for (int k = 0; k < 2; k++)
            for (int passes = 1; passes <= 4; passes++) {
                world w = {.luck = lucks[k], .passes = passes, .cost = costs[i], .rng = 1};
                const best_window best = find_best(&w, 4000);
                const double early = find_rate(w, 0, 4000), late = find_rate(w, 4000, 8000);
                const bool pays = best.rate > 1.03e3; /* what is less is not taken */
                if (early < (pays ? 0.6 * best.rate : 0.98e3) || (pays && late < 0.85 * best.rate))
                    fail_msg(
                        "machine %zu, luck %g after %d passes: found %.3f, then %.3f of what a window of %d gives",
                        i, lucks[k], passes, early / best.rate, late / best.rate, best.size);
                sum += pays ? late / best.rate : 0.0;
                n_paying += pays;
                n_plain += !pays;
            }
    assert_true(n_paying >= 12 && n_plain >= 8 && sum > 0.95 * n_paying);
}

/* A window is tried at once, so that even a short text of a model that is good at it is fast; one that is not loses no more than that on a
 * short text. */
static void test_short_texts(void **state)
{
    (void)state;
    world lucky = {.luck = 0.8, .cost = machine(0.1), .rng = 2}, luckless = {.cost = machine(1.0), .rng = 3},
          small = {.cost = small_model(), .rng = 3};
    assert_true(rate_of(&lucky, -1, 72) > 1.5 * rate_of(&lucky, 0, 72));
    assert_true(rate_of(&luckless, -1, 150) > 0.97 * rate_of(&luckless, 0, 150));
    assert_true(rate_of(&small, -1, 150) > 0.97 * rate_of(&small, 0, 150));
}

static double rows_per_pass(decoder *d, world *w, int n_passes)
{
    const int before = d->n_rows;
    for (int i = 0; i < n_passes; i++) (void)pass(d, w, -1);
    return (double)(d->n_rows - before) / n_passes;
}

/* A target whose luck leaves it is soon decoded plainly, and noticed when its luck is back, once the budget has paid for a try that is large
 * enough. */
static void test_luck_may_change(void **state)
{
    (void)state;
    world w = {.luck = 0.8, .cost = machine(0.2), .rng = 4};
    decoder d;
    open_decoder(&d, &w);
    (void)rows_per_pass(&d, &w, 100);
    assert_true(rows_per_pass(&d, &w, 100) > 1.8);
    w.luck = 0.0;
    (void)rows_per_pass(&d, &w, 100);
    assert_true(rows_per_pass(&d, &w, 400) < 1.15); /* tries spend what was saved */
    w.luck = 0.8;
    (void)rows_per_pass(&d, &w, 1000);
    assert_true(rows_per_pass(&d, &w, 50) > 3);
    close_decoder(&d);
}

/* Windows follow what rows cost. */
static void test_costs_may_change(void **state)
{
    (void)state;
    world w = {.luck = 0.8, .passes = 1, .cost = machine(0.02), .rng = 4};
    decoder d;
    open_decoder(&d, &w);
    (void)rows_per_pass(&d, &w, 200);
    const double cheap = rows_per_pass(&d, &w, 100);
    d.cost = w.cost = machine(0.6);
    (void)rows_per_pass(&d, &w, 20);
    const double dear = rows_per_pass(&d, &w, 300);
    d.cost = w.cost = machine(0.02);
    (void)rows_per_pass(&d, &w, 400);
    const double again = rows_per_pass(&d, &w, 100);
    assert_true(cheap > 8 && dear < 1.1 && again > 8);
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

/* A new sequence begins with what the others showed, and one of the same engine that is harder than others with less before long. */
static void test_others_say_what_to_expect(void **state)
{
    (void)state;
    world w = {.luck = 0.8, .cost = machine(0.1), .rng = 5};
    decoder d;
    open_decoder(&d, &w);
    (void)rows_per_pass(&d, &w, 200);
    lf_window_leave(&d.windows, &d.state);
    d.state = (lf_window_seq){0};
    d.seq.guesses->n = 0;
    assert_true(plan_window(&d) >= 4);
    w.luck = 0.0;
    (void)rows_per_pass(&d, &w, 40);
    assert_int_equal(plan_window(&d), 0);
    lf_window_leave(&d.windows, &d.state);
    d.state = (lf_window_seq){0};
    assert_true(plan_window(&d) > 0);
    close_decoder(&d);
}

/* What windows of some sizes settled. */
static lf_windows windows_of(int n, const int *sizes, const double *settled)
{
    lf_windows w = {0};
    for (int i = 0; i < n; i++) {
        lf_window_seq s = {0};
        double sum = 0;
        for (int k = 0; k < 2000; k++) { /* in whole tokens */
            const int right = (int)(settled[i] * (k + 1) - sum);
            lf_window_observe(&w, &s, sizes[i], right, 0);
            sum += right;
        }
    }
    return w;
}

static double sum_of(const double *x, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    return sum;
}

/* Between sizes that were seen expectations are on the line, beyond them there are none, and below one that settles more a larger one
 * settles as much. A sequence that settles half as much as others is promised half. */
static void test_expectations(void **state)
{
    (void)state;
    static const int sizes[] = {3, 11, 15};
    static const double settled[] = {1.0, 2.0, 1.5};
    lf_windows w = windows_of(3, sizes, settled);
    lf_window_seq s = {0};
    lf_window_expect(&s, &w, LF_WINDOW_MAX);
    assert_int_equal(s.n_gains, 15);
    assert_true(fabs(sum_of(s.gains, 3) - 1.0) < 0.05 && fabs(sum_of(s.gains, 7) - 1.5) < 0.05);
    assert_true(fabs(sum_of(s.gains, 15) - sum_of(s.gains, 11)) < 1e-9);
    lf_window_expect(&s, &w, 4);
    assert_int_equal(s.n_gains, 4);
    lf_window_seq slow = {.settled = 10, .expected = 20};
    w = windows_of(3, sizes, settled);
    lf_window_expect(&slow, &w, LF_WINDOW_MAX);
    assert_true(sum_of(slow.gains, 11) < 1.3 && sum_of(slow.gains, 11) > 0.9);
    w = (lf_windows){0};
    lf_window_expect(&s, &w, LF_WINDOW_MAX);
    assert_int_equal(s.n_gains, 0);
}

/* Many sequences together: where rows stop being cheap, they have smaller windows, and none where they cost as much as passes. */
static void test_a_full_pass_has_smaller_windows(void **state)
{
    (void)state;
    enum { N = 32 };
    static const int sizes[] = {1, 2, 3, 5, 7};
    static const double settled[] = {0.9, 1.7, 2.5, 3.6, 4.2};
    const lf_windows w = windows_of(5, sizes, settled);
    lf_cost c = machine(0.02);
    lf_cost_seq seqs[N];
    lf_window_seq s = {0};
    for (int i = 6; i < LF_COST_POINTS; i++) c.pass[i] = c.pass[5] * (1 << (i - 5));
    lf_window_expect(&s, &w, LF_WINDOW_MAX);
    for (int i = 0; i < N; i++) {
        seqs[i] = (lf_cost_seq){.len = 100};
        lf_auto_jacobi_add_way(&s, &seqs[i], 0);
    }
    (void)lf_cost_plan(&c, &c, seqs, 1, 0);
    const int alone = seqs[0].g;
    assert_int_equal(alone, 7);
    assert_true(lf_cost_plan(&c, &c, seqs, N, 0) >= N / lf_cost_of_step(&c, seqs, N, 0));
    assert_true(seqs[0].g < alone);
    c = machine(1.0);
    (void)lf_cost_plan(&c, &c, seqs, N, 0);
    for (int i = 0; i < N; i++) assert_true(seqs[i].g == 0 && !lf_auto_jacobi_pays(&seqs[i], 0));
}

/* A try is one sequence's, keeps its size, pays for what it loses, and is over when its sequence is gone or has no room. */
static void test_tries(void **state)
{
    (void)state;
    const lf_cost c = machine(0.1);
    lf_windows w = {0};
    lf_window_seq first = {0}, second = {0};
    lf_window_deal deal = {.cost = &c, .rows = 1, .len = 10, .g_max = 31, .rate = 1e3};
    const int size = lf_window_try_size(&w, &first, &deal);
    assert_true(size >= 3);
    assert_int_equal(lf_window_try_size(&w, &second, &deal), 0);
    lf_window_observe(&w, &first, size, 0, 0);
    assert_true(w.budget == 0.0 && w.counts[3].passes == 0.0); /* the window fills */
    assert_int_equal(lf_window_try_size(&w, &first, &deal), size);
    lf_window_leave(&w, &first);
    assert_true(w.budget < -0.1 * size / 2);
    w = (lf_windows){0};
    assert_int_equal(lf_window_try_size(&w, &first, &deal), size);
    deal.g_max = size - 1;
    assert_int_equal(lf_window_try_size(&w, &first, &deal), 0);
    deal.g_max = 31;
    int n = 0; /* passes of tries that settle nothing, until there is nothing left to pay with */
    for (; n < 1000 && lf_window_try_size(&w, &first, &deal) > 0; n++)
        lf_window_observe(&w, &first, lf_window_try_size(&w, &first, &deal), 0, 0);
    assert_in_range(n, 5, 40);
    lf_window_observe(&w, &first, 0, 0, 300);
    assert_true(lf_window_try_size(&w, &second, &deal) > 0);
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
        cmocka_unit_test(test_guesses_that_take_passes),
        cmocka_unit_test(test_short_texts),
        cmocka_unit_test(test_luck_may_change),
        cmocka_unit_test(test_costs_may_change),
        cmocka_unit_test(test_free_rows_are_not_for_nothing),
        cmocka_unit_test(test_others_say_what_to_expect),
        cmocka_unit_test(test_expectations),
        cmocka_unit_test(test_a_full_pass_has_smaller_windows),
        cmocka_unit_test(test_tries),
        cmocka_unit_test(test_passing_guesses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
