/* Expressions. Each gives a value; once the rendering has failed, values mean nothing and everything returns. */
#include "jinja/jinja_int.h"

#include <math.h>
#include <string.h>

/* ---- names ---- */

static bool find_binding(const render *r, int name, value *out)
{
    for (const scope *s = r->scope; s; s = s->parent)
        for (const binding *b = s->bindings; b; b = b->next)
            if (b->name == name) {
                *out = b->value;
                return true;
            }
    *out = r->root[name];
    return out->kind != J_ABSENT;
}

static value eval_name(render *r, const node *n)
{
    value v;
    if (find_binding(r, n->name, &v)) return v;
    if (n->name < N_FUNCTIONS) return (value){.kind = J_FUNCTION, .name = n->name};
    return value_undefined(n->name);
}

/* ---- arithmetic ---- */

static value fail_operands(render *r, const char *op, const value *a, const value *b)
{
    const value *undefined = a->kind == J_UNDEFINED ? a : b;
    if (undefined->kind == J_UNDEFINED && undefined->name >= 0)
        return lf_render_fail(r, LF_EINVAL, "'%.*s' is undefined, expected an operand of '%s'",
                              (int)r->t->names[undefined->name].n, r->t->names[undefined->name].p, op);
    return lf_render_fail(r, LF_EINVAL, "found %s and %s, expected operands that fit '%s'", lf_value_type(a),
                          lf_value_type(b), op);
}

static value fail_overflow(render *r)
{
    return lf_render_fail(r, LF_EUNSUPPORTED, "found a result beyond 64 bits");
}

static value add_integers(render *r, int op, int64_t a, int64_t b)
{
    int64_t result;
    const bool overflow = op == '+'   ? __builtin_add_overflow(a, b, &result)
                          : op == '-' ? __builtin_sub_overflow(a, b, &result)
                                      : __builtin_mul_overflow(a, b, &result);
    return overflow ? fail_overflow(r) : value_int(result);
}

/* Python rounds the quotient down, and the remainder has the divisor's sign. */
static value divide_integers(render *r, int op, int64_t a, int64_t b)
{
    if (a == INT64_MIN && b == -1) return op == '%' ? value_int(0) : fail_overflow(r);
    const bool below = a % b != 0 && (a % b < 0) != (b < 0);
    return value_int(op == '%' ? a % b + (below ? b : 0) : a / b - below);
}

static value power(render *r, const value *a, const value *b)
{
    if (!value_is_integer(a) || !value_is_integer(b) || value_integer(b) < 0)
        return value_float(pow(value_number(a), value_number(b)));
    value result = value_int(1);
    const int64_t base = value_integer(a);
    if (base == 0 || base == 1 || base == -1)
        return value_int(value_integer(b) == 0 ? 1 : base < 0 && value_integer(b) % 2 == 0 ? 1 : base);
    for (int64_t i = 0; i < value_integer(b) && result.kind == J_INT; i++) /* overflows within 64 steps */
        result = add_integers(r, '*', result.as.i, base);
    return result;
}

static value divide(render *r, int op, const value *a, const value *b)
{
    if (value_number(b) == 0) return lf_render_fail(r, LF_EINVAL, "found a division by zero");
    if (op == '/') return value_float(value_number(a) / value_number(b));
    if (value_is_integer(a) && value_is_integer(b))
        return divide_integers(r, op, value_integer(a), value_integer(b));
    const double x = value_number(a), y = value_number(b), rest = fmod(x, y);
    const double modulo = rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
    return value_float(op == '%' ? modulo : floor((x - modulo) / y + 0.5));
}

static value arithmetic(render *r, int op, const value *a, const value *b)
{
    if (op == OP_POW) return power(r, a, b);
    if (op == '/' || op == '%' || op == OP_FLOORDIV) return divide(r, op, a, b);
    if (value_is_integer(a) && value_is_integer(b))
        return add_integers(r, op, value_integer(a), value_integer(b));
    const double x = value_number(a), y = value_number(b);
    return value_float(op == '+' ? x + y : op == '-' ? x - y : x * y);
}

