/* Loading: each file format fills a tokenizer that lf_tokenizer_new made; load.c picks the format, adds what the other
 * files of the folder say, and finishes. `name` is what errors call the file. */
#ifndef LF_TOKEN_LOAD_H
#define LF_TOKEN_LOAD_H

#include "file/json.h"
#include "token/tokenizer_int.h"

/* ---- formats ---- */

/* A SentencePiece ModelProto (tokenizer.model). */
lf_status lf_load_sentencepiece(lf_tokenizer *t, const void *data, size_t size, const char *name,
                                lf_error *err);

/* tiktoken ranks, one "base64 rank" a line (Llama 3's tokenizer.model). */
lf_status lf_load_tiktoken(lf_tokenizer *t, const void *data, size_t size, const char *name, lf_error *err);

/* Gives the 256 tokens that follow the ranks the names they have in Llama 3, for a folder that does not say. */
lf_status lf_load_llama3_specials(lf_tokenizer *t, const char *name, lf_error *err);

/* GPT-2's pair of files: vocab.json, already parsed, and the text of merges.txt. */
lf_status lf_load_vocab_and_merges(lf_tokenizer *t, const json_t *vocab, const char *name, const char *merges,
                                   size_t merges_size, const char *merges_name, lf_error *err);

/* A parsed tokenizer.json. */
lf_status lf_load_tokenizer_json(lf_tokenizer *t, const json_t *root, const char *name, lf_error *err);

/* ---- parts that formats share ---- */

/* t->vocab from an object {piece: id}; ids must be 0..n-1, once each, where `added` (may be NULL), an array of
 * {id, content, ...}, counts too. Every piece is of kind LF_TOKEN_NORMAL. */
lf_status lf_load_vocab_object(lf_tokenizer *t, const json_t *vocab, const json_t *added, const char *name,
                               lf_error *err);

/* The merge of rank `rank`: two pieces of the vocabulary that become a third. */
lf_status lf_load_merge(lf_tokenizer *t, uint32_t rank, const char *left, size_t left_len, const char *right,
                        size_t right_len, const char *name, lf_error *err);

/* Makes token `id`, which must be in the vocabulary or be the next, an added token with the flags of object {content,
 * special, lstrip, rstrip, single_word, normalized}. */
lf_status lf_load_added_token(lf_tokenizer *t, int64_t id, const json_t *object, const char *name,
                              lf_error *err);

/* Makes the tokens of kind control and unknown special, and the user-defined ones added tokens that are sought in
 * normalised text or not. For formats whose only flags are the kinds. */
lf_status lf_load_added_by_kind(lf_tokenizer *t, bool user_defined_normalized, lf_error *err);

/* Makes a token of the vocabulary special, if it is not yet. */
lf_status lf_load_special(lf_tokenizer *t, int32_t id, lf_error *err);

/* ---- the files beside ---- */

typedef struct lf_sidecar {
    const char *dir;                                /* the caller's */
    json_t *config;                                 /* tokenizer_config.json, or NULL; so the others */
    json_t *map;                                    /* special_tokens_map.json */
    json_t *generation;                             /* generation_config.json */
    char *config_name, *map_name, *generation_name; /* their paths */
} lf_sidecar;

lf_status lf_sidecar_open(lf_sidecar *s, const char *dir, lf_error *err);
void lf_sidecar_close(lf_sidecar *s);

/* The added_tokens_decoder of tokenizer_config.json; *found tells whether there was one. */
lf_status lf_sidecar_add_tokens(const lf_sidecar *s, lf_tokenizer *t, bool *found, lf_error *err);

/* tokenizer_class without the suffix "Fast", in a buffer of the caller; "" when there is none. */
lf_status lf_sidecar_class(const lf_sidecar *s, char class[64], lf_error *err);

/* Beginning and end tokens, add_bos_token and the chat template. */
lf_status lf_sidecar_apply(const lf_sidecar *s, lf_tokenizer *t, lf_error *err);

/* dir + "/" + file, malloc'ed; NULL without memory. */
char *lf_path_join(const char *dir, const char *file);

#endif
