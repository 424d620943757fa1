/* Files that appear whole or not at all: the trainer's token files and checkpoints.
 *
 *   open PATH.tmp -> room for a header -> body, buffered and hashed -> header into its room -> fsync -> rename -> fsync folder
 *
 * Until the rename an older file of that name stays as it was, whatever happens. */
#ifndef LF_TRAIN_DATA_OUT_H
#define LF_TRAIN_DATA_OUT_H

#include "base/status.h"

typedef struct lf_data_out lf_data_out;

lf_status lf_data_out_open(lf_data_out **out, const char *path, size_t header_bytes, lf_error *err);
lf_status lf_data_out_write(lf_data_out *o, const void *data, size_t bytes, lf_error *err);

/* The hash (data_hash.h) and the size of the body so far. */
uint64_t lf_data_out_hash(const lf_data_out *o);
uint64_t lf_data_out_size(const lf_data_out *o);

/* header: the header_bytes of lf_data_out_open. */
lf_status lf_data_out_finish(lf_data_out *o, const void *header, lf_error *err);

void lf_data_out_close(lf_data_out *o); /* removes the temporary file unless finished; NULL is fine */

#endif
