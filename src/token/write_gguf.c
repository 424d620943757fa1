/* A tokenizer as GGUF metadata: the keys of load_gguf.c.
 *
 * GGUF knows two kinds of tokenizer. A code-point vocabulary is written as SentencePiece with scores; one that came
 * with merges, which were made from scores, gets scores from them again. A byte-level vocabulary is written with its merges
 * and the name of its pre-tokeniser. What GGUF cannot say is LF_EUNSUPPORTED, with three exceptions that show in odd
 * texts only: the flags of added tokens; Metaspace, which adds no prefix to a text that begins with a space; and the
 * equal ranks of two ways to make one token, which are written in the order of their parts. */
#include "token/gguf_keys.h"
#include "token/load.h"
#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

typedef struct writer {
    const lf_tokenizer *t;
    lf_gguf_writer *w;
    int32_t n; /* tokens, padding included */
    lf_error *err;
} writer;

static lf_status fail_memory(const writer *w, size_t bytes)
{
    return lf_fail_memory(w->err, "the tokenizer's metadata", bytes);
}

/* A piece as GGUF has it: user-defined ones as they are in the text that they are cut out of. */
static bool append_piece(const lf_tokenizer *t, int32_t id, lf_bytes *text)
{
    if (id >= t->n_vocab) return lf_bytes_printf(text, "[PAD%d]", (int)id); /* llama.cpp's name for it */
    char spaced[LF_PIECE_BYTES_MAX];
    size_t len;
    const char *piece = lf_vocab_piece(&t->vocab, id, &len);
    if (t->scheme == LF_SCHEME_CODE_POINTS && t->vocab.kinds[id] == LF_TOKEN_USER_DEFINED) {
        len = lf_show_spaces(piece, len, spaced);
        piece = spaced;
    }
    return lf_bytes_append(text, piece, len);
}

/* n strings that lie one after the other in text, string i ending at ends[i]. */
static lf_status set_strings(const writer *w, const char *key, const lf_bytes *text, const size_t *ends,
                             size_t n)
{
    const char **strs = malloc(n * sizeof *strs);
    size_t *lens = malloc(n * sizeof *lens);
    const bool ok = strs && lens;
    for (size_t i = 0; i < n && ok; i++) {
        const size_t start = i ? ends[i - 1] : 0;
        strs[i] = text->data + start;
        lens[i] = ends[i] - start;
    }
    if (ok) lf_gguf_set_strings(w->w, key, strs, lens, n);
    free(strs);
    free(lens);
    return ok ? LF_OK : fail_memory(w, n * (sizeof *strs + sizeof *lens));
}

static lf_status write_tokens(const writer *w)
{
    const size_t n = (size_t)w->n;
    lf_bytes text = {0};
    size_t *ends = malloc(n * sizeof *ends);
    int32_t *kinds = malloc(n * sizeof *kinds);
    lf_status status = LF_OK;
    if (!ends || !kinds) LF_TRY(fail_memory(w, n * (sizeof *ends + sizeof *kinds)));
    for (int32_t id = 0; id < w->n; id++) {
        if (!append_piece(w->t, id, &text)) LF_TRY(fail_memory(w, text.len));
        ends[id] = text.len;
        kinds[id] = (int32_t)lf_tokenizer_kind(w->t, id); /* unused beyond the vocabulary */
    }
    LF_TRY(set_strings(w, LF_GGUF_TOKENS, &text, ends, n));
    lf_gguf_set_array(w->w, LF_GGUF_TOKEN_TYPE, LF_GGUF_I32, kinds, n);
done:
    free(kinds);
    free(ends);
    lf_bytes_free(&text);
    return status;
}

/* ---- SentencePiece ---- */

/* scores (n_vocab), zero before: those of the tokens that merges make.
 *
 * The merges of one token have one score. Where those of several tokens alternate in the list, as they do for the runs
 * of spaces in Llama 2's tokenizer.json, the tokens had equal scores once, and get equal ones again: -1 - rank of the
 * first merge of the group. A group ends where every token of it has had its last merge. */
static lf_status scores_from_merges(const writer *w, float *scores)
{
    const uint32_t n = w->t->merges.n;
    lf_merge *merges = lf_merges_sorted(&w->t->merges);
    const size_t n_made = (size_t)w->t->vocab.n;
    uint32_t *last = malloc(n_made * sizeof *last); /* the last merge of each token that one makes */
    lf_status status = LF_OK;
    if (!merges || !last) LF_TRY(fail_memory(w, n * sizeof *merges));
    for (uint32_t i = 0; i < n; i++) last[merges[i].id] = i;
    for (uint32_t i = 0, first = 0, end = 0; i < n; i++) {
        if (i > end) first = end = i;
        if (last[merges[i].id] > end) end = last[merges[i].id];
        scores[merges[i].id] = -1 - (float)first;
    }
done:
    free(last);
    free(merges);
    return status;
}

