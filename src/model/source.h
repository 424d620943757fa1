/* A model on disk, in either form: a GGUF file or a Hugging Face folder (config.json and safetensors). It answers two
 * questions: what is the model's shape, and where are the bytes of a weight. Both forms are checked here, once, so that
 * what reads weights from a source can trust every shape. */
#ifndef LF_MODEL_SOURCE_H
#define LF_MODEL_SOURCE_H

#include "file/gguf.h"
#include "file/safetensors.h"
#include "model/config.h"
#include "model/names.h"

typedef struct lf_source {
    lf_config config;
    lf_name_form form;
    lf_gguf *gguf; /* one of the two is NULL */
    lf_safetensors *st;
    char *path; /* as given */
} lf_source;

/* Opens a .gguf file or a folder, reads its config and checks that every weight the config calls for is there with its
 * shape and a supported type, and that there is no tensor which lookfar would silently ignore. Errors: LF_EIO, LF_EFORMAT,
 * LF_EUNSUPPORTED, LF_ENOMEM, each naming the file and the tensor or key. */
lf_status lf_source_open(lf_source *out, const char *path, lf_error *err);
void lf_source_close(lf_source *s); /* a zeroed source is fine */

/* The tensor of a weight, or NULL when the model has none (tied output, no biases, ...). */
const lf_tensor_info *lf_source_find(const lf_source *s, lf_weight weight, int i_layer);

size_t lf_source_n_tensors(const lf_source *s);
const lf_tensor_info *lf_source_tensor_at(const lf_source *s, size_t i);

/* The shape of a weight in a model of this config: n_out rows of n_in, vectors as (1, n). */
void lf_weight_shape(const lf_config *c, lf_weight weight, int64_t *n_out, int64_t *n_in);

/* Whether the weight is a matrix (packed, quantised) rather than a vector (kept in f32). */
bool lf_weight_is_matrix(lf_weight weight);

/* Whether a model of this config has the weight. */
bool lf_weight_expected(const lf_config *c, lf_weight weight);

/* Which source row is row i_out of a Q or K matrix (or bias) in the half-split order that lookfar rotates in, for a head
 * whose first row is a multiple of head_dim. GGUF files of architecture llama keep the pairs of a rotation adjacent (2i,
 * 2i + 1); everything else keeps them half a head apart. Other weights: i_out itself. */
int64_t lf_source_row(const lf_source *s, lf_weight weight, int64_t i_out);

#endif
