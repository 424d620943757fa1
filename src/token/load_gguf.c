/* The tokenizer of a GGUF file: tokenizer.ggml.*, as llama.cpp writes and reads them.
 *
 *   model                 "llama" (SentencePiece: scores) or "gpt2" (byte-level BPE: merges and pre)
 *   pre                   the pre-tokeniser of a "gpt2", by name
 *   tokens, token_type    pieces and kinds by id
 *   scores / merges       strings "left right", first ones first
 *   bos_token_id, eos_token_id, eot_token_id, eom_token_id, unknown_token_id
 *   add_bos_token, add_space_prefix, remove_extra_whitespaces
 *   tokenizer.chat_template, tokenizer.chat_template.tool_use
 *
 * Where llama.cpp and the library that a vocabulary came from differ, llama.cpp is followed: user-defined tokens are
 * cut out of the text before anything else, and no text is normalised (LF_GGUF_NFC, lookfar's own key, is how a
 * converted model keeps its NFC). One exception: bytes that are not UTF-8 stand for themselves in every vocabulary. */
#include "token/load.h"

#include "token/gguf_keys.h"
#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

/* An array value with `count` items of string type or of some number type, or count 0 for any count. */
static lf_status find_array(const lf_gguf_value **out, const lf_gguf *g, const char *key, bool strings,
                            size_t count, lf_error *err)
{
    const lf_gguf_value *v = lf_gguf_find(g, key);
    if (!v) return lf_fail(err, LF_EFORMAT, "%s: found no key %s", lf_gguf_name(g), key);
    if (v->type != LF_GGUF_ARRAY || (v->item_type == LF_GGUF_STRING) != strings)
        return lf_fail(err, LF_EFORMAT, "%s: key %s: found another type, expected an array of %s",
                       lf_gguf_name(g), key, strings ? "strings" : "numbers");
    if (count && v->count != count)
        return lf_fail(err, LF_EFORMAT, "%s: key %s: found %zu items, expected one for each of %zu tokens",
                       lf_gguf_name(g), key, v->count, count);
    *out = v;
    return LF_OK;
}

