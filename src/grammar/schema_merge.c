/* Two schemas as one that says what both say: for allOf, and for keywords beside anyOf and $ref. Members that one of them has and
 * the other's additionalProperties speaks of get both. What has no single schema for both (two patterns, two lists of
 * prefixItems) is refused. */
#include "grammar/schema_int.h"

#include <string.h>

enum { PRODUCT_MAX = 256 }; /* alternatives of two anyOf together */

/* Hands a new schema over to s. */
static lf_status own(const json_t **out, lf_schema *s, json_t *made)
{
    *out = made;
    return made && json_array_append_new(s->made, made) == 0 ? LF_OK : lf_schema_fail_memory(s);
}

lf_status lf_schema_without(const json_t **out, lf_schema *s, const json_t *schema, const char *keyword)
{
    json_t *copy = json_copy((json_t *)schema);
    if (copy) (void)json_object_del(copy, keyword);
    return own(out, s, copy);
}

/* {"allOf": [a, b]}, merged when it is compiled; NULL without memory. */
static json_t *both(const json_t *a, const json_t *b)
{
    return json_pack("{s:[O,O]}", "allOf", a, b);
}

static json_t *join_types(const json_t *a, const json_t *b)
{
    json_t *types = json_array();
    size_t i, k;
    const json_t *x, *y;
    json_t *list_a = json_is_array(a) ? json_incref((json_t *)a) : json_pack("[O]", a),
           *list_b = json_is_array(b) ? json_incref((json_t *)b) : json_pack("[O]", b);
    json_array_foreach(list_a, i, x)
    {
        json_array_foreach(list_b, k, y)
        {
            const char *tx = json_string_value(x), *ty = json_string_value(y);
            if (!tx || !ty) continue;
            const bool is_wider = strcmp(tx, "number") == 0 && strcmp(ty, "integer") == 0,
                       is_narrower = strcmp(tx, "integer") == 0 && strcmp(ty, "number") == 0;
            if (is_wider || is_narrower || strcmp(tx, ty) == 0)
                (void)json_array_append(types, (json_t *)(is_wider ? y : x));
        }
    }
    json_decref(list_a);
    json_decref(list_b);
    return types;
}

/* Items of both lists, or of either. */
static json_t *join_lists(const json_t *a, const json_t *b, bool of_both)
{
    json_t *joined = of_both ? json_array() : json_copy((json_t *)a);
    size_t i, k;
    json_t *x, *y;
    json_array_foreach(b, i, x)
    {
        bool found = false;
        json_array_foreach(a, k, y) found = found || json_equal(x, y);
        if (found == of_both) (void)json_array_append(joined, x);
    }
    return joined;
}

static json_t *join_properties(const json_t *a, const json_t *b)
{
    json_t *joined = json_copy((json_t *)a);
    const char *key;
    json_t *schema;
    json_object_foreach((json_t *)b, key, schema)
    {
        const json_t *other = json_object_get(a, key);
        (void)json_object_set_new(joined, key, other ? both(other, schema) : json_incref(schema));
    }
    return joined;
}

static json_t *join_alternatives(const json_t *a, const json_t *b)
{
    size_t i, k;
    const json_t *x, *y;
    json_t *joined = json_array();
    json_array_foreach(a, i, x)
    {
        json_array_foreach(b, k, y)(void) json_array_append_new(joined, both(x, y));
    }
    return joined;
}

static bool is_one_of(const char *key, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(key, *list) == 0) return true;
    return false;
}

/* What a keyword has to say that has two values; *joined stays NULL when there is no way to say it. */
static lf_status join_values(json_t **joined, lf_schema *s, const char *key, const json_t *a, const json_t *b)
{
    static const char *const lower[] = {"minimum", "exclusiveMinimum", "minLength", "minItems", NULL},
                             *const upper[] = {"maximum", "exclusiveMaximum", "maxLength", "maxItems", NULL},
                             *const schemas[] = {"items", "additionalProperties", NULL},
                             *const alternatives[] = {"anyOf", "oneOf", NULL};
    const bool numbers = json_is_number(a) && json_is_number(b), lists = json_is_array(a) && json_is_array(b),
               objects = json_is_object(a) && json_is_object(b);
    const bool less = json_number_value(a) < json_number_value(b);
    *joined = NULL;
    if (numbers && is_one_of(key, lower)) *joined = json_incref((json_t *)(less ? b : a));
    if (numbers && is_one_of(key, upper)) *joined = json_incref((json_t *)(less ? a : b));
    if (strcmp(key, "type") == 0) *joined = join_types(a, b);
    if (lists && strcmp(key, "required") == 0) *joined = join_lists(a, b, false);
    if (lists && strcmp(key, "enum") == 0) *joined = join_lists(a, b, true);
    if (objects && (strcmp(key, "properties") == 0 || strcmp(key, "patternProperties") == 0))
        *joined = join_properties(a, b);
    if (is_one_of(key, schemas)) *joined = json_is_false(a) || json_is_false(b) ? json_false() : both(a, b);
    if (lists && strcmp(key, "allOf") == 0) *joined = join_lists(a, b, false);
    if (lists && is_one_of(key, alternatives)) {
        if (json_array_size(a) * json_array_size(b) > PRODUCT_MAX)
            return lf_schema_fail(s, LF_ELIMIT, "%s: found %zu x %zu alternatives, expected at most %d", key,
                                  json_array_size(a), json_array_size(b), PRODUCT_MAX);
        *joined = join_alternatives(a, b);
    }
    return LF_OK;
}

