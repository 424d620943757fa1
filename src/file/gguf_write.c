/* The GGUF writer. Metadata and tensor records are encoded as they come; the header is complete when
 * lf_gguf_writer_begin writes it, and the data then streams through with no copy. Everything goes to path + ".tmp",
 * which gets its final name when it is complete and on disk:
 *
 *   open --set, add_tensor--> begin --write_data--> finish --> close
 *
 * Setters return nothing: the first failure is kept, what follows it is ignored, and lf_gguf_writer_begin reports it. */
#include "file/gguf_int.h"

#include "base/folder.h"
#include "base/mem.h"
#include "file/name_index.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TENSOR_NAME_BYTES_MAX = 63 }; /* what ggml reads; lookfar's own reader takes longer ones */

typedef struct entry {
    char *name;
    size_t bytes; /* of a tensor's data, without padding; unused for a key */
} entry;

typedef struct entry_list {
    entry *data; /* (n) */
    size_t n, cap;
} entry_list;

typedef enum writer_state { COLLECTING, WRITING, FAILED, FINISHED } writer_state;

struct lf_gguf_writer {
    writer_state state;
    char *path;
    lf_bytes temp_path;
    int fd;                      /* of temp_path, or -1 */
    bool has_temp_file;          /* it is there and ours to remove */
    lf_error failed;             /* the first failure of a setter; LF_OK: none */
    entry_list keys;             /* in the order of key_bytes */
    lf_bytes key_bytes;          /* encoded metadata */
    entry_list tensors;          /* in the order of tensor_bytes */
    lf_bytes tensor_bytes;       /* encoded records */
    size_t next_offset;          /* of the next tensor: the data so far, each tensor padded */
    size_t i_tensor, bytes_done; /* the tensor that lf_gguf_write_data is at, and how much of it is written */
};

static size_t padding_after(size_t bytes)
{
    return (LF_GGUF_ALIGNMENT - bytes % LF_GGUF_ALIGNMENT) % LF_GGUF_ALIGNMENT;
}

/* ---- encoding ---- */

static void put(lf_gguf_writer *w, lf_bytes *to, const void *src, size_t n)
{
    if (w->failed.status == LF_OK && !lf_bytes_append(to, src, n))
        (void)lf_fail_memory(&w->failed, "GGUF header", n);
}

static void put_u32(lf_gguf_writer *w, lf_bytes *to, uint32_t value)
{
    put(w, to, &value, sizeof value);
}

static void put_u64(lf_gguf_writer *w, lf_bytes *to, uint64_t value)
{
    put(w, to, &value, sizeof value);
}

static void put_string(lf_gguf_writer *w, lf_bytes *to, const char *str, size_t len)
{
    put_u64(w, to, len);
    put(w, to, str, len);
}

static void put_number(lf_gguf_writer *w, lf_bytes *to, const lf_gguf_value *v)
{
    const lf_gguf_type_info *info = lf_gguf_type_of(v->type);
    const float f32 = (float)v->f;
    switch (info->kind) {
    case LF_GGUF_KIND_UNSIGNED: put(w, to, &v->u, info->bytes); break;
    case LF_GGUF_KIND_SIGNED: put(w, to, &v->i, info->bytes); break;
    case LF_GGUF_KIND_FLOAT:
        put(w, to, v->type == LF_GGUF_F32 ? (const void *)&f32 : &v->f, info->bytes);
        break;
    case LF_GGUF_KIND_STRING:
    case LF_GGUF_KIND_ARRAY: assert(false && "v is a number");
    }
}

static void put_array(lf_gguf_writer *w, lf_bytes *to, const lf_gguf_value *v)
{
    size_t bytes = v->count * lf_gguf_type_of(v->item_type)->bytes; /* of an array in memory: no overflow */
    assert(v->item_type != LF_GGUF_ARRAY);
    if (v->item_type == LF_GGUF_STRING) {
        const uint8_t *end = v->items;
        const char *str;
        size_t len;
        for (size_t i = 0; i < v->count; i++) lf_gguf_array_next_string(&end, &str, &len);
        bytes = (size_t)(end - v->items);
    }
    put_u32(w, to, v->item_type);
    put_u64(w, to, v->count);
    put(w, to, v->items, bytes);
}

/* ---- collecting ---- */

