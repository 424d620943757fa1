/* Tokenizers, two ways, told apart by the first byte. A text goes through small tokenizers of every kind with the real
 * patterns; it must come back wherever the kind promises that. Or the bytes are a tokenizer file of some form; what
 * loads must then encode and decode without a fault. */
#include "token/load.h"
#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool condition)
{
    if (!condition) abort();
}

/* ---- texts ---- */

/* The bytes and a few words, as tiktoken ranks. */
static lf_status load_ranks(lf_tokenizer *t, lf_error *err)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static const char *const words[] = {
        "YWE=", "aGU=", "bGw=", "aGVsbA==", "ICA=", "ICAgIA==", "IGg=", "w6k=", "Cgo="};
    lf_bytes ranks = {0};
    for (int i = 0; i < 256; i++)
        require(lf_bytes_printf(&ranks, "%c%c== %d\n", digits[i >> 2], digits[(i & 3) << 4], i));
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        require(lf_bytes_printf(&ranks, "%s %zu\n", words[i], 256 + i));
    const lf_status status = lf_load_tiktoken(t, ranks.data, ranks.len, "ranks", err);
    lf_bytes_free(&ranks);
    return status;
}

static lf_tokenizer *make_byte_level(const char *pre)
{
    lf_tokenizer *t = NULL;
    lf_error err;
    require(lf_tokenizer_new(&t, &err) == LF_OK && load_ranks(t, &err) == LF_OK);
    lf_pretokenizer_free(&t->pretokenizer);
    require(lf_pretokenizer_add_named(&t->pretokenizer, lf_gguf_pre_find(pre), "pre", &err) == LF_OK);
    require(lf_vocab_add(&t->vocab, "<x>", 3, LF_TOKEN_NORMAL, "pre", &err) == LF_OK);
    require(lf_load_special(t, t->vocab.n - 1, &err) == LF_OK &&
            lf_tokenizer_finish(t, "pre", &err) == LF_OK);
    return t;
}

/* The bytes, a few pieces with scores, and tokens of every kind. */
static lf_tokenizer *make_sentencepiece(bool collapse)
{
    static const struct {
        const char *piece;
        lf_token_kind kind;
    } pieces[] = {
        {"<unk>", LF_TOKEN_UNKNOWN},
        {"<s>", LF_TOKEN_CONTROL},
        {"<user>", LF_TOKEN_USER_DEFINED},
        {"\xE2\x96\x81", LF_TOKEN_NORMAL},
        {"h", LF_TOKEN_NORMAL},
        {"e", LF_TOKEN_NORMAL},
        {"l", LF_TOKEN_NORMAL},
        {"he", LF_TOKEN_NORMAL},
        {"ll", LF_TOKEN_NORMAL},
        {"hell", LF_TOKEN_NORMAL},
        {"\xE2\x96\x81h", LF_TOKEN_NORMAL},
        {"\xE2\x96\x81\xE2\x96\x81", LF_TOKEN_NORMAL},
        {"zz", LF_TOKEN_NORMAL},
        {"zzz", LF_TOKEN_NORMAL},
    };
    enum { N = 256 + sizeof pieces / sizeof *pieces };
    lf_tokenizer *t = NULL;
    lf_error err;
    require(lf_tokenizer_new(&t, &err) == LF_OK);
    t->scores = malloc(N * sizeof *t->scores);
    require(t->scores != NULL);
    for (int i = 0; i < N; i++) {
        char byte[] = "<0x00>";
        static const char hex[] = "0123456789ABCDEF";
        byte[3] = hex[i >> 4 & 15];
        byte[4] = hex[i & 15];
        const char *piece = i < 256 ? byte : pieces[i - 256].piece;
        const lf_token_kind kind = i < 256 ? LF_TOKEN_BYTE : pieces[i - 256].kind;
        require(lf_vocab_add(&t->vocab, piece, strlen(piece), kind, "pieces", &err) == LF_OK);
        t->scores[i] = (float)(i % 7);
    }
    t->unknown = 256;
    t->byte_fallback = true;
    t->lead = collapse ? LF_LEAD_SYMBOLS : LF_LEAD_SYMBOL;
    require(lf_rewrites_add_spaces(&t->normalizer, true, collapse, "pieces", &err) == LF_OK);
    require(lf_load_added_by_kind(t, true, &err) == LF_OK && lf_tokenizer_finish(t, "pieces", &err) == LF_OK);
    return t;
}

