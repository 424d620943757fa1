#include "decode/window.h"

#include <math.h>

static const int sizes[LF_WINDOW_SIZES] = {1, 3, 5, 7, 11, 15, 23, LF_WINDOW_MAX};

static const double fading_own = 0.97, fading_all = 0.99; /* with each pass */
static const double own_weight = 4.0;                     /* of what is expected of a sequence: tokens */
static const double size_weight = 1.0;                    /* of what other sizes say of one: passes */

/* ---- expecting ---- */

/* The largest size of at most n guesses, n >= 1. */
static int size_of(int n)
{
    int k = LF_WINDOW_SIZES - 1;
    while (sizes[k] > n) k--;
    return k;
}

/* What sizes settle on average: (LF_WINDOW_SIZES). Returns how many of them, the smallest ones, reach to the largest that was seen. */
static int estimate(double settles[LF_WINDOW_SIZES], const lf_windows *w)
{
    double from = 0.0; /* what the last one seen settles */
    int from_size = 0, n = 0;
    for (int k = 0; k < LF_WINDOW_SIZES; k++) {
        const lf_window_count *c = &w->counts[k];
        if (c->passes == 0.0) continue;
        /* a larger window cannot be worse */
        const double to = fmax((c->settled + from * size_weight) / (c->passes + size_weight), from);
        for (; n <= k; n++) settles[n] = from + (to - from) * (sizes[n] - from_size) / (sizes[k] - from_size);
        from = to;
        from_size = sizes[k];
    }
    for (int k = n; k < LF_WINDOW_SIZES; k++) settles[k] = from;
    return n;
}

static double factor_of(const lf_window_seq *s)
{
    return (s->settled + own_weight) / (s->expected + own_weight);
}

void lf_window_expect(lf_window_seq *s, const lf_windows *w, int g_max)
{
    static const double least = 0.03; /* gains that small are not taken (lf_cost_plan) */
    double settles[LF_WINDOW_SIZES], before = 0.0;
    const int n_known = estimate(settles, w);
    const double factor = factor_of(s);
    s->n_gains = 0;
    if (n_known == 0 || factor * settles[n_known - 1] < least) return;
    for (int k = 0; k < n_known && s->n_gains < g_max; k++) {
        const double settled = fmin(factor * settles[k], sizes[k]),
                     each = (settled - before) / (sizes[k] - s->n_gains);
        while (s->n_gains < sizes[k]) s->gains[s->n_gains++] = each;
        before = settled;
    }
    if (s->n_gains > g_max) s->n_gains = g_max;
}

/* ---- trying ---- */

static const double share = 0.01; /* of all tokens, for tries, */
static const double allowance =
    2.0; /* and tokens for them at first, so that the first request has a use for windows */
/* A row costs so many tokens at least: some machines are measured to give rows away, and do not. */
static const double least_of_row = 0.055;

/* Passes until a window of a size is full of guesses that were refined, the first one that counts included. */
static int n_settling(int size)
{
    return size / 2 + 2;
}

/* What a pass with a window of a size loses, in tokens, if it settles nothing. */
static double price_of(const lf_window_deal *deal, int size)
{
    const double rows = deal->rate * lf_cost_of_candidates(deal->cost, deal->rows, size, deal->len);
    return deal->worth + fmax(rows, least_of_row * size);
}

static void begin_try(lf_windows *w, const lf_window_seq *s, int k, double most)
{
    static const double trusted = 24.0; /* older passes: what they say may be long out of date */
    lf_window_count *c = &w->counts[k];
    w->trying = (lf_window_try){.seq = s, .size = k, .most = most};
    if (c->passes <= trusted) return;
    c->settled *= trusted / c->passes;
    c->passes = trusted;
}

static void end_try(lf_windows *w)
{
    static const double fading = 0.95;
    lf_window_try *t = &w->trying;
    const double lost = fmax(t->lost, least_of_row * t->n_passes);
    for (int k = 0; k < LF_WINDOW_SIZES; k++) w->turns[k] *= fading;
    w->turns[t->size] += sqrt(lost);
    w->budget -= lost;
    w->n_tries++;
    t->seq = NULL;
}