static value join_two(render *r, const value *a, const value *b)
{
    if (a->kind == J_STRING) {
        const value parts[] = {*a, *b};
        return lf_text_join(r, STR(""), parts, 2);
    }
    value out = lf_value_seq(r, a->kind, NULL, a->as.seq->n + b->as.seq->n);
    if (out.kind == J_UNDEFINED) return out;
    const seq *x = a->as.seq, *y = b->as.seq;
    if (x->n) memcpy(out.as.seq->items, x->items, x->n * sizeof *x->items);
    if (y->n) memcpy(out.as.seq->items + x->n, y->items, y->n * sizeof *y->items);
    return out;
}

/* "ab" * 3, [1] * 3 */
static value repeat(render *r, const value *what, int64_t times)
{
    size_t n;
    const size_t count = times < 0 ? 0 : (size_t)times,
                 each = what->kind == J_STRING ? what->as.s.n : what->as.seq->n;
    if (!lf_mul_size(count, each, &n) || n > LF_JINJA_MEMORY_MAX)
        return lf_render_fail(r, LF_ELIMIT, "found a repetition beyond what memory can hold");
    if (what->kind == J_STRING) {
        char *p = lf_render_spend(r, steps_of_bytes(n)) ? lf_render_alloc(r, n, 1) : NULL;
        for (size_t i = 0; p && each && i < count; i++) memcpy(p + i * each, what->as.s.p, each);
        return p ? value_str((str){p, n}) : value_undefined(-1);
    }
    value out = lf_value_seq(r, what->kind, NULL, n);
    for (size_t i = 0; out.kind != J_UNDEFINED && i < n; i++)
        out.as.seq->items[i] = what->as.seq->items[i % each];
    return out;
}

static bool is_repeatable(const value *v)
{
    return v->kind == J_STRING || v->kind == J_LIST || v->kind == J_TUPLE;
}

static value eval_binary(render *r, const node *n)
{
    const value a = lf_eval(r, n->a), b = lf_eval(r, n->b);
    char text[3] = {(char)n->op};
    if (r->status != LF_OK) return value_undefined(-1);
    if (value_is_number(&a) && value_is_number(&b)) return arithmetic(r, n->op, &a, &b);
    if (n->op == '+' && a.kind == b.kind && is_repeatable(&a)) return join_two(r, &a, &b);
    if (n->op == '*' && is_repeatable(&a) && value_is_integer(&b)) return repeat(r, &a, value_integer(&b));
    if (n->op == '*' && is_repeatable(&b) && value_is_integer(&a)) return repeat(r, &b, value_integer(&a));
    if (n->op == '%' && a.kind == J_STRING && b.kind == J_TUPLE)
        return lf_text_format(r, a.as.s, b.as.seq->items, b.as.seq->n);
    if (n->op == '%' && a.kind == J_STRING) return lf_text_format(r, a.as.s, &b, 1);
    return fail_operands(r, n->op == OP_POW ? "**" : n->op == OP_FLOORDIV ? "//" : text, &a, &b);
}

static value eval_sign(render *r, const node *n)
{
    const value v = lf_eval(r, n->a);
    if (r->status != LF_OK) return v;
    if (!value_is_number(&v)) return fail_operands(r, n->kind == N_NEG ? "-" : "+", &v, &v);
    const bool negative = n->kind == N_NEG;
    if (v.kind == J_FLOAT) return value_float(negative ? -v.as.f : v.as.f);
    return negative ? add_integers(r, '-', 0, value_integer(&v)) : value_int(value_integer(&v));
}

/* ---- comparisons ---- */

