/* Everything in a layer that is neither a matrix product nor attention: norms, rotation, SwiGLU, softmax.
 * Each forward has its backward beside it.
 *
 * One source (ops_body.h) compiled for several instruction sets. The functions work on all rows of a batch
 * with the calling thread's OpenMP team. Sums over rows (gradients of norm weights and biases) are made
 * per thread over a fixed share of the rows and then added in the threads' order, so that equal inputs and
 * an equal number of threads give equal bits.
 *
 * "Operand" is the type that matrix products take, f32 or bf16; everything else is float. */
#ifndef LF_TRAIN_OPS_H
#define LF_TRAIN_OPS_H

#include "lookfar.h"

#include "train/attention.h"

/* Root mean square norm: x_out = x + delta, y = w x_out / rms(x_out). */
typedef struct lf_norm {
    int n, dim;
    float eps;
    const float *w;     /* (dim) */
    const float *x;     /* (n, dim) */
    const float *delta; /* (n, dim), or NULL: nothing is added, and x_out is not written */
    float *x_out;       /* (n, dim) */
    float *inverse;     /* (n) 1 / rms */
    void *y;            /* (n, dim) operand */
    lf_dtype operand;
} lf_norm;

typedef struct lf_norm_backward {
    int n, dim;
    const float *w, *x, *inverse; /* of the forward; x is what was normed */
    const float *dy;              /* (n, dim) */
    float *dx;                    /* (n, dim) the gradient is added here */
    void *dx_operand;             /* (n, dim) and its sum written here as operand; NULL: not */
    lf_dtype operand;
    float *dw;      /* (dim), added to */
    float *partial; /* (n_threads, dim) scratch */
} lf_norm_backward;

/* The way between rows of the product q|k|v and the heads that attention takes: bias, QK norm, rotation.
 *
 * `heads` holds n_heads queries, then n_kv_heads keys, then n_kv_heads values, each head (rows_padded,
 * dim_padded); dims past head_dim and rows past n are zero. Queries are scaled by 1 / sqrt(head_dim). */
typedef struct lf_rotate {
    int n, n_heads, n_kv_heads, head_dim;
    int rows_padded, dim_padded;
    const float *cos, *sin;       /* (n, head_dim / 2) */
    const float *bias;            /* (qkv), or NULL; qkv = (n_heads + 2 n_kv_heads) head_dim */
    const float *q_norm, *k_norm; /* (head_dim), or NULL */
    float eps;
    float *inverse; /* (n, n_heads + n_kv_heads) 1 / rms of each head, with QK norm */
    float *qkv;     /* (n, qkv) the forward adds the bias in place; with QK norm the backward reads it */
    void *heads;    /* see above */
    lf_dtype heads_dtype;
} lf_rotate;

typedef struct lf_rotate_backward {
    const lf_rotate *forward;
    const float *dq; /* (n_dq, n_heads, rows_padded, dim_padded): parts to be added */
    int n_dq;
    const float *dk, *dv; /* (n_kv_heads, rows_padded, dim_padded) */
    void *dqkv;           /* (n, qkv) operand */
    lf_dtype operand;
    float *d_bias;              /* (qkv) or NULL, added to */
    float *d_q_norm, *d_k_norm; /* (head_dim) or NULL, added to */
    float *partial;             /* (n_threads, qkv + 2 head_dim) scratch */
} lf_rotate_backward;

typedef struct lf_train_ops {
    void (*norm)(const lf_norm *p);
    void (*norm_backward)(const lf_norm_backward *p);
    void (*rotate)(const lf_rotate *p);
    void (*rotate_backward)(const lf_rotate_backward *p);
    /* act (n, ffn) = silu(gate) up, with gate_up (n, 2 ffn) = gate | up; both operands */
    void (*swiglu)(void *act, const void *gate_up, lf_dtype operand, int n, int ffn);
    /* d_gate_up (n, 2 ffn) from d_act (n, ffn) float, and act once more, which the forward need not keep */
    void (*swiglu_backward)(void *d_gate_up, void *act, const void *gate_up, const float *d_act,
                            lf_dtype operand, int n, int ffn);
    /* out (n) = a + b */
    void (*add)(float *out, const float *a, const float *b, size_t n);
    /* out (n) bf16 */
    void (*to_bf16)(uint16_t *out, const float *x, size_t n);
    /* x (n) becomes weight (softmax(x) - one at target); the result is -log softmax(x)[target]. One row,
     * one thread. */
    double (*cross_entropy)(float *x, int n, int target, float weight);
    /* The same number, and x stays. */
    double (*log_loss)(const float *x, int n, int target);
    /* With p = softmax(teacher), which stays, and q = softmax(x): x becomes weight times the gradient of
     * the result with respect to x. The result is the sum of p log(p / q), forward, or of q log(q / p),
     * reverse. One row, one thread. */
    double (*forward_kl)(float *x, const float *teacher, int n, float weight);
    double (*reverse_kl)(float *x, const float *teacher, int n, float weight);
} lf_train_ops;

/* The fastest that these lf_cpu_flag bits allow. */
const lf_train_ops *lf_train_ops_for(unsigned cpu_flags);

/* The versions by instruction set, for lf_train_ops_for. */
extern const lf_train_ops lf_train_ops_portable, lf_train_ops_avx2, lf_train_ops_avx512;

#endif
