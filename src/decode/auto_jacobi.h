/* Jacobi decoding as a source of `auto` (decode/auto.c): windows of guesses where they pay (decode/window.h).
 *
 * A model made for it (a CLLM) settles several guesses in a pass, an ordinary one hardly ever any. Which of them this is, is found out
 * by trying: at the first pass, and then for a hundredth of the time that passes take, a sequence that has no other candidates gets a
 * window of two. Its rows are all that a try costs; whether their picks were right guesses, the plain pass after it says.
 *
 * The guesses are seq->guesses, where Jacobi drafts begin, too. They are picks of the target, and count here, after a pass whose
 * picks behind the first wrong candidate were asked for, whoever proposed it: by a sequence for which a window pays. When others take the
 * round without asking, guesses stay while what comes is what they said, and are forgotten at the first wrong one; a draft leaves
 * its own rejected candidates instead. */
#ifndef LF_DECODE_AUTO_JACOBI_H
#define LF_DECODE_AUTO_JACOBI_H

#include "decode/cost.h"
#include "decode/window.h"

/* Of a sequence; zeroed at first. */
typedef struct lf_auto_jacobi_seq {
    lf_window_counts counts;
    int n_kept; /* of seq->guesses, picks of the target */
    /* of the round, for its plan: */
    int n_gains;
    double gains[LF_WINDOW_MAX]; /* (n_gains) */
} lf_auto_jacobi_seq;

/* Of all sequences; with a cost of the target's passes, which is borrowed, and otherwise zeroed at first. */
typedef struct lf_auto_jacobi {
    const lf_cost *cost;
    lf_window_counts counts;
    double step;           /* the seconds of this round's pass without candidates, */
    double seconds, tried; /* of all of them, and what tries added */
    int n_tries;
} lf_auto_jacobi;

/* Finds what a window for the sequence promises in this round. */
void lf_auto_jacobi_expect(const lf_auto_jacobi *j, lf_auto_jacobi_seq *s, const lf_seq *seq);

/* Adds that to the ways of its plan, as one of a kind, where it is worth a thought. */
void lf_auto_jacobi_add_way(const lf_auto_jacobi_seq *s, lf_cost_seq *plan, int kind);

/* Takes in what the round's pass takes without candidates. */
void lf_auto_jacobi_begin_round(lf_auto_jacobi *j, double seconds);

/* Proposes for a sequence, one of n in the pass, if a try is due; false: it is not. */
bool lf_auto_jacobi_try(lf_auto_jacobi *j, lf_seq *seq, int n);

/* Judges and keeps guesses after a pass. proposed: the candidates were a window; drafted: those of a draft. */
void lf_auto_jacobi_observe(lf_auto_jacobi *j, lf_auto_jacobi_seq *s, lf_seq *seq, const lf_verdict *v,
                            bool proposed, bool drafted);

#endif
