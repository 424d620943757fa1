/* Causal attention with its backward, in tiles of 64 queries by 64 keys, so that memory is linear in the
 * rows: the forward keeps the logarithm of each row's sum of exponentials, from which the backward
 * computes the probabilities again (Dao et al., arXiv 2205.14135 and 2307.08691).
 *
 * Which rows a row sees is lf_train_rows' two ranges. A pair of tiles in which nothing is seen costs
 * nothing, so documents packed side by side cost what each would alone.
 *
 * A unit of the forward is (head, tile of queries); one of the backward is (KV head, run of key tiles): it
 * owns its keys' gradients, and writes its part of the queries' into a buffer of its own. Every sum has
 * one order for a given number of threads. */
#ifndef LF_TRAIN_ATTENTION_H
#define LF_TRAIN_ATTENTION_H

#include "base/status.h"
#include "train/net.h"

enum { LF_TRAIN_TILE = 64, LF_TRAIN_HEAD_MAX = 256 };

typedef struct lf_attention lf_attention;

typedef struct lf_attention_shape {
    int rows_max, n_heads, n_kv_heads, head_dim;
    int n_threads;
    bool bf16;          /* bf16 products are welcome (if the processor has them) */
    lf_dtype operand;   /* of the result */
    unsigned cpu_flags; /* lf_cpu_flag bits that may be used */
} lf_attention_shape;

/* LF_ENOMEM, LF_ELIMIT. head_dim is at most LF_TRAIN_HEAD_MAX. */
lf_status lf_attention_create(lf_attention **out, const lf_attention_shape *shape, lf_error *err);
void lf_attention_free(lf_attention *at); /* NULL is fine */
size_t lf_attention_bytes(const lf_attention *at);

/* How heads are laid out (see lf_rotate in ops.h): element type, rows and dims after padding. */
lf_dtype lf_attention_dtype(const lf_attention *at);
int lf_attention_rows_padded(const lf_attention *at);
int lf_attention_dim_padded(const lf_attention *at);

/* Of the batch that the next calls are about. */
void lf_attention_set_rows(lf_attention *at, const lf_train_rows *rows);

/* out (n, n_heads head_dim) operand and lse (n_heads, rows_padded) from heads. */
void lf_attention_forward(lf_attention *at, void *out, float *lse, const void *heads);

/* Gradients with respect to heads. d_out (n, n_heads head_dim) is float; out and lse are the forward's.
 * The results stay valid until the next call: dq in *n_dq parts, to be added. */
typedef struct lf_attention_gradient {
    const float *dq; /* (n_dq, n_heads, rows_padded, dim_padded) */
    int n_dq;
    const float *dk, *dv; /* (n_kv_heads, rows_padded, dim_padded) */
} lf_attention_gradient;
lf_attention_gradient lf_attention_backward(lf_attention *at, const float *d_out, const void *out,
                                            const float *lse, const void *heads);

#endif
