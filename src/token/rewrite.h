/* What happens to a text before it is cut: normalisation, and SentencePiece's way with spaces. A list of small steps,
 * as the normalizer of a tokenizer.json is; the flags of a SentencePiece model become such a list too:
 *
 *     [collapse spaces]  [prepend "▁"]  [replace " " by "▁"]  [trim "▁" at the end] */
#ifndef LF_TOKEN_REWRITE_H
#define LF_TOKEN_REWRITE_H

#include "base/mem.h"
#include "base/status.h"

typedef enum lf_rewrite_kind {
    LF_REWRITE_NFC,
    LF_REWRITE_REPLACE,         /* every `from` by `to` */
    LF_REWRITE_PREPEND,         /* `to`, unless the text is empty */
    LF_REWRITE_PREPEND_MISSING, /* `to`, unless the text begins with it or is empty (Metaspace) */
    LF_REWRITE_PREPEND_FIRST,   /* the same, at the start of the whole text only */
    LF_REWRITE_COLLAPSE_SPACES, /* no leading space, one space for a run of them */
    LF_REWRITE_TRIM_END,        /* no `from` at the end */
    LF_REWRITE_ILL_FORMED,      /* every byte that is not UTF-8 by U+FFFD */
} lf_rewrite_kind;

enum {
    LF_REWRITES_MAX = 8,             /* steps of one list */
    LF_REWRITE_STRING_BYTES_MAX = 32 /* bytes of from and to; real ones have at most 3 */
};

typedef struct lf_rewrite {
    lf_rewrite_kind kind;
    uint8_t from_len, to_len;
    char from[LF_REWRITE_STRING_BYTES_MAX], to[LF_REWRITE_STRING_BYTES_MAX];
} lf_rewrite;

typedef struct lf_rewrites {
    int n;
    lf_rewrite items[LF_REWRITES_MAX];
} lf_rewrites;

/* Adds a step; from and to are NUL-terminated, or NULL where the kind has none. LF_ELIMIT with `name`, the file. */
lf_status lf_rewrites_add(lf_rewrites *r, lf_rewrite_kind kind, const char *from, const char *to,
                          const char *name, lf_error *err);

/* Adds SentencePiece's way with spaces: an optional prefix, visible spaces, and at wish no superfluous ones. */
lf_status lf_rewrites_add_spaces(lf_rewrites *r, bool prefix, bool collapse, const char *name, lf_error *err);

bool lf_rewrites_have(const lf_rewrites *r, lf_rewrite_kind kind);

/* Replaces (*text, *len) by its rewritten form, which lies in one of the buffers or, when nothing changed, still where
 * it was. at_start: the text begins the whole input. The buffers are the caller's, to be reused and freed. */
lf_status lf_rewrites_apply(const lf_rewrites *r, bool at_start, const char **text, size_t *len,
                            lf_bytes buffers[2], lf_error *err);

/* Appends the NFC form of the text; ill-formed bytes are copied. false: no memory. In nfc.c. */
bool lf_nfc_append(lf_bytes *out, const char *text, size_t len);

/* Whether no code point of the text can be changed by NFC: all of them are below U+0300. */
bool lf_nfc_is_inert(const char *text, size_t len);

#endif
