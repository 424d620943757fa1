/* What a template computes with: Python's values, as far as jinja2's templates see them.
 *
 * Values are small and copied; what they point to lies in the rendering's arena, in its input or in the template, lives as long as the
 * rendering, and never changes, but for namespaces, iterators and loops. Text is UTF-8, always well-formed; positions in it are code
 * points, as in Python. */
#ifndef LF_JINJA_VALUE_H
#define LF_JINJA_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct render render;
typedef struct node node;
typedef struct scope scope;
typedef struct method method;

typedef struct str {
    const char *p;
    size_t n;
} str;

#define STR(literal) ((str){literal, sizeof(literal) - 1})

typedef enum value_kind {
    J_ABSENT, /* an argument that was not given; never seen by a template */
    J_UNDEFINED,
    J_NONE,
    J_BOOL,
    J_INT,
    J_FLOAT,
    J_STRING,
    J_LIST,
    J_TUPLE,
    J_RANGE,
    J_VIEW,     /* items(), keys(), values() of a dict: no indexing */
    J_ITERATOR, /* what map, select and reverse give: walked once, always true, without a length */
    J_DICT,
    J_NAMESPACE,
    J_LOOP,
    J_MACRO,
    J_METHOD, /* bound to what it is a method of */
    J_FUNCTION,
} value_kind;

typedef struct value value;
typedef struct seq seq;
typedef struct dict dict;
typedef struct loop loop;
typedef struct macro macro;
typedef struct bound bound;

struct value {
    value_kind kind;
    int name; /* J_UNDEFINED: the name that has no value, or -1; J_FUNCTION: which */
    union {
        bool truth;
        int64_t i;
        double f;
        str s;
        seq *seq;   /* lists, tuples, ranges, views, iterators */
        dict *dict; /* dicts, namespaces */
        loop *loop;
        macro *macro;
        bound *bound;
    } as;
};

struct seq {
    value *items; /* (n) */
    size_t n;
    size_t at;        /* iterators: items that are gone */
    const char *view; /* views: "dict_items" */
};

typedef struct pair {
    value key, value;
} pair;

struct dict {
    pair *pairs; /* (cap), n of them, in the order in which the keys came */
    size_t n, cap;
};

struct loop {
    seq all;
    size_t i;
    value last_changed; /* a list, or J_ABSENT */
};

struct macro {
    const node *node; /* N_MACRO, or the body of N_CALL_BLOCK */
    scope *closure;
};

struct bound {
    value self;
    const method *method;
};

static inline value value_none(void)
{
    return (value){.kind = J_NONE};
}

static inline value value_undefined(int name)
{
    return (value){.kind = J_UNDEFINED, .name = name};
}

static inline value value_bool(bool truth)
{
    return (value){.kind = J_BOOL, .as.truth = truth};
}

static inline value value_int(int64_t i)
{
    return (value){.kind = J_INT, .as.i = i};
}

static inline value value_float(double f)
{
    return (value){.kind = J_FLOAT, .as.f = f};
}

static inline value value_str(str s)
{
    return (value){.kind = J_STRING, .as.s = s};
}

static inline bool str_equal(str a, str b)
{
    return a.n == b.n && (a.n == 0 || __builtin_memcmp(a.p, b.p, a.n) == 0);
}

/* Whether the value is a list of any kind: as.seq is set. */
static inline bool value_is_seq(const value *v)
{
    return v->kind >= J_LIST && v->kind <= J_ITERATOR;
}

/* A number as Python's arithmetic takes it; bools are 0 and 1. */
static inline bool value_is_number(const value *v)
{
    return v->kind == J_BOOL || v->kind == J_INT || v->kind == J_FLOAT;
}

static inline bool value_is_integer(const value *v)
{
    return v->kind == J_BOOL || v->kind == J_INT;
}

static inline int64_t value_integer(const value *v)
{
    return v->kind == J_BOOL ? v->as.truth : v->as.i;
}

static inline double value_number(const value *v)
{
    return v->kind == J_FLOAT ? v->as.f : (double)value_integer(v);
}

/* What errors call the type of a value: "a string". */
const char *lf_value_type(const value *v);

/* ---- making; on failure the rendering has failed and the result is J_UNDEFINED ---- */

value lf_value_copy(render *r, const char *p, size_t n); /* a string */
value lf_value_seq(render *r, value_kind kind, const value *items, size_t n);
value lf_value_dict(render *r, value_kind kind, size_t cap);
void lf_dict_set(render *r, dict *d, value key,
                 value v); /* the key must be a string, a number, a bool or none */

/* ---- asking ---- */

bool lf_value_truth(const value *v);
bool lf_value_equal(render *r, const value *a, const value *b);

/* < 0, 0, > 0; fails the rendering unless both are numbers, or strings, or lists, or tuples. */
int lf_value_compare(render *r, const value *a, const value *b);

bool lf_value_contains(render *r, const value *all, const value *item);
const value *lf_dict_find(render *r, const dict *d, const value *key); /* NULL when absent */
const value *lf_dict_find_str(const dict *d, str key);

/* The items that a `for` would see; an iterator is used up. */
seq lf_value_items(render *r, value *v);

/* The length as len() gives it; fails the rendering for what has none. */
size_t lf_value_length(render *r, const value *v);

/* v[key], v[from:to:step] (J_NONE: not given) and v.name; J_UNDEFINED when there is no such thing. */
value lf_value_item(render *r, const value *v, const value *key);
value lf_value_slice(render *r, const value *v, const value bounds[3]);
value lf_value_attribute(render *r, const value *v, int name);

/* ---- showing ---- */

/* As str() and repr() write it. The text of a string is the string itself. */
str lf_value_text(render *r, const value *v);
str lf_value_repr(render *r, const value *v);

/* The shortest decimal that reads back as f, as Python writes it. */
enum { FLOAT_TEXT_BYTES = 40 };
size_t lf_float_text(char out[FLOAT_TEXT_BYTES], double f);

/* ---- text (text.c) ---- */

size_t lf_text_length(str s);
bool lf_text_is_space(int32_t cp);                     /* as str.isspace() */
int32_t lf_text_next(str s, size_t *at);               /* the code point at *at, which moves past it */
size_t lf_text_find(str s, str part, size_t from);     /* SIZE_MAX: not there */
size_t lf_text_find_last(str s, str part, size_t end); /* in s[0..end) */
str lf_text_strip(str s, const str *chars,
                  int sides); /* chars NULL: white space; sides: 1 left, 2 right, 3 both */
enum { SIDE_LEFT = 1, SIDE_RIGHT = 2, SIDE_BOTH = 3 };
typedef enum text_case { CASE_LOWER, CASE_UPPER, CASE_CAPITALIZE, CASE_TITLE, CASE_TITLE_FILTER } text_case;
value lf_text_case(render *r, str s, text_case to);
value lf_text_replace(render *r, str s, str from, str to, int64_t count);   /* count < 0: all */
value lf_text_split(render *r, str s, const str *separator, int64_t count); /* separator NULL: white space */
value lf_text_split_right(render *r, str s, const str *separator, int64_t count);
value lf_text_split_lines(render *r, str s, bool keep_ends);
value lf_text_join(render *r, str separator, const value *items, size_t n); /* items as str() writes them */
value lf_text_indent(render *r, str s, str indent, bool first, bool blank);
value lf_text_reverse(render *r, str s);
value lf_text_format(render *r, str format, const value *args, size_t n); /* "%s %d" % args */
bool lf_text_is_case(str s, text_case which);                             /* str.islower(), str.isupper() */

#endif
