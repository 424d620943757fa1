#include "model/names.h"

#include <stdio.h>

static const char *const once[LF_W_FIRST_OF_LAYER][2] = {
    [LF_W_TOKEN_EMBD] = {"token_embd.weight", "model.embed_tokens.weight"},
    [LF_W_OUTPUT_NORM] = {"output_norm.weight", "model.norm.weight"},
    [LF_W_OUTPUT] = {"output.weight", "lm_head.weight"},
    [LF_W_ROPE_FREQS] = {"rope_freqs.weight", ""},
};

static const char *const per_layer[LF_W_COUNT][2] = {
    [LF_W_ATTN_NORM] = {"attn_norm.weight", "input_layernorm.weight"},
    [LF_W_Q] = {"attn_q.weight", "self_attn.q_proj.weight"},
    [LF_W_K] = {"attn_k.weight", "self_attn.k_proj.weight"},
    [LF_W_V] = {"attn_v.weight", "self_attn.v_proj.weight"},
    [LF_W_Q_BIAS] = {"attn_q.bias", "self_attn.q_proj.bias"},
    [LF_W_K_BIAS] = {"attn_k.bias", "self_attn.k_proj.bias"},
    [LF_W_V_BIAS] = {"attn_v.bias", "self_attn.v_proj.bias"},
    [LF_W_Q_NORM] = {"attn_q_norm.weight", "self_attn.q_norm.weight"},
    [LF_W_K_NORM] = {"attn_k_norm.weight", "self_attn.k_norm.weight"},
    [LF_W_ATTN_OUTPUT] = {"attn_output.weight", "self_attn.o_proj.weight"},
    [LF_W_FFN_NORM] = {"ffn_norm.weight", "post_attention_layernorm.weight"},
    [LF_W_GATE] = {"ffn_gate.weight", "mlp.gate_proj.weight"},
    [LF_W_UP] = {"ffn_up.weight", "mlp.up_proj.weight"},
    [LF_W_DOWN] = {"ffn_down.weight", "mlp.down_proj.weight"},
};

void lf_weight_name(char *out, lf_weight weight, int i_layer, lf_name_form form)
{
    if (weight < LF_W_FIRST_OF_LAYER)
        (void)snprintf(out, LF_WEIGHT_NAME_MAX, "%s", once[weight][form]);
    else
        (void)snprintf(out, LF_WEIGHT_NAME_MAX, form == LF_NAMES_GGUF ? "blk.%d.%s" : "model.layers.%d.%s",
                       i_layer, per_layer[weight][form]);
}
