/* JSON schemas (draft 2020-12, and what is written alike in older ones): types, alternatives and references. */
#include "grammar/schema_int.h"

#include "grammar/compile.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- errors ---- */

lf_status lf_schema_fail(lf_schema *s, lf_status status, const char *fmt, ...)
{
    char text[300];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    return lf_fail(s->err, status, "json schema: #%.150s: %s", s->path.data ? s->path.data : "", text);
}

lf_status lf_schema_fail_memory(lf_schema *s)
{
    return lf_fail_memory(s->err, "a json schema", s->e->n * sizeof *s->e->items);
}

lf_status lf_schema_push_path(lf_schema *s, const char *key)
{
    bool ok = lf_bytes_append(&s->path, "/", 1);
    for (; ok && *key; key++)
        ok = *key == '~'   ? lf_bytes_append(&s->path, "~0", 2)
             : *key == '/' ? lf_bytes_append(&s->path, "~1", 2)
                           : lf_bytes_append(&s->path, key, 1);
    return ok ? LF_OK : lf_schema_fail_memory(s);
}

lf_status lf_schema_push_index(lf_schema *s, size_t i)
{
    return lf_bytes_printf(&s->path, "/%zu", i) ? LF_OK : lf_schema_fail_memory(s);
}

/* ---- keywords ---- */

static bool is_one_of(const char *key, const char *const *list)
{
    for (; *list; list++)
        if (strcmp(key, *list) == 0) return true;
    return false;
}

/* What says what is valid, in a way that is understood here; and what would say it, but is not. */
static const char *const of_strings[] = {"minLength", "maxLength", "pattern", "format", NULL},
                         *const of_numbers[] = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
                                                NULL},
                         *const of_objects[] = {"properties", "required", "patternProperties",
                                                "additionalProperties", NULL},
                         *const of_arrays[] = {"items", "prefixItems", "minItems", "maxItems", NULL},
                         *const of_all[] = {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref", NULL},
                         *const unsupported[] = {"not",
                                                 "if",
                                                 "multipleOf",
                                                 "uniqueItems",
                                                 "contains",
                                                 "minContains",
                                                 "maxContains",
                                                 "additionalItems",
                                                 "propertyNames",
                                                 "minProperties",
                                                 "maxProperties",
                                                 "dependencies",
                                                 "dependentRequired",
                                                 "dependentSchemas",
                                                 "unevaluatedItems",
                                                 "unevaluatedProperties",
                                                 "$dynamicRef",
                                                 "$recursiveRef",
                                                 NULL};

bool lf_schema_is_annotation(const char *keyword)
{
    return !is_one_of(keyword, of_all) && !is_one_of(keyword, of_strings) &&
           !is_one_of(keyword, of_numbers) && !is_one_of(keyword, of_objects) &&
           !is_one_of(keyword, of_arrays) && !is_one_of(keyword, unsupported);
}

/* "uniqueItems": false, "minProperties": 0 and "unevaluatedItems": true change nothing. */
static bool is_neutral(const char *keyword, const json_t *value)
{
    if (strncmp(keyword, "unevaluated", strlen("unevaluated")) == 0 ||
        strcmp(keyword, "additionalItems") == 0)
        return json_is_true(value);
    if (strcmp(keyword, "uniqueItems") == 0) return json_is_false(value);
    return strcmp(keyword, "minProperties") == 0 && json_is_integer(value) && json_integer_value(value) <= 0;
}

static lf_status check_keywords(lf_schema *s, const json_t *schema)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)schema, key, value)
    {
        if (is_one_of(key, unsupported) && !is_neutral(key, value))
            return lf_schema_fail(s, LF_EUNSUPPORTED, "%s is not supported", key);
    }
    return LF_OK;
}

lf_status lf_schema_count(uint32_t *value, lf_schema *s, const json_t *schema, const char *keyword)
{
    const json_t *found = json_object_get(schema, keyword);
    if (!found) return LF_OK;
    const double n = json_number_value(found);
    if (!json_is_number(found) || n < 0 || n != (double)(uint32_t)(n < 1e9 ? n : 0))
        return lf_schema_fail(s, LF_EINVAL, "%s: found no whole number below 10^9, expected one", keyword);
    *value = (uint32_t)n;
    return LF_OK;
}

/* ---- references ---- */

