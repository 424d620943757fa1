/* Token files: documents as token ids, written once and mapped afterwards.
 *
 *   header       128 bytes, below
 *   ids          (n_tokens) of 2 or 4 bytes; the top bit says that the token counts in the loss; zeros up to 8 bytes
 *   offsets      (n_docs + 1) u64: document d holds the tokens [offsets[d], offsets[d + 1])
 *
 *   header       0 "LFTOKENS"     8 u32 version (1)    12 u32 bytes of an id    16 u64 hash of the vocabulary
 *               24 u32 n_vocab   28 i32 bos or -1      32 u64 n_tokens          40 u64 n_docs
 *               48 u64 hash of what it was made from   56 u64 hash of the body
 *               64 zeros         120 u64 hash of the header before it
 *
 * All numbers are little-endian. Where bos is not -1, every document starts with it, and whoever cuts a
 * long document may start each part with it, as a prompt starts. A file is checked whole when it is
 * opened: afterwards every id is below n_vocab, and documents are in order, not empty, and cover all
 * tokens. */
#ifndef LF_TRAIN_TOKEN_FILE_H
#define LF_TRAIN_TOKEN_FILE_H

#include "base/map.h"

#define LF_TOKEN_FILE_MAGIC "LFTOKENS"
enum { LF_TOKEN_FILE_HEADER = 128, LF_TOKEN_FILE_VERSION = 1 };

/* What a file says about the ids in it. */
typedef struct lf_token_info {
    int n_vocab;
    int32_t bos;
    uint64_t vocab_hash;
    uint64_t source_hash; /* of what it was made from, so that it need not be made again; 0: unknown */
} lf_token_info;

typedef struct lf_token_file {
    lf_token_info info;
    int64_t n_tokens, n_docs;
    uint64_t body_hash;
    /* the rest is read by the functions below */
    lf_map map;
    int id_bytes;
    const uint8_t *ids;      /* (n_tokens) */
    const uint64_t *offsets; /* (n_docs + 1) */
} lf_token_file;

/* LF_EIO; LF_EFORMAT, naming the byte or the document, for anything that is not as above. */
lf_status lf_token_file_open(lf_token_file *out, const char *path, lf_error *err);
void lf_token_file_close(lf_token_file *f); /* a zeroed file is fine */

/* Whether the file at path begins as a token file does; false too when it cannot be read. */
bool lf_token_file_is(const char *path);

int32_t lf_token_file_id(const lf_token_file *f, int64_t i);
bool lf_token_file_counts(const lf_token_file *f, int64_t i);

/* The tokens [*first, *end) of document d. */
void lf_token_file_document(const lf_token_file *f, int64_t d, int64_t *first, int64_t *end);

/* The document that holds token i. */
int64_t lf_token_file_find(const lf_token_file *f, int64_t i);

/* ---- writing ---- */

typedef struct lf_token_writer lf_token_writer;

/* Constant memory. The file appears at `path` when it is finished (data_out.h). */
lf_status lf_token_writer_open(lf_token_writer **out, const char *path, const lf_token_info *info,
                               lf_error *err);

/* Appends ids (n), each below n_vocab, to the document; `counts`: they count in the loss. */
lf_status lf_token_writer_add(lf_token_writer *w, const int32_t *ids, size_t n, bool counts, lf_error *err);

/* Ends the document; one without tokens is none. */
lf_status lf_token_writer_end(lf_token_writer *w, lf_error *err);

int64_t lf_token_writer_n_tokens(const lf_token_writer *w);

/* At least one document has ended. */
lf_status lf_token_writer_finish(lf_token_writer *w, lf_error *err);
void lf_token_writer_close(lf_token_writer *w); /* leaves nothing behind unless finished; NULL is fine */

#endif
