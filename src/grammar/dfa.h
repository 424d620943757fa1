/* Automata over bytes: what the terminals of a grammar are made of.
 *
 * An NFA is built from its end to its beginning: every function takes the node that follows and gives the one to start from,
 * so nothing is patched later. lf_dfa_from_nfa makes it deterministic (subset construction) and drops the states from which
 * nothing can be accepted. So in a DFA of this room there are no dead ends: whoever is in a state can still be accepted.
 *
 * Subset construction can need exponentially many states. Each NFA and DFA has a limit, and so has the work of all of them
 * together (lf_work): a hostile pattern is an error, not a hang. */
#ifndef LF_GRAMMAR_DFA_H
#define LF_GRAMMAR_DFA_H

#include "base/status.h"

enum {
    LF_NFA_NODES_MAX = 1 << 18,
    LF_DFA_STATES_MAX = 1 << 14,
    LF_DFA_DEAD = UINT16_MAX, /* in place of a state: no way on */
};

/* Steps left to everything that one compilation does. Real schemas need some thousands; all of it takes about half a second. */
typedef struct lf_work {
    int64_t left;
} lf_work;
#define LF_WORK_MAX ((int64_t)1 << 28)

/* Takes n steps; LF_ELIMIT when they are not there. */
lf_status lf_work_take(lf_work *work, int64_t n, lf_error *err);

/* ---- NFA ---- */

enum { LF_NFA_ACCEPT = 0, LF_NFA_NOTHING = 1 }; /* the nodes that are there from the start */

typedef enum lf_nfa_kind {
    LF_NFA_KIND_ACCEPT,
    LF_NFA_KIND_NOTHING,
    LF_NFA_KIND_RANGE,
    LF_NFA_KIND_SPLIT
} lf_nfa_kind;

typedef struct lf_nfa_node {
    uint8_t kind, lo, hi; /* kind: an lf_nfa_kind */
    uint32_t to, other;   /* other: of a split */
} lf_nfa_node;

typedef struct lf_nfa {
    lf_nfa_node *nodes; /* (n) */
    size_t n, cap;
    bool
        failed; /* no memory or too many nodes: what was built since is of no use, which lf_dfa_from_nfa says */
    bool too_large;
} lf_nfa;

void lf_nfa_init(lf_nfa *nfa);
void lf_nfa_free(lf_nfa *nfa);

/* The node that reads a byte of [lo, hi], then goes on at `next`; one that is both a and b; one for the bytes of a text; and one
 * that reads a code point of [lo, hi] (without surrogates) as UTF-8. */
uint32_t lf_nfa_add_range(lf_nfa *nfa, uint8_t lo, uint8_t hi, uint32_t next);
uint32_t lf_nfa_add_split(lf_nfa *nfa, uint32_t a, uint32_t b);
uint32_t lf_nfa_add_text(lf_nfa *nfa, const char *text, size_t len, uint32_t next);
uint32_t lf_nfa_add_code_points(lf_nfa *nfa, uint32_t lo, uint32_t hi, uint32_t next);

/* A split whose ways are set when they are known: for loops. */
uint32_t lf_nfa_add_loop(lf_nfa *nfa);
void lf_nfa_set_loop(lf_nfa *nfa, uint32_t loop, uint32_t a, uint32_t b);

/* ---- DFA ---- */

typedef struct lf_dfa {
    int n_states; /* the first is the start; 0: nothing is accepted */
    int n_classes;
    uint8_t classes[256]; /* of bytes that no state tells apart */
    uint16_t *next;       /* (n_states, n_classes) */
    bool *accepts;        /* (n_states) */
    bool *goes_on;        /* (n_states) whether there is a way on from it */
} lf_dfa;

static inline uint16_t lf_dfa_next(const lf_dfa *d, uint16_t state, uint8_t byte)
{
    return d->next[(size_t)state * (size_t)d->n_classes + d->classes[byte]];
}

lf_status lf_dfa_from_nfa(lf_dfa *out, const lf_nfa *nfa, uint32_t start, lf_work *work, lf_error *err);

/* What both accept; with `without`, what a accepts and b does not. */
lf_status lf_dfa_intersect(lf_dfa *out, const lf_dfa *a, const lf_dfa *b, bool without, lf_work *work,
                           lf_error *err);
void lf_dfa_free(lf_dfa *d);

/* Whether it accepts all of text, for tests and for keys that are compared with patterns. */
bool lf_dfa_accepts(const lf_dfa *d, const char *text, size_t len);

#endif
