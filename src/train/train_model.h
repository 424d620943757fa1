/* The model of a run: where its weights come from, and how they become a file. */
#ifndef LF_TRAIN_TRAIN_MODEL_H
#define LF_TRAIN_TRAIN_MODEL_H

#include "token/tokenizer.h"
#include "train/params.h"

typedef struct lf_train_model {
    lf_params params;
    lf_tokenizer *tokenizer;
    const char *tokenizer_path; /* for messages; borrowed */
    uint64_t start_hash;        /* of the weights at the start */
} lf_train_model;

/* The tokenizer alone, from tokenizer_path or the model. LF_EINVAL: the model has another one. */
lf_status lf_train_model_open_tokenizer(lf_train_model *out, const lf_train_params *p, lf_error *err);

/* Whether the output can have the tokenizer: what GGUF cannot say is better known before a run than at its
 * end. LF_EUNSUPPORTED. */
lf_status lf_train_model_check_output(const lf_train_model *m, lf_error *err);

/* The weights, from model_path or at random by shape and seed; the tokenizer is open. LF_EINVAL for a
 * shape that is not one, and when the tokenizer has more tokens than the embedding rows. */
lf_status lf_train_model_open_weights(lf_train_model *m, const lf_train_params *p, lf_error *err);
void lf_train_model_close(lf_train_model *m); /* a zeroed model is fine */

/* Writes a GGUF file with the weights as they are, matrices as dtype, and the tokenizer. */
lf_status lf_train_model_export(const lf_train_model *m, const char *path, const char *name, lf_dtype dtype,
                                int n_threads, lf_error *err);

#endif
