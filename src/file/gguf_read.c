/* The GGUF parser: one pass over the header by a cursor that cannot leave the file.
 *
 * Nothing in the file is believed: each count is held against the bytes that are left before anything is allocated for
 * it, so memory stays within a small multiple of the file's own size; every sum and product is checked. What is kept is
 * an index: keys and names are copied (they need a NUL), strings, arrays and tensor data point into the file.
 * Specification: github.com/ggml-org/ggml, docs/gguf.md. */
#include "file/gguf_int.h"

#include "base/map.h"
#include "base/mem.h"
#include "file/name_index.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    KEYS_MAX = 1 << 20,
    TENSORS_MAX = 1 << 20,
    ALIGNMENT_MAX = 1 << 20,
    LABEL_BYTES_MAX = 100,                        /* of a name that an error shows */
    STRING_BYTES_MIN = 8,                         /* its length */
    KEY_BYTES_MIN = STRING_BYTES_MIN + 1 + 4 + 1, /* a name of one byte, a type, a value of one byte */
    TENSOR_BYTES_MIN = STRING_BYTES_MIN + 1 + 4 + 8 + 4 +
                       8, /* a name, n_dims, one dimension, a type, an offset */
};

struct lf_gguf {
    lf_map map; /* zero when parsed from a buffer */
    const uint8_t *data;
    size_t size;
    char *name;
    uint32_t version;
    lf_gguf_value *values; /* (n_values) */
    lf_named *by_key;      /* (n_values), sorted */
    size_t n_values;
    lf_tensor_info *tensors; /* (n_tensors) */
    lf_named *by_name;       /* (n_tensors), sorted */
    size_t n_tensors;
};

/* The cursor, with what it takes to say in an error where it is. */
typedef struct reader {
    const uint8_t *data;
    size_t size, at; /* at <= size */
    const char *file;
    const char *section; /* "key" or "tensor"; NULL in the header */
    size_t i;            /* which key or tensor */
    const char *label;   /* its name (label_bytes), once read */
    size_t label_bytes;
    lf_error *err;
} reader;

static lf_status fail(const reader *r, lf_status status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static lf_status fail(const reader *r, lf_status status, const char *fmt, ...)
{
    char text[256];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (!r->section) return lf_fail(r->err, status, "%s: header at byte %zu: %s", r->file, r->at, text);
    if (!r->label)
        return lf_fail(r->err, status, "%s: %s %zu at byte %zu: %s", r->file, r->section, r->i, r->at, text);
    const int shown = r->label_bytes < LABEL_BYTES_MAX ? (int)r->label_bytes : LABEL_BYTES_MAX;
    return lf_fail(r->err, status, "%s: %s '%.*s': %s", r->file, r->section, shown, r->label, text);
}

static lf_status fail_twice(reader *r, const lf_named *twice)
{
    r->label = twice->name;
    r->label_bytes = strlen(twice->name);
    return fail(r, LF_EFORMAT, "found twice (%zu and %zu), expected once", twice[0].i, twice[1].i);
}

static size_t bytes_left(const reader *r)
{
    return r->size - r->at;
}

/* ---- primitives ---- */

static lf_status read_bytes(reader *r, const char *what, void *out, size_t n)
{
    if (n > bytes_left(r))
        return fail(r, LF_EFORMAT, "%s needs %zu bytes, found %zu before the end of the file", what, n,
                    bytes_left(r));
    memcpy(out, r->data + r->at, n);
    r->at += n;
    return LF_OK;
}

static lf_status read_u32(reader *r, const char *what, uint32_t *out)
{
    return read_bytes(r, what, out, sizeof *out);
}

static lf_status read_u64(reader *r, const char *what, uint64_t *out)
{
    return read_bytes(r, what, out, sizeof *out);
}

static lf_status read_string(reader *r, const char *what, const char **str, size_t *len)
{
    uint64_t n = 0;
    const lf_status status = read_u64(r, what, &n);
    if (status != LF_OK) return status;
    if (n > bytes_left(r))
        return fail(r, LF_EFORMAT, "%s has length %" PRIu64 ", found %zu bytes before the end of the file",
                    what, n, bytes_left(r));
    *str = (const char *)r->data + r->at;
    *len = (size_t)n;
    r->at += (size_t)n;
    return LF_OK;
}

static lf_status read_name(reader *r, const char **str, size_t *len)
{
    r->label = NULL;
    const lf_status status = read_string(r, "the name", str, len);
    if (status != LF_OK) return status;
    if (!lf_gguf_name_valid(*str, *len))
        return fail(r, LF_EFORMAT, "found a name of %zu bytes, expected 1 to %d without control characters",
                    *len, LF_GGUF_NAME_BYTES_MAX);
    r->label = *str;
    r->label_bytes = *len;
    return LF_OK;
}

/* A count of records, each of which takes at least `record_bytes` bytes of the file. */
static lf_status read_count(reader *r, const char *what, size_t max, size_t record_bytes, size_t *out)
{
    uint64_t n = 0;
    const lf_status status = read_u64(r, what, &n);
    if (status != LF_OK) return status;
    if (n > max) return fail(r, LF_EFORMAT, "found %" PRIu64 " %s, expected at most %zu", n, what, max);
    if (n > bytes_left(r) / record_bytes)
        return fail(r, LF_EFORMAT, "found %" PRIu64 " %s, but the file has only %zu bytes left for them", n,
                    what, bytes_left(r));
    *out = (size_t)n;
    return LF_OK;
}

/* ---- metadata ---- */

static lf_status read_type(reader *r, const char *what, lf_gguf_type *out)
{
    uint32_t type = 0;
    const lf_status status = read_u32(r, what, &type);
    if (status != LF_OK) return status;
    if (type >= LF_GGUF_TYPE_COUNT)
        return fail(r, LF_EFORMAT, "found %s %" PRIu32 ", expected 0 to %d", what, type,
                    LF_GGUF_TYPE_COUNT - 1);
    *out = (lf_gguf_type)type;
    return LF_OK;
}

static lf_status check_bools(const reader *r, const uint8_t *bools, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bools[i] > 1) return fail(r, LF_EFORMAT, "found a bool of %d, expected 0 or 1", bools[i]);
    return LF_OK;
}

