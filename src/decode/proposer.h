/* A proposer guesses the next tokens of sequences; the target verifies them. The whole interface is propose and observe;
 * what a proposer guesses can change the number of passes and nothing else.
 *
 *   ngram    what followed an earlier occurrence of the last tokens, in the sequence or in the user's prediction (prompt
 *            lookup decoding)
 *   sparse   drafts by the same weights over a part of the same cache (MagicDec, arXiv 2408.11049)
 *   draft    drafts by a smaller model over a bounded cache of its own
 *   auto     one of the others, or none, by what passes cost and how often each was right
 *   jacobi   the picks of the last pass beyond the accepted ones: each verify pass is a Jacobi iteration over a rolling
 *            window (Santilli et al., arXiv 2305.10427; CLLM, arXiv 2403.00835, algorithm 1) */
#ifndef LF_DECODE_PROPOSER_H
#define LF_DECODE_PROPOSER_H

#include "decode/seq.h"
#include "decode/cost.h"

/* A smaller model that drafts: its vocabulary is the target's. All borrowed. */
typedef struct lf_draft_env {
    lf_forward *forward; /* passes of up to rows_max rows, lf_proposer_env.rows_max of them with logits */
    lf_kv_pool *pool;    /* lf_draft_pages for each of seqs_max sequences, and nobody else's */
    int rows_max;        /* at least lf_proposer_env.rows_max */
    int window;          /* the last positions that it sees, besides the first ones */
    lf_cost *cost;       /* of its passes; measured by `auto` */
} lf_draft_env;

/* Pages of its pool that a sequence of up to n_ctx positions can come to hold; and how many positions apart a row and what it sees
 * can be, which is as many as the model should have been trained on. */
int lf_draft_pages(int window, int n_ctx);
int lf_draft_reach(int window);

/* The window asked for, or with 0 the default, in reach of what a smaller model of a config was made for, over texts of up to n_ctx
 * positions. LF_EINVAL: there is none; LF_ELIMIT: it is too wide. */
lf_status lf_draft_choose_window(int *window, int asked, const lf_config *config, int n_ctx, const char *path,
                                 lf_error *err);

/* What proposers that run the model need. All borrowed. */
typedef struct lf_proposer_env {
    lf_forward *forward; /* the target's; passes of up to rows_max rows, all with logits, are allowed */
    const lf_config *config;
    lf_threads *threads;
    int n_ctx, seqs_max;
    int rows_max;              /* of a pass whose rows all want logits; at least seqs_max */
    const lf_draft_env *draft; /* NULL: there is no smaller model */
    /* of `auto`, and of `jacobi` where it chooses its window: */
    lf_kv_pool *pool;
    lf_cost *
        cost; /* measured, unless it is known, when `auto` is opened or `jacobi` first needs it, in profile_seconds at most; so is
                 draft->cost */
    double profile_seconds;
} lf_proposer_env;

typedef struct lf_proposer_ops {
    const char *name;
    bool
        drafts; /* propose runs passes that write K/V behind the committed positions: the round reserves the slots before */
    /* NULL: a proposer has nothing of its own. */
    lf_status (*open)(lf_proposer **out, const lf_proposer_env *env, lf_error *err);
    void (*close)(lf_proposer *self);
    /* A sequence comes (tokens hold its prompt) and goes. attach may allocate; nothing else may. */
    lf_status (*attach)(lf_proposer *self, lf_seq *seq, lf_error *err);
    void (*detach)(lf_proposer *self, lf_seq *seq);
    /* Sets n_candidates (0 .. n_wanted) and candidates of each sequence. */
    void (*propose)(lf_proposer *self, lf_seq *const *seqs, int n_seqs);
    /* Called after every pass that emitted, the last one too, with the sequence's tokens already moved on. NULL: not
     * interested. */
    void (*observe)(lf_proposer *self, lf_seq *seq, const lf_verdict *verdict);
} lf_proposer_ops;

/* One serves any number of sequences, which it sees together. */
struct lf_proposer {
    const lf_proposer_ops *ops;
};

extern const lf_proposer_ops lf_proposer_ngram;
extern const lf_proposer_ops lf_proposer_jacobi;
extern const lf_proposer_ops lf_proposer_sparse;
extern const lf_proposer_ops lf_proposer_draft;
extern const lf_proposer_ops lf_proposer_auto;

/* All of them, in the order of lf_proposer_find's index. */
enum {
    LF_PROPOSER_NGRAM,
    LF_PROPOSER_JACOBI,
    LF_PROPOSER_SPARSE,
    LF_PROPOSER_DRAFT,
    LF_PROPOSER_AUTO,
    LF_PROPOSER_COUNT
};

/* The index of a name, -1 for "none" and -2 for one that is not known. */
int lf_proposer_find(const char *name);

/* The name of an index; "none" for -1. */
const char *lf_proposer_name(int index);

/* Measures a cost of env that is not known, of passes over a forward with a cache like `pool`, in sequences of n_ctx positions. */
lf_status lf_proposer_require_cost(lf_cost *cost, lf_forward *forward, lf_kv_pool *pool, int n_ctx,
                                   const lf_proposer_env *env, lf_error *err);

/* LF_EINVAL for `draft` without env->draft. */
lf_status lf_proposer_open(lf_proposer **out, int index, const lf_proposer_env *env, lf_error *err);
void lf_proposer_close(lf_proposer *p); /* NULL is fine */

#endif
