/* A training run: lf_train of lookfar.h, in the order in which it happens.
 *
 *   folder locked -> inputs into token files -> weights -> checkpoint read (resume)
 *   for each step    batch -> forward and backward of each micro-batch -> [checkpoint] -> AdamW -> log, event
 *                    [validation] [samples]
 *   validation -> checkpoint -> model.gguf
 *
 * A checkpoint that is due is written inside a step, of the weights before it, once the step's loss and gradient have shown that
 * these are good. Nothing that depends on time enters the weights. */
#ifndef LF_TRAIN_TRAIN_H
#define LF_TRAIN_TRAIN_H

#include "train/schedule.h"
#include "train/train_eval.h"
#include "train/train_folder.h"
#include "train/data_text.h"
#include "train/train_model.h"
#include "train/train_optim.h"

/* The parameters with every default filled in, or LF_EINVAL naming the one that is wrong. */
lf_status lf_train_params_check(lf_train_params *out, const lf_train_params *params, lf_error *err);

/* Token files of a run: those of `data`, then those of `valid`. */
typedef struct lf_train_files {
    lf_token_file *list; /* (n) */
    int n;
} lf_train_files;

/* Opens every input, turning texts into token files first. */
lf_status lf_train_files_open(lf_train_files *out, const lf_train_params *p, const lf_train_folder *folder,
                              const lf_tokenizer *tokenizer, lf_error *err);
void lf_train_files_close(lf_train_files *f); /* zeroed files are fine */

/* What a checkpoint must agree with; NULL without memory. */
json_t *lf_train_identity(const lf_train_params *p, const lf_train_files *files, const lf_train_model *model);

/* Tells on_event; LF_ECANCELED when it says to stop. */
lf_status lf_train_tell(const lf_train_params *p, lf_train_event *event, lf_error *err);

#endif
