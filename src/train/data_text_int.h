/* What the readers of texts share. */
#ifndef LF_TRAIN_DATA_TEXT_INT_H
#define LF_TRAIN_DATA_TEXT_INT_H

#include "train/data_text.h"

typedef struct lf_data_text {
    const char *path;
    const char *data; /* (size) the whole file, mapped */
    size_t size;
    const lf_tokenizer *tokenizer;
    const lf_data_text_options *options;
    lf_token_info info;
    int32_t eos; /* LF_TOKEN_NONE: the tokenizer has none */
    lf_token_writer *writer;
    lf_ids ids; /* of the part that is being encoded */
} lf_data_text;

/* Appends one part of a document. */
lf_status lf_data_text_add(lf_data_text *t, const char *text, size_t len, bool counts, lf_error *err);

/* A document begins and ends. */
lf_status lf_data_text_begin(lf_data_text *t, lf_error *err);
lf_status lf_data_text_end(lf_data_text *t, lf_error *err);

/* Whether there is only white space (ASCII's). */
bool lf_data_text_is_blank(const char *text, size_t len);

/* Reports how far into the file the reader is. */
lf_status lf_data_text_progress(const lf_data_text *t, const char *at, lf_error *err);

/* Every document of a JSONL file. */
lf_status lf_data_text_read_jsonl(lf_data_text *t, lf_error *err);

#endif
