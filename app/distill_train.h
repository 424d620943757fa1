/* What `distill train` and `distill run` share. */
#ifndef LF_APP_DISTILL_TRAIN_H
#define LF_APP_DISTILL_TRAIN_H

#include "train_run.h"

/* Options that say what is learnt; give this as a child to argp. Its input is an lf_distill_train_params. */
extern const struct argp app_distill_recipe_argp;

/* What came of it, in a line on standard error. */
void app_distill_report(const lf_distill_train_result *result);

#endif
