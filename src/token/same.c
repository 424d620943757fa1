/* Whether two tokenizers have the same vocabulary, so that the ids of one model mean the same to another. */
#include "token/tokenizer.h"

#include <stdio.h>
#include <string.h>

enum { BYTES_SHOWN = 24, SHOWN_MAX = 4 * BYTES_SHOWN + 4 };

/* The beginning of a piece for an error text. It comes from a file: only plain characters are shown as they are. */
static const char *show(char out[SHOWN_MAX], const char *piece, size_t len)
{
    size_t n = 0;
    for (size_t i = 0; i < len && i < BYTES_SHOWN; i++) {
        const unsigned char c = (unsigned char)piece[i];
        const bool plain = c >= ' ' && c <= '~' && c != '\\';
        n += (size_t)snprintf(out + n, SHOWN_MAX - n, plain ? "%c" : "\\x%02X", c);
    }
    (void)snprintf(out + n, SHOWN_MAX - n, "%s", len > BYTES_SHOWN ? "..." : "");
    return out;
}

static const char *kind_name(lf_token_kind kind)
{
    static const char *const names[] = {"none",         "normal", "unknown", "control",
                                        "user-defined", "unused", "byte"};
    return (unsigned)kind < sizeof names / sizeof *names ? names[kind] : "another";
}

lf_status lf_tokenizer_check_same(const lf_tokenizer *a, const char *a_name, const lf_tokenizer *b,
                                  const char *b_name, lf_error *err)
{
    const int32_t n = lf_tokenizer_n_vocab(a);
    char a_shown[SHOWN_MAX], b_shown[SHOWN_MAX];
    if (lf_tokenizer_n_vocab(b) != n)
        return lf_fail(err, LF_EINVAL, "%s: found a vocabulary of %d tokens, expected the %d of %s", b_name,
                       (int)lf_tokenizer_n_vocab(b), (int)n, a_name);
    for (int32_t id = 0; id < n; id++) {
        size_t a_len, b_len;
        const char *a_piece = lf_tokenizer_piece(a, id, &a_len), *b_piece = lf_tokenizer_piece(b, id, &b_len);
        const lf_token_kind a_kind = lf_tokenizer_kind(a, id), b_kind = lf_tokenizer_kind(b, id);
        if (a_len != b_len || memcmp(a_piece, b_piece, a_len) != 0)
            return lf_fail(err, LF_EINVAL, "%s: token %d: found \"%s\", expected \"%s\", as in %s", b_name,
                           (int)id, show(b_shown, b_piece, b_len), show(a_shown, a_piece, a_len), a_name);
        if (a_kind != b_kind)
            return lf_fail(err, LF_EINVAL, "%s: token %d, \"%s\": found its type %s, expected %s, as in %s",
                           b_name, (int)id, show(a_shown, a_piece, a_len), kind_name(b_kind),
                           kind_name(a_kind), a_name);
    }
    return LF_OK;
}