/* Notes a key or a tensor under its name. */
static void add_entry(lf_gguf_writer *w, entry_list *list, const char *name, size_t bytes)
{
    if (w->failed.status != LF_OK) return;
    if (list->n == list->cap) {
        const size_t cap = list->cap ? 2 * list->cap : 32;
        entry *grown = realloc(list->data, cap * sizeof *grown);
        if (!grown) {
            (void)lf_fail_memory(&w->failed, "GGUF names", cap * sizeof *grown);
            return;
        }
        list->data = grown;
        list->cap = cap;
    }
    char *copy = lf_strndup(name, strlen(name));
    if (copy)
        list->data[list->n++] = (entry){.name = copy, .bytes = bytes};
    else
        (void)lf_fail_memory(&w->failed, "GGUF name", strlen(name) + 1);
}

static void put_value(lf_gguf_writer *w, const lf_gguf_value *v)
{
    lf_bytes *to = &w->key_bytes;
    if (w->failed.status == LF_OK && !lf_gguf_name_valid(v->key, strlen(v->key)))
        (void)lf_fail(&w->failed, LF_EINVAL,
                      "%s: key '%.100s': expected 1 to %d bytes without control characters", w->path, v->key,
                      LF_GGUF_NAME_BYTES_MAX);
    add_entry(w, &w->keys, v->key, 0);
    put_string(w, to, v->key, strlen(v->key));
    put_u32(w, to, v->type);
    if (v->type == LF_GGUF_ARRAY)
        put_array(w, to, v);
    else if (v->type == LF_GGUF_STRING)
        put_string(w, to, v->str, v->len);
    else
        put_number(w, to, v);
}

void lf_gguf_set_value(lf_gguf_writer *w, const lf_gguf_value *value)
{
    assert(w->state == COLLECTING);
    if (strcmp(value->key, LF_GGUF_ALIGNMENT_KEY) != 0) put_value(w, value);
}

void lf_gguf_set_int(lf_gguf_writer *w, const char *key, lf_gguf_type type, int64_t value)
{
    const lf_gguf_type_info *info = lf_gguf_type_of(type);
    const bool is_signed = info->kind == LF_GGUF_KIND_SIGNED;
    assert(is_signed || (info->kind == LF_GGUF_KIND_UNSIGNED && type != LF_GGUF_BOOL));
    bool fits = is_signed || value >= 0;
    if (info->bytes < 8) {
        const int64_t limit = INT64_C(1) << (8 * info->bytes - is_signed);
        fits = value < limit && value >= (is_signed ? -limit : 0);
    }
    if (!fits && w->failed.status == LF_OK)
        (void)lf_fail(&w->failed, LF_EINVAL, "%s: key '%.100s': found %lld, expected a value that fits %s",
                      w->path, key, (long long)value, info->name);
    lf_gguf_set_value(w, &(lf_gguf_value){.key = key, .type = type, .u = (uint64_t)value, .i = value});
}

void lf_gguf_set_float(lf_gguf_writer *w, const char *key, lf_gguf_type type, double value)
{
    assert(lf_gguf_type_of(type)->kind == LF_GGUF_KIND_FLOAT);
    lf_gguf_set_value(w, &(lf_gguf_value){.key = key, .type = type, .f = value});
}

void lf_gguf_set_bool(lf_gguf_writer *w, const char *key, bool value)
{
    lf_gguf_set_value(w, &(lf_gguf_value){.key = key, .type = LF_GGUF_BOOL, .u = value});
}

void lf_gguf_set_string(lf_gguf_writer *w, const char *key, const char *str, size_t len)
{
    lf_gguf_set_value(w, &(lf_gguf_value){.key = key, .type = LF_GGUF_STRING, .str = str, .len = len});
}

void lf_gguf_set_array(lf_gguf_writer *w, const char *key, lf_gguf_type item_type, const void *items,
                       size_t count)
{
    assert(lf_gguf_type_of(item_type)->bytes > 0);
    lf_gguf_set_value(
        w, &(lf_gguf_value){
               .key = key, .type = LF_GGUF_ARRAY, .item_type = item_type, .items = items, .count = count});
}

void lf_gguf_set_strings(lf_gguf_writer *w, const char *key, const char *const *strs, const size_t *lens,
                         size_t count)
{
    lf_bytes packed = {0};
    for (size_t i = 0; i < count; i++) put_string(w, &packed, strs[i], lens[i]);
    if (w->failed.status == LF_OK)
        lf_gguf_set_value(w, &(lf_gguf_value){.key = key,
                                              .type = LF_GGUF_ARRAY,
                                              .item_type = LF_GGUF_STRING,
                                              .items = (const uint8_t *)packed.data,
                                              .count = count});
    lf_bytes_free(&packed);
}

