/* GGUF v2 and v3 (ggml, docs/gguf.md): metadata keys with typed values, tensor records, aligned tensor data.
 *
 *   "GGUF" u32 version  u64 n_tensors  u64 n_keys
 *   n_keys    times: string key, u32 type, value          string = u64 length, bytes (no NUL)
 *   n_tensors times: string name, u32 n_dims, u64 dims[n_dims] (innermost first), u32 ggml_type, u64 offset
 *   padding to general.alignment (32), then the data; offsets count from there
 *
 * The parser is pure: it reads only the bytes given, checks every length before use, and keeps an index of what it
 * found. Values and tensor data point into the file. */
#ifndef LF_FILE_GGUF_H
#define LF_FILE_GGUF_H

#include "base/status.h"
#include "file/tensor_info.h"

typedef struct lf_gguf lf_gguf;

typedef enum lf_gguf_type {
    LF_GGUF_U8,
    LF_GGUF_I8,
    LF_GGUF_U16,
    LF_GGUF_I16,
    LF_GGUF_U32,
    LF_GGUF_I32,
    LF_GGUF_F32,
    LF_GGUF_BOOL,
    LF_GGUF_STRING,
    LF_GGUF_ARRAY,
    LF_GGUF_U64,
    LF_GGUF_I64,
    LF_GGUF_F64,
    LF_GGUF_TYPE_COUNT,
} lf_gguf_type;

/* A metadata value. Scalars: exactly one of u, i, f by type (bool in u). Strings: str and len (not NUL-terminated in
 * the file). Arrays: item type and count; items are read with lf_gguf_array_*. Nested arrays are refused. */
typedef struct lf_gguf_value {
    const char *key; /* NUL-terminated, owned by the lf_gguf */
    lf_gguf_type type;
    uint64_t u;
    int64_t i;
    double f;
    const char *str;
    size_t len;
    lf_gguf_type item_type;
    size_t count;
    const uint8_t *items; /* packed little-endian items (strings: u64 length, bytes), any alignment */
} lf_gguf_value;

/* Opens and maps a file, or parses a buffer that must outlive the object; `name` is what errors call it. */
lf_status lf_gguf_open(lf_gguf **out, const char *path, lf_error *err);
lf_status lf_gguf_parse(lf_gguf **out, const void *data, size_t size, const char *name, lf_error *err);
void lf_gguf_close(lf_gguf *g); /* NULL is fine */

const char *lf_gguf_name(const lf_gguf *g);
unsigned lf_gguf_version(const lf_gguf *g);
size_t lf_gguf_n_values(const lf_gguf *g);
const lf_gguf_value *lf_gguf_value_at(const lf_gguf *g, size_t i);
const lf_gguf_value *lf_gguf_find(const lf_gguf *g, const char *key); /* NULL when absent */
size_t lf_gguf_n_tensors(const lf_gguf *g);
const lf_tensor_info *lf_gguf_tensor_at(const lf_gguf *g, size_t i);
const lf_tensor_info *lf_gguf_find_tensor(const lf_gguf *g, const char *name); /* NULL when absent */

/* Typed look-ups. Any integer type serves for an integer when the value fits; u32 lists are not taken. When the key is
 * absent *out is left alone and the result is LF_OK, so that the caller's initial value is the default; `required`
 * makes absence LF_EFORMAT. A value of another type is LF_EFORMAT naming file, key, found and expected. The string
 * form gives a malloc'ed NUL-terminated copy (a NUL inside it is LF_EFORMAT). */
lf_status lf_gguf_get_int(const lf_gguf *g, const char *key, bool required, int64_t *out, lf_error *err);
lf_status lf_gguf_get_float(const lf_gguf *g, const char *key, bool required, double *out, lf_error *err);
lf_status lf_gguf_get_bool(const lf_gguf *g, const char *key, bool required, bool *out, lf_error *err);
lf_status lf_gguf_get_string(const lf_gguf *g, const char *key, bool required, char **out, lf_error *err);

/* Item i of an array value of a numeric type (any of them), converted; i < count. */
int64_t lf_gguf_array_int(const lf_gguf_value *v, size_t i);
double lf_gguf_array_float(const lf_gguf_value *v, size_t i);

/* Walks an array of strings: *cursor starts as v->items and moves past one string, given as (str, len). */
void lf_gguf_array_next_string(const uint8_t **cursor, const char **str, size_t *len);

/* ---- writing ---- */

typedef struct lf_gguf_writer lf_gguf_writer;

/* Collects metadata and tensor records, then writes header and data to path + ".tmp", fsyncs and renames, so that a
 * killed or failed run leaves no half file under the final name. Setters copy their arguments; a failed setter
 * (memory, duplicate key) is remembered and reported by lf_gguf_writer_begin. */
lf_status lf_gguf_writer_open(lf_gguf_writer **out, const char *path, lf_error *err);
void lf_gguf_set_int(lf_gguf_writer *w, const char *key, lf_gguf_type type, int64_t value);
void lf_gguf_set_float(lf_gguf_writer *w, const char *key, lf_gguf_type type, double value);
void lf_gguf_set_bool(lf_gguf_writer *w, const char *key, bool value);
void lf_gguf_set_string(lf_gguf_writer *w, const char *key, const char *str, size_t len);
void lf_gguf_set_array(lf_gguf_writer *w, const char *key, lf_gguf_type item_type, const void *items,
                       size_t count);
void lf_gguf_set_strings(lf_gguf_writer *w, const char *key, const char *const *strs, const size_t *lens,
                         size_t count);

/* Copies a value of another file. general.alignment is skipped, here and above: it is always the writer's own 32. */
void lf_gguf_set_value(lf_gguf_writer *w, const lf_gguf_value *value);

/* Declares a tensor; data follows in the same order after lf_gguf_writer_begin. dims outermost first. */
void lf_gguf_add_tensor(lf_gguf_writer *w, const char *name, lf_dtype dtype, int n_dims, const int64_t *dims);

/* Writes the header; then lf_gguf_write_data is called once or more per tensor, in order, with exactly its bytes in
 * total; lf_gguf_writer_finish checks that, pads, fsyncs and renames. */
lf_status lf_gguf_writer_begin(lf_gguf_writer *w, lf_error *err);
lf_status lf_gguf_write_data(lf_gguf_writer *w, const void *data, size_t bytes, lf_error *err);
lf_status lf_gguf_writer_finish(lf_gguf_writer *w, lf_error *err);
void lf_gguf_writer_close(lf_gguf_writer *w); /* removes the temporary file unless finished; NULL is fine */

#endif