/* What a size may settle: of one beyond those that were seen it is hoped that each guess more brings half of what others do. */
static double hope(const double settles[LF_WINDOW_SIZES], int n_known, int k)
{
    if (k < n_known || n_known == 0) return settles[k];
    const int last = sizes[n_known - 1];
    return settles[k] * (1.0 + 0.5 * (sizes[k] - last) / last);
}

/* Begins a try if one is due, and promises something or can be paid. */
static void choose_try(lf_windows *w, const lf_window_seq *s, const lf_window_deal *deal)
{
    static const double most_lost = 24.0; /* more would be felt in a short answer */
    double settles[LF_WINDOW_SIZES], least = INFINITY, found_most = 0.0;
    const int n_known = estimate(settles, w);
    const double factor = factor_of(s), purse = w->budget + allowance;
    int found = -1;
    bool is_payable = false;
    for (int k = 0; k < LF_WINDOW_SIZES && sizes[k] <= deal->g_max; k++) {
        const int size = sizes[k], n = n_settling(size);
        const double price = price_of(deal, size), settled = factor * settles[k],
                     loss = n * fmax(price - settled, 0.0),
                     hoped = n * (price - fmin(factor * hope(settles, n_known, k), size));
        if (price >= size || loss > most_lost || (deal->g > 0 && size_of(deal->g) == k)) continue;
        /* at first the largest that can be paid, then by turns */
        const bool is_first = n_known == 0 && w->n_tries == 0 && loss <= purse;
        const double turn = is_first ? -k : w->turns[k] + copysign(sqrt(fabs(hoped)), hoped);
        if (turn >= least) continue;
        least = turn;
        found = k;
        found_most = loss + 1.0 + 2.0 * settled; /* it may have bad luck in a few passes */
        is_payable = hoped < 0.0 || loss <= purse;
    }
    if (is_payable) begin_try(w, s, found, found_most);
}

int lf_window_try_size(lf_windows *w, const lf_window_seq *s, const lf_window_deal *deal)
{
    lf_window_try *t = &w->trying;
    if (!t->seq && deal->g_max > 0) choose_try(w, s, deal);
    if (t->seq != s) return 0;
    if (sizes[t->size] > deal->g_max) {
        end_try(w);
        return 0;
    }
    t->price = price_of(deal, sizes[t->size]);
    return sizes[t->size];
}

/* ---- counting ---- */

/* Takes a pass of a try in; returns whether it counts. */
static bool judge_try(lf_windows *w, int n_right)
{
    lf_window_try *t = &w->trying;
    const int size = sizes[t->size];
    t->n_passes++;
    t->lost += t->price - n_right;
    const bool fails = t->lost > t->most, counts = fails || t->n_passes >= n_settling(size);
    if (fails || t->n_passes >= 2 * size + 8) end_try(w);
    return counts;
}

static void judge(lf_windows *w, lf_window_seq *s, int n, int n_right)
{
    const int k = size_of(n);
    lf_window_count *c = &w->counts[k];
    s->n_passes++;
    if (w->trying.seq == s && n == sizes[w->trying.size] && !judge_try(w, n_right)) return;
    c->settled = c->settled * fading_all + n_right;
    c->passes = c->passes * fading_all + 1.0;
    if (s->n_passes < n_settling(sizes[k])) return; /* the beginning says nothing of the sequence */
    s->settled = s->settled * fading_own + n_right;
    s->expected = s->expected * fading_own + c->settled / c->passes;
}

void lf_window_observe(lf_windows *w, lf_window_seq *s, int n, int n_right, int n_tokens)
{
    static const double most = 32.0, fading = 0.99; /* of what was long ago */
    w->budget = fmin(w->budget + share * n_tokens, most);
    if (n > 0) {
        judge(w, s, n, n_right);
    } else {
        s->n_passes = 0;
        s->settled *= fading;
        s->expected *= fading;
    }
}

void lf_window_leave(lf_windows *w, const lf_window_seq *s)
{
    if (w->trying.seq == s) end_try(w);
}
