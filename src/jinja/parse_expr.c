/* Tokens to a tree: expressions, with jinja2's precedence, loosest first:
 *
 *   x if y else z     or     and     not     == != < > <= >= in     + -     ~     * / // %     **     - + (one operand)
 *   and then  .name  [item]  (call)  |filter  is test */
#include "jinja/jinja_int.h"

#include <string.h>

static node *parse_or(parser *p);
static node *parse_unary(parser *p, bool with_filters);

static node *binary(parser *p, node_kind kind, int op, node *left, node *right)
{
    node *n = left ? lf_parse_node(p, kind, left->line) : NULL;
    if (!n) return NULL;
    n->op = op;
    n->a = left;
    n->b = right;
    return n;
}

static bool is_op(const token *at, const char *ops, int more, int more2)
{
    return at->kind == T_OP && (at->op == more || at->op == more2 || (at->op < 256 && strchr(ops, at->op)));
}

/* ---- what stands for itself ---- */

static node *constant(parser *p, value v, int line)
{
    node *n = lf_parse_node(p, N_CONST, line);
    if (n) n->constant = v;
    return n;
}

static node *parse_name(parser *p)
{
    const token *t = p->at++;
    if (lf_parse_is_word(t, "true") || lf_parse_is_word(t, "True"))
        return constant(p, value_bool(true), t->line);
    if (lf_parse_is_word(t, "false") || lf_parse_is_word(t, "False"))
        return constant(p, value_bool(false), t->line);
    if (lf_parse_is_word(t, "none") || lf_parse_is_word(t, "None")) return constant(p, value_none(), t->line);
    node *n = lf_parse_node(p, N_NAME, t->line);
    if (!n) return NULL;
    n->name = lf_parse_name(p, t->text);
    p->flags |= n->name == NAME_caller    ? MACRO_READS_CALLER
                : n->name == NAME_varargs ? MACRO_READS_VARARGS
                : n->name == NAME_kwargs  ? MACRO_READS_KWARGS
                                          : 0;
    return n;
}

/* Strings in a row are one. */
static node *parse_strings(parser *p)
{
    const token *first = p->at;
    size_t n = 0, at = 0;
    while (p->at->kind == T_STRING) n += p->at++->text.n;
    if (p->at == first + 1) return constant(p, value_str(first->text), first->line);
    char *text = lf_arena_alloc(&p->t->mem, n + 1);
    if (!text) return lf_parse_fail(p, LF_ENOMEM, first, "out of memory");
    for (const token *t = first; t < p->at; at += t++->text.n)
        if (t->text.n) memcpy(text + at, t->text.p, t->text.n);
    return constant(p, value_str((str){text, n}), first->line);
}

static node *parse_list(parser *p)
{
    node *n = lf_parse_node(p, N_LIST, p->at->line);
    node **last = n ? &n->list : NULL;
    while (p->status == LF_OK && !lf_parse_op(p, ']')) {
        if (n->list && !lf_parse_expect_op(p, ',')) break;
        if (lf_parse_op(p, ']')) break;
        *last = lf_parse_expression(p, true);
        if (*last) last = &(*last)->next;
    }
    return n;
}

static node *parse_dict(parser *p)
{
    node *n = lf_parse_node(p, N_DICT, p->at->line);
    node **last = n ? &n->list : NULL;
    while (p->status == LF_OK && !lf_parse_op(p, '}')) {
        if (n->list && !lf_parse_expect_op(p, ',')) break;
        if (lf_parse_op(p, '}')) break;
        node *entry = lf_parse_node(p, N_PAIR, p->at->line);
        if (!entry) break;
        entry->a = lf_parse_expression(p, true);
        if (!lf_parse_expect_op(p, ':')) break;
        entry->b = lf_parse_expression(p, true);
        *last = entry;
        last = &entry->next;
    }
    return n;
}

