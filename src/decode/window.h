/* What a rolling Jacobi window of so many guesses promises (decode/jacobi.c), by how often guesses were right. How many it should hold
 * is then a matter of what rows cost, as with any candidates (lf_cost_plan).
 *
 *   place    0     1     2     3     4     5        of a guess in a window of g = 6
 *            kept  kept  kept  kept  new   new      the last pass settled two guesses
 *
 * A guess is judged if all before it were right. Kept guesses are picks of an earlier pass, counted by place; new ones, n-grams or
 * any token, are right far less often, and counted together. Of a window whose passes settle s guesses g - s are kept, so a larger
 * one is better not only at its end:
 *
 *   s(g) = sum over i < g of product over j <= i of chance(j),   chance(j): kept at place j < g - s(g), else new
 *
 * Chances are counted for a sequence and for all of them together, older passes fading; of what a sequence has not shown yet, all of them
 * say what to expect, and of a place that nobody has reached, the place before it. */
#ifndef LF_DECODE_WINDOW_H
#define LF_DECODE_WINDOW_H

#include "decode/seq.h"

/* Guesses of a window whose size nobody asked for, at most. */
enum { LF_WINDOW_MAX = 32 };

typedef struct lf_window_count {
    double right, judged;
} lf_window_count;

/* Zeroed: nothing was seen. */
typedef struct lf_window_counts {
    lf_window_count kept[LF_DRAFT_MAX], new;
} lf_window_counts;

/* Takes in, for a sequence and for all, guesses (n, the first n_kept of them kept) against the tokens that came (n_came), up to the
 * first wrong one. */
void lf_window_judge(lf_window_counts *own, lf_window_counts *all, const int32_t *guesses, int n_kept, int n,
                     const int32_t *came, int n_came);

/* What each guess more of a window (n up to g_max and LF_WINDOW_MAX) adds to s, the tokens that its passes settle: for lf_cost_way. Returns
 * n; 0 where not even the first guess has a chance that is worth a row. */
int lf_window_expect(double gains[LF_WINDOW_MAX], const lf_window_counts *own, const lf_window_counts *all,
                     int g_max);

#endif
