/* Subset construction, products, and the removal of states that lead nowhere (dfa.h). */
#include "grammar/dfa.h"

#include "base/mem.h"
#include "token/utf8.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

lf_status lf_work_take(lf_work *work, int64_t n, lf_error *err)
{
    if (work->left < n)
        return lf_fail(err, LF_ELIMIT, "the grammar takes too much work to compile, or too much memory");
    work->left -= n;
    return LF_OK;
}

void lf_dfa_free(lf_dfa *d)
{
    free(d->next);
    free(d->accepts);
    free(d->goes_on);
    *d = (lf_dfa){0};
}

bool lf_dfa_accepts(const lf_dfa *d, const char *text, size_t len)
{
    uint16_t state = 0;
    if (d->n_states == 0) return false;
    for (size_t i = 0; i < len && state != LF_DFA_DEAD; i++) state = lf_dfa_next(d, state, (uint8_t)text[i]);
    return state != LF_DFA_DEAD && d->accepts[state];
}

/* Room for one more state. */
static lf_status grow_dfa(lf_dfa *d, size_t *cap, lf_error *err)
{
    const size_t grown = *cap ? *cap * 2 : 16;
    if ((size_t)d->n_states < *cap) return LF_OK;
    if (d->n_states >= LF_DFA_STATES_MAX)
        return lf_fail(err, LF_ELIMIT, "a pattern needs more than %d states", LF_DFA_STATES_MAX);
    uint16_t *next = realloc(d->next, grown * (size_t)d->n_classes * sizeof *next);
    if (next) d->next = next;
    bool *accepts = realloc(d->accepts, grown * sizeof *accepts);
    if (accepts) d->accepts = accepts;
    if (!next || !accepts) return lf_fail_memory(err, "an automaton", grown * (size_t)d->n_classes * 2);
    *cap = grown;
    return LF_OK;
}

/* ---- what can still be accepted ---- */

/* live (n_states): whether an accepting state can be reached, found by walking the edges backwards. */
static lf_status find_live(bool *live, const lf_dfa *d, lf_error *err)
{
    const size_t n = (size_t)d->n_states, n_edges = n * (size_t)d->n_classes;
    uint32_t *begins = calloc(n + 2, sizeof *begins); /* of the edges into a state, in `sources` */
    uint16_t *sources = malloc((n_edges + 1) * sizeof *sources), *queue = malloc((n + 1) * sizeof *queue);
    lf_status status = LF_OK;
    size_t n_queue = 0;
    if (!begins || !sources || !queue) {
        status = lf_fail_memory(err, "an automaton", n_edges * sizeof *sources);
        goto done;
    }
    for (size_t e = 0; e < n_edges; e++)
        if (d->next[e] != LF_DFA_DEAD) begins[d->next[e] + 2]++;
    for (size_t s = 2; s < n + 2; s++) begins[s] += begins[s - 1];
    for (size_t e = 0; e < n_edges; e++) /* begins[s + 1] runs from the begin of s to its end */
        if (d->next[e] != LF_DFA_DEAD)
            sources[begins[d->next[e] + 1]++] = (uint16_t)(e / (size_t)d->n_classes);
    for (size_t s = 0; s < n; s++) {
        live[s] = d->accepts[s];
        if (live[s]) queue[n_queue++] = (uint16_t)s;
    }
    for (size_t i = 0; i < n_queue; i++)
        for (uint32_t e = begins[queue[i]]; e < begins[queue[i] + 1]; e++)
            if (!live[sources[e]]) {
                live[sources[e]] = true;
                queue[n_queue++] = sources[e];
            }
done:
    free(begins);
    free(sources);
    free(queue);
    return status;
}

