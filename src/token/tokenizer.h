/* Text to token ids and back.
 *
 * Two algorithms serve the LLaMA family: SentencePiece BPE (Llama 2, Mistral, TinyLlama: scores, byte fallback) and
 * byte-level BPE (GPT-2, Llama 3, Qwen2: ranked merges over pieces cut by a pre-tokeniser pattern). A tokenizer is
 * immutable once loaded, so that threads can share it. */
#ifndef LF_TOKEN_TOKENIZER_H
#define LF_TOKEN_TOKENIZER_H

#include "base/mem.h"
#include "base/status.h"
#include "file/gguf.h"

typedef struct lf_tokenizer lf_tokenizer;

/* From the metadata of a GGUF file (tokenizer.ggml.*). */
lf_status lf_tokenizer_from_gguf(lf_tokenizer **out, const lf_gguf *g, lf_error *err);

/* From a model folder: tokenizer.json, else tokenizer.model (SentencePiece, or tiktoken ranks as Llama 3 ships them),
 * else vocab.json + merges.txt; with special tokens, chat template and flags of tokenizer_config.json,
 * special_tokens_map.json and generation_config.json where they are there. From a file: one of the same, by content. */
lf_status lf_tokenizer_from_dir(lf_tokenizer **out, const char *dir, lf_error *err);
lf_status lf_tokenizer_from_file(lf_tokenizer **out, const char *path, lf_error *err);

void lf_tokenizer_free(lf_tokenizer *t); /* NULL is fine */

enum { LF_TOKEN_NONE = -1 };

typedef enum lf_token_kind { /* the numbers of tokenizer.ggml.token_type */
                             LF_TOKEN_NORMAL = 1,
                             LF_TOKEN_UNKNOWN = 2,
                             LF_TOKEN_CONTROL = 3,
                             LF_TOKEN_USER_DEFINED = 4,
                             LF_TOKEN_UNUSED = 5,
                             LF_TOKEN_BYTE = 6,
} lf_token_kind;

int32_t lf_tokenizer_n_vocab(const lf_tokenizer *t); /* highest id + 1 */
int32_t lf_tokenizer_bos(const lf_tokenizer *t);     /* LF_TOKEN_NONE when the model has none */
bool lf_tokenizer_adds_bos(const lf_tokenizer *t);   /* whether encoding a prompt starts with bos */
bool lf_tokenizer_is_eos(const lf_tokenizer *t,
                         int32_t id); /* eos, eot, and every id generation_config.json names */
lf_token_kind lf_tokenizer_kind(const lf_tokenizer *t, int32_t id);
int32_t
lf_tokenizer_eos(const lf_tokenizer *t); /* the first of them, eos_token; LF_TOKEN_NONE when there is none */
const char *lf_tokenizer_chat_template(const lf_tokenizer *t);       /* Jinja text, or NULL */
const char *lf_tokenizer_chat_template_tools(const lf_tokenizer *t); /* the one named "tool_use", or NULL */

/* The stored piece of a token (as in the vocabulary: "▁the", "Ġthe", "<0x0A>"), *len bytes, borrowed. */
const char *lf_tokenizer_piece(const lf_tokenizer *t, int32_t id, size_t *len);

/* The bytes of a token in the middle of a text, LF_TOKEN_BYTES_LIMIT at most; returns how many. */
size_t lf_tokenizer_bytes(const lf_tokenizer *t, int32_t id, char *out);

/* Appends the ids of text[0..len) to out, without bos. The text may hold any bytes; bytes that are not UTF-8 are
 * encoded as themselves where the vocabulary has bytes, else as the unknown token (only a SentencePiece tokenizer.model
 * reads each of them as U+FFFD, as its library does). parse_special: names of special
 * tokens in the text ("<|eot_id|>") become those tokens; otherwise they are plain text. Time is linear in len up to a
 * logarithm. LF_ENOMEM; LF_ELIMIT for a text over 1 GiB. */
lf_status lf_tokenizer_encode(const lf_tokenizer *t, const char *text, size_t len, bool parse_special,
                              lf_ids *out, lf_error *err);

/* Streaming detokenisation: appends the bytes that became certain with this token, only whole UTF-8 code points; an
 * incomplete tail waits in the state. lf_detok_finish appends what is left (U+FFFD for an incomplete tail). A byte that
 * can never become UTF-8 comes out as U+FFFD at once. Control and unknown tokens give text only when `special`.
 * Zero-initialise the state; `started` is how SentencePiece's leading space of the first piece is dropped. An error
 * leaves state and out as they were. */
typedef struct lf_detok {
    uint8_t tail[4];
    uint8_t n_tail;
    bool started; /* set by the first token that is text; set it beforehand to continue an earlier text */
} lf_detok;
lf_status lf_detok_push(lf_detok *state, const lf_tokenizer *t, int32_t id, bool special, lf_bytes *out,
                        lf_error *err);
lf_status lf_detok_finish(lf_detok *state, lf_bytes *out, lf_error *err);

/* LF_EINVAL, naming the first token that differs, unless both have the same number of tokens with the same pieces and kinds. */
lf_status lf_tokenizer_check_same(const lf_tokenizer *a, const char *a_name, const lf_tokenizer *b,
                                  const char *b_name, lf_error *err);

/* ---- for writing a GGUF ---- */

/* Sets every tokenizer.ggml.* key (model, pre, tokens, scores, token_type, merges, special ids, add_bos_token,
 * chat template) so that lookfar and llama.cpp read back the same tokenizer; up to n_vocab_padded the vocabulary is
 * filled with unused tokens. LF_EUNSUPPORTED for a normalizer or pre-tokenizer that GGUF cannot name. */
lf_status lf_tokenizer_write_gguf(const lf_tokenizer *t, lf_gguf_writer *w, int32_t n_vocab_padded,
                                  lf_error *err);

#endif
