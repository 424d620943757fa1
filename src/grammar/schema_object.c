/* Objects of a schema: properties, required, patternProperties, additionalProperties. */
#include "grammar/schema_int.h"

#include "grammar/pattern.h"

#include <stdlib.h>
#include <string.h>

typedef struct member {
    const char *key;
    const json_t *schema;
    bool is_required;
} member;

/* An object on its way. */
typedef struct object {
    const json_t *properties, *required, *patterns, *additional;
    member *members; /* (n) in the order of the output */
    size_t n;
    lf_dfa *matches; /* (n_patterns) what the keys of patternProperties match */
    size_t n_patterns, n_matches;
} object;

static lf_status check_types(lf_schema *s, const object *o)
{
    size_t i;
    const json_t *key;
    if (o->properties && !json_is_object(o->properties))
        return lf_schema_fail(s, LF_EINVAL, "properties: found no object, expected schemas by key");
    if (o->patterns && !json_is_object(o->patterns))
        return lf_schema_fail(s, LF_EINVAL,
                              "patternProperties: found no object, expected schemas by pattern");
    if (o->required && !json_is_array(o->required))
        return lf_schema_fail(s, LF_EINVAL, "required: found no list, expected keys");
    json_array_foreach(o->required, i, key)
    {
        if (!json_is_string(key))
            return lf_schema_fail(s, LF_EINVAL, "required: found no string, expected a key");
    }
    return LF_OK;
}

static bool is_required(const object *o, const char *key)
{
    size_t i;
    const json_t *item;
    json_array_foreach(o->required, i, item) if (strcmp(json_string_value(item), key) == 0) return true;
    return false;
}

/* The automata of the keys of patternProperties. */
static lf_status compile_patterns(lf_schema *s, object *o)
{
    const char *key;
    const json_t *schema;
    lf_error why;
    o->n_patterns = json_object_size(o->patterns);
    o->matches = calloc(o->n_patterns + 1, sizeof *o->matches);
    if (!o->matches) return lf_schema_fail_memory(s);
    json_object_foreach((json_t *)o->patterns, key, schema)
    {
        const lf_status status = lf_pattern_compile(&o->matches[o->n_matches], key, strlen(key), false,
                                                    &s->work, &why);
        if (status != LF_OK) return lf_schema_fail(s, status, "patternProperties: %s", why.text);
        o->n_matches++;
    }
    return LF_OK;
}

/* A named member's schema: its own, or for one that is only required that of further members; and that of each pattern that its
 * key matches. */
static lf_status add_member(lf_schema *s, object *o, const char *key, const json_t *own, bool required)
{
    const json_t *schema = own, *of_pattern;
    const char *pattern;
    size_t i = 0;
    lf_status status = LF_OK;
    for (size_t k = 0; k < o->n; k++)
        if (strcmp(o->members[k].key, key) == 0) return LF_OK; /* required twice */
    json_object_foreach((json_t *)o->patterns, pattern, of_pattern)
    {
        if (!lf_dfa_accepts(&o->matches[i++], key, strlen(key))) continue;
        if (schema)
            LF_TRY(lf_schema_merge(&schema, s, schema, of_pattern));
        else
            schema = of_pattern;
    }
    if (!schema && (!o->additional || json_is_true(o->additional)))
        schema = json_true(); /* a singleton without references */
    else if (!schema)
        schema = o->additional;
    o->members[o->n++] = (member){key, schema, required};
done:
    return status;
}

static lf_status collect_members(lf_schema *s, object *o)
{
    const char *key;
    const json_t *schema;
    size_t i;
    lf_status status = LF_OK;
    const size_t n_max = json_object_size(o->properties) + json_array_size(o->required);
    if (n_max > LF_SCHEMA_PROPERTIES_MAX)
        return lf_schema_fail(s, LF_ELIMIT, "found %zu properties, expected at most %d", n_max,
                              LF_SCHEMA_PROPERTIES_MAX);
    o->members = calloc(n_max + 1, sizeof *o->members);
    if (!o->members) return lf_schema_fail_memory(s);
    json_object_foreach((json_t *)o->properties, key, schema)
        LF_TRY(add_member(s, o, key, schema, is_required(o, key)));
    json_array_foreach(o->required, i, schema)
        LF_TRY(add_member(s, o, json_string_value(schema), NULL, true));
done:
    return status;
}

/* Keys that are not those of members, and that the patterns match or not as `pattern` says: SIZE_MAX: none of them. */
static lf_status further_keys(uint32_t *out, lf_schema *s, const object *o, size_t pattern)
{
    lf_dfa keys, named = {0}, left;
    lf_nfa nfa;
    lf_status status = LF_OK;
    uint32_t start = LF_NFA_NOTHING;
    lf_nfa_init(&nfa);
    LF_TRY(lf_schema_pattern(&keys, s, "[\\x01-\\u{10FFFF}]*"));
    for (size_t i = 0; i < o->n; i++)
        start = lf_nfa_add_split(
            &nfa, lf_nfa_add_text(&nfa, o->members[i].key, strlen(o->members[i].key), LF_NFA_ACCEPT), start);
    LF_TRY(lf_dfa_from_nfa(&named, &nfa, start, &s->work, s->err));
    for (size_t i = 0; i <= o->n_patterns; i++) { /* the last: the names */
        const lf_dfa *other = i < o->n_patterns ? &o->matches[i] : &named;
        LF_TRY(lf_dfa_intersect(&left, &keys, other, i != pattern, &s->work, s->err));
        lf_dfa_free(&keys);
        keys = left;
    }
    status = lf_schema_quoted(out, s, &keys);
done:
    lf_nfa_free(&nfa);
    lf_dfa_free(&named);
    lf_dfa_free(&keys);
    return status;
}

