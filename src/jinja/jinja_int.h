/* What the files of this room share: the tree of a template, and the state of a rendering.
 *
 *   text --lex.c--> tokens --parse.c, parse_expr.c--> tree of nodes --exec.c, eval.c--> output
 *                                                        filters.c tests.c methods.c functions.c: what can be called
 *                                                        value.c text.c show.c json.c: what is computed with */
#ifndef LF_JINJA_JINJA_INT_H
#define LF_JINJA_JINJA_INT_H

#include "jinja/arena.h"
#include "jinja/jinja.h"
#include "jinja/value.h"

/* ---- tokens ---- */

typedef enum token_kind {
    T_TEXT,
    T_PRINT_BEGIN,
    T_PRINT_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_OP,
    T_EOF,
} token_kind;

enum {
    OP_EQ = 256,
    OP_NE,
    OP_GE,
    OP_LE,
    OP_FLOORDIV,
    OP_POW,
    OP_IN,
    OP_NOT_IN
}; /* others are their character */

typedef struct token {
    token_kind kind;
    int line;
    int op;
    str text; /* T_TEXT, T_NAME, T_STRING: with escapes resolved */
    int64_t i;
    double f;
} token;

typedef struct tokens {
    token *items; /* (n), malloc'ed; the last is T_EOF */
    size_t n, cap;
} tokens;

/* source is with "\n" ends of lines only. Texts of tokens lie in it or in the arena. */
lf_status lf_jinja_lex(tokens *out, arena *mem, str source, const char *name, lf_error *err);

/* ---- tree ---- */

/*   kind            a              b           c            d           list           named
 *   N_CONST         (value)
 *   N_NAME          (name)
 *   N_LIST, N_TUPLE, N_CONCAT                                           items
 *   N_DICT                                                              N_PAIR(a key, b value)
 *   N_ATTR          object, (name)
 *   N_ITEM          object         key
 *   N_SLICE         object         from        to           step
 *   N_CALL          callee                                              arguments      N_NAMED((name), a)
 *   N_FILTER        input, (name, filter)                               arguments      N_NAMED
 *   N_TEST          subject, (name, test)                               arguments      N_NAMED
 *   N_INPUT         what `filter` and block `set` put into their filters
 *   N_NOT, N_NEG, N_POS   operand
 *   N_AND, N_OR     left           right
 *   N_BINARY        left, (op)     right
 *   N_COMPARE       first                                               N_OPERAND(a, (op))
 *   N_COND          then           test        else
 *   N_TEXT          (value)
 *   N_PRINT         expression
 *   N_IF            test                                    N_BODY else body
 *   N_FOR           target         items       test         N_BODY else body
 *   N_SET           target         value
 *   N_SET_BLOCK     target         filters                              body
 *   N_MACRO         (name), (flags)                                     body           N_PARAM((name), a default)
 *   N_CALL_BLOCK    the call, (flags)                                   body           N_PARAM
 *   N_FILTER_BLOCK                 filters                              body
 *   N_WITH                                                              body           N_PAIR(a target, b value)
 *   N_SCOPE         (generation)                                        body
 *   N_BREAK, N_CONTINUE
 *
 * A filter or test that is not known is NULL, and fails when it is reached: templates name some in branches that are never taken.
 * A target is N_NAME, N_TUPLE of targets, or N_ATTR of an N_NAME (a namespace). Absent parts are NULL. */
typedef enum node_kind {
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_CONCAT,
    N_DICT,
    N_PAIR,
    N_ATTR,
    N_ITEM,
    N_SLICE,
    N_CALL,
    N_NAMED,
    N_FILTER,
    N_TEST,
    N_INPUT,
    N_NOT,
    N_NEG,
    N_POS,
    N_AND,
    N_OR,
    N_BINARY,
    N_COMPARE,
    N_OPERAND,
    N_COND,
    N_TEXT,
    N_PRINT,
    N_IF,
    N_BODY,
    N_FOR,
    N_SET,
    N_SET_BLOCK,
    N_MACRO,
    N_PARAM,
    N_CALL_BLOCK,
    N_FILTER_BLOCK,
    N_WITH,
    N_SCOPE,
    N_BREAK,
    N_CONTINUE,
} node_kind;

enum { MACRO_READS_CALLER = 1, MACRO_READS_VARARGS = 2, MACRO_READS_KWARGS = 4 };

typedef struct filter filter;
typedef struct test test;

struct node {
    node_kind kind;
    int line;
    int name; /* index into names; -1: none */
    int op;   /* or flags of macros */
    node *next;
    node *a, *b, *c, *d, *list, *named;
    value constant;
    const filter *filter;
    const test *test;
};

/* The names that the room itself looks for; they come first in every template's names. */
#define KNOWN_NAMES(X)                                                                                       \
    X(range)                                                                                                 \
    X(dict)                                                                                                  \
    X(namespace)                                                                                             \
    X(raise_exception)                                                                                       \
    X(strftime_now)                                                                                          \
    X(loop)                                                                                                  \
    X(caller)                                                                                                \
    X(varargs)                                                                                               \
    X(kwargs)                                                                                                \
    X(index)                                                                                                 \
    X(index0)                                                                                                \
    X(revindex)                                                                                              \
    X(revindex0)                                                                                             \
    X(first)                                                                                                 \
    X(last)                                                                                                  \
    X(length)                                                                                                \
    X(previtem)                                                                                              \
    X(nextitem)                                                                                              \
    X(depth)                                                                                                 \
    X(depth0)                                                                                                \
    X(name)