/* The text of the ids. */
static void decode(const lf_tokenizer *t, const lf_ids *ids, bool special, lf_bytes *out)
{
    lf_detok state = {0};
    lf_error err;
    out->len = 0;
    for (size_t i = 0; i < ids->len; i++) {
        const size_t before = out->len;
        require(lf_detok_push(&state, t, ids->data[i], special, out, &err) == LF_OK);
        require(out->len == before ||
                lf_utf8_valid_prefix(out->data + before, out->len - before) == out->len - before);
    }
    require(lf_detok_finish(&state, out, &err) == LF_OK);
}

static void round_trip(const lf_tokenizer *t, bool promised, bool special, const char *text, size_t len)
{
    lf_ids ids = {0};
    lf_bytes back = {0};
    lf_error err;
    require(lf_tokenizer_encode(t, text, len, special, &ids, &err) == LF_OK);
    for (size_t i = 0; i < ids.len; i++) require(ids.data[i] >= 0 && ids.data[i] < lf_tokenizer_n_vocab(t));
    decode(t, &ids, special, &back);
    if (promised && lf_utf8_valid_prefix(text, len) == len)
        require(back.len == len && (len == 0 || memcmp(back.data, text, len) == 0));
    lf_ids_free(&ids);
    lf_bytes_free(&back);
}

static void try_text(const char *text, size_t len)
{
    static lf_tokenizer *byte_level[5], *sentencepiece[2];
    static const char *const pres[] = {"gpt-2", "llama-bpe", "qwen2", "smollm", "default"};
    if (!sentencepiece[1]) {
        for (int i = 0; i < 5; i++) byte_level[i] = make_byte_level(pres[i]);
        for (int i = 0; i < 2; i++) sentencepiece[i] = make_sentencepiece(i == 1);
    }
    for (int special = 0; special < 2; special++)
        for (int i = 0; i < 5; i++) round_trip(byte_level[i], true, special, text, len);
    const bool has_symbol = len > 0 && memmem(text, len, LF_SPACE_SYMBOL, LF_SPACE_SYMBOL_BYTES);
    round_trip(sentencepiece[0], !has_symbol, false, text, len);
    round_trip(sentencepiece[0], false, true, text, len);
    round_trip(sentencepiece[1], false, true, text, len);

    lf_bytes once = {0}, twice = {0};
    require(lf_nfc_append(&once, text, len) && lf_nfc_append(&twice, once.data ? once.data : "", once.len));
    require(once.len == twice.len && (once.len == 0 || memcmp(once.data, twice.data, once.len) == 0));
    lf_bytes_free(&once);
    lf_bytes_free(&twice);
}

/* ---- files ---- */

/* Uses a tokenizer that loaded: its own pieces are the text. */
static void use(const lf_tokenizer *t)
{
    static const char text[] = "Hello  \xC3\xA9 e\xCC\x81\n<s> hell <|x|> 1234 \xFF zzz";
    lf_ids ids = {0};
    lf_bytes out = {0};
    lf_error err;
    for (int32_t id = 0; id < lf_tokenizer_n_vocab(t) && id < 100; id++) {
        size_t len;
        const char *piece = lf_tokenizer_piece(t, id, &len);
        (void)lf_tokenizer_encode(t, piece, len, true, &ids, &err);
        require(lf_ids_push(&ids, id));
    }
    (void)lf_tokenizer_encode(t, text, sizeof text - 1, lf_tokenizer_n_vocab(t) % 2, &ids, &err);
    decode(t, &ids, true, &out);
    (void)lf_tokenizer_adds_bos(t);
    (void)lf_tokenizer_chat_template(t);
    lf_ids_free(&ids);
    lf_bytes_free(&out);
}

