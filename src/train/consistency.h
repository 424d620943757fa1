/* The losses of distillation. Here is the one definition of what they are and by what they are divided.
 *
 *   consistency     mean over pairs of the sum over the vocabulary of p log(p / q)
 *   autoregressive  mean over targets of -log q(target)
 *   reverse KL      mean over targets of the sum over the vocabulary of q log(q / p), p being another model's
 *
 * A pair is two rows of one position: a teacher, whose p is taken as it is (no gradient passes through
 * it), and a student, whose q is trained. Which rows they are says pack.h; for the global loss of CLLM
 * (arXiv 2403.00835, section 3.3) the teacher stands on the fixed point and the student on an earlier
 * state, for the local one on the state after the student's; both are the model that is being trained.
 * Pairs exist only where what the two rows see differs and where the predicted token belongs to the
 * output: the rest of the published sums over a block is zero, or filling.
 *
 * The means are over a whole step, all its micro-batches together, and the loss of a step is consistency +
 * w autoregressive: w is the weight of a token against a token, whatever the lengths. (CLLM's paper adds
 * up both within a block, its code takes the means of one block and the whole text with its prompt; Jacobi
 * Forcing's code divides the consistency by the blocks once more.) */
#ifndef LF_TRAIN_CONSISTENCY_H
#define LF_TRAIN_CONSISTENCY_H

#include "train/net.h"

/* Picked rows 2 i and 2 i + 1 are teacher and student of pair i < n_pairs; what is picked behind them has
 * a target only. The scales multiply losses and gradients: 1 / the pairs of the step, w / its targets. The
 * sums are without them, and are added to. */
typedef struct lf_consistency {
    int n_pairs;
    const int32_t *target; /* (rows.n_picked) or -1 */
    double pair_scale, target_scale;
    double pair_sum, target_sum;
} lf_consistency;

/* An lf_loss_fn with an lf_consistency as its cookie. */
double lf_consistency_loss(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient);

/* The teacher is a net of its own whose last lf_net_forward had the same rows and picks. Only rows with a
 * target count. */
typedef struct lf_reverse_kl {
    lf_net *teacher;
    const int32_t *target; /* (rows.n_picked) or -1 */
    double scale;
    double kl_sum, target_sum; /* without the scale; added to */
    lf_status status;          /* why the result is NAN: the teacher's logits failed */
    lf_error *err;
} lf_reverse_kl;

/* An lf_loss_fn with an lf_reverse_kl as its cookie. */
double lf_reverse_kl_loss(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient);

#endif
