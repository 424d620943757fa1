/* Cutting a text into the pieces that byte-pair encoding then works on, none of which a merge crosses.
 *
 * A pre-tokeniser is a list of stages. Each cuts what the stage before it left into the matches of a pattern and the
 * gaps between them. */
#ifndef LF_TOKEN_PRETOKENIZE_H
#define LF_TOKEN_PRETOKENIZE_H

#include "token/regex.h"

enum { LF_STAGES_MAX = 8 };

/* The pattern of GPT-2, which is also that of a ByteLevel pre-tokenizer with use_regex. */
#define LF_PATTERN_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* Metaspace's cut: each "▁" begins a piece. */
#define LF_PATTERN_METASPACE "\xE2\x96\x81[^\xE2\x96\x81]*"

/* The length of the match at text[at..len) when ASCII rules alone decide it, else 0: ask the pattern. */
typedef size_t lf_ascii_match(const char *text, size_t len, size_t at);

typedef struct lf_stage {
    char *pattern;
    lf_regex *regex;
    lf_ascii_match *ascii; /* a quicker way to the same matches, or NULL */
    bool drops_gaps;       /* what the pattern does not match is left out */
} lf_stage;

typedef struct lf_pretokenizer {
    int n;
    lf_stage stages[LF_STAGES_MAX];
} lf_pretokenizer;

/* What GGUF's tokenizer.ggml.pre says by a name. */
typedef struct lf_gguf_pre {
    const char *names[6]; /* the first is the one to write */
    const char *patterns[5];
    bool adds_bos;     /* unless the file says otherwise */
    bool whole_pieces; /* a piece of text that is a token becomes it, whatever the merges say */
} lf_gguf_pre;

const lf_gguf_pre *lf_gguf_pre_find(const char *name);               /* NULL: not known */
const lf_gguf_pre *lf_gguf_pre_describing(const lf_pretokenizer *p); /* NULL: GGUF has no name for it */

lf_status lf_pretokenizer_add(lf_pretokenizer *p, const char *pattern, bool drops_gaps, const char *file,
                              lf_error *err);
lf_status lf_pretokenizer_add_named(lf_pretokenizer *p, const lf_gguf_pre *pre, const char *file,
                                    lf_error *err);
void lf_pretokenizer_free(lf_pretokenizer *p);

/* Calls each(context, piece, len, err) for every piece of well-formed text, in order, until it fails. */
typedef lf_status lf_each_piece(void *context, const char *piece, size_t len, lf_error *err);
lf_status lf_pretokenizer_cut(const lf_pretokenizer *p, lf_regex_match *m, const char *text, size_t len,
                              lf_each_piece *each, void *context, lf_error *err);

/* The matches of the patterns of GPT-2, Qwen2 and Llama 3 where the text is ASCII as far as they look: ascii.c. */
lf_ascii_match lf_ascii_match_gpt2, lf_ascii_match_qwen2, lf_ascii_match_llama3;

#endif
