/* Tokens to a tree: statements, and what all of the parser shares. The grammar is that of jinja2 3.1 (parser.py); constructs that
 * jinja2 has and this subset has not are refused by name. */
#include "jinja/jinja_int.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* ---- shared ---- */

node *lf_parse_fail(parser *p, lf_status status, const token *at, const char *fmt, ...)
{
    char text[460];
    va_list args;
    if (p->status != LF_OK) return NULL;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    p->status = lf_fail(p->err, status, "%s: line %d: %s", p->t->label, at->line, text);
    return NULL;
}

node *lf_parse_node(parser *p, node_kind kind, int line)
{
    node *n = p->status == LF_OK ? lf_arena_alloc(&p->t->mem, sizeof *n) : NULL;
    if (!n) return lf_parse_fail(p, LF_ENOMEM, p->at, "out of memory");
    n->kind = kind;
    n->line = line;
    n->name = -1;
    return n;
}

static uint32_t hash_name(str name)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < name.n; i++) h = (h ^ (uint8_t)name.p[i]) * 16777619u;
    return h;
}

int lf_parse_name(parser *p, str name)
{
    lf_jinja *t = p->t;
    uint32_t slot = hash_name(name) % N_NAME_SLOTS;
    for (; p->slots[slot] >= 0; slot = (slot + 1) % N_NAME_SLOTS)
        if (str_equal(t->names[p->slots[slot]], name)) return p->slots[slot];
    if (t->n_names == LF_JINJA_NAMES_MAX) {
        (void)lf_parse_fail(p, LF_ELIMIT, p->at, "found more than %d different names", LF_JINJA_NAMES_MAX);
        return -1;
    }
    p->slots[slot] = t->n_names;
    t->names[t->n_names] = name;
    return t->n_names++;
}

bool lf_parse_enter(parser *p)
{
    if (p->status != LF_OK) return false;
    if (p->depth == LF_JINJA_DEPTH_MAX) {
        (void)lf_parse_fail(p, LF_ELIMIT, p->at,
                            "found expressions or blocks in each other, expected at most %d",
                            LF_JINJA_DEPTH_MAX);
        return false;
    }
    p->depth++;
    return true;
}

bool lf_parse_op(parser *p, int op)
{
    const bool there = p->at->kind == T_OP && p->at->op == op;
    p->at += there;
    return there;
}

bool lf_parse_is_word(const token *at, const char *word)
{
    return at->kind == T_NAME && str_equal(at->text, (str){word, strlen(word)});
}

bool lf_parse_word(parser *p, const char *word)
{
    const bool there = lf_parse_is_word(p->at, word);
    p->at += there;
    return there;
}

static const char *describe_op(int op, char out[2])
{
    static const char doubles[][3] = {"==", "!=", ">=", "<=", "//", "**"};
    if (op >= OP_EQ) return doubles[op - OP_EQ];
    out[0] = (char)op;
    out[1] = '\0';
    return out;
}

const char *lf_parse_describe(const token *at, char out[64])
{
    char op[2];
    switch (at->kind) {
    case T_TEXT: return "text";
    case T_PRINT_BEGIN: return "'{{'";
    case T_PRINT_END: return "'}}'";
    case T_BLOCK_BEGIN: return "'{%'";
    case T_BLOCK_END: return "'%}'";
    case T_NAME:
        (void)snprintf(out, 64, "'%.*s'", at->text.n < 50 ? (int)at->text.n : 50, at->text.p);
        return out;
    case T_STRING: return "a string";
    case T_INT:
    case T_FLOAT: return "a number";
    case T_OP: (void)snprintf(out, 64, "'%.2s'", describe_op(at->op, op)); return out;
    case T_EOF: break;
    }
    return "the end of the template";
}

