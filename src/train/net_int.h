/* Inside the net: its buffers, shared by net.c (the walk) and layer.c (one layer).
 *
 * q = n_heads head_dim, kv = n_kv_heads head_dim, qkv = q + 2 kv. "Operand" is the type that products
 * take: bf16 or f32. */
#ifndef LF_TRAIN_NET_INT_H
#define LF_TRAIN_NET_INT_H

#include "train/attention.h"
#include "train/matmul.h"
#include "train/net.h"
#include "train/ops.h"

/* What the forward of a layer leaves for its backward. With recompute all layers share one. */
typedef struct lf_saved {
    void *attn_in;       /* (rows, dim) operand: normed */
    float *attn_inverse; /* (rows) 1 / rms */
    float *qkv; /* (rows, qkv) before QK norm; without it nobody looks again, and all layers share one */
    float *head_inverse; /* (rows, n_heads + n_kv_heads) 1 / rms of heads, with QK norm */
    void *heads;         /* as attention takes them, see lf_rotate */
    void *attended;      /* (rows, q) operand */
    float *lse;          /* (n_heads, rows_padded) */
    float *mid;          /* (rows, dim) the residual stream between attention and feed-forward */
    void *ffn_in;        /* (rows, dim) operand: normed */
    float *ffn_inverse;  /* (rows) */
    void *gate_up;       /* (rows, 2 ffn) operand */
} lf_saved;

struct lf_net {
    const lf_params *params;
    lf_net_options options;
    lf_dtype operand;
    const lf_train_ops *ops;
    lf_matmul *matmul;
    lf_attention *attention;
    bool stale; /* params have changed since the bf16 copies were made */

    uint8_t *memory; /* everything below lies in it */
    size_t bytes;
    uint16_t *weights; /* (params->n) bf16 copies, or NULL */
    float *rope_freqs; /* (head_dim / 2) */
    float *cos, *sin;  /* (rows, head_dim / 2) */
    float *x; /* (n_layers + 1, rows, dim) the residual stream in front of each layer, and behind the last */
    lf_saved *saved;    /* (n_layers) */
    void *out_in;       /* (rows, dim) operand: normed input of the output matrix */
    float *out_inverse; /* (rows) */
    float *logits;      /* (LF_LOSS_ROWS_MAX, n_vocab) */
    void *d_logits;     /* the same as operand */
    void *picked_in;    /* (LF_LOSS_ROWS_MAX, dim) rows of out_in that are picked */
    float *d_picked;    /* (LF_LOSS_ROWS_MAX, dim) their gradient */

    /* shared by all layers, forward and backward */
    float *narrow; /* (rows, dim) results of products, and gradients of normed inputs */
    void *act;     /* (rows, ffn) operand */

    /* backward only */
    float *dx;        /* (rows, dim) gradient with respect to the residual stream */
    void *dx_operand; /* the same as operand; dx itself when that is float */
    float *d_mid;     /* (rows, max(ffn, q)) gradient of act, and of attended */
    void *d_wide;     /* (rows, max(2 ffn, qkv)) operand: gradient of gate_up, and of qkv */
    float *partial;   /* (n_threads, max(dim, qkv + 2 head_dim)) */

    /* the call at hand */
    const lf_train_rows *rows;
    float *grad; /* (params->n), or NULL */
    lf_error *err;
};

/* The weight as products take it, as float, and its gradient; NULL when the model has no such weight. */
const void *lf_net_operand(const lf_net *net, lf_weight weight, int i_layer);
const float *lf_net_vector(const lf_net *net, lf_weight weight, int i_layer);
float *lf_net_gradient(const lf_net *net, lf_weight weight, int i_layer);

/* The three products of y = x W^T, with W (n_out, n_in): y (n, n_out); dx (n, n_in) = dy W; dW += dy^T x. */
lf_status lf_net_forward_product(lf_net *net, void *y, lf_dtype y_dtype, const void *x, const void *w, int n,
                                 int n_out, int n_in);
lf_status lf_net_input_gradient(lf_net *net, float *dx, const void *dy, const void *w, int n, int n_out,
                                int n_in);
lf_status lf_net_weight_gradient(lf_net *net, float *dw, const void *dy, const void *x, int n, int n_out,
                                 int n_in);

/* out_in from the residual stream behind the last layer; and dx from the gradient of out_in, which is in
 * `narrow`. */
void lf_layer_output_norm(lf_net *net);
void lf_layer_output_norm_backward(lf_net *net);

/* x[i_layer + 1] and saved[i_layer] from x[i_layer]. */
lf_status lf_layer_forward(lf_net *net, int i_layer);

/* saved[i_layer] alone, once more. */
lf_status lf_layer_recompute(lf_net *net, int i_layer);

/* dx (and dx_operand): from the gradient behind the layer to that in front of it; the layer's weights' are
 * added to grad. */
lf_status lf_layer_backward(lf_net *net, int i_layer);

#endif