enum {
#define KNOWN_ENUM(text) NAME_##text,
    KNOWN_NAMES(KNOWN_ENUM)
#undef KNOWN_ENUM
        N_KNOWN_NAMES
};
enum { N_FUNCTIONS = NAME_strftime_now + 1 }; /* the first of them are functions */

struct lf_jinja {
    arena mem;
    char *label; /* what errors call it */
    str *names;  /* (n_names) */
    int n_names;
    node *body;
};

typedef struct parser {
    lf_jinja *t;
    const token *at;
    int *slots;   /* (N_NAME_SLOTS) hash of names: an index or -1 */
    size_t depth; /* of what is being parsed */
    int loops;    /* `for` bodies around, within the innermost macro */
    int flags;    /* MACRO_READS_*, of the innermost macro */
    lf_status status;
    lf_error *err;
} parser;

enum { N_NAME_SLOTS = 1 << 13 };

/* The first failure is kept; then every part returns quickly and means nothing. NULL. */
node *lf_parse_fail(parser *p, lf_status status, const token *at, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
node *lf_parse_node(parser *p, node_kind kind, int line);
int lf_parse_name(parser *p, str name);          /* its index; -1 on failure */
bool lf_parse_enter(parser *p);                  /* false: nested too deeply; else leave with p->depth-- */
bool lf_parse_op(parser *p, int op);             /* takes an operator, if it is there */
bool lf_parse_word(parser *p, const char *word); /* takes a name, if it is there */
bool lf_parse_is_word(const token *at, const char *word);
bool lf_parse_expect_op(parser *p, int op);
const char *lf_parse_describe(const token *at, char out[64]);
node *lf_parse_expression(parser *p, bool conditional);
node *lf_parse_tuple(parser *p, bool conditional); /* an expression, or several with commas: a tuple */
node *lf_parse_primary(parser *p);
node *lf_parse_filters(parser *p, node *input); /* "|name(...)|name..." */
node *lf_parse_filter(parser *p, node *input);  /* "name(...)" */
node *lf_parse_statements(parser *p);           /* up to the end */

/* ---- rendering ---- */

typedef struct binding binding;
struct binding {
    binding *next;
    int name;
    value value;
};

struct scope {
    scope *parent; /* NULL: the outermost, whose variables are r->root */
    binding *bindings;
};

typedef enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE } flow;

struct render {
    const lf_jinja *t;
    arena mem;
    lf_bytes *out; /* where text goes */
    size_t written;
    scope *scope;
    value *root; /* (n_names) variables of the outermost scope; J_ABSENT: none */
    value input; /* N_INPUT */
    flow flow;
    size_t steps, depth;
    int64_t now;
    int line; /* of the node at hand, for errors */
    lf_status status;
    lf_error *err;
};

/* Records the first failure, with the line at hand, and returns J_UNDEFINED. Everything may go on after it: values are still values,
 * and nothing takes long. */
value lf_render_fail(render *r, lf_status status, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Counts n steps; false when there are too many, or when the rendering has failed already. */
bool lf_render_spend(render *r, size_t n);
static inline size_t steps_of_bytes(size_t n)
{
    return 1 + n / 64;
}

/* Memory of the rendering; NULL after a failure. */
void *lf_render_alloc(render *r, size_t n, size_t item_bytes);

/* Depth of C calls; false: too deep. Leave with r->depth--. */
bool lf_render_enter(render *r);

value lf_eval(render *r, const node *n);

/* The arguments of a call, filter or test, with room for one more named one; false after a failure. */
typedef struct call_args call_args;
bool lf_eval_args(render *r, const node *n, call_args *args);
void lf_exec(render *r, const node *list);
void lf_render_write(render *r, str s);

/* Runs a body with its output caught, in a scope of its own: a string. */
value lf_exec_capture(render *r, const node *list, scope *parent);
scope *lf_scope_new(render *r, scope *parent);
void lf_scope_set(render *r, int name, value v); /* in the innermost scope */

/* ---- calls ---- */

typedef struct named {
    int name;
    value value;
} named;

struct call_args {
    value *items; /* (n) */
    size_t n;
    named *named; /* (n_named) */
    size_t n_named;
};

/* What filters, methods and functions look like: names of parameters, the first n_required of which must be given; a (n_params) has
 * J_ABSENT for those that were not. Variadic ones look at args instead. */
enum { PARAMS_MAX = 4 };
typedef value (*callee_fn)(render *r, value self, const value *a, const call_args *args);
typedef struct signature {
    const char *name;
    const char *params[PARAMS_MAX];
    int n_required;
    bool variadic;
} signature;

struct filter {
    signature signature;
    callee_fn fn;
};

struct test {
    signature signature;
    callee_fn fn; /* gives a J_BOOL */
};

struct method {
    signature signature;
    callee_fn fn;
};

const filter *lf_filter_find(str name);
const test *lf_test_find(str name);
const method *lf_method_find(value_kind kind, str name);
bool lf_method_refused(value_kind kind, str name); /* one that would change its object */
const char *lf_filter_names(void);
const char *lf_test_names(void);

/* Puts arguments where their parameters are and calls. what: "filter". */
value lf_call_bound(render *r, const char *what, const signature *s, callee_fn fn, value self,
                    const call_args *args);
value lf_call_macro(render *r, const macro *m, const call_args *args);
value lf_call_function(render *r, int name, const call_args *args);

/* ---- JSON ---- */

value lf_jinja_from_json(render *r, const json_t *json);

typedef struct json_style {
    str indent; /* of one level */
    bool pretty, ensure_ascii, sort_keys;
    str item_separator, key_separator;
} json_style;

value lf_jinja_to_json(render *r, const value *v, const json_style *style);

#endif
