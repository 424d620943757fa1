/* Statements, scopes and macros, and the rendering around them.
 *
 * Scopes, as jinja2's: `for`, `with`, macros, `call`, `filter`, block `set` and `generation` have one of their own, each turn of a loop
 * a fresh one; `if` has none. Names are looked up outwards, `set` sets in the innermost. */
#include "jinja/jinja_int.h"

#include <stdlib.h>
#include <string.h>

/* ---- the rendering ---- */

value lf_render_fail(render *r, lf_status status, const char *fmt, ...)
{
    char text[460];
    va_list args;
    if (r->status != LF_OK) return value_undefined(-1);
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    r->status = lf_fail(r->err, status, "%s: line %d: %s", r->t->label, r->line, text);
    return value_undefined(-1);
}

bool lf_render_spend(render *r, size_t n)
{
    if (r->status != LF_OK) return false;
    if (n <= LF_JINJA_STEPS_MAX - r->steps) {
        r->steps += n;
        return true;
    }
    (void)lf_render_fail(r, LF_ELIMIT, "takes more than %d steps", LF_JINJA_STEPS_MAX);
    return false;
}

void *lf_render_alloc(render *r, size_t n, size_t item_bytes)
{
    size_t bytes;
    if (r->status != LF_OK) return NULL;
    void *block = lf_mul_size(n, item_bytes, &bytes) ? lf_arena_alloc(&r->mem, bytes) : NULL;
    if (!block && r->mem.bytes > LF_JINJA_MEMORY_MAX / 2)
        (void)lf_render_fail(r, LF_ELIMIT, "takes more than %d bytes of memory", LF_JINJA_MEMORY_MAX);
    else if (!block)
        (void)lf_render_fail(r, LF_ENOMEM, "out of memory");
    return block;
}

bool lf_render_enter(render *r)
{
    if (r->status != LF_OK) return false;
    if (r->depth == LF_JINJA_DEPTH_MAX) {
        (void)lf_render_fail(r, LF_ELIMIT, "goes deeper than %d expressions or values in each other",
                             LF_JINJA_DEPTH_MAX);
        return false;
    }
    r->depth++;
    return true;
}

void lf_render_write(render *r, str s)
{
    if (!lf_render_spend(r, steps_of_bytes(s.n))) return;
    if (s.n > LF_JINJA_OUTPUT_MAX - r->written) {
        (void)lf_render_fail(r, LF_ELIMIT, "writes more than %d bytes", LF_JINJA_OUTPUT_MAX);
        return;
    }
    r->written += s.n;
    if (!lf_bytes_append(r->out, s.p, s.n)) (void)lf_render_fail(r, LF_ENOMEM, "out of memory");
}

/* ---- scopes ---- */

scope *lf_scope_new(render *r, scope *parent)
{
    scope *s = lf_render_alloc(r, 1, sizeof *s);
    if (s) s->parent = parent;
    return s;
}

void lf_scope_set(render *r, int name, value v)
{
    if (!r->scope) {
        r->root[name] = v;
        return;
    }
    for (binding *b = r->scope->bindings; b; b = b->next)
        if (b->name == name) {
            b->value = v;
            return;
        }
    binding *b = lf_render_alloc(r, 1, sizeof *b);
    if (!b) return;
    *b = (binding){.next = r->scope->bindings, .name = name, .value = v};
    r->scope->bindings = b;
}

value lf_exec_capture(render *r, const node *list, scope *parent)
{
    lf_bytes text = {0}, *out = r->out;
    scope *outer = r->scope;
    r->scope = lf_scope_new(r, parent);
    r->out = &text;
    lf_exec(r, list);
    r->out = out;
    r->scope = outer;
    const value v = lf_value_copy(r, text.data, text.len);
    lf_bytes_free(&text);
    return v;
}

/* ---- macros ---- */

static const value *find_named(const call_args *args, int name)
{
    for (size_t i = 0; i < args->n_named; i++)
        if (args->named[i].name == name) return &args->named[i].value;
    return NULL;
}

/* A named argument that is no parameter, and one that repeats a positional one. */
static void bind_other(render *r, const node *n, const call_args *args, const named *arg, dict *rest)
{
    size_t i = 0;
    const node *param = n->named;
    for (; param && param->name != arg->name; param = param->next) i++;
    if (param && i < args->n)
        (void)lf_render_fail(r, LF_EINVAL, "a macro found two values for one parameter");
    else if (!param && arg->name == NAME_caller && n->op & MACRO_READS_CALLER)
        lf_scope_set(r, NAME_caller, arg->value);
    else if (!param && n->op & MACRO_READS_KWARGS)
        lf_dict_set(r, rest, value_str(r->t->names[arg->name]), arg->value);
    else if (!param)
        (void)lf_render_fail(r, LF_EINVAL,
                             "a macro found an argument named '%.*s', which is none of its parameters",
                             (int)r->t->names[arg->name].n, r->t->names[arg->name].p);
}

