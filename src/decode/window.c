#include "decode/window.h"

#include <math.h>

static const double fading_own = 0.95, fading_all = 0.995; /* of a count, with each guess judged */
static const double prior_kept = 0.35, prior_new = 0.1, prior_weight = 2.0;
static const double own_weight = 4.0; /* of what all sequences say, for one of them */

static const int sizes[LF_WINDOW_SIZES] = {1, 2, 3, 4, 6, 8, 12, 16, 24, 32};

/* ---- counting ---- */

static void count(lf_window_count *c, double fading, bool right)
{
    c->right = c->right * fading + right;
    c->judged = c->judged * fading + 1.0;
}

void lf_window_judge(lf_window_counts *own, lf_window_counts *all, const int32_t *guesses, int n_kept, int n,
                     const int32_t *came, int n_came)
{
    bool right = true;
    for (int i = 0; i < n && i < n_came && right; i++) {
        right = guesses[i] == came[i];
        count(i < n_kept ? &own->kept[i] : &own->new, fading_own, right);
        count(i < n_kept ? &all->kept[i] : &all->new, fading_all, right);
    }
}

static double chance(const lf_window_count *c, double expected, double weight)
{
    return (c->right + expected * weight) / (c->judged + weight);
}

/* ---- expecting ---- */

typedef struct chances {
    int n; /* places that are reached at all, by kept guesses */
    double kept[LF_WINDOW_MAX], new;
} chances;

static void find_chances(chances *out, const lf_window_counts *own, const lf_window_counts *all)
{
    static const double unlikely = 1e-3;
    double expected = prior_kept, reached = 1.0;
    out->new = chance(&own->new, chance(&all->new, prior_new, prior_weight), own_weight);
    for (out->n = 0; out->n < LF_WINDOW_MAX && reached > unlikely; out->n++) {
        expected = chance(&all->kept[out->n], expected, prior_weight);
        out->kept[out->n] = chance(&own->kept[out->n], expected, own_weight);
        reached *= out->kept[out->n];
    }
}

/* Guesses that come out right of g, where `kept` of them, or a part of the last, are kept. */
static double expect_right(const chances *c, int g, double kept)
{
    double reached = 1.0, sum = 0.0;
    for (int i = 0; i < g && i < c->n; i++) {
        const double share = fmin(fmax(kept - i, 0.0), 1.0);
        reached *= c->new + share *(c->kept[i] - c->new);
        sum += reached;
    }
    return sum;
}

/* The s of a window of g: more settled are fewer kept, so it lies between every guess at it and what comes of that. */
static double expect_settled(const chances *c, int g, double guess)
{
    enum { ROUNDS = 4 };
    double s = guess;
    for (int i = 0; i < ROUNDS; i++) s = (s + expect_right(c, g, g - s)) / 2;
    return s;
}

/* ---- planning ---- */

/* Seconds that a window of g adds to a pass of `rows` other rows. */
static double cost_of_window(const lf_cost *c, int g, int rows, int len)
{
    return c->candidates * (lf_cost_pass(c, rows + g) - lf_cost_pass(c, rows) +
                            (lf_cost_attend(c, 1 + g) - lf_cost_attend(c, 1)) * len);
}

double lf_window_worth(const lf_cost *c, const lf_window_seq *s, int rows, double rate)
{
    return s->g > 0 ? s->settled - rate * cost_of_window(c, s->g, rows, s->len) : 0.0;
}

/* What the cheapest row of any window adds to a pass, attention left out. */
static double least_cost(const lf_cost *c, int rows)
{
    double least = INFINITY;
    for (int k = 0; k < LF_WINDOW_SIZES; k++)
        least = fmin(least,
                     c->candidates * (lf_cost_pass(c, rows + sizes[k]) - lf_cost_pass(c, rows)) / sizes[k]);
    return least;
}

