/* Jacobi decoding as a source of `auto` (decode/auto.c): windows of guesses where they pay, or are to be tried (decode/window.h).
 *
 * A model made for it (a CLLM) settles several guesses in a pass, an ordinary one hardly ever any. Which of them this is, tries show,
 * of sequences that have no better candidates than a window.
 *
 * The guesses are seq->guesses, where Jacobi drafts begin, too. They are kept after a pass whose picks behind the first wrong
 * candidate were asked for, whoever proposed it: by a sequence for which a window pays. When others take the round without asking,
 * guesses stay while what comes is what they said, and are forgotten at the first wrong one; a draft leaves its own rejected
 * candidates instead. */
#ifndef LF_DECODE_AUTO_JACOBI_H
#define LF_DECODE_AUTO_JACOBI_H

#include "decode/window.h"

/* Adds what windows promise a sequence in this round to the ways of its plan, as one of a kind, where that is worth a thought. */
void lf_auto_jacobi_add_way(const lf_window_seq *s, lf_cost_seq *plan, int kind);

/* Whether a window of guesses, which has this kind, would be worth its rows. */
bool lf_auto_jacobi_pays(const lf_cost_seq *plan, int kind);

/* Proposes a window for a sequence whose candidates are none, or those of a window, if a try is due; false: it is not. */
bool lf_auto_jacobi_try(lf_windows *w, const lf_window_seq *s, lf_seq *seq, const lf_window_deal *deal);

/* Judges and keeps guesses after a pass. proposed: the candidates were a window; drafted: those of a draft. */
void lf_auto_jacobi_observe(lf_windows *w, lf_window_seq *s, lf_seq *seq, const lf_verdict *v, bool proposed,
                            bool drafted);

#endif