static node *parse_parentheses(parser *p)
{
    const int line = p->at->line;
    if (lf_parse_op(p, ')')) return lf_parse_node(p, N_TUPLE, line);
    node *n = lf_parse_tuple(p, true);
    (void)lf_parse_expect_op(p, ')');
    return n;
}

node *lf_parse_primary(parser *p)
{
    char found[64];
    const token *t = p->at;
    switch (t->kind) {
    case T_NAME: return parse_name(p);
    case T_STRING: return parse_strings(p);
    case T_INT: p->at++; return constant(p, value_int(t->i), t->line);
    case T_FLOAT: p->at++; return constant(p, value_float(t->f), t->line);
    default:
        if (lf_parse_op(p, '(')) return parse_parentheses(p);
        if (lf_parse_op(p, '[')) return parse_list(p);
        if (lf_parse_op(p, '{')) return parse_dict(p);
    }
    return lf_parse_fail(p, LF_EFORMAT, t, "found %s, expected an expression", lf_parse_describe(t, found));
}

node *lf_parse_tuple(parser *p, bool conditional)
{
    const int line = p->at->line;
    node *first = lf_parse_expression(p, conditional), **last = &first;
    if (!is_op(p->at, ",", 0, 0)) return first;
    node *tuple = lf_parse_node(p, N_TUPLE, line);
    while (p->status == LF_OK && lf_parse_op(p, ',')) {
        if (p->at->kind == T_PRINT_END || p->at->kind == T_BLOCK_END || is_op(p->at, ")", 0, 0)) break;
        last = &(*last)->next;
        *last = lf_parse_expression(p, conditional);
    }
    if (tuple) tuple->list = first;
    return tuple;
}

/* ---- what follows an expression ---- */

/* The arguments of call: "(a, b, name=c)", to its list and named. */
static void parse_arguments(parser *p, node *call)
{
    node **last = &call->list, **last_named = &call->named;
    bool any = false;
    (void)lf_parse_expect_op(p, '(');
    while (p->status == LF_OK && !lf_parse_op(p, ')')) {
        if (any && !lf_parse_expect_op(p, ',')) break;
        if (any && lf_parse_op(p, ')')) break;
        any = true;
        if (is_op(p->at, "*", OP_POW, OP_POW)) {
            (void)lf_parse_fail(p, LF_EUNSUPPORTED, p->at,
                                "found '*' before an argument, expected arguments one by one");
        } else if (p->at->kind == T_NAME && is_op(p->at + 1, "=", 0, 0)) {
            node *n = lf_parse_node(p, N_NAMED, p->at->line);
            if (!n) break;
            n->name = lf_parse_name(p, p->at->text);
            p->at += 2;
            n->a = lf_parse_expression(p, true);
            *last_named = n;
            last_named = &n->next;
        } else if (call->named) {
            (void)lf_parse_fail(p, LF_EFORMAT, p->at, "found an argument without a name after one with it");
        } else {
            *last = lf_parse_expression(p, true);
            if (*last) last = &(*last)->next;
        }
    }
}

static node *parse_call(parser *p, node *callee)
{
    node *n = binary(p, N_CALL, 0, callee, NULL);
    if (n) n->line = p->at->line;
    if (n) parse_arguments(p, n);
    return n;
}

/* What is in brackets: key, or from:to:step. */
static node *parse_subscript(parser *p, node *object)
{
    node *parts[3] = {NULL};
    int i = 0;
    bool slice = false;
    for (;; i++) {
        if (!is_op(p->at, ":],", 0, 0)) parts[i] = lf_parse_expression(p, true);
        if (i == 2 || !lf_parse_op(p, ':')) break;
        slice = true;
    }
    if (is_op(p->at, ",", 0, 0))
        return lf_parse_fail(p, LF_EUNSUPPORTED, p->at,
                             "found ',' in a subscript, expected one key or slice");
    if (!slice && !parts[0] && p->status == LF_OK)
        return lf_parse_fail(p, LF_EFORMAT, p->at, "found an empty subscript, expected a key");
    (void)lf_parse_expect_op(p, ']');
    node *n = binary(p, slice ? N_SLICE : N_ITEM, 0, object, parts[0]);
    if (!n) return NULL;
    n->c = parts[1];
    n->d = parts[2];
    return n;
}

