#include "token/vocab.h"

#include "token/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The slot that holds the piece, or the free one where it would go. */
static uint32_t slot_of(const lf_vocab *v, const char *piece, size_t len)
{
    const uint32_t mask = v->n_slots - 1;
    uint32_t i = (uint32_t)lf_hash_bytes(piece, len) & mask;
    for (; v->slots[i] != LF_TOKEN_NONE; i = (i + 1) & mask) {
        size_t other_len;
        const char *other = lf_vocab_piece(v, v->slots[i], &other_len);
        if (other_len == len && memcmp(other, piece, len) == 0) break;
    }
    return i;
}

int32_t lf_vocab_find(const lf_vocab *v, const char *piece, size_t len)
{
    if (v->n == 0) return LF_TOKEN_NONE;
    return v->slots[slot_of(v, piece, len)];
}

int32_t lf_vocab_find_byte(const lf_vocab *v, uint8_t byte)
{
    char piece[8];
    const int len = snprintf(piece, sizeof piece, "<0x%02X>", byte);
    return lf_vocab_find(v, piece, (size_t)len);
}

int lf_byte_of_piece(const char *piece, size_t len)
{
    static const char digits[] = "0123456789ABCDEF";
    if (len != 6 || memcmp(piece, "<0x", 3) != 0 || piece[5] != '>') return -1;
    const char *high = memchr(digits, piece[3], 16), *low = memchr(digits, piece[4], 16);
    return high && low ? (int)((high - digits) * 16 + (low - digits)) : -1;
}

/* Room for one more token: the arrays double, and the slots are filled anew. */
static lf_status grow(lf_vocab *v, lf_error *err)
{
    const int32_t cap = v->cap ? 2 * v->cap : 1024;
    const uint32_t n_slots = 2 * (uint32_t)cap;
    uint32_t *ends = realloc(v->ends, (size_t)cap * sizeof *ends);
    if (ends) v->ends = ends;
    uint8_t *kinds = realloc(v->kinds, (size_t)cap);
    if (kinds) v->kinds = kinds;
    int32_t *slots = malloc(n_slots * sizeof *slots);
    if (!ends || !kinds || !slots) {
        free(slots);
        return lf_fail_memory(err, "a vocabulary", n_slots * sizeof *slots);
    }
    free(v->slots);
    v->slots = slots;
    v->n_slots = n_slots;
    v->cap = cap;
    memset(slots, 0xFF, n_slots * sizeof *slots); /* LF_TOKEN_NONE */
    for (int32_t id = 0; id < v->n; id++) {
        size_t len;
        const char *piece = lf_vocab_piece(v, id, &len);
        slots[slot_of(v, piece, len)] = id;
    }
    return LF_OK;
}

lf_status lf_vocab_add(lf_vocab *v, const char *piece, size_t len, lf_token_kind kind, const char *name,
                       lf_error *err)
{
    if (v->n == LF_VOCAB_MAX)
        return lf_fail(err, LF_ELIMIT, "%s: found more than %d tokens, the limit", name, LF_VOCAB_MAX);
    if (len == 0 || len > LF_PIECE_BYTES_MAX)
        return lf_fail(err, LF_EFORMAT, "%s: token %d: found a piece of %zu bytes, expected 1 to %d", name,
                       (int)v->n, len, LF_PIECE_BYTES_MAX);
    if (v->n == v->cap) {
        const lf_status status = grow(v, err);
        if (status != LF_OK) return status;
    }
    const uint32_t i = slot_of(v, piece, len);
    if (v->slots[i] != LF_TOKEN_NONE)
        return lf_fail(err, LF_EFORMAT, "%s: token %d: found '%.*s', the piece of token %d, expected another",
                       name, (int)v->n, (int)len, piece, (int)v->slots[i]);
    if (!lf_bytes_append(&v->text, piece, len)) return lf_fail_memory(err, "a vocabulary", len);
    v->slots[i] = v->n;
    v->kinds[v->n] = (uint8_t)kind;
    v->ends[v->n++] = (uint32_t)v->text.len; /* the two limits keep it below 2^32 */
    return LF_OK;
}

void lf_vocab_free(lf_vocab *v)
{
    free(v->ends);
    free(v->kinds);
    free(v->slots);
    lf_bytes_free(&v->text);
    *v = (lf_vocab){0};
}
