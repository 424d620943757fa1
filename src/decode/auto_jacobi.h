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

#include "decode/window.h"

/* Of a sequence; zeroed at first. */
typedef struct lf_auto_jacobi_seq {
    lf_window_counts counts;
    int n_kept; /* of seq->guesses, picks of the target */
} lf_auto_jacobi_seq;

typedef struct lf_auto_jacobi {
    const lf_cost *cost; /* of the target's passes */
    lf_window_counts counts;
    lf_window_seq *plan;       /* (seqs_max) */
    lf_auto_jacobi_seq **seqs; /* (seqs_max) of the sequences of a round; set before it is planned */
    double seconds, tried;     /* of all passes, had they been plain; of tries beyond that */
    int n_tries;
} lf_auto_jacobi;

/* cost is borrowed, and measured before anything is planned. LF_ENOMEM. */
lf_status lf_auto_jacobi_init(lf_auto_jacobi *j, const lf_cost *cost, int seqs_max, lf_error *err);
void lf_auto_jacobi_free(lf_auto_jacobi *j); /* a zeroed one is fine */

/* Plans the windows of a round's sequences (n), into plan; returns the tokens per second expected. */
double lf_auto_jacobi_plan(lf_auto_jacobi *j, lf_seq *const *seqs, int n);

/* Proposes for a sequence, one of n in the pass, if a try is due; false: it is not. */
bool lf_auto_jacobi_try(lf_auto_jacobi *j, lf_seq *seq, int n);

/* Judges and keeps guesses after a pass. proposed: the candidates were a window; drafted: those of a draft. */
void lf_auto_jacobi_observe(lf_auto_jacobi *j, lf_auto_jacobi_seq *s, lf_seq *seq, const lf_verdict *v,
                            bool proposed, bool drafted);

#endif