/* Members that only `from` names must also be what `of` says of further ones. */
static lf_status bind_members(json_t *merged, lf_schema *s, const json_t *from, const json_t *of)
{
    const json_t *additional = json_object_get(of, "additionalProperties"),
                 *named = json_object_get(of, "properties"),
                 *patterns = json_object_get(of, "patternProperties"),
                 *other_patterns = json_object_get(from, "patternProperties");
    const char *key;
    json_t *schema;
    if (!additional || json_is_true(additional)) return LF_OK;
    if ((patterns && json_object_size(json_object_get(from, "properties")) > 0) ||
        (other_patterns && !json_equal(patterns, other_patterns)))
        return lf_schema_fail(s, LF_EUNSUPPORTED,
                              "patternProperties with additionalProperties is not supported inside allOf");
    json_object_foreach(json_object_get(from, "properties"), key, schema)
    {
        if (json_object_get(named, key)) continue;
        json_t *bound = json_is_false(additional) ? json_false() : both(additional, schema);
        if (json_object_set_new(json_object_get(merged, "properties"), key, bound) != 0)
            return lf_schema_fail_memory(s);
    }
    return LF_OK;
}

/* "items" of the one would speak of the prefix of the other. */
static lf_status check_prefixes(lf_schema *s, const json_t *a, const json_t *b)
{
    if (!json_object_get(a, "prefixItems") || json_object_get(b, "prefixItems") ||
        !json_object_get(b, "items"))
        return LF_OK;
    return lf_schema_fail(s, LF_EUNSUPPORTED,
                          "allOf: found items beside prefixItems, expected them together");
}

static lf_status merge_keyword(json_t *merged, lf_schema *s, const char *key, json_t *value)
{
    const json_t *mine = json_object_get(merged, key);
    json_t *joined = json_incref(value);
    if (mine && (lf_schema_is_annotation(key) || json_equal(mine, value))) {
        json_decref(joined);
        return LF_OK;
    }
    if (mine) {
        json_decref(joined);
        const lf_status status = join_values(&joined, s, key, mine, value);
        if (status != LF_OK) return status;
        if (!joined)
            return lf_schema_fail(s, LF_EUNSUPPORTED, "allOf: found %.40s twice, expected it once", key);
    }
    return json_object_set_new(merged, key, joined) == 0 ? LF_OK : lf_schema_fail_memory(s);
}

static bool says_nothing(const json_t *schema)
{
    const char *key;
    json_t *value;
    if (json_is_true(schema)) return true;
    if (!json_is_object(schema)) return false;
    json_object_foreach((json_t *)schema, key, value)
    {
        if (!lf_schema_is_annotation(key)) return false;
    }
    return true;
}

lf_status lf_schema_merge(const json_t **out, lf_schema *s, const json_t *a, const json_t *b)
{
    lf_status status = LF_OK;
    const char *key;
    json_t *value, *merged = NULL;
    if (++s->n_visits > LF_SCHEMA_VISITS_MAX)
        return lf_schema_fail(s, LF_ELIMIT, "the schema says too much, its references followed");
    *out = says_nothing(a) || json_is_false(b) ? b : a;
    if (says_nothing(a) || says_nothing(b) || json_is_false(a) || json_is_false(b)) return LF_OK;
    if (!json_is_object(a) || !json_is_object(b))
        return lf_schema_fail(s, LF_EINVAL, "found no schema, expected an object, true or false");
    const char *ref = json_string_value(json_object_get(b, "$ref"));
    if (ref && json_object_get(a, "$ref")) { /* only one can stay */
        const json_t *target, *rest;
        LF_TRY(lf_schema_resolve(&target, s, ref));
        LF_TRY(lf_schema_without(&rest, s, b, "$ref"));
        LF_TRY(lf_schema_merge(&rest, s, rest, target));
        return lf_schema_merge(out, s, a, rest);
    }
    LF_TRY(own(out, s, merged = json_copy((json_t *)a)));
    json_object_foreach((json_t *)b, key, value) LF_TRY(merge_keyword(merged, s, key, value));
    LF_TRY(check_prefixes(s, a, b));
    LF_TRY(check_prefixes(s, b, a));
    value = json_object_get(merged, "properties");
    if (value &&
        json_object_set_new(merged, "properties", json_copy(value)) != 0) /* it may be that of a or b */
        LF_TRY(lf_schema_fail_memory(s));
    LF_TRY(bind_members(merged, s, a, b));
    LF_TRY(bind_members(merged, s, b, a));
done:
    return status;
}
