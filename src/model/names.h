/* The weights of a LLaMA-family model and what files call them. */
#ifndef LF_MODEL_NAMES_H
#define LF_MODEL_NAMES_H

typedef enum lf_weight {
    /* once in a model */
    LF_W_TOKEN_EMBD,  /* (n_vocab, dim) */
    LF_W_OUTPUT_NORM, /* (dim) */
    LF_W_OUTPUT,      /* (n_vocab, dim); absent when tied to the embedding */
    LF_W_ROPE_FREQS,  /* (head_dim / 2) divisors of the rotation frequencies; GGUF only, llama3 scaling */
    /* once in a layer */
    LF_W_ATTN_NORM,   /* (dim) */
    LF_W_Q,           /* (n_heads head_dim, dim) */
    LF_W_K,           /* (n_kv_heads head_dim, dim) */
    LF_W_V,           /* (n_kv_heads head_dim, dim) */
    LF_W_Q_BIAS,      /* (n_heads head_dim): Qwen2 */
    LF_W_K_BIAS,      /* (n_kv_heads head_dim) */
    LF_W_V_BIAS,      /* (n_kv_heads head_dim) */
    LF_W_Q_NORM,      /* (head_dim): Qwen3 */
    LF_W_K_NORM,      /* (head_dim) */
    LF_W_ATTN_OUTPUT, /* (dim, n_heads head_dim) */
    LF_W_FFN_NORM,    /* (dim) */
    LF_W_GATE,        /* (ffn_dim, dim) */
    LF_W_UP,          /* (ffn_dim, dim) */
    LF_W_DOWN,        /* (dim, ffn_dim) */
    LF_W_COUNT,
    LF_W_FIRST_OF_LAYER = LF_W_ATTN_NORM,
} lf_weight;

typedef enum lf_name_form { LF_NAMES_GGUF, LF_NAMES_HF } lf_name_form;

enum { LF_WEIGHT_NAME_MAX = 96 };

/* Writes the name of a weight ("blk.3.attn_q.weight", "model.layers.3.self_attn.q_proj.weight") into out
 * (LF_WEIGHT_NAME_MAX); i_layer is ignored for the weights that a model has once. The HF form of LF_W_ROPE_FREQS is "". */
void lf_weight_name(char *out, lf_weight weight, int i_layer, lf_name_form form);

#endif