bool lf_parse_expect_op(parser *p, int op)
{
    char found[64], wanted[2];
    if (p->status == LF_OK && lf_parse_op(p, op)) return true;
    (void)lf_parse_fail(p, LF_EFORMAT, p->at, "found %s, expected '%s'", lf_parse_describe(p->at, found),
                        describe_op(op, wanted));
    return false;
}

static bool expect(parser *p, token_kind kind, const char *what)
{
    char found[64];
    if (p->status == LF_OK && p->at->kind == kind) {
        p->at++;
        return true;
    }
    (void)lf_parse_fail(p, LF_EFORMAT, p->at, "found %s, expected %s", lf_parse_describe(p->at, found), what);
    return false;
}

/* ---- bodies ---- */

static node *parse_statement(parser *p);

/* The words that end a body; NULL at their end. */
typedef const char *const *ends;

static bool at_end_word(const parser *p, ends words)
{
    for (; words && *words; words++)
        if (lf_parse_is_word(p->at + 1, *words)) return true;
    return false;
}

static node *parse_part(parser *p)
{
    const token *t = p->at++;
    node *n = NULL;
    if (t->kind == T_TEXT) {
        n = lf_parse_node(p, N_TEXT, t->line);
        if (n) n->constant = value_str(t->text);
    } else if (t->kind == T_PRINT_BEGIN) {
        n = lf_parse_node(p, N_PRINT, t->line);
        node *shown = lf_parse_tuple(p, true);
        if (n) n->a = shown;
        (void)expect(p, T_PRINT_END, "'}}'");
    } else {
        n = parse_statement(p);
        (void)expect(p, T_BLOCK_END, "'%}'");
    }
    return n;
}

/* Parts up to "{% word", where word is one of words, which it moves to; or up to the end of the template. */
static node *parse_parts(parser *p, ends words)
{
    char expected[100] = "";
    node *first = NULL, **last = &first;
    if (!lf_parse_enter(p)) return NULL;
    while (p->status == LF_OK && p->at->kind != T_EOF) {
        if (p->at->kind == T_BLOCK_BEGIN && at_end_word(p, words)) {
            p->at++;
            p->depth--;
            return first;
        }
        *last = parse_part(p);
        if (*last) last = &(*last)->next;
    }
    for (size_t n = 0; words && *words && n < sizeof expected; words++)
        n += (size_t)snprintf(expected + n, sizeof expected - n, "%s{%% %s %%}", n ? " or " : "", *words);
    if (*expected)
        (void)lf_parse_fail(p, LF_EFORMAT, p->at, "found the end of the template, expected %s", expected);
    p->depth--;
    return first;
}

/* "%}", a body, "{% word". */
static node *parse_body(parser *p, ends words)
{
    (void)lf_parse_op(p, ':'); /* jinja2 allows Python's */
    return expect(p, T_BLOCK_END, "'%}'") ? parse_parts(p, words) : NULL;
}

static node *parse_body_until(parser *p, const char *word)
{
    const char *const words[] = {word, NULL};
    node *body = parse_body(p, words);
    (void)lf_parse_word(p, word);
    return body;
}

/* ---- targets ---- */

static node *parse_name(parser *p)
{
    const token *t = p->at;
    if (!expect(p, T_NAME, "a name")) return NULL;
    node *n = lf_parse_node(p, N_NAME, t->line);
    if (n) n->name = lf_parse_name(p, t->text);
    return n;
}

static node *parse_target_item(parser *p, bool with_namespace)
{
    if (lf_parse_op(p, '('))
        return lf_parse_fail(p, LF_EUNSUPPORTED, p->at, "found '(' in a target, expected names and commas");
    node *name = parse_name(p);
    if (!name || !with_namespace || !lf_parse_op(p, '.')) return name;
    const token *t = p->at;
    node *n = lf_parse_node(p, N_ATTR, t->line);
    if (!n || !expect(p, T_NAME, "a name")) return NULL;
    n->a = name;
    n->name = lf_parse_name(p, t->text);
    return n;
}

