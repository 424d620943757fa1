/* Text to ids: the walk through the stages of a tokenizer, and a cache of pieces.
 *
 * A piece is what merging works on: a match of the pre-tokeniser's pattern, or a word of a SentencePiece text (or all
 * of it, when the vocabulary joins words). Most pieces of a long text have been there before, so the ids of short ones
 * are remembered by where they went: in the output itself. */
#include "token/tokenizer_int.h"

#include "token/alphabet.h"
#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

enum {
    TEXT_BYTES_MAX = 1 << 30,
    CACHED_BYTES_MAX = 24, /* longest piece that is remembered */
    CACHE_MIN = 1 << 6,    /* entries */
    CACHE_MAX = 1 << 15,
    BYTES_PER_ENTRY = 8, /* of text; longer texts have more different pieces */
};

typedef struct cached {
    uint64_t key[CACHED_BYTES_MAX / 8]; /* the piece, zeros behind it */
    uint32_t at;                        /* its ids: out[base + at ..][n] */
    uint8_t len;                        /* bytes; 0 in a free entry */
    uint8_t n;
} cached;

typedef struct encoder {
    const lf_tokenizer *t;
    bool parse_special;
    lf_ids *out;
    size_t base;           /* the length of out before this text */
    lf_bytes normal[2];    /* rewritten by the normalizer */
    lf_bytes spaced[2];    /* rewritten by metaspace */
    lf_regex_match *match; /* when there is a pre-tokeniser */
    lf_bpe bpe;
    cached *cache; /* (cache_mask + 1), direct-mapped */
    uint32_t cache_mask;
} encoder;

static lf_status push(encoder *e, int32_t id, lf_error *err)
{
    return lf_ids_push(e->out, id) ? LF_OK : lf_fail_memory(err, "token ids", e->out->len * sizeof id);
}

/* ---- a piece ---- */

/* The token whose text is the whole piece, or LF_TOKEN_NONE. */
static int32_t find_whole(const lf_tokenizer *t, const char *piece, size_t len)
{
    char written[2 * LF_PIECE_BYTES_MAX];
    if (len > LF_PIECE_BYTES_MAX) return LF_TOKEN_NONE;
    if (t->scheme == LF_SCHEME_BYTES) {
        size_t n = 0;
        for (size_t i = 0; i < len; i++)
            n += lf_utf8_encode(lf_alphabet_char((uint8_t)piece[i]), written + n);
        piece = written;
        len = n;
    }
    const int32_t id = lf_vocab_find(&t->vocab, piece, len);
    return id != LF_TOKEN_NONE && t->vocab.kinds[id] == LF_TOKEN_NORMAL ? id : LF_TOKEN_NONE;
}

/* Fills e->bpe with the symbols of the piece: its bytes or its code points. */
static lf_status read_symbols(encoder *e, const char *piece, size_t len, lf_error *err)
{
    const lf_tokenizer *t = e->t;
    if (len > INT32_MAX)
        return lf_fail(err, LF_ELIMIT, "found a word of %zu bytes, expected at most %d", len, INT32_MAX);
    if (!lf_bpe_reserve(&e->bpe, len)) return lf_fail_memory(err, "merging", len * sizeof(lf_symbol));
    e->bpe.n = 0;
    for (size_t i = 0, step; i < len; i += step) {
        const uint8_t byte = (uint8_t)piece[i];
        const bool one_byte = t->scheme == LF_SCHEME_BYTES || byte < 0x80;
        step = one_byte ? 1 : lf_utf8_step(piece + i, len - i);
        lf_bpe_push(&e->bpe, one_byte ? t->symbol_ids[byte] : lf_vocab_find(&t->vocab, piece + i, step),
                    (uint32_t)step);
    }
    return LF_OK;
}

