/* Reading JSON of strangers. Jansson is strict already: it refuses invalid UTF-8, lone surrogates, \u0000, and nesting
 * beyond its compiled-in limit; here its errors get a file name and its numbers the tolerance that Hugging Face's files
 * need. */
#include "file/json.h"

#include "base/map.h"

#include <errno.h>

#define DOUBLE_EXACT_INT ((double)(INT64_C(1) << 53)) /* beyond it a double no longer tells integers apart */

/* The text, handed to Jansson byte by byte.
 *
 * When an allocation fails, Jansson 2.14 may report a syntax error, or none at all: characters that its lexer cannot
 * save are left out, and the parse goes on. What malloc leaves in errno tells the truth, but strtol and strtod reset it
 * at the next number. The lexer reads at least one byte between saving a number's last digit and converting it, so
 * looking at errno before each byte misses nothing. What remains: Jansson asserts when there is no memory to save the
 * byte after a number, which takes a number that is longer than every string before it. */
typedef struct byte_source {
    const char *data;
    size_t size, at;
    bool no_memory;
} byte_source;

static size_t next_byte(void *buffer, size_t size, void *cookie)
{
    byte_source *source = cookie;
    (void)size; /* never 0 */
    if (errno == ENOMEM) source->no_memory = true;
    if (source->no_memory || source->at == source->size) return 0;
    *(char *)buffer = source->data[source->at++];
    return 1;
}

static json_t *parse(const char *data, size_t size, size_t flags, bool *no_memory, json_error_t *e)
{
    byte_source source = {.data = data, .size = size};
    errno = 0;
    json_t *root = json_load_callback(next_byte, &source, flags, e);
    *no_memory = source.no_memory || errno == ENOMEM;
    if (*no_memory) {
        json_decref(root);
        return NULL;
    }
    return root;
}

lf_status lf_json_parse(json_t **out, const char *data, size_t size, const char *name, lf_error *err)
{
    json_error_t e;
    bool no_memory;
    json_t *root = parse(data, size, JSON_REJECT_DUPLICATES, &no_memory, &e);
    /* Real tokenizer_config.json files hold integers beyond 64 bits ("model_max_length": 1000000000000000019884624838656).
     * They can only be read as reals, and then all integers of the file are; lf_json_get_int takes those too. */
    if (!root && !no_memory && json_error_code(&e) == json_error_numeric_overflow)
        root = parse(data, size, JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, &no_memory, &e);
    if (no_memory) return lf_fail_memory(err, name, size);
    if (!root) return lf_fail(err, LF_EFORMAT, "%s: line %d column %d: %s", name, e.line, e.column, e.text);
    *out = root;
    return LF_OK;
}

lf_status lf_json_load(json_t **out, const char *path, lf_error *err)
{
    lf_map map;
    lf_status status = lf_map_open(&map, path, err);
    if (status != LF_OK) return status;
    status = lf_json_parse(out, (const char *)map.data, map.size, path, err);
    lf_map_close(&map);
    return status;
}

static const char *kind_of(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER: return "an integer";
    case JSON_REAL: return "a real number";
    case JSON_TRUE: return "true";
    case JSON_FALSE: return "false";
    case JSON_NULL: return "null";
    }
    return "an unknown value";
}

/* *out = the member, or NULL when it is absent or null and not required. */
static lf_status find_member(json_t **out, const json_t *object, const char *name, const char *key,
                             bool required, lf_error *err)
{
    *out = NULL;
    if (!json_is_object(object))
        return lf_fail(err, LF_EFORMAT, "%s: found %s in place of the object with key '%s'", name,
                       object ? kind_of(object) : "nothing", key);
    json_t *member = json_object_get(object, key);
    if (member && !json_is_null(member))
        *out = member;
    else if (required)
        return lf_fail(err, LF_EFORMAT, "%s: key '%s': found %s, expected a value", name, key,
                       member ? "null" : "no such key");
    return LF_OK;
}

static lf_status fail_kind(const json_t *member, const char *name, const char *key, const char *expected,
                           lf_error *err)
{
    return lf_fail(err, LF_EFORMAT, "%s: key '%s': found %s, expected %s", name, key, kind_of(member),
                   expected);
}

lf_status lf_json_get_int(const json_t *object, const char *name, const char *key, bool required,
                          int64_t *out, lf_error *err)
{
    json_t *member;
    lf_status status = find_member(&member, object, name, key, required, err);
    if (status != LF_OK || !member) return status;
    if (json_is_real(member)) {
        const double value = json_real_value(member);
        if (!(value >= -DOUBLE_EXACT_INT && value <= DOUBLE_EXACT_INT) || value != (double)(int64_t)value)
            return lf_fail(err, LF_EFORMAT, "%s: key '%s': found %g, expected an integer within 2^53", name,
                           key, value);
        *out = (int64_t)value;
        return LF_OK;
    }
    if (!json_is_integer(member)) return fail_kind(member, name, key, "an integer", err);
    *out = json_integer_value(member);
    return LF_OK;
}

lf_status lf_json_get_float(const json_t *object, const char *name, const char *key, bool required,
                            double *out, lf_error *err)
{
    json_t *member;
    lf_status status = find_member(&member, object, name, key, required, err);
    if (status != LF_OK || !member) return status;
    if (!json_is_number(member)) return fail_kind(member, name, key, "a number", err);
    *out = json_number_value(member);
    return LF_OK;
}

lf_status lf_json_get_bool(const json_t *object, const char *name, const char *key, bool required, bool *out,
                           lf_error *err)
{
    json_t *member;
    lf_status status = find_member(&member, object, name, key, required, err);
    if (status != LF_OK || !member) return status;
    if (!json_is_boolean(member)) return fail_kind(member, name, key, "true or false", err);
    *out = json_is_true(member);
    return LF_OK;
}

lf_status lf_json_get_string(const json_t *object, const char *name, const char *key, bool required,
                             const char **out, lf_error *err)
{
    json_t *member;
    lf_status status = find_member(&member, object, name, key, required, err);
    if (status != LF_OK || !member) return status;
    if (!json_is_string(member)) return fail_kind(member, name, key, "a string", err);
    *out = json_string_value(member);
    return LF_OK;
}
