#include "schema_validator.h"

#include "testing.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

/* Whether pattern matches anywhere in text. */
static bool matches(const char *pattern, const char *text)
{
    int code;
    PCRE2_SIZE at;
    pcre2_code *re = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                   PCRE2_UTF | PCRE2_DOLLAR_ENDONLY, &code, &at, NULL);
    assert_non_null(re);
    pcre2_match_data *data = pcre2_match_data_create_from_pattern(re, NULL);
    const int n = pcre2_match(re, (PCRE2_SPTR)text, strlen(text), 0, 0, data, NULL);
    pcre2_match_data_free(data);
    pcre2_code_free(re);
    return n >= 0;
}

static size_t count_code_points(const char *text)
{
    size_t n = 0;
    for (; *text; text++) n += ((unsigned char)*text & 0xC0) != 0x80;
    return n;
}

/* JSON schema compares numbers by value: 1 and 1.0 are equal. */
static bool is_same(const json_t *a, const json_t *b)
{
    if (json_is_number(a) && json_is_number(b)) return json_number_value(a) == json_number_value(b);
    return json_equal(a, b);
}

static bool is_type(const json_t *value, const char *type)
{
    const double x = json_number_value(value);
    if (strcmp(type, "object") == 0) return json_is_object(value);
    if (strcmp(type, "array") == 0) return json_is_array(value);
    if (strcmp(type, "string") == 0) return json_is_string(value);
    if (strcmp(type, "number") == 0) return json_is_number(value);
    if (strcmp(type, "integer") == 0) return json_is_number(value) && x == (double)(long long)x;
    if (strcmp(type, "boolean") == 0) return json_is_boolean(value);
    return strcmp(type, "null") == 0 && json_is_null(value);
}

static bool check_general(const json_t *root, const json_t *schema, const json_t *value)
{
    const json_t *type = json_object_get(schema, "type"), *list, *item,
                 *only = json_object_get(schema, "const");
    static const char *const any[] = {"anyOf", "oneOf"};
    size_t i;
    bool found = !type || (json_is_string(type) && is_type(value, json_string_value(type)));
    if (json_is_array(type))
        json_array_foreach(type, i, item) found = found || is_type(value, json_string_value(item));
    if (!found || (only && !is_same(only, value))) return false;
    list = json_object_get(schema, "enum");
    found = !list;
    json_array_foreach(list, i, item) found = found || is_same(item, value);
    if (!found) return false;
    for (int k = 0; k < 2; k++) {
        list = json_object_get(schema, any[k]);
        found = !list;
        json_array_foreach(list, i, item) found = found || schema_allows(root, item, value);
        if (!found) return false;
    }
    json_array_foreach(json_object_get(schema, "allOf"), i,
                       item) if (!schema_allows(root, item, value)) return false;
    return true;
}

static bool check_number(const json_t *schema, double x)
{
    const json_t *bound;
    if ((bound = json_object_get(schema, "minimum")) && x < json_number_value(bound)) return false;
    if ((bound = json_object_get(schema, "maximum")) && x > json_number_value(bound)) return false;
    if ((bound = json_object_get(schema, "exclusiveMinimum")) && x <= json_number_value(bound)) return false;
    return !(bound = json_object_get(schema, "exclusiveMaximum")) || x < json_number_value(bound);
}

static bool check_count(const json_t *schema, const char *min, const char *max, size_t n)
{
    const json_t *bound;
    if ((bound = json_object_get(schema, min)) && (double)n < json_number_value(bound)) return false;
    return !(bound = json_object_get(schema, max)) || (double)n <= json_number_value(bound);
}

static bool check_string(const json_t *schema, const char *text)
{
    const char *pattern = json_string_value(json_object_get(schema, "pattern"));
    return check_count(schema, "minLength", "maxLength", count_code_points(text)) &&
           (!pattern || matches(pattern, text));
}

static bool check_array(const json_t *root, const json_t *schema, const json_t *value)
{
    const json_t *prefix = json_object_get(schema, "prefixItems"), *items = json_object_get(schema, "items"),
                 *item;
    size_t i;
    json_array_foreach(value, i, item)
    {
        const json_t *of = i < json_array_size(prefix) ? json_array_get(prefix, i) : items;
        if (of && !schema_allows(root, of, item)) return false;
    }
    return check_count(schema, "minItems", "maxItems", json_array_size(value));
}

static bool check_object(const json_t *root, const json_t *schema, const json_t *value)
{
    const json_t *properties = json_object_get(schema, "properties"),
                 *patterns = json_object_get(schema, "patternProperties"),
                 *additional = json_object_get(schema, "additionalProperties");
    const char *key, *pattern;
    json_t *member, *of;
    size_t i;
    json_array_foreach(json_object_get(schema, "required"), i,
                       of) if (!json_object_get(value, json_string_value(of))) return false;
    json_object_foreach((json_t *)value, key, member)
    {
        bool is_known = json_object_get(properties, key) != NULL;
        if (is_known && !schema_allows(root, json_object_get(properties, key), member)) return false;
        json_object_foreach((json_t *)patterns, pattern, of)
        {
            if (!matches(pattern, key)) continue;
            is_known = true;
            if (!schema_allows(root, of, member)) return false;
        }
        if (!is_known && additional && !schema_allows(root, additional, member)) return false;
    }
    return true;
}

bool schema_allows(const json_t *root, const json_t *schema, const json_t *value)
{
    if (json_is_boolean(schema)) return json_is_true(schema);
    const char *ref = json_string_value(json_object_get(schema, "$ref"));
    if (ref) {
        const json_t *target = json_object_get(json_object_get(root, "$defs"), strrchr(ref, '/') + 1);
        assert_non_null(target);
        if (!schema_allows(root, target, value)) return false;
    }
    if (!check_general(root, schema, value)) return false;
    if (json_is_number(value)) return check_number(schema, json_number_value(value));
    if (json_is_string(value)) return check_string(schema, json_string_value(value));
    if (json_is_array(value)) return check_array(root, schema, value);
    return !json_is_object(value) || check_object(root, schema, value);
}