/* name, name.attribute, or several with commas */
static node *parse_target(parser *p, bool with_namespace)
{
    const int line = p->at->line;
    node *first = parse_target_item(p, with_namespace);
    if (p->at->kind != T_OP || p->at->op != ',') return first;
    node *tuple = lf_parse_node(p, N_TUPLE, line), **last = &first;
    while (*last && lf_parse_op(p, ',')) {
        last = &(*last)->next;
        if (p->at->kind == T_NAME && !lf_parse_is_word(p->at, "in"))
            *last = parse_target_item(p, with_namespace);
    }
    if (tuple) tuple->list = first;
    return tuple;
}

/* ---- statements ---- */

static node *parse_if(parser *p)
{
    static const char *const words[] = {"elif", "else", "endif", NULL};
    const token *t = p->at - 1;
    node *n = lf_parse_node(p, N_IF, t->line);
    if (!n || !lf_parse_enter(p)) return NULL;
    n->a = lf_parse_tuple(p, false);
    n->list = parse_body(p, words);
    if (lf_parse_word(p, "endif")) {
        n->c = NULL;
    } else if ((n->c = lf_parse_node(p, N_BODY, p->at->line))) {
        if (lf_parse_word(p, "elif"))
            n->c->list = parse_if(p);
        else if (lf_parse_word(p, "else"))
            n->c->list = parse_body_until(p, "endif");
    }
    p->depth--;
    return n;
}

static node *parse_for(parser *p)
{
    static const char *const words[] = {"else", "endfor", NULL};
    node *n = lf_parse_node(p, N_FOR, p->at->line);
    if (!n) return NULL;
    n->a = parse_target(p, false);
    if (p->status == LF_OK && !lf_parse_word(p, "in"))
        return lf_parse_fail(p, LF_EFORMAT, p->at, "found no 'in' after the target of 'for'");
    n->b = lf_parse_tuple(p, false);
    if (lf_parse_word(p, "if")) n->c = lf_parse_expression(p, true);
    if (lf_parse_is_word(p->at, "recursive"))
        return lf_parse_fail(p, LF_EUNSUPPORTED, p->at, "found a recursive 'for', which is not supported");
    p->loops++;
    n->list = parse_body(p, words);
    p->loops--;
    if (lf_parse_word(p, "else")) {
        n->d = lf_parse_node(p, N_BODY, p->at->line);
        node *body = parse_body_until(p, "endfor");
        if (n->d) n->d->list = body;
    } else {
        (void)lf_parse_word(p, "endfor");
    }
    return n;
}

/* A body that is a function of its own: `break` does not reach out of it. */
static node *parse_closed_body(parser *p, const char *word)
{
    const int loops = p->loops;
    p->loops = 0;
    node *body = parse_body_until(p, word);
    p->loops = loops;
    return body;
}

static node *parse_set(parser *p)
{
    const int line = p->at->line;
    node *target = parse_target(p, true);
    if (lf_parse_op(p, '=')) {
        node *n = lf_parse_node(p, N_SET, line);
        if (!n) return NULL;
        n->a = target;
        n->b = lf_parse_tuple(p, true);
        return n;
    }
    node *n = lf_parse_node(p, N_SET_BLOCK, line);
    if (!n) return NULL;
    n->a = target;
    n->b = lf_parse_filters(p, lf_parse_node(p, N_INPUT, line));
    n->list = parse_closed_body(p, "endset");
    return n;
}

/* "(a, b=1)" */
static node *parse_params(parser *p)
{
    node *first = NULL, **last = &first;
    bool defaults = false;
    if (!lf_parse_expect_op(p, '(')) return NULL;
    while (p->status == LF_OK && !lf_parse_op(p, ')')) {
        if (first && !lf_parse_expect_op(p, ',')) break;
        const token *t = p->at;
        node *name = parse_name(p), *n = lf_parse_node(p, N_PARAM, t->line);
        if (!n || !name) break;
        n->name = name->name;
        if (lf_parse_op(p, '=')) {
            n->a = lf_parse_expression(p, true);
            defaults = true;
        } else if (defaults) {
            return lf_parse_fail(p, LF_EFORMAT, t, "found a parameter without a default after one with it");
        }
        *last = n;
        last = &n->next;
    }
    return first;
}