/* One step of a JSON pointer (RFC 6901): from `at` by the `n` bytes of `token`. NULL: nowhere, or no memory. */
static const json_t *walk_pointer(const json_t *at, const char *token, size_t n)
{
    char key[256];
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        if (len + 1 >= sizeof key) return NULL;
        const bool escaped = token[i] == '~' && i + 1 < n && (token[i + 1] == '0' || token[i + 1] == '1');
        key[len++] = escaped ? (token[++i] == '0' ? '~' : '/') : token[i];
    }
    key[len] = '\0';
    if (!json_is_array(at)) return json_object_get(at, key);
    char *end;
    const unsigned long index = strtoul(key, &end, 10);
    return len > 0 && *end == '\0' && key[0] >= '0' && key[0] <= '9' ? json_array_get(at, index) : NULL;
}

lf_status lf_schema_resolve(const json_t **out, lf_schema *s, const char *ref)
{
    const json_t *at = ref[0] == '#' ? s->root : NULL;
    const char *token = ref + 1;
    if (at && *token != '\0' && *token != '/') at = NULL; /* an anchor */
    while (at && *token == '/') {
        const size_t n = strcspn(++token, "/");
        at = walk_pointer(at, token, n);
        token += n;
    }
    *out = at;
    if (at) return LF_OK;
    return lf_schema_fail(s, LF_EUNSUPPORTED,
                          "$ref: found \"%.80s\", expected a place in this schema (#/...)", ref);
}

static lf_schema_rule *find_rule(const lf_schema *s, const json_t *schema)
{
    for (size_t i = 0; i < s->n_rules; i++)
        if (s->rules[i].schema == schema) return &s->rules[i];
    return NULL;
}

/* The rule of a schema that is referred to, made at the first time. */
static lf_status compile_reference(uint32_t *out, lf_schema *s, const char *ref)
{
    lf_status status = LF_OK;
    const json_t *schema;
    const size_t len = s->path.len;
    uint32_t values;
    LF_TRY(lf_schema_resolve(&schema, s, ref));
    const lf_schema_rule *known = find_rule(s, schema);
    if (known && known->is_open && known->depth == s->depth)
        return lf_schema_fail(s, LF_EINVAL, "$ref: \"%.80s\" refers to itself with nothing around it", ref);
    if (known) {
        *out = known->rule;
        return LF_OK;
    }
    if (s->n_rules == s->cap_rules) {
        const size_t cap = s->cap_rules ? s->cap_rules * 2 : 16;
        lf_schema_rule *rules = realloc(s->rules, cap * sizeof *rules);
        if (!rules) return lf_schema_fail_memory(s);
        s->rules = rules;
        s->cap_rules = cap;
    }
    *out = lf_exprs_add_rule(s->e);
    s->rules[s->n_rules++] = (lf_schema_rule){
        .schema = schema, .rule = *out, .depth = s->depth, .is_open = true};
    LF_TRY(lf_schema_push_path(s, "$ref"));
    LF_TRY(lf_schema_compile(&values, s, schema));
    s->path.len = len;
    lf_exprs_set_rule(s->e, *out, values);
    find_rule(s, schema)->is_open = false;
done:
    return status;
}

/* ---- alternatives ---- */

/* Each alternative together with all else that the schema says. */
static lf_status compile_alternatives(uint32_t *out, lf_schema *s, const json_t *schema, const char *keyword)
{
    lf_status status = LF_OK;
    const json_t *rest, *merged, *alternatives = json_object_get(schema, keyword), *item;
    const size_t len = s->path.len;
    size_t i;
    uint32_t *parts = NULL;
    *out = LF_EXPR_NOTHING;
    if (!json_is_array(alternatives) || json_array_size(alternatives) == 0)
        return lf_schema_fail(s, LF_EINVAL, "%s: found no list, expected schemas", keyword);
    LF_TRY(lf_schema_without(&rest, s, schema, keyword));
    parts = calloc(json_array_size(alternatives), sizeof *parts);
    if (!parts) LF_TRY(lf_schema_fail_memory(s));
    LF_TRY(lf_schema_push_path(s, keyword));
    const size_t len_keyword = s->path.len;
    json_array_foreach(alternatives, i, item)
    {
        LF_TRY(lf_schema_push_index(s, i));
        LF_TRY(lf_schema_merge(&merged, s, rest, item));
        LF_TRY(lf_schema_compile(&parts[i], s, merged));
        s->path.len = len_keyword;
    }
    s->path.len = len;
    *out = lf_exprs_add_choice(s->e, parts, json_array_size(alternatives));
done:
    free(parts);
    return status;
}

