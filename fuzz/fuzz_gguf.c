/* GGUF files: whatever the bytes, the parser refuses them or gives an object whose every value and tensor can be read. */
#include "file/gguf.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t sink; /* keeps the reads */

static void read_all(const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) sink += ((const uint8_t *)bytes)[i];
}

static void read_array(const lf_gguf_value *v)
{
    if (v->item_type == LF_GGUF_STRING) {
        const uint8_t *cursor = v->items;
        for (size_t i = 0; i < v->count; i++) {
            const char *str;
            size_t len;
            lf_gguf_array_next_string(&cursor, &str, &len);
            read_all(str, len);
        }
        return;
    }
    for (size_t i = 0; i < v->count; i++) {
        sink += (uint64_t)lf_gguf_array_int(v, i);
        sink += lf_gguf_array_float(v, i) > 0;
    }
}

static void read_value(const lf_gguf *g, const lf_gguf_value *v)
{
    int64_t i = 0;
    double f = 0;
    bool b = false;
    char *s = NULL;
    lf_error err;
    if (lf_gguf_find(g, v->key) != v) abort();
    sink += strlen(v->key);
    if (v->type == LF_GGUF_ARRAY) read_array(v);
    if (lf_gguf_get_int(g, v->key, true, &i, &err) == LF_OK) sink += (uint64_t)i;
    if (lf_gguf_get_float(g, v->key, true, &f, &err) == LF_OK) sink += f > 0;
    if (lf_gguf_get_bool(g, v->key, true, &b, &err) == LF_OK) sink += b;
    if (lf_gguf_get_string(g, v->key, true, &s, &err) == LF_OK) read_all(s, strlen(s));
    free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lf_gguf *g = NULL;
    lf_error err;
    if (lf_gguf_parse(&g, data, size, "fuzz.gguf", &err) != LF_OK) return 0;
    for (size_t i = 0; i < lf_gguf_n_values(g); i++) read_value(g, lf_gguf_value_at(g, i));
    for (size_t i = 0; i < lf_gguf_n_tensors(g); i++) {
        const lf_tensor_info *t = lf_gguf_tensor_at(g, i);
        if (lf_gguf_find_tensor(g, t->name) != t) abort();
        read_all(t->type_name, strlen(t->type_name));
        read_all(t->data, t->bytes);
    }
    lf_gguf_close(g);
    return 0;
}