/* The body of a macro, with what it reads of its call. */
static void parse_macro_body(parser *p, node *n, const char *word)
{
    const int flags = p->flags;
    p->flags = 0;
    n->list = parse_closed_body(p, word);
    n->op = p->flags;
    p->flags = flags;
}

static node *parse_macro(parser *p)
{
    node *name = parse_name(p), *n = lf_parse_node(p, N_MACRO, p->at->line);
    if (!n || !name) return NULL;
    n->name = name->name;
    n->named = parse_params(p);
    parse_macro_body(p, n, "endmacro");
    return n;
}

static node *parse_call_block(parser *p)
{
    node *n = lf_parse_node(p, N_CALL_BLOCK, p->at->line);
    if (!n) return NULL;
    if (p->at->kind == T_OP && p->at->op == '(') n->named = parse_params(p);
    const token *t = p->at;
    n->a = lf_parse_expression(p, true);
    if (n->a && n->a->kind != N_CALL) return lf_parse_fail(p, LF_EFORMAT, t, "found no call after 'call'");
    parse_macro_body(p, n, "endcall");
    return n;
}

static node *parse_filter_block(parser *p)
{
    node *n = lf_parse_node(p, N_FILTER_BLOCK, p->at->line);
    if (!n) return NULL;
    n->b = lf_parse_filters(p, lf_parse_filter(p, lf_parse_node(p, N_INPUT, n->line)));
    n->list = parse_closed_body(p, "endfilter");
    return n;
}

static node *parse_with(parser *p)
{
    node *n = lf_parse_node(p, N_WITH, p->at->line);
    if (!n) return NULL;
    for (node **last = &n->named; p->status == LF_OK && p->at->kind != T_BLOCK_END;) {
        if (n->named && !lf_parse_expect_op(p, ',')) break;
        node *entry = lf_parse_node(p, N_PAIR, p->at->line);
        if (!entry) break;
        entry->a = parse_name(p);
        if (!lf_parse_expect_op(p, '=')) break;
        entry->b = lf_parse_expression(p, true);
        *last = entry;
        last = &entry->next;
    }
    n->list = parse_body_until(p, "endwith");
    return n;
}

static node *parse_generation(parser *p)
{
    node *n = lf_parse_node(p, N_SCOPE, p->at->line);
    if (n) n->list = parse_closed_body(p, "endgeneration");
    return n;
}

static node *parse_jump(parser *p, node_kind kind)
{
    if (p->loops == 0)
        return lf_parse_fail(p, LF_EFORMAT, p->at - 1, "found '%s' outside of a 'for'",
                             kind == N_BREAK ? "break" : "continue");
    return lf_parse_node(p, kind, p->at->line);
}

static node *parse_break(parser *p)
{
    return parse_jump(p, N_BREAK);
}

static node *parse_continue(parser *p)
{
    return parse_jump(p, N_CONTINUE);
}

static node *parse_statement(parser *p)
{
    static const struct {
        const char *word;
        node *(*parse)(parser *);
    } statements[] = {{"if", parse_if},           {"for", parse_for},
                      {"set", parse_set},         {"macro", parse_macro},
                      {"call", parse_call_block}, {"filter", parse_filter_block},
                      {"with", parse_with},       {"generation", parse_generation},
                      {"break", parse_break},     {"continue", parse_continue}};
    static const char *const known[] = {"include", "import", "from",       "extends", "block",
                                        "print",   "do",     "autoescape", "trans",   NULL};
    char found[64];
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (lf_parse_word(p, statements[i].word)) return statements[i].parse(p);
    for (ends word = known; *word; word++)
        if (lf_parse_is_word(p->at, *word))
            return lf_parse_fail(
                p, LF_EUNSUPPORTED, p->at,
                "found the statement '%s'; supported are if, for, set, macro, call, filter, with, "
                "break, continue, generation and raw",
                *word);
    return lf_parse_fail(p, LF_EFORMAT, p->at, "found %s, expected a statement",
                         lf_parse_describe(p->at, found));
}

