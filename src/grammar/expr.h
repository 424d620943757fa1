/* A grammar as a graph of expressions over bytes.
 *
 *     dfa       the texts of an automaton
 *     literal   one text
 *     sequence  its parts, one after the other; without parts: the empty text
 *     choice    one of its parts; without parts: nothing at all
 *     repeat    its part, min to max times; the part is never empty
 *     rule      another expression, known later: what makes recursion
 *
 * Parts are made before what they are part of and may be shared. Building never fails in between: what goes wrong is noted, and
 * lf_exprs_finish says it. */
#ifndef LF_GRAMMAR_EXPR_H
#define LF_GRAMMAR_EXPR_H

#include "base/mem.h"
#include "grammar/dfa.h"

enum {
    LF_EXPR_NOTHING = 0, /* the choice without parts, and */
    LF_EXPR_EMPTY = 1,   /* the sequence without parts: there from the start */
    LF_EXPRS_MAX = 1 << 17,
    LF_EXPR_DEPTH_MAX = 96,  /* frames that a text may need open at once: some 48 levels of JSON */
    LF_EXPR_NEVER = 1 << 20, /* as `need`: no text at all */
};
#define LF_EXPR_UNBOUNDED UINT32_MAX

typedef enum lf_expr_kind {
    LF_EXPR_DFA,
    LF_EXPR_LITERAL,
    LF_EXPR_SEQUENCE,
    LF_EXPR_CHOICE,
    LF_EXPR_REPEAT,
    LF_EXPR_RULE
} lf_expr_kind;

typedef struct lf_expr {
    lf_expr_kind kind;
    uint32_t first,
        n; /* sequence, choice: parts[first ..); literal: text[first ..); dfa: dfas[first]; else the part */
    uint32_t min, max; /* of repeat */
    uint32_t need;     /* frames that must be open at once to get through it, at least */
} lf_expr;

typedef struct lf_exprs {
    lf_expr *items; /* (n) */
    size_t n, cap;
    lf_ids parts;
    lf_bytes text;
    lf_dfa *dfas; /* (n_dfas) */
    size_t n_dfas, cap_dfas;
    uint32_t root;
    lf_status failed; /* LF_OK, LF_ENOMEM or LF_ELIMIT */
} lf_exprs;

lf_status lf_exprs_init(lf_exprs *e, lf_error *err);
void lf_exprs_free(lf_exprs *e);

uint32_t lf_exprs_add_dfa(lf_exprs *e, lf_dfa *dfa); /* takes it over, failing or not */
uint32_t lf_exprs_add_literal(lf_exprs *e, const char *text, size_t len);
uint32_t lf_exprs_add_sequence(lf_exprs *e, const uint32_t *parts, size_t n);
uint32_t lf_exprs_add_choice(lf_exprs *e, const uint32_t *parts, size_t n);
uint32_t lf_exprs_add_repeat(lf_exprs *e, uint32_t part, uint32_t min, uint32_t max);
uint32_t lf_exprs_add_rule(lf_exprs *e); /* to be set before the end */
void lf_exprs_set_rule(lf_exprs *e, uint32_t rule, uint32_t part);

/* The expression is whole. LF_EINVAL when it has no text, or none that nests within LF_EXPR_DEPTH_MAX. */
lf_status lf_exprs_finish(lf_exprs *e, uint32_t root, lf_error *err);

#endif