/* Removes the states that are not live, and says which of the others go on. */
static lf_status trim(lf_dfa *d, lf_error *err)
{
    const size_t n = (size_t)d->n_states, n_classes = (size_t)d->n_classes;
    bool *live = malloc(n + 1);
    uint16_t *renamed = malloc((n + 1) * sizeof *renamed);
    lf_status status = LF_OK;
    size_t kept = 0;
    d->goes_on = calloc(n + 1, sizeof *d->goes_on);
    if (!live || !renamed || !d->goes_on) {
        status = lf_fail_memory(err, "an automaton", n * sizeof *renamed);
        goto done;
    }
    LF_TRY(find_live(live, d, err));
    for (size_t s = 0; s < n; s++) renamed[s] = live[s] ? (uint16_t)kept++ : LF_DFA_DEAD;
    if (n > 0 && !live[0]) kept = 0;
    for (size_t s = 0; kept > 0 && s < n; s++) {
        if (!live[s]) continue;
        const size_t to = renamed[s];
        d->accepts[to] = d->accepts[s];
        for (size_t c = 0; c < n_classes; c++) {
            const uint16_t next = d->next[s * n_classes + c];
            d->next[to * n_classes + c] = next == LF_DFA_DEAD ? LF_DFA_DEAD : renamed[next];
            d->goes_on[to] |= d->next[to * n_classes + c] != LF_DFA_DEAD;
        }
    }
    d->n_states = (int)kept;
done:
    free(live);
    free(renamed);
    return status;
}

/* ---- subset construction ---- */

/* The sets of nodes that are states, one after the other in `nodes`; only ranges and the accepting node are in them. */
typedef struct subsets {
    const lf_nfa *nfa;
    uint32_t *nodes;
    size_t n, cap;
    size_t *ends; /* (n_states, cap_ends) */
    size_t cap_ends;
    uint32_t *slots; /* (n_slots) open addressing: a state + 1, or 0 */
    size_t n_slots;
    uint32_t *marks, mark;       /* (nfa->n) nodes that the closure at hand has seen */
    uint32_t *stack;             /* (nfa->n + 1) */
    uint32_t starts_of[256 + 1]; /* class -> its first byte */
} subsets;

static size_t begin_of(const subsets *s, size_t state)
{
    return state ? s->ends[state - 1] : 0;
}

/* Appends what can be reached from node without reading. */
static lf_status add_closure(subsets *s, uint32_t node, lf_error *err)
{
    size_t n_stack = 0;
    if (s->marks[node] == s->mark) return LF_OK;
    s->marks[node] = s->mark;
    s->stack[n_stack++] = node;
    while (n_stack > 0) {
        const uint32_t at = s->stack[--n_stack];
        const lf_nfa_node *nd = &s->nfa->nodes[at];
        if (nd->kind == LF_NFA_KIND_SPLIT) {
            const uint32_t ways[2] = {nd->other, nd->to};
            for (int i = 0; i < 2; i++) {
                if (s->marks[ways[i]] == s->mark) continue;
                s->marks[ways[i]] = s->mark;
                s->stack[n_stack++] = ways[i];
            }
            continue;
        }
        if (nd->kind == LF_NFA_KIND_NOTHING) continue;
        if (s->n == s->cap) {
            const size_t cap = s->cap ? s->cap * 2 : 1024;
            uint32_t *nodes = realloc(s->nodes, cap * sizeof *nodes);
            if (!nodes) return lf_fail_memory(err, "an automaton", cap * sizeof *nodes);
            s->nodes = nodes;
            s->cap = cap;
        }
        s->nodes[s->n++] = at;
    }
    return LF_OK;
}

