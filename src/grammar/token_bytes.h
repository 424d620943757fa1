/* The tokens of a vocabulary as bytes, in the order of the bytes: what a grammar's mask is computed over.
 *
 * A token's bytes are those that detokenisation gives for it in the middle of a text, also for the first token of an output,
 * which continues its prompt: a SentencePiece "▁the" is " the" there, too. Bytes need not be whole code points. Tokens that are no
 * text (control, unknown and unused ones, ends of sequence) are not in it. Immutable. */
#ifndef LF_GRAMMAR_TOKEN_BYTES_H
#define LF_GRAMMAR_TOKEN_BYTES_H

#include "token/tokenizer.h"

typedef struct lf_token_bytes {
    int n_vocab;  /* ids of the model */
    int n;        /* tokens with bytes */
    int32_t *ids; /* (n) in the order of their bytes */
    uint32_t
        *ends; /* (n) token i of the order has the bytes up to ends[i], from the end of the one before it */
    uint16_t *shared; /* (n) how many first bytes it has in common with the one before it */
    uint8_t *bytes;
    int32_t *places;            /* (n_vocab) of an id in the order, or -1 */
    int begins[257];            /* the first place of those whose first byte is b, or more */
    uint32_t *ends_of_sequence; /* (words of n_vocab) bits */
    int n_bytes_max;            /* of a token */
} lf_token_bytes;

static inline const uint8_t *lf_token_bytes_at(const lf_token_bytes *t, int place, int *len)
{
    const uint32_t begin = place ? t->ends[place - 1] : 0;
    *len = (int)(t->ends[place] - begin);
    return t->bytes + begin;
}

/* For a model of n_vocab ids. */
lf_status lf_token_bytes_create(lf_token_bytes **out, const lf_tokenizer *t, int n_vocab, lf_error *err);
void lf_token_bytes_free(lf_token_bytes *t); /* NULL is fine */

#endif
