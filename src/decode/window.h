/* How large a rolling Jacobi window should be (decode/jacobi.c): by what windows of each size brought when they were used.
 *
 * A guess is seldom right at once. It becomes right by passes that refine it while it moves towards the front, so what a large window
 * brings does not follow from a small one, and not at all from a pass or two. So a few sizes are known by what their passes settled,
 * accepted guesses a pass, over all sequences, older passes fading; what lies between known sizes is on the line, and larger
 * ones bring no more than the largest known. Two guesses are no size: three rows cost what four do with the kernels here. A sequence
 * has a factor against that, as with other candidates (decode/odds.h). How many guesses a window should have is then a matter of what
 * rows cost (lf_cost_plan).
 *
 * Sizes that are not chosen are tried: a sequence keeps to one for a stretch of passes.
 *
 *   pass   1  2  ...  g/2 + 1 | g/2 + 2  ...  2 g + 8
 *          the window fills   | its passes count
 *
 * What a try brings less than what was planned instead, in tokens, is paid from a budget, a hundredth of the tokens that come, so an
 * ordinary model, which settles hardly any guess, loses no more than that. Whose turn it is goes by the roots of what tries of a size
 * have cost: small sizes, whose failure is cheap, have more turns, but not all. A size beyond those that were seen may bring half of what
 * its smaller ones do for each guess more, and if that promises more than what is planned it is tried at once. A size that would not
 * pay if it were right all through, or one failure of which would be felt, is not tried, and a try that loses more than was expected
 * ends. */
#ifndef LF_DECODE_WINDOW_H
#define LF_DECODE_WINDOW_H

#include "decode/cost.h"
#include "decode/seq.h"

/* Guesses of a window whose size nobody asked for, at most; and sizes that are told apart. */
enum { LF_WINDOW_MAX = 31, LF_WINDOW_SIZES = 8 };

/* What passes of a size settled, older ones fading. */
typedef struct lf_window_count {
    double settled, passes;
} lf_window_count;

/* Of a sequence; zeroed at first. */
typedef struct lf_window_seq {
    double settled, expected; /* by its windows, older ones fading */
    int n_passes;             /* with windows, in a row */
    /* of the round, for its plan: what each guess more adds to what a pass settles, as in lf_cost_way */
    int n_gains;
    double gains[LF_WINDOW_MAX]; /* (n_gains) */
} lf_window_seq;

/* A stretch of one size. */
typedef struct lf_window_try {
    const lf_window_seq *seq; /* whose; NULL: there is none */
    int size, n_passes;       /* its index; how many it had */
    double price, lost, most; /* in tokens: of a pass that settles nothing; so far; at most */
} lf_window_try;

/* Of all sequences; zeroed at first. */
typedef struct lf_windows {
    lf_window_count counts[LF_WINDOW_SIZES];
    double turns[LF_WINDOW_SIZES]; /* the roots of what tries of a size cost, older ones fading */
    double budget;                 /* tokens that tries may cost, beside what they may at first */
    lf_window_try trying;
    int n_tries;
} lf_windows;

/* What a sequence could have instead of a window that is tried. */
typedef struct lf_window_deal {
    const lf_cost *cost; /* of the target's passes */
    int rows, len;       /* of the pass without its guesses; positions of the sequence */
    int g_max;           /* guesses that there is room for */
    double rate;         /* what a second is worth, in tokens */
    int g;               /* guesses of the planned window, or 0 */
    double worth;        /* tokens that what is planned brings beyond its seconds */
} lf_window_deal;

/* Finds what windows of up to g_max guesses promise the sequence; n_gains is 0 where that is next to nothing. */
void lf_window_expect(lf_window_seq *s, const lf_windows *w, int g_max);

/* The size of a window that the sequence should have instead of what is planned, so that it is known; 0: none. */
int lf_window_try_size(lf_windows *w, const lf_window_seq *s, const lf_window_deal *deal);

/* Takes in a pass of the sequence that gave n_tokens: over a window of n guesses, of which n_right were accepted, or with n = 0 over
 * other candidates or none. */
void lf_window_observe(lf_windows *w, lf_window_seq *s, int n, int n_right, int n_tokens);

/* The sequence is gone. */
void lf_window_leave(lf_windows *w, const lf_window_seq *s);

#endif
