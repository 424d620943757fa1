/* What a tokenizer is made of. A text goes through it in this order (encode.c):
 *
 *     raw added tokens -> normalizer -> normalised added tokens -> metaspace -> pretokenizer -> merges -> ids
 *
 * The loaders fill it in; lf_tokenizer_finish then derives what encoding needs. */
#ifndef LF_TOKEN_TOKENIZER_INT_H
#define LF_TOKEN_TOKENIZER_INT_H

#include "token/added.h"
#include "token/bpe.h"
#include "token/pretokenize.h"
#include "token/rewrite.h"
#include "token/vocab.h"

/* What merging starts from. */
typedef enum lf_scheme {
    LF_SCHEME_CODE_POINTS, /* SentencePiece: pieces are text with "▁" for a space; bytes are "<0x0A>" */
    LF_SCHEME_BYTES,       /* byte-level BPE: pieces are bytes in printable characters (alphabet.h) */
} lf_scheme;

/* What decoding does with the space at the start of a text. */
typedef enum lf_lead {
    LF_LEAD_KEPT,
    LF_LEAD_SYMBOL,  /* a "▁" at the start of the first piece is dropped (SentencePiece, Metaspace) */
    LF_LEAD_SYMBOLS, /* and so of each piece until there is text (SentencePiece that collapses spaces) */
    LF_LEAD_SPACE,   /* a space at the start of the text is dropped, however it got there (Strip) */
} lf_lead;

struct lf_tokenizer {
    lf_scheme scheme;
    lf_vocab vocab; /* the tokens; from id n_vocab on, symbols that merging needs and that are no tokens */
    int32_t n_vocab;
    float *scores; /* (n_vocab) of a SentencePiece vocabulary, else NULL */
    lf_merges merges;

    lf_added_set raw, normalized; /* added tokens, by where they are sought */
    lf_rewrites normalizer, metaspace;
    lf_pretokenizer pretokenizer;

    bool whole_pieces;  /* a piece of text that is a token becomes it, whatever the merges say */
    bool byte_fallback; /* code points without a token become the tokens of their bytes */
    bool fuse_unknown;  /* neighbouring unknown code points of a piece become one unknown token */
    lf_lead lead;

    /* Derived. */
    int32_t symbol_ids[256]; /* the symbol of a byte (BYTES) or of an ASCII character (CODE_POINTS) */
    int32_t byte_ids[256];   /* the fallback token of a byte */
    bool splits_words;       /* no merge joins "▁" to what is before it: words can be encoded one by one */

    int32_t bos, unknown; /* or LF_TOKEN_NONE */
    bool adds_bos;
    lf_ids eos;
    char *chat_template, *chat_template_tools; /* or NULL */
};

/* An empty tokenizer. */
lf_status lf_tokenizer_new(lf_tokenizer **out, lf_error *err);

/* Derives the rest once vocabulary, merges and rules are there. For a SentencePiece vocabulary (scores) the merges are
 * derived too. LF_EUNSUPPORTED or LF_EFORMAT, naming the file `name`. */
lf_status lf_tokenizer_finish(lf_tokenizer *t, const char *name, lf_error *err);

/* Notes that id ends a text; noting it twice is fine. */
lf_status lf_tokenizer_add_eos(lf_tokenizer *t, int32_t id, lf_error *err);

/* Whether a token ends a text by its name, in any file. */
bool lf_tokenizer_is_known_end(const lf_tokenizer *t, int32_t id);

/* Copies a SentencePiece piece with every "▁" as a space; out needs len bytes. */
size_t lf_show_spaces(const char *piece, size_t len, char *out);

#endif
