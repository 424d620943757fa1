/* The vocabulary: pieces by id, kinds, and the way back from a piece to its id. No two tokens share a piece. */
#ifndef LF_TOKEN_VOCAB_H
#define LF_TOKEN_VOCAB_H

#include "token/tokenizer.h"

enum {
    LF_VOCAB_MAX = 1 << 22,   /* tokens */
    LF_PIECE_BYTES_MAX = 1000 /* bytes of one piece; the longest real ones are 128 spaces, 256 bytes */
};

typedef struct lf_vocab {
    int32_t n;
    int32_t cap;
    uint32_t *ends; /* (n): piece i ends at ends[i] in text and begins where piece i - 1 ends */
    uint8_t *kinds; /* (n) lf_token_kind */
    lf_bytes text;
    int32_t *slots;   /* (n_slots), open addressing over the pieces: an id or LF_TOKEN_NONE */
    uint32_t n_slots; /* a power of two, at least 2 * cap */
} lf_vocab;

/* Gives the token of id vocab->n. LF_EFORMAT for an empty, overlong or repeated piece, LF_ELIMIT past LF_VOCAB_MAX;
 * `name` is the file that errors name. */
lf_status lf_vocab_add(lf_vocab *v, const char *piece, size_t len, lf_token_kind kind, const char *name,
                       lf_error *err);
void lf_vocab_free(lf_vocab *v);

/* The id of a piece, or LF_TOKEN_NONE. */
int32_t lf_vocab_find(const lf_vocab *v, const char *piece, size_t len);

/* Of the tokens of a SentencePiece vocabulary, only these can come out of a merge; the others are not made of text. */
static inline bool lf_is_text(lf_token_kind kind)
{
    return kind == LF_TOKEN_NORMAL || kind == LF_TOKEN_USER_DEFINED;
}

/* The id of the piece "<0x0A>" of a byte, or LF_TOKEN_NONE; and the byte of such a piece, or -1. */
int32_t lf_vocab_find_byte(const lf_vocab *v, uint8_t byte);
int lf_byte_of_piece(const char *piece, size_t len);

static inline const char *lf_vocab_piece(const lf_vocab *v, int32_t id, size_t *len)
{
    const uint32_t start = id ? v->ends[id - 1] : 0;
    *len = v->ends[id] - start;
    return v->text.data + start;
}

#endif