/* ---- templates ---- */

/* A copy with "\n" for every end of a line, and without the last of them: jinja2 drops it. */
static lf_status copy_source(str *out, arena *mem, const char *text, size_t len, const char *name,
                             lf_error *err)
{
    char *copy = lf_arena_alloc(mem, len + 1);
    if (!copy) return lf_fail_memory(err, "a template", len);
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        if (text[i] == '\r' && i + 1 < len && text[i + 1] == '\n') continue;
        copy[n++] = text[i] == '\r' ? '\n' : text[i];
    }
    if (n && copy[n - 1] == '\n') n--;
    *out = (str){copy, n};
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t cp;
        const utf8proc_ssize_t step = utf8proc_iterate((const utf8proc_uint8_t *)copy + i,
                                                       (utf8proc_ssize_t)(n - i), &cp);
        if (step <= 0 || cp == 0)
            return lf_fail(err, LF_EFORMAT, "%s: byte %zu: found what is not UTF-8 text", name, i);
        i += (size_t)step;
    }
    return LF_OK;
}

static lf_status parse_tokens(lf_jinja *t, const tokens *list, lf_error *err)
{
#define KNOWN_STR(text) STR(#text),
    static const str known[] = {KNOWN_NAMES(KNOWN_STR)};
#undef KNOWN_STR
    parser p = {.t = t, .at = list->items, .err = err};
    t->names = lf_arena_alloc(&t->mem, LF_JINJA_NAMES_MAX * sizeof *t->names);
    p.slots = malloc(N_NAME_SLOTS * sizeof *p.slots);
    if (!t->names || !p.slots) {
        free(p.slots);
        return lf_fail_memory(err, "a template", N_NAME_SLOTS * sizeof *p.slots);
    }
    memset(p.slots, 0xFF, N_NAME_SLOTS * sizeof *p.slots);
    for (int i = 0; i < N_KNOWN_NAMES; i++) (void)lf_parse_name(&p, known[i]);
    t->body = parse_parts(&p, NULL);
    free(p.slots);
    return p.status;
}

lf_status lf_jinja_compile(lf_jinja **out, const char *text, size_t len, const char *name, lf_error *err)
{
    tokens list = {0};
    str source;
    lf_status status = LF_OK;
    *out = NULL;
    if (len > LF_JINJA_SOURCE_MAX)
        return lf_fail(err, LF_ELIMIT, "%s: found %zu bytes, expected at most %d", name, len,
                       LF_JINJA_SOURCE_MAX);
    lf_jinja *t = calloc(1, sizeof *t);
    if (!t) return lf_fail_memory(err, "a template", sizeof *t);
    t->mem.bytes_max = SIZE_MAX;
    t->label = lf_strndup(name, strlen(name));
    if (!t->label) LF_TRY(lf_fail_memory(err, "a template", strlen(name)));
    LF_TRY(copy_source(&source, &t->mem, text, len, name, err));
    LF_TRY(lf_jinja_lex(&list, &t->mem, source, name, err));
    LF_TRY(parse_tokens(t, &list, err));
    *out = t;
    t = NULL;
done:
    free(list.items);
    lf_jinja_free(t);
    return status;
}

void lf_jinja_free(lf_jinja *t)
{
    if (!t) return;
    lf_arena_free(&t->mem);
    free(t->label);
    free(t);
}
