/* Trajectories as rows of a batch: one pass gives the logits of teacher and students, and computes the
 * prompt once.
 *
 *   prompt            sees itself, causally
 *   clean output      the fixed points of all blocks, one after the other: sees the prompt and itself, causally
 *   noisy tokens      stand at the positions of clean tokens once more
 *
 * How the noisy tokens are chosen, and what they see, is the recipe:
 *
 *   CLLM              of each block a state at random. It sees the prompt, the clean blocks before it, and itself.
 *                     local: and the state after it as the teacher, which sees the same and itself
 *   progressive       of each block the state whose noise is nearest to its turn in a cycle of `window` levels, 0 to
 *                     (window - 1) / window, beginning anywhere. Blocks see the prompt and the noisy blocks before them: the
 *                     noisy-context mask of Jacobi Forcing (arXiv 2512.14681, section 3)
 *   AR, reverse KL    none
 *
 * Up to the first wrong token a state's rows would see what the clean ones see: those are used in their
 * place, and the copy begins with the wrong token. It ends with the last row whose next token belongs to
 * the output. So a row sees at most two ranges, as lf_train_rows has them:
 *
 *   rows     p p p  c0 c1 c2 c3  c4 c5 c6 c7   n2 n3    n5 n6 n7          blocks of 4; n2 is the first wrong token of block 0
 *   n3       [p .. c1], [n2, n3]
 *   n6       [p .. c4], [n5, n6]               CLLM
 *   n6       [p .. c1], [n2 n3 n4 n5 n6]       progressive: noise continues through n4, right or wrong
 *
 * (Jacobi Forcing puts clean and noisy blocks by turns. The order of rows changes nothing but what is easy
 * to say; in this one two ranges say everything.) A teacher's row and its student's make a pair
 * (consistency.h). */
#ifndef LF_TRAIN_PACK_H
#define LF_TRAIN_PACK_H

#include "train/net.h"
#include "train/trajectory.h"

typedef struct lf_pack_options {
    lf_distill_recipe recipe;
    bool local; /* CLLM */
    int window; /* progressive */
    double
        synthetic; /* share of the blocks that get an end of tokens drawn from the text before it in place of a state */
    bool train_prompt; /* prompt tokens are targets, too */
    int context;       /* positions of a trajectory at most: whole blocks beyond it are left out */
} lf_pack_options;

/* Rows of one micro-batch. */
typedef struct lf_pack {
    lf_pack_options options;
    int rows_max;
    int n_rows, n_pairs, n_picked, n_targets;
    int n_seen;                                     /* rows that belong to trajectories, before rounding up */
    int32_t *token, *pos, *first, *first_end, *own; /* (rows_max) */
    int32_t *next;                                  /* (rows_max) the target of each row, or -1 */
    int32_t *picked, *target;                       /* (rows_max) pairs first; their targets */
    int32_t *noisy;                                 /* (rows_max) scratch: the noisy tokens of a span */
    int32_t *output;                                /* (rows_max + 1) scratch: the clean output */
    uint8_t *is_paired;                             /* (rows_max) */
} lf_pack;

/* LF_ENOMEM, LF_ELIMIT. */
lf_status lf_pack_create(lf_pack *out, int rows_max, const lf_pack_options *options, lf_error *err);
void lf_pack_free(lf_pack *p); /* a zeroed pack is fine */

void lf_pack_clear(lf_pack *p);

/* Whether the prompt and a block fit an empty pack and the context at all. */
bool lf_pack_takes(const lf_pack *p, const lf_trajectory *t);

/* Adds a trajectory that lf_pack_takes; what is random is a function of key. false: not enough room is
 * left, nothing changed. */
bool lf_pack_add(lf_pack *p, const lf_trajectory *t, uint64_t key);

/* Ends the batch: fills it up with rows of no consequence to a multiple of LF_BATCH_ROUND, and picks the
 * rows with a target. */
void lf_pack_finish(lf_pack *p);

/* The batch as the net takes it. */
lf_train_rows lf_pack_rows(const lf_pack *p);

#endif
