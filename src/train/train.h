/* A training run on texts: lf_train of lookfar.h. The loop is loop.h's; here are its parameters and its
 * inputs. */
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

/* The same for those that say what the texts are. */
lf_status lf_train_inputs_check(const lf_train_params *params, lf_error *err);

/* Token files of a run: those of `data`, then those of `valid`. */
typedef struct lf_train_files {
    lf_token_file *list; /* (n) */
    int n;
} lf_train_files;

/* Opens every input, turning texts into token files first. */
lf_status lf_train_files_open(lf_train_files *out, const lf_train_params *p, const lf_train_folder *folder,
                              const lf_tokenizer *tokenizer, lf_error *err);
void lf_train_files_close(lf_train_files *f); /* zeroed files are fine */

/* The data of the run's first n_data files, with their weights. */
lf_status lf_train_data_create(lf_data **out, const lf_train_files *files, const lf_train_params *p,
                               const lf_data_params *params, lf_error *err);

/* Forward and backward over a batch: *loss = scale times the sum over its targets. */
lf_status lf_train_batch(double *loss, const lf_batch *b, double scale, lf_net *net, float *grad,
                         lf_error *err);

/* What a checkpoint must agree with; NULL without memory. */
json_t *lf_train_identity(const lf_train_params *p, const lf_train_files *files, const lf_train_model *model);

/* Tells on_event; LF_ECANCELED when it says to stop. */
lf_status lf_train_tell(const lf_train_params *p, lf_train_event *event, lf_error *err);

#endif