static bool compare(render *r, int op, const value *a, const value *b)
{
    switch (op) {
    case OP_EQ: return lf_value_equal(r, a, b);
    case OP_NE: return !lf_value_equal(r, a, b);
    case OP_IN: return lf_value_contains(r, b, a);
    case OP_NOT_IN: return !lf_value_contains(r, b, a);
    default: break;
    }
    if (a->kind == J_UNDEFINED || b->kind == J_UNDEFINED) {
        (void)fail_operands(r, op == '<' ? "<" : op == '>' ? ">" : op == OP_LE ? "<=" : ">=", a, b);
        return false;
    }
    if ((a->kind == J_FLOAT && isnan(a->as.f)) || (b->kind == J_FLOAT && isnan(b->as.f))) return false;
    const int order = lf_value_compare(r, a, b);
    return op == '<' ? order < 0 : op == '>' ? order > 0 : op == OP_LE ? order <= 0 : order >= 0;
}

/* a < b < c: each with its neighbour, until one is false. */
static value eval_compare(render *r, const node *n)
{
    value left = lf_eval(r, n->a);
    for (const node *operand = n->list; operand && r->status == LF_OK; operand = operand->next) {
        const value right = lf_eval(r, operand->a);
        r->line = n->line;
        if (r->status == LF_OK && !compare(r, operand->op, &left, &right)) return value_bool(false);
        left = right;
    }
    return value_bool(true);
}

/* ---- collections ---- */

static size_t count_nodes(const node *n)
{
    size_t count = 0;
    for (; n; n = n->next) count++;
    return count;
}

static value eval_items(render *r, value_kind kind, const node *list)
{
    value out = lf_value_seq(r, kind, NULL, count_nodes(list));
    if (out.kind == J_UNDEFINED) return out;
    for (size_t i = 0; list; list = list->next) out.as.seq->items[i++] = lf_eval(r, list);
    return out;
}

static value eval_dict(render *r, const node *n)
{
    value out = lf_value_dict(r, J_DICT, count_nodes(n->list));
    if (out.kind == J_UNDEFINED) return out;
    for (const node *entry = n->list; entry && r->status == LF_OK; entry = entry->next) {
        const value key = lf_eval(r, entry->a), v = lf_eval(r, entry->b);
        if (r->status == LF_OK) lf_dict_set(r, out.as.dict, key, v);
    }
    return out;
}

static value eval_concat(render *r, const node *n)
{
    const value parts = eval_items(r, J_LIST, n->list);
    if (r->status != LF_OK) return parts;
    return lf_text_join(r, STR(""), parts.as.seq->items, parts.as.seq->n);
}

static value eval_slice(render *r, const node *n)
{
    const value object = lf_eval(r, n->a);
    const node *parts[3] = {n->b, n->c, n->d};
    value bounds[3];
    for (int i = 0; i < 3; i++) bounds[i] = parts[i] ? lf_eval(r, parts[i]) : value_none();
    r->line = n->line;
    return r->status == LF_OK ? lf_value_slice(r, &object, bounds) : object;
}

/* ---- calls ---- */

bool lf_eval_args(render *r, const node *n, call_args *args)
{
    const size_t count = count_nodes(n->list), n_named = count_nodes(n->named);
    *args = (call_args){.items = lf_render_alloc(r, count, sizeof *args->items),

                        .named = lf_render_alloc(r, n_named + 1, sizeof *args->named)};
    if (!args->items || !args->named) return false;
    for (const node *arg = n->list; arg; arg = arg->next) args->items[args->n++] = lf_eval(r, arg);
    for (const node *arg = n->named; arg; arg = arg->next)
        args->named[args->n_named++] = (named){.name = arg->name, .value = lf_eval(r, arg->a)};
    r->line = n->line;
    return r->status == LF_OK;
}

/* What to say about calling what cannot be called: methods that templates would find in Python are named. */
static value fail_call(render *r, const node *callee, const value *v)
{
    if (v->kind != J_UNDEFINED || callee->name < 0)
        return lf_render_fail(r, LF_EINVAL, "found a call of %s, expected a function, macro or method",
                              lf_value_type(v));
    const str name = r->t->names[callee->name];
    return lf_render_fail(r, callee->kind == N_ATTR ? LF_EUNSUPPORTED : LF_EINVAL,
                          callee->kind == N_ATTR ? "found a call of the method '%.*s', which is not supported"
                                                 : "'%.*s' is undefined, expected a function or macro",
                          (int)name.n, name.p);
}

