#include "train/data_hash.h"

#include <string.h>

enum { WORD = 8 };

static uint64_t add_word(uint64_t state, const uint8_t *word)
{
    uint64_t w;
    memcpy(&w, word, WORD);
    state = (state ^ w) * 0x9E3779B97F4A7C15u;
    return state ^ state >> 32;
}

void lf_data_hash_add(lf_data_hash *h, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    size_t n_tail = h->n_bytes % WORD;
    h->n_bytes += bytes;
    if (n_tail > 0) {
        const size_t n = WORD - n_tail < bytes ? WORD - n_tail : bytes;
        memcpy(h->tail + n_tail, p, n);
        p += n;
        bytes -= n;
        n_tail += n;
        if (n_tail < WORD) return;
        h->state = add_word(h->state, h->tail);
    }
    for (; bytes >= WORD; p += WORD, bytes -= WORD) h->state = add_word(h->state, p);
    if (bytes > 0) memcpy(h->tail, p, bytes);
}

uint64_t lf_data_hash_value(const lf_data_hash *h)
{
    const size_t n_tail = h->n_bytes % WORD;
    uint8_t last[WORD] = {0};
    memcpy(last, h->tail, n_tail);
    return lf_data_mix((n_tail > 0 ? add_word(h->state, last) : h->state) + h->n_bytes);
}
