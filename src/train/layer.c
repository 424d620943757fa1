/* One layer, forward and backward: the two halves of each side by side.
 *
 *   attention       h = norm(x);   heads = rotate(h Wqkv^T);   mid = x + attend(heads) Wo^T
 *   feed-forward    h = norm(mid); act = silu(gate) * up, with gate|up = h Wgu^T;   out = mid + act Wdown^T */
#include "train/net_int.h"

static float *stream_at(const lf_net *net, int i_layer)
{
    return net->x + (size_t)i_layer * (size_t)net->options.rows_max * (size_t)net->params->config.dim;
}

static int q_width(const lf_config *c)
{
    return c->n_heads * c->head_dim;
}

static int qkv_width(const lf_config *c)
{
    return (c->n_heads + 2 * c->n_kv_heads) * c->head_dim;
}

/* ---- norms ---- */

static void norm(lf_net *net, void *y, float *inverse, const float *x, lf_weight weight, int i_layer,
                 float *x_out, const float *delta)
{
    const lf_config *c = &net->params->config;
    const lf_norm p = {.n = net->rows->n,
                       .dim = c->dim,
                       .eps = c->norm_eps,
                       .w = lf_net_vector(net, weight, i_layer),
                       .x = x,
                       .delta = delta,
                       .x_out = x_out,
                       .inverse = inverse,
                       .y = y,
                       .operand = net->operand};
    net->ops->norm(&p);
}

/* Adds the gradient through a norm, whose output's is in `narrow`, to dx. */
static void norm_backward(lf_net *net, const float *x, const float *inverse, lf_weight weight, int i_layer)
{
    const lf_norm_backward p = {.n = net->rows->n,
                                .dim = net->params->config.dim,
                                .w = lf_net_vector(net, weight, i_layer),
                                .x = x,
                                .inverse = inverse,
                                .dy = net->narrow,
                                .dx = net->dx,
                                .dx_operand = net->dx_operand == net->dx ? NULL : net->dx_operand,
                                .operand = net->operand,
                                .dw = lf_net_gradient(net, weight, i_layer),
                                .partial = net->partial};
    net->ops->norm_backward(&p);
}

void lf_layer_output_norm(lf_net *net)
{
    norm(net, net->out_in, net->out_inverse, stream_at(net, net->params->config.n_layers), LF_W_OUTPUT_NORM,
         0, NULL, NULL);
}

void lf_layer_output_norm_backward(lf_net *net)
{
    norm_backward(net, stream_at(net, net->params->config.n_layers), net->out_inverse, LF_W_OUTPUT_NORM, 0);
}

/* ---- attention ---- */

static lf_rotate rotation(const lf_net *net, int i_layer)
{
    const lf_config *c = &net->params->config;
    const lf_saved *s = &net->saved[i_layer];
    return (lf_rotate){.n = net->rows->n,
                       .n_heads = c->n_heads,
                       .n_kv_heads = c->n_kv_heads,
                       .head_dim = c->head_dim,
                       .rows_padded = lf_attention_rows_padded(net->attention),
                       .dim_padded = lf_attention_dim_padded(net->attention),
                       .cos = net->cos,
                       .sin = net->sin,
                       .bias = lf_net_vector(net, LF_W_Q_BIAS, i_layer),
                       .q_norm = lf_net_vector(net, LF_W_Q_NORM, i_layer),
                       .k_norm = lf_net_vector(net, LF_W_K_NORM, i_layer),
                       .eps = c->norm_eps,
                       .inverse = s->head_inverse,
                       .qkv = s->qkv,
                       .heads = s->heads,
                       .heads_dtype = lf_attention_dtype(net->attention)};
}

static lf_status attention_forward(lf_net *net, int i_layer)
{
    lf_status status = LF_OK;
    const lf_config *c = &net->params->config;
    const lf_saved *s = &net->saved[i_layer];
    const int n = net->rows->n;
    norm(net, s->attn_in, s->attn_inverse, stream_at(net, i_layer), LF_W_ATTN_NORM, i_layer, NULL, NULL);
    LF_TRY(lf_net_forward_product(net, s->qkv, LF_DTYPE_F32, s->attn_in, lf_net_operand(net, LF_W_Q, i_layer),
                                  n, qkv_width(c), c->dim));
    const lf_rotate rotate = rotation(net, i_layer);
    net->ops->rotate(&rotate);
    lf_attention_forward(net->attention, s->attended, s->lse, s->heads);
    LF_TRY(lf_net_forward_product(net, net->narrow, LF_DTYPE_F32, s->attended,
                                  lf_net_operand(net, LF_W_ATTN_OUTPUT, i_layer), n, c->dim, q_width(c)));
done:
    return status;
}

