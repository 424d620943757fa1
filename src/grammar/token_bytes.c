#include "grammar/token_bytes.h"

#include "token/vocab.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* A token while its place is sought. head: its first eight bytes as a number that compares as they do. */
typedef struct entry {
    uint64_t head;
    uint32_t begin;
    int32_t id;
    int len;
} entry;

static bool has_text(const lf_tokenizer *t, int32_t id)
{
    const lf_token_kind kind = lf_tokenizer_kind(t, id);
    return (kind == LF_TOKEN_NORMAL || kind == LF_TOKEN_BYTE || kind == LF_TOKEN_USER_DEFINED) &&
           !lf_tokenizer_is_eos(t, id);
}

static int compare_entries(const void *a, const void *b, void *bytes)
{
    const entry *x = a, *y = b;
    const uint8_t *text = bytes;
    if (x->head != y->head) return x->head < y->head ? -1 : 1;
    const int n = x->len < y->len ? x->len : y->len,
              order = memcmp(text + x->begin, text + y->begin, (size_t)n);
    if (order != 0) return order;
    return x->len != y->len ? x->len - y->len : (x->id > y->id) - (x->id < y->id);
}

/* The entries (n) of all tokens with text; their bytes go to `text` one after the other. */
static lf_status collect(entry *entries, int *n, lf_bytes *text, const lf_tokenizer *t, lf_error *err)
{
    char bytes[LF_PIECE_BYTES_MAX];
    *n = 0;
    for (int32_t id = 0; id < lf_tokenizer_n_vocab(t); id++) {
        const size_t len = has_text(t, id) ? lf_tokenizer_bytes(t, id, bytes) : 0;
        uint64_t head = 0;
        if (len == 0) continue;
        for (size_t i = 0; i < sizeof head; i++) head = head << 8 | (i < len ? (uint8_t)bytes[i] : 0);
        entries[(*n)++] = (entry){.head = head, .begin = (uint32_t)text->len, .id = id, .len = (int)len};
        if (!lf_bytes_append(text, bytes, len)) return lf_fail_memory(err, "the vocabulary", text->len);
    }
    return LF_OK;
}

static int count_shared(const uint8_t *a, int n_a, const uint8_t *b, int n_b)
{
    int n = 0;
    while (n < n_a && n < n_b && a[n] == b[n]) n++;
    return n;
}

static void place_entries(lf_token_bytes *out, const entry *entries, const uint8_t *text)
{
    uint32_t end = 0;
    for (int i = 0; i < out->n; i++) {
        const entry *x = &entries[i];
        memcpy(out->bytes + end, text + x->begin, (size_t)x->len);
        out->ids[i] = x->id;
        out->places[x->id] = i;
        out->ends[i] = end += (uint32_t)x->len;
        out->shared[i] = (uint16_t)(i == 0 ? 0
                                           : count_shared(text + x[-1].begin, x[-1].len, text + x->begin,
                                                          x->len));
        if (x->len > out->n_bytes_max) out->n_bytes_max = x->len;
        out->begins[text[x->begin] + 1] = i + 1;
    }
    for (int b = 1; b <= 256; b++)
        if (out->begins[b] == 0) out->begins[b] = out->begins[b - 1];
}

lf_status lf_token_bytes_create(lf_token_bytes **out, const lf_tokenizer *t, int n_vocab, lf_error *err)
{
    const size_t n = (size_t)n_vocab;
    lf_status status = LF_OK;
    lf_bytes text = {0};
    entry *entries = malloc(n * sizeof *entries);
    lf_token_bytes *b = calloc(1, sizeof *b);
    *out = NULL;
    assert(lf_tokenizer_n_vocab(t) <= n_vocab);
    if (!entries || !b) LF_TRY(lf_fail_memory(err, "the vocabulary", n * sizeof *entries));
    LF_TRY(collect(entries, &b->n, &text, t, err));
    qsort_r(entries, (size_t)b->n, sizeof *entries, compare_entries, text.data);
    b->n_vocab = n_vocab;
    b->ids = malloc(n * sizeof *b->ids);
    b->ends = malloc(n * sizeof *b->ends);
    b->shared = malloc(n * sizeof *b->shared);
    b->bytes = malloc(text.len + 1);
    b->places = malloc(n * sizeof *b->places);
    b->ends_of_sequence = calloc((n + 31) / 32, sizeof *b->ends_of_sequence);
    if (!b->ids || !b->ends || !b->shared || !b->bytes || !b->places || !b->ends_of_sequence)
        LF_TRY(lf_fail_memory(err, "the vocabulary", n * sizeof *b->places));
    memset(b->places, 0xFF, n * sizeof *b->places);
    place_entries(b, entries, (const uint8_t *)text.data);
    for (int32_t id = 0; id < lf_tokenizer_n_vocab(t); id++)
        if (lf_tokenizer_is_eos(t, id)) b->ends_of_sequence[id / 32] |= UINT32_C(1) << (id % 32);
    *out = b;
done:
    lf_bytes_free(&text);
    free(entries);
    if (status != LF_OK) lf_token_bytes_free(b);
    return status;
}

void lf_token_bytes_free(lf_token_bytes *t)
{
    if (!t) return;
    free(t->ids);
    free(t->ends);
    free(t->shared);
    free(t->bytes);
    free(t->places);
    free(t->ends_of_sequence);
    free(t);
}
