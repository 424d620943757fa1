/* The network as the trainer runs it: forward over a batch of rows with saved activations, and the
 * backward by hand.
 *
 * The same model as model/forward.h computes, in float (or bf16 products with float sums), with every
 * matrix product by oneDNN and attention by own kernels in tiles, so that memory is linear in the number
 * of rows. */
#ifndef LF_TRAIN_NET_H
#define LF_TRAIN_NET_H

#include "train/params.h"

/* Rows of a batch see rows of the same batch only: row i sees the rows of two ranges, [first[i],
 * first_end[i]) and [own[i], i]. An ordinary document has an empty first range and own[i] = its first row,
 * so documents packed side by side do not see each other. The two ranges together express the
 * noisy-context mask of Jacobi Forcing (arXiv 2512.14681), where a block sees the clean rows before it and
 * itself. 0 <= first[i] <= first_end[i] <= own[i] <= i. */
typedef struct lf_train_rows {
    int n;                    /* 1..rows_max */
    const int32_t *token;     /* (n) */
    const int32_t *pos;       /* (n) position for RoPE */
    const int32_t *first;     /* (n), or NULL: no first range */
    const int32_t *first_end; /* (n) */
    const int32_t *own;       /* (n) */
    const int32_t
        *picked; /* (n_picked) the rows whose logits are wanted, each once and in the order in which the
                                 loss takes them; NULL: all, as they stand */
    int n_picked;
} lf_train_rows;

/* What is made of logits: called for consecutive chunks of the picked rows of a batch, in order, each of
 * LF_LOSS_ROWS_MAX but the last. On entry logits (n, n_vocab) are those of picked rows [first, first + n);
 * on return they hold the loss's gradient with respect to them (or anything when `want_gradient` is
 * false). Returns the sum of losses of these rows. */
enum { LF_LOSS_ROWS_MAX = 512 };
typedef double lf_loss_fn(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient);

/* Cross-entropy with the next token: row i costs scale * weight[i] * -log softmax(logits_i)[target[i]],
 * and nothing where target[i] < 0. The mean over all targets (of every batch that a step accumulates) is
 * scale = 1 / their number, without weights. An lf_loss_fn with one of these as its cookie. */
typedef struct lf_cross_entropy {
    const int32_t *target; /* (rows.n), or of the picked rows */
    const float *weight;   /* (rows.n), or NULL: 1 everywhere */
    double scale;          /* multiplies every row's loss and gradient */
    double *row_loss;      /* (rows.n), or NULL: where each row's -log softmax goes; 0 without a target */
} lf_cross_entropy;
double lf_cross_entropy_loss(void *cookie, float *logits, int first, int n, int n_vocab, bool want_gradient);

typedef struct lf_net lf_net;

enum { LF_TRAIN_ROWS_MAX = 1 << 20 };

typedef struct lf_net_options {
    int rows_max;       /* rows of one batch, up to LF_TRAIN_ROWS_MAX */
    bool bf16;          /* products of bf16 operands with float sums; otherwise float */
    bool recompute;     /* keep only each layer's input and compute the rest again in the backward */
    int n_threads;      /* 0: one for each processor */
    unsigned cpu_avoid; /* lf_cpu_flag bits not to use in the net's own kernels: 0 but in tests */
} lf_net_options;

/* Buffers for batches of up to rows_max rows; nothing is allocated later, but by oneDNN when it meets a
 * number of rows for the first time. params are borrowed: their values may change between calls.
 * LF_EINVAL, LF_ENOMEM, LF_EUNSUPPORTED. */
lf_status lf_net_create(lf_net **out, const lf_params *params, const lf_net_options *options, lf_error *err);
void lf_net_free(lf_net *net); /* NULL is fine */
size_t lf_net_bytes(const lf_net *net);

/* Tells the net that the params have changed since its last call (it keeps bf16 copies). */
void lf_net_params_changed(lf_net *net);

/* Forward, loss and backward; gradients are added to grad (params->n floats). The result is the sum of
 * what `loss` returned. The same bits for the same inputs and number of threads. LF_EUNSUPPORTED when
 * oneDNN fails. */
lf_status lf_net_train(lf_net *net, const lf_train_rows *rows, lf_loss_fn *loss, void *cookie, float *grad,
                       double *out_loss, lf_error *err);

/* Forward and loss only. */
lf_status lf_net_evaluate(lf_net *net, const lf_train_rows *rows, lf_loss_fn *loss, void *cookie,
                          double *out_loss, lf_error *err);

/* Forward only, and then the logits (n, n_vocab) of its picked rows [first, first + n), n <=
 * LF_LOSS_ROWS_MAX, as often as wanted; they are valid, and may be overwritten, until the net's next call.
 * rows stay in place until then. */
lf_status lf_net_forward(lf_net *net, const lf_train_rows *rows, lf_error *err);
lf_status lf_net_logits(lf_net *net, float **logits, int first, int n, lf_error *err);

#endif