static node *parse_attribute(parser *p, node *object)
{
    char found[64];
    const token *t = p->at;
    if (t->kind == T_INT) {
        p->at++;
        return binary(p, N_ITEM, 0, object, constant(p, value_int(t->i), t->line));
    }
    if (t->kind != T_NAME)
        return lf_parse_fail(p, LF_EFORMAT, t, "found %s, expected a name or number after '.'",
                             lf_parse_describe(t, found));
    p->at++;
    node *n = binary(p, N_ATTR, 0, object, NULL);
    if (!n) return NULL;
    n->line = t->line;
    n->name = lf_parse_name(p, t->text);
    return n;
}

static node *parse_postfix(parser *p, node *n)
{
    while (n && p->status == LF_OK) {
        if (lf_parse_op(p, '.'))
            n = parse_attribute(p, n);
        else if (lf_parse_op(p, '['))
            n = parse_subscript(p, n);
        else if (is_op(p->at, "(", 0, 0))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

node *lf_parse_filter(parser *p, node *input)
{
    char found[64];
    const token *t = p->at;
    if (t->kind != T_NAME)
        return lf_parse_fail(p, LF_EFORMAT, t, "found %s, expected the name of a filter",
                             lf_parse_describe(t, found));
    p->at++;
    node *n = binary(p, N_FILTER, 0, input, NULL);
    if (!n) return NULL;
    n->line = t->line;
    n->name = lf_parse_name(p, t->text);
    n->filter = lf_filter_find(t->text);
    if (is_op(p->at, "(", 0, 0)) parse_arguments(p, n);
    return n;
}

node *lf_parse_filters(parser *p, node *input)
{
    while (input && lf_parse_op(p, '|')) input = lf_parse_filter(p, input);
    return input;
}

/* Whether what comes can be the argument of a test without parentheses. */
static bool begins_argument(const token *at)
{
    static const char *const others[] = {"else", "or", "and", "is"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (lf_parse_is_word(at, others[i])) return false;
    return at->kind == T_NAME || at->kind == T_STRING || at->kind == T_INT || at->kind == T_FLOAT ||
           is_op(at, "[{", 0, 0);
}

static node *parse_test(parser *p, node *subject)
{
    char found[64];
    const bool negated = lf_parse_word(p, "not");
    const token *t = p->at;
    if (t->kind != T_NAME)
        return lf_parse_fail(p, LF_EFORMAT, t, "found %s, expected the name of a test",
                             lf_parse_describe(t, found));
    p->at++;
    node *n = binary(p, N_TEST, 0, subject, NULL);
    if (!n) return NULL;
    n->line = t->line;
    n->name = lf_parse_name(p, t->text);
    n->test = lf_test_find(t->text);
    if (is_op(p->at, "(", 0, 0))
        parse_arguments(p, n);
    else if (lf_parse_is_word(p->at, "is"))
        return lf_parse_fail(p, LF_EFORMAT, p->at, "found 'is' after a test, expected one test");
    else if (begins_argument(p->at))
        n->list = parse_postfix(p, lf_parse_primary(p));
    return negated ? binary(p, N_NOT, 0, n, NULL) : n;
}

static node *parse_after(parser *p, node *n)
{
    while (n && p->status == LF_OK) {
        if (lf_parse_op(p, '|'))
            n = lf_parse_filter(p, n);
        else if (lf_parse_word(p, "is"))
            n = parse_test(p, n);
        else if (is_op(p->at, "(", 0, 0))
            n = parse_call(p, n);
        else
            break;
    }
    return n;
}

/* ---- operators ---- */

static node *parse_unary(parser *p, bool with_filters)
{
    node *n;
    if (!lf_parse_enter(p)) return NULL;
    if (lf_parse_op(p, '-'))
        n = binary(p, N_NEG, 0, parse_unary(p, false), NULL);
    else if (lf_parse_op(p, '+'))
        n = binary(p, N_POS, 0, parse_unary(p, false), NULL);
    else
        n = lf_parse_primary(p);
    n = parse_postfix(p, n);
    if (with_filters) n = parse_after(p, n);
    p->depth--;
    return n;
}

static node *parse_pow(parser *p)
{
    node *n = parse_unary(p, true);
    while (n && lf_parse_op(p, OP_POW)) n = binary(p, N_BINARY, OP_POW, n, parse_unary(p, true));
    return n;
}

static node *parse_product(parser *p)
{
    node *n = parse_pow(p);
    while (n && is_op(p->at, "*/%", OP_FLOORDIV, OP_FLOORDIV)) {
        const int op = p->at++->op;
        n = binary(p, N_BINARY, op, n, parse_pow(p));
    }
    return n;
}

static node *parse_concat(parser *p)
{
    node *first = parse_product(p);
    if (!first || !is_op(p->at, "~", 0, 0)) return first;
    node *n = lf_parse_node(p, N_CONCAT, first->line);
    if (!n) return NULL;
    n->list = first;
    for (node *last = first; last && lf_parse_op(p, '~'); last = last->next) last->next = parse_product(p);
    return n;
}

static node *parse_sum(parser *p)
{
    node *n = parse_concat(p);
    while (n && is_op(p->at, "+-", 0, 0)) {
        const int op = p->at++->op;
        n = binary(p, N_BINARY, op, n, parse_concat(p));
    }
    return n;
}

/* The comparison that comes, which it moves past; 0 when there is none. */
static int take_comparison(parser *p)
{
    if (is_op(p->at, "<>", OP_EQ, OP_NE) || is_op(p->at, "", OP_GE, OP_LE)) return p->at++->op;
    if (lf_parse_word(p, "in")) return OP_IN;
    if (!lf_parse_is_word(p->at, "not") || !lf_parse_is_word(p->at + 1, "in")) return 0;
    p->at += 2;
    return OP_NOT_IN;
}

static node *parse_compare(parser *p)
{
    node *first = parse_sum(p), *n = NULL, **last = NULL;
    for (int op; first && p->status == LF_OK && (op = take_comparison(p));) {
        if (!n) {
            n = binary(p, N_COMPARE, 0, first, NULL);
            last = n ? &n->list : NULL;
        }
        node *operand = lf_parse_node(p, N_OPERAND, p->at->line);
        if (!operand || !n) return NULL;
        operand->op = op;
        operand->a = parse_sum(p);
        *last = operand;
        last = &operand->next;
    }
    return n ? n : first;
}

static node *parse_not(parser *p)
{
    const int line = p->at->line;
    if (!lf_parse_word(p, "not")) return parse_compare(p);
    node *n = lf_parse_enter(p) ? lf_parse_node(p, N_NOT, line) : NULL;
    if (!n) return NULL;
    n->a = parse_not(p);
    p->depth--;
    return n;
}

static node *parse_and(parser *p)
{
    node *n = parse_not(p);
    while (n && lf_parse_word(p, "and")) n = binary(p, N_AND, 0, n, parse_not(p));
    return n;
}

static node *parse_or(parser *p)
{
    node *n = parse_and(p);
    while (n && lf_parse_word(p, "or")) n = binary(p, N_OR, 0, n, parse_and(p));
    return n;
}

node *lf_parse_expression(parser *p, bool conditional)
{
    if (!lf_parse_enter(p)) return NULL;
    node *n = parse_or(p);
    while (conditional && n && lf_parse_word(p, "if")) {
        n = binary(p, N_COND, 0, n, parse_or(p));
        if (n && lf_parse_word(p, "else")) n->c = lf_parse_expression(p, true);
    }
    p->depth--;
    return n;
}
