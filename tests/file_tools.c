#include "file_tools.h"

#include "testing.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

/* ---- building files ---- */

void put(lf_bytes *f, const void *src, size_t n)
{
    assert_true(lf_bytes_append(f, src, n));
}

void put_u8(lf_bytes *f, uint8_t value)
{
    put(f, &value, sizeof value);
}

void put_u32(lf_bytes *f, uint32_t value)
{
    put(f, &value, sizeof value);
}

void put_u64(lf_bytes *f, uint64_t value)
{
    put(f, &value, sizeof value);
}

void put_string(lf_bytes *f, const char *s)
{
    put_u64(f, strlen(s));
    put(f, s, strlen(s));
}

void put_start(lf_bytes *f, uint32_t version, uint64_t n_tensors, uint64_t n_keys)
{
    put(f, "GGUF", 4);
    put_u32(f, version);
    put_u64(f, n_tensors);
    put_u64(f, n_keys);
}

void put_key(lf_bytes *f, const char *key, lf_gguf_type type)
{
    put_string(f, key);
    put_u32(f, type);
}

void put_scalar(lf_bytes *f, const char *key, lf_gguf_type type, const void *value, size_t bytes)
{
    put_key(f, key, type);
    put(f, value, bytes);
}

void put_array_start(lf_bytes *f, const char *key, lf_gguf_type item_type, uint64_t count)
{
    put_key(f, key, LF_GGUF_ARRAY);
    put_u32(f, item_type);
    put_u64(f, count);
}

void put_tensor(lf_bytes *f, const char *name, int n_dims, const uint64_t *dims, uint32_t type,
                uint64_t offset)
{
    put_string(f, name);
    put_u32(f, (uint32_t)n_dims);
    for (int i = 0; i < n_dims; i++) put_u64(f, dims[i]);
    put_u32(f, type);
    put_u64(f, offset);
}

void put_zeros(lf_bytes *f, size_t n)
{
    for (size_t i = 0; i < n; i++) put_u8(f, 0);
}

void put_padding(lf_bytes *f, size_t alignment)
{
    while (f->len % alignment != 0) put_u8(f, 0);
}

size_t put_small_file(lf_bytes *f)
{
    const uint8_t u8 = 200, yes = 1, bools[] = {1, 0, 1};
    const int8_t i8 = -100, i8s[] = {-1, 2, -3};
    const uint16_t u16 = 60000;
    const int16_t i16 = -30000, i16s[] = {-1, 300};
    const uint32_t u32 = 4000000000u, alignment = 64;
    const int32_t i32 = -2000000000;
    const uint64_t u64 = UINT64_MAX, u64s[] = {1, UINT64_MAX};
    const int64_t i64 = INT64_MIN;
    const float f32 = 1.5f, f32s[] = {0.25f, -1e30f, NAN};
    const double f64 = 1e-300;

    put_start(f, 3, N_SMALL_TENSORS, N_SMALL_KEYS);
    put_scalar(f, "a.u8", LF_GGUF_U8, &u8, sizeof u8);
    put_scalar(f, "a.i8", LF_GGUF_I8, &i8, sizeof i8);
    put_scalar(f, "a.u16", LF_GGUF_U16, &u16, sizeof u16);
    put_scalar(f, "a.i16", LF_GGUF_I16, &i16, sizeof i16);
    put_scalar(f, "a.u32", LF_GGUF_U32, &u32, sizeof u32);
    put_scalar(f, "a.i32", LF_GGUF_I32, &i32, sizeof i32);
    put_scalar(f, "a.u64", LF_GGUF_U64, &u64, sizeof u64);
    put_scalar(f, "a.i64", LF_GGUF_I64, &i64, sizeof i64);
    put_scalar(f, "a.f32", LF_GGUF_F32, &f32, sizeof f32);
    put_scalar(f, "a.f64", LF_GGUF_F64, &f64, sizeof f64);
    put_scalar(f, "a.bool", LF_GGUF_BOOL, &yes, sizeof yes);
    put_key(f, "a.string", LF_GGUF_STRING);
    put_string(f, "text");
    put_scalar(f, "general.alignment", LF_GGUF_U32, &alignment, sizeof alignment);
    put_array_start(f, "b.i8s", LF_GGUF_I8, 3);
    put(f, i8s, sizeof i8s);
    put_array_start(f, "b.i16s", LF_GGUF_I16, 2);
    put(f, i16s, sizeof i16s);
    put_array_start(f, "b.u64s", LF_GGUF_U64, 2);
    put(f, u64s, sizeof u64s);
    put_array_start(f, "b.f32s", LF_GGUF_F32, 3);
    put(f, f32s, sizeof f32s);
    put_array_start(f, "b.bools", LF_GGUF_BOOL, 3);
    put(f, bools, sizeof bools);
    put_array_start(f, "b.strings", LF_GGUF_STRING, 3);
    put_string(f, "one");
    put_string(f, "");
    put_string(f, "three");
    put_array_start(f, "b.none", LF_GGUF_STRING, 0);

    put_tensor(f, "t.f32", 2, (uint64_t[]){3, 2}, 0, 0);
    put_tensor(f, "t.q8_0", 3, (uint64_t[]){32, 1, 2}, 8, 64);
    put_tensor(f, "t.q5_1", 1, (uint64_t[]){32}, 7, 192);
    put_tensor(f, "t.new", 1, (uint64_t[]){7}, 12345, 256);
    const size_t header_bytes = f->len;
    put_padding(f, 64);
    for (int i = 0; i < 256; i++) put_u8(f, (uint8_t)i);
    return header_bytes;
}

