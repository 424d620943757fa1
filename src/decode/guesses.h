/* Guesses for the tokens ahead of a sequence, where Jacobi iterations start (Santilli et al., arXiv 2305.10427). What is kept of
 * the last iteration comes first; new positions behind it are filled by n-grams of the sequence, or by a token that it holds.
 * Nothing is drawn twice: what fills a position depends on the sequence alone, so that a run can be repeated. */
#ifndef LF_DECODE_GUESSES_H
#define LF_DECODE_GUESSES_H

#include "decode/ngram_index.h"
#include "decode/seq.h"

struct lf_guesses {
    lf_ngram_index index; /* of the sequence's tokens */
    int n;                /* kept; those filled in later are not among them */
    int32_t ids[LF_DRAFT_MAX];
};

/* For texts of up to n_max tokens. LF_ENOMEM. */
lf_status lf_guesses_init(lf_guesses *g, int n_max, lf_error *err);
void lf_guesses_free(lf_guesses *g); /* zeroed guesses are fine */

/* The same for a sequence that drafts by Jacobi iterations: seq->guesses, allocated. */
lf_status lf_guesses_open(lf_seq *seq, lf_error *err);
void lf_guesses_close(lf_seq *seq); /* without guesses it does nothing */

/* Writes n guesses behind the tokens of the sequence, where there is room for candidates. */
void lf_guesses_fill(lf_guesses *g, lf_seq *seq, int n);

/* Makes the first n_candidates guesses the sequence's candidates. */
void lf_guesses_propose(lf_guesses *g, lf_seq *seq);

/* Keeps ids (n) as the guesses right behind the tokens, up to one that is no token: behind a wrong guess a grammar may allow
 * nothing. */
void lf_guesses_keep(lf_guesses *g, const int32_t *ids, int n);

/* Drops the guesses for n tokens that came, and all of them if one of those was wrong. */
void lf_guesses_pass(lf_guesses *g, const int32_t *came, int n);

/* Keeps in seq->guesses the candidates behind the one that the verdict found wrong. */
void lf_guesses_keep_rest(lf_seq *seq, const lf_verdict *v);

#endif
