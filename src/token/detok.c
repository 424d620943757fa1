/* Ids to text, token by token. The bytes of a token join the incomplete code point that waits, and all that is certain
 * leaves. What can never become UTF-8 leaves as U+FFFD, one for each maximal ill-formed subpart: the text is the one
 * that Python's bytes.decode(errors="replace") makes of all the bytes together. */
#include "token/tokenizer_int.h"

#include "token/alphabet.h"
#include "token/utf8.h"

#include <assert.h>
#include <string.h>

/* The bytes that a piece of the alphabet stands for; if it is not written in it, it stands for itself. */
static size_t bytes_of_piece(const char *piece, size_t len, char *out)
{
    size_t n = 0;
    uint32_t cp;
    for (size_t i = 0; i < len;) {
        const int step = lf_utf8_decode(piece + i, len - i, &cp);
        const int byte = step > 0 ? lf_alphabet_byte(cp) : -1;
        if (byte < 0) {
            memcpy(out, piece, len);
            return len;
        }
        out[n++] = (char)byte;
        i += (size_t)step;
    }
    return n;
}

size_t lf_show_spaces(const char *piece, size_t len, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < len;) {
        if (lf_is_space_symbol(piece + i, len - i)) {
            out[n++] = ' ';
            i += LF_SPACE_SYMBOL_BYTES;
        } else {
            out[n++] = piece[i++];
        }
    }
    return n;
}

_Static_assert((int)LF_TOKEN_BYTES_LIMIT >= (int)LF_PIECE_BYTES_MAX, "never more than the piece has");

size_t lf_tokenizer_bytes(const lf_tokenizer *t, int32_t id, char *out)
{
    size_t len;
    const char *piece = lf_vocab_piece(&t->vocab, id, &len);
    const lf_token_kind kind = (lf_token_kind)t->vocab.kinds[id];
    const int byte = kind == LF_TOKEN_BYTE ? lf_byte_of_piece(piece, len) : -1;
    if (byte >= 0) {
        out[0] = (char)byte;
        return 1;
    }
    if (t->scheme == LF_SCHEME_CODE_POINTS) return lf_show_spaces(piece, len, out);
    if (kind == LF_TOKEN_NORMAL) return bytes_of_piece(piece, len, out);
    memcpy(out, piece, len);
    return len;
}

/* Whether the first byte of text (n), the bytes of a token at the start, is a space to drop. */
static bool drops_lead(const lf_tokenizer *t, int32_t id, const char *text, size_t n)
{
    if (n == 0 || text[0] != ' ' || t->lead == LF_LEAD_KEPT) return false;
    size_t len;
    const char *piece = lf_vocab_piece(&t->vocab, id, &len);
    return t->lead == LF_LEAD_SPACE || lf_is_space_symbol(piece, len);
}

/* Appends the certain part of bytes (n) to out and keeps an incomplete tail. */
static bool append_certain(lf_detok *state, const char *bytes, size_t n, lf_bytes *out)
{
    while (n > 0) {
        const size_t valid = lf_utf8_valid_prefix(bytes, n);
        if (!lf_bytes_append(out, bytes, valid)) return false;
        bytes += valid;
        n -= valid;
        if (n == 0) break;
        uint32_t cp;
        const int decoded = lf_utf8_decode(bytes, n, &cp);
        if (decoded == 0) {
            memcpy(state->tail, bytes, n);
            state->n_tail = (uint8_t)n;
            break;
        }
        assert(decoded < 0);
        if (!lf_bytes_append(out, LF_REPLACEMENT_CHARACTER, strlen(LF_REPLACEMENT_CHARACTER))) return false;
        bytes += -decoded;
        n -= (size_t)-decoded;
    }
    return true;
}

lf_status lf_detok_push(lf_detok *state, const lf_tokenizer *t, int32_t id, bool special, lf_bytes *out,
                        lf_error *err)
{
    if (id < 0 || id >= t->n_vocab)
        return lf_fail(err, LF_EINVAL, "found token %d, expected 0 to %d", (int)id, (int)t->n_vocab - 1);
    const lf_token_kind kind = (lf_token_kind)t->vocab.kinds[id];
    if (!special && (kind == LF_TOKEN_CONTROL || kind == LF_TOKEN_UNKNOWN)) return LF_OK;

    char bytes[sizeof state->tail + LF_PIECE_BYTES_MAX];
    const size_t n_tail = state->n_tail;
    memcpy(bytes, state->tail, n_tail);
    char *text = bytes + n_tail;
    size_t n = lf_tokenizer_bytes(t, id, text);
    const bool dropped = !state->started && drops_lead(t, id, text, n);
    if (dropped) memmove(text, text + 1, --n);
    const lf_detok before = *state;
    const size_t before_len = out->len;
    state->n_tail = 0;
    state->started |= n > 0 || t->lead != LF_LEAD_SYMBOLS;
    if (append_certain(state, bytes, n_tail + n, out)) return LF_OK;
    *state = before;
    out->len = before_len;
    if (out->data) out->data[before_len] = '\0';
    return lf_fail_memory(err, "text", n_tail + n);
}

lf_status lf_detok_finish(lf_detok *state, lf_bytes *out, lf_error *err)
{
    if (state->n_tail && !lf_bytes_append(out, LF_REPLACEMENT_CHARACTER, strlen(LF_REPLACEMENT_CHARACTER)))
        return lf_fail_memory(err, "text", strlen(LF_REPLACEMENT_CHARACTER));
    state->n_tail = 0;
    return LF_OK;
}