static lf_status load_json(lf_tokenizer *t, const char *data, size_t size, lf_error *err)
{
    json_t *root = NULL;
    lf_status status = lf_json_parse(&root, data, size, "json", err);
    if (status == LF_OK) status = lf_load_tokenizer_json(t, root, "json", err);
    json_decref(root);
    return status;
}

/* The small ranks with the bytes as tokenizer_config.json beside. */
static lf_status load_config(lf_tokenizer *t, const char *data, size_t size, lf_error *err)
{
    lf_sidecar s = {.config_name = "config", .generation_name = "config", .map_name = "config"};
    bool found;
    lf_status status;
    LF_TRY(lf_json_parse(&s.config, data, size, "config", err));
    LF_TRY(load_ranks(t, err));
    LF_TRY(lf_sidecar_add_tokens(&s, t, &found, err));
    s.generation = s.config;
    LF_TRY(lf_sidecar_apply(&s, t, err));
done:
    json_decref(s.config);
    return status;
}

/* The bytes of the alphabet and a few words, with the bytes as merges.txt. */
static lf_status load_merges(lf_tokenizer *t, const char *data, size_t size, lf_error *err)
{
    static const char vocab[] =
        "{\"a\":0,\"b\":1,\"ab\":2,\"aa\":3,\"aab\":4,\"aaaa\":5,\"\\u0120\":6,\"\\u0120a\":7}";
    json_t *root = NULL;
    lf_status status = lf_json_parse(&root, vocab, sizeof vocab - 1, "vocab", err);
    if (status == LF_OK) status = lf_load_vocab_and_merges(t, root, "vocab", data, size, "merges", err);
    json_decref(root);
    return status;
}

/* The small ranks with the bytes as a second stage of the pre-tokeniser. */
static lf_status load_pattern(lf_tokenizer *t, const char *data, size_t size, lf_error *err)
{
    lf_status status = load_ranks(t, err);
    if (status != LF_OK) return status;
    char *pattern = lf_strndup(data, size);
    require(pattern != NULL);
    if (lf_utf8_valid_prefix(pattern, size) == size)
        status = lf_pretokenizer_add(&t->pretokenizer, pattern, size % 2, "pattern", err);
    free(pattern);
    return status;
}

static void try_gguf(const uint8_t *data, size_t size)
{
    lf_gguf *g;
    lf_tokenizer *t;
    lf_error err;
    if (lf_gguf_parse(&g, data, size, "gguf", &err) != LF_OK) return;
    if (lf_tokenizer_from_gguf(&t, g, &err) == LF_OK) {
        use(t);
        lf_tokenizer_free(t);
    }
    lf_gguf_close(g);
}

static void try_file(unsigned form, const char *data, size_t size)
{
    lf_tokenizer *t = NULL;
    lf_error err;
    require(lf_tokenizer_new(&t, &err) == LF_OK);
    lf_status status = LF_EINVAL;
    switch (form) {
    case 'j': status = load_json(t, data, size, &err); break;
    case 's': status = lf_load_sentencepiece(t, data, size, "spm", &err); break;
    case 'k': status = lf_load_tiktoken(t, data, size, "ranks", &err); break;
    case 'm': status = load_merges(t, data, size, &err); break;
    case 'c': status = load_config(t, data, size, &err); break;
    default: status = load_pattern(t, data, size, &err); break;
    }
    if (status == LF_OK) status = lf_tokenizer_finish(t, "file", &err);
    if (status == LF_OK) use(t);
    lf_tokenizer_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    const char *rest = (const char *)data + 1;
    switch (data[0]) {
    case 'g': try_gguf(data + 1, size - 1); break;
    case 'j':
    case 's':
    case 'k':
    case 'm':
    case 'c':
    case 'p': try_file(data[0], rest, size - 1); break;
    default: try_text(rest, size - 1); break;
    }
    return 0;
}