/* The parameters and special names of a macro, in the innermost scope. */
static void bind_macro(render *r, const node *n, const call_args *args)
{
    size_t i = 0;
    for (const node *param = n->named; param && r->status == LF_OK; param = param->next, i++) {
        const value *given = i < args->n ? &args->items[i] : find_named(args, param->name);
        lf_scope_set(r, param->name,
                     given      ? *given
                     : param->a ? lf_eval(r, param->a)
                                : value_undefined(param->name));
    }
    value rest = lf_value_dict(r, J_DICT, 0);
    for (size_t k = 0; k < args->n_named && r->status == LF_OK; k++)
        bind_other(r, n, args, &args->named[k], rest.as.dict);
    const size_t n_taken = args->n < i ? args->n : i;
    if (n->op & MACRO_READS_VARARGS)
        lf_scope_set(r, NAME_varargs, lf_value_seq(r, J_TUPLE, args->items + n_taken, args->n - n_taken));
    else if (args->n > n_taken)
        (void)lf_render_fail(r, LF_EINVAL, "a macro found %zu arguments, expected at most %zu", args->n, i);
    if (n->op & MACRO_READS_KWARGS) lf_scope_set(r, NAME_kwargs, rest);
}

value lf_call_macro(render *r, const macro *m, const call_args *args)
{
    lf_bytes text = {0}, *out = r->out;
    scope *outer = r->scope;
    const int line = r->line;
    if (!lf_render_enter(r)) return value_undefined(-1);
    r->scope = lf_scope_new(r, m->closure);
    r->out = &text;
    if (r->scope) bind_macro(r, m->node, args);
    lf_exec(r, m->node->list);
    r->out = out;
    r->scope = outer;
    r->line = line;
    r->depth--;
    const value v = lf_value_copy(r, text.data, text.len);
    lf_bytes_free(&text);
    return v;
}

static value new_macro(render *r, const node *n)
{
    macro *m = lf_render_alloc(r, 1, sizeof *m);
    if (!m) return value_undefined(-1);
    *m = (macro){.node = n, .closure = r->scope};
    return (value){.kind = J_MACRO, .as.macro = m};
}

/* The call gets the body as `caller`. */
static void exec_call_block(render *r, const node *n)
{
    const value callee = lf_eval(r, n->a->a);
    call_args args;
    if (r->status == LF_OK && callee.kind != J_MACRO)
        (void)lf_render_fail(r, LF_EUNSUPPORTED, "call: found %s, expected a macro", lf_value_type(&callee));
    if (r->status != LF_OK || !lf_eval_args(r, n->a, &args)) return;
    args.named[args.n_named++] = (named){.name = NAME_caller, .value = new_macro(r, n)};
    if (r->status != LF_OK) return;
    const value text = lf_call_macro(r, callee.as.macro, &args);
    if (text.kind == J_STRING) lf_render_write(r, text.as.s);
}

/* ---- assignments ---- */

static void assign(render *r, const node *target, value v);

static void assign_all(render *r, const node *targets, value v)
{
    size_t n = 0, i = 0;
    for (const node *t = targets; t; t = t->next) n++;
    const seq items = lf_value_items(r, &v);
    if (r->status == LF_OK && items.n != n)
        (void)lf_render_fail(r, LF_EINVAL, "found %zu values for %zu names", items.n, n);
    for (const node *t = targets; t && r->status == LF_OK; t = t->next) assign(r, t, items.items[i++]);
}

static void assign(render *r, const node *target, value v)
{
    if (target->kind == N_NAME) {
        lf_scope_set(r, target->name, v);
    } else if (target->kind == N_TUPLE) {
        assign_all(r, target->list, v);
    } else {
        const value space = lf_eval(r, target->a);
        r->line = target->line;
        if (r->status == LF_OK && space.kind != J_NAMESPACE)
            (void)lf_render_fail(r, LF_EINVAL, "set: found an attribute of %s, expected one of a namespace",
                                 lf_value_type(&space));
        if (r->status == LF_OK) lf_dict_set(r, space.as.dict, value_str(r->t->names[target->name]), v);
    }
}

/* ---- loops ---- */

/* The items that pass the loop's own `if`. */
static seq filter_items(render *r, const node *n, seq all)
{
    seq kept = {.items = lf_render_alloc(r, all.n, sizeof *kept.items)};
    scope *outer = r->scope;
    for (size_t i = 0; i < all.n && r->status == LF_OK; i++) {
        r->scope = lf_scope_new(r, outer);
        assign(r, n->a, all.items[i]);
        const value passes = lf_eval(r, n->c);
        if (r->status == LF_OK && lf_value_truth(&passes)) kept.items[kept.n++] = all.items[i];
    }
    r->scope = outer;
    return kept;
}

