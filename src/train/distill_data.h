/* The trajectories of a distillation: which are for training, which are held out, and in which order they
 * are drawn. */
#ifndef LF_TRAIN_DISTILL_DATA_H
#define LF_TRAIN_DISTILL_DATA_H

#include "token/tokenizer.h"
#include "train/data.h"
#include "train/pack.h"

/* Trajectory i of a file. */
typedef struct lf_distill_item {
    int i_file;
    int64_t i;
} lf_distill_item;

typedef struct lf_distill_list {
    lf_distill_item *items; /* (n) */
    int64_t n;
} lf_distill_list;

typedef struct lf_distill_data {
    lf_trajectory_file *files; /* (n_files) those of `trajectories`, then those of `valid` */
    int n_files;
    lf_distill_list train, held_out;
    int64_t n_skipped; /* that no batch takes */
    uint64_t hash;     /* of what is trained on */
} lf_distill_data;

/* `probe` says which trajectories fit a batch. hold_out is by a hash of the prompt: all trajectories of
 * one prompt are on one side. LF_EINVAL for a file of another tokenizer, and when nothing is left to train
 * on. */
lf_status lf_distill_data_open(lf_distill_data *out, const lf_distill_train_params *p,
                               const lf_tokenizer *tokenizer, const lf_pack *probe, lf_error *err);
void lf_distill_data_close(lf_distill_data *d); /* zeroed data are fine */

lf_trajectory lf_distill_data_get(const lf_distill_data *d, lf_distill_item item);

/* Fills the packs (n) with trajectories for training in the order of the seed, from the cursor on, which
 * moves; the rows in them. */
int64_t lf_distill_data_draw(const lf_distill_data *d, lf_data_cursor *cursor, uint64_t seed, lf_pack *packs,
                             int n);

/* One pack of the list from item *i on, which moves; its noise is the same in every run. */
void lf_distill_data_fill(const lf_distill_data *d, const lf_distill_list *list, int64_t *i, lf_pack *pack);

#endif
