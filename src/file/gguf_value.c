/* GGUF values: the facts of their types, the items of arrays, and typed look-ups that say what they found. */
#include "file/gguf_int.h"

#include "base/mem.h"

#include <assert.h>
#include <string.h>

static const lf_gguf_type_info infos[LF_GGUF_TYPE_COUNT] = {
    [LF_GGUF_U8] = {"uint8", 1, LF_GGUF_KIND_UNSIGNED},
    [LF_GGUF_I8] = {"int8", 1, LF_GGUF_KIND_SIGNED},
    [LF_GGUF_U16] = {"uint16", 2, LF_GGUF_KIND_UNSIGNED},
    [LF_GGUF_I16] = {"int16", 2, LF_GGUF_KIND_SIGNED},
    [LF_GGUF_U32] = {"uint32", 4, LF_GGUF_KIND_UNSIGNED},
    [LF_GGUF_I32] = {"int32", 4, LF_GGUF_KIND_SIGNED},
    [LF_GGUF_U64] = {"uint64", 8, LF_GGUF_KIND_UNSIGNED},
    [LF_GGUF_I64] = {"int64", 8, LF_GGUF_KIND_SIGNED},
    [LF_GGUF_F32] = {"float32", 4, LF_GGUF_KIND_FLOAT},
    [LF_GGUF_F64] = {"float64", 8, LF_GGUF_KIND_FLOAT},
    [LF_GGUF_BOOL] = {"bool", 1, LF_GGUF_KIND_UNSIGNED},
    [LF_GGUF_STRING] = {"string", 0, LF_GGUF_KIND_STRING},
    [LF_GGUF_ARRAY] = {"array", 0, LF_GGUF_KIND_ARRAY},
};

const lf_gguf_type_info *lf_gguf_type_of(lf_gguf_type type)
{
    assert((unsigned)type < LF_GGUF_TYPE_COUNT);
    return &infos[type];
}

bool lf_gguf_name_valid(const char *name, size_t len)
{
    if (len == 0 || len > LF_GGUF_NAME_BYTES_MAX) return false;
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < 0x20 || name[i] == 0x7f) return false;
    return true;
}

void lf_gguf_load_number(lf_gguf_value *v, lf_gguf_type type, const uint8_t *src)
{
    const lf_gguf_type_info *info = lf_gguf_type_of(type);
    uint64_t bits = 0;
    memcpy(&bits, src, info->bytes);
    const unsigned unused_bits = 64 - 8u * info->bytes;
    switch (info->kind) {
    case LF_GGUF_KIND_UNSIGNED: v->u = bits; break;
    case LF_GGUF_KIND_SIGNED: v->i = (int64_t)(bits << unused_bits) >> unused_bits; break;
    case LF_GGUF_KIND_FLOAT:
        if (type == LF_GGUF_F32) {
            float f32;
            memcpy(&f32, src, sizeof f32);
            v->f = f32;
        } else
            memcpy(&v->f, src, sizeof v->f);
        break;
    case LF_GGUF_KIND_STRING:
    case LF_GGUF_KIND_ARRAY: assert(false && "type is a number");
    }
}

/* ---- arrays ---- */

static lf_gguf_value item_at(const lf_gguf_value *v, size_t i)
{
    lf_gguf_value item = {.type = v->item_type};
    assert(v->type == LF_GGUF_ARRAY && i < v->count);
    lf_gguf_load_number(&item, v->item_type, v->items + i * lf_gguf_type_of(v->item_type)->bytes);
    return item;
}

/* The nearest int64 of a double; 0 for NaN. */
static int64_t saturate(double f)
{
    if (f >= 0x1p63) return INT64_MAX;
    if (f < -0x1p63) return INT64_MIN;
    return f == f ? (int64_t)f : 0;
}

int64_t lf_gguf_array_int(const lf_gguf_value *v, size_t i)
{
    const lf_gguf_value item = item_at(v, i);
    switch (lf_gguf_type_of(item.type)->kind) {
    case LF_GGUF_KIND_UNSIGNED: return item.u > INT64_MAX ? INT64_MAX : (int64_t)item.u;
    case LF_GGUF_KIND_SIGNED: return item.i;
    default: return saturate(item.f);
    }
}

