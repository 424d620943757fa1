/* What the converters share: the list of tensors to write, the loop that streams them, and the model's metadata. */
#ifndef LF_CONVERT_CONVERT_INT_H
#define LF_CONVERT_CONVERT_INT_H

#include "convert/convert.h"
#include "model/source.h"
#include "token/tokenizer.h"

/* One tensor of the output. A matrix has rows of n_cols elements; a vector is one row, or, where its elements change
 * places, rows of one. */
typedef struct lf_out_tensor {
    char name[LF_WEIGHT_NAME_MAX];
    bool matrix;
    lf_dtype dtype, src_dtype;
    int64_t n_rows, n_cols;
    const uint8_t *src; /* (n_rows, n_cols) of src_dtype, in the input; any alignment */
    int pair_dim;       /* head dimension when rows go from half-split into adjacent pairs; 0: they stay */
} lf_out_tensor;

typedef struct lf_out_plan {
    const lf_config *config;
    int dtype;       /* of params */
    bool half_split; /* the input's Q and K rotate dimension i with i + head_dim / 2 */
    lf_out_tensor *tensors;
    size_t n, cap;
    int n_fallback;
} lf_out_plan;

/* Adds a weight, named and shaped as config says, whose elements are at src. */
lf_status lf_out_plan_add(lf_out_plan *plan, lf_weight weight, int i_layer, const void *src,
                          lf_dtype src_dtype, lf_error *err);

/* Adds every weight that the source has. */
lf_status lf_out_plan_add_source(lf_out_plan *plan, const lf_source *source, lf_error *err);

void lf_out_plan_free(lf_out_plan *plan);

/* The keys that describe the types, and setting them for a model whose matrices have this one. */
#define LF_OUT_FILE_TYPE_KEY            "general.file_type"
#define LF_OUT_QUANTIZATION_VERSION_KEY "general.quantization_version"
void lf_out_set_file_type(lf_gguf_writer *w, lf_dtype dtype);

/* Sets general.* and the hyper-parameters; `path` gives the model its name. */
lf_status lf_out_set_config(lf_gguf_writer *w, const lf_config *c, const char *path, lf_dtype file_type,
                            lf_error *err);

/* Sets the tokenizer's keys; LF_EFORMAT when it has more tokens than the embedding has rows. */
lf_status lf_out_set_tokenizer(lf_gguf_writer *w, const lf_tokenizer *t, const char *path, int n_vocab,
                               lf_error *err);

/* The same from a file: llama2.c's tokenizer.bin, or what lf_tokenizer_from_file takes. */
lf_status lf_out_set_tokenizer_file(lf_gguf_writer *w, const char *path, int n_vocab, lf_error *err);

/* *out (head_dim / 2), malloc'ed: the divisors of llama3 scaling; NULL for any other model. */
lf_status lf_out_make_rope_freqs(float **out, const lf_config *c, lf_error *err);

/* Declares the plan's tensors, writes the header, streams the data, finishes the file and fills params->result. */
lf_status lf_out_write(lf_gguf_writer *w, const lf_out_plan *plan, const lf_convert_params *params,
                       lf_error *err);

#endif