/* KEY ":" SPACE VALUE */
static lf_status key_and_value(uint32_t *out, lf_schema *s, uint32_t key, const json_t *schema,
                               const char *keyword, const char *name)
{
    const size_t len = s->path.len;
    uint32_t value, space;
    lf_status status = LF_OK;
    LF_TRY(lf_schema_part(&space, s, LF_JSON_SPACE));
    LF_TRY(lf_schema_push_path(s, keyword));
    if (name) LF_TRY(lf_schema_push_path(s, name));
    LF_TRY(lf_schema_compile(&value, s, schema));
    s->path.len = len;
    *out = lf_schema_sequence(s, key, lf_schema_literal(s, ":"), space, value);
done:
    return status;
}

/* A member of no name: of a pattern, or additional. Without "properties" all are welcome, with them none, unless the schema says
 * otherwise. */
static lf_status further_member(uint32_t *out, lf_schema *s, const object *o)
{
    const char *pattern;
    const json_t *schema;
    uint32_t key, one;
    size_t i = 0;
    lf_status status = LF_OK;
    *out = LF_EXPR_NOTHING;
    json_object_foreach((json_t *)o->patterns, pattern, schema)
    {
        LF_TRY(further_keys(&key, s, o, i++));
        LF_TRY(key_and_value(&one, s, key, schema, "patternProperties", pattern));
        *out = lf_schema_choice(s, *out, one);
    }
    schema = o->additional;
    if (!schema && !o->properties && !o->patterns) schema = json_true();
    if (!schema || json_is_false(schema)) return LF_OK;
    LF_TRY(further_keys(&key, s, o, SIZE_MAX));
    LF_TRY(key_and_value(&one, s, key, schema, "additionalProperties", NULL));
    *out = lf_schema_choice(s, *out, one);
done:
    return status;
}

/* From the last member to the first:
 *
 *     object    = "{" BREAK (more(0) | "}")
 *     more(i)   = MEMBER(i) after(i + 1)  |  more(i + 1) if member i is not required
 *     after(i)  = "," BREAK more(i)  |  BREAK "}" if no member from i on is required
 *     more(n)   = FURTHER after(n) */
static lf_status compile_members(uint32_t *out, lf_schema *s, const object *o)
{
    lf_status status = LF_OK;
    uint32_t space, further, named;
    bool may_end = true;
    LF_TRY(lf_schema_part(&space, s, LF_JSON_BREAK));
    LF_TRY(further_member(&further, s, o));
    const uint32_t comma = lf_schema_sequence(s, lf_schema_literal(s, ","), space),
                   brace = lf_schema_literal(s, "}"), end = lf_schema_sequence(s, space, brace),
                   repeat = lf_exprs_add_rule(s->e);
    uint32_t more = lf_schema_sequence(s, further, repeat),
             after = lf_schema_choice(s, lf_schema_sequence(s, comma, more), end);
    lf_exprs_set_rule(s->e, repeat, after);
    for (size_t i = o->n; i-- > 0;) {
        json_t *text = json_string(o->members[i].key);
        char *quoted = text ? json_dumps(text, JSON_ENCODE_ANY) : NULL;
        json_decref(text);
        if (!quoted) LF_TRY(lf_schema_fail_memory(s));
        const uint32_t literal = lf_schema_literal(s, quoted);
        free(quoted);
        LF_TRY(key_and_value(&named, s, literal, o->members[i].schema, "properties", o->members[i].key));
        const uint32_t this = lf_schema_sequence(s, named, after);
        may_end = may_end && !o->members[i].is_required;
        more = o->members[i].is_required ? this : lf_schema_choice(s, this, more);
        after = lf_schema_sequence(s, comma, more);
        if (may_end) after = lf_schema_choice(s, after, end);
    }
    *out = lf_schema_sequence(s, lf_schema_literal(s, "{"), space,
                              may_end ? lf_schema_choice(s, more, brace) : more);
done:
    return status;
}

lf_status lf_schema_object(uint32_t *out, lf_schema *s, const json_t *schema)
{
    object o = {.properties = json_object_get(schema, "properties"),
                .required = json_object_get(schema, "required"),
                .patterns = json_object_get(schema, "patternProperties"),
                .additional = json_object_get(schema, "additionalProperties")};
    lf_status status = LF_OK;
    s->depth++;
    LF_TRY(check_types(s, &o));
    LF_TRY(compile_patterns(s, &o));
    LF_TRY(collect_members(s, &o));
    LF_TRY(compile_members(out, s, &o));
    s->depth--;
done:
    for (size_t i = 0; i < o.n_matches; i++) lf_dfa_free(&o.matches[i]);
    free(o.matches);
    free(o.members);
    return status;
}