static value eval_call(render *r, const node *n)
{
    call_args args;
    const value callee = lf_eval(r, n->a);
    if (r->status != LF_OK || !lf_eval_args(r, n, &args)) return value_undefined(-1);
    switch (callee.kind) {
    case J_FUNCTION: return lf_call_function(r, callee.name, &args);
    case J_MACRO: return lf_call_macro(r, callee.as.macro, &args);
    case J_METHOD: {
        const method *m = callee.as.bound->method;
        return lf_call_bound(r, "method", &m->signature, m->fn, callee.as.bound->self, &args);
    }
    default: return fail_call(r, n->a, &callee);
    }
}

/* A filter or test beyond the subset. */
static value fail_unknown(render *r, const char *what, const node *n, const char *known)
{
    const str name = r->t->names[n->name];
    return lf_render_fail(r, LF_EUNSUPPORTED, "found the %s '%.*s'; supported are %s", what,
                          (int)(name.n < 40 ? name.n : 40), name.p, known);
}

static value eval_filter(render *r, const node *n)
{
    call_args args;
    if (!n->filter) return fail_unknown(r, "filter", n, lf_filter_names());
    const value input = lf_eval(r, n->a);
    if (r->status != LF_OK || !lf_eval_args(r, n, &args)) return value_undefined(-1);
    return lf_call_bound(r, "filter", &n->filter->signature, n->filter->fn, input, &args);
}

static value eval_test(render *r, const node *n)
{
    call_args args;
    if (!n->test) return fail_unknown(r, "test", n, lf_test_names());
    const value subject = lf_eval(r, n->a);
    if (r->status != LF_OK || !lf_eval_args(r, n, &args)) return value_undefined(-1);
    return lf_call_bound(r, "test", &n->test->signature, n->test->fn, subject, &args);
}

/* ---- all ---- */

static value eval_node(render *r, const node *n)
{
    value v;
    switch (n->kind) {
    case N_CONST: return n->constant;
    case N_NAME: return eval_name(r, n);
    case N_INPUT: return r->input;
    case N_LIST: return eval_items(r, J_LIST, n->list);
    case N_TUPLE: return eval_items(r, J_TUPLE, n->list);
    case N_DICT: return eval_dict(r, n);
    case N_CONCAT: return eval_concat(r, n);
    case N_ATTR:
        v = lf_eval(r, n->a);
        r->line = n->line;
        return r->status == LF_OK ? lf_value_attribute(r, &v, n->name) : v;
    case N_ITEM: {
        v = lf_eval(r, n->a);
        const value key = lf_eval(r, n->b);
        r->line = n->line;
        return r->status == LF_OK ? lf_value_item(r, &v, &key) : v;
    }
    case N_SLICE: return eval_slice(r, n);
    case N_CALL: return eval_call(r, n);
    case N_FILTER: return eval_filter(r, n);
    case N_TEST: return eval_test(r, n);
    case N_NOT: v = lf_eval(r, n->a); return value_bool(!lf_value_truth(&v));
    case N_NEG:
    case N_POS: return eval_sign(r, n);
    case N_AND: v = lf_eval(r, n->a); return lf_value_truth(&v) ? lf_eval(r, n->b) : v;
    case N_OR: v = lf_eval(r, n->a); return lf_value_truth(&v) ? v : lf_eval(r, n->b);
    case N_BINARY: return eval_binary(r, n);
    case N_COMPARE: return eval_compare(r, n);
    case N_COND:
        v = lf_eval(r, n->b);
        return lf_value_truth(&v) ? lf_eval(r, n->a) : n->c ? lf_eval(r, n->c) : value_undefined(-1);
    default: return value_undefined(-1); /* statements and parts are never evaluated */
    }
}

value lf_eval(render *r, const node *n)
{
    if (!lf_render_spend(r, 1) || !lf_render_enter(r)) return value_undefined(-1);
    r->line = n->line;
    const value v = eval_node(r, n);
    r->depth--;
    return v;
}