/* All of them and what else the schema says, as one. */
static lf_status compile_all_of(uint32_t *out, lf_schema *s, const json_t *schema)
{
    lf_status status = LF_OK;
    const json_t *merged, *all = json_object_get(schema, "allOf"), *item;
    size_t i;
    if (!json_is_array(all)) return lf_schema_fail(s, LF_EINVAL, "allOf: found no list, expected schemas");
    LF_TRY(lf_schema_without(&merged, s, schema, "allOf"));
    json_array_foreach(all, i, item) LF_TRY(lf_schema_merge(&merged, s, merged, item));
    status = lf_schema_compile(out, s, merged);
done:
    return status;
}

static lf_status compile_ref(uint32_t *out, lf_schema *s, const json_t *schema)
{
    lf_status status = LF_OK;
    const json_t *rest, *target;
    const char *ref = json_string_value(json_object_get(schema, "$ref")), *key;
    json_t *value;
    bool alone = true;
    if (!ref) return lf_schema_fail(s, LF_EINVAL, "$ref: found no string, expected a place (#/...)");
    json_object_foreach((json_t *)schema, key, value)
    {
        alone = alone && (strcmp(key, "$ref") == 0 || lf_schema_is_annotation(key));
    }
    if (alone) return compile_reference(out, s, ref);
    LF_TRY(lf_schema_resolve(&target, s, ref));
    LF_TRY(lf_schema_without(&rest, s, schema, "$ref"));
    LF_TRY(lf_schema_merge(&rest, s, rest, target));
    status = lf_schema_compile(out, s, rest);
done:
    return status;
}

/* ---- types ---- */

typedef enum value_type { OBJECT, ARRAY, STRING, NUMBER, INTEGER, BOOLEAN, NULL_TYPE, N_TYPES } value_type;

static const char *const type_names[N_TYPES] = {"object",  "array",   "string", "number",
                                                "integer", "boolean", "null"};

static bool has_type(const json_t *value, value_type type)
{
    switch (type) {
    case OBJECT: return json_is_object(value);
    case ARRAY: return json_is_array(value);
    case STRING: return json_is_string(value);
    case NUMBER: return json_is_number(value);
    case INTEGER:
        return json_is_integer(value) ||
               (json_is_real(value) && json_real_value(value) == (double)(json_int_t)json_real_value(value));
    case BOOLEAN: return json_is_boolean(value);
    case NULL_TYPE: return json_is_null(value);
    case N_TYPES: break;
    }
    return false;
}

static lf_status read_types(bool types[N_TYPES], lf_schema *s, const json_t *found)
{
    const size_t n = json_is_array(found) ? json_array_size(found) : 1;
    for (size_t i = 0; i < n; i++) {
        const char *name = json_string_value(json_is_array(found) ? json_array_get(found, i) : found);
        int type = 0;
        while (type < N_TYPES && !(name && strcmp(name, type_names[type]) == 0)) type++;
        if (type == N_TYPES)
            return lf_schema_fail(
                s, LF_EINVAL,
                "type: found %.40s, expected object, array, string, number, integer, boolean or null",
                name ? name : "no name");
        types[type] = true;
    }
    if (types[NUMBER]) types[INTEGER] = false; /* they are numbers */
    return LF_OK;
}

static bool has_any(const json_t *schema, const char *const *keywords)
{
    for (; *keywords; keywords++)
        if (json_object_get(schema, *keywords)) return true;
    return false;
}

/* Without "type", the types that other keywords speak of; false when they speak of none. */
static bool guess_types(bool types[N_TYPES], const json_t *schema)
{
    types[OBJECT] = has_any(schema, of_objects);
    types[ARRAY] = has_any(schema, of_arrays);
    types[STRING] = has_any(schema, of_strings);
    types[NUMBER] = has_any(schema, of_numbers);
    return types[OBJECT] || types[ARRAY] || types[STRING] || types[NUMBER];
}

