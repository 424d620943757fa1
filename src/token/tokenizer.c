/* The tokenizer as an object: making one, what is derived from a vocabulary, and the questions it answers. */
#include "token/tokenizer_int.h"

#include "token/alphabet.h"
#include "token/utf8.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

lf_status lf_tokenizer_new(lf_tokenizer **out, lf_error *err)
{
    lf_tokenizer *t = calloc(1, sizeof *t);
    if (!t) return lf_fail_memory(err, "a tokenizer", sizeof *t);
    t->bos = t->unknown = LF_TOKEN_NONE;
    *out = t;
    return LF_OK;
}

void lf_tokenizer_free(lf_tokenizer *t)
{
    if (!t) return;
    lf_vocab_free(&t->vocab);
    free(t->scores);
    lf_merges_free(&t->merges);
    lf_added_set_free(&t->raw);
    lf_added_set_free(&t->normalized);
    lf_pretokenizer_free(&t->pretokenizer);
    lf_ids_free(&t->eos);
    free(t->chat_template);
    free(t->chat_template_tools);
    free(t);
}

lf_status lf_tokenizer_add_eos(lf_tokenizer *t, int32_t id, lf_error *err)
{
    if (lf_tokenizer_is_eos(t, id)) return LF_OK;
    return lf_ids_push(&t->eos, id) ? LF_OK : lf_fail_memory(err, "the end tokens", sizeof id);
}

/* ---- SentencePiece: merges from scores ---- */

static int compare_scores(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y); /* highest first */
}

/* ranks (n_vocab): how many different scores are higher than that of the token; LF_RANK_NONE unless it is text. */
static lf_status rank_scores(const lf_tokenizer *t, uint32_t *ranks, const char *name, lf_error *err)
{
    const size_t bytes = (size_t)t->n_vocab * sizeof(float);
    float *sorted = malloc(bytes);
    if (!sorted) return lf_fail_memory(err, "the scores", bytes);
    memcpy(sorted, t->scores, bytes);
    size_t n = 0;
    for (int32_t id = 0; id < t->n_vocab; id++) {
        if (!isnan(t->scores[id])) continue;
        free(sorted);
        return lf_fail(err, LF_EFORMAT, "%s: token %d: found a score that is not a number", name, (int)id);
    }
    qsort(sorted, (size_t)t->n_vocab, sizeof *sorted, compare_scores);
    for (int32_t i = 0; i < t->n_vocab; i++)
        if (n == 0 || sorted[n - 1] > sorted[i]) sorted[n++] = sorted[i];
    for (int32_t id = 0; id < t->n_vocab; id++) {
        const float *found = bsearch(&t->scores[id], sorted, n, sizeof *sorted, compare_scores);
        ranks[id] = lf_is_text((lf_token_kind)t->vocab.kinds[id]) ? (uint32_t)(found - sorted) : LF_RANK_NONE;
    }
    free(sorted);
    return LF_OK;
}

/* Characters of pieces that are not tokens themselves can still be merged into some, so they become symbols. */
static lf_status add_symbols(lf_tokenizer *t, const char *name, lf_error *err)
{
    for (int32_t id = 0; id < t->n_vocab; id++) {
        if (!lf_is_text((lf_token_kind)t->vocab.kinds[id])) continue;
        size_t len;
        lf_vocab_piece(&t->vocab, id, &len);
        for (size_t i = 0, step; i < len; i += step) {
            const char *piece = lf_vocab_piece(&t->vocab, id, &len); /* adding moves the text */
            char symbol[4];
            step = lf_utf8_step(piece + i, len - i);
            memcpy(symbol, piece + i, step);
            if (lf_vocab_find(&t->vocab, symbol, step) != LF_TOKEN_NONE) continue;
            const lf_status status = lf_vocab_add(&t->vocab, symbol, step, LF_TOKEN_UNKNOWN, name, err);
            if (status != LF_OK) return status;
        }
    }
    return LF_OK;
}

/* SentencePiece takes a merged piece of kind UNUSED apart again, by the last way it happened to see it made. No real
 * model needs that: its unused pieces cannot be made at all. */
static lf_status refuse_unused(const lf_tokenizer *t, const char *name, lf_error *err)
{
    for (int32_t id = 0; id < t->n_vocab; id++) {
        if (t->vocab.kinds[id] != LF_TOKEN_UNUSED) continue;
        size_t len;
        const char *piece = lf_vocab_piece(&t->vocab, id, &len);
        for (size_t cut = lf_utf8_step(piece, len); cut < len; cut += lf_utf8_step(piece + cut, len - cut))
            if (lf_vocab_find(&t->vocab, piece, cut) != LF_TOKEN_NONE &&
                lf_vocab_find(&t->vocab, piece + cut, len - cut) != LF_TOKEN_NONE)
                return lf_fail(
                    err, LF_EUNSUPPORTED,
                    "%s: token %d: found the unused piece '%.*s', expected one that no text can form", name,
                    (int)id, (int)len, piece);
    }
    return LF_OK;
}

static lf_status derive_merges(lf_tokenizer *t, const char *name, lf_error *err)
{
    uint32_t *ranks = NULL;
    lf_status status;
    LF_TRY(add_symbols(t, name, err));
    LF_TRY(refuse_unused(t, name, err));
    const size_t n = (size_t)t->vocab.n;
    ranks = malloc(n * sizeof *ranks);
    if (!ranks) LF_TRY(lf_fail_memory(err, "the ranks", n * sizeof *ranks));
    memset(ranks, 0xFF, n * sizeof *ranks); /* LF_RANK_NONE for the symbols */
    LF_TRY(rank_scores(t, ranks, name, err));
    LF_TRY(lf_merges_derive(&t->merges, &t->vocab, ranks, err));
done:
    free(ranks);
    return status;
}