static void exec_for(render *r, const node *n)
{
    scope *outer = r->scope;
    value items = lf_eval(r, n->b);
    if (r->status != LF_OK) return;
    loop *l = lf_render_alloc(r, 1, sizeof *l);
    if (!l) return;
    l->all = lf_value_items(r, &items);
    l->last_changed.kind = J_ABSENT;
    if (n->c) l->all = filter_items(r, n, l->all);
    for (; l->i < l->all.n && r->status == LF_OK; l->i++) {
        r->scope = lf_scope_new(r, outer);
        if (!r->scope || !lf_render_spend(r, 1)) break;
        lf_scope_set(r, NAME_loop, (value){.kind = J_LOOP, .as.loop = l});
        assign(r, n->a, l->all.items[l->i]);
        lf_exec(r, n->list);
        const bool ends = r->flow == FLOW_BREAK;
        r->flow = FLOW_ON;
        if (ends) break;
    }
    r->scope = outer;
    if (l->all.n == 0 && n->d) lf_exec(r, n->d);
}

/* ---- statements ---- */

static void exec_with(render *r, const node *n)
{
    scope *outer = r->scope, *inner = lf_scope_new(r, outer);
    for (const node *entry = n->named; entry && r->status == LF_OK; entry = entry->next) {
        const value v = lf_eval(r, entry->b); /* outside: the names do not see each other */
        r->scope = inner;
        assign(r, entry->a, v);
        r->scope = outer;
    }
    r->scope = inner;
    lf_exec(r, n->list);
    r->scope = outer;
}

/* Catches a body and puts it through filters. */
static value filtered(render *r, const node *n)
{
    const value outer = r->input;
    r->input = lf_exec_capture(r, n->list, r->scope);
    const value v = lf_eval(r, n->b);
    r->input = outer;
    return v;
}

static void print(render *r, value v)
{
    if (r->status == LF_OK) lf_render_write(r, lf_value_text(r, &v));
}

static void exec_node(render *r, const node *n)
{
    value v;
    switch (n->kind) {
    case N_TEXT: lf_render_write(r, n->constant.as.s); break;
    case N_PRINT: print(r, lf_eval(r, n->a)); break;
    case N_BODY: lf_exec(r, n->list); break;
    case N_IF:
        v = lf_eval(r, n->a);
        if (r->status == LF_OK) lf_exec(r, lf_value_truth(&v) ? n->list : n->c);
        break;
    case N_FOR: exec_for(r, n); break;
    case N_SET:
        v = lf_eval(r, n->b);
        if (r->status == LF_OK) assign(r, n->a, v);
        break;
    case N_SET_BLOCK:
        v = filtered(r, n);
        if (r->status == LF_OK) assign(r, n->a, v);
        break;
    case N_MACRO: lf_scope_set(r, n->name, new_macro(r, n)); break;
    case N_CALL_BLOCK: exec_call_block(r, n); break;
    case N_FILTER_BLOCK: print(r, filtered(r, n)); break;
    case N_WITH: exec_with(r, n); break;
    case N_SCOPE: print(r, lf_exec_capture(r, n->list, r->scope)); break;
    case N_BREAK: r->flow = FLOW_BREAK; break;
    case N_CONTINUE: r->flow = FLOW_CONTINUE; break;
    default: break; /* expressions are no statements */
    }
}

void lf_exec(render *r, const node *list)
{
    if (!lf_render_enter(r)) return;
    for (; list && r->status == LF_OK && r->flow == FLOW_ON; list = list->next) {
        r->line = list->line;
        if (lf_render_spend(r, 1)) exec_node(r, list);
    }
    r->depth--;
}

lf_status lf_jinja_render(const lf_jinja *t, const json_t *vars, int64_t now, lf_bytes *out, lf_error *err)
{
    const size_t start = out->len;
    render r = {.t = t, .mem.bytes_max = LF_JINJA_MEMORY_MAX, .out = out, .now = now, .line = 1, .err = err};
    r.root = lf_render_alloc(&r, (size_t)t->n_names, sizeof *r.root);
    for (int i = 0; i < t->n_names && r.status == LF_OK; i++) {
        const json_t *member = json_object_getn(vars, t->names[i].p, t->names[i].n);
        if (member) r.root[i] = lf_jinja_from_json(&r, member);
    }
    lf_exec(&r, t->body);
    lf_arena_free(&r.mem);
    if (r.status != LF_OK) {
        out->len = start;
        if (out->data) out->data[start] = '\0';
    }
    return r.status;
}
