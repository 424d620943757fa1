/* Training data as batches of rows, drawn from token files in an order that is a pure function of a seed.
 *
 * Pieces. Every document is cut into pieces of at most `context` rows, the first at its start. A piece is
 * read as a model reads a prompt: positions from 0, and bos first where the tokenizer has one, so the
 * pieces of a long document each get a bos of their own. Every token but a document's first is a target
 * once.
 *
 *   document    b t0 t1 t2 t3 t4 e           context 4, bos
 *   piece 0     b t0 t1 t2      targets t0 t1 t2 t3
 *   piece 1     b t3 t4         targets -  t4 e          (t3 was a target already)
 *
 * Order. A file is divided into windows of as many tokens as a piece advances; a window stands for the
 * pieces that start in it. An epoch draws weight x windows from each file, all files shuffled together:
 * draw d of a file is window d mod n of a permutation that is another one in each pass over the file.
 * Permutations are computed where they are used (data_permute.h), so nothing of the size of the data is in
 * memory, and a cursor of three numbers says where the reader is.
 *
 * Packing. Pieces stand side by side in a micro-batch as long as they fit whole; each row sees its own
 * piece only. Rows that see and ask for nothing fill it up to a multiple of LF_BATCH_ROUND, so that the
 * network meets few sizes. */
#ifndef LF_TRAIN_DATA_H
#define LF_TRAIN_DATA_H

#include "train/net.h"
#include "train/token_file.h"

typedef struct lf_data_source {
    const lf_token_file *file; /* borrowed */
    double weight;             /* passes over the file in an epoch, > 0 */
} lf_data_source;

/* Which documents are drawn, by a hash of the document's number, the same in every run. */
typedef enum lf_data_part { LF_DATA_ALL, LF_DATA_TRAIN, LF_DATA_HELD_OUT } lf_data_part;

typedef struct lf_data_params {
    int context;     /* rows of a piece at most, 2 or more */
    uint64_t seed;   /* of the order */
    double hold_out; /* share of the documents that LF_DATA_HELD_OUT draws and LF_DATA_TRAIN does not */
    lf_data_part part;
} lf_data_params;

typedef struct lf_data lf_data;

/* LF_EINVAL when nothing can be drawn: no document, or none on this side of hold_out. */
lf_status lf_data_create(lf_data **out, const lf_data_source *sources, int n_sources,
                         const lf_data_params *params, lf_error *err);
void lf_data_free(lf_data *d); /* NULL is fine */

/* Where a reader is: at the i_piece-th piece of the i_draw-th window of an epoch. Starts as zeros. */
typedef struct lf_data_cursor {
    int64_t epoch, i_draw, i_piece;
} lf_data_cursor;

/* Windows of an epoch. */
int64_t lf_data_epoch_draws(const lf_data *d);

enum { LF_BATCH_ROUND = 64 };

/* Rows for one step, in micro-batches. */
typedef struct lf_batch {
    int n_micro, micro_rows; /* at most, for each micro-batch */
    int32_t *token, *pos, *own,
        *target;      /* (n_micro, micro_rows); own counts from its micro-batch's first row */
    int *n_rows;      /* (n_micro) */
    int *n_targets;   /* (n_micro) */
    int64_t n_tokens; /* rows of all micro-batches that belong to pieces */
} lf_batch;

lf_status lf_batch_create(lf_batch *out, int n_micro, int micro_rows, lf_error *err);
void lf_batch_free(lf_batch *b); /* a zeroed batch is fine */

/* Fills the batch from the cursor on and moves the cursor. micro_rows >= context. Epochs follow each other
 * without end, or, with `one_epoch`, the batch ends where the epoch does: then some micro-batches may be
 * empty. */
void lf_data_fill(const lf_data *d, lf_data_cursor *cursor, lf_batch *b, bool one_epoch);

/* Micro-batch i as the net takes it. */
lf_train_rows lf_batch_rows(const lf_batch *b, int i_micro);

/* Those of all micro-batches. */
int64_t lf_batch_n_targets(const lf_batch *b);

#endif