/* The ids of a code point that has no token: its bytes, else the unknown token, else nothing. */
static lf_status push_unknown(encoder *e, const char *text, size_t len, bool after_unknown, lf_error *err)
{
    const lf_tokenizer *t = e->t;
    bool has_bytes = t->byte_fallback;
    for (size_t i = 0; i < len; i++) has_bytes &= t->byte_ids[(uint8_t)text[i]] != LF_TOKEN_NONE;
    lf_status status = LF_OK;
    if (has_bytes) {
        for (size_t i = 0; i < len && status == LF_OK; i++)
            status = push(e, t->byte_ids[(uint8_t)text[i]], err);
    } else if (t->unknown != LF_TOKEN_NONE && !(after_unknown && t->fuse_unknown)) {
        status = push(e, t->unknown, err);
    }
    return status;
}

static lf_status merge_piece(encoder *e, const char *piece, size_t len, lf_error *err)
{
    const lf_tokenizer *t = e->t;
    const int32_t whole = t->whole_pieces ? find_whole(t, piece, len) : LF_TOKEN_NONE;
    if (whole != LF_TOKEN_NONE) return push(e, whole, err);
    lf_status status = read_symbols(e, piece, len, err);
    if (status != LF_OK) return status;
    lf_bpe_merge(&e->bpe, &t->merges);
    bool after_unknown = false;
    for (int32_t i = 0; i >= 0 && status == LF_OK; i = e->bpe.symbols[i].next) {
        const lf_symbol *symbol = &e->bpe.symbols[i];
        const bool known = symbol->id >= 0 && symbol->id < t->n_vocab && symbol->id != t->unknown;
        status = known ? push(e, symbol->id, err) : push_unknown(e, piece, symbol->len, after_unknown, err);
        after_unknown = !known;
        piece += symbol->len;
    }
    return status;
}

static cached *cache_entry(const encoder *e, const uint64_t key[CACHED_BYTES_MAX / 8], size_t len)
{
    const uint64_t h = lf_hash_mix(lf_hash_mix(lf_hash_mix(key[2] ^ len) ^ key[1]) ^ key[0]);
    return &e->cache[(uint32_t)h & e->cache_mask];
}

/* Appends the ids of a piece: an lf_each_piece whose context is the encoder. */
static lf_status encode_piece(void *context, const char *piece, size_t len, lf_error *err)
{
    encoder *e = context;
    if (len == 0) return LF_OK;
    if (len > CACHED_BYTES_MAX) return merge_piece(e, piece, len, err);
    uint64_t key[CACHED_BYTES_MAX / 8] = {0};
    memcpy(key, piece, len);
    cached *entry = cache_entry(e, key, len);
    if (entry->len == len && memcmp(entry->key, key, sizeof key) == 0) {
        lf_status status = LF_OK;
        for (size_t i = 0; i < entry->n && status == LF_OK; i++)
            status = push(e, e->out->data[e->base + entry->at + i], err);
        return status;
    }
    const size_t at = e->out->len - e->base;
    const lf_status status = merge_piece(e, piece, len, err);
    if (status != LF_OK) return status;
    memcpy(entry->key, key, sizeof key);
    entry->at = (uint32_t)at;
    entry->len = (uint8_t)len;
    entry->n = (uint8_t)(e->out->len - e->base - at);
    return LF_OK;
}

/* ---- a stretch of text between added tokens ---- */

/* The end of the word at text[0..len), len > 0: leading spaces, and what follows up to the next space. An ASCII
 * character that is no symbol (a newline, in most models) merges with nothing and so is a word of its own. */
static size_t word_end(const lf_tokenizer *t, const char *text, size_t len)
{
    size_t i = 0;
    while (lf_is_space_symbol(text + i, len - i)) i += LF_SPACE_SYMBOL_BYTES;
    for (; i < len; i++) {
        const uint8_t byte = (uint8_t)text[i];
        if (byte < 0x80 && t->symbol_ids[byte] == LF_TOKEN_NONE) return i > 0 ? i : 1;
        if (byte == (uint8_t)LF_SPACE_SYMBOL[0] && lf_is_space_symbol(text + i, len - i)) break;
    }
    return i;
}

static lf_status encode_words(encoder *e, const char *text, size_t len, lf_error *err)
{
    lf_status status = LF_OK;
    while (len > 0 && status == LF_OK) {
        const size_t n = e->t->splits_words ? word_end(e->t, text, len) : len;
        status = encode_piece(e, text, n, err);
        text += n;
        len -= n;
    }
    return status;
}