/* ---- what encoding needs ---- */

static void find_symbols(lf_tokenizer *t)
{
    for (int i = 0; i < 256; i++) {
        char written[4];
        const bool own = t->scheme == LF_SCHEME_CODE_POINTS;
        const size_t len = lf_utf8_encode(own ? (uint32_t)i : lf_alphabet_char((uint8_t)i), written);
        t->symbol_ids[i] = lf_vocab_find(&t->vocab, written, len);
        t->byte_ids[i] = lf_vocab_find_byte(&t->vocab, (uint8_t)i);
    }
}

/* Whether a piece has a "▁" after anything but another "▁". */
static bool joins_words(const char *piece, size_t len)
{
    size_t i = 0;
    while (lf_is_space_symbol(piece + i, len - i)) i += LF_SPACE_SYMBOL_BYTES;
    return memmem(piece + i, len - i, LF_SPACE_SYMBOL, LF_SPACE_SYMBOL_BYTES) != NULL;
}

/* Words can be encoded apart when no merge crosses from one to the next, and no run of unknown characters does. */
static bool can_split_words(const lf_tokenizer *t)
{
    if (t->scheme != LF_SCHEME_CODE_POINTS) return false;
    if (t->fuse_unknown && t->unknown != LF_TOKEN_NONE) {
        if (!t->byte_fallback) return false;
        for (int i = 0; i < 256; i++)
            if (t->byte_ids[i] == LF_TOKEN_NONE) return false;
    }
    for (uint32_t i = 0; i < t->merges.n_slots; i++) {
        if (t->merges.slots[i].left == LF_TOKEN_NONE) continue;
        size_t len;
        const char *piece = lf_vocab_piece(&t->vocab, t->merges.slots[i].id, &len);
        if (joins_words(piece, len)) return false;
    }
    return true;
}

/* The names by which the families end a turn or a text, whatever else a file says. */
static const char *const known_ends[] = {"</s>",       "<|eot_id|>",    "<|eom_id|>", "<|end_of_text|>",
                                         "<|im_end|>", "<|endoftext|>", "<|end|>",    "<end_of_turn>"};
enum { N_KNOWN_ENDS = sizeof known_ends / sizeof *known_ends };

bool lf_tokenizer_is_known_end(const lf_tokenizer *t, int32_t id)
{
    size_t len;
    const char *piece = lf_tokenizer_piece(t, id, &len);
    for (size_t i = 0; i < N_KNOWN_ENDS; i++)
        if (len == strlen(known_ends[i]) && memcmp(piece, known_ends[i], len) == 0) return true;
    return false;
}

static lf_status add_known_ends(lf_tokenizer *t, lf_error *err)
{
    for (size_t i = 0; i < N_KNOWN_ENDS; i++) {
        const int32_t id = lf_vocab_find(&t->vocab, known_ends[i], strlen(known_ends[i]));
        if (id == LF_TOKEN_NONE || t->vocab.kinds[id] != LF_TOKEN_CONTROL) continue;
        const lf_status status = lf_tokenizer_add_eos(t, id, err);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

lf_status lf_tokenizer_finish(lf_tokenizer *t, const char *name, lf_error *err)
{
    t->n_vocab = t->vocab.n;
    if (t->n_vocab == 0) return lf_fail(err, LF_EFORMAT, "%s: found an empty vocabulary", name);
    lf_status status = t->scores ? derive_merges(t, name, err) : LF_OK;
    if (status == LF_OK) status = add_known_ends(t, err);
    if (status != LF_OK) return status;
    find_symbols(t);
    t->splits_words = can_split_words(t);
    lf_added_set_index(&t->raw);
    lf_added_set_index(&t->normalized);
    return LF_OK;
}

/* ---- questions ---- */

int32_t lf_tokenizer_n_vocab(const lf_tokenizer *t)
{
    return t->n_vocab;
}

int32_t lf_tokenizer_bos(const lf_tokenizer *t)
{
    return t->bos;
}

bool lf_tokenizer_adds_bos(const lf_tokenizer *t)
{
    return t->adds_bos && t->bos != LF_TOKEN_NONE;
}

bool lf_tokenizer_is_eos(const lf_tokenizer *t, int32_t id)
{
    for (size_t i = 0; i < t->eos.len; i++)
        if (t->eos.data[i] == id) return true;
    return false;
}

lf_token_kind lf_tokenizer_kind(const lf_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n_vocab ? (lf_token_kind)t->vocab.kinds[id] : LF_TOKEN_UNUSED;
}

int32_t lf_tokenizer_eos(const lf_tokenizer *t)
{
    return t->eos.len ? t->eos.data[0] : LF_TOKEN_NONE;
}

const char *lf_tokenizer_chat_template_tools(const lf_tokenizer *t)
{
    return t->chat_template_tools;
}

const char *lf_tokenizer_chat_template(const lf_tokenizer *t)
{
    return t->chat_template;
}

const char *lf_tokenizer_piece(const lf_tokenizer *t, int32_t id, size_t *len)
{
    *len = 0;
    return id >= 0 && id < t->n_vocab ? lf_vocab_piece(&t->vocab, id, len) : "";
}