static lf_status attention_backward(lf_net *net, int i_layer)
{
    lf_status status = LF_OK;
    const lf_config *c = &net->params->config;
    const lf_saved *s = &net->saved[i_layer];
    const int n = net->rows->n;
    LF_TRY(lf_net_weight_gradient(net, lf_net_gradient(net, LF_W_ATTN_OUTPUT, i_layer), net->dx_operand,
                                  s->attended, n, c->dim, q_width(c)));
    LF_TRY(lf_net_input_gradient(net, net->d_mid, net->dx_operand,
                                 lf_net_operand(net, LF_W_ATTN_OUTPUT, i_layer), n, c->dim, q_width(c)));
    const lf_attention_gradient g = lf_attention_backward(net->attention, net->d_mid, s->attended, s->lse,
                                                          s->heads);
    const lf_rotate forward = rotation(net, i_layer);
    const lf_rotate_backward rotate = {.forward = &forward,
                                       .dq = g.dq,
                                       .n_dq = g.n_dq,
                                       .dk = g.dk,
                                       .dv = g.dv,
                                       .dqkv = net->d_wide,
                                       .operand = net->operand,
                                       .d_bias = lf_net_gradient(net, LF_W_Q_BIAS, i_layer),
                                       .d_q_norm = lf_net_gradient(net, LF_W_Q_NORM, i_layer),
                                       .d_k_norm = lf_net_gradient(net, LF_W_K_NORM, i_layer),
                                       .partial = net->partial};
    net->ops->rotate_backward(&rotate);
    LF_TRY(lf_net_weight_gradient(net, lf_net_gradient(net, LF_W_Q, i_layer), net->d_wide, s->attn_in, n,
                                  qkv_width(c), c->dim));
    LF_TRY(lf_net_input_gradient(net, net->narrow, net->d_wide, lf_net_operand(net, LF_W_Q, i_layer), n,
                                 qkv_width(c), c->dim));
    norm_backward(net, stream_at(net, i_layer), s->attn_inverse, LF_W_ATTN_NORM, i_layer);
done:
    return status;
}

/* ---- feed-forward ---- */

/* mid, ffn_in and gate_up, from `narrow`, what attention adds to the stream. */
static lf_status ffn_begin(lf_net *net, int i_layer)
{
    const lf_config *c = &net->params->config;
    const lf_saved *s = &net->saved[i_layer];
    const int n = net->rows->n;
    norm(net, s->ffn_in, s->ffn_inverse, stream_at(net, i_layer), LF_W_FFN_NORM, i_layer, s->mid,
         net->narrow);
    return lf_net_forward_product(net, s->gate_up, net->operand, s->ffn_in,
                                  lf_net_operand(net, LF_W_GATE, i_layer), n, 2 * c->ffn_dim, c->dim);
}

static lf_status ffn_end(lf_net *net, int i_layer)
{
    lf_status status = LF_OK;
    const lf_config *c = &net->params->config;
    const lf_saved *s = &net->saved[i_layer];
    const int n = net->rows->n;
    net->ops->swiglu(net->act, s->gate_up, net->operand, n, c->ffn_dim);
    LF_TRY(lf_net_forward_product(net, net->narrow, LF_DTYPE_F32, net->act,
                                  lf_net_operand(net, LF_W_DOWN, i_layer), n, c->dim, c->ffn_dim));
    net->ops->add(stream_at(net, i_layer + 1), s->mid, net->narrow, (size_t)n * (size_t)c->dim);
done:
    return status;
}

static lf_status ffn_backward(lf_net *net, int i_layer)
{
    lf_status status = LF_OK;
    const lf_config *c = &net->params->config;
    const lf_saved *s = &net->saved[i_layer];
    const int n = net->rows->n;
    LF_TRY(lf_net_input_gradient(net, net->d_mid, net->dx_operand, lf_net_operand(net, LF_W_DOWN, i_layer), n,
                                 c->dim, c->ffn_dim));
    net->ops->swiglu_backward(net->d_wide, net->act, s->gate_up, net->d_mid, net->operand, n, c->ffn_dim);
    LF_TRY(lf_net_weight_gradient(net, lf_net_gradient(net, LF_W_DOWN, i_layer), net->dx_operand, net->act, n,
                                  c->dim, c->ffn_dim));
    LF_TRY(lf_net_weight_gradient(net, lf_net_gradient(net, LF_W_GATE, i_layer), net->d_wide, s->ffn_in, n,
                                  2 * c->ffn_dim, c->dim));
    LF_TRY(lf_net_input_gradient(net, net->narrow, net->d_wide, lf_net_operand(net, LF_W_GATE, i_layer), n,
                                 2 * c->ffn_dim, c->dim));
    norm_backward(net, s->mid, s->ffn_inverse, LF_W_FFN_NORM, i_layer);
done:
    return status;
}

/* ---- the layer ---- */

lf_status lf_layer_recompute(lf_net *net, int i_layer)
{
    const lf_status status = attention_forward(net, i_layer);
    return status == LF_OK ? ffn_begin(net, i_layer) : status;
}

lf_status lf_layer_forward(lf_net *net, int i_layer)
{
    const lf_status status = lf_layer_recompute(net, i_layer);
    return status == LF_OK ? ffn_end(net, i_layer) : status;
}

lf_status lf_layer_backward(lf_net *net, int i_layer)
{
    const lf_status status = ffn_backward(net, i_layer);
    return status == LF_OK ? attention_backward(net, i_layer) : status;
}