/* *out = the bytes of a tensor; false when a dimension is not positive, a row not whole blocks, or the size overflows. */
static bool measure_tensor(size_t *out, lf_dtype dtype, int n_dims, const int64_t *dims)
{
    for (int i = 0; i < n_dims; i++)
        if (dims[i] < 1) return false;
    bool fits = lf_dtype_row_bytes(dtype, (size_t)dims[n_dims - 1], out);
    for (int i = 0; i < n_dims - 1; i++) fits = fits && lf_mul_size(*out, (size_t)dims[i], out);
    return fits;
}

void lf_gguf_add_tensor(lf_gguf_writer *w, const char *name, lf_dtype dtype, int n_dims, const int64_t *dims)
{
    lf_bytes *to = &w->tensor_bytes;
    size_t bytes, end;
    assert(w->state == COLLECTING && n_dims >= 1 && n_dims <= LF_TENSOR_DIMS_MAX);
    if (w->failed.status != LF_OK) return;
    if (!lf_gguf_name_valid(name, strlen(name)) || strlen(name) > TENSOR_NAME_BYTES_MAX) {
        (void)lf_fail(&w->failed, LF_EINVAL, "%s: tensor '%.100s': expected a name of 1 to %d bytes", w->path,
                      name, TENSOR_NAME_BYTES_MAX);
        return;
    }
    if (!measure_tensor(&bytes, dtype, n_dims, dims) || !lf_add_size(w->next_offset, bytes, &end) ||
        !lf_add_size(end, padding_after(end), &end)) {
        (void)lf_fail(
            &w->failed, LF_EINVAL,
            "%s: tensor '%s': expected dimensions of at least 1 whose rows are whole blocks of %s and whose "
            "product fits memory",
            w->path, name, lf_dtype_of(dtype)->name);
        return;
    }
    add_entry(w, &w->tensors, name, bytes);
    put_string(w, to, name, strlen(name));
    put_u32(w, to, (uint32_t)n_dims);
    for (int i = n_dims; i-- > 0;) put_u64(w, to, (uint64_t)dims[i]); /* the file has them innermost first */
    put_u32(w, to, lf_dtype_of(dtype)->ggml_type);
    put_u64(w, to, w->next_offset);
    w->next_offset = end;
}

/* ---- writing ---- */

static lf_status fail_io(lf_gguf_writer *w, const char *path, const char *action, lf_error *err)
{
    w->state = FAILED;
    return lf_fail(err, LF_EIO, "%s: cannot %s: %s", path, action, strerror(errno));
}

