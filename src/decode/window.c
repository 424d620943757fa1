#include "decode/window.h"

#include <math.h>

static const double fading_own = 0.95, fading_all = 0.995; /* of a count, with each guess judged */
static const double prior_kept = 0.1, prior_new = 0.03, prior_weight = 2.0;
static const double own_weight = 4.0; /* of what all sequences say, for one of them */

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

int lf_window_expect(double gains[LF_WINDOW_MAX], const lf_window_counts *own, const lf_window_counts *all,
                     int g_max)
{
    static const int sizes[] = {1, 2, 3, 4, 6, 8, 12, 16, 24, LF_WINDOW_MAX}; /* lines between them */
    static const double least = 0.15; /* so much of a step two rows or three cost nearly everywhere */
    const double first = chance(&own->kept[0], chance(&all->kept[0], prior_kept, prior_weight), own_weight),
                 new = chance(&own->new, chance(&all->new, prior_new, prior_weight), own_weight);
    chances c;
    double before = 0.0;
    int n = 0;
    if (fmax(first, new) <= least) return 0;
    find_chances(&c, own, all);
    for (size_t i = 0; n < g_max && i < sizeof sizes / sizeof *sizes; i++) {
        const double settled = expect_settled(&c, sizes[i], before),
                     each = (settled - before) / (sizes[i] - n);
        while (n < sizes[i]) gains[n++] = each;
        before = settled;
    }
    return n < g_max ? n : g_max;
}
