/* Added tokens: names that stand for a token wherever they occur in a text ("<|eot_id|>", "<tool_call>"), before any
 * other rule looks at it. The rules are those of the `tokenizers` library: the leftmost match wins, the longest of
 * those that begin together, and what a match covers is not searched again, even if a flag then discards the match. */
#ifndef LF_TOKEN_ADDED_H
#define LF_TOKEN_ADDED_H

#include "token/tokenizer.h"

typedef struct lf_added {
    int32_t id;
    bool special;        /* plain text unless the caller asks for special tokens */
    bool lstrip, rstrip; /* takes the white space before (after) it along */
    bool single_word;    /* only where no word character touches it */
    bool normalized;     /* sought in the normalised text, and not before */
    char *text;          /* (len), owned: what is sought */
    size_t len;
} lf_added;

typedef struct lf_added_set {
    lf_added *items; /* (n); after lf_added_set_index ascending by text */
    size_t n, cap;
    bool begins[256]; /* whether a text begins with this byte */
    bool plain;       /* whether an item is not special */
} lf_added_set;

/* Copies *added with text (len > 0, at most LF_PIECE_BYTES_MAX). */
lf_status lf_added_set_add(lf_added_set *set, const lf_added *added, const char *text, size_t len,
                           lf_error *err);

/* To be called once everything is added. Of items with equal text the lowest id is the one found. */
void lf_added_set_index(lf_added_set *set);
void lf_added_set_free(lf_added_set *set);

/* A walk over the matches in text. Set the first four and leave the rest zero. */
typedef struct lf_added_walk {
    const lf_added_set *set;
    const char *text;
    size_t len;
    bool parse_special;
    size_t scan; /* from here on is not searched yet */
    size_t done; /* the end of the last match, with the space it took along */
} lf_added_walk;

/* The next match, covering [*start, *end); text between the previous *end and *start is not of any. NULL: no more. */
const lf_added *lf_added_next(lf_added_walk *w, size_t *start, size_t *end);

#endif