/* With scores, whatever can be merged is: every split of a piece in two must be one of the merges. */
static lf_status check_merges_are_complete(const writer *w)
{
    const lf_tokenizer *t = w->t;
    const size_t n = (size_t)t->vocab.n;
    lf_merges possible = {0};
    lf_status status;
    uint32_t *ranks = malloc(n * sizeof *ranks);
    if (!ranks) return fail_memory(w, n * sizeof *ranks);
    for (size_t i = 0; i < n; i++) ranks[i] = lf_is_text((lf_token_kind)t->vocab.kinds[i]) ? 0 : LF_RANK_NONE;
    LF_TRY(lf_merges_derive(&possible, &t->vocab, ranks, w->err));
    if (possible.n != t->merges.n)
        LF_TRY(lf_fail(w->err, LF_EUNSUPPORTED,
                       "found %u merges in a vocabulary that allows %u, which no GGUF scores can express",
                       (unsigned)t->merges.n, (unsigned)possible.n));
done:
    lf_merges_free(&possible);
    free(ranks);
    return status;
}

static lf_status write_scores(const writer *w)
{
    const lf_tokenizer *t = w->t;
    lf_status status = LF_OK;
    float *scores = calloc((size_t)w->n, sizeof *scores);
    if (!scores) return fail_memory(w, (size_t)w->n * sizeof *scores);
    if (t->scores) {
        memcpy(scores, t->scores, (size_t)t->n_vocab * sizeof *scores);
    } else {
        LF_TRY(check_merges_are_complete(w));
        LF_TRY(scores_from_merges(w, scores));
    }
    lf_gguf_set_array(w->w, LF_GGUF_SCORES, LF_GGUF_F32, scores, (size_t)w->n);
done:
    free(scores);
    return status;
}

/* Whether a step is one of those that add_space_prefix and remove_extra_whitespaces stand for. */
static bool is_about_spaces(const lf_rewrite *step)
{
    static const char symbol[] = LF_SPACE_SYMBOL;
    switch (step->kind) {
    case LF_REWRITE_NFC: return false;
    case LF_REWRITE_REPLACE:
        if (step->from_len != 1 || step->from[0] != ' ') return false;
        break;
    case LF_REWRITE_PREPEND:
    case LF_REWRITE_PREPEND_MISSING:
    case LF_REWRITE_PREPEND_FIRST: break;
    case LF_REWRITE_COLLAPSE_SPACES:
    case LF_REWRITE_TRIM_END:
    case LF_REWRITE_ILL_FORMED: return true;
    }
    return step->to_len == strlen(symbol) && memcmp(step->to, symbol, strlen(symbol)) == 0;
}

static bool are_about_spaces(const lf_rewrites *r)
{
    for (int i = 0; i < r->n; i++)
        if (!is_about_spaces(&r->items[i])) return false;
    return true;
}

static lf_status write_sentencepiece(const writer *w)
{
    const lf_tokenizer *t = w->t;
    const bool by_words = t->pretokenizer.n == 1 && t->splits_words &&
                          strcmp(t->pretokenizer.stages[0].pattern, LF_PATTERN_METASPACE) == 0;
    if (t->whole_pieces || (t->pretokenizer.n && !by_words) || !are_about_spaces(&t->normalizer) ||
        !are_about_spaces(&t->metaspace))
        return lf_fail(
            w->err, LF_EUNSUPPORTED,
            "a tokenizer of code points with a normalizer or pre-tokenizer that GGUF has no key for");
    const bool prefix = lf_rewrites_have(&t->normalizer, LF_REWRITE_PREPEND) ||
                        lf_rewrites_have(&t->metaspace, LF_REWRITE_PREPEND_MISSING) ||
                        lf_rewrites_have(&t->metaspace, LF_REWRITE_PREPEND_FIRST);
    lf_gguf_set_string(w->w, LF_GGUF_MODEL, "llama", strlen("llama"));
    lf_gguf_set_string(w->w, LF_GGUF_PRE, "default", strlen("default"));
    lf_gguf_set_bool(w->w, LF_GGUF_SPACE_PREFIX, prefix);
    if (lf_rewrites_have(&t->normalizer, LF_REWRITE_COLLAPSE_SPACES))
        lf_gguf_set_bool(w->w, LF_GGUF_EXTRA_SPACES, true);
    return write_scores(w);
}

