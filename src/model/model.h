/* A model in memory: weights packed for the kernels, read from a source.
 *
 * Matrices are lf_packed; vectors (norms, biases) stay float. Q and K rows are brought into half-split order while
 * packing, so that a GGUF and the Hugging Face folder it came from give the same bits. */
#ifndef LF_MODEL_MODEL_H
#define LF_MODEL_MODEL_H

#include "base/threads.h"
#include "kernel/packed.h"
#include "model/source.h"

typedef struct lf_layer {
    float *attn_norm;       /* (dim) */
    lf_packed q;            /* (n_heads head_dim, dim) */
    lf_packed k, v;         /* (n_kv_heads head_dim, dim) */
    float *q_bias;          /* (n_heads head_dim), NULL without bias; likewise the next two */
    float *k_bias, *v_bias; /* (n_kv_heads head_dim) */
    float *q_norm, *k_norm; /* (head_dim), NULL without QK norm */
    lf_packed attn_output;  /* (dim, n_heads head_dim) */
    float *ffn_norm;        /* (dim) */
    lf_packed gate, up;     /* (ffn_dim, dim) */
    lf_packed down;         /* (dim, ffn_dim) */
} lf_layer;

typedef struct lf_model {
    lf_config config;
    lf_layer *layers;   /* (n_layers) */
    float *output_norm; /* (dim) */
    float *rope_freqs;  /* (head_dim / 2) radians per position */
    lf_packed output;   /* (n_vocab, dim) */
    /* The embedding, (n_vocab, dim): rows as the file has them, or NULL when tied: then rows of `output`. */
    uint8_t *embd;
    lf_dtype embd_dtype;
    size_t embd_row_bytes;
    size_t weight_bytes; /* memory held by all of the above */
} lf_model;

/* Called while loading with the bytes of the file read so far, from the calling thread; returning false cancels. */
typedef bool lf_load_progress_fn(void *cookie, size_t done_bytes, size_t total_bytes);

typedef struct lf_load_params {
    int weight_dtype; /* an lf_dtype that every matrix is converted to, or -1: as the file has them */
    lf_load_progress_fn *progress; /* may be NULL */
    void *cookie;
} lf_load_params;

/* Loads every weight, in parallel on the team. The source can be closed afterwards. A weight that is not finite is
 * LF_EFORMAT, naming tensor and row. LF_EINVAL when weight_dtype cannot hold a matrix of this model. */
lf_status lf_model_load(lf_model *out, const lf_source *source, lf_threads *threads,
                        const lf_load_params *params, lf_error *err);
void lf_model_free(lf_model *m); /* a zeroed model is fine */

/* The bytes that loading will take; false when weight_dtype does not fit a matrix of this model. */
bool lf_model_plan_bytes(const lf_source *source, int weight_dtype, size_t *out);

/* out (dim) = the embedding of a token. */
void lf_model_embed(float *out, const lf_model *m, int32_t token);

#endif