/* What each size would settle; none where even the likeliest place, the first, is not worth `least` tokens. */
static void expect_sizes(lf_window_seq *s, const lf_window_counts *all, double least)
{
    chances c;
    double settled = 0.0;
    s->n_sizes = 0;
    const double first = chance(&s->own->kept[0], chance(&all->kept[0], prior_kept, prior_weight),
                                own_weight),
                 new = chance(&s->own->new, chance(&all->new, prior_new, prior_weight), own_weight);
    if (fmax(first, new) <= least) return;
    find_chances(&c, s->own, all);
    for (; s->n_sizes < LF_WINDOW_SIZES && sizes[s->n_sizes] <= s->g_max; s->n_sizes++)
        s->settled_of[s->n_sizes] = settled = expect_settled(&c, sizes[s->n_sizes], settled);
}

/* The size worth the most at `rate` tokens a second, beside `rows` other rows. */
static void choose_size(const lf_cost *c, lf_window_seq *s, int rows, double rate)
{
    double most = 0.0;
    s->g = 0;
    s->settled = 0.0;
    for (int k = 0; k < s->n_sizes; k++) {
        const double worth = s->settled_of[k] - rate * cost_of_window(c, sizes[k], rows, s->len);
        if (worth <= most) continue;
        most = worth;
        s->g = sizes[k];
        s->settled = s->settled_of[k];
    }
}

static double seconds_of(const lf_cost *c, const lf_window_seq *seqs, int n, int other_rows)
{
    const double each = lf_cost_attend(c, 1), plain = lf_cost_pass(c, n + other_rows);
    double attend = 0.0, more = 0.0;
    int rows = n + other_rows;
    for (int i = 0; i < n; i++) {
        rows += seqs[i].g;
        attend += each * seqs[i].len;
        more += (lf_cost_attend(c, 1 + seqs[i].g) - each) * seqs[i].len;
    }
    return c->target * (plain + attend) + c->candidates * (lf_cost_pass(c, rows) - plain + more);
}

static double rate_of(const lf_cost *c, const lf_window_seq *seqs, int n, int other_rows)
{
    double tokens = 0.0;
    for (int i = 0; i < n; i++) tokens += 1.0 + seqs[i].settled;
    return tokens / seconds_of(c, seqs, n, other_rows);
}

static bool any_size(const lf_window_seq *seqs, int n)
{
    for (int i = 0; i < n; i++)
        if (seqs[i].n_sizes > 0) return true;
    return false;
}

/* Every sequence in turn, beside what the others have. */
static void choose_sizes(const lf_cost *c, lf_window_seq *seqs, int n, int other_rows, double rate)
{
    int rows = other_rows;
    for (int i = 0; i < n; i++) rows += 1 + seqs[i].g;
    for (int i = 0; i < n; i++) {
        rows -= seqs[i].g;
        choose_size(c, &seqs[i], rows, rate);
        rows += seqs[i].g;
    }
}

/* Dinkelbach's method, as in lf_cost_plan. */
double lf_window_plan(const lf_cost *c, const lf_window_counts *all, lf_window_seq *seqs, int n,
                      int other_rows, double *plain)
{
    enum { ROUNDS = 5 };
    static const double worthwhile = 1.03; /* predictions are not better than that */
    for (int i = 0; i < n; i++) seqs[i].g = 0, seqs[i].settled = 0.0;
    const double seconds = seconds_of(c, seqs, n, other_rows), plain_rate = n / seconds,
                 least = plain_rate * least_cost(c, n + other_rows);
    double rate = plain_rate;
    if (plain) *plain = seconds;
    for (int i = 0; i < n; i++) expect_sizes(&seqs[i], all, least);
    if (!any_size(seqs, n)) return plain_rate;
    for (int i = 0; i < ROUNDS; i++) {
        choose_sizes(c, seqs, n, other_rows, rate);
        const double better = rate_of(c, seqs, n, other_rows);
        if (better <= rate * 1.001) break;
        rate = better;
    }
    if (rate >= plain_rate * worthwhile) return rate;
    for (int i = 0; i < n; i++) seqs[i].g = 0, seqs[i].settled = 0.0;
    return plain_rate;
}