/* ---- byte-level BPE ---- */

static lf_status write_merges(const writer *w)
{
    const lf_tokenizer *t = w->t;
    const uint32_t n = t->merges.n;
    lf_bytes text = {0};
    size_t *ends = NULL;
    lf_status status = LF_OK;
    lf_merge *merges = lf_merges_sorted(&t->merges);
    if (merges) ends = malloc((n ? n : 1) * sizeof *ends);
    if (!ends) LF_TRY(fail_memory(w, n * sizeof *ends));
    for (uint32_t i = 0; i < n; i++) {
        size_t left_len, right_len;
        const char *left = lf_vocab_piece(&t->vocab, merges[i].left, &left_len);
        const char *right = lf_vocab_piece(&t->vocab, merges[i].right, &right_len);
        if (!lf_bytes_append(&text, left, left_len) || !lf_bytes_append(&text, " ", 1) ||
            !lf_bytes_append(&text, right, right_len))
            LF_TRY(fail_memory(w, text.len));
        ends[i] = text.len;
    }
    status = set_strings(w, LF_GGUF_MERGES, &text, ends, n);
done:
    free(ends);
    free(merges);
    lf_bytes_free(&text);
    return status;
}

static lf_status write_byte_level(const writer *w)
{
    const lf_tokenizer *t = w->t;
    const lf_gguf_pre *pre = lf_gguf_pre_describing(&t->pretokenizer);
    const bool nfc = t->normalizer.n == 1 && t->normalizer.items[0].kind == LF_REWRITE_NFC;
    if (!pre || t->metaspace.n || (t->normalizer.n && !nfc))
        return lf_fail(w->err, LF_EUNSUPPORTED,
                       "a byte-level tokenizer with a normalizer or pre-tokenizer that GGUF has no name for");
    lf_gguf_set_string(w->w, LF_GGUF_MODEL, "gpt2", strlen("gpt2"));
    lf_gguf_set_string(w->w, LF_GGUF_PRE, pre->names[0], strlen(pre->names[0]));
    if (nfc) lf_gguf_set_bool(w->w, LF_GGUF_NFC, true);
    return write_merges(w);
}

/* ---- the whole ---- */

/* The first end token, and two more that no reader would know by their names. */
static void write_ends(const writer *w)
{
    static const char *const keys[] = {LF_GGUF_EOS, LF_GGUF_EOT, LF_GGUF_EOM};
    size_t n = 0;
    for (size_t i = 0; i < w->t->eos.len && n < sizeof keys / sizeof *keys; i++)
        if (i == 0 || !lf_tokenizer_is_known_end(w->t, w->t->eos.data[i]))
            lf_gguf_set_int(w->w, keys[n++], LF_GGUF_U32, w->t->eos.data[i]);
}

lf_status lf_tokenizer_write_gguf(const lf_tokenizer *t, lf_gguf_writer *gguf, int32_t n_vocab_padded,
                                  lf_error *err)
{
    const writer w = {
        .t = t, .w = gguf, .n = n_vocab_padded > t->n_vocab ? n_vocab_padded : t->n_vocab, .err = err};
    lf_status status;
    LF_TRY(t->scheme == LF_SCHEME_BYTES ? write_byte_level(&w) : write_sentencepiece(&w));
    LF_TRY(write_tokens(&w));
    if (t->bos != LF_TOKEN_NONE) lf_gguf_set_int(gguf, LF_GGUF_BOS, LF_GGUF_U32, t->bos);
    if (t->unknown != LF_TOKEN_NONE) lf_gguf_set_int(gguf, LF_GGUF_UNKNOWN, LF_GGUF_U32, t->unknown);
    write_ends(&w);
    lf_gguf_set_bool(gguf, LF_GGUF_ADD_BOS, lf_tokenizer_adds_bos(t));
    if (t->chat_template)
        lf_gguf_set_string(gguf, LF_GGUF_CHAT_TEMPLATE, t->chat_template, strlen(t->chat_template));
    if (t->chat_template_tools) {
        static const char *const names[] = {"tool_use"};
        static const size_t lens[] = {8};
        lf_gguf_set_strings(gguf, LF_GGUF_CHAT_TEMPLATES, names, lens, 1);
        lf_gguf_set_string(gguf, LF_GGUF_CHAT_TOOL_USE, t->chat_template_tools,
                           strlen(t->chat_template_tools));
    }
done:
    return status;
}