static int compare_nodes(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static lf_status grow_slots(subsets *s, const lf_dfa *d, lf_error *err)
{
    const size_t n_slots = s->n_slots ? s->n_slots * 2 : 64;
    uint32_t *slots = calloc(n_slots, sizeof *slots);
    if (!slots) return lf_fail_memory(err, "an automaton", n_slots * sizeof *slots);
    for (size_t i = 0; i < (size_t)d->n_states; i++) {
        const size_t begin = begin_of(s, i);
        size_t at = lf_hash_bytes((const char *)(s->nodes + begin), (s->ends[i] - begin) * sizeof *s->nodes);
        while (slots[at & (n_slots - 1)]) at++;
        slots[at & (n_slots - 1)] = (uint32_t)i + 1;
    }
    free(s->slots);
    s->slots = slots;
    s->n_slots = n_slots;
    return LF_OK;
}

/* The state of the set nodes[begin .. n), which is taken off again if it is known or empty. */
static lf_status intern(uint16_t *out, subsets *s, size_t begin, lf_dfa *d, size_t *cap, lf_error *err)
{
    lf_status status = LF_OK;
    const size_t n = s->n - begin, bytes = n * sizeof *s->nodes;
    *out = LF_DFA_DEAD;
    if (n == 0) return LF_OK;
    qsort(s->nodes + begin, n, sizeof *s->nodes, compare_nodes);
    if ((size_t)d->n_states * 2 >= s->n_slots) LF_TRY(grow_slots(s, d, err));
    size_t at = lf_hash_bytes((const char *)(s->nodes + begin), bytes);
    for (; s->slots[at & (s->n_slots - 1)]; at++) {
        const size_t known = s->slots[at & (s->n_slots - 1)] - 1, from = begin_of(s, known);
        if (s->ends[known] - from != n || memcmp(s->nodes + from, s->nodes + begin, bytes) != 0) continue;
        s->n = begin;
        *out = (uint16_t)known;
        return LF_OK;
    }
    LF_TRY(grow_dfa(d, cap, err));
    if (s->cap_ends < *cap) {
        size_t *ends = realloc(s->ends, *cap * sizeof *ends);
        if (!ends) LF_TRY(lf_fail_memory(err, "an automaton", *cap * sizeof *ends));
        s->ends = ends;
        s->cap_ends = *cap;
    }
    s->slots[at & (s->n_slots - 1)] = (uint32_t)d->n_states + 1;
    s->ends[d->n_states] = s->n;
    d->accepts[d->n_states] = s->nodes[begin] == LF_NFA_ACCEPT; /* the lowest node */
    *out = (uint16_t)d->n_states++;
done:
    return status;
}

static void find_classes(subsets *s, lf_dfa *d)
{
    bool begins[256 + 1] = {[0] = true};
    for (size_t i = 0; i < s->nfa->n; i++) {
        if (s->nfa->nodes[i].kind != LF_NFA_KIND_RANGE) continue;
        begins[s->nfa->nodes[i].lo] = true;
        begins[s->nfa->nodes[i].hi + 1] = true;
    }
    for (int b = 0; b < 256; b++) {
        if (begins[b]) s->starts_of[d->n_classes++] = (uint32_t)b;
        d->classes[b] = (uint8_t)(d->n_classes - 1);
    }
}

/* The states that follow state i, one class after the other. */
static lf_status expand(subsets *s, size_t i, lf_dfa *d, size_t *cap, lf_work *work, lf_error *err)
{
    lf_status status = LF_OK;
    const size_t begin = begin_of(s, i), end = s->ends[i];
    LF_TRY(lf_work_take(work, (int64_t)(end - begin) * d->n_classes, err));
    for (int c = 0; c < d->n_classes; c++) {
        const size_t fresh = s->n;
        uint16_t next;
        s->mark++;
        for (size_t k = begin; k < end; k++) {
            const lf_nfa_node *nd = &s->nfa->nodes[s->nodes[k]];
            if (nd->kind == LF_NFA_KIND_RANGE && s->starts_of[c] >= nd->lo && s->starts_of[c] <= nd->hi)
                LF_TRY(add_closure(s, nd->to, err));
        }
        LF_TRY(lf_work_take(work, (int64_t)(s->n - fresh) * 4, err));
        LF_TRY(intern(&next, s, fresh, d, cap, err));
        d->next[i * (size_t)d->n_classes + (size_t)c] = next;
    }
done:
    return status;
}

lf_status lf_dfa_from_nfa(lf_dfa *out, const lf_nfa *nfa, uint32_t start, lf_work *work, lf_error *err)
{
    lf_status status = LF_OK;
    lf_dfa d = {0};
    subsets s = {.nfa = nfa};
    size_t cap = 0;
    uint16_t first;
    *out = (lf_dfa){0};
    if (nfa->too_large)
        return lf_fail(err, LF_ELIMIT, "a pattern needs more than %d nodes", LF_NFA_NODES_MAX);
    if (nfa->failed) return lf_fail_memory(err, "an automaton", nfa->cap * sizeof *nfa->nodes);
    s.marks = calloc(nfa->n, sizeof *s.marks);
    s.stack = malloc((nfa->n + 1) * sizeof *s.stack);
    if (!s.marks || !s.stack) LF_TRY(lf_fail_memory(err, "an automaton", nfa->n * sizeof *s.marks));
    find_classes(&s, &d);
    s.mark = 1;
    LF_TRY(add_closure(&s, start, err));
    LF_TRY(intern(&first, &s, 0, &d, &cap, err));
    for (size_t i = 0; i < (size_t)d.n_states; i++) LF_TRY(expand(&s, i, &d, &cap, work, err));
    LF_TRY(trim(&d, err));
    *out = d;
done:
    free(s.nodes);
    free(s.ends);
    free(s.slots);
    free(s.marks);
    free(s.stack);
    if (status != LF_OK) lf_dfa_free(&d);
    return status;
}

/* ---- products ---- */

typedef struct pairs {
    uint32_t *slots; /* (n_slots) open addressing: a state + 1, or 0 */
    uint32_t *of;    /* (n_slots / 2) state -> the states it stands for: a's, and b's in the high half */
    size_t n_slots;
} pairs;

static lf_status intern_pair(uint16_t *out, pairs *p, uint32_t pair, lf_dfa *d, size_t *cap, lf_error *err)
{
    size_t at = (size_t)lf_hash_mix(pair);
    for (; p->slots[at & (p->n_slots - 1)]; at++) {
        const uint32_t known = p->slots[at & (p->n_slots - 1)] - 1;
        if (p->of[known] != pair) continue;
        *out = (uint16_t)known;
        return LF_OK;
    }
    const lf_status status = grow_dfa(d, cap, err);
    if (status != LF_OK) return status;
    p->slots[at & (p->n_slots - 1)] = (uint32_t)d->n_states + 1;
    p->of[d->n_states] = pair;
    *out = (uint16_t)d->n_states++;
    return LF_OK;
}

/* Classes of both: bytes that either tells apart. */
static void join_classes(lf_dfa *d, uint8_t byte_of[256], const lf_dfa *a, const lf_dfa *b)
{
    for (int byte = 0; byte < 256; byte++) {
        int c = 0;
        while (c < d->n_classes &&
               (a->classes[byte_of[c]] != a->classes[byte] || b->classes[byte_of[c]] != b->classes[byte]))
            c++;
        if (c == d->n_classes) byte_of[d->n_classes++] = (uint8_t)byte;
        d->classes[byte] = (uint8_t)c;
    }
}

lf_status lf_dfa_intersect(lf_dfa *out, const lf_dfa *a, const lf_dfa *b, bool without, lf_work *work,
                           lf_error *err)
{
    lf_status status = LF_OK;
    lf_dfa d = {0};
    pairs p = {.n_slots = 2 * LF_DFA_STATES_MAX};
    uint8_t byte_of[256];
    size_t cap = 0;
    uint16_t state;
    *out = (lf_dfa){0};
    if (a->n_states == 0 || (b->n_states == 0 && !without)) return LF_OK;
    p.slots = calloc(p.n_slots, sizeof *p.slots);
    p.of = calloc(p.n_slots / 2, sizeof *p.of);
    if (!p.slots || !p.of) LF_TRY(lf_fail_memory(err, "an automaton", p.n_slots * sizeof *p.slots));
    join_classes(&d, byte_of, a, b);
    LF_TRY(intern_pair(&state, &p, b->n_states ? 0 : (uint32_t)LF_DFA_DEAD << 16, &d, &cap, err));
    for (size_t i = 0; i < (size_t)d.n_states; i++) {
        const uint16_t sa = (uint16_t)p.of[i], sb = (uint16_t)(p.of[i] >> 16);
        d.accepts[i] = a->accepts[sa] && without != (sb != LF_DFA_DEAD && b->accepts[sb]);
        LF_TRY(lf_work_take(work, d.n_classes, err));
        for (int c = 0; c < d.n_classes; c++) {
            const uint16_t na = lf_dfa_next(a, sa, byte_of[c]),
                           nb = sb == LF_DFA_DEAD ? LF_DFA_DEAD : lf_dfa_next(b, sb, byte_of[c]);
            state = LF_DFA_DEAD;
            if (na != LF_DFA_DEAD && (without || nb != LF_DFA_DEAD))
                LF_TRY(intern_pair(&state, &p, na | (uint32_t)nb << 16, &d, &cap, err));
            d.next[i * (size_t)d.n_classes + (size_t)c] = state;
        }
    }
    LF_TRY(trim(&d, err));
    *out = d;
done:
    free(p.slots);
    free(p.of);
    if (status != LF_OK) lf_dfa_free(&d);
    return status;
}