static lf_status read_array(reader *r, lf_gguf_value *v)
{
    lf_status status = LF_OK;
    LF_TRY(read_type(r, "the item type", &v->item_type));
    if (v->item_type == LF_GGUF_ARRAY)
        return fail(r, LF_EUNSUPPORTED, "found an array of arrays, expected no nesting");
    const bool is_string = v->item_type == LF_GGUF_STRING;
    const size_t item_bytes = is_string ? STRING_BYTES_MIN : lf_gguf_type_of(v->item_type)->bytes;
    LF_TRY(read_count(r, "items", SIZE_MAX, item_bytes, &v->count));
    v->items = r->data + r->at;
    if (is_string) {
        const char *str;
        size_t len;
        for (size_t i = 0; i < v->count; i++) LF_TRY(read_string(r, "a string of the array", &str, &len));
    } else {
        r->at += v->count * item_bytes;
        if (v->item_type == LF_GGUF_BOOL) LF_TRY(check_bools(r, v->items, v->count));
    }
done:
    return status;
}

static lf_status read_value(reader *r, lf_gguf_value *v)
{
    lf_status status = LF_OK;
    const char *key;
    size_t len;
    LF_TRY(read_name(r, &key, &len));
    v->key = lf_strndup(key, len);
    if (!v->key) return lf_fail_memory(r->err, "key", len + 1);
    LF_TRY(read_type(r, "the value type", &v->type));
    if (v->type == LF_GGUF_ARRAY) return read_array(r, v);
    if (v->type == LF_GGUF_STRING) return read_string(r, "the string", &v->str, &v->len);
    uint8_t number[8];
    LF_TRY(read_bytes(r, "the value", number, lf_gguf_type_of(v->type)->bytes));
    if (v->type == LF_GGUF_BOOL) LF_TRY(check_bools(r, number, 1));
    lf_gguf_load_number(v, v->type, number);
done:
    return status;
}

