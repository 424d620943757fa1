/* Expressions (expr.h), and how many frames each needs: the least solution of need(sequence) = max(parts), one more for each part
 * but the last, whose frame stays open; need(choice) = min(parts). It is found by going down from LF_EXPR_NEVER, so that what has no
 * text keeps that, and the machine never goes where it cannot come out. */
#include "grammar/expr.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

static uint32_t add(lf_exprs *e, lf_expr item)
{
    if (e->failed != LF_OK) return LF_EXPR_NOTHING;
    if (e->n == e->cap) {
        const size_t cap = e->cap ? e->cap * 2 : 64;
        lf_expr *items = cap <= LF_EXPRS_MAX ? realloc(e->items, cap * sizeof *items) : NULL;
        if (!items) {
            e->failed = cap <= LF_EXPRS_MAX ? LF_ENOMEM : LF_ELIMIT;
            return LF_EXPR_NOTHING;
        }
        e->items = items;
        e->cap = cap;
    }
    e->items[e->n] = item;
    return (uint32_t)e->n++;
}

static uint32_t add_list(lf_exprs *e, lf_expr_kind kind, const uint32_t *parts, size_t n)
{
    const lf_expr item = {.kind = kind, .first = (uint32_t)e->parts.len, .n = (uint32_t)n};
    for (size_t i = 0; i < n && e->failed == LF_OK; i++) {
        assert(parts[i] < e->n);
        if (e->parts.len >= LF_EXPRS_MAX)
            e->failed = LF_ELIMIT;
        else if (!lf_ids_push(&e->parts, (int32_t)parts[i]))
            e->failed = LF_ENOMEM;
    }
    return add(e, item);
}

lf_status lf_exprs_init(lf_exprs *e, lf_error *err)
{
    *e = (lf_exprs){0};
    (void)add_list(e, LF_EXPR_CHOICE, NULL, 0);
    (void)add_list(e, LF_EXPR_SEQUENCE, NULL, 0);
    return e->failed == LF_OK ? LF_OK : lf_fail_memory(err, "a grammar", sizeof *e->items);
}

void lf_exprs_free(lf_exprs *e)
{
    for (size_t i = 0; i < e->n_dfas; i++) lf_dfa_free(&e->dfas[i]);
    free(e->dfas);
    free(e->items);
    lf_ids_free(&e->parts);
    lf_bytes_free(&e->text);
    *e = (lf_exprs){0};
}

uint32_t lf_exprs_add_dfa(lf_exprs *e, lf_dfa *dfa)
{
    if (e->n_dfas == e->cap_dfas) {
        const size_t cap = e->cap_dfas ? e->cap_dfas * 2 : 16;
        lf_dfa *dfas = realloc(e->dfas, cap * sizeof *dfas);
        if (!dfas) {
            e->failed = LF_ENOMEM;
            lf_dfa_free(dfa);
            return LF_EXPR_NOTHING;
        }
        e->dfas = dfas;
        e->cap_dfas = cap;
    }
    e->dfas[e->n_dfas] = *dfa;
    *dfa = (lf_dfa){0};
    return add(e, (lf_expr){.kind = LF_EXPR_DFA, .first = (uint32_t)e->n_dfas++});
}

uint32_t lf_exprs_add_literal(lf_exprs *e, const char *text, size_t len)
{
    const lf_expr item = {.kind = LF_EXPR_LITERAL, .first = (uint32_t)e->text.len, .n = (uint32_t)len};
    if (len == 0) return LF_EXPR_EMPTY;
    if (len > INT32_MAX || e->text.len > INT32_MAX - len)
        e->failed = LF_ELIMIT;
    else if (!lf_bytes_append(&e->text, text, len))
        e->failed = LF_ENOMEM;
    return add(e, item);
}

uint32_t lf_exprs_add_sequence(lf_exprs *e, const uint32_t *parts, size_t n)
{
    return n == 1 ? parts[0] : add_list(e, LF_EXPR_SEQUENCE, parts, n);
}

uint32_t lf_exprs_add_choice(lf_exprs *e, const uint32_t *parts, size_t n)
{
    return n == 1 ? parts[0] : add_list(e, LF_EXPR_CHOICE, parts, n);
}

uint32_t lf_exprs_add_repeat(lf_exprs *e, uint32_t part, uint32_t min, uint32_t max)
{
    assert(min <= max);
    if (max == 0) return LF_EXPR_EMPTY;
    return add(e, (lf_expr){.kind = LF_EXPR_REPEAT, .first = part, .min = min, .max = max});
}

uint32_t lf_exprs_add_rule(lf_exprs *e)
{
    return add(e, (lf_expr){.kind = LF_EXPR_RULE, .first = LF_EXPR_NOTHING});
}

void lf_exprs_set_rule(lf_exprs *e, uint32_t rule, uint32_t part)
{
    if (e->failed != LF_OK) return;
    assert(e->items[rule].kind == LF_EXPR_RULE);
    e->items[rule].first = part;
}

static uint32_t need_of_part(const lf_exprs *e, const lf_expr *x, uint32_t i)
{
    return e->items[e->parts.data[x->first + i]].need;
}

static uint32_t need_of(const lf_exprs *e, const lf_expr *x)
{
    uint32_t need = x->kind == LF_EXPR_CHOICE ? LF_EXPR_NEVER : 0;
    switch (x->kind) {
    case LF_EXPR_DFA: return e->dfas[x->first].n_states > 0 ? 0 : LF_EXPR_NEVER;
    case LF_EXPR_LITERAL: return 0;
    case LF_EXPR_RULE: return e->items[x->first].need;
    case LF_EXPR_REPEAT:
        if (x->min == 0) return 0;
        need = e->items[x->first].need + (x->max > 1);
        break;
    case LF_EXPR_SEQUENCE:
        for (uint32_t i = 0; i < x->n; i++) {
            const uint32_t part = need_of_part(e, x, i) + (i + 1 < x->n);
            need = part > need ? part : need;
        }
        break;
    case LF_EXPR_CHOICE:
        for (uint32_t i = 0; i < x->n; i++) {
            const uint32_t part = need_of_part(e, x, i);
            need = part < need ? part : need;
        }
        break;
    }
    return need < LF_EXPR_NEVER ? need : LF_EXPR_NEVER;
}

static void find_needs(lf_exprs *e)
{
    bool changed = true;
    for (size_t i = 0; i < e->n; i++) e->items[i].need = LF_EXPR_NEVER;
    while (changed) {
        changed = false;
        for (size_t i = 0; i < e->n;
             i++) { /* parts come before what they are part of: few rounds, but for rules */
            const uint32_t need = need_of(e, &e->items[i]);
            changed = changed || need != e->items[i].need;
            e->items[i].need = need;
        }
    }
}

lf_status lf_exprs_finish(lf_exprs *e, uint32_t root, lf_error *err)
{
    if (e->failed == LF_ENOMEM) return lf_fail_memory(err, "a grammar", e->n * sizeof *e->items);
    if (e->failed != LF_OK)
        return lf_fail(err, e->failed, "the grammar has more than %d parts", LF_EXPRS_MAX);
    find_needs(e);
    e->root = root;
    if (e->items[root].need == LF_EXPR_NEVER)
        return lf_fail(err, LF_EINVAL, "no text can satisfy the grammar");
    if (e->items[root].need > LF_EXPR_DEPTH_MAX)
        return lf_fail(err, LF_EINVAL,
                       "every text of the grammar nests too deep: found %u frames, expected at most %d",
                       e->items[root].need, LF_EXPR_DEPTH_MAX);
    return LF_OK;
}