double lf_gguf_array_float(const lf_gguf_value *v, size_t i)
{
    const lf_gguf_value item = item_at(v, i);
    switch (lf_gguf_type_of(item.type)->kind) {
    case LF_GGUF_KIND_UNSIGNED: return (double)item.u;
    case LF_GGUF_KIND_SIGNED: return (double)item.i;
    default: return item.f;
    }
}

void lf_gguf_array_next_string(const uint8_t **cursor, const char **str, size_t *len)
{
    uint64_t n;
    memcpy(&n, *cursor, sizeof n);
    *str = (const char *)*cursor + sizeof n;
    *len = (size_t)n;
    *cursor += sizeof n + n;
}

/* ---- typed look-ups ---- */

/* *out = the value, or NULL when it is absent and not required. */
static lf_status find_value(const lf_gguf_value **out, const lf_gguf *g, const char *key, bool required,
                            lf_error *err)
{
    *out = lf_gguf_find(g, key);
    if (!*out && required)
        return lf_fail(err, LF_EFORMAT, "%s: key '%s': found no such key, expected one", lf_gguf_name(g),
                       key);
    return LF_OK;
}

static lf_status fail_type(const lf_gguf *g, const lf_gguf_value *v, const char *expected, lf_error *err)
{
    return lf_fail(err, LF_EFORMAT, "%s: key '%s': found type %s, expected %s", lf_gguf_name(g), v->key,
                   lf_gguf_type_of(v->type)->name, expected);
}

lf_status lf_gguf_get_int(const lf_gguf *g, const char *key, bool required, int64_t *out, lf_error *err)
{
    const lf_gguf_value *v;
    const lf_status status = find_value(&v, g, key, required, err);
    if (status != LF_OK || !v) return status;
    const lf_gguf_kind kind = lf_gguf_type_of(v->type)->kind;
    if (v->type == LF_GGUF_BOOL || (kind != LF_GGUF_KIND_UNSIGNED && kind != LF_GGUF_KIND_SIGNED))
        return fail_type(g, v, "an integer", err);
    if (kind == LF_GGUF_KIND_UNSIGNED && v->u > INT64_MAX)
        return lf_fail(err, LF_EFORMAT, "%s: key '%s': found %llu, expected at most %lld", lf_gguf_name(g),
                       key, (unsigned long long)v->u, (long long)INT64_MAX);
    *out = kind == LF_GGUF_KIND_UNSIGNED ? (int64_t)v->u : v->i;
    return LF_OK;
}

lf_status lf_gguf_get_float(const lf_gguf *g, const char *key, bool required, double *out, lf_error *err)
{
    const lf_gguf_value *v;
    const lf_status status = find_value(&v, g, key, required, err);
    if (status != LF_OK || !v) return status;
    if (lf_gguf_type_of(v->type)->kind != LF_GGUF_KIND_FLOAT) return fail_type(g, v, "a float", err);
    *out = v->f;
    return LF_OK;
}

lf_status lf_gguf_get_bool(const lf_gguf *g, const char *key, bool required, bool *out, lf_error *err)
{
    const lf_gguf_value *v;
    const lf_status status = find_value(&v, g, key, required, err);
    if (status != LF_OK || !v) return status;
    if (v->type != LF_GGUF_BOOL) return fail_type(g, v, "bool", err);
    *out = v->u != 0;
    return LF_OK;
}

lf_status lf_gguf_get_string(const lf_gguf *g, const char *key, bool required, char **out, lf_error *err)
{
    const lf_gguf_value *v;
    const lf_status status = find_value(&v, g, key, required, err);
    if (status != LF_OK || !v) return status;
    if (v->type != LF_GGUF_STRING) return fail_type(g, v, "string", err);
    if (memchr(v->str, '\0', v->len))
        return lf_fail(err, LF_EFORMAT, "%s: key '%s': found a NUL inside the string, expected text",
                       lf_gguf_name(g), key);
    char *copy = lf_strndup(v->str, v->len);
    if (!copy) return lf_fail_memory(err, "string value", v->len + 1);
    *out = copy;
    return LF_OK;
}
