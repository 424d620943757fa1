/* Texts into token files.
 *
 *   text    documents separated by a string; a file without it is one document
 *   JSONL   an object a line: a prompt, made from its fields by a template, and a response; the prompt does not count in the
 *           loss unless asked for
 *
 * A document becomes bos (where the tokenizer puts one before a prompt), its tokens, and an
 * end-of-sequence token (where the tokenizer has one). Prompt and response are encoded apart, as they are
 * when the model is used. Special tokens are not looked for in the text. A document of more than
 * LF_DATA_TEXT_PART bytes is encoded in parts that end at line ends, so that memory stays constant; a
 * tokenizer that puts a space before a text puts one before each part.
 *
 * Text is UTF-8 without NUL bytes; anything else is an error that names the byte. */
#ifndef LF_TRAIN_DATA_TEXT_H
#define LF_TRAIN_DATA_TEXT_H

#include "token/tokenizer.h"
#include "train/token_file.h"

enum { LF_DATA_TEXT_PART = 16 << 20 };

typedef struct lf_data_text_options {
    const char *separator;   /* of documents; "": every file is one document */
    const char *template;    /* {field} stands for a field's text; other characters for themselves */
    const char *response;    /* the field of the response */
    bool train_prompt;       /* prompts count in the loss */
    lf_progress_fn progress; /* bytes of the input; may be NULL */
    void *cookie;
} lf_data_text_options;

/* What a token file made with this tokenizer says: vocab_hash covers every piece, its kind, bos and the ends. */
lf_token_info lf_data_token_info(const lf_tokenizer *t);

/* Writes the token file at out_path from the file at path, JSONL when its name ends in ".jsonl". A file
 * that is there already and was made from the same bytes with the same tokenizer and options is kept.
 * LF_EFORMAT, LF_EIO, LF_ECANCELED, LF_ENOMEM. */
lf_status lf_data_text_prepare(const char *out_path, const char *path, const lf_tokenizer *t,
                               const lf_data_text_options *options, lf_error *err);

#endif
