/* A proposer guesses the next tokens of sequences; the target verifies them. The whole interface is propose and observe;
 * what a proposer guesses can change the number of passes and nothing else.
 *
 *   ngram    what followed an earlier occurrence of the last tokens, in the sequence or in the user's prediction (prompt
 *            lookup decoding)
 *   jacobi   the picks of the last pass beyond the accepted ones: each verify pass is a Jacobi iteration over a rolling
 *            window (Santilli et al., arXiv 2305.10427; CLLM, arXiv 2403.00835, algorithm 1) */
#ifndef LF_DECODE_PROPOSER_H
#define LF_DECODE_PROPOSER_H

#include "decode/seq.h"

typedef struct lf_proposer_ops {
    const char *name;
    bool wants_all_picks; /* observe gets the picks after a rejected candidate, too */
    /* A sequence comes (tokens hold its prompt) and goes. attach may allocate; nothing else may. */
    lf_status (*attach)(lf_proposer *self, lf_seq *seq, lf_error *err);
    void (*detach)(lf_proposer *self, lf_seq *seq);
    /* Sets n_candidates (0 .. n_wanted) and candidates of each sequence. */
    void (*propose)(lf_proposer *self, lf_seq *const *seqs, int n_seqs);
    /* Called after every pass that emitted, the last one too, with the sequence's tokens already moved on. NULL: not
     * interested. */
    void (*observe)(lf_proposer *self, lf_seq *seq, const lf_verdict *verdict);
} lf_proposer_ops;

struct lf_proposer {
    const lf_proposer_ops *ops;
};

extern const lf_proposer_ops lf_proposer_ngram;
extern const lf_proposer_ops lf_proposer_jacobi;

/* "none" gives NULL in *out; false for a name that is not known. */
bool lf_proposer_find(const char *name, const lf_proposer_ops **out);

#endif