/* Encodes text without added tokens, already normalised. Patterns see well-formed text only: a stretch of bytes that
 * are not UTF-8 is a piece of its own. */
static lf_status encode_plain(encoder *e, bool at_start, const char *text, size_t len, lf_error *err)
{
    const lf_tokenizer *t = e->t;
    lf_status status = lf_rewrites_apply(&t->metaspace, at_start, &text, &len, e->spaced, err);
    if (status != LF_OK || t->pretokenizer.n == 0)
        return status == LF_OK ? encode_words(e, text, len, err) : status;
    while (len > 0 && status == LF_OK) {
        const size_t valid = lf_utf8_valid_prefix(text, len);
        status = lf_pretokenizer_cut(&t->pretokenizer, e->match, text, valid, encode_piece, e, err);
        size_t end = valid;
        uint32_t cp;
        while (end < len && lf_utf8_decode(text + end, len - end, &cp) <= 0) end++;
        if (status == LF_OK) status = encode_piece(e, text + valid, end - valid, err);
        text += end;
        len -= end;
    }
    return status;
}

typedef lf_status encode_gap(encoder *e, bool at_start, const char *text, size_t len, lf_error *err);

/* Pushes the added tokens of a set that are in text, and lets `gap` encode what is between them. */
static lf_status encode_around(encoder *e, const lf_added_set *set, bool at_start, const char *text,
                               size_t len, encode_gap *gap, lf_error *err)
{
    lf_added_walk walk = {.set = set, .text = text, .len = len, .parse_special = e->parse_special};
    size_t done = 0, start, end;
    lf_status status = LF_OK;
    for (const lf_added *added; status == LF_OK && (added = lf_added_next(&walk, &start, &end)); done = end) {
        if (start > done) status = gap(e, at_start && done == 0, text + done, start - done, err);
        if (status == LF_OK) status = push(e, added->id, err);
    }
    if (status == LF_OK && done < len) status = gap(e, at_start && done == 0, text + done, len - done, err);
    return status;
}

static lf_status encode_stretch(encoder *e, bool at_start, const char *text, size_t len, lf_error *err)
{
    const lf_status status = lf_rewrites_apply(&e->t->normalizer, at_start, &text, &len, e->normal, err);
    if (status != LF_OK) return status;
    return encode_around(e, &e->t->normalized, at_start, text, len, encode_plain, err);
}

static lf_status encoder_open(encoder *e, size_t len, lf_error *err)
{
    size_t n = CACHE_MIN;
    while (n < CACHE_MAX && n < len / BYTES_PER_ENTRY) n *= 2;
    e->cache = calloc(n, sizeof *e->cache);
    if (!e->cache) return lf_fail_memory(err, "a cache of pieces", n * sizeof *e->cache);
    e->cache_mask = (uint32_t)n - 1;
    return e->t->pretokenizer.n > 0 ? lf_regex_match_new(&e->match, err) : LF_OK;
}

static void encoder_close(encoder *e)
{
    free(e->cache);
    lf_bpe_free(&e->bpe);
    lf_regex_match_free(e->match);
    for (int i = 0; i < 2; i++) {
        lf_bytes_free(&e->spaced[i]);
        lf_bytes_free(&e->normal[i]);
    }
}

lf_status lf_tokenizer_encode(const lf_tokenizer *t, const char *text, size_t len, bool parse_special,
                              lf_ids *out, lf_error *err)
{
    if (len > TEXT_BYTES_MAX)
        return lf_fail(err, LF_ELIMIT, "found a text of %zu bytes, expected at most %d", len, TEXT_BYTES_MAX);
    if (len == 0) return LF_OK;
    encoder e = {.t = t, .parse_special = parse_special, .out = out, .base = out->len};
    lf_status status = encoder_open(&e, len, err);
    if (status == LF_OK) status = encode_around(&e, &t->raw, true, text, len, encode_stretch, err);
    encoder_close(&e);
    if (status != LF_OK) out->len = e.base;
    return status;
}
