/* The weights being trained: one float buffer with a slice for every weight of the model.
 *
 * Gradients and the optimiser's moments are buffers of the same layout, so that whatever walks over all
 * weights (norms, AdamW, checkpoints) is one loop. Q and K rows stand in half-split order (model/model.h),
 * as the network rotates them.
 *
 * K and V follow Q without a gap, their biases Q's, and up follows gate: each group reads the same input,
 * and as one matrix it is one product. Every other slice starts at a multiple of 16 floats. */
#ifndef LF_TRAIN_PARAMS_H
#define LF_TRAIN_PARAMS_H

#include "model/source.h"

typedef struct lf_param {
    lf_weight weight;
    int i_layer;         /* 0 for the weights that a model has once */
    int64_t n_out, n_in; /* vectors are (1, n) */
    size_t offset;       /* of its first float in `data` */
} lf_param;

typedef struct lf_params {
    lf_config config;
    lf_param *list; /* (n_list), in the order of lf_weight, layer by layer */
    int n_list;
    size_t n;    /* floats in all, padding included (which stays 0) */
    float *data; /* (n), 64-byte aligned */
    float *
        rope_divisors; /* (head_dim / 2) of the rotation frequencies, as a GGUF with llama3 scaling has them, or NULL */
} lf_params;

/* Zeroed weights for a model of this shape. LF_ELIMIT for a shape whose size no memory could hold, LF_ENOMEM. */
lf_status lf_params_create(lf_params *out, const lf_config *config, lf_error *err);
void lf_params_free(lf_params *p); /* zeroed params are fine */

/* Random weights: normal with standard deviation 0.02, the two matrices that write to the residual stream
 * (attn_output, down) divided by sqrt(2 n_layers); norms 1, biases 0. The same for the same seed, whatever
 * the threads. */
void lf_params_init_random(lf_params *p, uint64_t seed);

/* The weights of a model file, dequantised. p was created with the source's config (but for the keys that
 * shape no weight). LF_EFORMAT for a weight that is not finite, LF_ENOMEM. */
lf_status lf_params_load(lf_params *p, const lf_source *source, lf_error *err);

/* The index in `list` of a weight, or -1 when the model has none. */
int lf_params_find(const lf_params *p, lf_weight weight, int i_layer);

#endif
