/* tiktoken rank files, as Llama 3 ships them: a line "base64 rank" for each token, ranks ascending from 0; the rank is
 * the id. The format knows neither pattern nor special tokens; those are Llama 3's, whose file is the only one of its
 * kind in the family.
 *
 * The ids are those of the tiktoken library. Bytes that are not UTF-8, which it takes in a private function only, are
 * pieces of their own here. */
#include "token/load.h"

#include "token/alphabet.h"
#include "token/utf8.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    LLAMA3_RANKS = 128000,
    LLAMA3_SPECIALS = 256,
    RAW_BYTES_MAX = LF_PIECE_BYTES_MAX / 2, /* a byte is written in one or two bytes */
};

static int sextet_of(uint8_t c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes padded base64; the number of bytes, or -1 when it is malformed or longer than max. */
static int decode_base64(const uint8_t *s, size_t len, uint8_t *out, size_t max)
{
    if (len == 0 || len % 4 || len / 4 * 3 > max) return -1;
    const size_t n_pad = (size_t)(s[len - 1] == '=') + (size_t)(s[len - 1] == '=' && s[len - 2] == '=');
    size_t n = 0;
    uint32_t bits = 0;
    for (size_t i = 0; i < len; i++) {
        const int sextet = i < len - n_pad ? sextet_of(s[i]) : 0;
        if (sextet < 0) return -1;
        bits = bits << 6 | (uint32_t)sextet;
        if (i % 4 != 3) continue;
        out[n++] = (uint8_t)(bits >> 16);
        out[n++] = (uint8_t)(bits >> 8);
        out[n++] = (uint8_t)bits;
    }
    return (int)(n - n_pad);
}

static lf_status read_line(lf_tokenizer *t, const uint8_t *line, size_t len, const char *name, lf_error *err)
{
    const int32_t id = t->vocab.n;
    const uint8_t *space = memchr(line, ' ', len);
    const size_t coded = space ? (size_t)(space - line) : len;
    uint8_t bytes[RAW_BYTES_MAX];
    const int n = space ? decode_base64(line, coded, bytes, sizeof bytes) : -1;
    if (n <= 0)
        return lf_fail(err, LF_EFORMAT,
                       "%s: line %d: found '%.*s', expected base64 of 1 to %d bytes and a rank", name,
                       (int)id + 1, (int)(len < 40 ? len : 40), (const char *)line, RAW_BYTES_MAX);
    char rank[16];
    const int rank_len = snprintf(rank, sizeof rank, "%d", (int)id);
    if (len - coded - 1 != (size_t)rank_len || memcmp(space + 1, rank, (size_t)rank_len) != 0)
        return lf_fail(err, LF_EFORMAT, "%s: line %d: found rank '%.*s', expected %s", name, (int)id + 1,
                       (int)(len - coded - 1 < 20 ? len - coded - 1 : 20), (const char *)space + 1, rank);
    char piece[2 * RAW_BYTES_MAX];
    size_t piece_len = 0;
    for (int i = 0; i < n; i++) piece_len += lf_utf8_encode(lf_alphabet_char(bytes[i]), piece + piece_len);
    return lf_vocab_add(&t->vocab, piece, piece_len, LF_TOKEN_NORMAL, name, err);
}

static lf_status derive_merges(lf_tokenizer *t, const char *name, lf_error *err)
{
    for (int byte = 0; byte < 256; byte++) {
        char piece[4];
        const size_t len = lf_utf8_encode(lf_alphabet_char((uint8_t)byte), piece);
        if (lf_vocab_find(&t->vocab, piece, len) == LF_TOKEN_NONE)
            return lf_fail(err, LF_EFORMAT, "%s: found no rank for byte 0x%02X, expected one for each byte",
                           name, (unsigned)byte);
    }
    const size_t n = (size_t)t->vocab.n;
    uint32_t *ranks = malloc(n * sizeof *ranks);
    if (!ranks) return lf_fail_memory(err, "the ranks", n * sizeof *ranks);
    for (size_t i = 0; i < n; i++) ranks[i] = (uint32_t)i;
    const lf_status status = lf_merges_derive(&t->merges, &t->vocab, ranks, err);
    free(ranks);
    return status;
}

lf_status lf_load_tiktoken(lf_tokenizer *t, const void *data, size_t size, const char *name, lf_error *err)
{
    const lf_gguf_pre *pre = lf_gguf_pre_find("llama-bpe");
    const uint8_t *p = data, *end = p + size;
    lf_status status;
    while (p < end) {
        const uint8_t *newline = memchr(p, '\n', (size_t)(end - p));
        const uint8_t *line_end = newline ? newline : end;
        LF_TRY(read_line(t, p, (size_t)(line_end - p), name, err));
        p = newline ? newline + 1 : end;
    }
    t->scheme = LF_SCHEME_BYTES;
    t->whole_pieces = pre->whole_pieces;
    t->adds_bos = pre->adds_bos;
    LF_TRY(derive_merges(t, name, err));
    status = lf_pretokenizer_add_named(&t->pretokenizer, pre, name, err);
done:
    return status;
}

/* The names of Meta's own tokenizer for Llama 3; those not listed are reserved and numbered. */
lf_status lf_load_llama3_specials(lf_tokenizer *t, const char *name, lf_error *err)
{
    static const char *const names[LLAMA3_SPECIALS] = {
        [0] = "<|begin_of_text|>", [1] = "<|end_of_text|>", [6] = "<|start_header_id|>",
        [7] = "<|end_header_id|>", [9] = "<|eot_id|>",
    };
    if (t->vocab.n != LLAMA3_RANKS)
        return lf_fail(err, LF_EUNSUPPORTED,
                       "%s: found %d ranks and no added_tokens_decoder in a tokenizer_config.json beside, "
                       "expected that or the %d ranks of Llama 3",
                       name, (int)t->vocab.n, LLAMA3_RANKS);
    int n_reserved = 0;
    for (int i = 0; i < LLAMA3_SPECIALS; i++) {
        char reserved[48];
        const char *special = names[i];
        if (!special) {
            (void)snprintf(reserved, sizeof reserved, "<|reserved_special_token_%d|>", n_reserved++);
            special = reserved;
        }
        const int32_t id = t->vocab.n;
        lf_status status = lf_vocab_add(&t->vocab, special, strlen(special), LF_TOKEN_NORMAL, name, err);
        if (status == LF_OK) status = lf_load_special(t, id, err);
        if (status != LF_OK) return status;
    }
    t->bos = LLAMA3_RANKS;
    return lf_tokenizer_add_eos(t, LLAMA3_RANKS + 1, err);
}