static lf_status compile_type(uint32_t *out, lf_schema *s, const json_t *schema, value_type type)
{
    switch (type) {
    case OBJECT:
        return has_any(schema, of_objects) ? lf_schema_object(out, s, schema)
                                           : lf_schema_part(out, s, LF_JSON_OBJECT);
    case ARRAY:
        return has_any(schema, of_arrays) ? lf_schema_array(out, s, schema)
                                          : lf_schema_part(out, s, LF_JSON_ARRAY);
    case STRING: return lf_schema_string(out, s, schema);
    case NUMBER:
    case INTEGER: return lf_schema_number(out, s, schema, type == INTEGER);
    case BOOLEAN: return lf_schema_part(out, s, LF_JSON_BOOLEAN);
    case NULL_TYPE: return lf_schema_part(out, s, LF_JSON_NULL);
    case N_TYPES: break;
    }
    return LF_OK;
}

/* "enum" and "const": values that are written out, so that "type" is all that can be said of them besides. */
static lf_status compile_values(uint32_t *out, lf_schema *s, const json_t *schema)
{
    lf_status status = LF_OK;
    const json_t *all = json_object_get(schema, "enum"), *only = json_object_get(schema, "const"),
                 *type = json_object_get(schema, "type");
    bool types[N_TYPES] = {0};
    size_t i;
    json_t *value, *left = json_array();
    const char *const *const others[] = {of_strings, of_numbers, of_objects, of_arrays};
    if (!left) return lf_schema_fail_memory(s);
    if (type) LF_TRY(read_types(types, s, type));
    for (i = 0; i < sizeof others / sizeof *others; i++)
        if (has_any(schema, others[i]))
            LF_TRY(lf_schema_fail(s, LF_EUNSUPPORTED, "enum and const are supported with type only"));
    if (all && !json_is_array(all))
        LF_TRY(lf_schema_fail(s, LF_EINVAL, "enum: found no list, expected values"));
    json_t *list = all ? json_incref((json_t *)all) : json_pack("[O]", only);
    json_array_foreach(list, i, value)
    {
        bool fits = !type;
        for (value_type t = 0; t < N_TYPES; t++) fits = fits || (types[t] && has_type(value, t));
        if (all && only) fits = fits && json_equal(value, only);
        if (fits && json_array_append(left, value) != 0) status = lf_schema_fail_memory(s);
    }
    json_decref(list);
    if (status == LF_OK) status = lf_schema_values(out, s, left);
done:
    json_decref(left);
    return status;
}

static lf_status compile_types(uint32_t *out, lf_schema *s, const json_t *schema)
{
    lf_status status = LF_OK;
    const json_t *type = json_object_get(schema, "type");
    bool types[N_TYPES] = {0};
    uint32_t parts[N_TYPES];
    size_t n = 0;
    if (type)
        LF_TRY(read_types(types, s, type));
    else if (!guess_types(types, schema))
        return lf_schema_part(out, s, LF_JSON_VALUE);
    for (value_type t = 0; t < N_TYPES; t++)
        if (types[t]) LF_TRY(compile_type(&parts[n++], s, schema, t));
    *out = lf_exprs_add_choice(s->e, parts, n);
done:
    return status;
}

lf_status lf_schema_compile(uint32_t *out, lf_schema *s, const json_t *schema)
{
    lf_status status = LF_OK;
    *out = LF_EXPR_NOTHING;
    if (json_is_true(schema)) return lf_schema_part(out, s, LF_JSON_VALUE);
    if (json_is_false(schema)) return LF_OK;
    if (!json_is_object(schema))
        return lf_schema_fail(s, LF_EINVAL, "found no schema, expected an object, true or false");
    if (++s->n_visits > LF_SCHEMA_VISITS_MAX || s->nesting >= LF_SCHEMA_NESTING_MAX)
        return lf_schema_fail(s, LF_ELIMIT,
                              "the schema is too large or nests too deep, its references followed");
    s->nesting++;
    LF_TRY(check_keywords(s, schema));
    if (json_object_get(schema, "$ref"))
        status = compile_ref(out, s, schema);
    else if (json_object_get(schema, "allOf"))
        status = compile_all_of(out, s, schema);
    else if (json_object_get(schema, "anyOf"))
        status = compile_alternatives(out, s, schema, "anyOf");
    else if (json_object_get(schema, "oneOf"))
        status = compile_alternatives(out, s, schema, "oneOf");
    else if (json_object_get(schema, "enum") || json_object_get(schema, "const"))
        status = compile_values(out, s, schema);
    else
        status = compile_types(out, s, schema);
    s->nesting--;
done:
    return status;
}
