/* Checkpoints: everything that a run needs to go on to the same bits.
 *
 *   header     64 bytes: 0 "LFCKPOIN", 8 u32 version, 12 u32 n_buffers, 16 u64 bytes of the identity, 24 u64 hash of the
 *              body, zeros, 56 u64 hash of the header before it
 *   body       lf_checkpoint_state; the identity, zeros up to 8 bytes; each buffer: u64 n, n floats, zeros up to 8 bytes
 *
 * The identity is a JSON object that says what the run trains on what data: a checkpoint goes on only in a
 * run whose identity is the same in every member. Little-endian. A file is checked whole before any of it
 * is used. */
#ifndef LF_TRAIN_CHECKPOINT_H
#define LF_TRAIN_CHECKPOINT_H

#include "file/json.h"
#include "train/data.h"

enum { LF_CHECKPOINT_VERSION = 1, LF_CHECKPOINT_HEADER = 64 };

typedef struct lf_checkpoint_state {
    int64_t n_steps;       /* taken */
    int64_t n_tokens;      /* rows seen */
    lf_data_cursor cursor; /* of the step to come */
    int64_t log_bytes;     /* of the log, up to the last step taken */
    double loss_mean;      /* running */
    double loss_best;      /* its least value */
    int64_t n_far;         /* steps for which it has been far above that */
} lf_checkpoint_state;

/* Floats to save or to fill. */
typedef struct lf_checkpoint_buffer {
    float *data; /* (n) */
    size_t n;
} lf_checkpoint_buffer;

/* An older checkpoint at path stays until the new one is complete. LF_EIO, LF_ENOMEM. */
lf_status lf_checkpoint_write(const char *path, const lf_checkpoint_state *state, const json_t *identity,
                              const lf_checkpoint_buffer *buffers, int n_buffers, lf_error *err);

/* LF_EFORMAT for a damaged file; LF_EINVAL, naming the member, for one of another identity or other sizes.
 * Nothing is changed unless the result is LF_OK. */
lf_status lf_checkpoint_read(lf_checkpoint_state *state, const lf_checkpoint_buffer *buffers, int n_buffers,
                             const json_t *identity, const char *path, lf_error *err);

#endif