/* ---- looking at files ---- */

uint64_t fnv1a(const void *data, size_t n)
{
    uint64_t h = 0xcbf29ce484222325;
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3;
    return h;
}

static void dump_array(lf_bytes *out, const lf_gguf_value *v)
{
    static const size_t item_bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    static const char *const names[] = {"uint8", "int8",   "uint16", "int16",  "uint32", "int32",  "float32",
                                        "bool",  "string", "array",  "uint64", "int64",  "float64"};
    size_t bytes = v->count * item_bytes[v->item_type];
    if (v->item_type == LF_GGUF_STRING) {
        const uint8_t *end = v->items;
        const char *str;
        size_t len;
        for (size_t i = 0; i < v->count; i++) lf_gguf_array_next_string(&end, &str, &len);
        bytes = (size_t)(end - v->items);
    } else
        for (size_t i = 0; i < v->count; i++) {
            const double f = lf_gguf_array_float(v, i);
            const int64_t k = lf_gguf_array_int(v, i);
            if (fabs(f) < 0x1p53) assert_int_equal(k, (int64_t)f);
        }
    (void)lf_bytes_printf(out, "array %s %zu %016" PRIx64, v->count ? names[v->item_type] : "empty", v->count,
                          fnv1a(v->items, bytes));
}

static void dump_value(lf_bytes *out, const lf_gguf_value *v)
{
    (void)lf_bytes_printf(out, "key %s ", v->key);
    switch (v->type) {
    case LF_GGUF_U8: (void)lf_bytes_printf(out, "uint8 %" PRIu64, v->u); break;
    case LF_GGUF_I8: (void)lf_bytes_printf(out, "int8 %" PRId64, v->i); break;
    case LF_GGUF_U16: (void)lf_bytes_printf(out, "uint16 %" PRIu64, v->u); break;
    case LF_GGUF_I16: (void)lf_bytes_printf(out, "int16 %" PRId64, v->i); break;
    case LF_GGUF_U32: (void)lf_bytes_printf(out, "uint32 %" PRIu64, v->u); break;
    case LF_GGUF_I32: (void)lf_bytes_printf(out, "int32 %" PRId64, v->i); break;
    case LF_GGUF_U64: (void)lf_bytes_printf(out, "uint64 %" PRIu64, v->u); break;
    case LF_GGUF_I64: (void)lf_bytes_printf(out, "int64 %" PRId64, v->i); break;
    case LF_GGUF_F32: (void)lf_bytes_printf(out, "float32 %.17g", v->f); break;
    case LF_GGUF_F64: (void)lf_bytes_printf(out, "float64 %.17g", v->f); break;
    case LF_GGUF_BOOL: (void)lf_bytes_printf(out, "bool %" PRIu64, v->u); break;
    case LF_GGUF_ARRAY: dump_array(out, v); break;
    case LF_GGUF_STRING:
        (void)lf_bytes_printf(out, "string %zu \"", v->len);
        for (size_t i = 0; i < v->len; i++) {
            const unsigned c = (unsigned char)v->str[i];
            (void)lf_bytes_printf(out, c >= 0x20 && c < 0x7f && c != '"' && c != '\\' ? "%c" : "\\x%02x", c);
        }
        (void)lf_bytes_append(out, "\"", 1);
        break;
    case LF_GGUF_TYPE_COUNT: fail();
    }
    (void)lf_bytes_append(out, "\n", 1);
}

lf_bytes dump_gguf(const lf_gguf *g)
{
    lf_bytes out = {0};
    (void)lf_bytes_printf(&out, "version %u\n", lf_gguf_version(g));
    for (size_t i = 0; i < lf_gguf_n_values(g); i++) {
        const lf_gguf_value *v = lf_gguf_value_at(g, i);
        assert_ptr_equal(lf_gguf_find(g, v->key), v);
        dump_value(&out, v);
    }
    for (size_t i = 0; i < lf_gguf_n_tensors(g); i++) {
        const lf_tensor_info *t = lf_gguf_tensor_at(g, i);
        assert_ptr_equal(lf_gguf_find_tensor(g, t->name), t);
        (void)lf_bytes_printf(&out, "tensor %s %s [", t->name, t->type_name);
        for (int k = 0; k < t->n_dims; k++)
            (void)lf_bytes_printf(&out, k == 0 ? "%" PRId64 : " %" PRId64, t->dims[k]);
        (void)lf_bytes_printf(&out, "] %zu %016" PRIx64 "\n", t->bytes, fnv1a(t->data, t->bytes));
    }
    return out;
}
