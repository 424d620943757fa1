/* How many guesses a rolling Jacobi window should hold (decode/jacobi.c): as many as make tokens per second the most, by what rows cost
 * (cost.h) and by how often guesses were right.
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

#include "decode/cost.h"
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

enum { LF_WINDOW_SIZES = 10 }; /* that are weighed */

/* A sequence that could have a window. */
typedef struct lf_window_seq {
    const lf_window_counts *own;
    int len;        /* positions */
    int g_max;      /* guesses at most */
    int g;          /* out: guesses worth a row each */
    double settled; /* out: of those, how many are expected to be right */
    int n_sizes;    /* of the plan: sizes that may be worth it */
    double settled_of[LF_WINDOW_SIZES];
} lf_window_seq;

/* Chooses the g of each sequence (n) so that tokens per second are the most; other_rows ride in the pass in any case. Returns the tokens
 * per second expected; *plain, unless NULL, are the seconds of the pass without guesses. */
double lf_window_plan(const lf_cost *c, const lf_window_counts *all, lf_window_seq *seqs, int n,
                      int other_rows, double *plain);

/* What a planned window brings beyond its seconds, in tokens, at `rate` tokens a second and `rows` rows of the pass besides it. */
double lf_window_worth(const lf_cost *c, const lf_window_seq *s, int rows, double rate);

#endif