static lf_status read_tokens(lf_tokenizer *t, const lf_gguf *g, lf_error *err)
{
    const lf_gguf_value *tokens, *kinds = NULL;
    lf_status status = find_array(&tokens, g, LF_GGUF_TOKENS, true, 0, err);
    if (status == LF_OK && lf_gguf_find(g, LF_GGUF_TOKEN_TYPE))
        status = find_array(&kinds, g, LF_GGUF_TOKEN_TYPE, false, tokens->count, err);
    if (status != LF_OK) return status;
    const uint8_t *cursor = tokens->items;
    for (size_t i = 0; i < tokens->count; i++) {
        const char *piece;
        size_t len;
        lf_gguf_array_next_string(&cursor, &piece, &len);
        const int64_t kind = kinds ? lf_gguf_array_int(kinds, i) : LF_TOKEN_NORMAL;
        if (kind < LF_TOKEN_NORMAL || kind > LF_TOKEN_BYTE)
            return lf_fail(err, LF_EFORMAT, "%s: key %s: item %zu: found %lld, expected 1 to 6",
                           lf_gguf_name(g), LF_GGUF_TOKEN_TYPE, i, (long long)kind);
        status = lf_vocab_add(&t->vocab, piece, len, (lf_token_kind)kind, lf_gguf_name(g), err);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

/* *out = the token that a key names; left alone when it names none. */
static lf_status read_token_id(const lf_tokenizer *t, const lf_gguf *g, const char *key, int32_t *out,
                               lf_error *err)
{
    int64_t id = LF_TOKEN_NONE;
    const lf_status status = lf_gguf_get_int(g, key, false, &id, err);
    if (status != LF_OK) return status;
    if (id < LF_TOKEN_NONE || id >= t->vocab.n)
        return lf_fail(err, LF_EFORMAT, "%s: key %s: found %lld, expected a token from 0 to %d",
                       lf_gguf_name(g), key, (long long)id, (int)t->vocab.n - 1);
    if (id != LF_TOKEN_NONE) *out = (int32_t)id;
    return LF_OK;
}

static lf_status read_specials(lf_tokenizer *t, const lf_gguf *g, lf_error *err)
{
    static const char *const ends[] = {LF_GGUF_EOS, LF_GGUF_EOT, LF_GGUF_EOM};
    lf_status status;
    LF_TRY(read_token_id(t, g, LF_GGUF_BOS, &t->bos, err));
    for (int32_t id = t->vocab.n; id-- > 0;) /* the first of its kind, unless a key says otherwise */
        if (t->vocab.kinds[id] == LF_TOKEN_UNKNOWN) t->unknown = id;
    LF_TRY(read_token_id(t, g, LF_GGUF_UNKNOWN, &t->unknown, err));
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        int32_t id = LF_TOKEN_NONE;
        LF_TRY(read_token_id(t, g, ends[i], &id, err));
        if (id != LF_TOKEN_NONE) LF_TRY(lf_tokenizer_add_eos(t, id, err));
    }
    LF_TRY(lf_gguf_get_bool(g, LF_GGUF_ADD_BOS, false, &t->adds_bos, err));
    LF_TRY(lf_gguf_get_string(g, LF_GGUF_CHAT_TEMPLATE, false, &t->chat_template, err));
    LF_TRY(lf_gguf_get_string(g, LF_GGUF_CHAT_TOOL_USE, false, &t->chat_template_tools, err));
done:
    return status;
}

static lf_status read_sentencepiece(lf_tokenizer *t, const lf_gguf *g, lf_error *err)
{
    const lf_gguf_value *scores;
    bool prefix = true, collapse = false;
    lf_status status;
    t->scheme = LF_SCHEME_CODE_POINTS;
    t->byte_fallback = true;
    t->fuse_unknown = true;
    t->adds_bos = true;
    LF_TRY(lf_gguf_get_bool(g, LF_GGUF_SPACE_PREFIX, false, &prefix, err));
    LF_TRY(lf_gguf_get_bool(g, LF_GGUF_EXTRA_SPACES, false, &collapse, err));
    LF_TRY(lf_rewrites_add_spaces(&t->normalizer, prefix, collapse, lf_gguf_name(g), err));
    t->lead = collapse ? LF_LEAD_SYMBOLS : prefix ? LF_LEAD_SYMBOL : LF_LEAD_KEPT;
    LF_TRY(find_array(&scores, g, LF_GGUF_SCORES, false, (size_t)t->vocab.n, err));
    t->scores = malloc((size_t)t->vocab.n * sizeof *t->scores);
    if (!t->scores) LF_TRY(lf_fail_memory(err, "the scores", (size_t)t->vocab.n * sizeof *t->scores));
    for (int32_t id = 0; id < t->vocab.n; id++)
        t->scores[id] = (float)lf_gguf_array_float(scores, (size_t)id);
done:
    return status;
}

static lf_status read_merges(lf_tokenizer *t, const lf_gguf *g, lf_error *err)
{
    const lf_gguf_value *merges;
    lf_status status = find_array(&merges, g, LF_GGUF_MERGES, true, 0, err);
    if (status != LF_OK) return status;
    if (merges->count > UINT32_MAX - 1)
        return lf_fail(err, LF_ELIMIT, "%s: key %s: found %zu items", lf_gguf_name(g), LF_GGUF_MERGES,
                       merges->count);
    const uint8_t *cursor = merges->items;
    for (size_t i = 0; i < merges->count && status == LF_OK; i++) {
        const char *merge;
        size_t len;
        lf_gguf_array_next_string(&cursor, &merge, &len);
        const char *space = len > 1 ? memchr(merge + 1, ' ', len - 1)
                                    : NULL; /* llama.cpp: not at the start */
        if (!space)
            return lf_fail(err, LF_EFORMAT, "%s: key %s: item %zu: found '%.*s', expected two pieces",
                           lf_gguf_name(g), LF_GGUF_MERGES, i, (int)(len < 80 ? len : 80), merge);
        const size_t left_len = (size_t)(space - merge);
        status = lf_load_merge(t, (uint32_t)i, merge, left_len, space + 1, len - left_len - 1,
                               lf_gguf_name(g), err);
    }
    return status;
}

static lf_status read_byte_level(lf_tokenizer *t, const lf_gguf *g, lf_error *err)
{
    char *pre_name = NULL;
    bool nfc = false;
    lf_status status;
    t->scheme = LF_SCHEME_BYTES;
    LF_TRY(lf_gguf_get_string(g, LF_GGUF_PRE, false, &pre_name, err));
    const lf_gguf_pre *pre = lf_gguf_pre_find(pre_name ? pre_name : "default");
    if (!pre)
        LF_TRY(lf_fail(err, LF_EUNSUPPORTED,
                       "%s: key %s: found '%.80s', expected default, gpt-2, llama-bpe, qwen2 or smollm",
                       lf_gguf_name(g), LF_GGUF_PRE, pre_name));
    t->whole_pieces = pre->whole_pieces;
    t->adds_bos = pre->adds_bos;
    LF_TRY(lf_pretokenizer_add_named(&t->pretokenizer, pre, lf_gguf_name(g), err));
    LF_TRY(lf_gguf_get_bool(g, LF_GGUF_NFC, false, &nfc, err));
    if (nfc) LF_TRY(lf_rewrites_add(&t->normalizer, LF_REWRITE_NFC, NULL, NULL, lf_gguf_name(g), err));
    status = read_merges(t, g, err);
done:
    free(pre_name);
    return status;
}

lf_status lf_tokenizer_from_gguf(lf_tokenizer **out, const lf_gguf *g, lf_error *err)
{
    char *model = NULL;
    lf_tokenizer *t = NULL;
    lf_status status;
    LF_TRY(lf_tokenizer_new(&t, err));
    LF_TRY(lf_gguf_get_string(g, LF_GGUF_MODEL, true, &model, err));
    LF_TRY(read_tokens(t, g, err));
    if (strcmp(model, "llama") == 0)
        LF_TRY(read_sentencepiece(t, g, err));
    else if (strcmp(model, "gpt2") == 0)
        LF_TRY(read_byte_level(t, g, err));
    else
        LF_TRY(lf_fail(err, LF_EUNSUPPORTED, "%s: key %s: found '%.80s', expected 'llama' or 'gpt2'",
                       lf_gguf_name(g), LF_GGUF_MODEL, model));
    LF_TRY(read_specials(t, g, err));
    LF_TRY(lf_load_added_by_kind(t, false, err));
    LF_TRY(lf_tokenizer_finish(t, lf_gguf_name(g), err));
    *out = t;
    t = NULL;
done:
    lf_tokenizer_free(t);
    free(model);
    return status;
}
