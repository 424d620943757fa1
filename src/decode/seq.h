/* A sequence being decoded: its tokens, its cache, its candidates, and what a pass said about them. */
#ifndef LF_DECODE_SEQ_H
#define LF_DECODE_SEQ_H

#include "base/mem.h"
#include "kv/kv.h"
#include "sample/pick.h"

/* Candidates of one round at most; and tokens of a text that are compared with where it occurred before. */
enum { LF_DRAFT_MAX = 64, LF_MATCH_MAX = 16 };

/* Which tiles the sparse proposer drafts over, besides the first and the last ones. */
typedef enum lf_selection {
    LF_SELECT_WINDOW, /* none (StreamingLLM, arXiv 2309.17453) */
    LF_SELECT_SNAP, /* those that the last tokens of the prompt looked at, chosen once (SnapKV, arXiv 2404.14469) */
    LF_SELECT_VERIFY, /* those that the last verify passes looked at */
    LF_SELECT_COUNT
} lf_selection;

/* How the proposers `sparse` and `draft` find a sequence's candidates (decode/drafting.h): the same ones. */
typedef enum lf_drafting {
    LF_DRAFTING_SINGLE, /* one a pass */
    LF_DRAFTING_JACOBI, /* by Jacobi iterations: fewer passes, of more rows */
    LF_DRAFTING_COUNT
} lf_drafting;

typedef struct lf_seq lf_seq;
typedef struct lf_guesses lf_guesses;
typedef struct lf_proposer lf_proposer;

/* Called for each token of the output in order. logits (n_vocab) are those it was picked from; `proposed` tells an accepted
 * candidate from the pick that is always right. Returning false makes this the last token. */
typedef bool lf_emit_fn(void *cookie, lf_seq *seq, int32_t id, const float *logits, bool proposed);

/* Called with the logits (n_vocab) before token `i` of a prompt, i from 1 to n_prompt - 1. */
typedef void lf_prompt_fn(void *cookie, lf_seq *seq, int i, const float *logits);

/* What a sequence had of the last step, for traces; all 0 when it had no rows. Set by the round. */
typedef struct lf_seq_step {
    int rows;             /* in the pass: tokens without K/V, and candidates */
    const char *proposer; /* whose the candidates are: `auto` names the one that it chose */
    int budget;           /* positions that they were drafted over; 0 unless they are of `sparse` */
    int proposed, accepted, emitted;
} lf_seq_step;

struct lf_seq {
    lf_kv_seq *kv;
    lf_ids
        tokens; /* prompt and output, capacity len_max + LF_DRAFT_MAX from the start. Those past lf_kv_seq_len(kv) have no
                       K/V yet: the rest of the prompt, or the last token of the output */
    int len_max; /* tokens at most: prompt and output */
    int n_prompt;
    const int32_t
        *prediction; /* (n_prediction) what the user expects the output to be like; borrowed, may be NULL */
    int n_prediction;
    lf_pick_params pick;
    lf_emit_fn *emit;
    lf_prompt_fn *on_prompt; /* or NULL */
    int n_prompt_told;       /* tokens of the prompt that on_prompt need not hear of again */
    void *cookie;

    lf_proposer *proposer; /* NULL: plain decoding */
    void *proposer_state;  /* the proposer's, from attach to detach */
    int draft_max;         /* candidates of a round at most, 0 .. LF_DRAFT_MAX */
    bool draft_free;       /* nobody asked for that many: `jacobi` has as many as pay (decode/window.h) */
    bool all_picks;        /* observe gets the picks after a rejected candidate, too; the proposer's */

    /* the plan of the pass (decode/plan.h) */
    bool decodes; /* only the last token has no K/V yet */
    int n_rows;   /* of tokens that have no K/V yet; 0: not in the pass */
    int n_wanted; /* the candidates that there is room for */
    lf_skip skip; /* why there are none, if there will be none */

    int n_candidates; /* set by propose, at most n_wanted */
    int32_t candidates[LF_DRAFT_MAX];
    int n_matched; /* of candidates by ngram: tokens at the end of the text that they followed before, up to LF_MATCH_MAX */
    lf_seq_step step;

    lf_drafting drafting;
    lf_guesses *guesses; /* where its Jacobi iterations start; the proposer's, NULL with LF_DRAFTING_SINGLE */
    /* Of the draft proposer: its cache, of which what it has read of tokens that stand is committed; NULL: without it. */
    lf_kv_seq *draft_kv;
    lf_selection selection; /* of the sparse proposer */
    int sparse_budget;      /* positions that it drafts over; 0: its own choice */
    float *
        mass; /* NULL, or where target passes add the attention that rows from mass_from on give (lf_row.mass); the proposer's */
    int mass_from;

    bool finished; /* emit said so, len_max is reached, or the logits were not finite */
    bool not_finite;

    int passes;       /* target passes that emitted tokens of this sequence */
    int draft_passes; /* passes that drafted candidates of this sequence */
    int proposed;     /* candidates verified */
    int accepted;     /* candidates equal to their picks and emitted */
    /* As CLLM counts (arXiv 2403.00835, section 4.2, and its evaluation code); by the jacobi proposer. A pass makes a state: the
     * tokens before it and its picks. A token is stationary if it was right in a state whose prefix was still wrong, and
     * stayed right until the right prefix reached it. */
    int stationary;
    int confirming; /* 1 if all that the last pass emitted was right in the state before it: CLLM does not count such a pass */
};

/* Tokens that have no K/V yet. */
static inline int lf_seq_n_pending(const lf_seq *seq)
{
    return (int)seq->tokens.len - lf_kv_seq_len(seq->kv);
}

/* What a pass said about the candidates of a sequence. */
typedef struct lf_verdict {
    const int32_t
        *picks;     /* (n_picks) picks[j]: for the position of candidate j, after the candidates before it */
    int n_picks;    /* n_candidates + 1 with all_picks, else n_accepted + 1 */
    int n_accepted; /* candidates 0 .. n_accepted - 1 equal their picks */
    int n_emitted;  /* tokens of the output: n_accepted + 1, or fewer when it ended with one of them */
} lf_verdict;

#endif
