/* GPT-2's form of byte-level BPE: vocab.json, an object {piece: id}, and merges.txt, a line "left right" for each
 * merge, first ones first, after an optional line "#version: ...". */
#include "token/load.h"

#include <string.h>

static lf_status read_line(lf_tokenizer *t, uint32_t rank, const char *line, size_t len, const char *name,
                           lf_error *err)
{
    const char *space = memchr(line, ' ', len);
    const size_t left_len = space ? (size_t)(space - line) : 0, right_len = space ? len - left_len - 1 : 0;
    if (left_len == 0 || right_len == 0 || memchr(space + 1, ' ', right_len))
        return lf_fail(err, LF_EFORMAT, "%s: merge %u: found '%.*s', expected two pieces and a space between",
                       name, (unsigned)rank, (int)(len < 80 ? len : 80), line);
    return lf_load_merge(t, rank, line, left_len, space + 1, right_len, name, err);
}

static lf_status read_merges(lf_tokenizer *t, const char *p, size_t size, const char *name, lf_error *err)
{
    static const char version[] = "#version";
    const char *end = p + size;
    uint32_t rank = 0;
    for (const char *next; p < end; p = next) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        size_t len = newline ? (size_t)(newline - p) : (size_t)(end - p);
        next = newline ? newline + 1 : end;
        if (len > 0 && p[len - 1] == '\r') len--;
        if (len == 0 || (len >= strlen(version) && memcmp(p, version, strlen(version)) == 0)) continue;
        const lf_status status = read_line(t, rank++, p, len, name, err);
        if (status != LF_OK) return status;
    }
    return LF_OK;
}

lf_status lf_load_vocab_and_merges(lf_tokenizer *t, const json_t *vocab, const char *name, const char *merges,
                                   size_t merges_size, const char *merges_name, lf_error *err)
{
    t->scheme = LF_SCHEME_BYTES;
    const lf_status status = lf_load_vocab_object(t, vocab, NULL, name, err);
    return status == LF_OK ? read_merges(t, merges, merges_size, merges_name, err) : status;
}
