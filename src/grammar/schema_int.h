/* What the files that compile a JSON schema share.
 *
 * A schema becomes the texts that satisfy it, in a form that models write well and that stays bounded:
 *
 *   - Members of an object come in the order in which "properties" has them, those of "required" that are not there after them,
 *     and then further ones.
 *   - Nothing stands before a comma or a colon. After a colon there may be a space; after a comma, and inside of brackets, a space
 *     or a line break and up to 32 spaces or tabs.
 *   - Numbers have up to 18 digits before and behind the point and an exponent of two.
 *   - Characters of strings stand for themselves where JSON allows it, or are escaped in any way it has, \u0000 excepted. Where
 *     what they say is restricted (keys, pattern, format), only what must be escaped is.
 *
 * All that a grammar accepts satisfies its schema. Where a schema leaves something open, less may be accepted: integers have no
 * fraction, "oneOf" is read as "anyOf" (the only exception: more may be accepted), and without "additionalProperties" there
 * are none if there are "properties". */
#ifndef LF_GRAMMAR_SCHEMA_INT_H
#define LF_GRAMMAR_SCHEMA_INT_H

#include "file/json.h"
#include "grammar/expr.h"

enum {
    LF_SCHEMA_NESTING_MAX = 64,     /* of the schema, references followed */
    LF_SCHEMA_VISITS_MAX = 20000,   /* of schemas, each as often as it is used otherwise than by reference */
    LF_SCHEMA_PROPERTIES_MAX = 400, /* of an object: all of them may be readings at once */
};

/* Pieces of JSON that are made once. */
typedef enum lf_json_part {
    LF_JSON_SPACE, /* perhaps a space */
    LF_JSON_BREAK, /* perhaps a space, or a line break and spaces */
    LF_JSON_STRING,
    LF_JSON_CHARACTER, /* of a string */
    LF_JSON_INTEGER,
    LF_JSON_NUMBER,
    LF_JSON_BOOLEAN,
    LF_JSON_NULL,
    LF_JSON_OBJECT, /* any */
    LF_JSON_ARRAY,
    LF_JSON_VALUE,
    LF_JSON_N_PARTS
} lf_json_part;

/* A schema that is referred to, and the rule for it. */
typedef struct lf_schema_rule {
    const json_t *schema;
    uint32_t rule;
    int depth;    /* brackets around it when it was begun */
    bool is_open; /* it is being compiled */
} lf_schema_rule;

typedef struct lf_schema {
    lf_exprs *e;
    lf_work work;
    const json_t *root;
    json_t *made;          /* a list that owns the schemas made by merging */
    lf_schema_rule *rules; /* (n_rules) */
    size_t n_rules, cap_rules;
    lf_bytes path; /* where we are, as a JSON pointer */
    int depth;     /* brackets around what is being compiled */
    int nesting, n_visits;
    uint32_t parts[LF_JSON_N_PARTS]; /* LF_EXPR_NOTHING: not made yet */
    lf_error *err;
} lf_schema;

/* "json schema: #/a/b: " and a text. */
lf_status lf_schema_fail(lf_schema *s, lf_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
lf_status lf_schema_fail_memory(lf_schema *s);

/* Goes into a member, or an item; back by setting path.len to what it was. */
lf_status lf_schema_push_path(lf_schema *s, const char *key);
lf_status lf_schema_push_index(lf_schema *s, size_t i);

/* ---- schema.c ---- */

/* The values of a schema: any JSON value, which is an object, true or false if it is one. */
lf_status lf_schema_compile(uint32_t *out, lf_schema *s, const json_t *schema);

/* The schema that "$ref": ref means. */
lf_status lf_schema_resolve(const json_t **out, lf_schema *s, const char *ref);

/* Whether a keyword says nothing about what is valid. */
bool lf_schema_is_annotation(const char *keyword);

/* ---- schema_merge.c ---- */

/* A schema that says what both say: a or b where the other says nothing, else a new one, owned by s. */
lf_status lf_schema_merge(const json_t **out, lf_schema *s, const json_t *a, const json_t *b);

/* A copy without a keyword, owned by s. */
lf_status lf_schema_without(const json_t **out, lf_schema *s, const json_t *schema, const char *keyword);

/* ---- schema_part.c ---- */

lf_status lf_schema_part(uint32_t *out, lf_schema *s, lf_json_part part);

/* One of the texts of a list of values, written compactly. */
lf_status lf_schema_values(uint32_t *out, lf_schema *s, const json_t *values);

/* Strings whose content a DFA accepts, with quotes. */
lf_status lf_schema_quoted(uint32_t *out, lf_schema *s, const lf_dfa *content);

/* The automaton of a pattern of ours. */
lf_status lf_schema_pattern(lf_dfa *out, lf_schema *s, const char *pattern);

/* Expressions of a few parts. */
#define lf_schema_sequence(s, ...)                                                                           \
    lf_exprs_add_sequence((s)->e, (const uint32_t[]){__VA_ARGS__},                                           \
                          sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
#define lf_schema_choice(s, ...)                                                                             \
    lf_exprs_add_choice((s)->e, (const uint32_t[]){__VA_ARGS__},                                             \
                        sizeof((uint32_t[]){__VA_ARGS__}) / sizeof(uint32_t))
uint32_t lf_schema_literal(lf_schema *s, const char *text);

/* ---- schema_string.c, schema_number.c, schema_object.c, schema_array.c: values of a type ---- */

lf_status lf_schema_string(uint32_t *out, lf_schema *s, const json_t *schema);
lf_status lf_schema_number(uint32_t *out, lf_schema *s, const json_t *schema, bool integer);
lf_status lf_schema_object(uint32_t *out, lf_schema *s, const json_t *schema);
lf_status lf_schema_array(uint32_t *out, lf_schema *s, const json_t *schema);

/* A whole number of at least 0, or *value as it was. */
lf_status lf_schema_count(uint32_t *value, lf_schema *s, const json_t *schema, const char *keyword);

#endif
