/* The shape and constants of a model, from config.json or from GGUF metadata.
 *
 * Variants are decided by keys and tensors, not by model names: GQA by the head counts, QKV bias, QK norm and tied
 * embeddings by the tensors that the file holds. A key that asks for something lookfar does not compute is an error
 * that names file, key, found and supported, never ignored. */
#ifndef LF_MODEL_CONFIG_H
#define LF_MODEL_CONFIG_H

#include "base/status.h"
#include "file/gguf.h"

#include <stdbool.h>

/* What GGUF calls general.architecture. Llama covers Llama 2/3, Mistral, Yi, TinyLlama, SmolLM2. */
typedef enum lf_arch { LF_ARCH_LLAMA, LF_ARCH_QWEN2, LF_ARCH_QWEN3, LF_ARCH_COUNT } lf_arch;

/* How rotation frequencies are stretched: linear divides all by `factor` (LLaMA-2-7B-32K); llama3 divides the low ones,
 * keeps the high ones and blends between (Llama 3.1). */
typedef enum lf_rope_scaling { LF_ROPE_PLAIN, LF_ROPE_LINEAR, LF_ROPE_LLAMA3 } lf_rope_scaling;

/* Query heads that may share one KV head. */
enum { LF_GROUP_MAX = 64 };

typedef struct lf_config {
    lf_arch arch;
    int n_layers;
    int dim;
    int n_heads, n_kv_heads; /* n_heads is 1 to LF_GROUP_MAX times n_kv_heads */
    int head_dim;            /* even; n_heads * head_dim need not be dim (Qwen3) */
    int ffn_dim;
    int n_vocab;        /* rows of the embedding */
    int n_ctx_max;      /* positions the model was made for */
    int sliding_window; /* positions a row sees, 0 for all: lookfar limits the context to it */
    float norm_eps;
    double rope_base;
    lf_rope_scaling rope_scaling;
    double rope_factor;                   /* linear and llama3 */
    double rope_low_freq, rope_high_freq; /* llama3: low_freq_factor, high_freq_factor */
    int rope_n_ctx_original;              /* llama3 */
    bool tied;                            /* output weights are the embedding's */
    bool qkv_bias;
    bool qk_norm;
} lf_config;

/* "llama", "qwen2", "qwen3". */
const char *lf_arch_name(lf_arch arch);

/* Reads dir/config.json. tied, qkv_bias and qk_norm are what the keys say; lf_source_open corrects the last two by the
 * tensors that are there. */
lf_status lf_config_from_dir(lf_config *out, const char *dir, lf_error *err);

/* Reads a config.json by its own path. */
lf_status lf_config_from_json(lf_config *out, const char *path, lf_error *err);

/* Reads the metadata of a GGUF file. */
lf_status lf_config_from_gguf(lf_config *out, const lf_gguf *g, lf_error *err);

/* The head_dim / 2 angular frequencies (radians per position) after scaling; divisors (head_dim / 2), when not NULL, are
 * a GGUF's rope_freqs and replace the llama3 formula. The arithmetic follows transformers (float32 steps,
 * modeling_rope_utils.py). */
void lf_config_rope_freqs(float *freqs, const lf_config *c, const float *divisors);

#endif