static lf_status read_values(reader *r, lf_gguf *g, size_t n)
{
    lf_status status = LF_OK;
    if (n == 0) return LF_OK;
    g->values = calloc(n, sizeof *g->values);
    g->by_key = calloc(n, sizeof *g->by_key);
    if (!g->values || !g->by_key)
        return lf_fail_memory(r->err, "metadata", n * (sizeof *g->values + sizeof *g->by_key));
    r->section = "key";
    for (r->i = 0; r->i < n; r->i++) {
        LF_TRY(read_value(r, &g->values[g->n_values++]));
        g->by_key[r->i] = (lf_named){.name = g->values[r->i].key, .i = r->i};
    }
    const lf_named *twice = lf_names_sort(g->by_key, n);
    if (twice) status = fail_twice(r, twice);
done:
    return status;
}

/* ---- tensors ---- */

/* The types of ggml that lookfar cannot compute with, so that an error can name them. */
static const char *foreign_type_name(uint32_t type)
{
    static const char *const names[] = {
        [3] = "q4_1",   [6] = "q5_0",     [7] = "q5_1",    [9] = "q8_1",     [10] = "q2_k",  [11] = "q3_k",
        [15] = "q8_k",  [16] = "iq2_xxs", [17] = "iq2_xs", [18] = "iq3_xxs", [19] = "iq1_s", [20] = "iq4_nl",
        [21] = "iq3_s", [22] = "iq2_s",   [23] = "iq4_xs", [24] = "i8",      [25] = "i16",   [26] = "i32",
        [27] = "i64",   [28] = "f64",     [29] = "iq1_m",  [34] = "tq1_0",   [35] = "tq2_0", [39] = "mxfp4",
    };
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

/* The dimensions, which the file holds innermost first. */
static lf_status read_shape(reader *r, lf_tensor_info *t)
{
    lf_status status = LF_OK;
    uint32_t n_dims = 0;
    uint64_t dim = 0;
    int64_t n_elements = 1;
    LF_TRY(read_u32(r, "the number of dimensions", &n_dims));
    if (n_dims < 1 || n_dims > LF_TENSOR_DIMS_MAX)
        return fail(r, LF_EFORMAT, "found %" PRIu32 " dimensions, expected 1 to %d", n_dims,
                    LF_TENSOR_DIMS_MAX);
    t->n_dims = (int)n_dims;
    for (size_t i = n_dims; i < LF_TENSOR_DIMS_MAX; i++) t->dims[i] = 1;
    for (size_t i = n_dims; i-- > 0;) {
        LF_TRY(read_u64(r, "a dimension", &dim));
        if (dim < 1 || dim > INT64_MAX)
            return fail(r, LF_EFORMAT, "found a dimension of %" PRId64 ", expected at least 1", (int64_t)dim);
        t->dims[i] = (int64_t)dim;
        if (__builtin_mul_overflow(n_elements, t->dims[i], &n_elements))
            return fail(r, LF_EFORMAT,
                        "found dimensions whose product overflows, expected ones that fit memory");
    }
done:
    return status;
}

static lf_status read_element_type(reader *r, lf_tensor_info *t, const char *name, size_t len)
{
    char unknown[24];
    uint32_t type = 0;
    const lf_status status = read_u32(r, "the element type", &type);
    if (status != LF_OK) return status;
    t->supported = lf_dtype_from_ggml(type, &t->dtype);
    const char *type_name = t->supported ? lf_dtype_of(t->dtype)->name : foreign_type_name(type);
    if (!type_name) {
        (void)snprintf(unknown, sizeof unknown, "type %" PRIu32, type);
        type_name = unknown;
    }
    if (!lf_tensor_copy_names(t, name, len, type_name)) return lf_fail_memory(r->err, "tensor name", len);
    return LF_OK;
}

/* The data's size, of a supported type. */
static lf_status measure_tensor(const reader *r, lf_tensor_info *t)
{
    const size_t n_columns = (size_t)t->dims[t->n_dims - 1];
    size_t bytes;
    if (n_columns % lf_dtype_of(t->dtype)->block_len != 0)
        return fail(r, LF_EFORMAT, "found rows of %zu %s elements, expected a multiple of %" PRIu32,
                    n_columns, t->type_name, lf_dtype_of(t->dtype)->block_len);
    bool fits = lf_dtype_row_bytes(t->dtype, n_columns, &bytes);
    for (int i = 0; i < t->n_dims - 1; i++) fits = fits && lf_mul_size(bytes, (size_t)t->dims[i], &bytes);
    if (!fits)
        return fail(r, LF_EFORMAT, "found dimensions whose product overflows, expected ones that fit memory");
    t->bytes = bytes;
    return LF_OK;
}

static lf_status read_tensor(reader *r, lf_tensor_info *t, uint64_t *offset)
{
    lf_status status = LF_OK;
    const char *name;
    size_t len;
    LF_TRY(read_name(r, &name, &len));
    LF_TRY(read_shape(r, t));
    LF_TRY(read_element_type(r, t, name, len));
    if (t->supported) LF_TRY(measure_tensor(r, t));
    LF_TRY(read_u64(r, "the offset", offset));
done:
    return status;
}

/* Points each tensor at its data, once the header has been read and so the start of the data is known. */
static lf_status place_tensors(reader *r, lf_gguf *g, const uint64_t *offsets)
{
    int64_t alignment = LF_GGUF_ALIGNMENT;
    const lf_status status = lf_gguf_get_int(g, LF_GGUF_ALIGNMENT_KEY, false, &alignment, r->err);
    if (status != LF_OK) return status;
    if (alignment < 1 || alignment > ALIGNMENT_MAX || (alignment & (alignment - 1)) != 0)
        return lf_fail(r->err, LF_EFORMAT,
                       "%s: key '%s': found %" PRId64 ", expected a power of two up to %d", r->file,
                       LF_GGUF_ALIGNMENT_KEY, alignment, ALIGNMENT_MAX);
    const size_t mask = (size_t)alignment - 1;
    const size_t padding = (mask + 1 - (r->at & mask)) & mask;
    const size_t data_bytes = bytes_left(r) > padding ? bytes_left(r) - padding : 0;
    for (size_t i = 0; i < g->n_tensors; i++) {
        lf_tensor_info *t = &g->tensors[i];
        r->label = t->name;
        r->label_bytes = strlen(t->name);
        if ((offsets[i] & mask) != 0)
            return fail(r, LF_EFORMAT, "found offset %" PRIu64 ", expected a multiple of %" PRId64,
                        offsets[i], alignment);
        if (offsets[i] > data_bytes || t->bytes > data_bytes - offsets[i])
            return fail(r, LF_EFORMAT,
                        "found %zu bytes of data at offset %" PRIu64
                        ", expected them within the %zu bytes of data in the file",
                        t->bytes, offsets[i], data_bytes);
        if (t->supported) t->data = r->data + r->at + padding + offsets[i];
    }
    return lf_tensor_check_overlap(g->tensors, g->n_tensors, r->file, r->err);
}

static lf_status read_tensors(reader *r, lf_gguf *g, size_t n)
{
    lf_status status = LF_OK;
    uint64_t *offsets = NULL; /* (n), from the start of the data */
    if (n > 0) {
        g->tensors = calloc(n, sizeof *g->tensors);
        g->by_name = calloc(n, sizeof *g->by_name);
        offsets = calloc(n, sizeof *offsets);
        if (!g->tensors || !g->by_name || !offsets) {
            status = lf_fail_memory(r->err, "tensor list", n * (sizeof *g->tensors + sizeof *g->by_name));
            goto done;
        }
    }
    r->section = "tensor";
    for (r->i = 0; r->i < n; r->i++) {
        LF_TRY(read_tensor(r, &g->tensors[g->n_tensors++], &offsets[r->i]));
        g->by_name[r->i] = (lf_named){.name = g->tensors[r->i].name, .i = r->i};
    }
    const lf_named *twice = lf_names_sort(g->by_name, n);
    LF_TRY(twice ? fail_twice(r, twice) : LF_OK);
    LF_TRY(place_tensors(r, g, offsets));
done:
    free(offsets);
    return status;
}

/* ---- the file ---- */

static lf_status read_version(reader *r, uint32_t *version)
{
    lf_status status = LF_OK;
    uint8_t magic[4] = {0};
    LF_TRY(read_bytes(r, "the magic", magic, sizeof magic));
    if (memcmp(magic, LF_GGUF_MAGIC, sizeof magic) != 0)
        return lf_fail(r->err, LF_EFORMAT,
                       "%s: found magic bytes %02x %02x %02x %02x, expected 47 47 55 46 (GGUF)", r->file,
                       magic[0], magic[1], magic[2], magic[3]);
    LF_TRY(read_u32(r, "the version", version));
    /* A small number read in the wrong order has its low half empty. */
    if (*version != 0 && (*version & 0xffff) == 0)
        return lf_fail(r->err, LF_EUNSUPPORTED, "%s: found a big-endian GGUF file, expected little-endian",
                       r->file);
    if (*version < 2 || *version > LF_GGUF_VERSION)
        return lf_fail(r->err, LF_EUNSUPPORTED, "%s: found GGUF version %" PRIu32 ", expected 2 or %d",
                       r->file, *version, LF_GGUF_VERSION);
done:
    return status;
}

/* Parses g->data under the name `name`. */
static lf_status parse(lf_gguf *g, const char *name, lf_error *err)
{
    lf_status status = LF_OK;
    size_t n_tensors = 0, n_values = 0;
    g->name = lf_strndup(name, strlen(name));
    if (!g->name) return lf_fail_memory(err, "file name", strlen(name) + 1);
    reader r = {.data = g->data, .size = g->size, .file = g->name, .err = err};
    LF_TRY(read_version(&r, &g->version));
    LF_TRY(read_count(&r, "tensors", TENSORS_MAX, TENSOR_BYTES_MIN, &n_tensors));
    LF_TRY(read_count(&r, "keys", KEYS_MAX, KEY_BYTES_MIN, &n_values));
    LF_TRY(read_values(&r, g, n_values));
    LF_TRY(read_tensors(&r, g, n_tensors));
done:
    return status;
}

lf_status lf_gguf_parse(lf_gguf **out, const void *data, size_t size, const char *name, lf_error *err)
{
    lf_gguf *g = calloc(1, sizeof *g);
    if (!g) return lf_fail_memory(err, "GGUF index", sizeof *g);
    g->data = data;
    g->size = size;
    const lf_status status = parse(g, name, err);
    if (status == LF_OK)
        *out = g;
    else
        lf_gguf_close(g);
    return status;
}

lf_status lf_gguf_open(lf_gguf **out, const char *path, lf_error *err)
{
    lf_map map;
    lf_status status = lf_map_open(&map, path, err);
    if (status != LF_OK) return status;
    status = lf_gguf_parse(out, map.data, map.size, path, err);
    if (status == LF_OK)
        (*out)->map = map;
    else
        lf_map_close(&map);
    return status;
}

void lf_gguf_close(lf_gguf *g)
{
    if (!g) return;
    for (size_t i = 0; i < g->n_values; i++) free((void *)(uintptr_t)g->values[i].key);
    for (size_t i = 0; i < g->n_tensors; i++) lf_tensor_free_names(&g->tensors[i]);
    free(g->by_name);
    free(g->tensors);
    free(g->by_key);
    free(g->values);
    free(g->name);
    lf_map_close(&g->map);
    free(g);
}

/* ---- look-ups ---- */

const char *lf_gguf_name(const lf_gguf *g)
{
    return g->name;
}

unsigned lf_gguf_version(const lf_gguf *g)
{
    return g->version;
}

size_t lf_gguf_n_values(const lf_gguf *g)
{
    return g->n_values;
}

const lf_gguf_value *lf_gguf_value_at(const lf_gguf *g, size_t i)
{
    assert(i < g->n_values);
    return &g->values[i];
}

const lf_gguf_value *lf_gguf_find(const lf_gguf *g, const char *key)
{
    const lf_named *found = lf_names_find(g->by_key, g->n_values, key);
    return found ? &g->values[found->i] : NULL;
}

size_t lf_gguf_n_tensors(const lf_gguf *g)
{
    return g->n_tensors;
}

const lf_tensor_info *lf_gguf_tensor_at(const lf_gguf *g, size_t i)
{
    assert(i < g->n_tensors);
    return &g->tensors[i];
}

const lf_tensor_info *lf_gguf_find_tensor(const lf_gguf *g, const char *name)
{
    const lf_named *found = lf_names_find(g->by_name, g->n_tensors, name);
    return found ? &g->tensors[found->i] : NULL;
}