static lf_status write_all(lf_gguf_writer *w, const void *data, size_t n, lf_error *err)
{
    const char *from = data;
    while (n > 0) {
        const ssize_t written = write(w->fd, from, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail_io(w, w->temp_path.data, "write", err);
        from += written;
        n -= (size_t)written;
    }
    return LF_OK;
}

static lf_status write_padding(lf_gguf_writer *w, size_t after, lf_error *err)
{
    static const char zeros[LF_GGUF_ALIGNMENT];
    return write_all(w, zeros, padding_after(after), err);
}

static lf_status check_unique(const lf_gguf_writer *w, const entry_list *list, const char *what,
                              lf_error *err)
{
    if (list->n == 0) return LF_OK;
    lf_named *names = calloc(list->n, sizeof *names);
    if (!names) return lf_fail_memory(err, "GGUF names", list->n * sizeof *names);
    for (size_t i = 0; i < list->n; i++) names[i] = (lf_named){.name = list->data[i].name, .i = i};
    const lf_named *twice = lf_names_sort(names, list->n);
    const lf_status status = twice ? lf_fail(err, LF_EINVAL, "%s: %s '%.100s': set twice, expected once",
                                             w->path, what, twice->name)
                                   : LF_OK;
    free(names);
    return status;
}

static lf_status write_header(lf_gguf_writer *w, lf_error *err)
{
    lf_status status = LF_OK;
    lf_bytes start = {0};
    put(w, &start, LF_GGUF_MAGIC, strlen(LF_GGUF_MAGIC));
    put_u32(w, &start, LF_GGUF_VERSION);
    put_u64(w, &start, w->tensors.n);
    put_u64(w, &start, w->keys.n);
    if (w->failed.status != LF_OK) {
        status = lf_fail(err, w->failed.status, "%s", w->failed.text);
        goto done;
    }
    LF_TRY(write_all(w, start.data, start.len, err));
    LF_TRY(write_all(w, w->key_bytes.data, w->key_bytes.len, err));
    LF_TRY(write_all(w, w->tensor_bytes.data, w->tensor_bytes.len, err));
    LF_TRY(write_padding(w, start.len + w->key_bytes.len + w->tensor_bytes.len, err));
done:
    lf_bytes_free(&start);
    return status;
}

lf_status lf_gguf_writer_begin(lf_gguf_writer *w, lf_error *err)
{
    lf_status status = LF_OK;
    assert(w->state == COLLECTING);
    w->state = FAILED;
    if (w->failed.status != LF_OK) return lf_fail(err, w->failed.status, "%s", w->failed.text);
    LF_TRY(check_unique(w, &w->keys, "key", err));
    LF_TRY(check_unique(w, &w->tensors, "tensor", err));
    w->fd = open(w->temp_path.data, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (w->fd < 0) return fail_io(w, w->temp_path.data, "create", err);
    w->has_temp_file = true;
    LF_TRY(write_header(w, err));
    w->state = WRITING;
done:
    return status;
}

lf_status lf_gguf_write_data(lf_gguf_writer *w, const void *data, size_t bytes, lf_error *err)
{
    lf_status status = LF_OK;
    if (w->state != WRITING)
        return lf_fail(err, LF_EINVAL, "%s: data after a failure, or before begin", w->path);
    if (w->i_tensor == w->tensors.n) {
        w->state = FAILED;
        return lf_fail(err, LF_EINVAL,
                       "%s: found %zu more bytes of data, expected none after the last tensor", w->path,
                       bytes);
    }
    const entry *tensor = &w->tensors.data[w->i_tensor];
    if (bytes > tensor->bytes - w->bytes_done) {
        w->state = FAILED;
        return lf_fail(err, LF_EINVAL, "%s: tensor '%s': found %zu more bytes of data, expected at most %zu",
                       w->path, tensor->name, bytes, tensor->bytes - w->bytes_done);
    }
    LF_TRY(write_all(w, data, bytes, err));
    w->bytes_done += bytes;
    if (w->bytes_done == tensor->bytes) {
        LF_TRY(write_padding(w, tensor->bytes, err));
        w->i_tensor++;
        w->bytes_done = 0;
    }
done:
    return status;
}

lf_status lf_gguf_writer_finish(lf_gguf_writer *w, lf_error *err)
{
    if (w->state != WRITING)
        return lf_fail(err, LF_EINVAL, "%s: finish after a failure, or before begin", w->path);
    if (w->i_tensor < w->tensors.n) {
        const entry *tensor = &w->tensors.data[w->i_tensor];
        w->state = FAILED;
        return lf_fail(err, LF_EINVAL, "%s: tensor '%s': found %zu bytes of data, expected %zu", w->path,
                       tensor->name, w->bytes_done, tensor->bytes);
    }
    if (fsync(w->fd) != 0) return fail_io(w, w->temp_path.data, "write to disk", err);
    const int closed = close(w->fd);
    w->fd = -1;
    if (closed != 0) return fail_io(w, w->temp_path.data, "close", err);
    if (rename(w->temp_path.data, w->path) != 0)
        return fail_io(w, w->path, "rename the finished file to this", err);
    w->has_temp_file = false;
    w->state = FINISHED;
    lf_folder_sync(w->path);
    return LF_OK;
}

/* ---- life ---- */

lf_status lf_gguf_writer_open(lf_gguf_writer **out, const char *path, lf_error *err)
{
    lf_status status = LF_OK;
    lf_gguf_writer *w = calloc(1, sizeof *w);
    if (!w) return lf_fail_memory(err, "GGUF writer", sizeof *w);
    w->fd = -1;
    w->path = lf_strndup(path, strlen(path));
    if (!w->path || !lf_bytes_printf(&w->temp_path, "%s.tmp", path)) {
        status = lf_fail_memory(err, "GGUF path", strlen(path) + sizeof ".tmp");
        goto done;
    }
    put_value(w, &(lf_gguf_value){.key = LF_GGUF_ALIGNMENT_KEY, .type = LF_GGUF_U32, .u = LF_GGUF_ALIGNMENT});
    *out = w;
    w = NULL;
done:
    lf_gguf_writer_close(w);
    return status;
}

static void free_entries(entry_list *list)
{
    for (size_t i = 0; i < list->n; i++) free(list->data[i].name);
    free(list->data);
}

void lf_gguf_writer_close(lf_gguf_writer *w)
{
    if (!w) return;
    if (w->fd >= 0) (void)close(w->fd);
    if (w->has_temp_file) (void)unlink(w->temp_path.data);
    free_entries(&w->keys);
    free_entries(&w->tensors);
    lf_bytes_free(&w->key_bytes);
    lf_bytes_free(&w->tensor_bytes);
    lf_bytes_free(&w->temp_path);
    free(w->path);
    free(w);
}
