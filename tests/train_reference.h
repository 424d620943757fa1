/* The network once more, in double precision and as plainly as it can be written: what the trainer is held
 * against. */
#ifndef LF_TESTS_TRAIN_REFERENCE_H
#define LF_TESTS_TRAIN_REFERENCE_H

#include "train/net.h"

/* Logits (rows->n, n_vocab) of a model whose weights are `data`, laid out as in params. */
void reference_logits(double *logits, const lf_params *params, const double *data, const lf_train_rows *rows);

/* The loss of lf_cross_entropy_loss for those. */
double reference_loss(const lf_params *params, const double *data, const lf_train_rows *rows,
                      const lf_cross_entropy *ce);

#endif
